"""Which of two policies is better, by a judge and people: comparisons item by item, and what each one says.

A comparison is between two policies on the same items: judged against each other, each against a third, or each answer
alone. Its difference is in [-1, 1]: share preferred less share not preferred, or one policy's rate less the other's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from perl_eval import figure_names as named
from perl_eval.stats.bootstrap import cluster_codes
from perl_eval.stats.corrected_difference import (
    CorrectedDifference,
    Differences,
    corrected_difference,
    holm,
    labels_to_decide,
)
from perl_eval.stats.intervals import mean, wilson

__all__ = ["Decided", "JudgeSkill", "PolicyPair", "Units", "comparisons", "decided"]

FloatArray = NDArray[np.float64]
_CLASS = 10
"""Labels of each kind that a judge's hit rate must rest on."""


@dataclass(frozen=True, slots=True)
class Units:
    """Judged units in columns; unjudged ones left out.

    Attributes:
        first: Policy of contestant a, or of the one answer; one a unit.
        second: Policy of b; "" for single answers.
        item: What was answered.
        group: What shares a source.
        worth: What the judge's outcome is worth for the first, in [0, 1].
        chance: Probability that the first is preferred, NaN where the judge gave none.
        length: ``tanh`` of the log ratio of the answers' lengths; 0 for single answers.
        truth: What people's labels are worth for the first, their mean, NaN where there are none.
        weight: The label's weight, 1 where it has none.
    """

    first: Sequence[str]
    second: Sequence[str]
    item: Sequence[str]
    group: Sequence[str]
    worth: FloatArray
    chance: FloatArray
    length: FloatArray
    truth: FloatArray
    weight: FloatArray


@dataclass(frozen=True, slots=True)
class PolicyPair:
    """Two policies on the same items, before anything is estimated.

    Attributes:
        one: The first policy.
        other: The second.
        judged: The judge's difference, shape (n,), in [-1, 1].
        proxies: It, and what else is known of every item, shape (n, k).
        truth: The difference by people, NaN where they gave no label, shape (n,).
        weight: The labels' weights, shape (n,).
        clusters: What shares a source, codes, shape (n,).
        sides: For each policy the judge's worth and people's, over its labelled units, to see how the judge errs.
    """

    one: str
    other: str
    judged: FloatArray
    proxies: FloatArray
    truth: FloatArray
    weight: FloatArray
    clusters: NDArray[np.intp]
    sides: tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]


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


def comparisons(units: Units, baseline: str = "") -> list[PolicyPair]:
    """Return every two policies that met, or met the same third, or answered the same items alone.

    Args:
        units: What was judged.
        baseline: If given, only comparisons with this policy.
    """
    direct: dict[tuple[str, str], list[int]] = {}
    against: dict[str, dict[str, list[int]]] = {}
    for row, (first, second) in enumerate(zip(units.first, units.second, strict=True)):
        if second:
            one, other = sorted((first, second))
            direct.setdefault((one, other), []).append(row)
        against.setdefault(second, {}).setdefault(first, []).append(row)
    found = [_direct(units, pair, np.array(rows)) for pair, rows in direct.items()]
    have = set(direct)
    for policies in against.values():
        for one, other in combinations(sorted(policies), 2):
            if (one, other) not in have and (pair := _through(units, one, other, policies)) is not None:
                have.add((one, other))
                found.append(pair)
    if baseline:
        found = [_facing(part, baseline) for part in found if baseline in (part.one, part.other)]
    return sorted(found, key=lambda part: (part.one, part.other))


def _facing(part: PolicyPair, baseline: str) -> PolicyPair:
    """Return a comparison so that the baseline comes second."""
    if part.other == baseline:
        return part
    return replace(
        part,
        one=part.other,
        other=part.one,
        judged=-part.judged,
        proxies=-part.proxies,
        truth=-part.truth,
        sides=(part.sides[1], part.sides[0]),
    )


def _direct(units: Units, pair: tuple[str, str], rows: NDArray[np.intp]) -> PolicyPair:
    sign = np.where(np.array([units.first[row] for row in rows]) == pair[0], 1.0, -1.0)
    judged, truth = sign * (2 * units.worth[rows] - 1), sign * (2 * units.truth[rows] - 1)
    soft = sign * (2 * units.chance[rows] - 1)
    proxies = [judged, *([soft] if np.isfinite(soft).all() else []), sign * units.length[rows]]
    said = np.isfinite(truth)
    worth, label = (judged[said] + 1) / 2, (truth[said] + 1) / 2
    codes = cluster_codes([units.group[row] for row in rows])[0]
    return PolicyPair(
        *pair,
        judged,
        np.stack(proxies, axis=1),
        truth,
        units.weight[rows],
        codes,
        ((worth, label), (1 - worth, 1 - label)),
    )


