"""A judge beside a panel of people: against each of them, against their majority, and against their own ceiling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from perl_eval import figure_names as named
from perl_eval.records import Estimate
from perl_eval.stats.agreement_coefficients import (
    Ties,
    cohen_kappa,
    credits,
    exact_agreement,
    fleiss_kappa,
    gwet_ac1,
    krippendorff_alpha,
    mean_credit,
)
from perl_eval.stats.bootstrap import Clusters, Resampling
from perl_eval.stats.intervals import mean, proportion, undefined

__all__ = ["ceiling", "human_human", "human_judge", "majority", "one_by_one", "two_by_two"]

Ratings = Sequence[Mapping[str, str]]
_JUDGE = ""
"""The judge's key among the raters of a unit; people have names."""
_TIES: tuple[tuple[Ties, str], ...] = (("counted", ""), ("dropped", ", ties dropped"), ("half", ", ties half"))


def majority(labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the commonest label or, where they tie for it, labels of a unit, sorted; empty if nobody labelled it."""
    counts = Counter(labels.values())
    return tuple(sorted(label for label, times in counts.items() if times == max(counts.values())))


def _kinds(labels: Sequence[str]) -> tuple[tuple[Ties, str], ...]:
    return _TIES if "tie" in labels else _TIES[:1]


def human_human(
    ratings: Ratings, labels: Sequence[str], *, clusters: Clusters = None, resampling: Resampling | None = None
) -> list[Estimate]:
    """Estimate how far people agree among themselves.

    Args:
        ratings: Labels by person, one mapping a unit.
        labels: All labels there can be.
        clusters: What shares a source, one a unit.
        resampling: Draws, seed, level and kind.
    """
    how, side = resampling or Resampling(), "human-human"
    exact = [
        exact_agreement(
            ratings, labels, name=f"{side} exact agreement{suffix}", ties=ties, clusters=clusters, level=how.level
        )
        for ties, suffix in _kinds(labels)
    ]
    return [*exact, *_beyond_chance(side, ratings, labels, clusters, how)]


def human_judge(
    verdicts: Sequence[str],
    ratings: Ratings,
    labels: Sequence[str],
    *,
    clusters: Clusters = None,
    resampling: Resampling | None = None,
) -> list[Estimate]:
    """Estimate how far a judge agrees with people: each couple of the judge and one person, and the majority.

    Exact agreement is averaged within a unit first. Kappa, alpha and AC1 take every couple as a unit of two raters, and
    units with their couples are what is resampled. A label that ties for the majority earns an equal part of the
    credit.

    Args:
        verdicts: The judge's label of each unit.
        ratings: Labels by person, one mapping a unit.
        labels: All labels there can be.
        clusters: What shares a source, one a unit.
        resampling: Draws, seed, level and kind.
    """
    how, side = resampling or Resampling(), "human-judge"
    groups: Sequence[Hashable] = range(len(verdicts)) if clusters is None else list(clusters)
    pairs = _couple_counts(verdicts, ratings, labels)
    exact = [
        mean_credit(f"{side} exact agreement{suffix}", pairs, credits(labels, ties), clusters=clusters, level=how.level)
        for ties, suffix in _kinds(labels)
    ]
    couples = [
        ({_JUDGE: verdict, person: label}, group)
        for verdict, unit, group in zip(verdicts, ratings, groups, strict=True)
        for person, label in unit.items()
    ]
    beyond = _beyond_chance(side, [couple for couple, _ in couples], labels, [group for _, group in couples], how)
    return [*exact, *beyond, *_against_majority(verdicts, ratings, labels, groups, how)]


def _beyond_chance(
    side: str, ratings: Ratings, labels: Sequence[str], clusters: Clusters, how: Resampling
) -> list[Estimate]:
    makers = (cohen_kappa, fleiss_kappa, krippendorff_alpha, gwet_ac1)
    found = [make(ratings, labels, clusters=clusters, resampling=how) for make in makers]
    return [replace(estimate, name=f"{side} {estimate.name}") for estimate in found]


def _couple_counts(verdicts: Sequence[str], ratings: Ratings, labels: Sequence[str]) -> NDArray[np.float64]:
    """Count, for each unit, the judge's label against people's, shape (units, labels, labels)."""
    places = {label: place for place, label in enumerate(labels)}
    pairs = np.zeros((len(verdicts), len(labels), len(labels)))
    for row, (verdict, unit) in enumerate(zip(verdicts, ratings, strict=True)):
        for label in unit.values():
            pairs[row, places[verdict], places[label]] += 1
    return pairs


def _credit(label: str, top: tuple[str, ...]) -> float:
    return 1 / len(top) if label in top else 0.0


def _against_majority(
    verdicts: Sequence[str],
    ratings: Ratings,
    labels: Sequence[str],
    groups: Sequence[Hashable],
    how: Resampling,
) -> list[Estimate]:
    tops = [majority(unit) for unit in ratings]
    labelled = [(verdict, top, group) for verdict, top, group in zip(verdicts, tops, groups, strict=True) if top]
    name, missing = named.HUMAN_JUDGE_EXACT_AGREEMENT_MAJORITY, len(verdicts) - len(labelled)
    if not labelled:
        return [undefined(name, "no unit is labelled", n_missing=missing, method="t")]
    shares = [_credit(verdict, top) for verdict, top, _ in labelled]
    kept = [group for _, _, group in labelled]
    clear = [({_JUDGE: verdict, "majority": top[0]}, group) for verdict, top, group in labelled if len(top) == 1]
    kappa = cohen_kappa(
        [couple for couple, _ in clear],
        labels,
        name=named.HUMAN_JUDGE_COHEN_KAPPA_MAJORITY,
        clusters=[group for _, group in clear],
        resampling=how,
    )
    return [
        mean(name, shares, clusters=kept, n_missing=missing, bounds=(0.0, 1.0), level=how.level),
        replace(kappa, n_missing=len(verdicts) - len(clear)),
    ]


def ceiling(
    verdicts: Sequence[str], ratings: Ratings, *, clusters: Clusters = None, level: float = 0.95
) -> list[Estimate]:
    """Estimate what a person scores against the majority of the others, and what the judge scores against the same.

    Each person of a unit is left out in turn; unit scores are means over those left out, labels that tie for the
    majority of the rest sharing the credit. Units with one label cannot enter.

    Args:
        verdicts: The judge's label of each unit.
        ratings: Labels by person, one mapping a unit.
        clusters: What shares a source, one a unit.
        level: Confidence level.

    Returns:
        ``human ceiling``, ``judge at the ceiling's task``, and the paired difference, judge minus human.

    Deviations: Averaged over units, then people; the usual form averages over people first. They are the same where
        everybody labels everything.
    """
    rows: list[tuple[float, float]] = []
    groups: list[Hashable] = []
    for place, (verdict, unit) in enumerate(zip(verdicts, ratings, strict=True)):
        if len(unit) < 2:
            continue
        rests = {person: majority({other: unit[other] for other in unit if other != person}) for person in unit}
        people = sum(_credit(unit[person], top) for person, top in rests.items()) / len(unit)
        rows.append((people, sum(_credit(verdict, top) for top in rests.values()) / len(unit)))
        groups.append(place if clusters is None else clusters[place])
    missing = len(verdicts) - len(rows)
    names = (
        named.HUMAN_CEILING,
        named.JUDGE_AT_THE_CEILINGS_TASK,
        named.JUDGE_MINUS_HUMAN_CEILING,
    )
    if not rows:
        return [undefined(name, "no unit has two labels", n_missing=missing, method="t") for name in names]
    people, judge = np.array(rows).T
    return [
        mean(name, values, clusters=groups, n_missing=missing, bounds=bounds, level=level)
        for name, values, bounds in (
            (names[0], people, (0.0, 1.0)),
            (names[1], judge, (0.0, 1.0)),
            (names[2], judge - people, (-1.0, 1.0)),
        )
    ]


def two_by_two(ratings: Ratings, *, clusters: Clusters = None, level: float = 0.95) -> dict[tuple[str, str], Estimate]:
    """Estimate the exact agreement of every two people who share units, by their names."""
    people = sorted({person for unit in ratings for person in unit})
    found = {}
    for one, other in combinations(people, 2):
        rows = [row for row, unit in enumerate(ratings) if one in unit and other in unit]
        if rows:
            equal = [ratings[row][one] == ratings[row][other] for row in rows]
            groups = rows if clusters is None else [clusters[row] for row in rows]
            name = named.HUMAN_HUMAN_EXACT_AGREEMENT_TWO_PEOPLE
            found[one, other] = proportion(name, equal, clusters=groups, level=level)
    return found


def one_by_one(
    verdicts: Sequence[str], ratings: Ratings, *, clusters: Clusters = None, level: float = 0.95
) -> dict[str, Estimate]:
    """Estimate the judge's exact agreement with each person, by name."""
    found = {}
    for person in sorted({person for unit in ratings for person in unit}):
        rows = [row for row, unit in enumerate(ratings) if person in unit]
        equal = [verdicts[row] == ratings[row][person] for row in rows]
        groups = rows if clusters is None else [clusters[row] for row in rows]
        name = named.HUMAN_JUDGE_EXACT_AGREEMENT_ONE_PERSON
        found[person] = proportion(name, equal, clusters=groups, level=level)
    return found
