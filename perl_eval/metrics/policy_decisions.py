"""What each comparison of two policies says: which one is better, the places of all, or what would settle it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from perl_eval.metrics.policy_comparisons import PolicyPair, Side
from perl_eval.stats.corrected_difference import CorrectedDifference, corrected_difference
from perl_eval.stats.correction import PSEUDO
from perl_eval.stats.intervals import wilson
from perl_eval.stats.label_plans import labels_to_decide
from perl_eval.stats.multiple_testing import benjamini_hochberg, holm
from perl_eval.stats.rank_sets import MOST_JOINT, Gap, places_of

__all__ = ["Decided", "JudgeSkill", "Placed", "by_judge", "decided", "placed"]

FloatArray = NDArray[np.float64]
_CLASS = 10
"""Labels of each kind that a judge's hit rate must rest on."""


@dataclass(frozen=True, slots=True)
class JudgeSkill:
    """How a judge errs on one policy, by people's labels: hits over what people called good, and over what not.

    ``informedness`` is ``J = sensitivity + specificity - 1``, with its interval by MOVER of two Wilson intervals; None
    where people said too rarely one of the two.
    """

    sensitivity: float | None
    specificity: float | None
    informedness: float | None
    low: float | None
    high: float | None
    n: int


Verdict = Literal["better", "worse", "not decided"]


@dataclass(frozen=True, slots=True)
class Decided:
    """What is known of one comparison.

    Attributes:
        one: The first policy.
        other: The second.
        verdict: Whether the first is better than the second by what people would say.
        alone: The difference by the judge alone, with its interval.
        alone_low: Lower bound.
        alone_high: Upper bound.
        corrected: The difference corrected by labels, None without enough of them.
        p: p-value of no difference; by the judge alone where nothing was corrected.
        adjusted: It, adjusted for all comparisons after Holm.
        discovered: It, adjusted after Benjamini and Hochberg.
        errors: How the judge errs on each policy.
        gap: The difference of the judge's informedness on the two, with its interval; None where it is not known.
        labels: How many more labels would decide it, None if no number would or it is decided.
        pairs: How many more items would decide it, judged and labelled in the same proportion.
        items: Items compared.
        why: Why nothing is decided.
    """

    one: str
    other: str
    verdict: Verdict
    alone: float
    alone_low: float | None
    alone_high: float | None
    corrected: CorrectedDifference | None
    p: float | None
    adjusted: float | None
    discovered: float | None
    errors: tuple[JudgeSkill, JudgeSkill]
    gap: tuple[float, float, float] | None
    labels: int | None
    pairs: int | None
    items: int
    why: str


@dataclass(frozen=True, slots=True)
class Placed:
    """The places that a policy can have among all, 1 the best, and its chance to be first, None if nobody can say."""

    policy: str
    low: int
    high: int
    first: float | None


def decided(
    found: Sequence[PolicyPair],
    *,
    level: float = 0.95,
    power: float = 0.8,
    judge_alone: bool = False,
    anytime: bool = False,
) -> list[Decided]:
    """Say of each comparison which policy is better, or that it is not decided and what would settle it.

    Numbers of labels and items are those for the level that Holm's procedure asks of the comparison.

    Args:
        found: The comparisons.
        level: Confidence level of all decisions together, and of each interval.
        power: Chance of a decision that the numbers of labels and pairs are for.
        judge_alone: Decide by the judge where there are too few labels, as if it were no kinder to one policy.
        anytime: Whether intervals and p-values hold however it was decided when to stop labelling or judging.
    """
    drafts = [_draft(one, level, judge_alone=judge_alone, anytime=anytime) for one in found]
    values = np.array([draft.p for draft in drafts if draft.p is not None], np.float64)
    if not len(values):
        return drafts
    left = len(values) - np.argsort(np.argsort(values, kind="stable"), kind="stable")
    rows = iter(np.stack([holm(values), benjamini_hochberg(values), left], axis=1).tolist())
    return [draft if draft.p is None else _judged(draft, next(rows), level, power) for draft in drafts]


def _draft(found: PolicyPair, level: float, *, judge_alone: bool, anytime: bool) -> Decided:
    alone, corrected, why, p = by_judge(found, anytime=anytime), _corrected(found), "", None
    if corrected is not None:
        corrected = replace(corrected, anytime=anytime)
        p = corrected.p_value()
    elif judge_alone:
        p = None if alone is None else alone.p_value()
    else:
        said = found.labelled
        why = "there are no human labels to show whether the judge favours one of them"
        if said:
            why = f"{said} labels are too few to show whether the judge favours one of them"
    low, high = (None, None) if alone is None else alone.interval(level)
    errors = (_error(*found.sides[0], level), _error(*found.sides[1], level))
    return Decided(
        one=found.one,
        other=found.other,
        verdict="not decided",
        alone=float(found.judged.mean()),
        alone_low=low,
        alone_high=high,
        corrected=corrected,
        p=p,
        adjusted=None,
        discovered=None,
        errors=errors,
        gap=_gap(errors),
        labels=None,
        pairs=None,
        items=len(found.judged),
        why=why,
    )


