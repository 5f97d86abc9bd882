"""How many labels, and how many judged items, would tell a difference from 0, and the cheapest of both."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from perl_eval.stats.corrected_difference import CorrectedDifference

__all__ = ["LabelPlan", "cheapest_split", "labels_to_decide", "two_digits"]


def two_digits(number: float) -> int:
    """Return a number rounded up to two digits: that many are known of a needed number at most."""
    whole = ceil(number)
    step: int = 10 ** max(0, len(str(whole)) - 2)
    return -(-whole // step) * step


def labels_to_decide(
    found: CorrectedDifference, *, level: float, power: float, unlabelled: int | None = None
) -> int | None:
    """Return how many more labels would tell the difference from 0, were it what it seems; None if no number would.

    Labels make their own part of the variance smaller in proportion; what the number of items leaves stays.

    Args:
        found: The difference as it is.
        unlabelled: Items that are left to label, if that is known.
        level: Confidence level.
        power: Chance with which it should be told.
    """
    from scipy.special import ndtri

    needed = (found.value / (found.critical(level) + float(ndtri(power)))) ** 2
    of_labels = found.error**2 * found.share_of_labels
    rest = found.error**2 - of_labels
    if needed <= rest:
        return None
    more = max(1, int(np.ceil(found.labelled * (of_labels / (needed - rest) - 1))))
    return None if unlabelled is not None and more > unlabelled else more


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """How many items to judge and how many of them to label, in all, and what that costs."""

    labels: int
    items: int
    price: float


def cheapest_split(
    found: CorrectedDifference, items: int, *, level: float, power: float, prices: tuple[float, float]
) -> LabelPlan | None:
    """Return the cheapest numbers of labels and of judged items that would tell the difference from 0.

    The variance is ``L / n + R / N`` of n labels and N items, as it is now; the cheapest n and N for a wanted one have
    ``n / N = sqrt(L p_N / (R p_n))``, and n at most N.

    Args:
        found: The difference as it is.
        items: Items that it is of.
        level: Confidence level.
        power: Chance with which it should be told.
        prices: Of a label, and of judging an item; above 0.

    Returns:
        The numbers; None where no difference is seen.
    """
    from scipy.special import ndtri

    if found.value == 0:
        return None
    wanted = (found.value / (found.critical(level) + float(ndtri(power)))) ** 2
    of_labels = found.error**2 * found.share_of_labels * found.labelled
    of_items = found.error**2 * (1 - found.share_of_labels) * items
    label, item = prices
    ratio = min(1.0, float(np.sqrt(of_labels * item / (of_items * label))) if of_items > 0 else 1.0)
    number = max(1, int(np.ceil((of_labels / ratio + of_items) / wanted)))
    labels = max(1, int(np.ceil(ratio * number)))
    return LabelPlan(labels, number, labels * label + number * item)
