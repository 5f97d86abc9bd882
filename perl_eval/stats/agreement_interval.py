"""Intervals of agreement coefficients that hold where labels are rare and where agreement is full."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from perl_eval.stats.bootstrap import Ratio, RatioInterval, Resampling, merge

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["METHOD", "Tables", "agreement_interval", "pseudo_units", "tables_of"]

FloatArray = NDArray[np.float64]
METHOD = "Dirichlet posterior"
_AGREEING, _APART, _APART_ABOVE = 1.0, 1.0, 0.5
"""Weight of the pseudo-units that agree, and that do not: for the lower bound, and for the upper."""
_FEW = 5
"""Clusters in which raters disagree, below which their variance says little."""
_STILL = 1e-9
_CELLS = 4_000_000
"""Cells of the largest table of weights held at once (32 MB)."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Rows of features, equal ones merged.

    Attributes:
        distinct: Shape (distinct, features); may be sparse.
        counts: How often each occurs, shape (distinct,).
    """

    distinct: FloatArray | csr_array
    counts: NDArray[np.int64]

    @property
    def number(self) -> int:
        """Rows before merging."""
        return int(self.counts.sum())

    def dense(self) -> FloatArray:
        """Return the distinct rows as an array."""
        return self.distinct if isinstance(self.distinct, np.ndarray) else self.distinct.toarray()

    def total(self) -> FloatArray:
        """Return the sums of the features."""
        return np.asarray(self.counts @ self.distinct, np.float64)


def tables_of(rows: FloatArray) -> Tables:
    """Merge equal rows, leaving out those of nothing.

    Args:
        rows: Shape (n, features).
    """
    return Tables(*merge(rows[rows.any(axis=1)]))


def pseudo_units(labels: int) -> Iterator[tuple[int, int, float, float]]:
    """Yield the pseudo-units: two labels, and the weights of the unit for the lower and for the upper bound.

    Args:
        labels: How many labels there can be.
    """
    for one in range(labels):
        for other in range(labels):
            if one == other:
                yield one, other, _AGREEING / labels, _AGREEING / labels
            else:
                share = 1 / (labels * (labels - 1))
                yield one, other, _APART * share, _APART_ABOVE * share


def agreement_interval(
    clusters: Tables,
    units: Tables | None,
    pseudo: tuple[FloatArray, FloatArray],
    ratio: Ratio,
    how: Resampling,
    *,
    growth: Ratio | None = None,
) -> RatioInterval:
    """Return a coefficient of agreement and its interval, from the posterior of the shares of units of each kind.

    A draw gives each cluster an exponential weight and each pseudo-unit a gamma weight (Rubin's Bayesian bootstrap with
    a prior; for two raters and independent units it is the Dirichlet posterior of their table of labels). Pseudo-units
    are two raters with any two labels: in all one that agrees and, for the lower bound, one that does not, half of one
    for the upper. Without them, two labels that were never seen together never will be, and full agreement is certain.
    As in `perl_eval.stats.bootstrap.spread_of` quantiles are taken as far out as t would be, of as many clusters of one
    size as they are worth. Where units share clusters, a pseudo-unit is worth as many units as the variance over
    clusters exceeds that over units, at most a cluster. The interval holds the figure itself.

    Args:
        clusters: Features of each cluster.
        units: Features of each unit; None where no cluster has more than one.
        pseudo: Features of each pseudo-unit, shape (pseudo-units, features), and their weights for the lower and upper
            bound, shape (2, pseudo-units).
        ratio: From sums to numerator and denominator.
        how: Draws, seed and level.
        growth: The ratio by which variances over clusters and over units are compared, whose denominator less its
            numerator is how many units disagree; by default ``ratio``.

    Source: Rubin, Annals of Statistics 9 (1981), 130-134; Walley, Journal of the Royal Statistical Society B 58 (1996),
        3-57, for bounds from two priors; Donner and Eliasziw, Statistics in Medicine 11 (1992), 1511-1519, whose
        interval of the intraclass kappa is about as wide.
    """
    total, number = clusters.total(), clusters.number
    numerator, denominator = ratio(total[None, :])
    if denominator[0] == 0:
        return RatioInterval(None, None, None, "the denominator is zero")
    value = float(numerator[0] / denominator[0])
    if number < 2:
        return RatioInterval(value, None, None, "one item or group only; it has no interval")
    from scipy.special import stdtrit

    rows, weights = pseudo[0] * _growth(clusters, units, growth or ratio), pseudo[1]
    low, high = (np.concatenate(part) for part in zip(*_drawn(clusters, rows, weights, ratio, how), strict=True))
    worth = float(number) if units is None or units.number == number else _effective(clusters)
    reach = np.sqrt(worth / max(worth - 1, 1.0)) * float(stdtrit(max(worth - 1, 1.0), (1 + how.level) / 2))
    bounds = np.quantile(low, NormalDist().cdf(-reach)), np.quantile(high, NormalDist().cdf(reach))
    return RatioInterval(value, min(value, float(bounds[0])), max(value, min(1.0, float(bounds[1]))))


def _effective(clusters: Tables) -> float:
    """Return how many clusters of one size would be worth as much: ``(sum m)^2 / sum m^2``."""
    sizes = np.asarray(clusters.distinct.sum(axis=1), np.float64).ravel()
    return float(clusters.counts @ sizes) ** 2 / float(clusters.counts @ sizes**2)


def _drawn(
    clusters: Tables, rows: FloatArray, weights: FloatArray, ratio: Ratio, how: Resampling
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield the coefficient on draws with the weights of the lower and of the upper bound, in blocks."""
    rng = np.random.default_rng(how.seed)
    block = max(1, min(how.draws, _CELLS // max(len(clusters.counts), rows.shape[1])))
    for begin in range(0, how.draws, block):
        size = min(block, how.draws - begin)
        sums = np.asarray(rng.gamma(clusters.counts, size=(size, len(clusters.counts))) @ clusters.distinct)
        # The lower bound's weights are those of the upper and some more, so that the two are drawn together.
        above = rng.gamma(weights[1], size=(size, len(rows)))
        below = above + rng.gamma(weights[0] - weights[1], size=above.shape)
        values = [np.divide(*ratio(sums + part @ rows)) for part in (below, above)]
        yield values[0], values[1]


def _growth(clusters: Tables, units: Tables | None, ratio: Ratio) -> float:
    """Return the variance of a coefficient over clusters, over that over units: at least 1, at most a cluster.

    Of few clusters in which raters disagree, what was seen says little: it is drawn towards the size of a cluster, as
    if one more had been seen in which they do throughout, see `perl_eval.stats.intervals.proportion`.
    """
    if units is None or units.number == clusters.number:
        return 1.0
    # As many units as a cluster has, were all alike of the mean size.
    largest = units.number / clusters.number
    if max(np.prod(tables.distinct.shape) for tables in (clusters, units)) > _CELLS:
        return largest
    numerator, denominator = ratio(clusters.dense())
    apart = int(clusters.counts[denominator - numerator > _STILL].sum())
    over_clusters, over_units = (_jackknife(tables, ratio) for tables in (clusters, units))
    if over_units <= 0 or not apart:
        return largest
    weight = min(1.0, (_FEW / apart) ** 2)
    seen = float(np.clip(over_clusters / over_units, 1.0, largest))
    return (apart * seen + weight * largest) / (apart + weight)


def _jackknife(tables: Tables, ratio: Ratio) -> float:
    """Return the jackknife's variance of a ratio."""
    numerator, denominator = ratio(tables.total() - tables.dense())
    live = denominator != 0
    left, times = numerator[live] / denominator[live], tables.counts[live]
    if times.sum() < 2:
        return 0.0
    return float(times @ (left - np.average(left, weights=times)) ** 2)
