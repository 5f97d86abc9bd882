"""How many pairs, labels and how much money a wanted certainty takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, floor, sqrt
from statistics import NormalDist

import numpy as np

from perl_eval.stats.correction import PSEUDO, SMALL_CLASS
from perl_eval.stats.intervals import wilson

__all__ = [
    "Assumptions",
    "Budget",
    "detectable_difference",
    "detectable_flip_rate",
    "labels_for_half_width",
    "pairs_for",
    "pilot",
    "sign_test_power",
]

_Z = NormalDist().inv_cdf
_STEPS = 6
"""Numbers of pairs in a row that must have the power."""
_PRECISION = 1e-5
"""How well the difference that can be found is known."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is expected of the pairs.

    Attributes:
        decided: Share of pairs that one side wins, in (0, 1].
        difference: Share won less share lost, in [-decided, decided].
        level: Confidence level.
        power: Chance to find the difference, in (0, 1).
        design_effect: Variance for items in clusters over that for independent ones; 1 where there are none.
    """

    decided: float = 0.7
    difference: float = 0.1
    level: float = 0.95
    power: float = 0.8
    design_effect: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.decided <= 1:
            raise ValueError(f"decided is {self.decided}; it lies in (0, 1]")
        if abs(self.difference) > self.decided:
            raise ValueError(f"difference is {self.difference}; it cannot exceed the decided share, {self.decided}")
        if not 0 < self.level < 1 or not 0 < self.power < 1:
            raise ValueError("level and power lie in (0, 1)")
        if self.design_effect <= 0:
            raise ValueError(f"design_effect is {self.design_effect}; it is above 0")

    @property
    def score_variance(self) -> float:
        """Variance of a pair's score of 1, 1/2 or 0: ``(d - delta^2) / 4``."""
        return (self.decided - self.difference**2) / 4


@dataclass(frozen=True, slots=True)
class Budget:
    """What a plan takes: pairs, calls to the judge, and their price where it is known."""

    pairs: int
    calls: int
    cost_usd: float | None


def pairs_for(
    assumed: Assumptions,
    *,
    half_width: float | None = None,
    calls_per_pair: int = 2,
    cost_per_call_usd: float | None = None,
) -> Budget:
    """Return what it takes to estimate the win rate within a half-width, or else to find the assumed difference.

    Half-width h of ``(wins + undecided / 2) / n``: ``n = z^2 (d - delta^2) / (4 h^2)``. To find the difference delta
    with the sign test: the least number of pairs from which on its exact power (`sign_test_power`) is as wanted. Where
    items share clusters, times the design effect.

    Args:
        assumed: What is expected of the pairs.
        half_width: Wanted half-width, in (0, 1/2); None plans for the difference.
        calls_per_pair: 2 for both orders.
        cost_per_call_usd: Price of a call, where known.

    Raises:
        ValueError: The half-width is out of range, or there is no difference to find.

    Source: Connor, Biometrics 43 (1987), 207-211, for where the search begins.
    """
    if half_width is not None:
        if not 0 < half_width < 0.5:
            raise ValueError(f"half_width is {half_width}; it lies in (0, 0.5)")
        z = _Z((1 + assumed.level) / 2)
        n = z**2 * assumed.score_variance / half_width**2
    else:
        if assumed.difference == 0:
            raise ValueError("a difference of 0 cannot be found with any number of pairs")
        n = float(_least_pairs(assumed))
    pairs = max(1, ceil(n * assumed.design_effect - 1e-9))
    calls = pairs * calls_per_pair
    return Budget(pairs, calls, None if cost_per_call_usd is None else calls * cost_per_call_usd)


def sign_test_power(assumed: Assumptions, pairs: int) -> float:
    """Return the chance that so many independent pairs reject evenness of wins and losses by the exact sign test.

    ``sum_D P(D decided) P(the wins among D are so far off D / 2 that the two-sided p is at most 1 - level)``, the wins
    binomial with chance ``(d + delta) / (2 d)``.

    Args:
        assumed: Decided share d, difference delta and level; the design effect does not count.
        pairs: Number of pairs.

    Returns:
        In [0, 1].
    """
    from scipy.stats import binom

    tail, share = (1 - assumed.level) / 2, (assumed.decided + assumed.difference) / (2 * assumed.decided)
    if assumed.decided < 1:
        reach = 9 * sqrt(pairs * assumed.decided * (1 - assumed.decided)) + 9
        middle = pairs * assumed.decided
        decided = np.arange(max(0, floor(middle - reach)), min(pairs, ceil(middle + reach)) + 1)
        chances = binom.pmf(decided, pairs, assumed.decided)
    else:
        decided, chances = np.array([pairs]), np.ones(1)
    most = binom.isf(tail, decided, 0.5)  # the least x with P(X > x) at most the tail
    found = binom.sf(most, decided, share) + binom.cdf(decided - most - 1, decided, share)
    return float(chances @ found)


