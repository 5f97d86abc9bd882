"""Correlation of two raters' scores: Pearson, Spearman and Kendall, with intervals that hold for ties and clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from perl_eval import figure_names as named
from perl_eval.records import Estimate
from perl_eval.stats.agreement_interval import METHOD, agreement_interval, pseudo_units, tables_of
from perl_eval.stats.bootstrap import Clusters, Resampling, cluster_codes, cluster_sums
from perl_eval.stats.intervals import undefined

__all__ = ["correlations"]

FloatArray = NDArray[np.float64]
_LEAST = 4
_ROUNDING = 1e-9
"""Shares of a variance up to which it is rounding."""
Bounds = tuple[float | None, float | None]


def correlations(
    one: Sequence[float | None],
    other: Sequence[float | None],
    *,
    name: str = "",
    clusters: Clusters = None,
    level: float = 0.95,
) -> list[Estimate]:
    """Estimate Pearson's r, Spearman's rho (mid-ranks) and Kendall's tau-b of two scores of the same items.

    The interval is t on Fisher's scale, ``tanh(atanh(r) +- t SE)``, with as many degrees of freedom as there are
    clusters less one. SE is that of the jackknife over clusters for r. Rho and tau-b are smooth functions of means over
    items and pairs of items, so theirs is that of the mean of their influence values, summed within clusters, over ``1
    - r^2``. Unlike the textbook errors these need neither normal scores nor absence of ties. Of two scores with two
    values each all three are the same up to a sign, and their interval is that of agreement coefficients, see
    `perl_eval.stats.agreement_interval`: of what was never seen together the jackknife sees nearly no error.

    Args:
        one: Score of each item, None where it has none; shape (n,).
        other: The other score of the same items. Items that lack either are missing.
        name: Goes before the names of the figures.
        clusters: What shares a source, one an item.
        level: Confidence level.

    Returns:
        ``Pearson r``, ``Spearman rho``, ``Kendall tau-b``; None where a score is the same for all items, or fewer than
        four items have both.

    Source: Davison and Hinkley, Bootstrap Methods and their Application (1997), sections 2.7 and 3.2, for influence
        values and the jackknife; Kendall, Rank Correlation Methods (1948), for tau-b.
    """
    kept = [place for place, pair in enumerate(zip(one, other, strict=True)) if None not in pair]
    missing = len(one) - len(kept)
    x, y = (np.array([scores[place] for place in kept], np.float64) for scores in (one, other))
    codes, number = cluster_codes(range(len(kept)) if clusters is None else [clusters[place] for place in kept])
    groups = "" if number == len(kept) else f", {number} clusters"
    reason = f"fewer than {_LEAST} items have both scores" if len(kept) < _LEAST else None
    if reason is None and (np.ptp(x) == 0 or np.ptp(y) == 0):
        reason = "a score is the same for all items"
    labels = _of_labels(x, y, codes, level) if len(np.unique(x)) == len(np.unique(y)) == 2 and not reason else None
    found = []
    for figure, make, method in (
        (named.PEARSON_R, _pearson, f"jackknife, Fisher scale{groups}"),
        (named.SPEARMAN_RHO, _spearman, f"influence values, Fisher scale{groups}"),
        (named.KENDALL_TAU_B, _kendall, f"influence values, Fisher scale{groups}"),
    ):
        label = f"{name} {figure}".strip()
        empty = undefined(label, reason or "", n=len(kept), n_missing=missing, method=method)
        if reason is not None:
            found.append(empty)
            continue
        value, influence = make(x, y)
        if labels is not None:
            found.append(replace(labels, name=label, value=value, n=len(kept), n_missing=missing))
            continue
        error = _jackknife(x, y, codes, number) if make is _pearson else None
        low, high = _bounds(value, error or _influenced(value, influence, codes, number), number, level)
        why = None if low is not None else "the scores agree fully, or there is one group only"
        found.append(replace(empty, value=value, low=low, high=high, level=level, reason=why))
    return found


def _bounds(value: float, error: float, number: int, level: float) -> Bounds:
    """Return the interval, by an error on Fisher's scale."""
    if number < 2 or 1 - abs(value) < 1e-12:
        return None, None
    from scipy.special import stdtrit

    middle, half = np.arctanh(value), float(stdtrit(number - 1, (1 + level) / 2) * error)
    return float(np.tanh(middle - half)), float(np.tanh(middle + half))


