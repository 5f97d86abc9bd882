"""Cohen's kappa, pooled over pairs of raters where there are more than two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from perl_eval import figure_names as named
from perl_eval.records import Estimate
from perl_eval.stats.agreement_interval import METHOD, Tables, agreement_interval, pseudo_units
from perl_eval.stats.bootstrap import Clusters, Resampling
from perl_eval.stats.intervals import undefined

__all__ = ["CONSTANT", "TOO_FEW", "Ratings", "cohen_kappa"]

FloatArray = NDArray[np.float64]
Ratings = Sequence[Mapping[str, str]]
"""Labels by rater, one mapping a unit; a rater who did not label a unit is not in it."""
CONSTANT = "all labels are the same, so chance agreement is complete"
TOO_FEW = "no unit has two labels"
_DENSE = 100_000
"""Cells of the largest table that is not worth the time that scipy.sparse takes to load."""


def cohen_kappa(
    ratings: Ratings,
    labels: Sequence[str],
    *,
    name: str = named.COHEN_KAPPA,
    clusters: Clusters = None,
    resampling: Resampling | None = None,
) -> Estimate:
    """Estimate Cohen's kappa, ``(po - pe) / (1 - pe)``; pooled over rater pairs where there are more than two raters.

    With ``po_r`` and ``pe_r`` observed and chance agreement of rater pair r on its ``n_r`` shared units, the pooled
    kappa is ``sum_r n_r (po_r - pe_r) / sum_r n_r (1 - pe_r)``. With two raters it is Cohen's own.

    Args:
        ratings: Labels by rater, one mapping a unit.
        labels: All labels there can be.
        name: Name of the figure.
        clusters: What shares a source, one a unit.
        resampling: Draws, seed and level of the interval, see `perl_eval.stats.agreement_interval`.

    Source: Cohen (1960); De Vries et al., Field Methods 20 (2008), 272-282, for pooling.
    Deviations: Rater pairs are weighted by their shared units, not equally, since panels here are sparse.
    """
    how, n = resampling or Resampling(), sum(len(unit) > 1 for unit in ratings)
    if n == 0:
        return undefined(name, TOO_FEW, n_missing=len(ratings))
    size = len(labels)
    groups, seen = _rater_tables(ratings, labels, clusters)
    pairs = len(seen)
    units = None if clusters is None else _rater_tables(ratings, labels, None)[0]

    def ratio(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
        tables = sums.reshape(len(sums), pairs, size, size)
        shared = tables.sum(axis=(2, 3))
        expected = (tables.sum(axis=3) * tables.sum(axis=2)).sum(axis=2) / np.maximum(shared, 1)
        observed = np.trace(tables, axis1=2, axis2=3)
        return (observed - expected).sum(axis=1), (shared - expected).sum(axis=1)

    spread = agreement_interval(groups, units, _pseudo(groups, size, n), ratio, how)
    return Estimate(
        name,
        spread.value,
        spread.low,
        spread.high,
        n=n,
        n_missing=len(ratings) - n,
        method=f"{METHOD}, {how.draws} draws of {groups.number}",
        level=how.level,
        reason=CONSTANT if spread.value is None else spread.reason,
    )


def _pseudo(tables: Tables, size: int, units: int) -> tuple[FloatArray, FloatArray]:
    """Return the features of the pseudo-units: each pair of raters labels its mean share of one; and their weights."""
    shares = tables.total().reshape(-1, size, size).sum(axis=(1, 2)) / units
    made = list(pseudo_units(size))
    rows = np.zeros((len(made), len(shares), size, size))
    for row, (one, other, _, _) in enumerate(made):
        rows[row, :, one, other] = shares
    return rows.reshape(len(made), -1), np.array([unit[2:] for unit in made]).T


def _rater_tables(ratings: Ratings, labels: Sequence[str], clusters: Clusters) -> tuple[Tables, dict[int, int]]:
    """Cross-tabulate, in each cluster, the labels of every pair of raters.

    A rater pair has ``labels^2`` cells, and most cells of most clusters are empty where there are many raters; so a
    cluster is the sorted list of its cells, equal clusters are merged, and a table that is not small is sparse.

    Returns:
        The tables, of pairs * labels * labels features, and the place of each rater pair in them.
    """
    places = {label: place for place, label in enumerate(labels)}
    raters = {rater: place for place, rater in enumerate(sorted({rater for unit in ratings for rater in unit}))}
    size, names = len(labels), range(len(ratings)) if clusters is None else clusters
    cells: dict[Hashable, list[tuple[int, int]]] = {}
    for unit, cluster in zip(ratings, names, strict=True):
        given = sorted((raters[rater], places[label]) for rater, label in unit.items())
        cells.setdefault(cluster, []).extend(
            (one * len(raters) + other, x * size + y) for (one, x), (other, y) in combinations(given, 2)
        )
    tables = sorted(Counter(tuple(sorted(part)) for part in cells.values() if part).items())
    seen = {pair: rank for rank, pair in enumerate(sorted({pair for table, _ in tables for pair, _ in table}))}
    columns = [seen[pair] * size * size + cell for table, _ in tables for pair, cell in table]
    ends = np.cumsum([0, *(len(table) for table, _ in tables)])
    shape = (len(tables), len(seen) * size * size)
    times = np.array([number for _, number in tables], np.int64)
    if shape[0] * shape[1] <= _DENSE:
        table = np.zeros(shape)
        np.add.at(table, (np.repeat(np.arange(len(tables)), np.diff(ends)), np.asarray(columns, np.int64)), 1.0)
        return Tables(table, times), seen
    from scipy.sparse import csr_array

    matrix = csr_array((np.ones(len(columns)), np.asarray(columns, np.int64), ends), shape=shape)
    return Tables(matrix, times), seen
