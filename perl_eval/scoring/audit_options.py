"""What an audit is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from perl_eval.errors import UserError
from perl_eval.stats.bootstrap import Resampling

__all__ = ["AuditOptions", "Sources"]


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """How a judge is audited.

    Attributes:
        level: Confidence level, in (0, 1).
        draws: Bootstrap draws.
        seed: Seed of the draws.
        epsilon: Margin of the alternative annotator test.
        family: Names of the judge's own model family, for self-preference: a policy belongs to it if its name holds
            one of them, in upper or lower case.
    """

    level: float = 0.95
    draws: int = 2000
    seed: int = 0
    epsilon: float = 0.15
    family: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise UserError(f"level is {self.level}", "give a number between 0 and 1, such as 0.95")
        if self.draws < 1:
            raise UserError(f"draws is {self.draws}", "give at least 1")

    @property
    def resampling(self) -> Resampling:
        """The bootstrap these options ask for."""
        return Resampling(draws=self.draws, seed=self.seed, level=self.level, kind="standard")


@dataclass(frozen=True, slots=True)
class Sources:
    """What an audit reads beside the judgements and labels; None where it was not tried.

    Attributes:
        again: Judgements of the same units by the same judges, asked anew, for repeatability.
        attack: Output folder of `attack` on the same judges.
    """

    again: Path | None = None
    attack: Path | None = None
