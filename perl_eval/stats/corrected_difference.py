"""The difference between two policies as people would see it: a judge's on all items, people's on some of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perl_eval.stats.bootstrap import Codes
from perl_eval.stats.correction import PSEUDO

__all__ = ["CorrectedDifference", "Differences", "corrected_difference", "holm", "labels_to_decide"]

FloatArray = NDArray[np.float64]
_LABELS_A_PROXY = 20
"""Labels that each proxy beyond the first must have, or it costs more than it tells."""


@dataclass(frozen=True, slots=True)
class Differences:
    """Differences between two policies, item by item; in [-1, 1], above 0 where the first is better.

    Attributes:
        proxies: What is known of every item, the judge's own difference first, shape (N, k): probabilities, each
            order's verdict, lengths, another judge.
        places: Items that people labelled, shape (n,).
        truth: Their difference by people, shape (n,).
        weights: The inverse of the probability with which each was drawn for labelling, up to a factor, shape (n,).
        clusters: What shares a source, codes, shape (N,).
    """

    proxies: FloatArray
    places: NDArray[np.intp]
    truth: FloatArray
    weights: FloatArray
    clusters: Codes


@dataclass(frozen=True, slots=True)
class CorrectedDifference:
    """A difference corrected by labels.

    Attributes:
        value: The difference, in [-1, 1].
        error: Its standard error.
        degrees: Degrees of freedom of its t quantile.
        labelled: Items that people labelled.
        effective: How many labels of one weight they are worth.
        proxies: How many proxies were used.
        share_of_labels: How much of the variance would go with more labels alone, in [0, 1].
    """

    value: float
    error: float
    degrees: float
    labelled: int
    effective: float
    proxies: int
    share_of_labels: float

    def interval(self, level: float) -> tuple[float, float]:
        """Return the bounds of the confidence interval, within [-1, 1]."""
        from scipy.special import stdtrit

        half = float(stdtrit(self.degrees, (1 + level) / 2)) * self.error
        return max(-1.0, self.value - half), min(1.0, self.value + half)

    def p_value(self, margin: float = 0.0) -> float:
        """Return the two-sided p-value that the difference is the margin."""
        from scipy.special import stdtr

        return float(2 * stdtr(self.degrees, -abs(self.value - margin) / self.error))


def corrected_difference(sample: Differences) -> CorrectedDifference | None:
    """Estimate the mean difference over all items by prediction-powered inference with several proxies (PPI++).

    ``mean(F) w + sum_i v_i (y_i - F_i w)``, v the labels' weights summing to 1, F the proxies. With a_c and B_c the
    influence of cluster c through the labels and through the proxies, w solves ``B w = -a`` in least squares, which
    makes the variance least; proxies beyond the first are used where each has 20 labels. The variance is
    ``L / (L - k) (sum_c (a_c + B_c w)^2 + 2 / (n + 2)^2)`` with L labelled clusters, k what was estimated, and two
    pseudo-residuals as in `prediction_powered_mean`. Unbiased however the judge favours either policy.

    Returns:
        The difference; None with fewer labelled clusters than can tell a variance.

    Source: Angelopoulos, Duchi and Zrnic, arXiv 2311.01453; several proxies as in Miao et al., arXiv 2311.14220.
    """
    n, groups = len(sample.truth), len(np.unique(sample.clusters[sample.places]))
    if groups < 3:
        return None
    used = sample.proxies[:, : max(1, min(sample.proxies.shape[1], groups // _LABELS_A_PROXY))]
    used = used[:, [True, *(used[:, 1:].std(axis=0) > 0)]] if used.shape[1] > 1 else used
    share = sample.weights / sample.weights.sum()
    effective = 1.0 / float(share @ share)
    of_truth = np.bincount(
        sample.clusters[sample.places],
        weights=share * (sample.truth - share @ sample.truth),
        minlength=int(sample.clusters.max()) + 1,
    )
    of_proxies, of_labels = _influences(sample, used, share)
    through = of_proxies - of_labels
    found = np.linalg.lstsq(through, -of_truth, rcond=1e-9)[0]
    if used.shape[1] == 1:
        found = np.clip(found, 0.0, 1.0)
    labelled = used[sample.places]
    value = float(used.mean(axis=0) @ found + share @ (sample.truth - labelled @ found))
    influence = of_truth + through @ found
    estimated = used.shape[1]
    degrees = max(1.0, groups - estimated)
    pseudo = PSEUDO / (effective + 2) ** 2
    whole = float(influence @ influence) + pseudo
    alone = of_truth - of_labels @ found
    return CorrectedDifference(
        value=float(np.clip(value, -1.0, 1.0)),
        error=float(np.sqrt(groups / degrees * whole)),
        degrees=degrees,
        labelled=n,
        effective=effective,
        proxies=used.shape[1],
        share_of_labels=min(1.0, (float(alone @ alone) + pseudo) / whole),
    )


def _influences(sample: Differences, used: FloatArray, share: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return each cluster's influence through the proxies of all items, and of the labelled ones, shape (C, k) each."""
    number = int(sample.clusters.max()) + 1
    of_all, of_labelled = np.zeros((number, used.shape[1])), np.zeros((number, used.shape[1]))
    for place, column in enumerate(used.T):
        of_all[:, place] = np.bincount(
            sample.clusters, weights=(column - column.mean()) / len(column), minlength=number
        )
        given = column[sample.places]
        of_labelled[:, place] = np.bincount(
            sample.clusters[sample.places], weights=share * (given - share @ given), minlength=number
        )
    return of_all, of_labelled


def labels_to_decide(
    found: CorrectedDifference, *, level: float, power: float, unlabelled: int | None = None
) -> int | None:
    """Return how many more labels would tell the difference from 0, were it what it seems; None if no number would.

    Labels make their own part of the variance smaller in proportion; what the number of items leaves stays.

    Args:
        found: The difference as it is.
        unlabelled: Items that are left to label, if that is known.
        level: Confidence level.
        power: Chance with which it should be told.
    """
    from scipy.special import ndtri

    needed = (found.value / float(ndtri((1 + level) / 2) + ndtri(power))) ** 2
    of_labels = found.error**2 * found.share_of_labels
    rest = found.error**2 - of_labels
    if needed <= rest:
        return None
    more = max(1, int(np.ceil(found.labelled * (of_labels / (needed - rest) - 1))))
    return None if unlabelled is not None and more > unlabelled else more


def holm(values: FloatArray) -> FloatArray:
    """Return p-values adjusted for all of them after Holm: the chance of any false rejection stays below the level.

    Args:
        values: Shape (m,).

    Source: Holm, Scandinavian Journal of Statistics 6 (1979), 65-70.
    """
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * (len(values) - np.arange(len(values))))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted
