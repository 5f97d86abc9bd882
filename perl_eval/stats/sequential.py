"""Intervals that hold at every moment at once, so that a run may stop as soon as it is decided."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval.records import Estimate
from perl_eval.stats.intervals import undefined

__all__ = ["Course", "anytime_mean", "confidence_sequence"]

FloatArray = NDArray[np.float64]
_GRID = 1000
_CAP = 0.5
"""Largest share of the capital that is bet, against means far off."""


@dataclass(frozen=True, slots=True)
class Course:
    """An anytime interval after each value, shape (n,) each, and when it first left the mark.

    Attributes:
        low: Lower bounds, never falling.
        high: Upper bounds, never rising.
        decided: Number of values after which the mark was outside for the first time; None if it never was.
    """

    low: FloatArray
    high: FloatArray
    decided: int | None


def confidence_sequence(values: ArrayLike, *, level: float = 0.95, mark: float = 0.5) -> Course:
    """Return intervals for the mean of values in [0, 1] that all hold at once with the given confidence.

    A gambler bets against every candidate mean m, half of the capital on the truth lying above, half below; under the
    true mean the capital is a martingale and exceeds ``1 / alpha`` at any time with chance alpha at most, so the
    candidates against which it has not are the interval. Bets are ``sqrt(2 log(2 / alpha) / (variance_t t log(1 +
    t)))``, from past values only.

    The values must come in random order, one an independent item (a group's mean where groups repeat).

    Args:
        values: In [0, 1], shape (n,), in the order they came.
        level: Confidence level, 1 - alpha.
        mark: The mean that is to be decided about.

    Raises:
        ValueError: A value is outside [0, 1].

    Source: Waudby-Smith and Ramdas, arXiv 2010.09686, the hedged capital process, section 4.4.
    """
    data = np.asarray(values, np.float64)
    if ((data < 0) | (data > 1)).any() or not np.isfinite(data).all():
        raise ValueError("a value is outside [0, 1]")
    alpha, means = 1 - level, np.linspace(0, 1, _GRID + 1)
    bets = _bets(data, alpha)
    inside = np.ones(len(means), bool)
    up, down = np.zeros(len(means)), np.zeros(len(means))
    caps_up = _CAP / np.maximum(means, 1e-12)
    caps_down = _CAP / np.maximum(1 - means, 1e-12)
    low, high = np.empty(len(data)), np.empty(len(data))
    limit = np.log(2 / alpha)
    step = 1 / _GRID
    for t, (value, bet) in enumerate(zip(data, bets, strict=True)):
        up += np.log1p(np.minimum(bet, caps_up) * (value - means))
        down += np.log1p(-np.minimum(bet, caps_down) * (value - means))
        inside &= np.maximum(up, down) < limit
        kept = means[inside]
        # One grid step wider, so that a mean between two candidates is not lost.
        low[t] = max(0.0, kept[0] - step) if len(kept) else low[t - 1]
        high[t] = min(1.0, kept[-1] + step) if len(kept) else high[t - 1]
    outside = np.flatnonzero((low > mark) | (high < mark))
    return Course(low, high, int(outside[0]) + 1 if len(outside) else None)


def _bets(data: FloatArray, alpha: float) -> FloatArray:
    """Return the bet before each value, from the values before it."""
    t = np.arange(1, len(data) + 1)
    means = (0.5 + np.cumsum(data)) / (t + 1)
    variances = (0.25 + np.cumsum((data - means) ** 2)) / (t + 1)
    before = np.concatenate([[0.25], variances[:-1]])
    return np.asarray(np.sqrt(2 * np.log(2 / alpha) / (before * t * np.log1p(t))), np.float64)


def anytime_mean(name: str, values: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Estimate a mean of values in [0, 1] with an interval that holds however it was decided when to stop.

    Args:
        name: Name of the figure.
        values: In [0, 1], in the order they came.
        level: Confidence level.
    """
    data, method = np.asarray(values, np.float64), "anytime interval, hedged capital"
    if len(data) == 0:
        return undefined(name, "there are no items", method=method)
    course = confidence_sequence(data, level=level)
    bounds = (float(course.low[-1]), float(course.high[-1]))
    return Estimate(name, float(data.mean()), *bounds, n=len(data), n_missing=0, method=method, level=level)
