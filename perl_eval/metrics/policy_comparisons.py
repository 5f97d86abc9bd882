"""Two policies item by item, by a judge and people: what `perl_eval.metrics.policy_decisions` decides about.

A comparison is between two policies on the same items: judged against each other, each against a third, or each answer
alone. Its difference is in [-1, 1]: share preferred less share not preferred, or one policy's rate less the other's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from perl_eval.stats.bootstrap import Codes
from perl_eval.stats.corrected_difference import Differences

__all__ = ["PolicyPair", "Side", "Units", "comparisons"]

FloatArray = NDArray[np.float64]
_PAIRED = 0.8
"""Share of the labelled answers whose counterpart is labelled too, from which on only pairs are used."""


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
        more: What else is known of each unit, above 0 where it speaks for the first; NaN where it is not known, which
            must be by chance; shape (n, k).
        stratum: Which stratum a unit is of, 1 or 0, all but one stratum, shape (n, strata).
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
    more: FloatArray
    stratum: FloatArray

    def strata(self, rows: Codes) -> Sequence[FloatArray]:
        """Return a column for each stratum that some rows are of, and others are not."""
        return [column for column in self.stratum[rows].T if 0 < column.sum() < len(column)]


@dataclass(frozen=True, slots=True)
class Side:
    """What is known of one policy, item by item.

    Attributes:
        proxies: What its answer is worth by the judge, and what else is known of it, shape (n, k).
        truth: What it is worth by people, NaN where they gave no label, shape (n,).
        weight: The labels' weights, shape (n,).
    """

    proxies: FloatArray
    truth: FloatArray
    weight: FloatArray

    def sample(self, clusters: Codes) -> Differences:
        """Return it as an estimator takes it."""
        said = np.flatnonzero(np.isfinite(self.truth))
        return Differences(self.proxies, said, self.truth[said], self.weight[said], clusters)


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
        groups: The group that each of these codes is, shape (clusters,).
        each: Each policy alone, where labels need not be of both answers to an item; None for pairs.
        sides: For each policy the judge's worth and people's, over its labelled units, to see how the judge errs.
    """

    one: str
    other: str
    judged: FloatArray
    proxies: FloatArray
    truth: FloatArray
    weight: FloatArray
    clusters: Codes
    groups: Codes
    each: tuple[Side, Side] | None
    sides: tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]

    @property
    def apart(self) -> bool:
        """Whether many labels are of one of two answers only, so that each policy is corrected by its own."""
        return self.each is not None and int(np.isfinite(self.truth).sum()) < _PAIRED * self._fewer

    @property
    def labelled(self) -> int:
        """Items that people labelled; of the policy with fewer, where each has its own."""
        return self._fewer if self.apart else int(np.isfinite(self.truth).sum())

    @property
    def _fewer(self) -> int:
        return min(int(np.isfinite(side.truth).sum()) for side in self.each or ())


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
        each=None if part.each is None else (part.each[1], part.each[0]),
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
    known = [sign * column[rows] for column in (units.length, *units.more.T)]
    proxies = [judged, *([soft] if np.isfinite(soft).all() else []), *known, *units.strata(rows)]
    groups, clusters = np.unique(units.group[rows], return_inverse=True)
    said = np.isfinite(truth)
    worth, label = (judged[said] + 1) / 2, (truth[said] + 1) / 2
    return PolicyPair(
        units.policies[pair[0]],
        units.policies[pair[1]],
        judged,
        np.stack(proxies, axis=1),
        truth,
        units.weight[rows],
        clusters,
        groups,
        None,
        ((worth, label), (1 - worth, 1 - label)),
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """What policies got beside the same third, item by item, several answers to one averaged; shape (policies, items).

    Attributes:
        rows: The units.
        judged: Whether an item was judged.
        proxies: What the judge's outcomes are worth, its probability, the length, and more; one table each.
        truth: Mean by people's labels, NaN without.
        weight: Mean weight of the labelled answers, 1 without.
        group: Group of each item, shape (items,).
        strata: Which stratum each item is of, shape (items, strata).
    """

    rows: Codes
    judged: NDArray[np.bool_]
    proxies: tuple[FloatArray, ...]
    truth: FloatArray
    weight: FloatArray
    group: Codes
    strata: FloatArray

    def side(self, policy: int, items: Codes) -> Side:
        """Return what is known of a policy on some items."""
        columns = np.stack([table[policy, items] for table in self.proxies], axis=1)
        return Side(columns, self.truth[policy, items], self.weight[policy, items])


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
    strata = np.zeros((shape[1], units.stratum.shape[1]))
    strata[item] = units.stratum[rows]
    many, some = np.maximum(count, 1), np.maximum(labelled, 1)
    columns = [units.worth, *([units.chance] if np.isfinite(units.chance[rows]).all() else []), units.length]
    return _Table(
        rows,
        count > 0,
        tuple(total(column[rows]) / many for column in (*columns, *units.more.T)),
        np.where(labelled > 0, total(units.truth[rows], said) / some, np.nan),
        np.where(labelled > 0, total(units.weight[rows], said) / some, 1.0),
        group,
        strata,
    )


def _through(units: Units, one: int, other: int, table: _Table) -> PolicyPair | None:
    """Compare two policies by what each got on the items that both have."""
    shared = np.flatnonzero(table.judged[one] & table.judged[other])
    if not len(shared):
        return None
    each = (table.side(one, shared), table.side(other, shared))
    proxies = each[0].proxies - each[1].proxies
    sides = [_said(units, table.rows[units.first[table.rows] == policy]) for policy in (one, other)]
    groups, clusters = np.unique(table.group[shared], return_inverse=True)
    return PolicyPair(
        units.policies[one],
        units.policies[other],
        proxies[:, 0],
        np.hstack([proxies, table.strata[shared]]),
        each[0].truth - each[1].truth,
        np.sqrt(each[0].weight * each[1].weight),
        clusters,
        groups,
        each,
        (sides[0], sides[1]),
    )


def _said(units: Units, rows: Codes) -> tuple[FloatArray, FloatArray]:
    labelled = rows[np.isfinite(units.truth[rows])]
    return units.worth[labelled], units.truth[labelled]
