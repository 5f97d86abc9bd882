"""Position bias of a judge that sees each pair in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from perl_eval import figure_names as named
from perl_eval.records import Ballot, Estimate
from perl_eval.stats.bootstrap import Clusters, Resampling
from perl_eval.stats.intervals import count, mean, p_value, proportion, undefined
from perl_eval.stats.kappa import cohen_kappa
from perl_eval.stats.sign_flip import sign_flip_p
from perl_eval.stats.winrate import over_groups

__all__ = ["NAMES", "position_bias", "verdicts"]

NAMES = (
    named.FIRST_IN_BOTH_ORDERS,
    named.SECOND_IN_BOTH_ORDERS,
    named.POSITION_TEST_P,
    named.CONSISTENCY,
    named.POSITION_PREFERENCE,
    named.KAPPA_BETWEEN_ORDERS,
)
_FLIPPED = {"first": "second", "second": "first", "tie": "tie"}


def verdicts(ballots: Sequence[Ballot]) -> tuple[str, str] | None:
    """Return the verdicts of the two orders, as positions, or None unless both orders have one.

    Where an order was asked more than once, its last verdict counts.
    """
    found = {ballot.order: ballot.verdict for ballot in ballots if ballot.verdict in _FLIPPED}
    return (str(found["ab"]), str(found["ba"])) if "ab" in found and "ba" in found else None


def position_bias(
    pairs: Sequence[tuple[str, str] | None],
    *,
    clusters: Clusters = None,
    positional: bool = True,
    resampling: Resampling | None = None,
) -> list[Estimate]:
    """Estimate how far position decided.

    With FF (SS) the pairs whose two verdicts both name the answer shown first (second), the test is exact and
    two-sided, ``FF ~ Bin(FF + SS, 1/2)``, over groups where they repeat (see `sign_flip_p`); consistency is
    ``(n - FF - SS) / n``; position preference is ``(FF - SS) / n``, above 0 where the first is favoured.

    Args:
        pairs: Verdicts of both orders as positions, see `verdicts`; None where an order has none.
        clusters: What shares a source, one a pair.
        positional: False for a judge that sees no positions; then all figures are undefined.
        resampling: For the interval of kappa, and the level of all.
    """
    how = resampling or Resampling()
    if not positional:
        return [undefined(name, "the judge sees no positions") for name in NAMES]
    known = [pair for pair in pairs if pair is not None]
    groups = None if clusters is None else [c for c, pair in zip(clusters, pairs, strict=True) if pair is not None]
    n, missing = len(known), len(pairs) - len(known)
    if n == 0:
        return [undefined(name, "no pair has a verdict in both orders", n_missing=missing) for name in NAMES]
    first = np.array([pair == ("first", "first") for pair in known])
    second = np.array([pair == ("second", "second") for pair in known])
    ups, downs = int(first.sum()), int(second.sum())
    preference = first.astype(float) - second
    ratings = [{"ab": _contestant(ab, shown_first="a"), "ba": _contestant(ba, shown_first="b")} for ab, ba in known]
    kappa = cohen_kappa(ratings, ("a", "b", "tie"), name=NAMES[5], clusters=groups, resampling=how)
    return [
        count(NAMES[0], ups, n=n, n_missing=missing),
        count(NAMES[1], downs, n=n, n_missing=missing),
        p_value(
            NAMES[2],
            sign_flip_p(preference, clusters=groups),
            n=ups + downs,
            method=f"exact sign test{over_groups(groups, n)}",
            n_missing=missing,
        ),
        proportion(NAMES[3], ~(first | second), clusters=groups, n_missing=missing, level=how.level),
        mean(NAMES[4], preference, clusters=groups, n_missing=missing, bounds=(-1.0, 1.0), level=how.level),
        replace(kappa, n_missing=missing),
    ]


def _contestant(verdict: str, *, shown_first: str) -> str:
    if verdict == "tie":
        return "tie"
    other = "b" if shown_first == "a" else "a"
    return shown_first if verdict == "first" else other