def _least_pairs(assumed: Assumptions) -> int:
    """Return the least number of independent pairs from which on the sign test has the power."""

    def enough(pairs: int) -> bool:
        # Power rises in steps, and falls a little between them: a few pairs more must do too.
        return all(sign_test_power(assumed, pairs + more) >= assumed.power for more in range(_STEPS))

    z, spread = _Z((1 + assumed.level) / 2), max(0.0, assumed.decided - assumed.difference**2)
    guess = ((z * sqrt(assumed.decided) + _Z(assumed.power) * sqrt(spread)) / assumed.difference) ** 2
    low, high = 0, max(1, ceil(guess))
    while not enough(high):
        low, high = high, ceil(high * 1.1) + 1
    low = max(low, floor(high * 0.8) - 5)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def detectable_difference(assumed: Assumptions, pairs: int) -> float | None:
    """Return the least difference, wins less losses, that so many pairs find with the wanted power.

    Returns:
        In (0, decided], or None if even the largest possible one cannot be found.
    """
    worth = floor(pairs / assumed.design_effect + 1e-9)
    low, high = 0.0, assumed.decided

    def found(difference: float) -> bool:
        return worth > 0 and sign_test_power(replace(assumed, difference=difference), worth) >= assumed.power

    if not found(high):
        return None
    while high - low > _PRECISION:
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


def detectable_flip_rate(noise: float, groups: int, *, level: float, power: float) -> float | None:
    """Return the least share of changes that is told from a share of chance changes, by a paired sign test.

    Changes and chance changes are taken as independent: of units that did one and not the other,
    ``p (1 - q)`` against ``q (1 - p)``.

    Args:
        noise: q, the share that changes by chance, in [0, 1].
        groups: Independent units.
        level: Of the two-sided test.
        power: How often it is to be found.

    Returns:
        p in (q, 1], or None if not even a change of all is found.
    """

    def found(share: float) -> bool:
        more, less = share * (1 - noise), noise * (1 - share)
        return sign_test_power(Assumptions(more + less, more - less, level=level), groups) >= power

    if not found(1.0):
        return None
    low, high = noise, 1.0
    while high - low > _FLIP_PRECISION:
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


_FLIP_PRECISION = 1e-3


def labels_for_half_width(assumed: Assumptions, correlation: float, judged: int, half_width: float) -> int | None:
    """Return how many of the judged items people must label for a corrected win rate within a half-width.

    With r the correlation of judge and people, PPI++ at its best weight has variance
    ``v / n (1 - r^2 N / (n + N)) + 2 / (n + 2)^2``, n labelled and N others; the second part is what
    `prediction_powered_mean` adds for what few labels do not show. Where so few labels of a kind are expected that it
    takes the labels' own rate, the half-width is that of Wilson's interval.

    Args:
        assumed: What is expected of the pairs.
        correlation: Of the judge's and people's scores, in [-1, 1]; one below 0 helps nothing.
        judged: Items judged, labelled ones included.
        half_width: Wanted half-width.

    Returns:
        The number, or None if labelling all of them is not enough.

    Source: Angelopoulos, Duchi and Zrnic, arXiv 2311.01453.
    """
    z, square = _Z((1 + assumed.level) / 2), max(0.0, correlation) ** 2
    rate = (1 + assumed.difference) / 2

    def enough(n: int) -> bool:
        if assumed.decided == 1 and n * min(rate, 1 - rate) < SMALL_CLASS:
            low, high = wilson(n * rate, n, z)
            return (high - low) / 2 * sqrt(assumed.design_effect) <= half_width
        variance = assumed.score_variance / n * (1 - square * (judged - n) / judged)
        return (variance * assumed.design_effect + PSEUDO / (n + 2) ** 2) * z**2 <= half_width**2

    if judged < 1 or not enough(judged):
        return None
    low, high = 0, judged
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def pilot(wins: int, losses: int, undecided: int, assumed: Assumptions | None = None) -> Assumptions:
    """Return assumptions with decided share and difference as a pilot run found them.

    Raises:
        ValueError: The pilot has no decided pair.
    """
    base, n = assumed or Assumptions(), wins + losses + undecided
    if wins + losses == 0:
        raise ValueError("the pilot has no decided pair")
    decided, difference = (wins + losses) / n, (wins - losses) / n
    return Assumptions(decided, difference, base.level, base.power, base.design_effect)
