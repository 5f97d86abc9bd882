"""Rates by an imperfect judge, corrected with a small random sample that people (or a better judge) labelled too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import Clusters, Resampling, cluster_codes, cluster_sums, merge, spread_of, weights
from perl_eval.stats.intervals import proportion, undefined

__all__ = ["Sample", "corrected_shares", "prediction_powered_mean", "rogan_gladen"]

FloatArray = NDArray[np.float64]
_SMALL_CLASS = 5
"""With fewer labels of a class than this, the corrected interval is not to be trusted."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A random part of the items with both scores, and the rest with the judge's only; scores are in [0, 1].

    Attributes:
        truth: The trusted score of each labelled item.
        judged: The judge's score of the same items.
        rest: The judge's score of each other item.
        clusters: What shares a source, of the labelled items and then the rest; None if items are independent.
    """

    truth: Sequence[float]
    judged: Sequence[float]
    rest: Sequence[float]
    clusters: Clusters = None

    def __post_init__(self) -> None:
        if len(self.truth) != len(self.judged):
            raise ValueError(f"{len(self.truth)} trusted scores and {len(self.judged)} of the judge")
        if self.clusters is not None and len(self.clusters) != len(self.truth) + len(self.rest):
            raise ValueError("clusters are of the labelled items and the rest")


def prediction_powered_mean(name: str, sample: Sample, *, level: float = 0.95) -> Estimate:
    """Estimate the trusted mean score of all items by prediction-powered inference with a tuned weight (PPI++).

    ``w mean_rest(f) + mean_labelled(y - w f)`` with ``w = Cov(y, f) / (Var(f) (1 + n / N))`` in [0, 1]; its variance is
    ``Var_labelled(y - w f) / n + w^2 Var_rest(f) / N``, clustered where clusters repeat, and the interval t with the
    number of labelled clusters less one degrees of freedom. Unbiased however wrong the judge is. Where y takes two
    values and one of them fewer than 5 times, or there is no rest, it is the labelled items' own rate with Wilson's
    interval.

    The same estimator serves a cascade: a cheap judge on all items, a strong one on a random part as the truth.

    Args:
        name: Name of the figure.
        sample: Scores; the labelled items must be a random part.
        level: Confidence level.

    Source: Angelopoulos, Duchi and Zrnic, arXiv 2311.01453.
    """
    truth, judged, rest = (np.asarray(part, np.float64) for part in (sample.truth, sample.judged, sample.rest))
    n, unlabelled = len(truth), len(rest)
    groups = None if sample.clusters is None else sample.clusters[:n]
    if n < 2:
        return undefined(name, "fewer than two items are labelled", n=n, method="PPI++")
    binary = bool(np.isin(truth, (0.0, 1.0)).all())
    if binary and min(truth.sum(), n - truth.sum()) < _SMALL_CLASS:
        return proportion(name, truth, clusters=groups, level=level)
    weight = _tuned_weight(truth, judged, rest)
    residual = truth - weight * judged
    value = float(residual.mean() + (weight * rest.mean() if unlabelled else 0.0))
    first, number = _variance(residual, groups)
    second, _ = _variance(weight * rest, None if sample.clusters is None else sample.clusters[n:])
    method = f"PPI++, {n} labelled, weight {weight:.2f}"
    if number < 2:
        return Estimate(name, value, None, None, n + unlabelled, 0, method, level, reason="one group is labelled")
    from scipy.special import stdtrit

    half = float(stdtrit(number - 1, (1 + level) / 2) * np.sqrt(first + second))
    return Estimate(name, value, max(0.0, value - half), min(1.0, value + half), n + unlabelled, 0, method, level)


def _tuned_weight(truth: FloatArray, judged: FloatArray, rest: FloatArray) -> float:
    """Return the weight of the judge's scores that makes the variance least, in [0, 1]; 0 without a rest."""
    spread = np.concatenate([judged, rest]).var(ddof=1)
    if len(rest) == 0 or spread == 0:
        return 0.0
    shared = np.cov(truth, judged)[0, 1]
    return float(np.clip(shared / (spread * (1 + len(truth) / len(rest))), 0.0, 1.0))


def _variance(values: FloatArray, clusters: Clusters) -> tuple[float, int]:
    """Return the variance of the mean of some values, and the number of clusters; 0 where there is nothing to vary."""
    if len(values) < 2:
        return 0.0, len(values)
    sums = cluster_sums((values - values.mean())[:, None], clusters)[:, 0]
    number = len(sums)
    return (float(number / (number - 1) * (sums @ sums)) / len(values) ** 2 if number > 1 else 0.0), number


