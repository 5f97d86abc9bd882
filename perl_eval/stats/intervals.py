"""Intervals for proportions and means, of independent items or of items in clusters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval.records import About, Estimate
from perl_eval.stats.beta_function import mid_p_below, t_quantile
from perl_eval.stats.bootstrap import Clusters, Codes, Ratio, Resampling, cluster_codes, cluster_sums, resample
from perl_eval.stats.clustered_error import ClusteredError, clustered_error

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
_FEW = 5
"""With fewer successes or failures than this, Wilson's interval is widened."""


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
    """Return Wilson's score interval of a proportion, no narrower than the mid-p interval near 0 and 1.

    ``(p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)``. Near 0 and 1 it holds too seldom (0.86 of
    the time at 50 items and a rate of 0.98 or so): with fewer than five successes, or failures, it is widened to the
    mid-p interval of Clopper and Pearson's kind, whose bounds p solve ``P(X > x) + P(X = x) / 2 = tail`` and the same
    below. Over all rates it then holds at least 0.93 of the time from 5 items on, but for a few at 0.92.

    Args:
        successes: Number of successes, in [0, n]; may be fractional for an effective sample size.
        n: Number of trials, above 0.
        critical: z, the critical value, 1.96 for 95 %.

    Returns:
        Lower and upper bound, in [0, 1].

    Source: Wilson, JASA 22 (1927), 209-212; Brown, Cai and DasGupta, Statistical Science 16 (2001), 101-133, for what
        is wrong near 0 and 1; Agresti and Gottard, Computational Statistics and Data Analysis 51 (2007), 6447-6458,
        for mid-p.
    """
    low, high = _score_interval(successes, n, critical)
    if min(successes, n - successes) >= _FEW:
        return low, high
    tail = NormalDist().cdf(-critical)
    return (
        min(low, mid_p_below(successes, n, tail)) if successes > 0 else low,
        max(high, 1 - mid_p_below(n - successes, n, tail)) if successes < n else high,
    )


def _score_interval(successes: float, n: float, critical: float) -> tuple[float, float]:
    """Return Wilson's interval as it stands in his paper; arguments as in `wilson`."""
    p, square = successes / n, critical * critical
    middle = (p + square / (2 * n)) / (1 + square / n)
    half = critical / (1 + square / n) * math.sqrt(p * (1 - p) / n + square / (4 * n * n))
    return 0.0 if successes <= 0 else max(0.0, middle - half), 1.0 if successes >= n else min(1.0, middle + half)


def _critical(level: float, degrees: float | None = None) -> float:
    """Return the two-sided critical value: normal, or Student's t with some degrees of freedom."""
    if degrees is None:
        return NormalDist().inv_cdf((1 + level) / 2)
    return t_quantile(float(degrees), (1 + level) / 2)


def _repeats(clusters: Clusters, n: int) -> tuple[Codes, int] | None:
    """Return codes and number of the clusters if any holds more than one of n items, else None."""
    if clusters is None:
        return None
    if len(clusters) != n:
        raise ValueError(f"{n} values and {len(clusters)} clusters")
    codes, number = cluster_codes(clusters)
    return (codes, number) if number < n else None


def _one_of_each(data: FloatArray, codes: Codes, number: int) -> FloatArray | None:
    """Return the value of each cluster where all have one size and items that are all alike, else None."""
    sizes = np.bincount(codes, minlength=number)
    if np.ptp(sizes) > 0:
        return None
    values = data[np.argsort(codes, kind="stable")].reshape(number, -1)
    return values[:, 0] if (values == values[:, :1]).all() else None


