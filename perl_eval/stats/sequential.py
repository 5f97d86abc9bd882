"""Intervals that hold at every moment at once, so that a run may stop as soon as it is decided."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval.records import Estimate
from perl_eval.stats.intervals import undefined

__all__ = ["Course", "StopRule", "anytime_mean", "confidence_sequence"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
_GRID = 1000
_CAP = 0.5
"""Largest share of the capital that is bet, against means far off."""
_TINY = 1e-12


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


class StopRule:
    """Fed the scores of one run in random order, says when the run is decided; the interval holds at every moment.

    A gambler bets against every candidate mean m, half of the capital on the truth lying above, half below; under the
    true mean the capital is a martingale and exceeds ``1 / alpha`` at any time with chance alpha at most, so the
    candidates against which it has not are the interval. Bets are ``sqrt(2 log(2 / alpha) / (variance_t t log(1 +
    t)))``, from past values only.

    With ``population``, the scores are a queue of so many, drawn without replacement, and the interval is of the mean
    over the whole queue: what the complete run would say. Nothing is assumed of the scores then but the random order,
    so groups do no harm. A score of None (unjudged) takes its place out of the queue. Without, scores must be of
    independent items, and the interval is of the mean behind them.

    Attributes:
        decided: Number of scores after which it was first decided; None so far.
        n: Scores fed.
        n_missing: Places fed without a score.
        low: Lower bound now, in [0, 1]; it never falls.
        high: Upper bound now; it never rises.

    Source: Waudby-Smith and Ramdas, arXiv 2010.09686, the hedged capital process, sections 4.4 and 5.
    """

    def __init__(
        self,
        population: int | None = None,
        *,
        level: float = 0.95,
        mark: float | None = 0.5,
        half_width: float | None = None,
    ) -> None:
        """Start before the first score.

        Args:
            population: Length of the queue; None for independent items without end.
            level: Confidence level, 1 - alpha.
            mark: Decided once this mean lies outside the interval; None if it does not matter.
            half_width: Decided, too, once the interval is no wider than twice this; None if it does not matter.

        Raises:
            ValueError: A number is out of its range.
        """
        if not 0 < level < 1:
            raise ValueError(f"level is {level}; it lies in (0, 1)")
        if population is not None and population < 1:
            raise ValueError(f"population is {population}; at least 1 is needed")
        if half_width is not None and not 0 < half_width < 0.5:
            raise ValueError(f"half_width is {half_width}; it lies in (0, 0.5)")
        self.population, self.level, self.mark, self.half_width = population, level, mark, half_width
        self.n, self.n_missing, self.decided = 0, 0, None  # type: int, int, int | None
        self.low, self.high = 0.0, 1.0
        self._means = np.linspace(0, 1, _GRID + 1)
        self._up, self._down = np.zeros(_GRID + 1), np.zeros(_GRID + 1)
        self._sum, self._squares, self._variance = 0.0, 0.25, 0.25

    @classmethod
    def over(cls, groups: Sequence[Hashable], *, level: float = 0.95, half_width: float | None = None) -> StopRule:
        """Return the rule for a queue with these groups: of independent items if no group repeats, else of the queue.

        Args:
            groups: What each unit of the queue shares a source with.
            level: Confidence level.
            half_width: Decided, too, once the interval is no wider than twice this; None to decide about 1/2 only.
        """
        repeats = len(set(groups)) < len(groups)
        return cls(len(groups) if repeats else None, level=level, half_width=half_width)

    def feed(self, score: float | None) -> bool:
        """Take in the next score and return whether the run is decided, now or before.

        Args:
            score: 1 for a win (or yes), 0 for a loss (or no), 1/2 for an undecided pair; None for an unjudged one.

        Raises:
            ValueError: The score is outside [0, 1], or there were more than the population holds.
        """
        if self.population is not None and self.n + self.n_missing >= self.population:
            raise ValueError(f"more scores than the population of {self.population}")
        if score is None:
            self.n_missing += 1
            return self.decided is not None
        if not 0 <= score <= 1:
            raise ValueError(f"{score} is outside [0, 1]")
        means, possible = self._expected()
        self.n += 1
        bet = np.sqrt(2 * np.log(2 / (1 - self.level)) / (self._variance * self.n * np.log1p(self.n)))
        self._up += np.log1p(np.minimum(bet, _CAP / np.maximum(means, _TINY)) * (score - means))
        self._down += np.log1p(-np.minimum(bet, _CAP / np.maximum(1 - means, _TINY)) * (score - means))
        inside = possible & (np.maximum(self._up, self._down) < np.log(2 / (1 - self.level)))
        if not inside.all():  # a candidate that is left stays left
            self._means, self._up, self._down = (part[inside] for part in (self._means, self._up, self._down))
        self._learn(float(score))
        if self.decided is None and self._says():
            self.decided = self.n
        return self.decided is not None

    def _expected(self) -> tuple[FloatArray, BoolArray]:
        """Return, for each candidate, the mean of what is left of the queue, and whether it can be that."""
        if self.population is None:
            return self._means, np.ones(len(self._means), bool)
        whole = self.population - self.n_missing
        left = (whole * self._means - self._sum) / (whole - self.n)
        # A candidate between two grid points may just be possible where the point is not.
        slack = whole / (_GRID * (whole - self.n))
        return np.clip(left, 0.0, 1.0), (left >= -slack) & (left <= 1 + slack)

    def _learn(self, score: float) -> None:
        """Update sums, the variance that the next bet goes by, and the bounds."""
        self._sum += score
        self._squares += (score - (0.5 + self._sum) / (self.n + 1)) ** 2
        self._variance = self._squares / (self.n + 1)
        if len(self._means):
            # One grid step wider, so that a mean between two candidates is not lost.
            self.low = max(self.low, float(self._means[0]) - 1 / _GRID)
            self.high = min(self.high, float(self._means[-1]) + 1 / _GRID)

    def _says(self) -> bool:
        left = self.mark is not None and not self.low <= self.mark <= self.high
        return left or (self.half_width is not None and self.high - self.low <= 2 * self.half_width)

    def estimate(self, name: str) -> Estimate:
        """Return the mean of the scores so far with its anytime interval.

        Args:
            name: Name of the figure.
        """
        method = "anytime interval, hedged capital"
        if self.population is not None:
            method += f", queue of {self.population}"
        if not self.n:
            return undefined(name, "there are no items", n_missing=self.n_missing, method=method)
        value, left_out = self._sum / self.n, self.n_missing
        return Estimate(name, value, self.low, self.high, self.n, left_out, method, self.level)


def confidence_sequence(
    values: ArrayLike, *, level: float = 0.95, mark: float = 0.5, population: int | None = None
) -> Course:
    """Return intervals for the mean of values in [0, 1] that all hold at once; see `StopRule`.

    The values must come in random order, one an independent item (a group's mean where groups repeat), or with
    ``population`` in the random order of a queue.

    Args:
        values: In [0, 1], shape (n,), in the order they came.
        level: Confidence level, 1 - alpha.
        mark: The mean that is to be decided about.
        population: Length of the queue that they are the first of.

    Raises:
        ValueError: A value is outside [0, 1].
    """
    rule, bounds = StopRule(population, level=level, mark=mark), []
    for value in np.asarray(values, np.float64).tolist():
        rule.feed(value)
        bounds.append((rule.low, rule.high))
    low, high = np.array(bounds).reshape(-1, 2).T
    return Course(low, high, rule.decided)


def anytime_mean(name: str, values: ArrayLike, *, level: float = 0.95, population: int | None = None) -> Estimate:
    """Estimate a mean of values in [0, 1] with an interval that holds however it was decided when to stop.

    Args:
        name: Name of the figure.
        values: In [0, 1], in the order they came.
        level: Confidence level.
        population: Length of the queue that they are the first of.
    """
    rule = StopRule(population, level=level)
    for value in np.asarray(values, np.float64).tolist():
        rule.feed(value)
    return rule.estimate(name)
