"""What is measured of one estimator in one world: its bias on fresh and on old samples, and what moves it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from perl_eval.conformance.batch import Estimator
from perl_eval.conformance.batch_gradients import (
    AS_TRAINED,
    BatchMaking,
    GradientLaw,
    LossKind,
    kind_of_loss,
    one_by_one,
)
from perl_eval.conformance.drawn_gradient import half_width
from perl_eval.conformance.expected_gradient import (
    ListedGradients,
    change_by_making,
    expected_gradient,
    listed_gradients,
)
from perl_eval.conformance.listed_language import ListedLanguage, WorldShape, listed, summed_log_probs
from perl_eval.conformance.objective_list import exact_gradient

__all__ = ["UPDATES", "Bias", "WorldFindings", "compare", "measure"]

UPDATES = (1, 4, 16)
"""Updates after which old samples are learned from."""
_STEP = 0.1
"""What a step along the exact gradient is multiplied by, in logits per reward unit."""


@dataclass(frozen=True, slots=True)
class Bias:
    """An expected gradient beside the exact one.

    Attributes:
        largest: The largest difference of a coordinate, reward units per logit.
        half_width: Half the width of the interval of every coordinate at once, 95 %; 0 where all batches were listed.
        norm: Norm of the difference, that of its noise taken off.
        exact_norm: Norm of the exact gradient.
        scale: The positive number that brings the gradient nearest to the exact one; 0 where none does.
        left: What is left then, relative to the norm of the exact gradient, noise taken off.
        cosine: Of the two gradients.
        error: Standard error of ``left``; 0 where all batches were listed.
    """

    largest: float
    half_width: float
    norm: float
    exact_norm: float
    scale: float
    left: float
    cosine: float
    error: float


@dataclass(frozen=True, slots=True)
class WorldFindings:
    """What was found of one estimator in one world.

    Attributes:
        world: Name of the world.
        bias: On samples of the policy itself.
        variance: Of one batch's gradient, summed over coordinates.
        batches: Listed, or drawn.
        listed: Whether all batches were listed.
        mean_over_groups: Whether the loss is a mean over groups.
        after: Bias on samples of the policy before 1, 4 and 16 updates, by the number of updates; empty where it, and
            the two changes below, were not measured.
        padding: Largest change of the gradient where batches are padded to the token limit.
        missing_ends: Largest change where truncated completions are called ended.
        never_ended: The share of truncated completions.
    """

    world: str
    bias: Bias
    variance: float
    batches: int
    listed: bool
    mean_over_groups: bool
    after: dict[str, Bias]
    padding: float
    missing_ends: float
    never_ended: float


def compare(law: GradientLaw, exact: torch.Tensor) -> Bias:
    """Return how far an expected gradient is from the exact one.

    Args:
        law: Of the estimator, (P, V).
        exact: (P, V).
    """
    found, noise = law.mean, float(law.error.square().sum())
    gap = found - exact
    squared, size = float(found.square().sum()), float(exact.norm())
    inner = float((found * exact).sum())
    scale = max(0.0, inner / squared) if squared > 1e-18 else 0.0
    rest = float((scale * found - exact).square().sum()) - scale**2 * noise
    return Bias(
        largest=float(gap.abs().max()),
        half_width=half_width(law.error),
        norm=max(0.0, float(gap.square().sum()) - noise) ** 0.5,
        exact_norm=size,
        scale=scale,
        left=max(0.0, rest) ** 0.5 / max(size, 1e-12),
        cosine=inner / max(squared**0.5 * size, 1e-12) if squared > 1e-18 else 0.0,
        error=scale * noise**0.5 / max(size, 1e-12),
    )


def _moved(language: ListedLanguage, objective: str, updates: int) -> ListedLanguage:
    """Return the language after some updates along the exact gradient of an objective."""
    theta = language.theta
    for _ in range(updates):
        theta = theta + _STEP * exact_gradient(language, objective, theta)
    return language.at(theta)


def _on_old_samples(estimator: Estimator, language: ListedLanguage, kind: LossKind) -> dict[str, Bias]:
    """Return the bias on samples of the policy before some updates, by their number."""
    after = {}
    for updates in UPDATES:
        moved = _moved(language, estimator.objective, updates)
        old = expected_gradient(estimator, moved, sampler=language.theta, kind=kind)
        after[str(updates)] = compare(old, exact_gradient(moved, estimator.objective))
    return after


def _moves(
    estimator: Estimator, language: ListedLanguage, found: ListedGradients, kind: LossKind
) -> tuple[float, float]:
    """Return by how much padding, and truncated completions that are called ended, change the gradient."""
    untrimmed, all_ended = BatchMaking(trimmed=False), BatchMaking(all_ended=True)
    still = kind_of_loss(estimator, language, language.theta, untrimmed) if kind.mean_over_groups else kind
    padding = change_by_making(estimator, language, found, untrimmed, still)
    whole = torch.arange(len(language.tokens)).repeat(language.shape.group_size).unsqueeze(0)  # groups of unlike ones
    one, other = (one_by_one(estimator, language, whole, language.theta, trial) for trial in (AS_TRAINED, all_ended))
    if torch.equal(one, other):  # it does not look at ends
        return padding, 0.0
    return padding, change_by_making(estimator, language, found, all_ended, kind)


def measure(estimator: Estimator, shape: WorldShape) -> WorldFindings:
    """Measure one estimator in one world.

    Where batches are drawn or hold several groups, only the bias on fresh samples and the variance are measured.

    Args:
        estimator: The loss.
        shape: The world.
    """
    language = listed(shape)
    kind = kind_of_loss(estimator, language, language.theta)
    after: dict[str, Bias] = {}
    padding = missing = 0.0
    if shape.draws:
        law = expected_gradient(estimator, language, kind=kind)
    else:
        found = listed_gradients(estimator, language, language.theta, AS_TRAINED, kind)
        law = found.law
        if shape.groups == 1:
            after = _on_old_samples(estimator, language, kind)
            padding, missing = _moves(estimator, language, found, kind)
    chances = summed_log_probs(language, language.theta).exp()
    return WorldFindings(
        world=shape.name,
        bias=compare(law, exact_gradient(language, estimator.objective)),
        variance=law.variance,
        batches=law.batches,
        listed=law.listed,
        mean_over_groups=kind.mean_over_groups,
        after=after,
        padding=padding,
        missing_ends=missing,
        never_ended=float(chances[~language.ended].sum()),
    )
