"""Every kind of error, and every verb, has a page that is there."""

from __future__ import annotations

import re

import pytest
from command_line import Command
from documents import ROOT, anchors

from datasets_builders import errors as upstream
from perl_eval import errors
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
        (errors.UserError("x"), "agree a b", "docs/labelling.md#labels-from-elsewhere"),
        (errors.UserError("x", page=""), "agree a b", ""),
        (errors.DataError("x", file="f"), "agree a b", "docs/formats.md"),
        (errors.OptionError("level", 2, "less"), "train sft --level 2", "perl-eval train sft --help"),
        (errors.OptionError("level", 2, "less"), "score --level 2", "perl-eval score --help"),
        (errors.TimedOut("x"), "judge a b", "docs/judging.md#providers"),
        (upstream.SourceError("x"), "build shp", "docs/data-sets.md"),
        (errors.UserError("x"), "", ""),
    ],
)
def test_which_page(error: Exception, typed: str, page: str) -> None:
    assert page_of(error, typed.split()) == page


def test_the_line_ends_with_the_page(command: Command) -> None:
    said = command("score nowhere --level 2 --out out").err
    assert said == "error: --level is 2.0; give a number in (0, 1), such as 0.95 (see perl-eval score --help)\n"
    assert command("score nowhere --out out").err == "error: no such file or folder: nowhere; check the path\n"
