"""The verb `agree`: judgements beside human labels, to figures of agreement."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from perl_eval import runs
from perl_eval.errors import UserError
from perl_eval.records import Estimate, HumanLabel, Judgement
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.concord import any_simulated, estimate_agreement
from perl_eval.stats.intervals import about

__all__ = ["AgreeOptions", "run"]


@dataclass(frozen=True, slots=True)
class AgreeOptions:
    """How agreement is estimated.

    Attributes:
        level: Confidence level, in (0, 1).
        draws: Bootstrap draws.
        seed: Seed of the draws.
        epsilon: Margin of the alternative annotator test: 0.2 beside experts, 0.15 beside skilled, 0.1 beside crowd
            workers.
    """

    level: float = 0.95
    draws: int = 2000
    seed: int = 0
    epsilon: float = 0.15

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise UserError(f"level is {self.level}", "give a number between 0 and 1, such as 0.95")
        if self.draws < 1:
            raise UserError(f"draws is {self.draws}", "give at least 1")

    @property
    def resampling(self) -> Resampling:
        """The bootstrap these options ask for."""
        return Resampling(draws=self.draws, seed=self.seed, level=self.level)


def run(judgements: Path, labels: Path, out: Path, *, options: AgreeOptions | None = None) -> Path:
    """Estimate how far each judge agrees with people, beside how far people agree among themselves on the same units.

    Split, mixed and tied judgements are read as ties. Unjudged units are counted and enter nothing.

    Args:
        judgements: A file or run folder of Judgement records.
        labels: A file or run folder of HumanLabel records.
        out: Output folder.
        options: How agreement is estimated.

    Returns:
        The output folder, with ``estimates.parquet``.

    Raises:
        UserError: No judged unit is labelled, or a label does not answer the question that the judge was asked.
    """
    how = options or AgreeOptions()
    judged, given = runs.read(judgements, Judgement), runs.read(labels, HumanLabel)
    cards = [runs.read_card(path if path.is_dir() else path.parent) for path in (judgements, labels)]
    simulated_input = any(card is not None and card.simulated for card in cards)
    started = runs.start(
        out,
        verb="agree",
        arguments=asdict(how),
        seed=how.seed,
        inputs={"judgements": judgements, "labels": labels},
        simulated=simulated_input or any_simulated(judged, given),
    )
    with started as progress:
        if progress.done:
            return progress.folder
        estimates = estimate_agreement(judged, given, resampling=how.resampling, epsilon=how.epsilon)
        progress.write(about(estimates, simulated=simulated_input), Estimate)
    return progress.folder
