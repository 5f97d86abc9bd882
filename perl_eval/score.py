"""The verb `score`: judgements, scores and completions to figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perl_eval import runs, sheets
from perl_eval.errors import DataError, UserError
from perl_eval.records import Completion, Estimate, Judgement
from perl_eval.spread import Spread, here
from perl_eval.stats.diversity import diversity
from perl_eval.stats.intervals import about
from perl_eval.stats.judged import ScoreOptions, estimate_judgements, kind_of
from perl_eval.stats.winrate import win_rates, yes_rates

__all__ = ["Columns", "ScoreOptions", "estimate_judgements", "of_table", "run", "run_diversity", "run_table"]


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a table of judged units, one a row, keeps what.

    Attributes:
        outcome: ``win``, ``loss``, ``split``, ``tie``, ``mixed`` or ``unjudged``; or ``yes``, ``no`` or ``unjudged``.
        group: What shares a source; rows are independent where the table has none.
        p_a: Probability that a is preferred, or of yes, where the table has it.
    """

    outcome: str = "outcome"
    group: str = "group"
    p_a: str = "p_a"


def run(
    judgements: Path | Sequence[Path], out: Path, *, options: ScoreOptions | None = None, spread: Spread = here
) -> Path:
    """Estimate win rates and position bias, or rates of yes and no, from judgements.

    Judgements are taken apart by judge, policies, data set and prompt; none are pooled. Policies that met the same
    baseline on the same items, in one run or several, are compared item by item, and more than two policies are ranked.

    Args:
        judgements: A file or run folder of Judgement records, or several.
        out: Output folder.
        options: How figures are estimated.
        spread: Where each thing compared is estimated; the figures are the same wherever.

    Returns:
        The output folder, with ``estimates.parquet``.

    Raises:
        UserError: There are no judgements.
        DataError: A judgement occurs twice, or has a probability that is none.
    """
    how = options or ScoreOptions()
    sources = [judgements] if isinstance(judgements, str | Path) else list(judgements)
    read = [(Path(source), runs.read(Path(source), Judgement)) for source in sources]
    inputs = {"judgements" if not place else f"judgements {place + 1}": path for place, (path, _) in enumerate(read)}
    started = runs.start(
        out,
        verb="score",
        arguments=asdict(how),
        seed=how.seed,
        inputs=inputs if how.gamed is None else {**inputs, "gamed": how.gamed},
        simulated=any(record.simulated for _, records in read for record in records),
    )
    with started as progress:
        if progress.done:
            return progress.folder
        _refuse_bad_judgements(read)
        found = estimate_judgements([record for _, records in read for record in records], how, spread=spread)
        found += [estimate for path, _ in read for estimate in _anytime(path)]
        progress.write(about(found, simulated=any(_is_simulated(path) for path, _ in read)), Estimate)
    return progress.folder


def _anytime(judged: Path) -> list[Estimate]:
    """Return the anytime intervals of a judge run that stopped when it was decided: theirs hold, fixed ones do not."""
    folder = judged if judged.is_dir() else judged.parent
    card = runs.read_card(folder)
    if card is None or card.notes.get("decided after") is None or not (folder / runs.FILES[Estimate]).is_file():
        return []
    return [estimate for estimate in runs.read(folder, Estimate) if estimate.name.endswith(", anytime")]


def _is_simulated(path: Path) -> bool:
    """Return whether the run card beside an input says that it is simulated."""
    card = runs.read_card(path if path.is_dir() else path.parent)
    return card is not None and card.simulated


def _refuse_bad_judgements(read: Sequence[tuple[Path, Sequence[Judgement]]]) -> None:
    seen: set[tuple[str, ...]] = set()
    for file, records in read:
        if not records:
            raise UserError(f"{file} holds no judgements", "judge something first")
        for row, record in enumerate(records):
            key = (*kind_of(record), record.unit)
            if key in seen:
                raise DataError(
                    f"judgement {record.id} of the same pair by the same judge occurs twice", file=file, row=row
                )
            seen.add(key)
            if record.p_a is not None and not 0 <= record.p_a <= 1:
                raise DataError(f"{record.p_a} is no probability", file=file, row=row, field="p_a")


def run_diversity(completions: Path, out: Path, *, options: ScoreOptions | None = None) -> Path:
    """Estimate how varied the completions of each policy are.

    Args:
        completions: A file or run folder of Completion records.
        out: Output folder.
        options: How figures are estimated; only the level counts.

    Returns:
        The output folder, with ``estimates.parquet``.

    Raises:
        UserError: There are no completions.
    """
    how = options or ScoreOptions()
    records = runs.read(completions, Completion)
    simulated = _is_simulated(completions)
    started = runs.start(
        out,
        verb="score diversity",
        arguments={"level": how.level},
        inputs={"completions": completions},
        simulated=simulated,
    )
    with started as progress:
        if progress.done:
            return progress.folder
        if not records:
            raise UserError(f"{completions} holds no completions", "sample some first")
        found: list[Estimate] = []
        for policy in sorted({record.policy for record in records}):
            own = [record for record in records if record.policy == policy]
            estimates = diversity([record.text for record in own], [record.item for record in own], level=how.level)
            found += about(estimates, policy, simulated=simulated)
        progress.write(found, Estimate)
    return progress.folder


def run_table(source: Path, out: Path, *, columns: Columns | None = None, options: ScoreOptions | None = None) -> Path:
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
    how, where = options or ScoreOptions(), columns or Columns()
    arguments = {**asdict(how), "columns": asdict(where)}
    started = runs.start(out, verb="score table", arguments=arguments, seed=how.seed, inputs={"source": source})
    with started as progress:
        if progress.done:
            return progress.folder
        progress.write(about(of_table(source, where, how), simulated=progress.simulated), Estimate)
    return progress.folder


def of_table(source: Any, columns: Columns | None = None, options: ScoreOptions | None = None) -> list[Estimate]:
    """Estimate what `run_table` writes; a million rows take seconds.

    Args:
        source: A parquet, CSV or JSON lines file, or a `datasets.Dataset`.
        columns: Where the table keeps what.
        options: How figures are estimated.
    """
    how, where = options or ScoreOptions(), columns or Columns()
    sheet = sheets.read(source, (where.outcome,), optional=(where.group, where.p_a))
    outcomes = sheet.full_texts(where.outcome)
    single = {"yes", "no"} & set(outcomes)
    known = {"yes", "no", "unjudged"} if single else {"win", "loss", "split", "tie", "mixed", "unjudged"}
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
        return yes_rates(outcomes, clusters=groups, p_yes=chances, level=how.level, resampling=boot)
    return win_rates(outcomes, clusters=groups, p_a=chances, level=how.level, resampling=boot)
