"""How well a reward model's scores tell good answers from bad: the figures that `train reward` and `score` write."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from perl_eval import figure_names as named
from perl_eval.about import About
from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import Clusters, Resampling
from perl_eval.stats.classification import (
    Scale,
    Ties,
    label_quality,
    pair_accuracy,
    probabilities_of,
    reliability_curve,
    within_context_accuracy,
)
from perl_eval.stats.intervals import about, mean

__all__ = ["QualityOptions", "label_figures", "pair_figures"]


@dataclass(frozen=True, slots=True)
class QualityOptions:
    """How rewards are scored.

    Attributes:
        scale: What rewards are: ``logit`` or ``probability`` of a good answer.
        resampling: Draws, seed and level.
        ties: What a pair of equal rewards counts: ``half`` a hit, or ``wrong``, as RewardBench counts.
    """

    scale: Scale = "logit"
    resampling: Resampling = field(default_factory=Resampling)
    ties: Ties = "half"


def pair_figures(
    margins: ArrayLike,
    *,
    clusters: Clusters = None,
    n_missing: int = 0,
    options: QualityOptions | None = None,
) -> list[Estimate]:
    """Estimate how well the scores of two answers say which is preferred.

    Args:
        margins: Score of the preferred answer less that of the other, shape (n,).
        clusters: What shares a source, one a pair.
        n_missing: Pairs without a score.
        options: What the scores are, and the level. The chance of a preference is the logistic function of a margin of
            logits.

    Returns:
        Pair accuracy, the number of ties and, of logits, the Brier score of that chance.
    """
    how = options or QualityOptions()
    level = how.resampling.level
    found = pair_accuracy(margins, clusters=clusters, n_missing=n_missing, level=level, ties=how.ties)
    if how.scale == "logit":
        misses = probabilities_of(-np.asarray(margins, np.float64), "logit") ** 2
        unit = (0.0, 1.0)
        found.append(mean(named.BRIER_SCORE, misses, clusters=clusters, n_missing=n_missing, bounds=unit, level=level))
    return found


def label_figures(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    clusters: Clusters = None,
    contexts: Sequence[Hashable] | None = None,
    n_missing: int = 0,
    options: QualityOptions | None = None,
) -> list[Estimate]:
    """Estimate how well the scores of single answers predict yes-or-no labels.

    Args:
        scores: Shape (n,).
        labels: Whether the label is yes, shape (n,).
        clusters: What shares a source, one an answer.
        contexts: What each answers, shape (n,), where that is known.
        n_missing: Answers without a score.
        options: What the scores are; draws, seed and level.

    Returns:
        The figures of `perl_eval.stats.classification.label_quality`, the accuracy on pairs of one context where
        contexts are known, and the reliability curve, a figure a bin.

    Raises:
        ValueError: A score is not finite, or is not on its scale.
    """
    how = options or QualityOptions()
    level = how.resampling.level
    found = label_quality(scores, labels, clusters=clusters, scale=how.scale, resampling=how.resampling)
    if contexts is not None:
        found.append(within_context_accuracy(scores, labels, contexts, clusters=clusters, level=level))
    found = [replace(estimate, n_missing=n_missing) for estimate in found]
    chances = probabilities_of(scores, how.scale)
    for place, part in enumerate(reliability_curve(chances, labels, clusters=clusters, level=level)):
        where = About(bin=place, bin_low=part.low, bin_high=part.high, bin_mean=part.predicted)
        found += about([part.observed], where)
    return found
