"""The error of a mean of items in clusters, and of how many independent clusters it is known from."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval.stats.bootstrap import Codes, cluster_codes

__all__ = ["ClusteredError", "cluster_growth", "clustered_error"]

FloatArray = NDArray[np.float64]


class ClusteredError(NamedTuple):
    """The error of a mean, and what it rests on.

    Attributes:
        error: Standard error of the mean.
        degrees: Degrees of freedom of its t quantile; the number of clusters less one where all are of one size.
        number: How many clusters there are.
        effective: How many clusters of one size would be worth as much: ``n^2 / sum_c m_c^2``.
        correlation: That of items of one cluster in the working model, in [0, 1].
    """

    error: float
    degrees: float
    number: int
    effective: float
    correlation: float


def clustered_error(values: ArrayLike, clusters: Sequence[Hashable] | Codes) -> ClusteredError:
    """Return the cluster-robust error of a mean, bias-reduced, with Satterthwaite's degrees of freedom.

    With S_c the sum of a cluster's residuals, m_c its size, w_c = m_c / n, and a working model in which items of one
    cluster have the correlation r that the data show: ``v_c = m_c (1 - r) + r m_c^2`` is what S_c would vary by around
    the true mean, and ``u_c = v_c (1 - 2 w_c) + w_c^2 sum v`` what it varies by around the mean of the data. The
    variance is ``sum_c (v_c / u_c) S_c^2 / n^2``: each cluster's part is unbiased under the working model, while the
    plain sandwich with the factor C / (C - 1) is far too small where clusters differ in size. The degrees of freedom
    are those of a chi-square with the same mean and variance. With clusters of one size both are the plain ones.

    Args:
        values: Shape (n,).
        clusters: Cluster of each value; at least two clusters.

    Source: Bell and McCaffrey, Survey Methodology 28 (2002), 169-181 (CR2 and its degrees of freedom); Pustejovsky and
        Tipton, Journal of Business and Economic Statistics 36 (2018), 672-683 (working models that are no identity).
    """
    data = np.asarray(values, np.float64)
    codes, number = cluster_codes(clusters)
    sizes = np.bincount(codes, minlength=number).astype(np.float64)
    residuals = data - data.mean()
    sums = np.bincount(codes, weights=residuals, minlength=number).astype(np.float64)
    n = len(data)
    effective = float(n * n / (sizes @ sizes))
    shared = _correlation(residuals, sums, sizes)
    v = sizes * (1 - shared) + shared * sizes**2
    w = sizes / n
    u = v * (1 - 2 * w) + w**2 * v.sum()
    k = v / u
    error = float(np.sqrt(k @ sums**2)) / n
    return ClusteredError(error, _degrees(k, v, w, u), number, effective, shared)


def cluster_growth(values: ArrayLike, clusters: Sequence[Hashable] | Codes) -> tuple[float, float]:
    """Return what a sum of squares over clusters falls short by, and the degrees of freedom of its t quantile.

    The first is the variance of `clustered_error` over ``sum_c S_c^2 / n^2``, at least ``C / (C - 1)``, which it is for
    clusters of one size; the second is Satterthwaite's. For sums that hold more than a mean: influences of labels.

    Args:
        values: Shape (n,), whose mean is 0.
        clusters: Cluster of each value; at least two clusters.
    """
    data = np.asarray(values, np.float64)
    codes, number = cluster_codes(clusters)
    sums = np.bincount(codes, weights=data - data.mean(), minlength=number)
    plain, found = float(sums @ sums) / len(data) ** 2, clustered_error(data, codes)
    least = number / (number - 1)
    return (max(least, found.error**2 / plain) if plain > 0 else least), found.degrees


def _correlation(residuals: FloatArray, sums: FloatArray, sizes: FloatArray) -> float:
    """Return the correlation of items of one cluster, by analysis of variance, kept in [0, 1]."""
    n, number = sizes.sum(), len(sizes)
    if number == n:
        return 0.0
    between = float((sums**2 / sizes).sum()) / (number - 1)
    within = float(residuals @ residuals - (sums**2 / sizes).sum()) / (n - number)
    typical = (n - float(sizes @ sizes) / n) / (number - 1)
    whole = between + (typical - 1) * within
    return float(np.clip((between - within) / whole, 0.0, 1.0)) if whole > 0 else 0.0


def _degrees(k: FloatArray, v: FloatArray, w: FloatArray, u: FloatArray) -> float:
    """Return ``tr(K O)^2 / tr(K O K O)``, K the diagonal of k, O the working covariance of the residuals' sums.

    O has ``u`` on its diagonal and ``V w_c w_d - w_c v_d - w_d v_c`` beside it, whose squares are sums of products, so
    no matrix is made.
    """
    total = float(v.sum())
    a2, b2, ab = (float(k @ part) for part in (w**2, v**2, w * v))
    squares = 2 * a2 * b2 + total**2 * a2**2 + 2 * ab**2 - 4 * total * a2 * ab
    beside = total * w**2 - 2 * w * v  # what the sum above took for the diagonal
    squares += float(k**2 @ (u**2 - beside**2))
    return max(1.0, float(k @ u) ** 2 / squares)
