"""How many pairs, labels and how much money a wanted certainty takes."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from statistics import NormalDist

__all__ = ["Assumptions", "Budget", "detectable_difference", "labels_for_half_width", "pairs_for", "pilot"]

_Z = NormalDist().inv_cdf


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
    with the sign test: ``n = (z_level sqrt(d) + z_power sqrt(d - delta^2))^2 / delta^2``.

    Args:
        assumed: What is expected of the pairs.
        half_width: Wanted half-width, in (0, 1/2); None plans for the difference.
        calls_per_pair: 2 for both orders.
        cost_per_call_usd: Price of a call, where known.

    Raises:
        ValueError: The half-width is out of range, or there is no difference to find.

    Source: Connor, Biometrics 43 (1987), 207-211, for the difference.
    """
    z = _Z((1 + assumed.level) / 2)
    if half_width is not None:
        if not 0 < half_width < 0.5:
            raise ValueError(f"half_width is {half_width}; it lies in (0, 0.5)")
        n = z**2 * assumed.score_variance / half_width**2
    else:
        if assumed.difference == 0:
            raise ValueError("a difference of 0 cannot be found with any number of pairs")
        spread = assumed.decided - assumed.difference**2
        n = ((z * sqrt(assumed.decided) + _Z(assumed.power) * sqrt(spread)) / assumed.difference) ** 2
    pairs = max(1, ceil(n * assumed.design_effect - 1e-9))
    calls = pairs * calls_per_pair
    return Budget(pairs, calls, None if cost_per_call_usd is None else calls * cost_per_call_usd)


def detectable_difference(assumed: Assumptions, pairs: int) -> float | None:
    """Return the least difference, wins less losses, that so many pairs find with the wanted power.

    Returns:
        In (0, decided], or None if even the largest possible one cannot be found.
    """
    low, high = 0.0, assumed.decided
    if _needed(assumed, high) > pairs:
        return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _needed(assumed, middle) <= pairs else (middle, high)
    return high


def _needed(assumed: Assumptions, difference: float) -> float:
    z, spread = _Z((1 + assumed.level) / 2), max(0.0, assumed.decided - difference**2)
    n = ((z * sqrt(assumed.decided) + _Z(assumed.power) * sqrt(spread)) / difference) ** 2
    return n * assumed.design_effect


def labels_for_half_width(assumed: Assumptions, correlation: float, judged: int, half_width: float) -> int | None:
    """Return how many of the judged items people must label for a corrected win rate within a half-width.

    With r the correlation of judge and people, PPI++ at its best weight has variance
    ``v / n (1 - r^2 N / (n + N))``, n labelled and N others.

    Args:
        assumed: What is expected of the pairs.
        correlation: Of the judge's and people's scores, in [-1, 1]; one below 0 helps nothing.
        judged: Items judged, labelled ones included.
        half_width: Wanted half-width.

    Returns:
        The number, or None if labelling all of them is not enough.

    Source: Angelopoulos, Duchi and Zrnic, arXiv 2311.01453.
    """
    allowed = (half_width / _Z((1 + assumed.level) / 2)) ** 2
    square = max(0.0, correlation) ** 2

    def enough(n: int) -> bool:
        variance = assumed.score_variance / n * (1 - square * (judged - n) / judged)
        return variance * assumed.design_effect <= allowed

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
