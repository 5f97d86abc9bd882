"""What a trainer's loss sees in the conformance suite, and how a loss is named: the interface of an adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

__all__ = ["Batch", "Estimator"]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Completions of one batch, as a loss reads them. B rows, T tokens, V words in the vocabulary.

    All numbers are float64. A completion that reached ``longest`` without its end has T = longest sampled tokens and
    no end of sequence. Padding is on the right.

    Attributes:
        tokens: (B, T) int64, what was sampled; after the end the pad id, which is that of the end, 0, as
            in tokenizers without a pad of their own; ``mask`` tells them apart.
        mask: (B, T) bool, True at tokens that were sampled, the end of sequence among them.
        logits: (B, T, V) of the policy at each place, with gradient, already divided by the temperature.
        log_probs: (B, T), of the tokens under the policy, with gradient, in nats; 0 outside the mask.
        old: (B, T), of the tokens under the policy that sampled them, no gradient; 0 outside the mask.
        prior: (B, T), of the tokens under the reference policy, no gradient; 0 outside the mask.
        rewards: (B,), one reward a completion.
        groups: (B,) int64; completions of one prompt share it, are adjacent, and all groups are equally large.
        ended: (B,) bool, whether the end of sequence was sampled within ``longest``.
        beta: Weight of KL(policy || prior), reward units per nat.
        longest: The most tokens that are generated; T never exceeds it.
        group_size: Completions of a prompt.
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    logits: torch.Tensor
    log_probs: torch.Tensor
    old: torch.Tensor
    prior: torch.Tensor
    rewards: torch.Tensor
    groups: torch.Tensor
    ended: torch.Tensor
    beta: float
    longest: int
    group_size: int


@dataclass(frozen=True, slots=True)
class Estimator:
    """A loss of some package, and what it claims to descend on.

    Attributes:
        name: Such as ``trl grpo, loss_type=dapo, beta=k3``; unique among all that are measured.
        package: What it is installed as.
        version: The version installed.
        objective: Which exact objective its gradient claims, a name of `perl_eval.conformance.objective_list`:
            ``kl`` (E[r] - beta KL(policy || prior)), ``reward`` (E[r]), or another that is listed there.
        formula: The line of its formula that explains its gradient, in the words of the field.
        loss: Takes a batch, returns a scalar to descend on, whose gradient reaches ``logits`` or ``log_probs``.
    """

    name: str
    package: str
    version: str
    objective: str
    formula: str
    loss: Callable[[Batch], torch.Tensor]
