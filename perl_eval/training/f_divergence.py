"""What a policy is trained towards: reward alone, reward less KL, or the target itself under another divergence.

All are policy gradients on the policy's own samples and differ in the reward of a sample only. With
``t = policy / target`` the gradient of ``D_f(policy || target)`` is ``E_policy[f'(t) grad log policy]``, so
``-f'(t)`` is the reward:

=============  ======================================  ============================
objective      reward of a sample                      what it lowers
=============  ======================================  ============================
``reinforce``  ``r``                                   ``-E[r]``: no KL, no target
``kl_rl``      ``r - beta log policy / prior``         ``KL(policy || target)``
``forward_kl`` ``1 / t``                               ``KL(target || policy)``
``js``         ``log(1 + 1 / t) - log 2``              Jensen-Shannon divergence
``tv``         ``1/2`` if ``t < 1``, else ``-1/2``     total variation distance
=============  ======================================  ============================

``grpo`` is no other aim, but another estimate: see `perl_eval.training.clipped_policy_gradient`.

The target is ``prior exp(r / beta) / Z(x)``. Z is each prompt's own, estimated in each step from the samples of that
prompt. Shapes: B sequences, T tokens, the samples of one prompt side by side.

Source: Go et al., arXiv 2302.08215 (f-DPG), theorem 1 and table 1; Khalifa et al., arXiv 2012.11635 (GDC);
Korbak et al., arXiv 2112.00791 (CDPG: Z per prompt) and 2206.00761 (the baseline).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch.nn.functional import softplus

from perl_eval.training.objectives import leave_one_out

__all__ = [
    "NEED_Z",
    "OBJECTIVES",
    "Aim",
    "Objective",
    "divergence_rewards",
    "gap_below",
    "log_inverse_ratio",
    "sample_rewards",
]

Objective = Literal["reinforce", "kl_rl", "forward_kl", "js", "tv", "grpo"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
NEED_Z: tuple[Objective, ...] = ("forward_kl", "js", "tv")
"""Objectives whose rewards need Z, so several samples a prompt."""


@dataclass(frozen=True, slots=True)
class Aim:
    """An objective, ``beta`` (reward units per nat) and ``group``, samples a prompt.

    Raises:
        ValueError: The objective needs a target and beta is 0, or Z or a group's baseline and there is one sample a
            prompt.
    """

    objective: Objective = "kl_rl"
    beta: float = 0.05
    group: int = 1

    def __post_init__(self) -> None:
        if self.objective in NEED_Z and not self.beta > 0:
            raise ValueError(f"{self.objective} needs a target, and with beta {self.beta} there is none")
        if self.objective in NEED_Z and self.group < 2:
            raise ValueError(f"{self.objective} takes Z from the samples of a prompt, and group is {self.group}")
        if self.objective == "grpo" and self.group < 2:
            raise ValueError(f"grpo takes its baseline from the samples of a prompt, and group is {self.group}")


def _log_weights(scores: torch.Tensor, log_ratio: torch.Tensor, aim: Aim) -> torch.Tensor:
    """Return ``log prior exp(r / beta) / policy``, (prompts, group)."""
    return (scores / aim.beta - log_ratio.detach()).view(-1, aim.group)


def log_inverse_ratio(scores: torch.Tensor, log_ratio: torch.Tensor, aim: Aim) -> torch.Tensor:
    """Return ``log 1 / t = r / beta - log policy / prior - log Z``, with Z from the samples of each prompt.

    ``Z = mean of exp(r / beta) prior / policy``. A sample's own weight enters, so no weight over Z exceeds ``group``:
    what that biases, of order ``1 / group``, vanishes at the target, where all weights are Z.

    Args:
        scores: (B,), one reward a sequence.
        log_ratio: (B,), log policy - log prior of the whole sample, no gradient.
        aim: beta and group.

    Returns:
        (B,).
    """
    weights = _log_weights(scores, log_ratio, aim)
    log_z = torch.logsumexp(weights, dim=1, keepdim=True) - math.log(aim.group)
    return (weights - log_z).view(-1)


def divergence_rewards(log_inverse: torch.Tensor, objective: Objective) -> torch.Tensor:
    """Return ``-f'(t)`` of the divergence that an objective lowers, up to a constant for ``kl_rl``.

    Args:
        log_inverse: ``log 1 / t``, any shape.
        objective: ``kl_rl`` (per nat: ``log 1 / t``), ``forward_kl``, ``js`` or ``tv``.

    Raises:
        ValueError: ``reinforce`` lowers no divergence, ``grpo`` none by the reward of a sample.

    Source:
        arXiv 2302.08215, table 1.
    """
    if objective == "kl_rl":
        return log_inverse
    if objective == "forward_kl":
        return log_inverse.exp()
    if objective == "js":
        return softplus(log_inverse) - math.log(2)
    if objective == "tv":
        return torch.where(log_inverse > 0, 0.5, -0.5).to(log_inverse)
    raise ValueError(f"{objective} lowers no divergence")


def sample_rewards(scores: torch.Tensor, log_ratio: torch.Tensor, aim: Aim) -> torch.Tensor:
    """Return the reward of each sample, the baseline taken off: the mean reward of its prompt's other samples.

    For ``reinforce`` and ``kl_rl`` that is the score; the KL of ``kl_rl`` is paid token by token, as
    `perl_eval.training.objectives.token_rewards` has it, or as a loss.

    Args:
        scores: (B,), one reward a sequence.
        log_ratio: (B,), log policy - log prior of the whole sample, no gradient.
        aim: What is aimed at.

    Returns:
        (B,).
    """
    if aim.objective not in NEED_Z:
        return leave_one_out(scores, group=aim.group)
    return leave_one_out(divergence_rewards(log_inverse_ratio(scores, log_ratio, aim), aim.objective), group=aim.group)


def gap_below(scores: torch.Tensor, log_ratio: torch.Tensor, aim: Aim) -> tuple[float, float]:
    """Return a lower bound of the gap ``beta log Z - J``, in reward units, and the effective samples a prompt.

    ``beta (log mean w - mean log w)`` of each prompt's samples, averaged over prompts. In expectation it is below the
    gap, the more so the fewer samples a prompt has: it says that the policy is not there yet, never that it is.

    Args:
        scores: (B,), one reward a sequence.
        log_ratio: (B,), log policy - log prior of the whole sample.
        aim: beta, above 0, and group, above 1.

    Source:
        arXiv 2205.11275, equation 8; arXiv 1509.00519, theorem 1, for the bound.
    """
    weights = _log_weights(scores, log_ratio, aim).double()
    log_z = torch.logsumexp(weights, dim=1) - math.log(aim.group)
    effective = torch.exp(2 * torch.logsumexp(weights, 1) - torch.logsumexp(2 * weights, 1))
    return aim.beta * float((log_z - weights.mean(1)).mean()), float(effective.mean())
