"""How weights follow their gradient: the optimizer, its groups, clipping, and how often what was learned is kept."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from perl_eval.checks import not_negative
from perl_eval.errors import OptionError, UserError
from perl_eval.training.fsdp import groups, plain

__all__ = ["Updating", "UpdatingBy", "moments_of", "optimizer_of", "rate_by_width"]

UpdatingBy = Literal["adamw", "adafactor", "sgd"]
_MOMENTUM = 0.9
_REFERENCE_WIDTH = 2000
_WIDTH_POWER = 0.781


@dataclass(frozen=True, slots=True)
class Updating:
    """``optimizer`` is adamw, adafactor (moments by row and column only, for full tuning in little memory) or sgd.

    Each part's gradient is clipped to the norm ``clip``; 0 does not. Weight decay pulls at matrices, with ``decay_all``
    at norms and biases too. Every ``save_every_s`` seconds what was learned is written down, by default 30, and less
    often where writing would take more than a twentieth of the time; 0 does it every step.
    """

    optimizer: UpdatingBy = "adamw"
    clip: float = 1.0
    decay_all: bool = False
    save_every_s: float | None = None

    def __post_init__(self) -> None:
        not_negative(self, "clip", "save_every_s")
        if self.optimizer not in get_args(UpdatingBy):
            raise OptionError("optimizer", repr(self.optimizer), f"choose from {', '.join(get_args(UpdatingBy))}")

    def for_loop(self) -> dict[str, Any]:
        """Return what `perl_eval.training.loop.LoopOptions` takes of this."""
        told = {"optimizer": self.optimizer, "clip_norm": self.clip or math.inf, "decay_all": self.decay_all}
        return told if self.save_every_s is None else {**told, "checkpoint_every_s": self.save_every_s or -1.0}


def moments_of(optimizer: str) -> int:
    """Return how many numbers an optimizer keeps for each that it moves; adafactor's are so few that they are 0."""
    return {"adamw": 2, "sgd": 1}.get(optimizer, 0)


def rate_by_width(most: float, width: int, *, full: bool) -> float:
    """Return the learning rate for a model of some width: 5e-4 (2000 / width)^0.781 for LoRA, a tenth for all weights.

    Args:
        most: The highest, which narrow models take.
        width: Hidden size.
        full: Whether all weights are trained.

    Source: tinker-cookbook, ``hyperparam_utils.get_lr`` (Llama's exponent); the factor of ten between LoRA and full
    tuning is that of Schulman and others, "LoRA Without Regret" (2025).
    """
    rule: float = (5e-5 if full else 5e-4) * (_REFERENCE_WIDTH / width) ** _WIDTH_POWER
    return min(most, rule)


def optimizer_of(
    kind: str, parameters: Iterable[nn.Parameter], rate: float, weight_decay: float, *, decay_all: bool
) -> torch.optim.Optimizer:
    """Return an optimizer.

    Args:
        kind: Its name, see `Updating`.
        parameters: What it moves.
        rate: The learning rate.
        weight_decay: Of matrices.
        decay_all: Whether vectors decay too.

    Raises:
        UserError: It cannot move weights in shares.
    """
    parameters = list(parameters)
    apart = weight_decay > 0 and not decay_all
    kinds = [[one for one in parameters if one.dim() > 1], [one for one in parameters if one.dim() < 2]]
    decays = zip(kinds, (weight_decay, 0.0), strict=True) if apart else [(parameters, weight_decay)]
    told = [{"params": group, "weight_decay": decay} for some, decay in decays if some for group in groups(some)]
    if kind == "adamw":
        # torch's and TRL's epsilon of 1e-8; see `perl_eval.training.loop.LoopOptions`
        return torch.optim.AdamW(told, lr=rate, eps=1e-8, fused=True)
    if kind == "adafactor":
        if len(plain(parameters)) < len(parameters):
            raise UserError(
                "adafactor cannot update weights that are divided among processes", "give another optimizer"
            )
        return torch.optim.Adafactor(told, lr=rate)
    return torch.optim.SGD(told, lr=rate, momentum=_MOMENTUM)
