"""What repeated runs say of a cost: a share of each, or a line over their sizes, with intervals between runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FittedLine", "Span", "line_through", "ratio_of"]

Floats = NDArray[np.float64]
_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Span:
    """A figure of at least 0 and its interval; without bounds nothing is known of its spread."""

    value: float
    low: float | None = None
    high: float | None = None

    def each_bound(self, change: Callable[[float], float]) -> Span:
        """Return what a function that does not fall makes of value and bounds."""
        low, high = (None if bound is None else change(bound) for bound in (self.low, self.high))
        return Span(change(self.value), low, high)

    def times(self, factor: float) -> Span:
        """Return the figure times a number of at least 0."""
        return self.each_bound(lambda figure: figure * factor)

    def inverse(self) -> Span:
        """Return 1 over the figure; an interval that reaches down to 0 leaves none."""
        if not self.low or self.high is None:
            return Span(1 / self.value)
        return Span(1 / self.value, 1 / self.high, 1 / self.low)

    def plus(self, other: Span) -> Span:
        """Return the sum, its bounds the sums of theirs: wide enough however the two hang together."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return Span(self.value + other.value)
        return Span(self.value + other.value, self.low + other.low, self.high + other.high)


@dataclass(frozen=True, slots=True)
class FittedLine:
    """What so many of something take: ``fixed`` and ``slope`` for each, as ``runs`` runs say.

    Attributes:
        fixed: For starting; 0 where that is not told apart.
        slope: For each one.
        straight: Whether it is a line over sizes, not a share of the work.
        runs: How many.
        mean: Of the sizes.
        spread: Sum of the squared distances of the sizes from their mean.
        noise: Standard deviation of a run about the line; None with too few runs to tell.
        total: Sum of the sizes, for a share.
    """

    fixed: float
    slope: float
    straight: bool = False
    runs: int = 1
    mean: float = 0.0
    spread: float = 0.0
    noise: float | None = None
    total: float = 0.0

    @property
    def each(self) -> Span:
        """What each one takes once started."""
        if self.noise is None:
            return Span(self.slope)
        error = self.noise / (self.spread if self.straight else self.total) ** 0.5
        return self._within(self.slope, error)

    def at(self, count: float) -> Span:
        """Return what so many take in the mean of runs.

        Where the runs vary in what each one takes, the interval grows as fast as the count; a line also says how
        surely it is known so far from the sizes that were measured.
        """
        value = self.fixed + count * self.slope
        if self.noise is None:
            return Span(value)
        if not self.straight:
            return self._within(value, count * self.noise / self.total**0.5)
        return self._within(value, self.noise * (1 / self.runs + (count - self.mean) ** 2 / self.spread) ** 0.5)

    def _within(self, value: float, error: float) -> Span:
        free = self.runs - (2 if self.straight else 1)
        from scipy import stats

        half = float(stats.t.ppf((1 + _LEVEL) / 2, free)) * error
        return Span(value, max(0.0, value - half), value + half)


def ratio_of(sizes: Sequence[float], amounts: Sequence[float]) -> Span:
    """Return the amount for each one: the sum of the amounts over that of the sizes.

    It is the best estimate where a run's variance grows with its size; the t interval is over the runs.

    Args:
        sizes: What each run did, above 0.
        amounts: What it took.
    """
    return _share(np.asarray(sizes, dtype=float), np.asarray(amounts, dtype=float)).each


def _share(sizes: Floats, amounts: Floats) -> FittedLine:
    slope, noise = float(amounts.sum() / sizes.sum()), None
    if len(sizes) > 1:
        noise = float(((amounts - slope * sizes) ** 2 / sizes).sum() / (len(sizes) - 1)) ** 0.5
    return FittedLine(0.0, slope, runs=len(sizes), noise=noise, total=float(sizes.sum()))


def line_through(sizes: Sequence[float], amounts: Sequence[float]) -> FittedLine:
    """Return the least-squares line over sizes; a share of each where they do not differ, or the line starts below 0.

    Args:
        sizes: What each run did, above 0.
        amounts: What it took.
    """
    done, took = np.asarray(sizes, dtype=float), np.asarray(amounts, dtype=float)
    if np.ptp(done) > 0:
        slope, fixed = (float(one) for one in np.polyfit(done, took, 1))
        if slope > 0 and fixed >= 0:
            noise = None
            if len(done) > 2:
                noise = float(((took - fixed - slope * done) ** 2).sum() / (len(done) - 2)) ** 0.5
            spread = float(((done - done.mean()) ** 2).sum())
            return FittedLine(
                fixed, slope, straight=True, runs=len(done), mean=float(done.mean()), spread=spread, noise=noise
            )
    return _share(done, took)
