"""Intervals for proportions and means, of independent items or of items in clusters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval.records import About, Estimate
from perl_eval.stats.bootstrap import Clusters, Codes, Ratio, Resampling, cluster_codes, cluster_sums, resample
from perl_eval.stats.clustered_error import clustered_error

__all__ = [
    "about",
    "count",
    "mean",
    "p_value",
    "proportion",
    "resampled",
    "resampled_mean",
    "sparse_mean",
    "undefined",
    "wilson",
]

FloatArray = NDArray[np.float64]
_NOTHING = About()


def undefined(name: str, reason: str, *, n: int = 0, n_missing: int = 0, method: str = "none") -> Estimate:
    """Return a figure that has no value, and why."""
    return Estimate(name, None, None, None, n=n, n_missing=n_missing, method=method, reason=reason)


def count(name: str, value: int, *, n: int, n_missing: int = 0) -> Estimate:
    """Return a plain count as a figure without an interval."""
    return Estimate(name, float(value), None, None, n=n, n_missing=n_missing, method="count", kind="count")


def p_value(name: str, value: float, *, n: int, method: str, n_missing: int = 0) -> Estimate:
    """Return the p-value of a test as a figure without an interval."""
    return Estimate(name, float(value), None, None, n=n, n_missing=n_missing, method=method, kind="p-value")


def about(estimates: Iterable[Estimate], subject: About = _NOTHING, *, simulated: bool = False) -> list[Estimate]:
    """Say what some figures are about, and whether they rest on simulated people or judges.

    Args:
        estimates: The figures.
        subject: What they are about; its fields join those that each has.
        simulated: True marks them all as simulated; False leaves the mark as it is.

    Raises:
        ValueError: A figure has another value in a field.
    """
    return [
        replace(estimate, about=estimate.about.merged(subject), simulated=simulated or estimate.simulated)
        for estimate in estimates
    ]


def wilson(successes: float, n: float, critical: float) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion.

    ``(p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)``

    Args:
        successes: Number of successes, in [0, n]; may be fractional for an effective sample size.
        n: Number of trials, above 0.
        critical: z, the critical value, 1.96 for 95 %.

    Returns:
        Lower and upper bound, in [0, 1].

    Source: Wilson, JASA 22 (1927), 209-212.
    """
    p, square = successes / n, critical * critical
    middle = (p + square / (2 * n)) / (1 + square / n)
    half = critical / (1 + square / n) * np.sqrt(p * (1 - p) / n + square / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, float(middle - half))
    high = 1.0 if successes == n else min(1.0, float(middle + half))
    return low, high


def _critical(level: float, degrees: float | None = None) -> float:
    """Return the two-sided critical value: normal, or Student's t with some degrees of freedom."""
    if degrees is None:
        return NormalDist().inv_cdf((1 + level) / 2)
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + level) / 2))


def _repeats(clusters: Clusters, n: int) -> tuple[Codes, int] | None:
    """Return codes and number of the clusters if any holds more than one of n items, else None."""
    if clusters is None:
        return None
    if len(clusters) != n:
        raise ValueError(f"{n} values and {len(clusters)} clusters")
    codes, number = cluster_codes(clusters)
    return (codes, number) if number < n else None


