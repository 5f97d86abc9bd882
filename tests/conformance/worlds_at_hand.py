"""Losses written by hand for the tests of the conformance suite, with faults that can be planted."""

from __future__ import annotations

from collections.abc import Callable

import torch

from perl_eval.conformance import Batch, Estimator

Loss = Callable[[Batch], torch.Tensor]


def estimator(loss: Loss, objective: str = "kl", name: str = "by hand") -> Estimator:
    return Estimator(name, "tests", "1", objective, "as the test says", loss)


def others_mean(rewards: torch.Tensor, group: int) -> torch.Tensor:
    rows = rewards.view(-1, group)
    return ((rows.sum(1, keepdim=True) - rows) / (group - 1)).reshape(-1)


def reinforce(batch: Batch, fault: str = "") -> torch.Tensor:
    """REINFORCE with the KL in the reward and the others' mean as a baseline, as a trainer has it, with one fault."""
    log_ratio = (batch.log_probs - batch.prior).sum(1)
    paid = log_ratio if fault == "missing detach" else log_ratio.detach()
    if fault == "k2 for k1":
        paid = ((batch.log_probs - batch.prior).detach() ** 2 / 2).sum(1)
    sign = -1 if fault == "sign of the KL" else 1
    worth = -batch.rewards if fault == "sign of the reward" else batch.rewards
    rewards = worth - sign * batch.beta * paid
    advantages = rewards - others_mean(rewards, batch.group_size)
    if fault == "sign of the loss":
        advantages = -advantages
    each = batch.log_probs.sum(1)
    if fault == "mean for sum":
        each = each / batch.mask.sum(1)
    if fault == "mean over the batch":
        return -(batch.log_probs.sum(1) * advantages).sum() / batch.mask.sum()
    if fault == "detached":
        each = each.detach() + 0 * each
    return -(each * advantages).mean()


def ratio_with_kl(batch: Batch, kl: str = "k1", *, detach: bool = True) -> torch.Tensor:
    """A policy gradient by ratios, with an estimate of the KL of each token in the loss."""
    advantages = batch.rewards - others_mean(batch.rewards, batch.group_size)
    behind = batch.old if detach else batch.log_probs
    ratios = torch.exp(batch.log_probs - behind) * batch.mask
    lr = (batch.log_probs - batch.prior) * batch.mask
    each = {"k1": lr, "k2": lr**2 / 2, "k3": torch.exp(-lr) - 1 + lr, "k3 x ratio": ratios * (torch.exp(-lr) - 1 + lr)}
    return -(ratios * advantages.unsqueeze(1) - batch.beta * each[kl]).sum(1).mean()


def to_go_whitened(batch: Batch, *, spread: bool = True) -> torch.Tensor:
    """REINFORCE++ as its paper has it: returns to go less beta k1, whitened over the tokens of the batch."""
    log_ratio = ((batch.log_probs - batch.prior) * batch.mask).detach()
    to_go = torch.stack([log_ratio[:, place:].sum(1) for place in range(log_ratio.shape[1])], 1)
    returns = batch.rewards.unsqueeze(1) - batch.beta * to_go
    live = returns[batch.mask]
    advantages = returns - live.mean()
    if spread:
        advantages = advantages / (live.std() + 1e-8)
    return -(batch.log_probs * advantages)[batch.mask].sum() / batch.mask.sum()


def without_truncated(batch: Batch, *, unpaid: bool = False) -> torch.Tensor:
    """A policy gradient whose truncated completions are left out, or earn nothing."""
    rewards = batch.rewards * batch.ended if unpaid else batch.rewards
    advantages = rewards - rewards.view(-1, batch.group_size).mean(1).repeat_interleave(batch.group_size)
    each = batch.log_probs.sum(1) * advantages
    return -(each if unpaid else each * batch.ended).mean()
