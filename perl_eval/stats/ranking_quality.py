"""How well scores rank yes above no: the area under the ROC curve, and average precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval import figure_names as named
from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import Clusters, Resampling
from perl_eval.stats.intervals import undefined

__all__ = ["ONE_CLASS", "area_under_curve", "average_precision"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
ONE_CLASS = "all labels are the same"
"""Why figures of two kinds of label have no value."""
_MOST_LEFT_OUT, _BLOCKS = 2000, 200
"""Clusters that the jackknife leaves out one by one, at most; more are left out in so many blocks."""
_CELLS = 4_000_000
"""Cells of the largest table of weights."""
_Sums = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]
"""Weights of yes and of no at each score to numerator and denominator."""


def area_under_curve(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    name: str = named.AUC,
    clusters: Clusters = None,
    resampling: Resampling | None = None,
) -> Estimate:
    """Estimate the area under the ROC curve: the chance that a yes scores above a no, equal scores counted half.

    The interval holds all areas t that the data do not refuse, ``|a - t| <= z SE(t)``, with
    ``SE(t)^2 = t (1 - t) (1 + m ((1 - t) / (2 - t) + t / (1 + t))) / (n_yes n_no)`` and ``m = (n_yes + n_no) / 2 - 1``
    (Newcombe's method 5); so it has a width where every yes is above every no. Where clusters repeat, the numbers of
    yes and no are divided by the design effect, the jackknife's variance over clusters over that above, from 1 to a
    cluster, and z is a quantile of t. Of few clusters that make the area smaller the jackknife sees too little: one
    more counts whose items are all alike, so that the effect is a whole cluster where every yes is above every no.

    Args:
        scores: Shape (n,), on any scale.
        labels: Whether the label is yes, shape (n,).
        name: Name of the figure.
        clusters: What shares a source, one an item.
        resampling: Its level, and the seed of the jackknife's blocks.

    Source: Newcombe, Statistics in Medicine 25 (2006), 559-573; Hanley and McNeil, Radiology 143 (1982), 29-36.
    """
    how = resampling or Resampling()

    def ratio(yes: FloatArray, no: FloatArray) -> tuple[FloatArray, FloatArray]:
        above = np.cumsum(yes, axis=1) - yes / 2
        return (no * above).sum(axis=1), yes.sum(axis=1) * no.sum(axis=1)

    ranking, method = _Ranking.of(scores, labels, clusters), "Newcombe's method 5"
    n, positives = len(ranking.truth), int(ranking.truth.sum())
    if n == 0:
        return undefined(name, "there are no items", method=method)
    if positives in (0, n):
        return undefined(name, ONE_CLASS, n=n, method=method)
    top, bottom = ratio(*ranking.split(np.ones((1, ranking.clusters))))
    value = float(top[0] / bottom[0])
    low, high = _newcombe(value, (positives, n - positives), NormalDist().inv_cdf((1 + how.level) / 2))
    estimate = Estimate(name, value, low, high, n, 0, method, how.level)
    return estimate if ranking.clusters == n else _over_clusters(estimate, ranking, ratio, how)


def _newcombe_variance(area: float, numbers: tuple[float, float]) -> float:
    """Return the variance of an area, by how many are yes and no."""
    more = sum(numbers) / 2 - 1
    spread = 1 + more * ((1 - area) / (2 - area) + area / (1 + area))
    return area * (1 - area) * spread / (numbers[0] * numbers[1])


def _newcombe(value: float, numbers: tuple[float, float], critical: float) -> tuple[float, float]:
    """Return the areas at which the data are just not refused."""
    from scipy.optimize import brentq

    def excess(area: float) -> float:
        return (value - area) ** 2 - critical**2 * _newcombe_variance(area, numbers)

    edge = 1e-9
    middle = min(max(value, 2 * edge), 1 - 2 * edge)  # at 0 and 1 themselves nothing is refused
    low = float(brentq(excess, edge, middle)) if value > 0 and excess(edge) > 0 > excess(middle) else 0.0
    high = float(brentq(excess, middle, 1 - edge)) if value < 1 and excess(1 - edge) > 0 > excess(middle) else 1.0
    return low, high


def _over_clusters(estimate: Estimate, ranking: _Ranking, ratio: _Sums, how: Resampling) -> Estimate:
    """Give an area of clustered items the interval of as many yes and no as they are worth."""
    if ranking.clusters < 2:
        return replace(estimate, low=None, high=None, reason="one group only; it has no interval")
    from scipy.special import stdtrit

    assert estimate.value is not None
    value, n, positives = estimate.value, len(ranking.truth), int(ranking.truth.sum())
    sizes = np.bincount(ranking.cluster, minlength=ranking.clusters)
    worth = n * n / float(sizes @ sizes)
    alone, effect = _newcombe_variance(value, (positives, n - positives)), n / worth
    left = _left_out(ranking, ratio, how)
    if left is not None and alone > 0:
        together = (len(left) - 1) / len(left) * float(((left - left.mean()) ** 2).sum())
        lower = int(np.count_nonzero(left > value + 1e-12))  # clusters without which the area is larger
        effect = (lower * float(np.clip(together / alone, 1.0, effect)) + effect) / (lower + 1)
    critical = float(stdtrit(max(1.0, worth - 1), (1 + estimate.level) / 2))
    low, high = _newcombe(value, (positives / effect, (n - positives) / effect), critical)
    method = f"{estimate.method} at the effective size, {ranking.clusters} clusters"
    return replace(estimate, low=low, high=high, method=method)


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
        return undefined(name, ONE_CLASS, n=n, method=method)
    estimate = Estimate(name, float(top[0] / bottom[0]), None, None, n, 0, f"{method}, {number} left out", how.level)
    left = _left_out(ranking, ratio, how)
    if left is None:
        return replace(estimate, reason="without one group all labels are the same; it has no interval")
    return _on_logit_scale(estimate, left)


def _left_out(ranking: _Ranking, ratio: _Sums, how: Resampling) -> FloatArray | None:
    """Return a figure without each cluster, or block of clusters; None where one of these is undefined."""
    number = ranking.clusters
    many = number > _MOST_LEFT_OUT
    blocks = np.random.default_rng(how.seed).permutation(number) % _BLOCKS if many else np.arange(number)
    left: list[float] = []
    for out in np.array_split(np.arange(_BLOCKS if many else number), max(1, number * min(number, _BLOCKS) // _CELLS)):
        top, bottom = ratio(*ranking.split((blocks[None, :] != out[:, None]).astype(np.float64)))
        if (bottom == 0).any():
            return None
        left += (top / bottom).tolist()
    return np.array(left)


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


def _on_logit_scale(estimate: Estimate, left: FloatArray) -> Estimate:
    """Give a share a t interval on the logit scale, from its values with one block of clusters left out each."""
    value, number = float(estimate.value or 0.0), len(left)
    if number < 2 or not 0 < value < 1:
        return replace(estimate, reason="one group only, or every yes is above every no; it has no interval")
    from scipy.special import expit, logit, stdtrit

    error = float(np.sqrt((number - 1) / number * np.sum((left - left.mean()) ** 2)))
    half = float(stdtrit(number - 1, (1 + estimate.level) / 2)) * error / (value * (1 - value))
    return replace(estimate, low=float(expit(logit(value) - half)), high=float(expit(logit(value) + half)))
