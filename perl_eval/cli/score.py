"""The verb score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from perl_eval.checks import existing
from perl_eval.cli.console import done, show
from perl_eval.cli.shared_options import (
    Address,
    Draws,
    Engine,
    Level,
    Out,
    Seed,
    Workers,
    labels_at,
    one_of,
    resampling,
    spread_of,
)


def score(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Judgements (several runs are ranked), completions, scores, or a table of scores."),
    ],
    out: Out,
    data: Annotated[
        Path | None, typer.Option(help="Rows that completions answer, or that scores are of: what is right.")
    ] = None,
    against: Annotated[Path | None, typer.Option(help="Completions of the SFT policy: paired differences.")] = None,
    judged: Annotated[Path | None, typer.Option(help="Yes-or-no judgements: agreement of judge and rule.")] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            help="Rule for actions: smallest_box, uground, any_box, uis1, infigui, os_atlas, aitw, diagonal, "
            "android_world, exact. May be repeated."
        ),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Human labels that scores are held against.")] = None,
    scale: Annotated[str, typer.Option(help="Scores are logit or probability of a good answer.")] = "logit",
    ties: Annotated[str, typer.Option(help="Equal scores of a pair: half, or wrong as in RewardBench.")] = "half",
    column: Annotated[
        list[str] | None,
        typer.Option(help="Where a table keeps what: outcome=NAME, p_a=; score=, label=, chosen=, rejected=; group=."),
    ] = None,
    intervals: Annotated[str, typer.Option(help="analytic, or bootstrap over groups.")] = "analytic",
    style: Annotated[
        bool, typer.Option("--style", help="Rank policies at equal length, lists, headings and bold too.")
    ] = False,
    length_control: Annotated[str, typer.Option(help="ratio, or alpaca: AlpacaEval's figure too (slow).")] = "ratio",
    gamed: Annotated[Path | None, typer.Option(help="AlpacaEval's df_gamed.csv, for its own data.")] = None,
    level: Level = 0.95,
    draws: Draws = 2000,
    engine: Engine = "here",
    address: Address = "",
    workers: Workers = 2,
    seed: Seed = 0,
) -> None:
    """Judgements, completions or scores to figures with intervals.

    Judgements: win rates, position bias, length control, or rates of yes and no; runs against one baseline are compared
    item by item, more than two policies ranked. Completions: diversity; with --data VQA or action accuracy. Scores of a
    reward model: accuracy, AUC, calibration, with --data, --labels, or from a table. A table of outcomes: win rates.
    """
    how, spread = resampling(level, draws, seed), spread_of(engine, address, workers)
    one_of("--scale", scale, ("logit", "probability"))
    one_of("--ties", ties, ("half", "wrong"))
    one_of("--intervals", intervals, ("analytic", "bootstrap"))
    one_of("--length-control", length_control, ("ratio", "alpaca"))
    for source in sources:
        existing(source)
    from perl_eval.scoring import dispatch as verb

    chosen: Any = {
        "intervals": intervals,
        "style": style,
        "length_control": length_control,
        "scale": scale,
        "ties": ties,
    }
    options = verb.ScoringOptions(how, gamed=gamed, rule=tuple(rule or ()), column=tuple(column or ()), **chosen)
    people = None if labels is None else labels_at(labels, out)
    beside = verb.ScoreBeside(data, against, judged, people)
    result = verb.run(sources, out, beside=beside, options=options, spread=spread)
    show(result)
    done(result)
