"""Samples drawn with unequal probabilities: how to draw them, and estimates that stay true to the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import Clusters, cluster_sums
from perl_eval.stats.correction import PSEUDO, SMALL_CLASS, LabelledClusters
from perl_eval.stats.intervals import undefined, wilson

__all__ = ["WeightedSample", "draw", "inclusion_probabilities", "weighted_mean", "weighted_prediction_powered_mean"]

FloatArray = NDArray[np.float64]


def inclusion_probabilities(sizes: ArrayLike, n: int) -> FloatArray:
    """Return probabilities proportional to size, none above 1, that sum to the number of items to draw.

    Items whose share would be above 1 are taken for certain, and the rest of n is shared out among the others.

    Args:
        sizes: Size of each item, shape (N,); above 0.
        n: Items to draw, in [1, N].

    Raises:
        ValueError: A size is not above 0, or n is out of range.

    Source: Särndal, Swensson and Wretman, Model Assisted Survey Sampling (1992), section 3.6.1.
    """
    size = np.asarray(sizes, np.float64)
    if not np.isfinite(size).all() or (size <= 0).any():
        raise ValueError("every size must be a number above 0")
    if not 1 <= n <= len(size):
        raise ValueError(f"cannot draw {n} of {len(size)}")
    certain = np.zeros(len(size), bool)
    while True:
        open_share = size / size[~certain].sum() * (n - certain.sum()) if not certain.all() else size
        found = np.where(certain, 1.0, open_share)
        above = ~certain & (found >= 1.0)
        if not above.any():
            return found
        certain |= above


def draw(probabilities: ArrayLike, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw items with exactly the given inclusion probabilities: systematic sampling.

    The items stand on a line, each as long as its probability, the likelier ones after the others and equal ones in
    random order; those at u, u + 1, u + 2 ... with u uniform in [0, 1) are drawn. If the probabilities sum to n,
    exactly n are, and of items of any probability nearly as many as expected.

    Args:
        probabilities: Shape (N,), in (0, 1].
        rng: Generator of the order of equal items, and of the start.

    Returns:
        Places of the drawn items, ascending.

    Source: Madow, Annals of Mathematical Statistics 20 (1949), 333-354.
    """
    share = np.asarray(probabilities, np.float64)
    order = np.lexsort((rng.random(len(share)), share))
    ends = np.cumsum(share[order])
    ends[-1] = round(float(ends[-1]), 9)  # rounding must not lose the last item where the sum is whole
    reached = np.ceil(ends - rng.random()).clip(0)  # marks that lie before the end of each item
    return np.sort(order[np.diff(reached, prepend=0.0) > 0])


@dataclass(frozen=True, slots=True)
class WeightedSample:
    """All items with the judge's score, and a part of them with a trusted score too; scores are in [0, 1].

    Attributes:
        judged: The judge's score of each item, shape (N,).
        places: Which items are labelled, shape (n,).
        truth: Their trusted scores, shape (n,).
        weights: The inverse of the probability with which each of them was drawn, up to a common factor, shape (n,).
        clusters: What shares a source, for each of the N items; None if items are independent.
    """

    judged: Sequence[float]
    places: Sequence[int]
    truth: Sequence[float]
    weights: Sequence[float]
    clusters: Clusters = None

    def __post_init__(self) -> None:
        if not len(self.places) == len(self.truth) == len(self.weights):
            raise ValueError(f"{len(self.places)} places, {len(self.truth)} scores and {len(self.weights)} weights")
        if not all(np.isfinite(weight) and weight > 0 for weight in self.weights):
            raise ValueError("every weight must be a number above 0")
        if self.clusters is not None and len(self.clusters) != len(self.judged):
            raise ValueError("clusters are of all items")


