"""How it is decided which policy is better."""

from __future__ import annotations

from dataclasses import dataclass

from perl_eval.checks import between, not_negative
from perl_eval.errors import OptionError

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
        price_label: Price of a person's label, with ``price_item``: the cheapest numbers of both are said.
        price_item: Price of judging an item.
    """

    baseline: str = ""
    level: float = 0.95
    power: float = 0.8
    judge_alone: bool = False
    anytime: bool = False
    price_label: float = 0.0
    price_item: float = 0.0

    def __post_init__(self) -> None:
        between(0, 1, self, "level", "power", ends="()")
        not_negative(self, "price_label", "price_item")
        if (self.price_label > 0) != (self.price_item > 0):
            missing = "price_item" if self.price_label else "price_label"
            raise OptionError(missing, getattr(self, missing), "give the prices of a label and of judging an item")
