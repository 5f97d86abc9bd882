"""The gradients of a loss, batch by batch, in the table of logits that a listed language is made of.

A loss that is a mean over groups is called once with many groups and its gradient taken apart by group; whether it is
one is found by trying. A loss that mixes groups (a mean over the tokens of the batch, a standard deviation of the
batch) is called once a batch. All gradients are turned round, so that they are to be ascended, as the objectives are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from perl_eval.conformance.batch import Batch, Estimator
from perl_eval.conformance.listed_language import ListedLanguage
from perl_eval.errors import UserError

__all__ = [
    "AS_TRAINED",
    "BatchMaking",
    "GradientLaw",
    "LossKind",
    "all_at_once",
    "kind_of_loss",
    "make_batch",
    "one_by_one",
]

_SAME = 1e-6
"""Gradients that differ by less are alike: some packages compute a KL in float32. A bias of 1e-3 is resolved."""
_MOST_ROWS = 40_000
"""Rows of one call where groups are taken apart."""


@dataclass(frozen=True, slots=True)
class BatchMaking:
    """How batches are made.

    Attributes:
        trimmed: Columns that hold no token of the batch are cut off.
        all_ended: Completions that were truncated are called ended, as a trainer has it that does not look.
    """

    trimmed: bool = True
    all_ended: bool = False


AS_TRAINED = BatchMaking()
"""Batches as a trainer makes them that trims its padding and looks at ends."""


@dataclass(frozen=True, slots=True, eq=False)
class GradientLaw:
    """Mean and spread of the gradient of one batch.

    Attributes:
        mean: (P, V), to be ascended, reward units per logit.
        error: (P, V), standard error of the mean; zeros where all batches were listed.
        variance: Of one batch's gradient, summed over coordinates.
        batches: Batches that were listed, or drawn.
        listed: Whether all batches were listed.
    """

    mean: torch.Tensor
    error: torch.Tensor
    variance: float
    batches: int
    listed: bool


@dataclass(frozen=True, slots=True)
class LossKind:
    """What was found about a loss: whether it is a mean over groups, and whether the order in a group matters."""

    mean_over_groups: bool
    symmetric: bool


def make_batch(
    language: ListedLanguage, rows: torch.Tensor, sampler: torch.Tensor, trial: BatchMaking
) -> tuple[Batch, torch.Tensor]:
    """Return a batch of listed sequences, and which row of theta each of its places is, (B, T).

    Args:
        language: With the policy whose gradient is taken.
        rows: (B,), the sequences, groups side by side.
        sampler: (P, V), logits of the policy that sampled.
        trial: How the batch is made.
    """
    shape, mask = language.shape, language.mask[rows]
    width = int(mask.sum(1).max()) if trial.trimmed else mask.shape[1]
    mask, tokens, places = mask[:, :width], language.tokens[rows, :width], language.places[rows, :width]
    logits = (language.theta / shape.temperature)[places].requires_grad_()
    own = torch.log_softmax(logits, -1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    ended = language.ended[rows]
    batch = Batch(
        tokens=tokens,
        mask=mask,
        logits=logits,
        log_probs=torch.where(mask, own, 0.0),
        old=language.token_log_probs(sampler)[rows, :width],
        prior=language.token_log_probs(language.prior)[rows, :width],
        rewards=language.rewards[rows],
        groups=torch.arange(len(rows)) // shape.group_size,
        ended=torch.ones_like(ended) if trial.all_ended else ended,
        beta=shape.beta,
        longest=shape.longest,
        group_size=shape.group_size,
    )
    return batch, places


def _by_logit(estimator: Estimator, batch: Batch) -> torch.Tensor:
    """Return minus the gradient of a loss in the logits, (B, T, V).

    Raises:
        UserError: The loss is no finite scalar.
    """
    loss = estimator.loss(batch)
    if loss.dim() != 0:
        said = f"the loss of {estimator.name!r} has the shape {tuple(loss.shape)}"
        raise UserError(said, "return a scalar tensor, averaged over the batch as the trainer does")
    if not bool(torch.isfinite(loss)):
        raise UserError(f"the loss of {estimator.name!r} is {float(loss.detach())}", "return a finite number")
    if not loss.requires_grad:
        return torch.zeros_like(batch.logits)
    (found,) = torch.autograd.grad(loss, batch.logits, allow_unused=True)
    return torch.zeros_like(batch.logits) if found is None else -found.to(torch.float64)


def _in_theta(language: ListedLanguage, gradient: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return gradients in theta, (K, P, V), from those of K batches of rows in the logits, (K, B, T, V)."""
    count, words = len(gradient), gradient.shape[-1]
    prefixes = len(language.theta)
    flat = (places.reshape(count, -1) + prefixes * torch.arange(count).unsqueeze(1)).flatten()
    found = torch.zeros(count * prefixes, words, dtype=torch.float64)
    found.index_add_(0, flat, gradient.reshape(-1, words) / language.shape.temperature)
    return found.view(count, prefixes, words)


