"""Ranking more than two policies from pairwise outcomes: Bradley-Terry with ties, after Davidson."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perl_eval import figure_names as named
from perl_eval.outcomes import EVEN
from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import UNDEFINED_SHARE, Clusters, Resampling, cluster_codes, merge, weights
from perl_eval.stats.intervals import undefined

__all__ = ["Comparison", "Davidson", "fit_davidson", "rank"]

FloatArray = NDArray[np.float64]
_STEPS, _PRECISE = 500, 1e-9
_UNSTABLE = "too few items to resample: many draws have no ranking"
_APART = "some policies never win or tie against the rest"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One judged pair of policies on one item. ``score`` is 1, 0 or 1/2 for a: won, lost, undecided."""

    a: str
    b: str
    score: float


@dataclass(frozen=True, slots=True)
class Davidson:
    """A fit: log strengths that sum to zero, by policy, and the log of the tie parameter (None without ties)."""

    strengths: dict[str, float]
    log_tie: float | None


def fit_davidson(comparisons: Sequence[Comparison]) -> Davidson | None:
    """Fit Davidson's model by maximum likelihood.

    ``P(a wins) : P(b wins) : P(tie) = s_a : s_b : nu sqrt(s_a s_b)``. Without ties it is Bradley-Terry.

    Returns:
        The fit, or None if the likelihood has no maximum: some policies never win or tie against the rest.

    Source: Davidson, JASA 65 (1970), 317-328.
    """
    policies = _policies(comparisons)
    tables = _tables(comparisons, policies, None).sum(axis=0, keepdims=True)
    if len(policies) < 2 or not _connected(tables).all():
        return None
    strengths, nu = _fit(tables)
    by_policy = dict(zip(policies, strengths[0].tolist(), strict=True))
    return Davidson(by_policy, float(np.log(nu[0])) if nu[0] > 0 else None)


def _policies(comparisons: Sequence[Comparison]) -> list[str]:
    return sorted({name for pair in comparisons for name in (pair.a, pair.b)})


def _tables(comparisons: Sequence[Comparison], policies: Sequence[str], clusters: Clusters) -> FloatArray:
    """Count, in each cluster, how often the row's policy beat the column's, and how often they tied.

    Returns:
        Shape (clusters, 2, policies, policies): wins, and ties above the diagonal.
    """
    places = {name: place for place, name in enumerate(policies)}
    codes, number = cluster_codes(range(len(comparisons)) if clusters is None else clusters)
    tables = np.zeros((number, 2, len(policies), len(policies)))
    for pair, code in zip(comparisons, codes.tolist(), strict=True):
        one, other = places[pair.a], places[pair.b]
        if pair.score == EVEN:
            tables[code, 1, min(one, other), max(one, other)] += 1
        else:
            winner, loser = (one, other) if pair.score > EVEN else (other, one)
            tables[code, 0, winner, loser] += 1
    return tables


def _connected(tables: FloatArray) -> NDArray[np.bool_]:
    """Return, for each table, whether every policy reaches every other through wins and ties (Ford's condition)."""
    beats = tables[:, 0] + tables[:, 1] + tables[:, 1].swapaxes(1, 2) + np.eye(tables.shape[2])
    reached = (beats > 0).astype(np.float64)
    for _ in range(tables.shape[2].bit_length()):
        reached = np.minimum(reached @ reached, 1.0)
    return np.asarray((reached > 0).all(axis=(1, 2)))


def _fit(tables: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Run Davidson's fixed-point iteration on many tables at once.

    A policy's points are its wins plus half its ties. At the maximum
    ``s_i = points_i / sum_j n_ij (1 + nu sqrt(s_j / s_i) / 2) / (s_i + s_j + nu sqrt(s_i s_j))`` and
    ``nu = ties / sum_(i<j) n_ij sqrt(s_i s_j) / (s_i + s_j + nu sqrt(s_i s_j))``.

    Args:
        tables: Shape (draws, 2, policies, policies), each connected.

    Returns:
        Log strengths with mean zero, shape (draws, policies), and nu, shape (draws,).
    """
    wins, ties = tables[:, 0], tables[:, 1] + tables[:, 1].swapaxes(1, 2)
    played, points = wins + wins.swapaxes(1, 2) + ties, wins.sum(axis=2) + ties.sum(axis=2) / 2
    tied = ties.sum(axis=(1, 2)) / 2
    strengths, nu = np.ones_like(points), (tied > 0).astype(np.float64)
    for _ in range(_STEPS):
        root = np.sqrt(strengths)
        crossed = root[:, :, None] * root[:, None, :]
        total = strengths[:, :, None] + strengths[:, None, :] + nu[:, None, None] * crossed
        ratio = 1 + nu[:, None, None] * root[:, None, :] / root[:, :, None] / 2
        new = points / (played * ratio / total).sum(axis=2)
        new /= np.exp(np.log(new).mean(axis=1, keepdims=True))
        new_nu = tied / ((played * crossed / total).sum(axis=(1, 2)) / 2)
        change = max(float(np.abs(np.log(new / strengths)).max()), float(np.abs(new_nu - nu).max()))
        strengths, nu = new, new_nu
        if change < _PRECISE:
            break
    return np.log(strengths), nu


def rank(
    comparisons: Sequence[Comparison],
    *,
    clusters: Clusters = None,
    resampling: Resampling | None = None,
) -> dict[str, Estimate]:
    """Estimate each policy's strength with an interval from a bootstrap over items.

    Args:
        comparisons: Judged pairs; all pairs of policies on one item should share a cluster.
        clusters: The item, or what shares a source; None if every comparison is its own.
        resampling: Draws, seed and level; intervals are t times the standard error of the draws.

    Returns:
        ``strength`` by policy, strongest first: log odds of beating an average policy, ties aside; they sum to zero.
    """
    how = resampling or Resampling(draws=500)
    policies, fit = _policies(comparisons), fit_davidson(comparisons)
    n = {name: sum(name in (pair.a, pair.b) for pair in comparisons) for name in policies}
    if fit is None:
        return {name: undefined(named.STRENGTH, _APART, n=n[name], method="Davidson") for name in policies}
    shape = (2, len(policies), len(policies))
    distinct, counts = merge(_tables(comparisons, policies, clusters).reshape(-1, 2 * len(policies) ** 2))
    drawn = []
    for block in weights(counts, how, width=10 * distinct.shape[1]):
        tables = (block @ distinct).reshape(-1, *shape)
        drawn.append(_fit(tables[_connected(tables)])[0])
    errors = _errors(np.concatenate(drawn), int(counts.sum()), how)
    method = f"Davidson, bootstrap standard error, {how.draws} draws of {counts.sum()}"
    found = {}
    for place, name in enumerate(policies):
        value, half = fit.strengths[name], None if errors is None else float(errors[place])
        low, high = (None, None) if half is None else (value - half, value + half)
        reason = _UNSTABLE if half is None else None
        found[name] = Estimate(named.STRENGTH, value, low, high, n[name], 0, method, how.level, reason=reason)
    return dict(sorted(found.items(), key=lambda entry: -fit.strengths[entry[0]]))


def _errors(strengths: FloatArray, clusters: int, how: Resampling) -> FloatArray | None:
    """Return half widths, shape (policies,), t times the spread of the draws; None if too many draws have no fit."""
    if clusters < 2 or len(strengths) < (1 - UNDEFINED_SHARE) * how.draws:
        return None
    from scipy.special import stdtrit

    critical = float(stdtrit(clusters - 1, (1 + how.level) / 2))
    return np.asarray(critical * strengths.std(axis=0, ddof=1), np.float64)
