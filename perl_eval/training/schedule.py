"""How the learning rate moves over a run, and how long the run is at most."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from perl_eval.checks import not_negative
from perl_eval.errors import OptionError

__all__ = ["Schedule", "Shape", "factor"]

Shape = Literal["linear", "cosine", "constant"]
_FLOOR = 0.1


@dataclass(frozen=True, slots=True)
class Schedule:
    """The rate rises linearly over ``warmup`` steps, below 1 over that share of the run, then moves as ``shape`` says.

    By default it rises over a tenth of the run, and over 10 steps at most (imitation: 50). ``linear`` and ``cosine``
    fall to a tenth at the end, ``constant`` stays. ``max_steps`` bounds the steps; 0 does not. It is the end that the
    rate falls to. Validation figures are taken every ``evaluate_every`` steps; 0: as often as the verb says.
    """

    shape: Shape = "linear"
    warmup: float | None = None
    max_steps: int = 0
    evaluate_every: int = 0

    def __post_init__(self) -> None:
        not_negative(self, "warmup", "max_steps", "evaluate_every")
        if self.shape not in get_args(Shape):
            raise OptionError("schedule", repr(self.shape), f"choose from {', '.join(get_args(Shape))}")

    def steps(self, wanted: int) -> int:
        """Return how many steps are taken where so many are wanted."""
        return min(wanted, self.max_steps) if self.max_steps else wanted

    def evaluated(self, steps: int, times: int) -> int:
        """Return after how many steps each a validation figure is taken, 0 for never.

        Args:
            steps: Steps of the run.
            times: How often in all, where the interval is not given.
        """
        return self.evaluate_every or (max(1, steps // times) if times else 0)

    def warm(self, steps: int, most: int = 10) -> int:
        """Return the steps of the warmup.

        Args:
            steps: Steps of the run.
            most: The most of them by default.
        """
        if self.warmup is None:
            return min(most, steps // 10 + 1)
        return round(self.warmup * steps) if self.warmup < 1 else round(self.warmup)


def factor(shape: Shape, step: int, *, steps: int, warmup: int) -> float:
    """Return what the learning rate is multiplied by at a step, counted from 0; in (0, 1].

    Args:
        shape: How it moves after the warmup.
        step: The step.
        steps: Steps of the run.
        warmup: Steps over which it rises.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    if shape == "cosine":
        return _FLOOR + (1 - _FLOOR) * (1 + math.cos(math.pi * progress)) / 2
    return 1.0 - (1 - _FLOOR) * progress if shape == "linear" else 1.0
