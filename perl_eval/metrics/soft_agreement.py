"""What a judge of pairs tells beyond its verdict in both orders: its probability, its lean, and each order alone.

A judge that position decides says split of every pair and agrees with nobody; its mean probability, or the side that
one order names and the other leaves open, may still say which answer people prefer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from perl_eval import figure_names as named
from perl_eval.metrics.agreement import labels_of, ratings_by_unit
from perl_eval.outcomes import EVEN, LABELS, as_label, worth
from perl_eval.records import About, Ballot, Estimate, HumanLabel, Judgement
from perl_eval.stats.bootstrap import Codes, Resampling, cluster_codes
from perl_eval.stats.calibration import reliability_curve
from perl_eval.stats.intervals import about, mean, proportion, undefined
from perl_eval.stats.ranking_quality import area_under_curve

__all__ = ["soft_agreement", "weighted_kappa"]

FloatArray = NDArray[np.float64]
_LEAST = 1e-6
"""Probabilities are held this far from 0 and 1 in the log loss."""
_NO_PROBABILITIES = "the judge gave no probabilities"
_NO_ORDERS = "the verdicts of both orders are not known"


@dataclass(frozen=True, slots=True)
class _Unit:
    """A judged pair that people labelled: the judgement, and the mean worth of their labels for a."""

    record: Judgement
    truth: float


def soft_agreement(
    judgements: Sequence[Judgement], labels: Sequence[HumanLabel], *, resampling: Resampling | None = None
) -> list[Estimate]:
    """Estimate, for each judge of pairs, how far what it says beyond its verdicts agrees with people.

    Units on which people are evenly divided enter the log loss and the kappas alone.

    Args:
        judgements: Judgements of any judges; those of pairs are looked at.
        labels: Labels of any units.
        resampling: The level, and the draws of the AUC.
    """
    how = resampling or Resampling()
    by_unit, _ = ratings_by_unit(labels)
    found: list[Estimate] = []
    pairs = [record for record in judgements if record.kind == "pairwise" and record.outcome != "unjudged"]
    for judge in sorted({record.judge for record in pairs}):
        own = [one for record in pairs if record.judge == judge for one in _labelled(record, by_unit)]
        if own:
            figures = [*_of_probabilities(own, how), *_of_verdicts(own, how), *_of_orders(own, how)]
            simulated = any(one.record.simulated for one in own)
            found += about(figures, About(judge=judge), simulated=simulated)
            found += _reliability(own, judge, how, simulated=simulated)
    return found


def _labelled(record: Judgement, by_unit: Mapping[str, Mapping[str, str]]) -> list[_Unit]:
    said = labels_of(record, by_unit).values()
    return [_Unit(record, sum(map(worth, said)) / len(said))] if said else []


def _groups(units: Sequence[_Unit]) -> list[str]:
    return [one.record.group for one in units]


def _of_probabilities(units: Sequence[_Unit], how: Resampling) -> list[Estimate]:
    """Estimate accuracy and AUC of the mean probability, and its log loss."""
    names = (named.PROBABLE_SIDE_ACCURACY, named.PROBABILITY_AUC, named.LOG_LOSS)
    given = [one for one in units if one.record.p_a is not None]
    if not given:
        return [undefined(name, _NO_PROBABILITIES, n_missing=len(units)) for name in names]
    apart = [one for one in given if one.truth != EVEN]
    chance = np.array([one.record.p_a for one in given], np.float64)
    truth = np.array([one.truth for one in given])
    held = np.clip(chance, _LEAST, 1 - _LEAST)
    loss = -(truth * np.log(held) + (1 - truth) * np.log(1 - held))
    hits = [_hit(float(one.record.p_a or 0.0), one.truth) for one in apart]
    missing = len(units) - len(given)
    return [
        mean(names[0], hits, clusters=_groups(apart), bounds=(0.0, 1.0), n_missing=missing, level=how.level),
        area_under_curve(
            [float(one.record.p_a or 0.0) for one in apart],
            [one.truth > EVEN for one in apart],
            name=names[1],
            clusters=_groups(apart),
            resampling=how,
        ),
        mean(names[2], loss, clusters=_groups(given), n_missing=missing, level=how.level),
    ]


def _reliability(units: Sequence[_Unit], judge: str, how: Resampling, *, simulated: bool) -> list[Estimate]:
    """Estimate the share of pairs in which people prefer a, in bins of the probability that the judge gives to a."""
    apart = [one for one in units if one.record.p_a is not None and one.truth != EVEN]
    if not apart:
        return []
    chances, truth = [float(one.record.p_a or 0.0) for one in apart], [one.truth > EVEN for one in apart]
    found = []
    for place, part in enumerate(reliability_curve(chances, truth, clusters=_groups(apart), level=how.level)):
        where = About(judge=judge, bin=place, bin_low=part.low, bin_high=part.high, bin_mean=part.predicted)
        found.append(replace(part.observed, about=where, simulated=simulated))
    return found


def _hit(value: float, truth: float) -> float:
    """Return 1 if both name the same side, 1/2 if the judge names none, else 0."""
    return 0.5 if value == EVEN else float((value > EVEN) == (truth > EVEN))


def _lean(record: Judgement) -> float:
    """Return how far the verdicts lean to a: the mean worth of both orders' verdicts, in [0, 1]."""
    said = [worth_of for one in record.ballots if (worth_of := _for_a(one)) is not None]
    return sum(said) / len(said) if said else worth(record.outcome)