def weighted_prediction_powered_mean(name: str, sample: WeightedSample, *, level: float = 0.95) -> Estimate:
    """Estimate the trusted mean score of all items from labels of items drawn with unequal probabilities.

    ``lam mean(f) + sum_i w_i (y_i - lam f_i) / sum_i w_i`` over all items and over the labelled ones: the difference
    estimator with Hájek's ratio, so that weights need a common factor only. The judge's scores enter with
    ``lam = -sum_c a_c b_c / sum_c b_c^2`` in [0, 1], which makes the variance least, where ``a_c + lam b_c`` is the
    influence of cluster c: the sum over its items of ``w_i (y_i - y_mean) / W`` where labelled, plus lam times
    ``(f_i - f_mean) / N`` less ``w_i (f_i - f_mean_w) / W`` where labelled. The variance is
    ``g (sum_c (a_c + lam b_c)^2 + 2 d / (n + 2)^2)``, n the effective number of labels, for the two pseudo-residuals
    that PPI++ has here too, d their design effect; g and the degrees of freedom of the t interval are those of
    `LabelledClusters`, with C clusters of one size ``C / (C - 1)`` and ``C - 1``. With equal weights this is PPI++.
    Where y takes two values and one of them fewer than 5 times, it is the labelled items' own weighted rate with
    Wilson's interval at Kish's effective number of them, over their design effect where they share clusters.

    Args:
        name: Name of the figure.
        sample: Scores and weights.
        level: Confidence level.

    Source: Särndal, Swensson and Wretman (1992), sections 5.7 and 6.4; Angelopoulos, Duchi and Zrnic, arXiv 2311.01453.
    """
    judged, truth = np.asarray(sample.judged, np.float64), np.asarray(sample.truth, np.float64)
    share = np.asarray(sample.weights, np.float64)
    places = np.asarray(sample.places, np.intp)
    n = len(truth)
    if n < 2:
        return undefined(name, "fewer than two items are labelled", n=n, method="weighted PPI++")
    share = share / share.sum()
    if np.isin(truth, (0.0, 1.0)).all() and min(truth.sum(), n - truth.sum()) < SMALL_CLASS:
        return _rare(name, sample, share, level)
    of_truth, of_judge = np.zeros(len(judged)), (judged - judged.mean()) / len(judged)
    np.add.at(of_truth, places, share * (truth - share @ truth))
    np.add.at(of_judge, places, -share * (judged[places] - share @ judged[places]))
    sums = cluster_sums(np.stack([of_truth, of_judge], axis=1), sample.clusters)
    spread = float(sums[:, 1] @ sums[:, 1])
    lam = float(np.clip(-(sums[:, 0] @ sums[:, 1]) / spread, 0.0, 1.0)) if spread > 0 else 0.0
    value = float(lam * judged.mean() + share @ (truth - lam * judged[places]))
    method = f"weighted PPI++, {n} labelled, weight {lam:.2f}"
    influence = sums[:, 0] + lam * sums[:, 1]
    shared = None if sample.clusters is None else [sample.clusters[place] for place in places.tolist()]
    labelled = LabelledClusters.of(truth - lam * judged[places], truth != judged[places], shared, share=share)
    return _with_interval(name, value, influence, len(judged), (labelled, share), (method, level))


def _rare(name: str, sample: WeightedSample, share: FloatArray, level: float) -> Estimate:
    truth = np.asarray(sample.truth, np.float64)
    clusters = None if sample.clusters is None else [sample.clusters[place] for place in sample.places]
    value, rarer = min(1.0, float(share @ truth)), truth == float(truth.mean() < 0.5)
    labelled = LabelledClusters.of(truth, rarer, clusters, share=share)
    effective = 1.0 / float(share @ share) / labelled.effect
    critical = NormalDist().inv_cdf((1 + level) / 2)
    if labelled.number < len(truth):
        from scipy.special import stdtrit

        critical = float(stdtrit(labelled.degrees, (1 + level) / 2))
    low, high = wilson(value * effective, effective, critical)
    method = f"weighted rate, Wilson at {effective:.0f} effective"
    return Estimate(name, value, low, high, len(share), 0, method, level)


def weighted_mean(
    name: str, values: Sequence[float], weights: Sequence[float], *, clusters: Clusters = None, level: float = 0.95
) -> Estimate:
    """Estimate the mean over all items from some drawn with unequal probabilities: ``sum w y / sum w``.

    Args:
        name: Name of the figure.
        values: In [0, 1].
        weights: The inverse of each item's probability of being drawn, up to a common factor.
        clusters: What shares a source; None if items are independent.
        level: Confidence level.

    Source: Hájek, in Foundations of Statistical Inference (1971), 236.
    """
    scores, share = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    n, method = len(scores), "Hájek mean"
    if n < 2:
        return undefined(name, "fewer than two items are labelled", n=n, method=method)
    share = share / share.sum()
    value = float(share @ scores)
    sums = cluster_sums((share * (scores - value))[:, None], clusters)[:, 0]
    kinds, counts = np.unique(scores, return_counts=True)
    labelled = LabelledClusters.of(scores, scores != kinds[counts.argmax()], clusters, share=share)
    return _with_interval(name, value, sums, n, (labelled, share), (method, level))


def _with_interval(
    name: str,
    value: float,
    influence: FloatArray,
    n: int,
    labels: tuple[LabelledClusters, FloatArray],
    made: tuple[str, float],
) -> Estimate:
    """Return a figure with the t interval of its influences by cluster.

    Args:
        name: Name of the figure.
        value: The figure.
        influence: Influence of each cluster.
        n: Items.
        labels: What the labelled items' clusters do to it, and each label's share of the weight.
        made: How it was made, and the confidence level.
    """
    (labelled, share), (method, level) = labels, made
    if labelled.number < 2:
        return Estimate(name, value, None, None, n, 0, method, level, reason="one group is labelled")
    from scipy.special import stdtrit

    variance = labelled.growth * (
        float(influence @ influence) + labelled.effect * PSEUDO / (1 / float(share @ share) + 2) ** 2
    )
    half = float(stdtrit(labelled.degrees, (1 + level) / 2) * np.sqrt(variance))
    return Estimate(name, value, max(0.0, value - half), min(1.0, value + half), n, 0, method, level)