def proportion(
    name: str,
    hits: ArrayLike,
    *,
    clusters: Clusters = None,
    n_missing: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Estimate a proportion with Wilson's interval.

    Where clusters repeat, n is divided by the design effect (the number is that of effective clusters if all or none
    are hits), and z is the t quantile. The design effect that was seen, and the one that the correlation of items of a
    cluster leads to, give two intervals, of which each bound is the farther one. Of few clusters that hold the rarer
    outcome, the design effect seen says little, and it is drawn towards the size of a cluster, see `_design_effects`.
    Clusters of one size whose items are all alike count as one item each: copies within their cluster add nothing.

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
    alone = _one_of_each(data, codes, number)
    if alone is not None:
        return replace(proportion(name, alone, n_missing=n_missing, level=level), n=n, method=method)
    estimate = Estimate(name, value, None, None, n=n, n_missing=n_missing, method=method, level=level)
    if number == 1:
        return replace(estimate, reason="one group only; it has no interval")
    low, high = _clustered_wilson(value, data, codes, level)
    return replace(estimate, low=low, high=high)


def _clustered_wilson(value: float, data: FloatArray, clusters: Codes, level: float) -> tuple[float, float]:
    found = clustered_error(data, clusters)
    if value in (0.0, 1.0):
        worths = [(found.effective, max(1.0, found.effective - 1))]
    else:
        worths = [(len(data) / effect, degrees) for effect, degrees in _design_effects(data, clusters, found)]
    return _widest(
        wilson(value * worth, worth, _critical(level, degrees))
        for worth, degrees in ((min(float(len(data)), worth), degrees) for worth, degrees in worths)
    )


def _widest(intervals: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return the lowest lower and the highest upper bound."""
    lows, highs = zip(*intervals, strict=True)
    return min(lows), max(highs)


def _design_effects(data: FloatArray, clusters: Codes, found: ClusteredError) -> list[tuple[float, float]]:
    """Return how many items of clusters are worth one, of values in [0, 1], and the degrees of freedom, in two ways.

    The first is the clustered variance of the mean over that of independent items, with Satterthwaite's degrees of
    freedom. Where clusters differ in size it rests on the few large ones, and is too small whenever these happen to
    hold the commoner outcome. The second, which all clusters tell, is what the correlation r of items of a cluster
    leads to, ``1 + r (m - 1)`` with m the size of a cluster, ``sum_c m_c^2 / n``; the degrees of freedom are the
    clusters less one. An interval is as wide as either makes it.

    Each is kept between 1 and m and drawn towards m: d becomes ``(j d + w m) / (j + w)``, ``w = min(1, (5 / j)^2)``, j
    the clusters that hold a hit or those that hold a miss, whichever are fewer: as if one more such cluster had been
    seen whose items are all alike, which of few says much and of many hardly anything.

    Source: Kish, Survey Sampling (1965), section 5.4, for the second.
    """
    n, size = len(data), len(data) / found.effective
    rarer = min(len(np.unique(clusters[data < 1])), len(np.unique(clusters[data > 0])))
    spread = float(data.var(ddof=1))
    if not rarer or not spread:
        return [(size, found.degrees)]
    weight = min(1.0, (_FEW / rarer) ** 2)
    effects = np.clip([found.error**2 * n / spread, 1 + found.correlation * (size - 1)], 1.0, size)
    drawn = ((rarer * effects + weight * size) / (rarer + weight)).tolist()
    return list(zip(drawn, (found.degrees, found.number - 1.0), strict=True))


def mean(
    name: str,
    values: ArrayLike,
    *,
    clusters: Clusters = None,
    n_missing: int = 0,
    bounds: tuple[float, float] | None = None,
    level: float = 0.95,
) -> Estimate:
    """Estimate a mean, of independent values or of values in clusters.

    Without bounds it has Student's t interval. With bounds, values that are all at a bound are a proportion and have
    Wilson's interval (see `proportion`); others have Wilson's at the effective size ``N q / (s^2 + k q / (N - 1))``,
    ``q = p (1 - p)``, with p and s^2 their mean and variance on a scale from 0 to 1 and N their number over the design
    effect of `proportion`; the second part is that of ``k = 1 + 4 q min(1, 5 / r)`` pseudo-values, r the values that
    are not the commonest, so one near a bound and up to two in the middle (and two where the values do not differ): of
    a few values that differ, the spread that was seen says too little. The quantile is t. Clusters of one size whose
    values are all alike count as one value each.

    Args:
        name: Name of the figure.
        values: Shape (n,), finite.
        clusters: Cluster of each value.
        n_missing: Values that should have entered and could not.
        bounds: What the values can be at least and at most.
        level: Confidence level.

    Source: Korn and Graubard, Survey Methodology 24 (1998), 193-201, for the effective size; Bonett and Price, Journal
        of Educational and Behavioral Statistics 37 (2012), 479-488, for pseudo-values, there of paired proportions.
    """
    data = np.asarray(values, np.float64)
    if not np.isfinite(data).all():
        raise ValueError(f"the values of {name!r} are not all finite")
    n = len(data)
    if n == 0:
        return undefined(name, "there are no items", n_missing=n_missing, method="t")
    if bounds is not None and np.isin(data, bounds).all():
        share = proportion(name, data == bounds[1], clusters=clusters, n_missing=n_missing, level=level)
        return _stretched(share, bounds)
    value = float(data.mean())
    repeated = _repeats(clusters, n)
    codes, number = (np.arange(n), n) if repeated is None else repeated
    if repeated is not None and bounds is not None:
        alone = _one_of_each(data, codes, number)
        if alone is not None:
            once = mean(name, alone, n_missing=n_missing, bounds=bounds, level=level)
            return replace(once, n=n, method=f"{once.method}, {number} clusters")
    method = ("t" if bounds is None else "Wilson at the effective size") + (
        "" if repeated is None else f", {number} clusters"
    )
    estimate = Estimate(name, value, None, None, n=n, n_missing=n_missing, method=method, level=level)
    if number == 1:
        return replace(estimate, reason="one item or group only; it has no interval")
    if bounds is not None:
        return _bounded(estimate, data, codes, bounds)
    if np.ptp(data) == 0:
        return replace(estimate, reason="the values do not differ; they have no interval")
    found = clustered_error(data, codes)
    half = _critical(level, found.degrees) * found.error
    return replace(estimate, low=value - half, high=value + half)


def _stretched(share: Estimate, bounds: tuple[float, float]) -> Estimate:
    """Return a share on another scale."""
    floor, width = bounds[0], bounds[1] - bounds[0]
    value, low, high = (None if part is None else floor + width * part for part in (share.value, share.low, share.high))
    return replace(share, value=value, low=low, high=high)


def _bounded(estimate: Estimate, data: FloatArray, codes: Codes, bounds: tuple[float, float]) -> Estimate:
    """Give the mean of bounded values Wilson's interval at the effective size, with pseudo-values."""
    scaled = (data - bounds[0]) / (bounds[1] - bounds[0])
    n, p, found = len(data), float(scaled.mean()), clustered_error(scaled, codes)
    still, spread = np.ptp(scaled) == 0, float(scaled.var(ddof=1))
    others = n - int(np.unique(scaled, return_counts=True)[1].max())
    number = 2 if still else 1 + 4 * p * (1 - p) * min(1.0, _FEW / others)

    def with_effect(effect: float, degrees: float) -> tuple[float, float]:
        worth = n / effect
        pseudo = number * p * (1 - p) / max(worth - 1, 1.0)
        effective = worth * p * (1 - p) / (spread + pseudo)
        free = found.effective - 1 if still else degrees
        return wilson(p * effective, effective, _critical(estimate.level, max(1.0, free)))

    low, high = _widest(with_effect(*one) for one in _design_effects(scaled, codes, found))
    return replace(_stretched(replace(estimate, value=p, low=low, high=high), bounds), value=estimate.value)


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
    known = clustered_error(data, codes)
    error, number = known.error, known.number
    positive = int(np.count_nonzero(np.bincount(codes, weights=data) > 0))
    method = f"Wilson at the effective size, {number} clusters, {positive} of them above zero"
    effective = plain.value * (1 - plain.value) / error**2 if error > 0 else float(len(data))
    low, high = _score_interval(plain.value * effective, effective, _critical(level, max(positive - 1, 1)))
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
    bounds: tuple[float, float] | None = None,
    resampling: Resampling | None = None,
) -> Estimate:
    """Estimate a mean with a bootstrap interval over items, or over clusters where given.

    Args:
        name: Name of the figure.
        values: Shape (n,).
        clusters: Cluster of each value.
        n_missing: Values that should have entered and could not.
        bounds: What the values can be at least and at most. So near to a bound that fewer than five items (or clusters)
            would make up the distance, draws tell too little, and the interval is widened to that of `mean`.
        resampling: Draws, seed, level and kind.
    """
    data, how = np.asarray(values, np.float64), resampling or Resampling()
    rows = cluster_sums(np.stack([data, np.ones_like(data)], axis=1), clusters)
    found = resampled(
        name, rows, lambda sums: (sums[:, 0], sums[:, 1]), n=len(data), n_missing=n_missing, resampling=how
    )
    if bounds is None or found.value is None or len(rows) < 2:
        return found
    share = (found.value - bounds[0]) / (bounds[1] - bounds[0])
    if min(share, 1 - share) * len(rows) >= _FEW and np.ptp(data) > 0:
        return found
    other = mean(name, data, clusters=clusters, n_missing=n_missing, bounds=bounds, level=how.level)
    if other.low is None or other.high is None:
        return found
    low, high = (other.low if found.low is None else found.low), (other.high if found.high is None else found.high)
    method = f"{found.method}, widened to {other.method}"
    return replace(found, low=min(low, other.low), high=max(high, other.high), method=method, reason=None)
