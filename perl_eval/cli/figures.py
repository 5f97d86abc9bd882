"""Verbs that turn records into figures: score, agree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from perl_eval.cli.options import (
    Address,
    Draws,
    Engine,
    Epsilon,
    Level,
    Out,
    Seed,
    Workers,
    columns_of,
    one_of,
    resampling,
    spread_of,
)
from perl_eval.cli.shown import done, show
from perl_eval.errors import UserError

_TABLES = (".csv", ".jsonl", ".ndjson")


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
    kind = None if column else _kind(sources)
    if kind is Completion and data is not None:
        _refuse(given, "completions with --data", ("labels", "column"))
        result = _score_tasks(_only(sources), data, out, against=against, judged=judged, rules=rule, how=how)
    elif kind is Completion:
        _refuse(given, "completions without --data", ("against", "judged", "rule", "labels", "column"))
        from perl_eval import score as verb

        result = verb.run_diversity(_only(sources), out, options=verb.ScoreOptions(level=level))
    elif kind in (Score, None):
        from perl_eval import rewards

        quality = rewards.QualityOptions("probability" if scale == "probability" else "logit", how)
        _refuse(given, "scores", ("against", "judged", "rule"))
        if kind is Score:
            _refuse(given, "scores of a run folder", ("column",))
            result = rewards.run(_only(sources), out, labels=labels, data=data, options=quality)
        else:
            _refuse(given, "a table", ("data", "labels"))
            result = _score_table(_only(sources), out, column, how, quality, intervals)
    else:
        _refuse(given, "judgements", tuple(given))
        from perl_eval import score as verb

        options = verb.ScoreOptions(
            level=level,
            intervals="bootstrap" if intervals == "bootstrap" else "analytic",
            draws=draws,
            seed=seed,
            length_control="alpaca" if length_control == "alpaca" else "ratio",
            gamed=gamed,
        )
        result = verb.run(sources, out, options=options, spread=spread)
    show(result)
    done(result)


def _kind(sources: list[Path]) -> type | None:
    """Return what kind of record the first source holds; None for a table of another make."""
    from perl_eval import runs
    from perl_eval.records import Completion, Judgement, Score

    first = Path(sources[0])
    if first.suffix in _TABLES:
        return None
    for kind in (Judgement, Completion, Score):
        if first.name == runs.FILES[kind] or (first / runs.FILES[kind]).is_file():
            return kind
    if first.suffix == ".parquet" and first.is_file():
        return _kind_of_parquet(first)
    return Judgement


def _kind_of_parquet(file: Path) -> type | None:
    """Return whose columns a parquet file of another name has; a file that is no table is left to its reader."""
    from perl_eval import sheets, tables
    from perl_eval.errors import DataError
    from perl_eval.records import Completion, Judgement, Score

    try:
        present = set(sheets.columns(file))
    except DataError:
        return Judgement
    fitting = [kind for kind in (Judgement, Completion, Score) if present >= set(tables.schema_of(kind).names)]
    if fitting:
        return fitting[0]
    return None if present & {"score", "chosen", "outcome"} else Judgement


def _score_tasks(completions: Path, data: Path, out: Path, **given: Any) -> Path:
    from perl_eval import tasks

    options = tasks.TaskOptions(tuple(given["rules"] or ("smallest_box",)), given["how"])
    return tasks.run(completions, data, out, beside=tasks.Beside(given["against"], given["judged"]), options=options)


def _score_table(source: Path, out: Path, column: list[str] | None, how: Any, quality: Any, intervals: str) -> Path:
    """Score a table of outcomes, where it has such a column or one is named, else one of scores."""
    from perl_eval import rewards, sheets
    from perl_eval import score as verb

    named = {entry.partition("=")[0] for entry in column or ()}
    if "outcome" not in named and (named or "outcome" not in sheets.columns(source)):
        where = rewards.Columns(**columns_of(column, rewards.Columns()))
        return rewards.run_table(source, out, columns=where, options=quality)
    by: Any = intervals
    options = verb.ScoreOptions(level=how.level, intervals=by, draws=how.draws, seed=how.seed)
    return verb.run_table(source, out, columns=verb.Columns(**columns_of(column, verb.Columns())), options=options)


def _only(sources: list[Path]) -> Path:
    if len(sources) > 1:
        raise UserError(f"{len(sources)} sources are given", "several are for judgements only; give one")
    return sources[0]


def _refuse(given: dict[str, Any], what: str, options: tuple[str, ...]) -> None:
    for option in options:
        if given[option]:
            raise UserError(f"--{option} is not for {what}", "leave the option out")


def agree(
    judgements: Annotated[Path, typer.Argument(help="Judgements; or a table of ratings, alone.")],
    labels: Annotated[
        Path | None,
        typer.Argument(help="Human labels of the same units; or a stronger judge's judgements of a random part."),
    ] = None,
    *,
    out: Out,
    epsilon: Epsilon = 0.15,
    scale: Annotated[str, typer.Option(help="Of ratings in a table: nominal, ordinal or interval.")] = "nominal",
    column: Annotated[
        list[str] | None, typer.Option(help="Where a table keeps what: unit=NAME, rater=, label=, group=.")
    ] = None,
    level: Level = 0.95,
    draws: Draws = 2000,
    seed: Seed = 0,
) -> None:
    """How far people agree, and a judge with them; rates corrected by their labels of a part.

    With a stronger judge's judgements in place of labels: the cheap judge's rates corrected by the strong one's. With a
    table of ratings alone: agreement among its raters.
    """
    from perl_eval import agree as verb
    from perl_eval import runs
    from perl_eval.records import Judgement

    one_of("--scale", scale, ("nominal", "ordinal", "interval"))
    how: Any = verb.AgreeOptions(level=level, draws=draws, seed=seed, epsilon=epsilon)
    if labels is None:
        where = verb.Columns(**columns_of(column, verb.Columns()))
        chosen: Any = scale
        result = verb.run_table(judgements, out, columns=where, scale=chosen, options=how)
    else:
        if column or scale != "nominal":
            raise UserError("--column and --scale are for a table of ratings", "leave them out")
        is_cascade = labels.name == runs.FILES[Judgement] or (labels / runs.FILES[Judgement]).is_file()
        run = verb.run_cascade if is_cascade else verb.run
        result = run(judgements, labels, out, options=how)
    show(result)
    done(result)
