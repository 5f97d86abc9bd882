"""The verb `score` on a table of outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perl_eval.errors import DataError
from perl_eval.metrics.judgement_estimates import ScoreOptions
from perl_eval.outcomes import outcomes_of
from perl_eval.records import About, Estimate
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
        judge: Who judged, where the table has it; judges are not pooled, nor are the policies.
        policy_a: Contestant a, where the table has it.
        policy_b: Contestant b, where the table has it.
    """

    outcome: str = "outcome"
    group: str = "group"
    p_a: str = "p_a"
    judge: str = "judge"
    policy_a: str = "policy_a"
    policy_b: str = "policy_b"


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
    named, usual = (where.judge, where.policy_a, where.policy_b), asdict(OutcomeColumns())
    typed = [column for field, column in asdict(where).items() if column != usual[field]]
    sheet = user_table.read(source, (where.outcome, *typed), optional=(where.group, where.p_a, *named))
    outcomes, single = _outcomes(sheet, where.outcome)
    chances = _chances(sheet, where.p_a)
    groups = sheet.codes(where.group) if sheet.has(where.group) else None
    subjects = list(zip(*(_texts(sheet, name) for name in named), strict=True))
    found: list[Estimate] = []
    for subject in sorted(set(subjects)) or [("", "", "")]:
        places = np.flatnonzero([one == subject for one in subjects])
        own = [outcomes[place] for place in places]
        of_own = None if chances is None else [chances[place] for place in places]
        rates = _rates(own, None if groups is None else groups[places], of_own, how, single=single)
        judge, policy, against = subject
        found += about(rates, About(judge=judge, policy=policy, against="" if single else against))
    return found


def _outcomes(sheet: user_table.Sheet, column: str) -> tuple[list[str], bool]:
    """Return the outcomes, and whether they are of single answers."""
    outcomes = sheet.full_texts(column)
    single = bool({"yes", "no"} & set(outcomes))
    known = set(outcomes_of("yes_no" if single else "pairwise"))
    strangers = set(outcomes) - known
    if strangers:
        row = next(place for place, outcome in enumerate(outcomes) if outcome in strangers)
        what = f"{outcomes[row]!r} is none of {', '.join(sorted(known))}"
        raise DataError(what, file=sheet.name, row=row, field=column)
    return outcomes, single


def _chances(sheet: user_table.Sheet, column: str) -> list[float | None] | None:
    """Return the probabilities, where the table has them."""
    chances = sheet.numbers(column) if sheet.has(column) else None
    for row, chance in enumerate(chances or ()):
        if chance is not None and not 0 <= chance <= 1:
            raise DataError(f"{chance} is not a probability", file=sheet.name, row=row, field=column)
    return chances


def _texts(sheet: user_table.Sheet, column: str) -> list[str]:
    """Return a column as texts, empty where the table has none."""
    return [cell or "" for cell in sheet.texts(column)] if sheet.has(column) else [""] * len(sheet)


def _rates(
    outcomes: Sequence[str],
    groups: NDArray[np.intp] | None,
    chances: Sequence[float | None] | None,
    how: ScoreOptions,
    *,
    single: bool,
) -> list[Estimate]:
    boot = how.resampling if how.intervals == "bootstrap" else None
    level = how.resampling.level
    if single:
        return yes_rates(outcomes, clusters=groups, p_yes=chances, level=level, resampling=boot)
    return win_rates(outcomes, clusters=groups, p_a=chances, level=level, resampling=boot)
