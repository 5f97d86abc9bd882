"""The gradient of a loss in expectation over its batches, and its variance: by listing all batches, or by drawing."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from perl_eval.conformance.all_groups import batches_of, multisets, ordered
from perl_eval.conformance.batch import Estimator
from perl_eval.conformance.batch_gradients import (
    AS_TRAINED,
    BatchMaking,
    GradientLaw,
    LossKind,
    all_at_once,
    kind_of_loss,
    one_by_one,
)
from perl_eval.conformance.drawn_gradient import drawn_law
from perl_eval.conformance.listed_language import ListedLanguage, summed_log_probs

__all__ = ["ListedGradients", "change_by_making", "expected_gradient", "gradients_of_groups", "listed_gradients"]


@dataclass(frozen=True, slots=True, eq=False)
class ListedGradients:
    """The gradient of every batch.

    Attributes:
        batches: (K, B), which sequences each holds; of a loss that is a mean over groups, groups.
        weights: (K,), the chance of each.
        gradients: (K, P, V).
        groups: Of how many of them one batch is the mean.
    """

    batches: torch.Tensor
    weights: torch.Tensor
    gradients: torch.Tensor
    groups: int

    @property
    def law(self) -> GradientLaw:
        """Mean and spread."""
        mean = torch.einsum("k,kpv->pv", self.weights, self.gradients)
        variance = float(self.weights @ (self.gradients - mean).square().sum((1, 2))) / self.groups
        return GradientLaw(mean, torch.zeros_like(mean), variance, len(self.weights), listed=True)


def gradients_of_groups(estimator: Estimator, language: ListedLanguage) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradient of every batch of one group, (K, P, V), and the chance of each, (K,).

    Args:
        estimator: The loss.
        language: What batches are made of; the policy itself samples.
    """
    chances = summed_log_probs(language, language.theta)
    groups, times = multisets(len(chances), language.shape.group_size)
    weights = times * chances[groups].sum(1).exp()
    return one_by_one(estimator, language, groups, language.theta, AS_TRAINED), weights


def listed_gradients(
    estimator: Estimator, language: ListedLanguage, sampler: torch.Tensor, trial: BatchMaking, kind: LossKind
) -> ListedGradients:
    """Return the gradient of every batch that can be drawn.

    Args:
        estimator: The loss.
        language: With the policy whose gradient is taken.
        sampler: (P, V), logits of the policy that sampled.
        trial: How batches are made.
        kind: What `kind_of_loss` found.
    """
    chances, shape = summed_log_probs(language, sampler), language.shape
    groups, times = (multisets if kind.symmetric else ordered)(len(chances), shape.group_size)
    if kind.mean_over_groups:
        found = all_at_once(estimator, language, groups, sampler, trial)
        return ListedGradients(groups, times * chances[groups].sum(1).exp(), found, shape.groups)
    batches, orders = batches_of(groups, times, shape.groups)
    found = one_by_one(estimator, language, batches, sampler, trial)
    return ListedGradients(batches, orders * chances[batches].sum(1).exp(), found, 1)


def expected_gradient(
    estimator: Estimator,
    language: ListedLanguage,
    *,
    sampler: torch.Tensor | None = None,
    trial: BatchMaking = AS_TRAINED,
    kind: LossKind | None = None,
) -> GradientLaw:
    """Return the law of an estimator's gradient in theta.

    Args:
        estimator: The loss.
        language: With the policy whose gradient is taken; its ``draws`` says whether batches are listed or drawn.
        sampler: (P, V), logits of the policy that sampled; by default the same.
        trial: How batches are made.
        kind: What `kind_of_loss` found; by default it is found here.
    """
    behind = language.theta if sampler is None else sampler
    kind = kind or kind_of_loss(estimator, language, behind, trial)
    if language.shape.draws:
        return drawn_law(estimator, language, behind, trial, kind)
    return listed_gradients(estimator, language, behind, trial, kind).law


def change_by_making(
    estimator: Estimator, language: ListedLanguage, found: ListedGradients, trial: BatchMaking, kind: LossKind
) -> float:
    """Return by how much the expected gradient changes, at most, if batches are made otherwise.

    Only batches that the trial makes otherwise are computed again: those that have columns to pad, or completions
    that were truncated.

    Args:
        estimator: The loss.
        language: The policy itself samples.
        found: The gradients of batches as trained.
        trial: The other making.
        kind: Of the loss on batches that are made so.
    """
    narrow = language.mask.sum(1)[found.batches].amax(1) < language.shape.longest
    cut = (~language.ended)[found.batches].any(1)
    touched = narrow if not trial.trimmed else cut
    if not bool(touched.any()):
        return 0.0
    gradients = all_at_once if kind.mean_over_groups else one_by_one
    other = gradients(estimator, language, found.batches[touched], language.theta, trial)
    change = torch.einsum("k,kpv->pv", found.weights[touched], other - found.gradients[touched])
    return float(change.abs().max())