def by_judge(found: PolicyPair, *, anytime: bool = False) -> CorrectedDifference | None:
    """Return the difference as the judge alone sees it, as if it were never wrong; None of fewer than two groups."""
    n, number = len(found.judged), len(found.groups)
    if number < 2:
        return None
    gap = found.judged - found.judged.mean()
    influence = np.bincount(found.clusters, gap / n, number) * np.sqrt(number / (number - 1))
    error = float(np.sqrt(influence @ influence + PSEUDO / (n + 2) ** 2))
    return CorrectedDifference(
        float(found.judged.mean()), error, number - 1, n, float(n), 0, 1.0, influence, anytime=anytime
    )


def _corrected(found: PolicyPair) -> CorrectedDifference | None:
    """Correct a difference by labels of both answers to an item, or of either if many are of one only."""
    if not found.labelled:
        return None
    if found.apart and found.each is not None:
        one, other = (side.sample(found.clusters) for side in found.each)
        return corrected_difference(one, other)
    return corrected_difference(Side(found.proxies, found.truth, found.weight).sample(found.clusters))


def _judged(draft: Decided, among: Sequence[float], level: float, power: float) -> Decided:
    """Say whether a comparison is decided, else how many labels or items would decide it.

    Args:
        draft: What is known of it.
        among: Its p-value after Holm, after Benjamini and Hochberg, and how many comparisons have no smaller one.
        level: Level of all decisions.
        power: Chance of a decision that the numbers are for.
    """
    adjusted, discovered, left = among
    draft, shown = replace(draft, adjusted=adjusted, discovered=discovered), draft.corrected
    if adjusted <= 1 - level:
        value = draft.alone if shown is None else shown.value
        return replace(draft, verdict="better" if value > 0 else "worse")
    draft = replace(draft, why="the difference may be none")
    if shown is None:
        return draft
    own, unlabelled = 1 - (1 - level) / left, draft.items - shown.labelled
    return replace(
        draft,
        labels=labels_to_decide(shown, level=own, power=power, unlabelled=unlabelled),
        pairs=_items_to_decide(shown, draft.items, own, power),
    )


def _items_to_decide(found: CorrectedDifference, items: int, level: float, power: float) -> int | None:
    """Return how many more items, labelled in the same proportion, would tell the difference from 0."""
    from scipy.special import ndtri

    if found.value == 0:
        return None
    needed = (found.value / (found.critical(level) + float(ndtri(power)))) ** 2
    return max(1, int(np.ceil(items * (found.error**2 / needed - 1))))


def placed(found: Sequence[PolicyPair], said: Sequence[Decided], *, level: float = 0.95) -> list[Placed]:
    """Return the places that policies can have, best first; none of fewer than three policies, or where nobody knows.

    Args:
        found: The comparisons.
        said: What is known of each.
        level: Chance that the places of all policies are right together.
    """
    names = sorted({name for pair in found for name in (pair.one, pair.other)})
    known = [(pair, part) for pair, part in zip(found, said, strict=True) if part.p is not None]
    if len(names) < 3 or not known:
        return []
    code = {name: place for place, name in enumerate(names)}
    groups = 1 + max(int(pair.groups.max()) for pair in found)
    gaps = []
    for pair, part in known:
        shown = part.corrected or by_judge(pair)
        assert shown is not None
        wider = shown.critical(level) / replace(shown, anytime=False).critical(level)
        influence = np.zeros(groups if len(known) <= MOST_JOINT else 0)
        if len(influence):
            influence[pair.groups] = shown.influence
        gaps.append(Gap(code[pair.one], code[pair.other], shown.value, shown.error * wider, shown.degrees, influence))
    places = places_of(len(names), gaps, level=level)
    first = [None] * len(names) if places.first is None else places.first.tolist()
    middle = (places.low + places.high).tolist()
    order = sorted(range(len(names)), key=lambda one: (-(first[one] or 0.0), middle[one], names[one]))
    return [Placed(names[one], int(places.low[one]), int(places.high[one]), first[one]) for one in order]


def _error(worth: FloatArray, label: FloatArray, level: float) -> JudgeSkill:
    """Return how often the judge sides with the policy where people do, and where they do not; ties left out."""
    from scipy.special import ndtri

    good, bad = label > 0.5, label < 0.5
    n = int(good.sum() + bad.sum())
    if min(good.sum(), bad.sum()) < _CLASS:
        return JudgeSkill(None, None, None, None, None, n)
    critical = float(ndtri((1 + level) / 2))
    hits, rejected = float((worth[good] > 0.5).sum()), float((worth[bad] <= 0.5).sum())
    shares = hits / good.sum(), rejected / bad.sum()
    bounds = wilson(hits, float(good.sum()), critical), wilson(rejected, float(bad.sum()), critical)
    value = shares[0] + shares[1] - 1
    down = np.hypot(shares[0] - bounds[0][0], shares[1] - bounds[1][0])
    up = np.hypot(bounds[0][1] - shares[0], bounds[1][1] - shares[1])
    return JudgeSkill(shares[0], shares[1], value, value - float(down), value + float(up), n)


def _gap(errors: tuple[JudgeSkill, JudgeSkill]) -> tuple[float, float, float] | None:
    """Return the difference of the judge's informedness on two policies, with its interval (MOVER)."""
    one, other = errors
    if one.informedness is None or other.informedness is None:
        return None
    assert one.low is not None
    assert one.high is not None
    assert other.low is not None
    assert other.high is not None
    value = one.informedness - other.informedness
    down = np.hypot(one.informedness - one.low, other.high - other.informedness)
    up = np.hypot(one.high - one.informedness, other.informedness - other.low)
    return value, value - float(down), value + float(up)
