"""The pages of the documentation as they come with the package, so that what an error names can be read offline."""

from __future__ import annotations

import difflib
import re
import sysconfig
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import perl_eval
from perl_eval.errors import UserError

__all__ = ["command_for", "names", "page_text", "title_of"]

_HOME = Path("share") / "doc" / "perl-eval"
"""Where an installation keeps the pages, under its root; `pyproject.toml` says so too."""
_PROJECT = ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG")
_OF_THE_SITE = re.compile(r"^```\{toctree\}\n.*?^```\n\n?", re.M | re.S)
_FENCED = re.compile(r"^```.*?^```$", re.M | re.S)
_HEADING = re.compile(r"^(#+) (.*)$", re.M)


def command_for(page: str) -> str:
    """Return the command that prints a page, as errors name it.

    Args:
        page: Its path in the repository, with the heading after ``#`` if one is meant: ``docs/judging.md#providers``.
    """
    return f"perl-eval docs {page.removeprefix('docs/').replace('.md', '', 1)}"


def names() -> Mapping[str, Path]:
    """Return where the pages lie, by their names such as ``judging`` or ``guides/start``.

    Raises:
        UserError: They are not there.
    """
    clone = Path(perl_eval.__file__).resolve().parent.parent
    if (clone / "docs" / "index.md").is_file() and (clone / "pyproject.toml").is_file():
        found = {_name(path, clone / "docs"): path for path in sorted((clone / "docs").rglob("*.md"))}
        return found | {name: clone / f"{name}.md" for name in _PROJECT if (clone / f"{name}.md").is_file()}
    for home in _installed():
        if found := {_name(path, home): path for path in sorted(home.rglob("*.md"))}:
            return found
    raise UserError("the pages of the documentation are not installed", "install the package again", page="")


def _installed() -> list[Path]:
    """Return where the pages may lie: as the record of the installation says, then the usual places."""
    try:
        files = metadata.distribution("perl-eval").files or []
    except metadata.PackageNotFoundError:
        files = []
    recorded = [Path(str(one.locate())) for one in files if one.parts[-4:] == (*_HOME.parts, "index.md")]
    roots = (sysconfig.get_path("data"), Path(perl_eval.__file__).resolve().parent.parent)
    return [path.resolve().parent for path in recorded if path.is_file()] + [Path(root) / _HOME for root in roots]


def _name(path: Path, home: Path) -> str:
    return path.relative_to(home).with_suffix("").as_posix()


def page_text(asked: str) -> str:
    """Return a page, or a part of it, without what only the site's generator reads.

    Args:
        asked: Its name or path, with the heading after ``#`` for that part alone: ``judging#providers``.

    Raises:
        UserError: There is no such page, or no such heading on it.
    """
    path, _, fragment = asked.partition("#")
    name, pages = path.removeprefix("docs/").removesuffix(".md"), names()
    if name not in pages:
        raise UserError(f"there is no page {path!r}", _near(name, list(pages)), page="")
    text = _OF_THE_SITE.sub("", pages[name].read_text("utf-8"))
    return _part(text, fragment, asked) if fragment else text


def title_of(name: str) -> str:
    """Return a page's first heading."""
    found = _HEADING.search(names()[name].read_text("utf-8"))
    return found[2] if found else ""


def _part(text: str, fragment: str, asked: str) -> str:
    """Return what stands under a heading, down to the next one that is as high."""
    covered = _FENCED.sub(lambda block: "x" * len(block[0]), text)  # a comment of a shell looks like a heading
    headings = [(one.start(), len(one[1]), _anchor(one[2])) for one in _HEADING.finditer(covered)]
    for place, (start, level, anchor) in enumerate(headings):
        if anchor == fragment:
            after = (other for other, depth, _ in headings[place + 1 :] if depth <= level)
            return text[start : next(after, len(text))].rstrip() + "\n"
    raise UserError(f"{asked}: no such heading", _near(fragment, [anchor for *_, anchor in headings]), page="")


def _anchor(heading: str) -> str:
    """Return how a heading is addressed, as GitHub derives it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
