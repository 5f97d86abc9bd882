"""Which of two policies is better, by a judge and people: comparisons item by item, and what each one says.

A comparison is between two policies on the same items: judged against each other, each against a third, or each answer
alone. Its difference is in [-1, 1]: share preferred less share not preferred, or one policy's rate less the other's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from perl_eval import figure_names as named
from perl_eval.stats.bootstrap import Codes, cluster_codes
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
        policies: The policies, in order; "" among them stands beside single answers.
        first: Which is the policy of contestant a, or of the one answer; codes, one a unit.
        second: Which is that of b; the code of "" for single answers.
        item: What was answered, codes.
        group: What shares a source, codes.
        worth: What the judge's outcome is worth for the first, in [0, 1].
        chance: Probability that the first is preferred, NaN where the judge gave none.
        length: ``tanh`` of the log ratio of the answers' lengths; 0 for single answers.
        truth: What people's labels are worth for the first, their mean, NaN where there are none.
        weight: The label's weight, 1 where it has none.
    """

    policies: Sequence[str]
    first: Codes
    second: Codes
    item: Codes
    group: Codes
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
    direct = _met(units)
    found = [_direct(units, pair, rows) for pair, rows in direct.items()]
    have = set(direct)
    for table in _against(units):
        here = np.flatnonzero(table.judged.any(axis=1)).tolist()
        for one, other in combinations(here, 2):
            if (one, other) not in have and (pair := _through(units, one, other, table)) is not None:
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


def _met(units: Units) -> dict[tuple[int, int], Codes]:
    """Return the rows of every two policies that were judged against each other, by their codes in order."""
    number = len(units.policies)
    pairs = np.array([bool(name) for name in units.policies])[units.second] if number else np.zeros(0, np.bool_)
    rows = np.flatnonzero(pairs & (units.first != units.second))
    key = np.minimum(units.first, units.second) * number + np.maximum(units.first, units.second)
    return {divmod(code, number): rows[part] for code, part in _by_code(key[rows])}


def _by_code(codes: Codes) -> Iterator[tuple[int, Codes]]:
    """Yield each code with the places where it stands, in order."""
    if not len(codes):
        return
    order = np.argsort(codes, kind="stable")
    values, starts = np.unique(codes[order], return_index=True)
    yield from zip(values.tolist(), np.split(order, starts[1:]), strict=True)


def _direct(units: Units, pair: tuple[int, int], rows: Codes) -> PolicyPair:
    sign = np.where(units.first[rows] == pair[0], 1.0, -1.0)
    judged, truth = sign * (2 * units.worth[rows] - 1), sign * (2 * units.truth[rows] - 1)
    soft = sign * (2 * units.chance[rows] - 1)
    proxies = [judged, *([soft] if np.isfinite(soft).all() else []), sign * units.length[rows]]
    said = np.isfinite(truth)
    worth, label = (judged[said] + 1) / 2, (truth[said] + 1) / 2
    return PolicyPair(
        units.policies[pair[0]],
        units.policies[pair[1]],
        judged,
        np.stack(proxies, axis=1),
        truth,
        units.weight[rows],
        cluster_codes(units.group[rows])[0],
        ((worth, label), (1 - worth, 1 - label)),
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """What policies got beside the same third, item by item, several answers to one averaged; shape (policies, items).

    Attributes:
        rows: The units.
        judged: Whether an item was judged.
        worth: What the judge's outcomes are worth; 0 where there are none.
        chance: Mean probability, NaN where one is missing.
        length: Mean length figure.
        truth: Mean by people's labels, NaN without.
        weight: Mean weight of the labelled answers, 1 without.
        group: Group of each item, shape (items,).
    """

    rows: Codes
    judged: NDArray[np.bool_]
    worth: FloatArray
    chance: FloatArray
    length: FloatArray
    truth: FloatArray
    weight: FloatArray
    group: Codes


def _against(units: Units) -> Iterator[_Table]:
    """Yield a table for each third policy, or for single answers."""
    for _, rows in _by_code(units.second):
        if np.ptp(units.first[rows]) > 0:
            yield _table(units, rows)


def _table(units: Units, rows: Codes) -> _Table:
    names, item = np.unique(units.item[rows], return_inverse=True)
    shape = (len(units.policies), len(names))
    place = units.first[rows] * shape[1] + item

    def total(values: FloatArray, there: NDArray[np.bool_] | None = None) -> FloatArray:
        chosen = slice(None) if there is None else there
        added = np.bincount(place[chosen], values[chosen], shape[0] * shape[1])
        return added.astype(np.float64).reshape(shape)

    count = total(np.ones(len(rows)))
    said = np.isfinite(units.truth[rows])
    labelled = total(np.ones(len(rows)), said)
    group = np.zeros(shape[1], np.intp)
    group[item] = units.group[rows]
    many, some = np.maximum(count, 1), np.maximum(labelled, 1)
    return _Table(
        rows,
        count > 0,
        total(units.worth[rows]) / many,
        total(units.chance[rows]) / many,
        total(units.length[rows]) / many,
        np.where(labelled > 0, total(units.truth[rows], said) / some, np.nan),
        np.where(labelled > 0, total(units.weight[rows], said) / some, 1.0),
        group,
    )


def _through(units: Units, one: int, other: int, table: _Table) -> PolicyPair | None:
    """Compare two policies by what each got on the items that both have."""
    shared = np.flatnonzero(table.judged[one] & table.judged[other])
    if not len(shared):
        return None

    def gap(values: FloatArray) -> FloatArray:
        return np.asarray(values[one, shared] - values[other, shared])

    judged, soft = gap(table.worth), gap(table.chance)
    proxies = [judged, *([soft] if np.isfinite(soft).all() else []), gap(table.length)]
    sides = [_said(units, table.rows[units.first[table.rows] == policy]) for policy in (one, other)]
    return PolicyPair(
        units.policies[one],
        units.policies[other],
        judged,
        np.stack(proxies, axis=1),
        gap(table.truth),
        np.sqrt(table.weight[one, shared] * table.weight[other, shared]),
        cluster_codes(table.group[shared])[0],
        (sides[0], sides[1]),
    )


def _said(units: Units, rows: Codes) -> tuple[FloatArray, FloatArray]:
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
        labels = labels_to_decide(corrected, level=level, power=power, unlabelled=len(found.judged) - len(said))
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