def rogan_gladen(name: str, sample: Sample, *, level: float = 0.95) -> Estimate:
    """Estimate a rate by undoing the judge's errors: ``(q + specificity - 1) / (sensitivity + specificity - 1)``.

    q is the judge's rate on the rest, sensitivity and specificity are from the labelled items; the variance is by the
    delta method from all three, and cluster-robust, with a t quantile, where clusters repeat.

    Args:
        name: Name of the figure.
        sample: Scores that are all 0 or 1.
        level: Confidence level.

    Source: Rogan and Gladen, American Journal of Epidemiology 107 (1978), 71-76.
    """
    truth, judged, rest = (np.asarray(part, np.float64) for part in (sample.truth, sample.judged, sample.rest))
    if not all(np.isin(part, (0.0, 1.0)).all() for part in (truth, judged, rest)):
        raise ValueError("Rogan-Gladen is for scores of 0 or 1; use prediction_powered_mean")
    n, method = len(truth) + len(rest), f"Rogan-Gladen, {len(truth)} labelled"
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives or not len(rest):
        return undefined(name, "labels of both kinds and unlabelled items are needed", n=n, method=method)
    sensitivity, specificity = float(judged[truth == 1].mean()), float(1 - judged[truth == 0].mean())
    gain, q = sensitivity + specificity - 1, float(rest.mean())
    if gain <= 0:
        return undefined(name, "the judge is no better than chance", n=n, method=method)
    value = (q + specificity - 1) / gain
    variance = (
        q * (1 - q) / len(rest)
        + value**2 * sensitivity * (1 - sensitivity) / positives
        + (1 - value) ** 2 * specificity * (1 - specificity) / negatives
    ) / gain**2
    from scipy.special import ndtri, stdtrit

    half = float(ndtri((1 + level) / 2) * np.sqrt(variance))
    groups = None if sample.clusters is None else cluster_codes(sample.clusters)
    if groups is not None and groups[1] < n:
        residuals = np.where(truth == 1, -value * (judged - sensitivity) / positives, 0.0)
        residuals += np.where(truth == 0, (1 - value) * (1 - judged - specificity) / negatives, 0.0)
        whole = np.concatenate([residuals, (rest - q) / len(rest)]) / gain
        sums, number = np.bincount(groups[0], weights=whole), groups[1]
        free = max(number - 1, 1)
        half = float(stdtrit(free, (1 + level) / 2) * np.sqrt(number / free * (sums @ sums)))
        method += f", {number} clusters"
    low, middle, high = (float(np.clip(part, 0.0, 1.0)) for part in (value - half, value, value + half))
    return Estimate(name, middle, low, high, n, 0, method, level)


def corrected_shares(
    truth: Sequence[str],
    judged: Sequence[str],
    rest: Sequence[str],
    labels: Sequence[str],
    *,
    clusters: Clusters = None,
    resampling: Resampling | None = None,
) -> dict[str, Estimate]:
    """Estimate the true share of each of several outcomes by undoing the judge's confusion of them.

    With ``M[k, j]`` the share of labelled items of true outcome j that the judge calls k, and q the judge's shares on
    the rest, the shares are ``M^-1 q``, kept in [0, 1]: Rogan and Gladen's estimator for more than two outcomes. Items,
    or clusters, are resampled, labelled ones and the rest together.

    Args:
        truth: True outcome of each labelled item.
        judged: The judge's outcome of the same items.
        rest: The judge's outcome of each other item.
        labels: All outcomes there can be.
        clusters: What shares a source, of the labelled items and then the rest.
        resampling: Draws, seed and level; the interval is by percentile.

    Returns:
        ``corrected share`` of each outcome.
    """
    how, size = resampling or Resampling(), len(labels)
    places = {label: place for place, label in enumerate(labels)}
    rows = np.zeros((len(truth) + len(rest), size * size + size))
    for row, (was, said) in enumerate(zip(truth, judged, strict=True)):
        rows[row, places[said] * size + places[was]] = 1
    for row, said in enumerate(rest, len(truth)):
        rows[row, size * size + places[said]] = 1
    n, method = len(rows), f"inverted confusion matrix, {len(truth)} labelled"
    value = _inverted(rows.sum(axis=0), size) if len(truth) and len(rest) else None
    if value is None:
        reason = "the labels do not tell how the judge errs on every outcome"
        return {label: undefined("corrected share", reason, n=n, method=method) for label in labels}
    distinct, counts = merge(cluster_sums(rows, clusters))
    number = int(counts.sum())
    sums = np.concatenate([block @ distinct for block in weights(counts, how, width=rows.shape[1])])
    drawn = [part for one in sums if (part := _inverted(one, size)) is not None]
    found = {}
    for place, label in enumerate(labels):
        spread = spread_of(float(value[place]), np.array([part[place] for part in drawn]), how, clusters=number)
        found[label] = Estimate(
            "corrected share", spread.value, spread.low, spread.high, n, 0, method, how.level, reason=spread.reason
        )
    return found


def _inverted(sums: FloatArray, size: int) -> FloatArray | None:
    """Return ``M^-1 q`` kept in [0, 1], or None if an outcome has no labels, M cannot be inverted or q is empty."""
    cells, called = sums[: size * size].reshape(size, size), sums[size * size :]
    totals = cells.sum(axis=0)
    if (totals == 0).any() or not called.sum():
        return None
    matrix = cells / totals
    if abs(np.linalg.det(matrix)) < 1e-6:
        return None
    return np.clip(np.linalg.solve(matrix, called / called.sum()), 0.0, 1.0)
