"""Formulas of losses, right and wrong ones, with the gradient of each in expectation: what a loss is held against.

A formula is a policy term, whose rewards may have paid a KL, and a KL term beside it. B sequences, T tokens. ``lr`` is
``log pi - log prior`` of a token; k1 = lr, k2 = lr^2 / 2, k3 = exp(-lr) - 1 + lr (joschu.net/blog/kl-approx.html).

Source: arXiv 2506.09477, sections 3 and 4, for what the estimates of the KL come to as losses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from perl_eval.conformance.batch import Batch, Estimator

__all__ = [
    "ADVANTAGES",
    "AVERAGES",
    "KL_LOSSES",
    "PAID",
    "TRUNCATED_WORDS",
    "WEIGHTS",
    "WHITENING_WORDS",
    "Formula",
    "formula_loss",
    "kl_term",
    "policy_term",
]

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class Formula:
    """A loss in words of the field; each field is a key of the mapping of its name in this module.

    Attributes:
        advantage: What is taken off rewards, and what they are divided by; ``""`` for no policy term.
        paid: The KL that rewards have paid.
        kl: The KL term beside the policy term.
        average: Over what the policy term is averaged.
        kl_average: Over what the KL term is averaged.
        weight: The importance weight of a token.
        whitening: What is done to advantages over the tokens of the batch.
        truncated: What becomes of completions without their end.
        policy_sign: -1 where rewards are lowered.
        kl_sign: -1 where the KL is raised.
    """

    advantage: str = "plain"
    paid: str = ""
    kl: str = ""
    average: str = "sum"
    kl_average: str = "sum"
    weight: str = "none"
    policy_sign: int = 1
    kl_sign: int = 1
    whitening: str = ""
    truncated: str = ""

    @property
    def words(self) -> str:
        """The formula as a sentence without a full stop."""
        parts = []
        if self.advantage:
            what = f"{ADVANTAGE_WORDS[self.advantage]} of {PAID_WORDS[self.paid].format(sign='-+'[self.kl_sign < 0])}"
            verb = "raises" if self.policy_sign > 0 else "LOWERS"
            white = f", {WHITENING_WORDS[self.whitening]}" if self.whitening else ""
            parts.append(f"{verb} {what}{white}, {AVERAGE_WORDS[self.average]}")
        if self.kl:
            how = "" if self.kl_average == self.average and self.advantage else f", {AVERAGE_WORDS[self.kl_average]}"
            verb = "lowers" if self.kl_sign > 0 else "RAISES"
            parts.append(f"{verb} {KL_WORDS[self.kl]}{how}")
        if self.truncated:
            parts.append(TRUNCATED_WORDS[self.truncated])
        if self.weight != "none":
            parts.append(f"tokens weighted by {WEIGHT_WORDS[self.weight]}")
        return "; ".join(parts) or "no gradient at all"


def _log_ratio(batch: Batch) -> Tensor:
    return (batch.log_probs - batch.prior) * batch.mask


def _k2(lr: Tensor) -> Tensor:
    return lr.square() / 2


def _k3(lr: Tensor) -> Tensor:
    return torch.exp(-lr) - 1 + lr


def _to_go(each: Tensor) -> Tensor:
    return each.flip(1).cumsum(1).flip(1)


def _whole(each: Tensor) -> Tensor:
    return each.sum(1, keepdim=True).expand_as(each)


PAID: Mapping[str, Callable[[Tensor], Tensor]] = {
    "": torch.zeros_like,
    "k1": _whole,
    "k2": lambda lr: _whole(_k2(lr)),
    "k3": lambda lr: _whole(_k3(lr)),
    "abs": lambda lr: _whole(lr.abs()),
    "k1 to go": _to_go,
    "k2 to go": lambda lr: _to_go(_k2(lr)),
    "k3 to go": lambda lr: _to_go(_k3(lr)),
    "k1 of the token": lambda lr: lr,
    "k1 attached": _whole,
    "k1 attached, ratio": _whole,
}
"""What a reward has paid, (B, T), from ``lr``; but for the attached ones without gradient."""
PAID_WORDS: Mapping[str, str] = {
    "": "r",
    "k1": "r {sign} beta k1, summed over the sequence, in the reward",
    "k2": "r {sign} beta k2 in the reward (k2 in place of k1)",
    "k3": "r {sign} beta k3 in the reward (k3 in place of k1)",
    "abs": "r {sign} beta |log pi - log prior| in the reward",
    "k1 to go": "r {sign} beta k1 from each token on, in the reward",
    "k2 to go": "r {sign} beta k2 from each token on, in the reward (k2 in place of k1)",
    "k3 to go": "r {sign} beta k3 from each token on, in the reward (k3 in place of k1)",
    "k1 of the token": "r {sign} beta k1 of each token alone, in the reward (later tokens' KL left out)",
    "k1 attached": "r {sign} beta k1 in the reward WITHOUT detach, times log pi",
    "k1 attached, ratio": "r {sign} beta k1 in the reward WITHOUT detach, times the ratio",
}


def _centred(rewards: Tensor, batch: Batch) -> Tensor:
    rows = rewards.view(-1, batch.group_size, *rewards.shape[1:])
    return (rows - rows.mean(1, keepdim=True)).view_as(rewards)


def _plain(rewards: Tensor, batch: Batch) -> Tensor:
    return _centred(rewards, batch) * batch.group_size / (batch.group_size - 1)


def _less_mean_by_length(rewards: Tensor, batch: Batch) -> Tensor:
    size = (-1, batch.group_size, *([1] * (rewards.dim() - 1)))
    lengths = _lengths(batch).to(torch.float64).view(size)
    rows = rewards.view(-1, batch.group_size, *rewards.shape[1:])
    return (rows - (rows * lengths).sum(1, keepdim=True) / lengths.sum(1, keepdim=True)).view_as(rewards)


def _scaled(rewards: Tensor, batch: Batch) -> Tensor:
    rows = rewards.view(-1, batch.group_size, *rewards.shape[1:])
    spread = rows.std(1, keepdim=True)
    level = torch.where(spread > 1e-12, (rows - rows.mean(1, keepdim=True)) / spread.clamp(min=1e-12), 0.0)
    return level.view_as(rewards)


ADVANTAGES: Mapping[str, Callable[[Tensor, Batch], Tensor]] = {
    "plain": _plain,
    "mean": _centred,
    "std": _scaled,
    "raw": lambda rewards, _: rewards,
    "mean by length": _less_mean_by_length,
}
ADVANTAGE_WORDS: Mapping[str, str] = {
    "plain": "the mean (no baseline, or the others' mean)",
    "mean": "the mean less the group's own mean (x (G-1)/G)",
    "std": "the mean over the std of the group",
    "raw": "the mean, without a baseline,",
    "mean by length": "the mean less the group's mean weighted by length",
}


def _lengths(batch: Batch) -> Tensor:
    return batch.mask.sum(1).clamp(min=1)


def _of_the_batch(each: Tensor, batch: Batch) -> Tensor:
    """Return the mean over the tokens of each group, averaged over groups: of one group a batch, that of the batch."""
    tokens = batch.mask.sum(1).view(-1, batch.group_size).sum(1).clamp(min=1)
    return (each.sum(1).view(-1, batch.group_size).sum(1) / tokens).mean()


def _of_the_widest(each: Tensor, batch: Batch) -> Tensor:
    """Return the mean over sequences of the sum over tokens, divided by the longest sequence of each group."""
    widest = batch.mask.sum(1).view(-1, batch.group_size).amax(1).clamp(min=1)
    return (each.sum(1).view(-1, batch.group_size).mean(1) / widest).mean()


AVERAGES: Mapping[str, Callable[[Tensor, Batch], Tensor]] = {
    "sum": lambda each, _: each.sum(1).mean(),
    "sequence": lambda each, batch: (each.sum(1) / _lengths(batch)).mean(),
    "batch": _of_the_batch,
    "longest": lambda each, batch: each.sum(1).mean() / batch.longest,
    "widest": _of_the_widest,
}
AVERAGE_WORDS: Mapping[str, str] = {
    "sum": "summed over tokens",
    "sequence": "MEAN over the tokens of each sequence (1/|y|)",
    "batch": "MEAN over the tokens of the batch",
    "longest": "divided by the token limit",
    "widest": "DIVIDED by the longest sequence of the batch",
}


KL_LOSSES: Mapping[str, Callable[[Batch], Tensor]] = {
    "k1": _log_ratio,
    "k2": lambda batch: _k2(_log_ratio(batch)),
    "k3": lambda batch: _k3(_log_ratio(batch)),
    "k3 x ratio": lambda batch: _k3(_log_ratio(batch)) * _weights(batch, "token"),
    "abs": lambda batch: _log_ratio(batch).abs(),
    "k2 of the sequence": lambda batch: _spread(batch, _k2(_log_ratio(batch).sum(1))),
    "to go": lambda batch: batch.log_probs * _to_go(_log_ratio(batch).detach()),
}
"""The KL term of each token, (B, T), before it is averaged."""
KL_WORDS: Mapping[str, str] = {
    "k1": "k1 in the loss (expected gradient 0 on-policy when summed over tokens: no KL at all)",
    "k2": "k2 of each token in the loss (the KL of each token's distribution; what a token does to later KL left out)",
    "k3": "k3 of each token in the loss (the gradient of KL(prior || pi) by the token)",
    "k3 x ratio": "k3 x pi/pi_old of each token in the loss (the KL of each token's distribution; later KL left out)",
    "abs": "|log pi - log prior| in the loss",
    "k2 of the sequence": "k2 of the whole sequence in the loss (the gradient of the KL)",
    "to go": "log pi(y_t) stopgrad(sum_{s>=t} lr_s) in the loss (the gradient of the KL)",
}


def _spread(batch: Batch, whole: Tensor) -> Tensor:
    """Return numbers of sequences shared out evenly over their tokens, (B, T)."""
    return (whole / _lengths(batch)).unsqueeze(1) * batch.mask


def _weights(batch: Batch, kind: str) -> Tensor:
    """Return the importance weight of each token, (B, T)."""
    log_ratio = (batch.log_probs - batch.old) * batch.mask
    if kind == "sequence":
        log_ratio = _whole(log_ratio)
    elif kind == "sequence mean":
        log_ratio = _whole(log_ratio) / _lengths(batch).unsqueeze(1)
    return log_ratio.exp()


WHITENING_WORDS: Mapping[str, str] = {
    "mean": "advantages less their MEAN over the batch's tokens",
    "std": "advantages WHITENED over the batch's tokens",
    "std of all": "advantages WHITENED over the batch's tokens (std of n, not of n - 1)",
}


def _whitened(gain: Tensor, batch: Batch, kind: str) -> Tensor:
    """Return advantages, (B, T), less their mean over the tokens of their group, divided by their std there or not."""
    rows = (gain * batch.mask).view(-1, batch.group_size * batch.mask.shape[1])
    live = batch.mask.reshape(rows.shape)
    count = live.sum(1, keepdim=True).clamp(min=1)
    centred = (rows - rows.sum(1, keepdim=True) / count) * live
    if kind != "mean":
        less = 0 if kind == "std of all" else 1
        spread = (centred.square().sum(1, keepdim=True) / (count - less).clamp(min=1)).sqrt()
        centred = torch.where(spread > 1e-12, centred / spread.clamp(min=1e-12), 0.0)
    return centred.view_as(gain)


TRUNCATED_WORDS: Mapping[str, str] = {
    "masked": "truncated completions LEFT OUT of the sums, not of the group's mean",
    "unpaid": "the reward of truncated completions SET to 0",
}


WEIGHT_WORDS: Mapping[str, str] = {
    "none": "nothing (stale samples count as fresh ones)",
    "token": "pi/pi_old of the token",
    "sequence mean": "the geometric mean of pi/pi_old over the sequence",
    "sequence": "pi/pi_old of the sequence",
    "clipped": "pi/pi_old of the token, clipped to 0.8 .. 1.2",
}
WEIGHTS = tuple(WEIGHT_WORDS)


def policy_term(batch: Batch, formula: Formula) -> Tensor:
    """Return the policy term of a formula, a scalar to descend on.

    Trainers that weight old samples take the KL off rewards before the first update, so by the policy that sampled.
    """
    lr = _log_ratio(batch)
    attached = formula.paid.startswith("k1 attached")
    before = lr.detach() if formula.weight == "none" else (batch.old - batch.prior) * batch.mask
    paid = PAID[formula.paid](lr if attached else before)
    worth = batch.rewards * batch.ended if formula.truncated == "unpaid" else batch.rewards
    rewards = worth.unsqueeze(1) - formula.kl_sign * batch.beta * paid
    if formula.paid.endswith(("to go", "of the token")):
        gain = ADVANTAGES[formula.advantage](worth, batch).unsqueeze(1)
        gain = gain - formula.kl_sign * batch.beta * paid
    else:
        gain = ADVANTAGES[formula.advantage](rewards, batch)
    if formula.whitening:
        gain = _whitened(gain, batch, formula.whitening)
    if formula.weight == "clipped":
        free = _weights(batch, "token")
        pulled = torch.minimum(free * gain, free.clamp(0.8, 1.2) * gain)
    elif formula.weight != "none":
        pulled = _weights(batch, formula.weight) * gain
    elif formula.paid == "k1 attached, ratio":
        pulled = torch.exp(batch.log_probs - batch.log_probs.detach()) * gain
    else:
        pulled = batch.log_probs * gain
    return -formula.policy_sign * AVERAGES[formula.average](pulled * batch.mask, batch)


def kl_term(batch: Batch, formula: Formula) -> Tensor:
    """Return the KL term of a formula, beta and sign with it, a scalar to descend on."""
    each = KL_LOSSES[formula.kl](batch) * batch.mask
    return formula.kl_sign * batch.beta * AVERAGES[formula.kl_average](each, batch)


def formula_loss(formula: Formula) -> Estimator:
    """Return a formula as an estimator; its average over the tokens of a batch is right for one group a batch."""

    def loss(batch: Batch) -> Tensor:
        total = batch.log_probs.sum() * 0
        if formula.truncated == "masked":
            batch = replace(batch, mask=batch.mask & batch.ended.unsqueeze(1))
        if formula.advantage:
            total = total + policy_term(batch, formula)
        return total + kl_term(batch, formula) if formula.kl else total

    return Estimator(formula.words, "formula", "1", "kl", formula.words, loss)
