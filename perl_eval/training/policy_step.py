"""A step of `train policy` as its losses read it, and its figures: sums of micro-batches first, then what they say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from perl_eval import figure_names as named
from perl_eval.models.generate import Rollout
from perl_eval.training.f_divergence import Aim, gap_below

__all__ = ["AGAIN", "Losses", "Piece", "Sampled", "convergence", "gap_sums", "piece_sums", "step_figures"]


@dataclass(frozen=True, slots=True)
class Sampled:
    """One sample of a step, its place in it, its score, and its reward less the baseline of its group."""

    rollout: Rollout
    place: int
    score: float
    centred: float = 0.0


@dataclass(frozen=True, slots=True)
class Piece:
    """A micro-batch of one step, as a loss reads it. B sequences, T tokens.

    Attributes:
        log_probs: (B, T), of the policy, with gradient.
        values: (B, T), with gradient, which must not reach the policy's parameters.
        log_ratio: (B, T), log pi - log prior, no gradient.
        scores: (B,), what was rewarded, less the group's baseline.
        live: (B, T), True at sampled tokens.
        sequences: Sequences of the whole step.
        tokens: Sampled tokens of the whole step.
        prior: (B, T), log-probabilities of the prior; of losses that read it beside the policy's gradient.
        old: (B, T), of the policy before the first update on the batch; None at that update.
        weights: (B, T) or (B, 1), for what was sampled by another engine; None where it was not.
    """

    log_probs: torch.Tensor
    values: torch.Tensor
    log_ratio: torch.Tensor
    scores: torch.Tensor
    live: torch.Tensor
    sequences: int
    tokens: int
    prior: torch.Tensor | None = None
    old: torch.Tensor | None = None
    weights: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class Losses:
    """What a step descends on: ``policy`` terms by name (their sum moves the policy), and the value function's loss.

    ``returns``, (B, T), are what the values were held against; without a value function both are None. ``clipped`` is
    how many tokens were out of the range of a clipped ratio, None where none is clipped.
    """

    policy: dict[str, torch.Tensor]
    value: torch.Tensor | None = None
    returns: torch.Tensor | None = None
    clipped: float | None = None


def gap_sums(sampled: Sequence[Sampled], ratios: Sequence[float], aim: Aim) -> dict[str, float]:
    """Return the sums over prompts that `convergence` reads; of no prompts where no gap can be told."""
    prompts = len(sampled) // aim.group
    if not (aim.beta > 0 and aim.group > 1 and prompts):
        return {"prompts": 0.0, "gap": 0.0, "effective": 0.0}
    gap, effective = gap_below(torch.tensor([one.score for one in sampled]), torch.tensor(ratios), aim)
    return {"prompts": float(prompts), "gap": gap * prompts, "effective": effective * prompts}


def convergence(sums: dict[str, float]) -> dict[str, float]:
    """Return how far the policy is from its target at least, where several samples a prompt can tell."""
    if not sums["prompts"]:
        return {}
    return {
        named.GAP_AT_LEAST: sums["gap"] / sums["prompts"],
        named.EFFECTIVE_SAMPLES: sums["effective"] / sums["prompts"],
    }


def piece_sums(batch: Sequence[Sampled], piece: Piece, losses: Losses) -> dict[str, float]:
    """Return what a step's figures are made of, summed over a micro-batch."""
    live = piece.live
    sums = {
        "score": sum(one.score for one in batch),
        "score squared": sum(one.score**2 for one in batch),
        "KL": float(piece.log_ratio.sum()),
        "surprise": -float((piece.log_probs.detach() * live).sum()),
        named.NEVER_ENDED: float(sum(not one.rollout.finished for one in batch)),
        **{name: float(loss.detach()) for name, loss in losses.policy.items()},
    }
    if losses.clipped is not None:
        sums["clipped"] = losses.clipped
    if piece.weights is not None:
        sums["weight"] = float((piece.weights * live).sum())
    if losses.value is not None and losses.returns is not None:
        returns = losses.returns[live].double()
        missed = returns - piece.values.detach()[live].double()
        sums |= {
            named.VALUE_LOSS: float(losses.value.detach()),
            "return": float(returns.sum()),
            "return squared": float(returns.square().sum()),
            "missed": float(missed.sum()),
            "missed squared": float(missed.square().sum()),
        }
    return sums


def _variance(total: float, squares: float, count: int) -> float:
    return max(0.0, squares / count - (total / count) ** 2)


def step_figures(sums: dict[str, float], sequences: int, tokens: int) -> dict[str, float]:
    """Return a step's figures, as `perl_eval.metrics.glossary` explains them."""
    figures = {
        "reward": sums["score"] / sequences,
        named.REWARD_SPREAD: math.sqrt(_variance(sums["score"], sums["score squared"], sequences)),
        named.KL_TO_PRIOR: sums["KL"] / sequences,
        named.KL_A_TOKEN: sums["KL"] / tokens,
        named.ENTROPY: sums["surprise"] / sequences,
        **{name: value for name, value in sums.items() if name.endswith("loss")},
        "length": tokens / sequences,
        named.NEVER_ENDED: sums[named.NEVER_ENDED] / sequences,
    }
    if named.KL_FULL in sums:
        figures[named.KL_FULL] = sums[named.KL_FULL] / sequences
    if "clipped" in sums:
        figures[named.CLIPPED] = sums["clipped"] / tokens
    if "weight" in sums:
        figures[named.ENGINE_WEIGHT] = sums["weight"] / tokens
    if "return" in sums:
        spread = _variance(sums["return"], sums["return squared"], tokens)
        missed = _variance(sums["missed"], sums["missed squared"], tokens)
        figures[named.EXPLAINED_VARIANCE] = 1 - missed / spread if spread else 0.0
    return figures


AGAIN = (named.KL_TO_PRIOR, named.KL_A_TOKEN, named.POLICY_LOSS, named.KL_LOSS, named.CLIPPED)
"""The figures of a further update on a batch, whose samples have told theirs."""