def _for_a(ballot: Ballot) -> float | None:
    """Return what a ballot's verdict is worth for a; None without a verdict on two answers."""
    if ballot.verdict == "tie":
        return EVEN
    if ballot.verdict not in ("first", "second"):
        return None
    return float((ballot.verdict == "first") == (ballot.order != "ba"))


def _of_verdicts(units: Sequence[_Unit], how: Resampling) -> list[Estimate]:
    """Estimate the net agreement of the lean, in which a mixed pair keeps its side, and weighted kappas."""
    apart = [one for one in units if one.truth != EVEN]
    signs = [float(np.sign(_lean(one.record) - EVEN) * np.sign(one.truth - EVEN)) for one in apart]
    judge = np.array([LABELS["pairwise"].index(as_label(one.record.outcome)) for one in units])
    people = np.array([_side(one.truth) for one in units])
    groups = cluster_codes(_groups(units))[0]
    return [
        mean(named.NET_AGREEMENT, signs, clusters=_groups(apart), bounds=(-1.0, 1.0), level=how.level),
        weighted_kappa(named.LINEAR_KAPPA, judge, people, power=1, clusters=groups, level=how.level),
        weighted_kappa(named.QUADRATIC_KAPPA, judge, people, power=2, clusters=groups, level=how.level),
    ]


def _side(truth: float) -> int:
    """Return the place of people's side among win, tie and loss."""
    return 1 if truth == EVEN else 0 if truth > EVEN else 2


def weighted_kappa(
    name: str, one: Codes, other: Codes, *, power: int, clusters: Codes, level: float = 0.95
) -> Estimate:
    """Estimate Cohen's kappa with weights ``|i - j|^power`` over ordered categories, by a jackknife over clusters.

    Args:
        name: Name of the figure.
        one: Category of each unit by one rater, from 0, shape (n,).
        other: That by the other.
        power: 1 for linear weights, 2 for quadratic ones.
        clusters: What shares a source, codes from 0.
        level: Confidence level.

    Source: Cohen, Psychological Bulletin 70 (1968), 213-220.
    """
    method, size = f"weighted kappa, power {power}, jackknife", 1 + int(max(one.max(), other.max(), 1))
    number = int(clusters.max()) + 1
    cells = np.zeros((number, size * size))
    np.add.at(cells, (clusters, one * size + other), 1.0)
    apart = (np.abs(np.subtract.outer(np.arange(size), np.arange(size))) ** power).astype(np.float64)
    whole = cells.sum(axis=0)
    value = _kappa(whole[None], apart)[0]
    if not np.isfinite(value):
        return undefined(name, "judge and people always say the same", n=len(one), method=method)
    without = _kappa(whole - cells, apart)
    if number < 3 or not np.isfinite(without).all():
        return Estimate(name, float(value), None, None, len(one), 0, method, level)
    from scipy.special import stdtrit

    spread = float(np.sqrt((number - 1) / number * ((without - without.mean()) ** 2).sum()))
    half = float(stdtrit(number - 1, (1 + level) / 2)) * spread
    return Estimate(name, float(value), max(-1.0, value - half), min(1.0, value + half), len(one), 0, method, level)


def _kappa(cells: FloatArray, apart: FloatArray) -> FloatArray:
    """Return kappa of tables of counts, shape (m, k * k); NaN where no disagreement is expected."""
    size = len(apart)
    tables = cells.reshape(-1, size, size)
    total = tables.sum(axis=(1, 2))
    expected = (tables.sum(axis=2)[:, :, None] * tables.sum(axis=1)[:, None, :] * apart).sum(axis=(1, 2)) / total
    seen = (tables * apart).sum(axis=(1, 2))
    return np.where(expected > 0, 1 - seen / np.where(expected > 0, expected, 1.0), np.nan)


def _of_orders(units: Sequence[_Unit], how: Resampling) -> list[Estimate]:
    """Estimate how often the first answer was picked, each order's accuracy, and strict consistency."""
    both = [(one, votes) for one in units if (votes := _both(one.record)) is not None]
    names = (named.FIRST_PICKED, named.ACCURACY_A_FIRST, named.ACCURACY_B_FIRST, named.STRICT_CONSISTENCY)
    if not both:
        return [undefined(name, _NO_ORDERS, n_missing=len(units)) for name in names]
    groups, missing = _groups([one for one, _ in both]), len(units) - len(both)
    first = [(votes[0] + (1 - votes[1])) / 2 for _, votes in both]
    apart = [(one, votes) for one, votes in both if one.truth != EVEN]
    found = [mean(names[0], first, clusters=groups, bounds=(0.0, 1.0), n_missing=missing, level=how.level)]
    for place in (0, 1):
        hits = [_hit(votes[place], one.truth) for one, votes in apart]
        found.append(
            mean(
                names[1 + place],
                hits,
                clusters=_groups([one for one, _ in apart]),
                bounds=(0.0, 1.0),
                n_missing=missing,
                level=how.level,
            )
        )
    same = [votes[0] == votes[1] for _, votes in both]
    return [*found, proportion(names[3], same, clusters=groups, n_missing=missing, level=how.level)]


def _both(record: Judgement) -> tuple[float, float] | None:
    """Return what the verdict with a first is worth for a, and that with b first; None unless both are known."""
    said = {one.order: value for one in record.ballots if (value := _for_a(one)) is not None}
    return (said["ab"], said["ba"]) if {"ab", "ba"} <= said.keys() else None
