"""The alternative annotator test on scores: may a judge that gives numbers stand in for a person?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from perl_eval import figure_names as named
from perl_eval.records import Estimate
from perl_eval.stats.alttest import PASS, AltTestOptions, Compared, Person, share_beaten
from perl_eval.stats.bootstrap import Clusters, cluster_codes
from perl_eval.stats.intervals import undefined

__all__ = ["alternative_annotator_test_of_scores"]

_SAME = 1e-9
"""Squared errors that differ by less are the same."""
_NAMES = (
    named.ALT_TEST_WINNING_RATE,
    named.ALT_TEST_ADVANTAGE,
    named.ALT_TEST_WINNING_RATE_CONSTANT,
    named.ALT_TEST_PASSES,
)


def alternative_annotator_test_of_scores(
    judged: Sequence[float | None],
    ratings: Sequence[Mapping[str, float]],
    *,
    options: AltTestOptions | None = None,
    clusters: Clusters = None,
    level: float = 0.95,
) -> tuple[list[Estimate], dict[str, Person]]:
    """Test whether a judge's scores are as near to those of a panel as its members' are.

    As `perl_eval.stats.alttest.alternative_annotator_test`, but on each unit of a person the judge does at least as
    well as that person if the root mean square of its distances to the others' scores is no larger.

    Args:
        judged: The judge's score of each unit; units without one are left out.
        ratings: Scores by person, one mapping a unit; units with fewer than two are left out.
        options: Margin, false discovery rate and least units.
        clusters: What shares a source, one a unit.
        level: Of the advantage's interval.

    Returns:
        ``alt-test winning rate``, ``alt-test advantage``, the winning rate of a judge that always gives people's mean
        score, and whether the judge passes, which is unknown where that one does; and each person's test.

    Source: Calderon, Reichart and Dror, arXiv 2501.10970, ``neg_rmse`` of the authors' code.
    """
    asked = options or AltTestOptions()
    live = [row for row, unit in enumerate(ratings) if len(unit) > 1 and judged[row] is not None]
    names = sorted({person for row in live for person in ratings[row]})
    codes = {name: code for code, name in enumerate(names)}
    entries = [(row, codes[person]) for row in live for person in ratings[row]]
    rows, persons = np.array(entries, np.intp).reshape(-1, 2).T
    shared = np.bincount(persons, minlength=len(names))
    people = {name: code for name, code in codes.items() if shared[code] >= asked.least_units}
    missing, method = len(ratings) - len(live), f"alternative annotator test by RMSE, epsilon {asked.epsilon:g}"
    if not people:
        reason = f"no person shares {asked.least_units} units with others"
        return [undefined(name, reason, n=len(live), n_missing=missing, method=method) for name in _NAMES], {}
    groups = cluster_codes(range(len(ratings)) if clusters is None else clusters)[0]
    given = np.array([ratings[row][names[code]] for row, code in entries], np.float64)
    size, total, squares = (
        np.bincount(rows, weights=part, minlength=len(ratings))[rows] for part in (np.ones_like(given), given, given**2)
    )

    def held(scores: np.ndarray) -> Compared:
        """Hold a judge against each person, by mean squared distance to the others."""
        others = size - 1
        by_judge, by_person = (
            ((squares - given**2) - 2 * score * (total - given)) / others + score**2 for score in (scores[rows], given)
        )
        ahead = (by_judge <= by_person + _SAME).astype(np.float64)
        return Compared(ahead, (by_person <= by_judge + _SAME) - ahead, rows, persons, groups, people)

    own = held(np.array([np.nan if score is None else score for score in judged], np.float64))
    tested, constant = own.tested(asked), held(np.full(len(ratings), given.mean())).tested(asked)
    tells = f"{method}, {len(people)} people"

    def rate(name: str, value: float) -> Estimate:
        return Estimate(name, value, None, None, len(live), missing, tells)

    beaten, idle = share_beaten(tested), share_beaten(constant)
    passes = rate(named.ALT_TEST_PASSES, float(beaten >= PASS))
    if min(idle, beaten) >= PASS:
        passes = replace(passes, value=None, reason="a judge that always gives people's mean score would pass too")
    advantage = replace(own.advantage(level), n=len(live), n_missing=missing)
    return [
        rate(named.ALT_TEST_WINNING_RATE, beaten),
        advantage,
        rate(named.ALT_TEST_WINNING_RATE_CONSTANT, idle),
        passes,
    ], tested
