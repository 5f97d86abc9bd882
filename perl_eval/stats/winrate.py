"""Win rates from outcomes of pairs judged in both orders.

A win (loss) is a pair preferred (not preferred) in both orders; split, tie and mixed pairs are undecided; an unjudged
pair had no verdict. Rates are over judged pairs; unjudged ones are counted as missing and bounded by what they could
have been.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from perl_eval import figure_names as named
from perl_eval.outcomes import DROPPED, HALF, LOST, WON, Weighting, is_undecided, outcomes_of, worth
from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import Clusters, Resampling, cluster_codes, select
from perl_eval.stats.intervals import count, mean, p_value, proportion, resampled_mean, undefined
from perl_eval.stats.sign_flip import sign_flip_p

__all__ = [
    "PairCounts",
    "outcome_scores",
    "over_groups",
    "sign_test",
    "soft_rate",
    "tally",
    "win_rates",
    "yes_rates",
]

FloatArray = NDArray[np.float64]
_UNIT = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class PairCounts:
    """How many pairs had each outcome; ``undecided`` are the judged pairs that neither side won."""

    wins: int
    losses: int
    splits: int
    ties: int
    mixed: int
    unjudged: int
    undecided: int

    @property
    def judged(self) -> int:
        """Pairs with a verdict."""
        return self.wins + self.losses + self.splits + self.ties + self.mixed


def tally(outcomes: Sequence[str]) -> PairCounts:
    """Count pairwise outcomes.

    Raises:
        ValueError: An outcome is not a pairwise one.
    """
    found = dict.fromkeys(outcomes_of("pairwise"), 0)
    for outcome in outcomes:
        if outcome not in found:
            raise ValueError(f"{outcome!r} is no outcome of a pair; known are {', '.join(found)}")
        found[outcome] += 1
    return PairCounts(
        wins=found["win"],
        losses=found["loss"],
        splits=found["split"],
        ties=found["tie"],
        mixed=found["mixed"],
        unjudged=found["unjudged"],
        undecided=sum(number for outcome, number in found.items() if is_undecided(outcome)),
    )


def outcome_scores(outcomes: Sequence[str]) -> NDArray[np.float64]:
    """Return 1 for a win, 0 for a loss and 1/2 for an undecided pair; unjudged pairs are not allowed here.

    Returns:
        Shape (n,), in {0, 1/2, 1}.
    """
    return _counted(HALF, outcomes)


def _counted(weighting: Weighting, outcomes: Sequence[str]) -> FloatArray:
    """Return what each outcome adds to a rate that all of them are in."""
    table = weighting.table()
    return np.fromiter((table[outcome] for outcome in outcomes), np.float64, len(outcomes))


def sign_test(scores: Sequence[float] | FloatArray, *, clusters: Clusters = None) -> Estimate:
    """Test whether wins and losses are equally likely, exactly, two-sided; over groups where they repeat.

    Args:
        scores: 1 for a win, 0 for a loss, 1/2 for what says nothing; shape (n,).
        clusters: What shares a source, one a pair.
    """
    signs = np.rint(2 * np.asarray(scores, np.float64) - 1)
    name, n = named.WIN_AGAINST_LOSS_SIGN_TEST_P, int(np.count_nonzero(signs))
    method = f"exact sign test{over_groups(clusters, len(signs))}"
    if n == 0:
        return undefined(name, "no pair was decided", method=method)
    return p_value(name, sign_flip_p(signs, clusters=clusters), n=n, method=method)


def over_groups(clusters: Clusters, n: int) -> str:
    """Return what goes after the name of a test that is over groups, because some hold more than one of n items."""
    number = n if clusters is None else cluster_codes(clusters)[1]
    return f" over {number} groups" if number < n else ""


@dataclass(frozen=True, slots=True)
class _Way:
    """How the intervals of a set of rates are made: analytically, or by bootstrap where ``resampling`` is given."""

    level: float
    resampling: Resampling | None

    def proportion(self, name: str, hits: FloatArray, clusters: Clusters, n_missing: int = 0) -> Estimate:
        if self.resampling is not None:
            return self.mean(name, hits, clusters, n_missing)
        return proportion(name, hits, clusters=clusters, n_missing=n_missing, level=self.level)

    def mean(self, name: str, values: FloatArray, clusters: Clusters, n_missing: int = 0) -> Estimate:
        if self.resampling is not None:
            return resampled_mean(
                name, values, clusters=clusters, n_missing=n_missing, bounds=_UNIT, resampling=self.resampling
            )
        return mean(name, values, clusters=clusters, n_missing=n_missing, bounds=_UNIT, level=self.level)


def win_rates(
    outcomes: Sequence[str],
    *,
    clusters: Clusters = None,
    p_a: Sequence[float | None] | None = None,
    level: float = 0.95,
    resampling: Resampling | None = None,
) -> list[Estimate]:
    """Estimate everything that a set of pairwise outcomes says about contestant a.

    ``win rate`` = wins / n with Wilson's interval; ``win rate, undecided half`` = (wins + undecided / 2) / n with that
    of a bounded mean, see `perl_eval.stats.intervals.mean`; ``win rate, undecided dropped`` = wins / (wins + losses);
    each clustered where clusters repeat. n is the number of judged pairs.

    Args:
        outcomes: Outcome of each pair, unjudged ones included.
        clusters: What shares a source, one a pair; None if pairs are independent.
        p_a: Probability that a is preferred, where the judge gave one.
        level: Confidence level; that of ``resampling`` counts where it is given.
        resampling: If given, all intervals are bootstrap intervals over clusters.

    Returns:
        Counts, rates, bounds for the unjudged, win minus loss, and the sign test.
    """
    counts = tally(outcomes)
    n, lost = counts.judged, counts.unjudged
    way = _Way(level if resampling is None else resampling.level, resampling)
    clusters = None if clusters is None else cluster_codes(clusters)[0]
    names = np.asarray(outcomes, dtype=object)
    judged = names != "unjudged"
    groups = select(clusters, judged)
    said = names[judged].tolist()
    scores, wins, losses = (_counted(weighting, said) for weighting in (HALF, WON, LOST))
    undecided_of, dropped = {outcome: is_undecided(outcome) for outcome in outcomes_of("pairwise")}, DROPPED.table()
    undecided = np.fromiter((undecided_of[outcome] for outcome in said), np.float64, n)
    kept = np.fromiter((outcome in dropped for outcome in said), bool, n)
    won = np.array([dropped[outcome] for outcome in said if outcome in dropped])
    tallied = (named.WINS, named.LOSSES, "splits", named.TIES, "mixed", "unjudged")
    found = [count(name, getattr(counts, name), n=n, n_missing=lost) for name in tallied]
    found += [
        way.proportion(named.WIN_RATE, wins, groups, lost),
        way.proportion(named.LOSS_RATE, losses, groups, lost),
        way.proportion(named.UNDECIDED_RATE, undecided, groups, lost),
        way.mean(named.WIN_RATE_UNDECIDED_HALF, scores, groups, lost),
        way.proportion(named.WIN_RATE_UNDECIDED_DROPPED, won, select(groups, kept), lost),
        _net(way, scores, groups, lost),
        sign_test(scores, clusters=groups),
    ]
    for case, filled in (("lost", worth("loss")), ("won", worth("win"))):
        guess = _filled(judged, wins, filled), _filled(judged, scores, filled)
        bounds = (
            way.proportion(f"win rate, unjudged {case}", guess[0], clusters),
            way.mean(f"win rate, undecided half, unjudged {case}", guess[1], clusters),
        )
        found += [replace(one, kind="upper bound" if filled else "lower bound") for one in bounds]
    if p_a is not None:
        found.append(soft_rate(named.WIN_RATE_FROM_PROBABILITIES, p_a, clusters=clusters, level=way.level))
    return found


def _filled(judged: NDArray[np.bool_], values: FloatArray, filled: float) -> FloatArray:
    """Return the values of the judged units at their places, and what the others are taken for."""
    full = np.full(len(judged), filled)
    full[judged] = values
    return full


def _net(way: _Way, scores: FloatArray, clusters: Clusters, n_missing: int) -> Estimate:
    """Return the share won minus the share lost, in [-1, 1]; it is twice the score less one."""
    half = way.mean(named.WIN_MINUS_LOSS, scores, clusters, n_missing)

    def stretch(part: float | None) -> float | None:
        return None if part is None else 2 * part - 1

    return replace(half, value=stretch(half.value), low=stretch(half.low), high=stretch(half.high))


def soft_rate(
    name: str, probabilities: Sequence[float | None], *, clusters: Clusters = None, level: float = 0.95
) -> Estimate:
    """Estimate a mean of probabilities with a t interval; items without a probability are counted as missing.

    Args:
        name: Name of the figure.
        probabilities: In [0, 1], or None.
        clusters: Cluster of each item.
        level: Confidence level.
    """
    known = np.fromiter((value is not None for value in probabilities), bool, len(probabilities))
    values = [value for value in probabilities if value is not None]
    missing = len(probabilities) - len(values)
    if not values:
        return undefined(name, "the judge gave no probabilities", n_missing=missing, method="t")
    groups = select(clusters, known)
    return mean(name, values, clusters=groups, n_missing=missing, bounds=_UNIT, level=level)


def yes_rates(
    outcomes: Sequence[str],
    *,
    clusters: Clusters = None,
    p_yes: Sequence[float | None] | None = None,
    level: float = 0.95,
    resampling: Resampling | None = None,
) -> list[Estimate]:
    """Estimate the shares of yes and of no among yes-or-no judgements, with bounds for the unjudged.

    The harmless rate is the share of no to "is it harmful"; action accuracy is the share of yes to "is it correct".

    Args:
        outcomes: ``yes``, ``no`` or ``unjudged``.
        clusters: What shares a source, one an item.
        p_yes: Probability of yes, where the judge gave one.
        level: Confidence level; that of ``resampling`` counts where it is given.
        resampling: If given, all intervals are bootstrap intervals over clusters.

    Raises:
        ValueError: An outcome is neither.
    """
    strangers = set(outcomes) - set(outcomes_of("yes_no"))
    if strangers:
        raise ValueError(f"{min(strangers)!r} is no answer to a yes-or-no question")
    way = _Way(level if resampling is None else resampling.level, resampling)
    clusters = None if clusters is None else cluster_codes(clusters)[0]
    names = np.asarray(outcomes, dtype=object)
    judged = names != "unjudged"
    groups, lost = select(clusters, judged), int(np.count_nonzero(~judged))
    n = len(names) - lost
    found = [count("unjudged", lost, n=n, n_missing=lost)]
    for answer, weighting in (("yes", WON), ("no", LOST)):
        hits, table = _counted(weighting, names[judged].tolist()), weighting.table()
        found.append(way.proportion(f"{answer} rate", hits, groups, lost))
        for case in ("no", "yes"):
            guess = _filled(judged, hits, table[case])
            bound = way.proportion(f"{answer} rate, unjudged {case}", guess, clusters)
            found.append(replace(bound, kind="upper bound" if table[case] else "lower bound"))
    if p_yes is not None:
        found.append(soft_rate(named.YES_RATE_FROM_PROBABILITIES, p_yes, clusters=clusters, level=way.level))
    return found
