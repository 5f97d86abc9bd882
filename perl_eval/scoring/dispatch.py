"""What `score` does with what it is given: by kind of record or table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perl_eval.errors import UserError
from perl_eval.sources.user_table import columns_of

__all__ = ["kind_of_source", "only", "refuse", "score_table", "score_tasks"]

_TABLES = (".csv", ".jsonl", ".ndjson")


def kind_of_source(sources: list[Path]) -> type | None:
    """Return what kind of record the first source holds; None for a table of another make."""
    from perl_eval.records import Completion, Judgement, Score
    from perl_eval.storage import run_folder

    first = Path(sources[0])
    if first.suffix in _TABLES:
        return None
    for kind in (Judgement, Completion, Score):
        if first.name == run_folder.FILES[kind] or (first / run_folder.FILES[kind]).is_file():
            return kind
    if first.suffix == ".parquet" and first.is_file():
        return _kind_of_parquet(first)
    return Judgement


def _kind_of_parquet(file: Path) -> type | None:
    """Return whose columns a parquet file of another name has; a file that is no table is left to its reader."""
    from perl_eval.errors import DataError
    from perl_eval.records import Completion, Judgement, Score
    from perl_eval.sources import user_table
    from perl_eval.storage import parquet

    try:
        present = set(user_table.columns(file))
    except DataError:
        return Judgement
    fitting = [kind for kind in (Judgement, Completion, Score) if present >= set(parquet.schema_of(kind).names)]
    if fitting:
        return fitting[0]
    return None if present & {"score", "chosen", "outcome"} else Judgement


def score_tasks(completions: Path, data: Path, out: Path, **given: Any) -> Path:
    """Score completions of task rows by the rules asked for."""
    from perl_eval.scoring import tasks

    options = tasks.TaskOptions(tuple(given["rules"] or ("smallest_box",)), given["how"])
    return tasks.run(completions, data, out, beside=tasks.Beside(given["against"], given["judged"]), options=options)


def score_table(source: Path, out: Path, column: list[str] | None, how: Any, quality: Any, intervals: str) -> Path:
    """Score a table of outcomes, where it has such a column or one is named, else one of scores."""
    from perl_eval.scoring import outcome_table, rewards
    from perl_eval.scoring.score import ScoreOptions
    from perl_eval.sources import user_table

    named = {entry.partition("=")[0] for entry in column or ()}
    if "outcome" not in named and (named or "outcome" not in user_table.columns(source)):
        where = rewards.ScoreColumns(**columns_of(column, rewards.ScoreColumns()))
        return rewards.run_table(source, out, columns=where, options=quality)
    by: Any = intervals
    options = ScoreOptions(how, intervals=by)
    return outcome_table.run_table(
        source,
        out,
        columns=outcome_table.OutcomeColumns(**columns_of(column, outcome_table.OutcomeColumns())),
        options=options,
    )


def only(sources: list[Path]) -> Path:
    """Return the one source there is.

    Raises:
        UserError: There are several.
    """
    if len(sources) > 1:
        raise UserError(f"{len(sources)} sources are given", "several are for judgements only; give one")
    return sources[0]


def refuse(given: dict[str, Any], what: str, options: tuple[str, ...]) -> None:
    """Refuse options that mean nothing for what is scored.

    Raises:
        UserError: One of them is given.
    """
    for option in options:
        if given[option]:
            raise UserError(f"--{option} is not for {what}", "leave the option out")
