"""How often a judge's two orders agree, by how far apart the two policies are in strength."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from perl_eval import figure_names as named
from perl_eval.outcomes import HALF
from perl_eval.records import About, Estimate, Judgement
from perl_eval.stats.intervals import about, proportion
from perl_eval.stats.position_bias import verdicts

__all__ = ["BANDS", "LEAST", "consistency_by_gap"]

BANDS = ((0.5, 0.6), (0.6, 0.75), (0.75, 1.0))
"""Win rates of the stronger of two policies that are told apart, the upper end with the next but for the last."""
LEAST = 10
"""Pairs of answers that the win rate of two policies must rest on."""

Worth = Callable[[Judgement], float | None]


@dataclass(slots=True)
class _Met:
    """What two policies' pairs say: their worth for the first by name, and whether each was consistent."""

    worth: list[float] = field(default_factory=list)
    consistent: list[bool] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)

    @property
    def stronger(self) -> float:
        """The win rate of the stronger policy, in [0.5, 1]."""
        rate = sum(self.worth) / len(self.worth)
        return max(rate, 1 - rate)


def consistency_by_gap(
    judged: Iterable[Judgement], *, worth: Worth | None = None, level: float = 0.95
) -> list[Estimate]:
    """Estimate consistency of the two orders by the strength gap of the policies that met.

    Two answers as good as each other are a coin's toss for any judge, and most flips between the orders are of policies
    of nearly one strength: one number for all says more about the policies than about the judge. Pairs are taken apart
    by the win rate p of the stronger policy of the two, undecided pairs half, ``p - 1/2`` the gap; consistency is the
    share of pairs that position did not decide, as in `perl_eval.stats.position_bias`. Beside it stands what a judge
    would have that asked a coin of odds p in each order, ``p^2 + (1 - p)^2``: with less, position decides.

    Args:
        judged: Judgements of pairs by one judge, in any number of comparisons.
        worth: What a pair is worth for contestant a, in [0, 1], or None where that is not known: people's labels, for
            instance. Without it the judge's own outcome, undecided as half.
        level: Confidence level.

    Returns:
        Two figures for each band of gaps that was met; none where the orders are unknown, where fewer than two
        comparisons have `LEAST` pairs, or in those that have fewer, whose pairs are missing.

    Source: Shi et al., arXiv 2406.07791, section 3 (the gap of answer quality, from the win rate with ties half);
        OpenReview wxRkUMwf5P (consistency should be told by rank gap).
    """
    met = _by_comparison(judged, worth or (lambda record: HALF.of(record.outcome)))
    known = [one for one in met if len(one.worth) >= LEAST and one.consistent]
    if len(known) < 2:
        return []
    missing = sum(len(one.consistent) for one in met) - sum(len(one.consistent) for one in known)
    found = []
    for low, high in BANDS:
        here = [one for one in known if low <= one.stronger < high or one.stronger == high == 1.0]
        if here:
            subject = About(slice="stronger policy wins", value=f"{low:.0%} to {high:.0%}")
            found += about(_of_band(here, missing, level), subject)
    return found


def _by_comparison(judged: Iterable[Judgement], worth: Worth) -> Sequence[_Met]:
    met: dict[tuple[str, ...], _Met] = {}
    for record in judged:
        if record.policy_a == record.policy_b:
            continue
        first, second = sorted((record.policy_a, record.policy_b))
        here = met.setdefault((first, second, record.dataset, record.prompt_sha256), _Met())
        value, said = worth(record), verdicts(record.ballots)
        if value is not None:
            here.worth.append(value if record.policy_a == first else 1 - value)
        if said is not None:
            here.consistent.append(said not in (("first", "first"), ("second", "second")))
            here.groups.append(record.group)
    return list(met.values())


def _of_band(met: Sequence[_Met], missing: int, level: float) -> list[Estimate]:
    """Estimate the consistency of some comparisons, and what a coin of their odds would have."""
    hits = [hit for one in met for hit in one.consistent]
    groups = [group for one in met for group in one.groups]
    found = proportion(named.CONSISTENCY_BY_GAP, hits, clusters=groups, n_missing=missing, level=level)
    by_chance = sum(len(one.consistent) * (one.stronger**2 + (1 - one.stronger) ** 2) for one in met) / len(hits)
    coin = Estimate(named.CONSISTENCY_OF_A_COIN, by_chance, None, None, len(hits), missing, "p^2 + (1 - p)^2", level)
    number = f"{len(met)} {'comparison' if len(met) == 1 else 'comparisons'}"
    return [replace(one, method=f"{one.method}; {number}") for one in (found, coin)]
