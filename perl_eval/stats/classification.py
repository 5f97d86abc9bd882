"""How well a reward model tells good from bad: on pairs, and on single labels."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval import figure_names as named
from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import Clusters, Resampling, select
from perl_eval.stats.calibration import Reliability, calibration_error, reliability_curve
from perl_eval.stats.intervals import count, mean, proportion, undefined
from perl_eval.stats.ranking_quality import ONE_CLASS, area_under_curve, average_precision

__all__ = [
    "Reliability",
    "Ties",
    "balanced_accuracy",
    "calibration_error",
    "label_quality",
    "pair_accuracy",
    "probabilities_of",
    "reliability_curve",
    "within_context_accuracy",
]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Scale = Literal["logit", "probability"]


Ties = Literal["half", "wrong"]
"""What a pair of equal rewards counts: half a hit, or, as RewardBench counts, none."""


def pair_accuracy(
    margins: ArrayLike, *, clusters: Clusters = None, n_missing: int = 0, level: float = 0.95, ties: Ties = "half"
) -> list[Estimate]:
    """Estimate how often the chosen answer of a pair has the higher reward.

    Args:
        margins: ``r_chosen - r_rejected`` of each pair, shape (n,).
        clusters: What shares a source, one a pair.
        n_missing: Pairs without a reward.
        level: Confidence level.
        ties: Whether equal rewards count half, or wrong; the method says so.

    Returns:
        ``pair accuracy`` and the number of ``pair ties``.
    """
    data = np.asarray(margins, np.float64)
    scores = (data > 0) + (data == 0) * (0.5 if ties == "half" else 0.0)
    equal = int(np.count_nonzero(data == 0))
    unit = (0.0, 1.0)
    accuracy = mean(named.PAIR_ACCURACY, scores, clusters=clusters, n_missing=n_missing, bounds=unit, level=level)
    if not equal or ties == "wrong":
        hits = data > 0
        accuracy = proportion(named.PAIR_ACCURACY, hits, clusters=clusters, n_missing=n_missing, level=level)
    if equal:
        accuracy = replace(accuracy, method=f"{accuracy.method}; ties {ties}")
    return [accuracy, count(named.PAIR_TIES, equal, n=len(data), n_missing=n_missing)]


def within_context_accuracy(
    scores: ArrayLike,
    labels: ArrayLike,
    contexts: Sequence[Hashable],
    *,
    clusters: Clusters = None,
    level: float = 0.95,
) -> Estimate:
    """Estimate how often, of two answers to the very same context, the one liked scores above the one disliked.

    AUC over all items also rewards a model that only tells contexts apart; this does not. Equal scores count half.

    Args:
        scores: Shape (n,), on any scale.
        labels: Whether the label is yes, shape (n,).
        contexts: What each item answers, shape (n,).
        clusters: What shares a source, one an item; by default the context.
        level: Confidence level.

    Returns:
        ``within-context pair accuracy`` over all pairs of a yes and a no of one context.
    """
    data, truth = np.asarray(scores, np.float64), np.asarray(labels, bool)
    sides: dict[Hashable, tuple[list[int], list[int]]] = {}
    for place, context in enumerate(contexts):
        sides.setdefault(context, ([], []))[int(truth[place])].append(place)
    pairs = [pair for disliked, liked in sides.values() for pair in product(disliked, liked)]
    name = named.WITHIN_CONTEXT_PAIR_ACCURACY
    if not pairs:
        return undefined(name, "no context has answers of both labels")
    low, high = np.array(pairs).T
    margins = data[high] - data[low]
    owners = list(contexts if clusters is None else clusters)
    groups = [owners[place] for place in low]
    return mean(name, (margins > 0) + (margins == 0) / 2, clusters=groups, bounds=(0.0, 1.0), level=level)


def probabilities_of(scores: ArrayLike, scale: Scale) -> FloatArray:
    """Return scores as probabilities of the positive label; a logit goes through the logistic function.

    Raises:
        ValueError: A probability is outside [0, 1], or a score is not finite.
    """
    data = np.asarray(scores, np.float64)
    if not np.isfinite(data).all():
        raise ValueError("a score is not finite")
    if scale == "logit":
        from scipy.special import expit

        return np.asarray(expit(data), np.float64)
    if ((data < 0) | (data > 1)).any():
        raise ValueError("a probability is outside [0, 1]; are the scores logits?")
    return data


def label_quality(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    clusters: Clusters = None,
    scale: Scale = "logit",
    resampling: Resampling | None = None,
) -> list[Estimate]:
    """Estimate how well scores predict yes-or-no labels.

    Args:
        scores: Logits or probabilities of yes, shape (n,).
        labels: Whether the label is yes, shape (n,).
        clusters: What shares a source, one an item.
        scale: What the scores are. Yes is predicted above a probability of one half.
        resampling: Draws, seed, level and kind, for figures without a closed form.

    Returns:
        Accuracy (and that of always guessing the commoner label), balanced accuracy, AUC, average precision,
        calibration error and Brier score.
    """
    how = resampling or Resampling()
    truth = np.asarray(labels, bool)
    chances = probabilities_of(scores, scale)
    if len(truth) != len(chances):
        raise ValueError(f"{len(chances)} scores and {len(truth)} labels")
    guesses = chances > 0.5
    majority = truth if 2 * np.count_nonzero(truth) >= len(truth) else ~truth
    return [
        proportion(named.ACCURACY, guesses == truth, clusters=clusters, level=how.level),
        proportion(named.MAJORITY_SHARE, majority, clusters=clusters, level=how.level),
        balanced_accuracy(chances - 0.5, truth, clusters=clusters, resampling=how),
        area_under_curve(scores, truth, clusters=clusters, resampling=how),
        average_precision(scores, truth, clusters=clusters, resampling=how),
        calibration_error(chances, truth, clusters=clusters, resampling=how),
        mean(named.BRIER_SCORE, (chances - truth) ** 2, clusters=clusters, bounds=(0.0, 1.0), level=how.level),
    ]


def balanced_accuracy(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    name: str = named.BALANCED_ACCURACY,
    clusters: Clusters = None,
    resampling: Resampling | None = None,
) -> Estimate:
    """Estimate the mean of the shares of yes and of no that are found.

    The interval is made of Wilson's of the two shares, each clustered where clusters repeat: with l and u their bounds,
    ``b - sqrt(((p - l_p)^2 + (q - l_q)^2)) / 2`` to ``b + sqrt((u_p - p)^2 + (u_q - q)^2) / 2`` (MOVER).

    Args:
        scores: Shape (n,); yes is predicted above 0.
        labels: Whether the label is yes, shape (n,).
        name: Name of the figure.
        clusters: What shares a source, one an item.
        resampling: Its level.

    Source: Zou and Donner, Statistics in Medicine 27 (2008), 1693-1702.
    """
    level = (resampling or Resampling()).level
    guesses, truth = np.asarray(scores, np.float64) > 0, np.asarray(labels, bool)
    n, method = len(truth), "MOVER of two Wilson intervals"
    if n == 0:
        return undefined(name, "there are no items", method=method)
    if truth.all() or not truth.any():
        return undefined(name, ONE_CLASS, n=n, method=method)
    found, right = (
        proportion("share", (guesses == kind)[truth == kind], clusters=select(clusters, truth == kind), level=level)
        for kind in (True, False)
    )
    value = (_value(found) + _value(right)) / 2
    if found.low is None or found.high is None or right.low is None or right.high is None:
        reason = "one kind of label is of one group only; it has no interval"
        return Estimate(name, value, None, None, n, 0, method, level, reason=reason)
    down = np.hypot(_value(found) - found.low, _value(right) - right.low) / 2
    up = np.hypot(found.high - _value(found), right.high - _value(right)) / 2
    return Estimate(name, value, max(0.0, value - float(down)), min(1.0, value + float(up)), n, 0, method, level)


def _value(estimate: Estimate) -> float:
    """Return the value of a figure that has one."""
    assert estimate.value is not None
    return estimate.value