def _influenced(value: float, influence: FloatArray, codes: NDArray[np.intp], number: int) -> float:
    """Return the error on Fisher's scale by influence values."""
    sums = np.bincount(codes, weights=influence, minlength=number)
    # Influence values understate the error in small samples, as residuals do; number - 3 as in Fisher's own interval.
    error = np.sqrt(number / max(number - 3, 1) * (sums @ sums)) / len(influence)
    return float(error / max(1 - value**2, 1e-12))


def _jackknife(x: FloatArray, y: FloatArray, codes: NDArray[np.intp], number: int) -> float | None:
    """Return the error of atanh r by leaving out each cluster; None where r is then undefined, or 1."""
    u, v = ((part - part.mean()) / part.std() for part in (x, y))
    parts = [
        np.bincount(codes, weights=part, minlength=number) for part in (np.ones_like(u), u, v, u * u, v * v, u * v)
    ]
    m, a, b, aa, bb, ab = (part.sum() - part for part in parts)
    own, other = aa - a * a / m, bb - b * b / m
    if min(own.min(), other.min()) <= _ROUNDING * len(x):  # without a cluster one of them is all alike
        return None
    left = (ab - a * b / m) / np.sqrt(own * other)
    if not (np.abs(left) < 1 - 1e-9).all():
        return None
    scaled = np.arctanh(left)
    return float(np.sqrt((number - 1) / number * np.sum((scaled - scaled.mean()) ** 2)))


def _of_labels(x: FloatArray, y: FloatArray, codes: NDArray[np.intp], level: float) -> Estimate:
    """Estimate the correlation of two yes-or-no labels."""
    how, yes = Resampling(level=level), (x == x.max(), y == y.max())
    rows = np.stack([(yes[0] == one) & (yes[1] == other) for one in (True, False) for other in (True, False)], 1)
    rows = rows.astype(np.float64)
    groups = cluster_sums(rows, codes.tolist())
    units = None if len(groups) == len(rows) else tables_of(rows)
    made = list(pseudo_units(2))
    places = np.eye(4)[[2 * one + other for one, other, _, _ in made]]
    pseudo = places, np.array([unit[2:] for unit in made]).T
    spread = agreement_interval(tables_of(groups), units, pseudo, _phi, how, growth=_kappa)
    method = f"{METHOD}, {how.draws} draws of {len(groups)}"
    return Estimate("phi", spread.value, spread.low, spread.high, len(x), 0, method, level, reason=spread.reason)