def proportion(
    name: str,
    hits: ArrayLike,
    *,
    clusters: Clusters = None,
    n_missing: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Estimate a proportion with Wilson's interval.

    Where clusters repeat, n is replaced by the effective sample size ``p (1 - p) / SE^2`` (SE clustered, at most n; the
    effective number of clusters if all or none are hits) and z by the t quantile, see `clustered_error`.

    Args:
        name: Name of the figure.
        hits: Whether each item is a hit, shape (n,).
        clusters: Cluster of each item.
        n_missing: Items that should have entered and could not.
        level: Confidence level.

    Source: Wilson (1927); Korn and Graubard, Survey Methodology 24 (1998), 193-201, for the effective size.
    """
    data = np.asarray(hits, np.float64)
    n = len(data)
    if n == 0:
        return undefined(name, "there are no items", n_missing=n_missing, method="Wilson")
    value = float(data.sum()) / n
    repeated = _repeats(clusters, n)
    if repeated is None:
        low, high = wilson(float(data.sum()), n, _critical(level))
        return Estimate(name, value, low, high, n=n, n_missing=n_missing, method="Wilson", level=level)
    codes, number = repeated
    method = f"Wilson, {number} clusters"
    estimate = Estimate(name, value, None, None, n=n, n_missing=n_missing, method=method, level=level)
    if number == 1:
        return replace(estimate, reason="one group only; it has no interval")
    low, high = _clustered_wilson(value, data, codes, level)
    return replace(estimate, low=low, high=high)


def _clustered_wilson(value: float, data: FloatArray, clusters: Codes, level: float) -> tuple[float, float]:
    found = clustered_error(data, clusters)
    if value in (0.0, 1.0):
        effective = found.effective
        degrees = max(1.0, effective - 1)
    else:
        effective = float(len(data)) if found.error == 0 else value * (1 - value) / found.error**2
        degrees = found.degrees
    effective = min(float(len(data)), effective)
    return wilson(value * effective, effective, _critical(level, degrees))


def mean(
    name: str,
    values: ArrayLike,
    *,
    clusters: Clusters = None,
    n_missing: int = 0,
    bounds: tuple[float, float] | None = None,
    level: float = 0.95,
) -> Estimate:
    """Estimate a mean with Student's t interval, clustered where clusters repeat.

    Args:
        name: Name of the figure.
        values: Shape (n,), finite.
        clusters: Cluster of each value.
        n_missing: Values that should have entered and could not.
        bounds: What the values can be at least and at most. The interval is clipped to it; if the values do not differ,
            the interval is Wilson's, since a bounded mean never spreads more than a proportion.
        level: Confidence level.
    """
    data = np.asarray(values, np.float64)
    if not np.isfinite(data).all():
        raise ValueError(f"the values of {name!r} are not all finite")
    n = len(data)
    if n == 0:
        return undefined(name, "there are no items", n_missing=n_missing, method="t")
    value = float(data.mean())
    repeated = _repeats(clusters, n)
    codes, number = (np.arange(n), n) if repeated is None else repeated
    method = "t" if repeated is None else f"t, {number} clusters"
    estimate = Estimate(name, value, None, None, n=n, n_missing=n_missing, method=method, level=level)
    if number == 1:
        return replace(estimate, reason="one item or group only; it has no interval")
    if np.ptp(data) == 0:
        return _constant(estimate, number, bounds)
    found = clustered_error(data, codes)
    half = _critical(level, found.degrees) * found.error
    low, high = value - half, value + half
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return replace(estimate, low=low, high=high)


def _constant(estimate: Estimate, number: int, bounds: tuple[float, float] | None) -> Estimate:
    """Return the interval of values that do not differ: a spread of zero would be a lie."""
    if bounds is None or estimate.value is None:
        return replace(estimate, reason="the values do not differ; they have no interval")
    floor, width = bounds[0], bounds[1] - bounds[0]
    low, high = wilson((estimate.value - floor) / width * number, number, _critical(estimate.level))
    return replace(
        estimate, low=floor + width * low, high=floor + width * high, method=f"{estimate.method}, no spread: Wilson"
    )


def sparse_mean(
    name: str,
    values: ArrayLike,
    *,
    clusters: Clusters = None,
    n_missing: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Estimate a mean of values in [0, 1] that are mostly zero, such as the size of something rare.

    A t interval is too low for it: few values above zero make both the mean and its error too small. The variance of
    such a mean grows with the mean, as that of a proportion does, so the interval is Wilson's at the effective sample
    size ``p (1 - p) / SE^2`` (SE clustered), with a t quantile for z, whose degrees of freedom are the clusters with a
    value above zero, less one: they alone tell how the values vary. In simulations of 24 settings it held the truth in
    94 to 98 % of cases, above 97 % where only a few clusters have such a value; a t interval held it in 83 to 95 %.

    Args:
        name: Name of the figure.
        values: Shape (n,), in [0, 1].
        clusters: Cluster of each value.
        n_missing: Values that should have entered and could not.
        level: Confidence level.

    Source: Korn and Graubard, Survey Methodology 24 (1998), 193-201, for the effective size.
    """
    data = np.asarray(values, np.float64)
    plain = mean(name, data, clusters=clusters, n_missing=n_missing, bounds=(0.0, 1.0), level=level)
    if plain.value is None or plain.low is None or np.ptp(data) == 0:
        return plain
    codes = np.arange(len(data)) if clusters is None else cluster_codes(clusters)[0]
    error, _, number, _ = clustered_error(data, codes)
    positive = int(np.count_nonzero(np.bincount(codes, weights=data) > 0))
    method = f"Wilson at the effective size, {number} clusters, {positive} of them above zero"
    effective = plain.value * (1 - plain.value) / error**2 if error > 0 else float(len(data))
    low, high = wilson(plain.value * effective, effective, _critical(level, max(positive - 1, 1)))
    return replace(plain, low=low, high=high, method=method)


def resampled(
    name: str, rows: FloatArray, ratio: Ratio, *, n: int, n_missing: int = 0, resampling: Resampling | None = None
) -> Estimate:
    """Estimate a ratio of functions of sums with a bootstrap interval.

    Args:
        name: Name of the figure.
        rows: Feature sums of each cluster, shape (clusters, features).
        ratio: From sums to numerator and denominator.
        n: Items that entered.
        n_missing: Items that should have entered and could not.
        resampling: Draws, seed, level and kind.
    """
    how = resampling or Resampling()
    spread = resample(rows, ratio, how)
    return Estimate(
        name,
        spread.value,
        spread.low,
        spread.high,
        n=n,
        n_missing=n_missing,
        method=f"{how.kind} bootstrap, {how.draws} draws of {len(rows)}",
        level=how.level,
        reason=spread.reason,
    )


def resampled_mean(
    name: str,
    values: ArrayLike,
    *,
    clusters: Clusters = None,
    n_missing: int = 0,
    resampling: Resampling | None = None,
) -> Estimate:
    """Estimate a mean with a bootstrap interval over items, or over clusters where given.

    Args:
        name: Name of the figure.
        values: Shape (n,).
        clusters: Cluster of each value.
        n_missing: Values that should have entered and could not.
        resampling: Draws, seed, level and kind.
    """
    data = np.asarray(values, np.float64)
    rows = cluster_sums(np.stack([data, np.ones_like(data)], axis=1), clusters)
    return resampled(
        name, rows, lambda sums: (sums[:, 0], sums[:, 1]), n=len(data), n_missing=n_missing, resampling=resampling
    )
