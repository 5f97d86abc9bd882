"""GRPO and its kin: policy gradients whose importance ratio is clipped, for several updates on one batch of samples.

Shapes: B sequences, T tokens. ``old`` are the log-probabilities of the policy before the first update on the batch, by
the training forward; a sampler of its own, such as a server, has others, for which `truncated_weights` corrects.

Source: arXiv 1707.06347, equation 7 (the clipped ratio); 2402.03300 (GRPO); 2503.20783 (Dr. GRPO); 2503.14476 (DAPO);
2506.13585 (CISPO); 2507.18071 (GSPO, the ratio of a sequence).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from perl_eval.checks import at_least_one, between, positive
from perl_eval.errors import OptionError

__all__ = [
    "Clipping",
    "averaged_over_tokens",
    "clipped_loss",
    "group_advantages",
    "importance_ratios",
    "is_clipped",
    "k3_penalty",
    "truncated_weights",
]

Form = Literal["grpo", "dr_grpo", "dapo", "cispo"]
Level = Literal["token", "sequence"]
Scale = Literal["group", "batch", "none"]
_TINY = 1e-4
"""Added to a standard deviation that rewards are divided by, as TRL has it."""


@dataclass(frozen=True, slots=True)
class Clipping:
    """How a batch is learned from: ``updates`` times, with ratios kept from ``1 - clip_low`` to ``1 + clip_high``.

    ``form`` says over what the loss is averaged: over the tokens of each sequence and then over sequences (``grpo``, so
    a token of a long answer counts for less), over sequences of the full token limit (``dr_grpo``), or over the tokens
    of the batch (``dapo``; ``cispo`` too, which clips the weight of a token and never its gradient). ``ratio`` is of a
    ``token``, or of a ``sequence``: the geometric mean over its tokens. Rewards less their group's mean are divided by
    the standard deviation of the ``group`` or of the ``batch``, or not (``none``): beta is in units of that then.
    ``clip_high`` is ``clip_low`` where it is not given.
    """

    updates: int = 1
    clip_low: float = 0.2
    clip_high: float | None = None
    form: Form = "grpo"
    ratio: Level = "token"
    scale: Scale = "group"

    def __post_init__(self) -> None:
        at_least_one(self, "updates")
        positive(self, "clip_high")
        between(0, 1, self, "clip_low", ends="(]", such_as=0.2)
        for name, kind in (("form", Form), ("ratio", Level), ("scale", Scale)):
            if getattr(self, name) not in get_args(kind):
                raise OptionError(name, repr(getattr(self, name)), f"choose from {', '.join(get_args(kind))}")

    @property
    def most(self) -> float:
        """How far above 1 a ratio may be."""
        return self.clip_low if self.clip_high is None else self.clip_high


def group_advantages(
    rewards: torch.Tensor, *, group: int, scale: Scale = "group", spread: float | None = None
) -> torch.Tensor:
    """Return rewards less the mean of their group, its own included, over a standard deviation.

    Args:
        rewards: (B,), the samples of one prompt side by side.
        group: Samples a prompt, 2 or more.
        scale: Of what the standard deviation is, see `Clipping`.
        spread: That of the batch, where these rewards are a share of it.

    Returns:
        (B,).

    Source:
        arXiv 2402.03300, section 4.1.2.
    """
    rows = rewards.view(-1, group)
    centred = rows - rows.mean(1, keepdim=True)
    if scale == "group":
        centred = centred / (rows.std(1, keepdim=True) + _TINY)
    elif scale == "batch":
        centred = centred / ((rewards.std() if spread is None else spread) + _TINY)
    return centred.view(-1)


def importance_ratios(log_probs: torch.Tensor, old: torch.Tensor, live: torch.Tensor, level: Level) -> torch.Tensor:
    """Return pi / pi_old of each token, (B, T), or the geometric mean over the tokens of each sequence, (B, 1)."""
    log_ratio = (log_probs - old.detach()) * live
    if level == "sequence":
        log_ratio = log_ratio.sum(1, keepdim=True) / live.sum(1, keepdim=True).clamp(min=1)
    return log_ratio.exp()


def is_clipped(ratios: torch.Tensor, advantages: torch.Tensor, how: Clipping) -> torch.Tensor:
    """Return where a ratio is out of its range on the side that its advantage pulls to, the shape of ``ratios``."""
    pulled = advantages.unsqueeze(1)
    above = (ratios > 1 + how.most) & (pulled > 0)
    return above if how.form == "cispo" else above | ((ratios < 1 - how.clip_low) & (pulled < 0))


def clipped_loss(
    log_probs: torch.Tensor, ratios: torch.Tensor, advantages: torch.Tensor, live: torch.Tensor, how: Clipping
) -> torch.Tensor:
    """Return the loss of each token, (B, T): ``-min(w A, clip(w) A)``; ``cispo``: ``-stopgrad(min(w, most)) A log pi``.

    Args:
        log_probs: (B, T), with gradient.
        ratios: w, (B, T) or (B, 1), of `importance_ratios`.
        advantages: A, (B,); no gradient flows into them.
        live: (B, T).
        how: The range.
    """
    pulled = advantages.detach().unsqueeze(1)
    if how.form == "cispo":
        each = -ratios.clamp(max=1 + how.most).detach() * pulled * log_probs
    else:
        each = -torch.minimum(ratios * pulled, ratios.clamp(1 - how.clip_low, 1 + how.most) * pulled)
    return each.expand_as(live) * live


def k3_penalty(log_probs: torch.Tensor, prior: torch.Tensor, live: torch.Tensor) -> torch.Tensor:
    """Return ``prior / pi - 1 - log prior / pi`` of each token, (B, T), with gradient: the KL term of GRPO.

    Its mean is the KL of the policy to the prior; its gradient, on the policy's own samples, is that of the KL of the
    prior to the policy, by the token.

    Source: arXiv 2402.03300, equation 4.
    """
    gap = (prior.detach() - log_probs) * live
    return gap.exp() - 1 - gap


def averaged_over_tokens(
    each: torch.Tensor, live: torch.Tensor, form: Form, *, sequences: float, tokens: float, longest: int
) -> torch.Tensor:
    """Return the loss of a step, or a piece's share of it, from that of each token.

    Args:
        each: (B, T).
        live: (B, T).
        form: See `Clipping`.
        sequences: Of the whole step.
        tokens: Of the whole step.
        longest: The most tokens of a sample.
    """
    if form == "grpo":
        return ((each * live).sum(1) / live.sum(1).clamp(min=1)).sum() / sequences
    return (each * live).sum() / (sequences * longest if form == "dr_grpo" else tokens)


def truncated_weights(
    old: torch.Tensor, sampled: torch.Tensor, live: torch.Tensor, *, most: float, level: Level = "token"
) -> torch.Tensor:
    """Return how much likelier what was sampled is to the trained policy than to what sampled it, at most ``most``.

    Two engines that hold the same weights give log-probabilities that differ by rounding. Truncated weights correct for
    it with a bounded variance; what is cut off is biased towards the samples' own law.

    Args:
        old: (B, T), by the training forward, before the first update.
        sampled: (B, T), as the sampler gave them; where it is not a number the weight is 1.
        live: (B, T).
        most: The largest weight, above 0.
        level: Of each token, (B, T), or of the whole sequence, (B, 1).

    Source:
        Ionides (2008), truncated importance sampling, equation 3.
    """
    gap = torch.nan_to_num((old - sampled).detach() * live, nan=0.0)
    return (gap.sum(1, keepdim=True) if level == "sequence" else gap).exp().clamp(max=most)
