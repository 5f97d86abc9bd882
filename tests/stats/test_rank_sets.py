"""Places of policies hold together, are narrow where policies lie apart, and the chance to be first is one."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from perl_eval.stats.rank_sets import Gap, places_of


def gaps_of(values: np.ndarray, degrees: float | None = None) -> list[Gap]:
    """Differences of the means of columns, item by item."""
    n, policies = values.shape
    found = []
    for one, other in combinations(range(policies), 2):
        gap = values[:, one] - values[:, other]
        influence = (gap - gap.mean()) / n * np.sqrt(n / (n - 1))
        error = float(np.sqrt(influence @ influence))
        found.append(Gap(one, other, float(gap.mean()), error, degrees or n - 1, influence))
    return found


def true_places(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best and the worst place of each policy, for equal ones share them."""
    return 1 + (means[None] > means[:, None]).sum(1), len(means) - (means[None] < means[:, None]).sum(1)


@pytest.mark.parametrize("means", [np.zeros(6), np.array([0, 0, 0, 0.1, 0.1, 0.3]), np.linspace(0, 0.5, 6)])
def test_places_of_all_policies_hold_together(means: np.ndarray) -> None:
    rng, runs, held = np.random.default_rng(0), 250, 0
    best, worst = true_places(means)
    for _ in range(runs):
        shared = rng.normal(0, 0.3, (120, 1))
        found = places_of(6, gaps_of(means + shared + rng.normal(0, 0.4, (120, 6))))
        held += bool((found.low <= best).all() and (found.high >= worst).all())
    assert held / runs >= 0.92


def test_policies_far_apart_have_one_place_each() -> None:
    rng = np.random.default_rng(1)
    found = places_of(4, gaps_of(np.array([3.0, 1.0, 2.0, 0.0]) + rng.normal(0, 0.5, (100, 4))))
    assert found.low.tolist() == found.high.tolist() == [1, 3, 2, 4]
    assert found.first is not None
    assert found.first.tolist() == [1, 0, 0, 0]


def test_the_joint_quantile_is_below_that_of_bonferroni() -> None:
    """Of differences that share policies the largest is smaller than of as many alone, so more is told."""
    rng, told = np.random.default_rng(2), [0, 0]
    for _ in range(30):
        values = np.linspace(0, 0.5, 8) + rng.normal(0, 1, (150, 8))
        gaps = gaps_of(values)
        apart = [
            Gap(one.one, one.other, one.value, one.error, one.degrees, np.eye(len(gaps))[place])
            for place, one in enumerate(gaps)
        ]
        for which, given in enumerate((gaps, apart)):
            found = places_of(8, given)
            told[which] += int((found.high - found.low).sum())
    assert told[0] < told[1]


def test_the_chance_to_be_first_is_that_of_the_joint_distribution() -> None:
    rng = np.random.default_rng(3)
    values = np.array([0.0, 0.05, 0.1]) + rng.normal(0, 1, (4000, 3)) * [1, 0.5, 1.5]
    found = places_of(3, gaps_of(values)).first
    assert found is not None
    draws = multivariate_normal(values.mean(0), np.cov(values.T) / 4000).rvs(200_000, random_state=4)
    assert found == pytest.approx(np.bincount(draws.argmax(1), minlength=3) / len(draws), abs=0.025)


def test_what_was_never_compared_may_have_any_place() -> None:
    rng = np.random.default_rng(4)
    gaps = [
        one for one in gaps_of(np.array([3.0, 0, 0]) + rng.normal(0, 0.1, (50, 3))) if 2 not in (one.one, one.other)
    ]
    found = places_of(3, gaps)
    assert (found.low.tolist(), found.high.tolist()) == ([1, 2, 1], [2, 3, 3])
    assert found.first is None