def one_by_one(
    estimator: Estimator, language: ListedLanguage, batches: torch.Tensor, sampler: torch.Tensor, trial: BatchMaking
) -> torch.Tensor:
    """Return the gradient of each batch, (K, P, V), by one call of the loss each."""
    found = []
    for rows in batches:
        batch, places = make_batch(language, rows, sampler, trial)
        found.append(_in_theta(language, _by_logit(estimator, batch).unsqueeze(0), places.unsqueeze(0)))
    return torch.cat(found)


def all_at_once(
    estimator: Estimator, language: ListedLanguage, groups: torch.Tensor, sampler: torch.Tensor, trial: BatchMaking
) -> torch.Tensor:
    """Return the gradient of each group, (K, P, V), of a loss that is a mean over groups."""
    most = max(1, _MOST_ROWS // groups.shape[1])
    found = []
    for some in torch.split(groups, most):
        batch, places = make_batch(language, some.flatten(), sampler, trial)
        gradient = _by_logit(estimator, batch).view(*some.shape, *batch.logits.shape[1:]) * len(some)
        found.append(_in_theta(language, gradient, places.view(*some.shape, -1)))
    return torch.cat(found)


def kind_of_loss(
    estimator: Estimator,
    language: ListedLanguage,
    sampler: torch.Tensor,
    trial: BatchMaking = AS_TRAINED,
    *,
    tried: int = 6,
) -> LossKind:
    """Find out whether a loss is a mean over groups, and whether it treats the rows of a group alike.

    Args:
        estimator: The loss.
        language: What batches are made of.
        sampler: (P, V), logits of the policy that sampled.
        trial: How batches are made.
        tried: Groups it is tried on, drawn by a fixed seed; beside them two of the shortest sequences alone, so that a
            loss that depends on the width of its batch is found.
    """
    random = torch.Generator().manual_seed(1)
    size = language.shape.group_size
    groups = torch.randint(len(language.tokens), (tried, size), generator=random)
    by_length = language.mask.sum(1).argsort(stable=True)
    turns = torch.arange(size)
    groups = torch.cat([groups, by_length[turns % 2].unsqueeze(0), by_length[turns % 3].unsqueeze(0)])
    alone = one_by_one(estimator, language, groups, sampler, trial)
    together = one_by_one(estimator, language, groups.view(1, -1), sampler, trial)[0]
    turned = one_by_one(estimator, language, groups.roll(1, 1), sampler, trial)
    scale = _SAME * (1 + float(alone.abs().max()))
    apart = all_at_once(estimator, language, groups, sampler, trial)
    is_mean = bool((alone.mean(0) - together).abs().max() < scale) and bool((alone - apart).abs().max() < scale)
    return LossKind(is_mean, bool((alone - turned).abs().max() < scale))
