"""Two policies on the same items: differences and tests that use the pairing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval import figure_names as named
from perl_eval.outcomes import HALF, WON
from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import Clusters, Resampling
from perl_eval.stats.intervals import mean, p_value, undefined
from perl_eval.stats.sign_flip import sign_flip_p
from perl_eval.stats.winrate import over_groups

__all__ = ["mcnemar", "paired_differences", "paired_outcomes"]

FloatArray = NDArray[np.float64]
_GAP = (-1.0, 1.0)


def mcnemar(hits_a: ArrayLike, hits_b: ArrayLike, *, clusters: Clusters = None) -> Estimate:
    """Test whether two policies hit equally often on the same items: McNemar's test with mid-p, two-sided.

    With b and c the items that only a, only b hits: ``min(1, 2 P(X <= min(b, c)) - P(X = min(b, c)))``,
    ``X ~ Bin(b + c, 1/2)``. Where groups repeat, their sums of b - c are flipped as a whole, see `sign_flip_p`.

    Args:
        hits_a: Whether a hits, shape (n,).
        hits_b: Whether b hits, shape (n,).
        clusters: What shares a source, one an item.

    Source: Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13 (2013), 91.
    """
    one, other = np.asarray(hits_a, bool), np.asarray(hits_b, bool)
    if one.shape != other.shape:
        raise ValueError(f"{len(one)} and {len(other)} items are not paired")
    name, method = named.MCNEMAR_P, f"McNemar's test, mid-p{over_groups(clusters, len(one))}"
    signs = one.astype(np.float64) - other
    if not signs.any():
        return undefined(name, "no item tells the two apart", n=len(one), method=method)
    return p_value(name, sign_flip_p(signs, clusters=clusters, mid=True), n=len(one), method=method)


def paired_differences(
    scores_a: Sequence[float | None],
    scores_b: Sequence[float | None],
    *,
    name: str = "paired difference",
    clusters: Clusters = None,
    bounds: tuple[float, float] | None = None,
    resampling: Resampling | None = None,
) -> Estimate:
    """Estimate the mean difference of two policies' scores of the same items, from the differences item by item.

    Args:
        scores_a: Score of a on each item; None where it has none.
        scores_b: Score of b on each item. Items that either lacks are counted as missing.
        name: Name of the figure.
        clusters: What shares a source, one an item.
        bounds: What a difference can be at least and at most, see `perl_eval.stats.intervals.mean`; None for scores
            without bounds, whose interval is t.
        resampling: Its level.
    """
    level = (resampling or Resampling()).level
    rows = [
        (one - other, place)
        for place, (one, other) in enumerate(zip(scores_a, scores_b, strict=True))
        if one is not None and other is not None
    ]
    missing = len(scores_a) - len(rows)
    if not rows:
        return undefined(name, "no item has both scores", n_missing=missing)
    groups = None if clusters is None else [clusters[place] for _, place in rows]
    gaps = [gap for gap, _ in rows]
    return mean(name, gaps, clusters=groups, n_missing=missing, bounds=bounds, level=level)


def paired_outcomes(
    outcomes_a: Sequence[str],
    outcomes_b: Sequence[str],
    *,
    clusters: Clusters = None,
    resampling: Resampling | None = None,
) -> list[Estimate]:
    """Compare two policies that were judged against one baseline on the same items.

    Args:
        outcomes_a: Outcome of a against the baseline, one an item.
        outcomes_b: Outcome of b against the same baseline on the same item. Items unjudged for either are missing.
        clusters: What shares a source, one an item.
        resampling: Its level.

    Returns:
        Differences of win rate and of win rate with undecided half, a minus b, and McNemar's p on wins.
    """
    halves_a, halves_b = ([HALF.of(outcome) for outcome in part] for part in (outcomes_a, outcomes_b))
    wins_a, wins_b = ([WON.of(outcome) for outcome in part] for part in (outcomes_a, outcomes_b))
    both = [place for place, pair in enumerate(zip(wins_a, wins_b, strict=True)) if None not in pair]
    groups = None if clusters is None else [clusters[place] for place in both]
    hits_a, hits_b = ([bool(part[place]) for place in both] for part in (wins_a, wins_b))
    test = mcnemar(hits_a, hits_b, clusters=groups)
    figures = (
        (named.WIN_RATE_DIFFERENCE, wins_a, wins_b),
        (named.WIN_RATE_DIFFERENCE_UNDECIDED_HALF, halves_a, halves_b),
    )
    found = [
        paired_differences(ours, theirs, name=name, clusters=clusters, bounds=_GAP, resampling=resampling)
        for name, ours, theirs in figures
    ]
    return [*found, replace(test, n_missing=len(wins_a) - len(both))]
