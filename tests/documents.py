"""The pages that users read: their blocks, headings, links and example commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md")))
GUIDES = tuple(sorted((ROOT / "docs" / "guides").glob("*.md")))
_FENCED = re.compile(r"^```.*?^```$", re.M | re.S)
_CODE = re.compile(r"`[^`\n]*`")


def blocks(page: Path, language: str) -> list[str]:
    """Return the blocks of a page that are in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)


def commands() -> list[list[str]]:
    """Return every perl-eval command of the pages and the examples, words split as a shell would."""
    shell = [block for page in (*PAGES, *GUIDES) for block in blocks(page, "bash")]
    shell += [path.read_text("utf-8") for path in sorted((ROOT / "examples").glob("*.sh"))]
    lines = "\n".join(shell).replace("\\\n", " ").splitlines()
    found = [re.search(r"(?:^|[/;] ?(?:bin/)?|do )perl-eval (.*)$", line.strip()) for line in lines]
    return [shlex.split(match[1], comments=True) for match in found if match]


def anchors(text: str) -> set[str]:
    """Return the fragments by which a page's headings are addressed, as GitHub derives them."""
    headings = re.findall(r"^#+ (.*)$", _FENCED.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def prose(page: Path) -> str:
    """Return a page without its blocks and spans of code."""
    return _CODE.sub("", _FENCED.sub("", page.read_text("utf-8")))


def broken_links(page: Path) -> list[str]:
    """Return the links of a page to files that are not there, or to headings that are not in them."""
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:|(?:\.\./)?reference/", target):  # elsewhere, or made with the site, which checks them
            continue
        file, _, fragment = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if not path.exists():
            wrong.append(f"{page.name}: no such file: {target}")
        elif fragment and fragment not in anchors(path.read_text("utf-8")):
            wrong.append(f"{page.name}: no such heading: {target}")
    return wrong


def changes() -> dict[str, tuple[list[str], list[str]]]:
    """Return CONTRIBUTING's table: by what is to be added or changed, the paths to touch and those of its tests."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    table = re.search(r"^\| to add or change \| touch \| its tests \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.M)
    assert table is not None, "CONTRIBUTING.md has no table of changes"
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table[1].splitlines()]
    return {what: (_paths(touch), _paths(tests)) for what, touch, tests, *_ in rows}


def named_paths() -> list[str]:
    """Return every path of this repository that CONTRIBUTING names, wherever in it."""
    return [path for path in _paths((ROOT / "CONTRIBUTING.md").read_text("utf-8")) if "/" in path]


def _paths(text: str) -> list[str]:
    return re.findall(r"`([\w./]+)`", text)