def _through(units: Units, one: str, other: str, policies: Mapping[str, Sequence[int]]) -> PolicyPair | None:
    """Compare two policies by what each got on the items that both have."""
    sides = [{units.item[row]: row for row in policies[policy]} for policy in (one, other)]
    shared = sorted(sides[0].keys() & sides[1].keys())
    if not shared:
        return None
    ours, theirs = (np.array([side[item] for item in shared]) for side in sides)
    judged = units.worth[ours] - units.worth[theirs]
    soft = units.chance[ours] - units.chance[theirs]
    proxies = [judged, *([soft] if np.isfinite(soft).all() else []), units.length[ours] - units.length[theirs]]
    errors = tuple(_said(units, np.array(policies[policy])) for policy in (one, other))
    codes = cluster_codes([units.group[row] for row in ours])[0]
    return PolicyPair(
        one,
        other,
        judged,
        np.stack(proxies, axis=1),
        units.truth[ours] - units.truth[theirs],
        np.sqrt(units.weight[ours] * units.weight[theirs]),
        codes,
        (errors[0], errors[1]),
    )


def _said(units: Units, rows: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
    labelled = rows[np.isfinite(units.truth[rows])]
    return units.worth[labelled], units.truth[labelled]


def decided(
    found: Sequence[PolicyPair], *, level: float = 0.95, power: float = 0.8, judge_alone: bool = False
) -> list[Decided]:
    """Say of each comparison which policy is better, or that it is not decided and what would settle it.

    Args:
        found: The comparisons; p-values are adjusted for all of them.
        level: Confidence level of the family of all comparisons (Holm), and of each interval.
        power: Chance of a decision that the numbers of labels and pairs are for.
        judge_alone: Decide by the judge where there are too few labels, as if it were no kinder to one policy.
    """
    drafts = [_draft(one, level, power, judge_alone=judge_alone) for one in found]
    tested = [draft for draft in drafts if draft.p is not None]
    if not tested:
        return drafts
    from scipy.stats import false_discovery_control

    values = np.array([draft.p for draft in tested], np.float64)
    adjusted, discovered = iter(holm(values)), iter(false_discovery_control(values))
    return [
        draft if draft.p is None else _judged(draft, float(next(adjusted)), float(next(discovered)), level)
        for draft in drafts
    ]


def _draft(found: PolicyPair, level: float, power: float, *, judge_alone: bool) -> Decided:
    said = np.flatnonzero(np.isfinite(found.truth))
    alone = mean(named.DIFFERENCE_BY_JUDGE, found.judged, clusters=found.clusters, bounds=(-1.0, 1.0), level=level)
    corrected = None
    if len(said):
        sample = Differences(found.proxies, said, found.truth[said], found.weight[said], found.clusters)
        corrected = corrected_difference(sample)
    errors = (_error(*found.sides[0], level), _error(*found.sides[1], level))
    labels = pairs = p = None
    why = ""
    if corrected is not None:
        p = corrected.p_value()
        labels = labels_to_decide(corrected, level=level, power=power)
        pairs = _items_to_decide(corrected.value, corrected.error, len(found.judged), level, power)
    elif judge_alone:
        p = _p_of(alone.value or 0.0, alone.low, alone.high, level)
    else:
        why = "no labels tell whether the judge is kinder to one of them"
        if len(said):
            why = f"{len(said)} labels are too few to tell whether the judge is kinder to one of them"
    return Decided(
        found.one,
        found.other,
        "not decided",
        alone.value or 0.0,
        alone.low,
        alone.high,
        corrected,
        p,
        None,
        None,
        errors,
        _gap(errors),
        labels,
        pairs,
        len(found.judged),
        why,
    )


def _judged(draft: Decided, adjusted: float, discovered: float, level: float) -> Decided:
    value = draft.alone if draft.corrected is None else draft.corrected.value
    if adjusted <= 1 - level:
        verdict: Verdict = "better" if value > 0 else "worse"
        return replace(draft, verdict=verdict, adjusted=adjusted, discovered=discovered, labels=None, pairs=None)
    return replace(draft, adjusted=adjusted, discovered=discovered, why="the difference may be none")


def _p_of(value: float, low: float | None, high: float | None, level: float) -> float | None:
    """Return the two-sided p-value that belongs to a symmetric interval."""
    if low is None or high is None or high <= low:
        return None
    from scipy.special import ndtr, ndtri

    error = (high - low) / 2 / float(ndtri((1 + level) / 2))
    return float(2 * ndtr(-abs(value) / error))


def _items_to_decide(value: float, error: float, items: int, level: float, power: float) -> int | None:
    """Return how many more items, labelled in the same proportion, would tell the difference from 0."""
    from scipy.special import ndtri

    if value == 0:
        return None
    needed = (value / float(ndtri((1 + level) / 2) + ndtri(power))) ** 2
    return max(1, int(np.ceil(items * (error**2 / needed - 1))))


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
