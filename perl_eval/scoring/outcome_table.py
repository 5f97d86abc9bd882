"""The verb `score` on a table of outcomes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perl_eval.errors import DataError
from perl_eval.metrics.judgement_estimates import ScoreOptions
from perl_eval.outcomes import outcomes_of
from perl_eval.records import Estimate
from perl_eval.sources import user_table
from perl_eval.stats.intervals import about
from perl_eval.stats.winrate import win_rates, yes_rates
from perl_eval.storage import run_folder

__all__ = ["OutcomeColumns", "of_table", "run_table"]


@dataclass(frozen=True, slots=True)
class OutcomeColumns:
    """Where a table of judged units, one a row, keeps what.

    Attributes:
        outcome: ``win``, ``loss``, ``split``, ``tie``, ``mixed`` or ``unjudged``; or ``yes``, ``no`` or ``unjudged``.
        group: What shares a source; rows are independent where the table has none.
        p_a: Probability that a is preferred, or of yes, where the table has it.
    """

    outcome: str = "outcome"
    group: str = "group"
    p_a: str = "p_a"


def run_table(
    source: Path, out: Path, *, columns: OutcomeColumns | None = None, options: ScoreOptions | None = None
) -> Path:
    """Estimate win rates, or rates of yes and no, from a table of outcomes of one comparison.

    Args:
        source: A parquet, CSV or JSON lines file.
        out: Output folder.
        columns: Where the table keeps what.
        options: How figures are estimated.

    Returns:
        The output folder, with ``estimates.parquet``.

    Raises:
        UserError: There is no such file.
        DataError: A column is missing, or a cell is no outcome or probability.
    """
    how, where = options or ScoreOptions(), columns or OutcomeColumns()
    arguments = {**run_folder.flat(how), "columns": asdict(where)}
    started = run_folder.start(
        out, verb="score table", arguments=arguments, seed=how.resampling.seed, inputs={"source": source}
    )
    with started as progress:
        if progress.done:
            return progress.folder
        progress.write(about(of_table(source, where, how), simulated=progress.simulated), Estimate)
    return progress.folder


def of_table(source: Any, columns: OutcomeColumns | None = None, options: ScoreOptions | None = None) -> list[Estimate]:
    """Estimate what `run_table` writes; a million rows take seconds.

    Args:
        source: A parquet, CSV or JSON lines file, or a `datasets.Dataset`.
        columns: Where the table keeps what.
        options: How figures are estimated.
    """
    how, where = options or ScoreOptions(), columns or OutcomeColumns()
    sheet = user_table.read(source, (where.outcome,), optional=(where.group, where.p_a))
    outcomes = sheet.full_texts(where.outcome)
    single = {"yes", "no"} & set(outcomes)
    known = set(outcomes_of("yes_no" if single else "pairwise"))
    strangers = set(outcomes) - known
    if strangers:
        row = next(place for place, outcome in enumerate(outcomes) if outcome in strangers)
        what = f"{outcomes[row]!r} is none of {', '.join(sorted(known))}"
        raise DataError(what, file=sheet.name, row=row, field=where.outcome)
    chances = sheet.numbers(where.p_a) if sheet.has(where.p_a) else None
    for row, chance in enumerate(chances or ()):
        if chance is not None and not 0 <= chance <= 1:
            raise DataError(f"{chance} is no probability", file=sheet.name, row=row, field=where.p_a)
    groups = sheet.codes(where.group) if sheet.has(where.group) else None
    boot = how.resampling if how.intervals == "bootstrap" else None
    if single:
        return yes_rates(outcomes, clusters=groups, p_yes=chances, level=how.resampling.level, resampling=boot)
    return win_rates(outcomes, clusters=groups, p_a=chances, level=how.resampling.level, resampling=boot)
