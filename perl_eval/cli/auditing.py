"""Verbs about judges and labels: audit, power, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from perl_eval.cli.options import Draws, Epsilon, Level, Out, Seed, columns_of, one_of
from perl_eval.cli.shown import done, show
from perl_eval.errors import UserError

_ALARM = 1
"""Exit code of an alarm."""


def audit(
    judgements: Annotated[Path, typer.Argument(help="Judgements of pairs; with --anchors, those made now.")],
    labels: Annotated[Path | None, typer.Argument(help="Human labels of 50 to 200 of the pairs.")] = None,
    *,
    out: Out,
    again: Annotated[Path | None, typer.Option(help="The same pairs asked anew: repeatability.")] = None,
    attack: Annotated[Path | None, typer.Option(help="Output of `attack` on the judge.")] = None,
    family: Annotated[
        list[str] | None, typer.Option(help="Name of the judge's own model family. May be repeated.")
    ] = None,
    anchors: Annotated[
        Path | None, typer.Option(help="An earlier audit: ring (exit code 1) if the judge has drifted since.")
    ] = None,
    epsilon: Epsilon = 0.15,
    level: Level = 0.95,
    draws: Draws = 2000,
    seed: Seed = 0,
) -> None:
    """A judge's passport, on one page; or, with --anchors, whether it still judges as it did."""
    from perl_eval import audit as verb
    from perl_eval import runs
    from perl_eval.records import Estimate

    how = verb.AuditOptions(level=level, draws=draws, seed=seed, epsilon=epsilon, family=tuple(family or ()))
    if anchors is not None:
        for option, value in {"LABELS": labels, "--again": again, "--attack": attack, "--family": family}.items():
            if value:
                raise UserError(f"{option} is not for --anchors", "leave it out")
        folder = verb.drift(anchors, judgements, out, options=how)
        show(folder)
        done(folder)
        alarm = [one for one in runs.read(folder, Estimate) if one.name == "drift alarm" and one.value == 1]
        if alarm:
            typer.echo(f"alarm: {', '.join(one.subject for one in alarm)} no longer judges as it did", err=True)
            raise typer.Exit(_ALARM)
        return
    if labels is None:
        raise UserError("an audit needs human labels", "give them after the judgements, or --anchors")
    folder = verb.run(judgements, labels, out, sources=verb.Sources(again, attack), options=how)
    typer.echo((folder / verb.PAGE).read_text("utf-8"))
    done(folder)


def power(
    out: Out,
    half_width: Annotated[float | None, typer.Option(help="Wanted half-width of the win rate, such as 0.03.")] = None,
    detect: Annotated[float | None, typer.Option(help="Difference to find: wins less losses, such as 0.1.")] = None,
    pairs: Annotated[int | None, typer.Option(help="What so many pairs tell.")] = None,
    rate: Annotated[float | None, typer.Option(help="A rate observed elsewhere, with --items: its interval.")] = None,
    items: Annotated[int | None, typer.Option(help="Items that --rate was observed on.")] = None,
    pilot: Annotated[Path | None, typer.Option(help="Judgements of a pilot run, in place of assumptions.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Human labels of some of the pilot's units.")] = None,
    decided: Annotated[float | None, typer.Option(help="Share of pairs that one side wins; default 0.7.")] = None,
    difference: Annotated[float | None, typer.Option(help="Win rate less loss rate; default 0.1.")] = None,
    correlation: Annotated[float | None, typer.Option(help="Of the judge's and people's scores.")] = None,
    price: Annotated[float | None, typer.Option(help="Of a call to the judge, USD.")] = None,
    judged: Annotated[
        int | None, typer.Option(help="Pairs the judge will judge, of which people label a part.")
    ] = None,
    calls_per_pair: Annotated[int, typer.Option(help="2 for both orders.")] = 2,
    target: Annotated[float, typer.Option("--power", help="Chance to find the difference.")] = 0.8,
    level: Level = 0.95,
) -> None:
    """Pairs, labels and money for a wanted half-width or detectable difference."""
    from perl_eval import power as verb

    wanted = verb.Wanted(half_width, detect, pairs, rate, items)
    taken = verb.Pilot(pilot, labels, decided, difference, correlation, price)
    folder = verb.run(wanted, out, pilot=taken, options=verb.PowerOptions(level, target, calls_per_pair, judged))
    show(folder)
    done(folder)


def import_(
    source: Annotated[Path, typer.Argument(help="The file.")],
    out: Out,
    form: Annotated[
        str,
        typer.Option(
            "--form",
            help="Labels: table, label-studio, argilla. Judgements: outcomes (a table), alpaca-eval, mt-bench.",
        ),
    ] = "table",
    column: Annotated[
        list[str] | None,
        typer.Option(help="Where the file keeps what: a=NAME, b=, unit=, label=, annotator=, group=. May be repeated."),
    ] = None,
) -> None:
    """Label files and judgement files of other tools to labels or judgements."""
    from perl_eval import foreign

    one_of("--form", form, foreign.FORMS)
    chosen: Any = form
    done(foreign.run(source, out, form=chosen, columns=foreign.Columns(**columns_of(column, foreign.Columns()))))
