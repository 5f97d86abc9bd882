"""What an audit is given."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from perl_eval.checks import between
from perl_eval.stats.bootstrap import Resampling

__all__ = ["AuditOptions", "Sources"]


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """How a judge is audited.

    Attributes:
        resampling: Draws, seed and level.
        epsilon: Margin of the alternative annotator test.
        family: Names of the judge's own model family, for self-preference: a policy belongs to it if its name holds
            one of them, in upper or lower case.
    """

    resampling: Resampling = field(default_factory=Resampling)
    epsilon: float = 0.15
    family: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        between(0, 1, self, "epsilon", ends="[)", such_as=0.15)

    @property
    def bootstrap(self) -> Resampling:
        """The resampling, by the standard error of its draws: figures of agreement want it so."""
        return replace(self.resampling, kind="standard")


@dataclass(frozen=True, slots=True)
class Sources:
    """What an audit reads beside the judgements and labels; None where it was not tried.

    Attributes:
        again: Judgements of the same units by the same judges, asked anew, for repeatability.
        attack: Output folder of `attack` on the same judges.
    """

    again: Path | None = None
    attack: Path | None = None
