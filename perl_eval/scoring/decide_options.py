"""How it is decided which policy is better."""

from __future__ import annotations

from dataclasses import dataclass

from perl_eval.checks import between

__all__ = ["DecideOptions"]


@dataclass(frozen=True, slots=True)
class DecideOptions:
    """How it is decided.

    Attributes:
        baseline: If given, only comparisons with this policy.
        level: Confidence level of all comparisons together, and of each interval.
        power: Chance of a decision that the numbers of labels and pairs are for.
        judge_alone: Decide by the judge where people labelled too little, as if it were no kinder to either policy.
        anytime: Intervals and p-values that hold at every number of labels, so that one may look after each and stop;
            wider. Always so where a judge run stopped once it was decided.
    """

    baseline: str = ""
    level: float = 0.95
    power: float = 0.8
    judge_alone: bool = False
    anytime: bool = False

    def __post_init__(self) -> None:
        between(0, 1, self, "level", "power", ends="()")
