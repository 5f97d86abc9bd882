"""Every kind of error, and every verb, has a page that is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import Command
from documents import ROOT, anchors

import perl_eval
from datasets_builders import errors as upstream
from perl_eval import errors
from perl_eval.cli import doc_pages
from perl_eval.cli.doc_pages import command_for
from perl_eval.cli.error_pages import NOT_DECIDED, PAGE_OF_KIND, PAGE_OF_VERB, page_of
from perl_eval.cli.examples import EXAMPLES

SOURCES = "".join(path.read_text("utf-8") for path in (ROOT / "perl_eval").rglob("*.py"))
GIVEN = re.findall(r'page="([^"]+)"', SOURCES)
"""Pages that are named where an error is raised."""
PAGES = sorted(
    {page for page in (*PAGE_OF_KIND.values(), *PAGE_OF_VERB.values(), NOT_DECIDED, *GIVEN) if ".md" in page}
)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_that_is_named_is_there(page: str) -> None:
    path, _, fragment = page.partition("#")
    text = (ROOT / path).read_text("utf-8")
    assert not fragment or fragment in anchors(text)


def test_every_exported_kind_of_error_and_every_verb_has_a_page() -> None:
    assert {getattr(errors, name) for name in errors.__all__} <= PAGE_OF_KIND.keys()
    assert upstream.BuilderError in PAGE_OF_KIND
    assert {path.split()[0] for path in EXAMPLES} == PAGE_OF_VERB.keys()


@pytest.mark.parametrize(
    ("error", "typed", "page"),
    [
        (errors.UserError("x"), "agree a b", "perl-eval docs labelling#labels-from-elsewhere"),
        (errors.UserError("x", page=""), "agree a b", ""),
        (errors.DataError("x", file="f"), "agree a b", "perl-eval docs formats"),
        (errors.OptionError("level", 2, "less"), "train sft --level 2", "perl-eval train sft --help"),
        (errors.OptionError("level", 2, "less"), "score --level 2", "perl-eval score --help"),
        (errors.TimedOut("x"), "judge a b", "perl-eval docs judging#providers"),
        (upstream.SourceError("x"), "build shp", "perl-eval docs data-sets"),
        (errors.UserError("x"), "", ""),
    ],
)
def test_which_page(error: Exception, typed: str, page: str) -> None:
    assert page_of(error, typed.split()) == page


def test_the_line_ends_with_the_page(command: Command) -> None:
    said = command("score nowhere --level 2 --out out").err
    assert said == "error: --level is 2.0; give a number in (0, 1), such as 0.95 (see `perl-eval score --help`)\n"
    assert command("score nowhere --out out").err == "error: no such file or folder: nowhere; check the path\n"


@pytest.mark.parametrize("page", PAGES)
def test_the_command_that_an_error_names_prints_the_part(page: str, command: Command) -> None:
    line = command_for(page)
    shown = command(line.removeprefix("perl-eval "))
    assert (shown.code, shown.err) == (None, "")
    _, _, fragment = page.partition("#")
    first = shown.out.splitlines()[0]
    assert first.startswith("#")
    assert not fragment or anchors(first) == {fragment}


def test_a_part_ends_where_the_next_begins(command: Command) -> None:
    text = (ROOT / "docs" / "judging.md").read_text("utf-8")
    shown = command("docs docs/judging.md#providers").out
    assert shown in text
    after = text[text.index(shown) + len(shown) :].lstrip()
    assert after.startswith("## ")
    assert "\n## " not in shown


def test_pages_are_listed_and_a_wrong_name_is_told(command: Command) -> None:
    listed = {line.split("  ")[0]: line for line in command("docs").out.splitlines()}
    there = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert there | {"README"} <= listed.keys()
    assert listed["judging"].endswith("  Judging")
    assert "toctree" not in command("docs index").out
    assert command("docs juging").err == "error: there is no page 'juging'; did you mean judging?\n"
    assert command("docs judging#provider").err.endswith("no such heading; did you mean providers?\n")


def test_pages_are_found_where_a_wheel_puts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a clone around the package; `scripts/wheels` runs the command on a wheel that was installed."""
    monkeypatch.setattr(perl_eval, "__file__", str(tmp_path / "lib" / "perl_eval" / "__init__.py"))
    monkeypatch.setattr(doc_pages.metadata, "distribution", lambda _: SimpleNamespace(files=[]))
    monkeypatch.setattr(doc_pages.sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(errors.UserError, match="are not installed"):
        doc_pages.names()
    home = tmp_path / "share" / "doc" / "perl-eval"
    (home / "guides").mkdir(parents=True)
    (home / "index.md").write_text("# All\n", "utf-8")
    (home / "guides" / "start.md").write_text("# Start\n", "utf-8")
    assert set(doc_pages.names()) == {"index", "guides/start"}
    assert doc_pages.title_of("guides/start") == "Start"


def test_every_page_is_packed() -> None:
    packed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["data-files"]
    kept = {
        (Path(home).relative_to("share/doc/perl-eval") / path.name).as_posix()
        for home, patterns in packed.items()
        for pattern in patterns
        for path in ROOT.glob(pattern)
    }
    made = ROOT / "docs" / "reference"  # while the site is built
    pages = [path for path in (ROOT / "docs").rglob("*.md") if made not in path.parents]
    assert {path.relative_to(ROOT / "docs").as_posix() for path in pages} <= kept
    assert {"README.md", "SECURITY.md"} <= kept
