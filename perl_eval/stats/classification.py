"""How well a reward model tells good from bad: on pairs, and on single labels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval import figure_names as named
from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import Clusters, Resampling, cluster_sums, spread_of, weights
from perl_eval.stats.calibration import Reliability, calibration_error, reliability_curve
from perl_eval.stats.intervals import count, mean, proportion, resampled, undefined

__all__ = [
    "Reliability",
    "area_under_curve",
    "average_precision",
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
_MOST_LEFT_OUT, _BLOCKS = 2000, 200
"""Clusters that the jackknife leaves out one by one, at most; more are left out in so many blocks."""
_CELLS = 4_000_000
"""Cells of the largest table of weights."""
_ONE_CLASS = "all labels are the same"


def pair_accuracy(
    margins: ArrayLike, *, clusters: Clusters = None, n_missing: int = 0, level: float = 0.95
) -> list[Estimate]:
    """Estimate how often the chosen answer of a pair has the higher reward; equal rewards count half.

    Args:
        margins: ``r_chosen - r_rejected`` of each pair, shape (n,).
        clusters: What shares a source, one a pair.
        n_missing: Pairs without a reward.
        level: Confidence level.

    Returns:
        ``pair accuracy`` and the number of ``pair ties``.
    """
    data = np.asarray(margins, np.float64)
    scores = (data > 0) + (data == 0) / 2
    ties = int(np.count_nonzero(data == 0))
    unit = (0.0, 1.0)
    accuracy = mean(named.PAIR_ACCURACY, scores, clusters=clusters, n_missing=n_missing, bounds=unit, level=level)
    if not ties:
        hits = data > 0
        accuracy = proportion(named.PAIR_ACCURACY, hits, clusters=clusters, n_missing=n_missing, level=level)
    return [accuracy, count(named.PAIR_TIES, ties, n=len(data), n_missing=n_missing)]


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

    Args:
        scores: Shape (n,); yes is predicted above 0.
        labels: Whether the label is yes, shape (n,).
        name: Name of the figure.
        clusters: What shares a source, one an item.
        resampling: Draws, seed, level and kind.
    """
    guesses, truth = np.asarray(scores, np.float64) > 0, np.asarray(labels, bool)
    rows = np.stack([guesses & truth, truth, ~guesses & ~truth, ~truth], axis=1).astype(np.float64)

    def ratio(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
        true_yes, yes, true_no, no = sums.T
        return true_yes * no + true_no * yes, 2 * yes * no

    how = resampling or Resampling()
    found = resampled(name, cluster_sums(rows, clusters), ratio, n=len(truth), resampling=how)
    return replace(found, reason=_ONE_CLASS) if found.value is None and len(truth) else found


def area_under_curve(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    name: str = named.AUC,
    clusters: Clusters = None,
    resampling: Resampling | None = None,
) -> Estimate:
    """Estimate the area under the ROC curve: the chance that a yes scores above a no, equal scores counted half.

    Args:
        scores: Shape (n,), on any scale.
        labels: Whether the label is yes, shape (n,).
        name: Name of the figure.
        clusters: What shares a source, one an item.
        resampling: Draws, seed and level; the interval is by percentile.
    """

    def ratio(yes: FloatArray, no: FloatArray) -> tuple[FloatArray, FloatArray]:
        above = np.cumsum(yes, axis=1) - yes / 2
        return (no * above).sum(axis=1), yes.sum(axis=1) * no.sum(axis=1)

    return _ranked(name, _Ranking.of(scores, labels, clusters), ratio, resampling or Resampling())


def average_precision(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    name: str = named.AVERAGE_PRECISION,
    clusters: Clusters = None,
    resampling: Resampling | None = None,
) -> Estimate:
    """Estimate average precision, ``sum_t (recall_t - recall_(t-1)) precision_t`` over distinct scores, highest first.

    Args:
        scores: Shape (n,), on any scale.
        labels: Whether the label is yes, shape (n,).
        name: Name of the figure.
        clusters: What shares a source, one an item.
        resampling: Level; the interval is t on the logit scale, with the error of the jackknife over clusters (over
            200 random blocks of them, by the seed, where they are over 2,000): draws with repeated scores vary too
            little.
    """
    how = resampling or Resampling()

    def ratio(yes: FloatArray, no: FloatArray) -> tuple[FloatArray, FloatArray]:
        found = np.cumsum(yes, axis=1)
        precision = found / np.maximum(found + np.cumsum(no, axis=1), 1)
        both = (no.sum(axis=1) > 0).astype(np.float64)
        return (yes * precision).sum(axis=1), yes.sum(axis=1) * both

    ranking = _Ranking.of(scores, labels, clusters)
    n, number, method = len(ranking.truth), ranking.clusters, "jackknife on logit scale"
    if n == 0:
        return undefined(name, "there are no items", method=method)
    top, bottom = ratio(*ranking.split(np.ones((1, number))))
    if bottom[0] == 0:
        return undefined(name, _ONE_CLASS, n=n, method=method)
    estimate = Estimate(name, float(top[0] / bottom[0]), None, None, n, 0, f"{method}, {number} left out", how.level)
    many = number > _MOST_LEFT_OUT
    blocks = np.random.default_rng(how.seed).permutation(number) % _BLOCKS if many else np.arange(number)
    left: list[float] = []
    for out in np.array_split(np.arange(_BLOCKS if many else number), max(1, number * min(number, _BLOCKS) // _CELLS)):
        top, bottom = ratio(*ranking.split((blocks[None, :] != out[:, None]).astype(np.float64)))
        if (bottom == 0).any():
            return replace(estimate, reason="without one group all labels are the same; it has no interval")
        left += (top / bottom).tolist()
    return _on_logit_scale(estimate, np.array(left))


@dataclass(frozen=True, slots=True)
class _Ranking:
    """Items from the highest score down.

    Attributes:
        truth: Whether the label is yes, shape (n,).
        cluster: Cluster of each item, shape (n,), numbered so that the order of the rows given does not matter.
        starts: Where each run of equal scores begins, shape (distinct scores,).
        clusters: Number of clusters.
    """

    truth: BoolArray
    cluster: NDArray[np.intp]
    starts: NDArray[np.intp]
    clusters: int

    @classmethod
    def of(cls, scores: ArrayLike, labels: ArrayLike, clusters: Clusters) -> _Ranking:
        data, truth = np.asarray(scores, np.float64), np.asarray(labels, bool)
        order = np.lexsort((truth, -data))
        if clusters is None:
            codes, number = np.arange(len(data)), len(data)
        else:
            names = [str(name) for name in clusters]
            ranks = {name: rank for rank, name in enumerate(sorted(set(names)))}
            codes, number = np.array([ranks[names[i]] for i in order], np.intp), len(ranks)
        starts = np.flatnonzero(np.diff(data[order], prepend=np.inf)) if len(data) else np.zeros(0, np.intp)
        return cls(truth[order], codes, starts, number)

    def split(self, taken: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the weight of yes and of no at each distinct score, shape (draws, distinct scores) each."""
        items = taken[:, self.cluster]
        yes = np.add.reduceat(items * self.truth, self.starts, axis=1)
        return yes, np.add.reduceat(items, self.starts, axis=1) - yes


def _ranked(
    name: str,
    ranking: _Ranking,
    ratio: Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]],
    how: Resampling,
) -> Estimate:
    """Bootstrap a figure that depends on the order of the scores."""
    n, number = len(ranking.truth), ranking.clusters
    method = f"percentile bootstrap, {how.draws} draws of {number}"
    if n == 0:
        return undefined(name, "there are no items", method=method)
    top, bottom = ratio(*ranking.split(np.ones((1, number))))
    if bottom[0] == 0:
        return undefined(name, _ONE_CLASS, n=n, method=method)
    value = float(top[0] / bottom[0])
    if number == 1:
        return Estimate(name, value, None, None, n, 0, method, how.level, reason="one group only; it has no interval")
    drawn = []
    for taken in weights(np.ones(number, np.int64), how):
        top, bottom = ratio(*ranking.split(taken))
        drawn.append(top[bottom != 0] / bottom[bottom != 0])
    spread = spread_of(value, np.concatenate(drawn), replace(how, kind="percentile"), clusters=number)
    return Estimate(name, value, spread.low, spread.high, n, 0, method, how.level, reason=spread.reason)


def _on_logit_scale(estimate: Estimate, left: FloatArray) -> Estimate:
    """Give a share a t interval on the logit scale, from its values with one block of clusters left out each."""
    value, number = float(estimate.value or 0.0), len(left)
    if number < 2 or not 0 < value < 1:
        return replace(estimate, reason="one group only, or every yes is above every no; it has no interval")
    from scipy.special import expit, logit, stdtrit

    error = float(np.sqrt((number - 1) / number * np.sum((left - left.mean()) ** 2)))
    half = float(stdtrit(number - 1, (1 + estimate.level) / 2)) * error / (value * (1 - value))
    return replace(estimate, low=float(expit(logit(value) - half)), high=float(expit(logit(value) + half)))
