"""Bootstrap over items or groups of items, vectorised, for figures that are a ratio of functions of sums.

Win rates, kappas, alpha, accuracies, Brier score and calibration error all are ``numerator / denominator``, where both
depend on the data through sums over items only. A draw then needs no copy of the data: equal rows are merged, a draw
is one multinomial vector of how often each distinct row was taken, and its sums are one matrix product. This is the
ordinary bootstrap, not an approximation of it. Merging also sorts, so the order of the rows changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = [
    "UNDEFINED_SHARE",
    "Clusters",
    "Ratio",
    "RatioInterval",
    "Resampling",
    "cluster_codes",
    "cluster_sums",
    "merge",
    "resample",
    "resample_merged",
    "select",
    "spread_of",
    "weights",
]

FloatArray = NDArray[np.float64]
Codes = NDArray[np.intp]
Clusters = Sequence[Hashable] | Codes | None
"""What each item shares a source with: names, or codes from `cluster_codes`; None if items are independent."""
Ratio = Callable[[FloatArray], tuple[FloatArray, FloatArray]]
"""Sums, shape (draws, features), to numerator and denominator, shape (draws,) each; undefined where it is zero."""
_CELLS = 4_000_000
"""Cells of the largest weight matrix held at once (32 MB)."""
_AT_ONCE = 500_000
"""Items drawn at once (4 MB), as far as one draw has fewer."""
UNDEFINED_SHARE = 0.05
"""Share of draws that may be undefined before the interval is."""


@dataclass(frozen=True, slots=True)
class Resampling:
    """How to bootstrap.

    Attributes:
        draws: Number of draws.
        seed: Seed of the draws.
        level: Confidence level, in (0, 1).
        kind: ``percentile``, ``bca`` (bias-corrected and accelerated), or ``standard``: t times the standard error of
            the draws, which does better where draws lie too low or too high, as those of agreement coefficients do.
    """

    draws: int = 2000
    seed: int = 0
    level: float = 0.95
    kind: Literal["percentile", "bca", "standard"] = "percentile"

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ValueError(f"draws is {self.draws}; at least 1 is needed")
        if not 0 < self.level < 1:
            raise ValueError(f"level is {self.level}; it lies in (0, 1)")


@dataclass(frozen=True, slots=True)
class RatioInterval:
    """A ratio and its bootstrap interval; None where undefined, and then ``reason`` says why."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None


def cluster_codes(clusters: Sequence[Hashable] | Codes) -> tuple[Codes, int]:
    """Number clusters from 0.

    Args:
        clusters: Names in any order, or codes, an array of integers from 0, of which some may be missing.

    Returns:
        Codes without gaps, shape (n,), and how many clusters there are.
    """
    if isinstance(clusters, np.ndarray):
        present = np.bincount(clusters) > 0
        return (np.cumsum(present) - 1)[clusters], int(np.count_nonzero(present))
    seen: dict[Hashable, int] = {}
    codes = np.fromiter((seen.setdefault(name, len(seen)) for name in clusters), np.intp, len(clusters))
    return codes, len(seen)


def select(clusters: Clusters, chosen: NDArray[np.bool_]) -> Clusters:
    """Return the clusters of some items.

    Args:
        clusters: Cluster of each item.
        chosen: Which items, shape (n,).
    """
    if clusters is None or isinstance(clusters, np.ndarray):
        return clusters if clusters is None else clusters[chosen]
    return [name for name, keep in zip(clusters, chosen.tolist(), strict=True) if keep]


def cluster_sums(rows: ArrayLike, clusters: Clusters) -> FloatArray:
    """Sum feature rows within clusters.

    Args:
        rows: Shape (n, features).
        clusters: Cluster of each row; None means that every row is its own.

    Returns:
        Shape (clusters, features).
    """
    table = np.asarray(rows, np.float64)
    if clusters is None:
        return table
    codes, count = cluster_codes(clusters)
    columns = [np.bincount(codes, weights=column, minlength=count) for column in table.T]
    return np.stack(columns, axis=1) if columns else np.zeros((count, 0))


