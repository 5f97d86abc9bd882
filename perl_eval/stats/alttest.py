"""The alternative annotator test: may a judge stand in for a person?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from perl_eval import figure_names as named
from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import Clusters, Resampling, cluster_sums
from perl_eval.stats.intervals import resampled, undefined
from perl_eval.stats.kappa import Ratings, at_most_one

__all__ = ["AltTestOptions", "Person", "alternative_annotator_test"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AltTestOptions:
    """What the test asks for.

    Attributes:
        epsilon: What a judge is allowed to fall short of a person for being cheaper: 0.2 beside experts, 0.15 beside
            skilled, 0.1 beside crowd workers.
        false_discoveries: Rate of false discoveries over the persons tested.
        least_units: Units a person must share with others to be tested.
    """

    epsilon: float = 0.15
    false_discoveries: float = 0.05
    least_units: int = 30


@dataclass(frozen=True, slots=True)
class Person:
    """The test against one person.

    Attributes:
        units: Units compared.
        advantage: Share of units on which the judge agrees with the others at least as well as this person, in [0, 1].
        p: p-value that the judge does not beat this person by the margin; small is good.
        beaten: Whether it does, after correction for testing several persons.
    """

    units: int
    advantage: float
    p: float
    beaten: bool


def alternative_annotator_test(
    verdicts: Sequence[str],
    ratings: Ratings,
    *,
    options: AltTestOptions | None = None,
    clusters: Clusters = None,
    resampling: Resampling | None = None,
) -> tuple[list[Estimate], dict[str, Person]]:
    """Test whether the judge agrees with a panel about as well as its members do.

    Each person j is left out in turn. On each unit of j with others, ``W_f`` says that the judge agrees with at least
    as many of the others as j does, ``W_h`` that j agrees with at least as many as the judge. j is beaten if ``mean(W_h
    - W_f) < epsilon`` by a one-sided t test (Wilcoxon's below 30 units), p-values corrected after Benjamini and
    Yekutieli. The judge passes at a winning rate of one half.

    Args:
        verdicts: The judge's label of each unit.
        ratings: Labels by person, one mapping a unit.
        options: Margin, false discovery rate and least units.
        clusters: What shares a source, one a unit, for the interval of the advantage.
        resampling: Draws, seed, level and kind.

    Returns:
        ``alt-test winning rate`` (share of persons beaten) and ``alt-test advantage`` (mean over persons), and each
        person's test.

    Source: Calderon, Reichart and Dror, arXiv 2501.10970.
    """
    asked, how = options or AltTestOptions(), resampling or Resampling()
    judge, human = _indicators(verdicts, ratings, asked.least_units)
    units = sum(len(unit) > 1 for unit in ratings)
    missing, method = len(verdicts) - units, f"alternative annotator test, epsilon {asked.epsilon:g}"
    if not judge:
        reason = f"no person shares {asked.least_units} units with others"
        names = (named.ALT_TEST_WINNING_RATE, named.ALT_TEST_ADVANTAGE)
        return [undefined(name, reason, n=units, n_missing=missing, method=method) for name in names], {}
    from scipy.stats import false_discovery_control

    gaps = {name: np.array([human[name][row] - judge[name][row] for row in judge[name]]) for name in judge}
    p = {name: _p_value(gap, asked.epsilon) for name, gap in gaps.items()}
    corrected = false_discovery_control(list(p.values()), method="by")
    people = {
        name: Person(
            len(gaps[name]), float(np.mean(list(judge[name].values()))), p[name], bool(q <= asked.false_discoveries)
        )
        for name, q in zip(p, corrected, strict=True)
    }
    beaten = sum(person.beaten for person in people.values()) / len(people)
    rate = Estimate(named.ALT_TEST_WINNING_RATE, beaten, None, None, units, missing, f"{method}, {len(people)} people")
    return [rate, replace(_advantage(judge, len(verdicts), clusters, how), n=units, n_missing=missing)], people


def _indicators(
    verdicts: Sequence[str], ratings: Ratings, least_units: int
) -> tuple[dict[str, dict[int, float]], dict[str, dict[int, float]]]:
    """Return, for each person with enough units, who did at least as well on each: the judge, the person."""
    judge: dict[str, dict[int, float]] = {}
    human: dict[str, dict[int, float]] = {}
    for row, (verdict, unit) in enumerate(zip(verdicts, ratings, strict=True)):
        if len(unit) < 2:
            continue
        for name, label in unit.items():
            others = [given for other, given in unit.items() if other != name]
            with_judge, with_human = others.count(verdict), others.count(label)
            judge.setdefault(name, {})[row] = float(with_judge >= with_human)
            human.setdefault(name, {})[row] = float(with_human >= with_judge)
    kept = sorted(name for name in judge if len(judge[name]) >= least_units)
    return {name: judge[name] for name in kept}, {name: human[name] for name in kept}


def _p_value(gaps: FloatArray, epsilon: float) -> float:
    """Test ``mean(gaps) < epsilon``, one-sided. Gaps that do not differ leave no doubt either way."""
    if np.ptp(gaps) == 0:
        return 0.0 if gaps[0] < epsilon else 1.0
    from scipy.stats import ttest_1samp, wilcoxon

    if len(gaps) < 30:
        return float(wilcoxon(gaps - epsilon, alternative="less", method="approx").pvalue)
    return float(ttest_1samp(gaps, epsilon, alternative="less").pvalue)


def _advantage(judge: Mapping[str, Mapping[int, float]], units: int, clusters: Clusters, how: Resampling) -> Estimate:
    """Return the mean over persons of the judge's advantage, with a bootstrap interval over units."""
    rows = np.zeros((units, len(judge), 2))
    for place, indicators in enumerate(judge.values()):
        for row, value in indicators.items():
            rows[row, place] = value, 1.0

    def ratio(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
        parts = sums.reshape(len(sums), len(judge), 2)
        live = (parts[:, :, 1] > 0).all(axis=1)
        shares = parts[:, :, 0] / np.maximum(parts[:, :, 1], 1)
        return np.asarray(shares.mean(axis=1), np.float64), np.asarray(live, np.float64)

    table = cluster_sums(rows.reshape(units, -1), clusters)
    found = resampled(named.ALT_TEST_ADVANTAGE, table, ratio, n=units, resampling=how)
    return replace(found, high=at_most_one(found.high))
