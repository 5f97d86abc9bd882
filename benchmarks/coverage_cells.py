"""What the grid of `coverage.py` is made of: cells, and how data in clusters are drawn.

Clusters come in two shapes: of one size, and with a long tail. An item of a cluster is a copy of the cluster's first
draw with a chance of 0.6, else a draw of its own; so the truth is that of independent items.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import Resampling

__all__ = [
    "OUTCOMES",
    "QUICK",
    "Cell",
    "Drawn",
    "FloatArray",
    "Generator",
    "clusters_of",
    "copied",
    "is_cached",
    "named",
    "setting",
]

Generator = np.random.Generator
FloatArray = NDArray[np.float64]
Drawn = Any
"""What one draw is: if it can be hashed, the interval depends on nothing else, and is made once."""
COPY = 0.6
QUICK = Resampling(draws=1000)
OUTCOMES = ("win", "split", "loss")


@dataclass(frozen=True, slots=True)
class Cell:
    """One setting of one kind of interval, or of one test.

    Attributes:
        kind: The figure.
        setting: What is drawn.
        truth: What the interval should hold, or what works it out; None for a p-value, which should be 0.05 or more in
            95 % of draws.
        sample: Draws the data.
        estimate: Makes the figure of them.
        corner: Whether it is one of the few that continuous integration runs.
    """

    kind: str
    setting: str
    truth: float | Callable[[], float] | None
    sample: Callable[[Generator], Drawn]
    estimate: Callable[[Drawn], Estimate]
    corner: bool = False


def named(estimates: list[Estimate], name: str) -> Estimate:
    """Return the figure of a name."""
    return next(estimate for estimate in estimates if estimate.name == name)


@cache
def clusters_of(shape: str) -> NDArray[np.intp]:
    """Return the cluster of each item: ``20 x 10`` of one size, ``tail 50`` so many of a lognormal size."""
    if shape.startswith("tail"):
        from scipy.special import ndtri

        number = int(shape.split()[1])
        sizes = np.ceil(2 * np.exp(1.2 * ndtri((np.arange(number) + 0.5) / number))).astype(int)
    else:
        number, size = map(int, shape.split(" x "))
        sizes = np.full(number, size)
    return np.repeat(np.arange(number), sizes)


def copied(rng: Generator, clusters: NDArray[np.intp], draws: FloatArray) -> FloatArray:
    """Return draws of which some are copies of their cluster's first."""
    first = np.searchsorted(clusters, clusters)
    taken = np.where(rng.random(len(clusters)) < COPY, first, np.arange(len(clusters)))
    return draws[taken]


def setting(**parts: object) -> str:
    """Return the words for a setting."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in parts.items())


def is_cached(drawn: Drawn) -> bool:
    """Return whether the interval depends on nothing but these counts."""
    return isinstance(drawn, tuple) and all(isinstance(part, int) for part in drawn) and isinstance(drawn, Hashable)
