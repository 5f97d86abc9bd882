"""Where training by an estimator ends: descent on its expected gradient in a small world until it stands."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from perl_eval import figure_names as named
from perl_eval.conformance.batch import Estimator
from perl_eval.conformance.batch_gradients import kind_of_loss
from perl_eval.conformance.expected_gradient import expected_gradient
from perl_eval.conformance.listed_language import (
    ListedLanguage,
    WorldShape,
    listed,
    summed_log_probs,
    target_log_probs,
)

__all__ = ["TRAINED_WORLD", "TrainingEnd", "train_to_the_end", "where_it_stands"]

TRAINED_WORLD = WorldShape("trained: three words, two tokens", beta=0.5, seed=21, apart=0.3)
_RATE = 0.2
_STANDS = 1e-3
"""Norm of the expected gradient, relative to that at the start, below which training stands."""
_GONE = 1e-5
"""The same, below which it goes no further."""


@dataclass(frozen=True, slots=True)
class TrainingEnd:
    """The policy that training ended at.

    Attributes:
        world: Name of the world.
        steps: Updates by Adam on the expected gradient.
        stands: Whether the gradient is gone.
        gradient: Its norm relative to that at the start.
        kl_to_target: KL(pi || target), nats.
        kl_from_target: KL(target || pi), nats.
        kl_to_prior: KL(pi || prior), nats.
        entropy: Nats.
        target_entropy: Of the target, nats.
        reward: E[r].
        target_reward: E[r] under the target.
    """

    world: str
    steps: int
    stands: bool
    gradient: float
    kl_to_target: float
    kl_from_target: float
    kl_to_prior: float
    entropy: float
    target_entropy: float
    reward: float
    target_reward: float


def where_it_stands(language: ListedLanguage, theta: torch.Tensor) -> dict[str, float]:
    """Return both KLs to the target, KL to the prior, entropy and reward of a policy, and those of the target."""
    policy, target = summed_log_probs(language, theta), target_log_probs(language)
    prior = summed_log_probs(language, language.prior)
    return {
        "kl_to_target": float(policy.exp() @ (policy - target)),
        "kl_from_target": float(target.exp() @ (target - policy)),
        "kl_to_prior": float(policy.exp() @ (policy - prior)),
        named.ENTROPY: -float(policy.exp() @ policy),
        "target_entropy": -float(target.exp() @ target),
        "reward": float(policy.exp() @ language.rewards),
        "target_reward": float(target.exp() @ language.rewards),
    }


def train_to_the_end(estimator: Estimator, shape: WorldShape = TRAINED_WORLD, *, most: int = 300) -> TrainingEnd:
    """Train by Adam on the expected gradient, every batch from the policy itself, at a rate that falls to 0.

    A rate for each coordinate makes constant factors of a loss go, as they do for who tunes the rate.

    Args:
        estimator: The loss.
        shape: The world; all batches are listed.
        most: Steps.
    """
    language = listed(shape)
    kind = kind_of_loss(estimator, language, language.theta)
    theta = language.theta.clone().requires_grad_()
    optimiser = torch.optim.Adam([theta], lr=_RATE, betas=(0.8, 0.95))
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, most)
    start = last = 0.0
    steps = 0
    while steps < most:
        gradient = expected_gradient(estimator, language.at(theta), kind=kind).mean
        last = float(gradient.norm())
        start = start or last
        if last <= _GONE * max(start, 1e-4):
            break
        theta.grad = -gradient
        optimiser.step()
        falling.step()
        steps += 1
    share = last / start if start else 0.0
    told = where_it_stands(language, theta.detach())
    return TrainingEnd(shape.name, steps, share < _STANDS, share, **told)