def _phi(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return numerator and denominator of the correlation in tables of both, only one, only the other, neither."""
    both, one, other, neither = sums.T
    return both * neither - one * other, np.sqrt((both + one) * (other + neither) * (both + other) * (one + neither))


def _kappa(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return numerator and denominator of Cohen's kappa in the same tables."""
    both, one, other, neither = sums.T
    size = sums.sum(axis=1)
    expected = ((both + one) * (both + other) + (other + neither) * (one + neither)) / np.maximum(size, 1)
    return both + neither - expected, size - expected


def _pearson(x: FloatArray, y: FloatArray) -> tuple[float, FloatArray]:
    """Return r and its influence values, ``u v - r (u^2 + v^2) / 2`` in standard units."""
    u, v = ((part - part.mean()) / part.std() for part in (x, y))
    value = float(np.clip(np.mean(u * v), -1.0, 1.0))
    return value, u * v - value * (u**2 + v**2) / 2


def _signed(x: FloatArray, values: FloatArray) -> FloatArray:
    """Return ``sum_i sign(x_i - x_m) values_i`` for each m, by sorting."""
    distinct, places = np.unique(x, return_inverse=True)
    sums = np.bincount(places, weights=values, minlength=len(distinct))
    upto = np.cumsum(sums)
    return np.asarray((upto[-1] - upto)[places] - (upto - sums)[places], np.float64)


def _spearman(x: FloatArray, y: FloatArray) -> tuple[float, FloatArray]:
    """Return rho and its influence values; the ranks depend on every item, so each item moves all of them."""
    n, ones = len(x), np.ones(len(x))
    ranks = tuple(-_signed(part, ones) / (2 * n) for part in (x, y))

    def moment(p: int, q: int) -> tuple[float, FloatArray]:
        a, b = ranks[p], ranks[q]
        moved = (_signed((x, y)[p], b) + _signed((x, y)[q], a)) / (2 * n)
        return float(np.mean(a * b)), a * b + moved

    shared, own, others = moment(0, 1), moment(0, 0), moment(1, 1)
    scale = np.sqrt(own[0] * others[0])
    value = float(np.clip(shared[0] / scale, -1.0, 1.0))
    return value, shared[1] / scale - value / 2 * (own[1] / own[0] + others[1] / others[0])


def _below(values: NDArray[np.int64], ends: NDArray[np.int64], limits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count, for each query, the values below its limit among the first ``end`` values, bit by bit of the values.

    At each bit, from the highest, values without it go before those with it, in the order they had; a query follows its
    limit to one side or the other, and where that has the bit, all values of its range without it are below.

    Args:
        values: Whole numbers from 0, shape (n,).
        ends: In [0, n], one a query.
        limits: Whole numbers from 0, one a query.

    Source: Claude and Navarro, The Wavelet Matrix (SPIRE 2012), pages 167-179.
    """
    found, begins = np.zeros_like(ends), np.zeros_like(ends)
    for bit in reversed(range(int(max(values.max(), limits.max())).bit_length())):
        high = (values >> bit) & 1 == 1
        low_before = np.concatenate([[0], np.cumsum(~high)])
        left, right, above = low_before[begins], low_before[ends], (limits >> bit) & 1 == 1
        found += np.where(above, right - left, 0)
        begins = np.where(above, low_before[-1] + begins - left, left)
        ends = np.where(above, low_before[-1] + ends - right, right)
        values = np.concatenate([values[~high], values[high]])
    return found


def _concordance(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return ``sum_i sign(x_i - x_m) sign(y_i - y_m)`` for each m, in n log n steps."""
    n, order = len(x), np.argsort(x, kind="stable")
    ordered, ranks = x[order], np.unique(y, return_inverse=True)[1].astype(np.int64)
    placed = np.sort(ranks)
    first, last = (np.searchsorted(ordered, x, side=side).astype(np.int64) for side in ("left", "right"))
    fewer, upto = (np.searchsorted(placed, ranks, side=side) for side in ("left", "right"))
    ends, limits = np.concatenate([first, first, last, last]), np.tile(np.concatenate([ranks, ranks + 1]), 2)
    both_less, less_upto, upto_less, both_upto = _below(ranks[order], ends, limits).reshape(4, n)
    alike = both_less + (n - last - upto + both_upto)
    apart = (first - less_upto) + (fewer - upto_less)
    return np.asarray(alike - apart, np.float64)


def _untied(x: FloatArray) -> FloatArray:
    """Return for each item how many others have another value, which is its concordance with itself."""
    _, places, times = np.unique(x, return_inverse=True, return_counts=True)
    return np.asarray(len(x) - times[places], np.float64)


def _kendall(x: FloatArray, y: FloatArray) -> tuple[float, FloatArray]:
    """Return tau-b and its influence values, from what each item is to all others."""
    rows = np.stack([_concordance(x, y), _untied(x), _untied(y)]) / len(x)
    shared, own, others = rows.mean(axis=1)
    scale = np.sqrt(own * others)
    value = float(np.clip(shared / scale, -1.0, 1.0))
    gaps = rows - np.array([[shared], [own], [others]])
    return value, 2 * (gaps[0] / scale - value / 2 * (gaps[1] / own + gaps[2] / others))
