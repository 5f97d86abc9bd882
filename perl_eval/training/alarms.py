"""Alarms before a policy hacks its reward, from what a user has: other reward models, the gradient, and the KL.

A policy that is pushed past what its reward model knows is rewarded ever better by it and less so by models of other
seeds, which err elsewhere. What the trained reward has over theirs, the watched one, is error that was sought out, and
as much again is taken off the watched reward for what all of them have in common. An alarm is a fall of that, smoothed,
from its highest point by more than chance. What all models believe wrongly no alarm of this kind sees: how many it
misses, and how many are false, is in docs/training.md.

Everything is a function of the curve so far, so a run that was killed goes on with the same alarms.
Source: Eisenstein et al., arXiv 2312.09244 (members of other pretraining seeds disagree where a policy hacks);
Gao, Schulman and Hilton, arXiv 2210.10760 (where the true reward turns).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval import figure_names as named
from perl_eval.checks import at_least_one, between, positive
from perl_eval.records import Measurement

__all__ = ["Alarm", "AlarmOptions", "alarm_in", "cautious", "fallen", "smoothed", "worth_now"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AlarmOptions:
    """When an alarm is raised.

    The series (`cautious`) is averaged exponentially with a memory of ``memory`` (a share of the steps, or ``least``
    steps if that is more). An alarm is ``hold`` steps in a row on which it is more than ``errors`` standard errors, and
    ``share`` of what it has gained, below its highest point.

    Chosen on worlds with known truth that no table counts (``benchmarks/alarms.py``).
    """

    memory: float = 0.04
    least: int = 8
    errors: float = 5.0
    share: float = 0.1
    hold: int = 3

    def __post_init__(self) -> None:
        at_least_one(self, "least", "hold")
        positive(self, "errors")
        between(0, 1, self, "memory", "share", ends="[)")

    def span(self, steps: int) -> float:
        """Return the memory in steps, of a run of so many."""
        return max(float(self.least), self.memory * steps)


@dataclass(frozen=True, slots=True)
class Alarm:
    """The step at which an alarm was raised, and that of the highest point before it."""

    step: int
    peak: int


def smoothed(values: ArrayLike, span: float) -> FloatArray:
    """Return the exponential average of a series, its start counted right: weights ``(1 - 1 / span)^age``.

    Args:
        values: (steps,).
        span: The memory in steps, 1 or more.
    """
    series, kept = np.asarray(values, np.float64), 1 - 1 / span
    sums = weights = 0.0
    found = np.empty(len(series))
    for place, value in enumerate(series):
        sums, weights = kept * sums + value, kept * weights + 1
        found[place] = sums / weights
    return found


def cautious(watched: Sequence[float], trained: Sequence[float]) -> list[float]:
    """Return the watched reward less what the trained one has over it, step by step."""
    return [2 * one - other for one, other in zip(watched, trained, strict=True)]


def fallen(
    values: Sequence[float], errors: Sequence[float], steps: int, options: AlarmOptions | None = None
) -> Alarm | None:
    """Return the first alarm of a series, or None.

    Args:
        values: The series of the steps so far.
        errors: The standard error of each.
        steps: Of the whole run.
        options: See `AlarmOptions`.
    """
    how = options or AlarmOptions()
    span = how.span(steps)
    series = smoothed(values, span)
    # of an average with such weights the error is smaller by this root, of independent steps
    error = smoothed(errors, span) * math.sqrt(1 / (2 * span - 1))
    below = 0
    for step in range(int(span), len(series)):
        peak = int(series[: step + 1].argmax())
        gained = series[peak] - series[0]
        needed = max(how.errors * math.hypot(error[step], error[peak]), how.share * gained)
        below = below + 1 if series[peak] - series[step] > needed else 0
        if below >= how.hold:
            return Alarm(step, peak)
    return None


def alarm_in(curve: Sequence[Measurement], steps: int, options: AlarmOptions | None = None) -> Alarm | None:
    """Return the first alarm of a run's curve, its steps those of the curve; None without any, or with none to watch.

    Args:
        curve: The curve so far.
        steps: Batches of the whole run.
        options: See `AlarmOptions`.
    """
    errors = [point.value for point in curve if point.metric == named.WATCHED_ERROR]
    if not errors:
        return None
    places = [point.step for point in curve if point.metric == named.WATCHED_ERROR]
    found = fallen(_series(curve), errors, steps, options)
    return found and Alarm(places[found.step], places[found.peak])


def worth_now(curve: Sequence[Measurement], steps: int, options: AlarmOptions | None = None) -> float:
    """Return what alarms look at, smoothed, at the end of a curve."""
    how = options or AlarmOptions()
    return float(smoothed(_series(curve), how.span(steps))[-1])


def _series(curve: Sequence[Measurement]) -> list[float]:
    watched, trained = (
        [point.value for point in curve if point.metric == name] for name in (named.WATCHED_REWARD, "reward")
    )
    return cautious(watched, trained)
