"""The verb `score`: judgements, scores and completions to figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perl_eval.errors import DataError, UserError
from perl_eval.figure_names import WIN_RATE_UNDECIDED_HALF_ANYTIME, YES_RATE_ANYTIME
from perl_eval.metrics.judgement_estimates import ScoreOptions, estimate_judgements, kind_of
from perl_eval.records import Estimate, Judgement
from perl_eval.scoring.two_runs import FLIPPED, are_two_runs, compare, write_flipped
from perl_eval.stats.intervals import about
from perl_eval.storage import run_folder
from perl_eval.storage.executor import Executor, here

__all__ = ["ScoreOptions", "estimate_judgements", "run"]

_TWICE = "give each judgement once; of runs of the same answers give two, and one more of the first judge as --again"
_ANYTIME = (WIN_RATE_UNDECIDED_HALF_ANYTIME, YES_RATE_ANYTIME)


def run(
    judgements: Path | Sequence[Path],
    out: Path,
    *,
    again: Path | None = None,
    options: ScoreOptions | None = None,
    spread: Executor = here,
) -> Path:
    """Estimate win rates and position bias, or rates of yes and no, from judgements.

    Judgements are taken apart by judge, policies, data set and prompt; none are pooled. Policies that met the same
    baseline on the same items, in one run or several, are compared item by item, and more than two policies are ranked.
    Two runs of the same answers are set against each other: how many outcomes flipped, which, and which way.

    Args:
        judgements: A file or run folder of Judgement records, or several.
        out: Output folder.
        again: The judge of the first of two such runs, asked the same once more.
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
    read = [(Path(source), run_folder.read(Path(source), Judgement)) for source in sources]
    inputs = {"judgements" if not place else f"judgements {place + 1}": path for place, (path, _) in enumerate(read)}
    started = run_folder.start(
        out,
        verb="score",
        arguments=run_folder.flat(how),
        seed=how.resampling.seed,
        inputs={**inputs, **({} if how.gamed is None else {"gamed": how.gamed}), **({"again": again} if again else {})},
        simulated=any(record.simulated for _, records in read for record in records),
    )
    with started as progress:
        if progress.done:
            return progress.folder
        records = [given for _, given in read]
        twice = len({run_folder.locate(path, Judgement).resolve() for path, _ in read}) > 1 and are_two_runs(records)
        for part in [[one] for one in read] if twice else [read]:
            _refuse_bad_judgements(part)
        found: list[Estimate] = []
        if not twice or _apart(records):
            stopped = {kind_of(record) for path, given in read if _stopped(path) for record in given}
            judged = [record for given in records for record in given]
            found += estimate_judgements(judged, how, stopped=stopped, spread=spread)
            found += [estimate for path, _ in read for estimate in _anytime(path)]
        if twice:
            same = [] if again is None else run_folder.read(again, Judgement)
            figures, flipped = compare(*records, again=same, options=how)
            found += figures
            write_flipped(flipped, progress.folder / FLIPPED)
        progress.write(about(found, simulated=any(_is_simulated(path) for path, _ in read)), Estimate)
    return progress.folder


def _apart(records: Sequence[Sequence[Judgement]]) -> bool:
    """Return whether no two runs hold the same by the same judge and prompt, so that each has rates of its own."""
    kinds = [{kind_of(one) for one in given} for given in records]
    return not kinds[0] & kinds[1]


def _anytime(judged: Path) -> list[Estimate]:
    """Return the anytime intervals of a judge run that stopped when it was decided: theirs hold, fixed ones do not."""
    folder = judged if judged.is_dir() else judged.parent
    if not _stopped(judged) or not (folder / run_folder.FILES[Estimate]).is_file():
        return []
    return [estimate for estimate in run_folder.read(folder, Estimate) if estimate.name in _ANYTIME]


def _stopped(judged: Path) -> bool:
    """Return whether the run card beside judgements says that the run ended as soon as it was decided."""
    card = run_folder.read_card(judged if judged.is_dir() else judged.parent)
    return card is not None and card.notes.get("decided after") is not None


def _is_simulated(path: Path) -> bool:
    """Return whether the run card beside an input says that it is simulated."""
    card = run_folder.read_card(path if path.is_dir() else path.parent)
    return card is not None and card.simulated


def _way_out(read: Sequence[tuple[Path, Sequence[Judgement]]]) -> str:
    """Return what to do about a pair that one judge judged twice."""
    if len(read) != 2:
        return _TWICE
    units = [{one.unit for one in given} for _, given in read]
    shared = len(units[0] & units[1])
    of = f"{len(units[0]):,} and {len(units[1]):,}"
    few = f"only {shared:,} units of {of} are in both, too few for two runs of the same"
    return f"{few}: keep in both files what both judged, or these units in one file" if shared else _TWICE


def _refuse_bad_judgements(read: Sequence[tuple[Path, Sequence[Judgement]]]) -> None:
    seen: set[tuple[str, ...]] = set()
    for file, records in read:
        if not records:
            raise UserError(f"{file} holds no judgements", "judge something first")
        for row, record in enumerate(records):
            key = (*kind_of(record), record.unit)
            if key in seen:
                what = f"judgement {record.id} of the same pair by the same judge occurs twice"
                raise DataError(what, file=file, row=row, fix=_way_out(read))
            seen.add(key)
            if record.p_a is not None and not 0 <= record.p_a <= 1:
                raise DataError(f"{record.p_a} is not a probability", file=file, row=row, field="p_a")
