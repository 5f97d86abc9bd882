"""Verbs that turn records into figures: score, agree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perl_eval.cli.console import done, show
from perl_eval.cli.shared_options import (
    Address,
    Draws,
    Engine,
    Level,
    Out,
    Seed,
    Workers,
    one_of,
    resampling,
    spread_of,
)
from perl_eval.scoring.dispatch import kind_of_source, only, refuse, score_table, score_tasks


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
            help="Rule for actions: smallest_box, any_box, uis1, os_atlas, android_world, exact. May be repeated."
        ),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Human labels that scores are held against.")] = None,
    scale: Annotated[str, typer.Option(help="Scores are logit or probability of a good answer.")] = "logit",
    column: Annotated[
        list[str] | None,
        typer.Option(help="Where a table keeps what: outcome=NAME, p_a=; score=, label=, chosen=, rejected=; group=."),
    ] = None,
    intervals: Annotated[str, typer.Option(help="analytic, or bootstrap over groups.")] = "analytic",
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
    from perl_eval.records import Completion, Score

    how = resampling(level, draws, seed)
    spread = spread_of(engine, address, workers)
    one_of("--scale", scale, ("logit", "probability"))
    one_of("--intervals", intervals, ("analytic", "bootstrap"))
    one_of("--length-control", length_control, ("ratio", "alpaca"))
    given = {"data": data, "against": against, "judged": judged, "rule": rule, "labels": labels, "column": column}
    kind = None if column else kind_of_source(sources)
    if kind is Completion and data is not None:
        refuse(given, "completions with --data", ("labels", "column"))
        result = score_tasks(only(sources), data, out, against=against, judged=judged, rules=rule, how=how)
    elif kind is Completion:
        refuse(given, "completions without --data", ("against", "judged", "rule", "labels", "column"))
        from perl_eval.scoring.diversity import run_diversity
        from perl_eval.scoring.score import ScoreOptions

        result = run_diversity(only(sources), out, options=ScoreOptions(how))
    elif kind in (Score, None):
        from perl_eval.scoring import rewards

        quality = rewards.QualityOptions("probability" if scale == "probability" else "logit", how)
        refuse(given, "scores", ("against", "judged", "rule"))
        if kind is Score:
            refuse(given, "scores of a run folder", ("column",))
            result = rewards.run(only(sources), out, labels=labels, data=data, options=quality)
        else:
            refuse(given, "a table", ("data", "labels"))
            result = score_table(only(sources), out, column, how, quality, intervals)
    else:
        refuse(given, "judgements", tuple(given))
        from perl_eval.scoring import score as verb

        options = verb.ScoreOptions(
            how,
            intervals="bootstrap" if intervals == "bootstrap" else "analytic",
            length_control="alpaca" if length_control == "alpaca" else "ratio",
            gamed=gamed,
        )
        result = verb.run(sources, out, options=options, spread=spread)
    show(result)
    done(result)
