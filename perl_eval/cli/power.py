"""The verb power."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perl_eval.cli.console import done, show
from perl_eval.cli.shared_options import FileFormat, LabelColumn, Level, Means, Out, how_read, labels_at

__all__ = ["power"]


def power(
    out: Out,
    half_width: Annotated[float | None, typer.Option(help="Wanted half-width of the win rate, such as 0.03.")] = None,
    detect: Annotated[
        float | None, typer.Option(help="Difference to detect: win rate minus loss rate, such as 0.1.")
    ] = None,
    pairs: Annotated[
        int | None, typer.Option(help="Number of pairs: how precise they are, and what they detect.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="A rate observed elsewhere, with --items: its interval.")] = None,
    items: Annotated[int | None, typer.Option(help="Items that --rate was observed on.")] = None,
    pilot: Annotated[Path | None, typer.Option(help="Judgements of a pilot run, in place of assumptions.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Human labels of some of the pilot's units; any file.")] = None,
    decided: Annotated[float | None, typer.Option(help="Share of pairs that one side wins; default 0.7.")] = None,
    difference: Annotated[float | None, typer.Option(help="Win rate minus loss rate; default 0.1.")] = None,
    correlation: Annotated[float | None, typer.Option(help="Correlation of the judge's and people's verdicts.")] = None,
    price: Annotated[float | None, typer.Option(help="Price of a call to the judge, in US dollars.")] = None,
    judged: Annotated[
        int | None, typer.Option(help="Pairs that the judge will judge, of which people label a part.")
    ] = None,
    calls_per_pair: Annotated[int, typer.Option(help="2 for both orders.")] = 2,
    target: Annotated[float, typer.Option("--power", help="Probability of finding the difference.")] = 0.8,
    level: Level = 0.95,
    format: FileFormat = "",
    column: LabelColumn = None,
    means: Means = None,
) -> None:
    """Pairs, labels and money for a wanted half-width or detectable difference."""
    from perl_eval.scoring import power as verb

    wanted = verb.Wanted(half_width, detect, pairs, rate, items)
    people = None if labels is None else labels_at(labels, out, how_read(format, column, means=means))
    taken = verb.Pilot(pilot, people, decided, difference, correlation, price)
    folder = verb.run(wanted, out, pilot=taken, options=verb.PowerOptions(level, target, calls_per_pair, judged))
    show(folder)
    done(folder)
