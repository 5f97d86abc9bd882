"""Which places policies can have, by differences of each two: sets that hold together, and who is first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_JOINT", "Gap", "Places", "places_of"]

FloatArray = NDArray[np.float64]
_DRAWS = 4000
MOST_JOINT = 400
"""Differences of which the joint distribution is drawn; of more, bounds are Bonferroni's."""


@dataclass(frozen=True, slots=True)
class Gap:
    """An estimated difference between two policies.

    Attributes:
        one: Number of the first policy.
        other: Number of the second.
        value: By how much the first is better.
        error: Its standard error.
        degrees: Degrees of freedom of the error.
        influence: What each group adds to the value, shape (groups,), the same groups for all differences.
    """

    one: int
    other: int
    value: float
    error: float
    degrees: float
    influence: FloatArray


@dataclass(frozen=True, slots=True)
class Places:
    """The places that policies can have, 1 the best.

    Attributes:
        low: Best place of each policy, shape (policies,).
        high: Worst place of each policy; the true places of all policies lie within, together, at the level.
        first: Chance that each policy is first, None where that cannot be said.
    """

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    first: FloatArray | None


def places_of(policies: int, gaps: Sequence[Gap], *, level: float = 0.95, seed: int = 0) -> Places:
    """Return the places that each policy can have, so that all sets hold together.

    Of every two policies that were compared it is tested whether one is better and whether the other is; a hypothesis
    is rejected if ``value / error`` exceeds the quantile of the largest of those not yet rejected, step by step. The
    quantile is that of a joint t distribution with the correlation of the influences. A policy's best place is 1 plus
    the policies better than it, its worst the number of policies less those that it is better than.

    The chance to be first is the share of draws of all differences, from their joint distribution around what was
    estimated, in which the policy's strength (least squares over the differences, by their errors) is largest.

    Args:
        policies: How many there are.
        gaps: The differences that are known, at most one for every two policies.
        level: Chance that all sets hold.
        seed: Of the draws.

    Source: Mogstad, Romano, Shaikh and Wilhelm, Review of Economic Studies 91 (2024), 476-518 (step-wise, section 3);
    Romano and Wolf, Econometrica 73 (2005), 1237-1282.

    Deviations: The joint distribution is a t with the least of the degrees of freedom, where they bootstrap.
    """
    low, high = np.ones(policies, np.intp), np.full(policies, policies, np.intp)
    if not gaps:
        return Places(low, high, None)
    value = np.array([gap.value for gap in gaps])
    error = np.array([max(gap.error, np.finfo(float).tiny) for gap in gaps])
    degrees = min(gap.degrees for gap in gaps)
    drawn = _drawn(gaps, degrees, seed) if len(gaps) <= MOST_JOINT else None
    above, below = _rejected(value / error, drawn, degrees, level)
    for gap, better, worse in zip(gaps, above, below, strict=True):
        winner, loser = (gap.one, gap.other) if better else (gap.other, gap.one)
        if better or worse:
            low[loser] += 1
            high[winner] -= 1
    first = None if drawn is None else _first(policies, gaps, value + error * drawn, error)
    return Places(low, high, first)


def _drawn(gaps: Sequence[Gap], degrees: float, seed: int) -> FloatArray:
    """Draw the standardised errors of all differences together, shape (draws, differences)."""
    rng = np.random.default_rng(seed)
    influence = np.stack([gap.influence for gap in gaps])
    scale = np.sqrt((influence**2).sum(axis=1))
    shown = influence / np.where(scale > 0, scale, 1.0)[:, None]
    values, vectors = np.linalg.eigh(shown @ shown.T)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    normal = rng.standard_normal((_DRAWS, len(gaps))) @ root.T
    normal[:, scale == 0] = rng.standard_normal((_DRAWS, int((scale == 0).sum())))
    spread = np.sqrt(rng.chisquare(degrees, (_DRAWS, 1)) / degrees)
    return np.asarray(normal / spread, np.float64)


def _rejected(
    shown: FloatArray, drawn: FloatArray | None, degrees: float, level: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which differences are above 0 and which below, by step-down tests that hold together."""
    statistics = np.concatenate([shown, -shown])
    both = None if drawn is None else np.hstack([drawn, -drawn])
    rejected = np.zeros(len(statistics), np.bool_)
    while not rejected.all():
        critical = _critical(both, ~rejected, degrees, level)
        more = ~rejected & (statistics > critical)
        if not more.any():
            break
        rejected |= more
    return rejected[: len(shown)], rejected[len(shown) :]


def _critical(both: FloatArray | None, active: NDArray[np.bool_], degrees: float, level: float) -> float:
    from scipy.special import stdtrit

    if both is None:
        return float(stdtrit(degrees, 1 - (1 - level) / int(active.sum())))
    return float(np.quantile(both[:, active].max(axis=1), level))


def _first(policies: int, gaps: Sequence[Gap], drawn: FloatArray, error: FloatArray) -> FloatArray | None:
    """Return the share of draws in which each policy is strongest; None if the differences do not join all of them."""
    design = np.zeros((len(gaps), policies))
    for row, gap in enumerate(gaps):
        design[row, [gap.one, gap.other]] = 1.0, -1.0
    weighted = design / error[:, None]
    if np.linalg.matrix_rank(weighted) < policies - 1:
        return None
    strengths = (drawn / error) @ np.linalg.pinv(weighted).T
    return np.bincount(strengths.argmax(axis=1), minlength=policies) / len(strengths)