def weights(counts: NDArray[np.int64], resampling: Resampling, *, width: int = 1) -> Iterator[FloatArray]:
    """Yield how often each distinct row is taken, in blocks of draws.

    Args:
        counts: How often each distinct row occurs, shape (distinct,).
        resampling: Number of draws and seed.
        width: Numbers that the caller makes of each draw, to keep blocks small.

    Yields:
        Shape (draws in block, distinct); each row sums to ``counts.sum()``.
    """
    rng = np.random.default_rng(resampling.seed)
    distinct, total = len(counts), int(counts.sum())
    merged = distinct * 8 <= total
    owner = np.zeros(0, np.intp) if merged else np.repeat(np.arange(distinct), counts)
    block = max(1, min(resampling.draws, _CELLS // max(distinct, width)))
    for begin in range(0, resampling.draws, block):
        size = min(block, resampling.draws - begin)
        if merged:
            yield rng.multinomial(total, counts / total, size=size).astype(np.float64)
            continue
        taken = np.empty((size, distinct))
        together = max(1, _AT_ONCE // total)
        for part in np.split(taken, range(together, size, together)):
            places = owner[rng.integers(0, total, (len(part), total))]
            places += distinct * np.arange(len(part))[:, None]  # each draw counts in cells of its own
            part[:] = np.bincount(places.ravel(), minlength=part.size).reshape(part.shape)
        yield taken


def merge(rows: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
    """Merge equal rows.

    Rows are compared to 12 decimals, so that the order in which a cluster was summed cannot tell two rows apart.

    Args:
        rows: Shape (n, features).

    Returns:
        The distinct rows, sorted, and how often each occurs.
    """
    rounded = np.round(rows, 12) + 0.0  # no negative zero
    order = np.lexsort(rounded.T[::-1])
    ordered = rounded[order]
    starts = np.flatnonzero(np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)]))
    return ordered[starts], np.diff(starts, append=len(rows)).astype(np.int64)


def resample(rows: FloatArray, ratio: Ratio, resampling: Resampling) -> RatioInterval:
    """Bootstrap a ratio of functions of sums.

    Args:
        rows: Feature sums of each cluster, shape (clusters, features); see `cluster_sums`.
        ratio: From sums to numerator and denominator.
        resampling: Draws, seed, level and kind.

    Returns:
        The ratio on the data and its interval.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 13 and 14.
    """
    if len(rows) == 0:
        return RatioInterval(None, None, None, "there are no items")
    distinct, counts = merge(rows)
    return resample_merged(distinct, counts, ratio, resampling)


def resample_merged(
    distinct: FloatArray | csr_array, counts: NDArray[np.int64], ratio: Ratio, resampling: Resampling
) -> RatioInterval:
    """Bootstrap a ratio of functions of sums over rows of which equal ones are merged already; see `resample`.

    Args:
        distinct: Distinct rows in an order of their own, shape (distinct, features); may be sparse.
        counts: How often each occurs, shape (distinct,).
        ratio: From sums to numerator and denominator.
        resampling: Draws, seed, level and kind.
    """
    total = np.asarray(counts @ distinct, np.float64)
    numerator, denominator = ratio(total[None, :])
    if denominator[0] == 0:
        return RatioInterval(None, None, None, "the denominator is zero")
    value = float(numerator[0] / denominator[0])
    if counts.sum() == 1:
        return RatioInterval(value, None, None, "one item or group only; it has no interval")
    blocks = weights(counts, resampling, width=len(total))
    drawn = np.concatenate([_ratios(ratio(np.asarray(block @ distinct))) for block in blocks])
    acceleration = 0.0
    if resampling.kind == "bca":
        rows = distinct if isinstance(distinct, np.ndarray) else distinct.toarray()
        left_out = _ratios(ratio(total - rows))
        acceleration = _acceleration(left_out, counts) if len(left_out) == len(counts) else 0.0
    return spread_of(value, drawn, resampling, acceleration, clusters=int(counts.sum()))


def _ratios(parts: tuple[FloatArray, FloatArray]) -> FloatArray:
    """Divide, leaving out draws whose denominator is zero."""
    numerator, denominator = parts
    live = denominator != 0
    return np.asarray(numerator[live] / denominator[live], np.float64)


def spread_of(
    value: float, drawn: FloatArray, resampling: Resampling, acceleration: float = 0.0, *, clusters: int | None = None
) -> RatioInterval:
    """Turn bootstrap values into an interval.

    Draws vary less than the figure, by a factor of sqrt((C - 1) / C) for a mean, and quantiles of theirs are as if the
    error were known. So the percentile interval is taken further out, at the chances of a normal variable beyond
    ``sqrt(C / (C - 1)) t``, which a t interval would have.

    Args:
        value: The figure on the data.
        drawn: The figure on each draw where it is defined, at most ``resampling.draws`` values.
        resampling: Draws asked for, level and kind.
        acceleration: Skewness correction from the jackknife, for ``bca``.
        clusters: Number C of what was resampled; None if it is large.

    Source: Hesterberg, The American Statistician 69 (2015), 371-386, section 5.3 (expanded percentile interval).
    """
    missing = resampling.draws - len(drawn)
    if missing > UNDEFINED_SHARE * resampling.draws:
        return RatioInterval(value, None, None, f"undefined in {missing} of {resampling.draws} bootstrap draws")
    tails = [(1 - resampling.level) / 2, (1 + resampling.level) / 2]
    if resampling.kind == "standard":
        return _standard(value, drawn, tails[1], clusters)
    if resampling.kind == "bca":
        tails = _corrected_tails(tails, _share_below(value, drawn), acceleration)
    elif clusters is not None and clusters > 1:
        from scipy.special import stdtrit

        reach = np.sqrt(clusters / (clusters - 1)) * float(stdtrit(clusters - 1, tails[1]))
        tails = [NormalDist().cdf(-reach), NormalDist().cdf(reach)]
    low, high = np.quantile(drawn, tails)
    return RatioInterval(value, float(low), float(high))


def _standard(value: float, drawn: FloatArray, tail: float, clusters: int | None) -> RatioInterval:
    if len(drawn) < 2:
        return RatioInterval(value, None, None, "one bootstrap draw has no error")
    from scipy.special import stdtrit

    number = np.inf if clusters is None else max(clusters, 2)
    shrinking = 1.0 if clusters is None else number / (number - 1)
    half = float(stdtrit(number - 1, tail) * np.sqrt(shrinking) * drawn.std(ddof=1))
    return RatioInterval(value, value - half, value + half)


def _share_below(value: float, drawn: FloatArray) -> float:
    """Return the share of draws below the value, equal draws counted half, kept off 0 and 1."""
    close = np.isclose(drawn, value, rtol=1e-12, atol=1e-12)
    share = (np.count_nonzero((drawn < value) & ~close) + np.count_nonzero(close) / 2) / len(drawn)
    return float(np.clip(share, 0.5 / len(drawn), 1 - 0.5 / len(drawn)))


def _corrected_tails(tails: list[float], share_below: float, acceleration: float) -> list[float]:
    normal = NormalDist()
    bias = normal.inv_cdf(share_below)
    shifted = [bias + normal.inv_cdf(tail) for tail in tails]
    return [normal.cdf(bias + part / (1 - acceleration * part)) for part in shifted]


def _acceleration(jackknife: FloatArray, counts: NDArray[np.int64]) -> float:
    """Return a sixth of the skewness of leave-one-out values, each occurring ``counts`` times."""
    centred = np.average(jackknife, weights=counts) - jackknife
    squares = float(counts @ centred**2)
    return float(counts @ centred**3) / (6 * squares**1.5) if squares > 0 else 0.0
