"""The verb decide."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from perl_eval.cli.console import done, say
from perl_eval.cli.doc_pages import command_for
from perl_eval.cli.error_pages import NOT_DECIDED
from perl_eval.cli.shared_options import FileFormat, LabelColumn, Level, Means, Out, how_read, judgements_at, labels_at
from perl_eval.errors import OptionError, PerlEvalError

__all__ = ["decide"]

_NOT_DECIDED, _BELOW = 3, 1
_SUMMARY = "GITHUB_STEP_SUMMARY"


def decide(
    sources: Annotated[list[Path], typer.Argument(help="Judgements by one judge; several runs are taken together.")],
    out: Out,
    labels: Annotated[
        Path | None, typer.Option(help="People's labels of a random part of what was judged; any file.")
    ] = None,
    proxy: Annotated[
        list[Path] | None,
        typer.Option(
            help="Another judge on the same answers or a part, or scores: narrows the interval. May be repeated."
        ),
    ] = None,
    baseline: Annotated[str, typer.Option(help="Only comparisons with this policy.")] = "",
    judge_alone: Annotated[
        bool,
        typer.Option("--judge-alone", help="Decide without labels, assuming that the judge favours neither policy."),
    ] = False,
    anytime: Annotated[
        bool,
        typer.Option(
            "--anytime",
            help="Intervals that hold at every number of labels, so that you may look and stop at any time.",
        ),
    ] = False,
    price_label: Annotated[
        float,
        typer.Option(help="Price of a label; with --price-item, the cheapest combination is given."),
    ] = 0.0,
    price_item: Annotated[float, typer.Option(help="Price of judging an item.")] = 0.0,
    fail_under: Annotated[
        float | None,
        typer.Option(
            help="Exit code 1 unless each policy is shown to be better than --baseline (or the next by name), and the "
            "difference itself, not the lower end of its interval, is so much or more."
        ),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="File for a JUnit report; it fails as the exit code does.")] = None,
    power: Annotated[
        float, typer.Option(help="Statistical power for which numbers of labels and items are given.")
    ] = 0.8,
    level: Level = 0.95,
    format: FileFormat = "",
    column: LabelColumn = None,
    means: Means = None,
) -> None:
    """Which policy is better, as people would see it; or what would settle it. Exit code 0 decided, 3 not.

    In a GitHub job the sentences also go to its summary.
    """
    from perl_eval.scoring import decide as verb
    from perl_eval.scoring.decision_words import is_at_least, junit_error, shortfall
    from perl_eval.scoring.decision_words import junit as report

    options = verb.DecideOptions(baseline, level, power, judge_alone, anytime, price_label, price_item)
    if fail_under is not None and not -1 <= fail_under <= 1:
        raise OptionError("fail_under", fail_under, "give a number in [-1, 1]")
    try:
        found = [judgements_at(source, out) for source in sources]
        people = None if labels is None else labels_at(labels, out, how_read(format, column, means=means))
        folder, said = verb.run(found, out, labels=people, proxies=proxy or (), options=options)
    except PerlEvalError as error:
        if junit is not None:
            junit.write_text(junit_error(str(error)), "utf-8")
        raise
    text = (folder / verb.DECISION).read_text("utf-8")
    lines = [line.removeprefix("- ") for line in text.splitlines() if line]
    say("\n".join(lines), lines=True)
    if junit is not None:
        junit.write_text(report(said, options, least=fail_under), "utf-8")
    if summary := os.environ.get(_SUMMARY):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write("".join(f"- {line}\n" for line in lines))
    done(folder)
    if fail_under is not None and (below := [part for part in said if not is_at_least(part, fail_under)]):
        for part in below:
            say(f"failed: {shortfall(part, fail_under)}", err=True)
        raise typer.Exit(_BELOW)
    if any(part.verdict == "not decided" for part in said):
        say(f"not decided: what labels would do: `{command_for(NOT_DECIDED)}`", err=True)
        raise typer.Exit(_NOT_DECIDED)
