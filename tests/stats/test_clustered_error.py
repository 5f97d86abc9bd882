"""The error of a clustered mean is CR2's, computed here by matrices, and holds where groups differ much in size."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.linalg import block_diag, cholesky, fractional_matrix_power

from perl_eval.stats.clustered_error import clustered_error
from perl_eval.stats.intervals import proportion

Matrix = NDArray[np.float64]


def by_matrices(values: Matrix, groups: NDArray[np.intp]) -> tuple[float, float]:
    """Return error and degrees of freedom of CR2 as Pustejovsky and Tipton define them, for a regression on 1 alone."""
    order = np.argsort(groups, kind="stable")
    y, g = values[order], groups[order]
    n, number = len(y), len(np.unique(g))
    sizes = np.bincount(g)
    # the working correlation: one-way analysis of variance
    means = np.array([y[g == one].mean() for one in range(number)])
    between = (sizes * (means - y.mean()) ** 2).sum() / (number - 1)
    within = ((y - means[g]) ** 2).sum() / (n - number)
    typical = (n - (sizes**2).sum() / n) / (number - 1)
    shared = np.clip((between - within) / (between + (typical - 1) * within), 0, 1)
    working = block_diag(*[(1 - shared) * np.eye(m) + shared * np.ones((m, m)) for m in sizes])
    keep = np.eye(n) - np.ones((n, n)) / n
    rest = keep @ y
    variance, directions = 0.0, []
    for one in range(number):
        at = g == one
        upper = cholesky(working[np.ix_(at, at)])
        inner = upper @ (keep @ working @ keep.T)[np.ix_(at, at)] @ upper.T
        adjust = upper.T @ fractional_matrix_power(inner, -0.5).real @ upper
        variance += (np.ones(at.sum()) @ adjust @ rest[at]) ** 2 / n**2
        directions.append(keep[at].T @ adjust.T @ np.ones(at.sum()) / n)
    inner = np.array(directions) @ working @ np.array(directions).T
    return float(np.sqrt(variance)), float(np.trace(inner) ** 2 / np.trace(inner @ inner))


@pytest.mark.parametrize("seed", range(6))
def test_error_and_degrees_are_those_of_cr2(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 12, 9)
    groups = rng.permutation(np.repeat(np.arange(9), sizes))
    values = rng.normal(size=len(groups)) + rng.normal(size=9)[groups]
    found = clustered_error(values, groups)
    assert (found.error, found.degrees) == pytest.approx(by_matrices(values, groups), rel=1e-6)
    assert found.number == 9
    assert found.effective == pytest.approx(len(groups) ** 2 / (sizes**2).sum())


def test_independent_items_have_the_plain_error() -> None:
    values = np.random.default_rng(0).normal(size=50)
    found = clustered_error(values, np.arange(50))
    assert found.error == pytest.approx(stats.sem(values))
    assert found.degrees == pytest.approx(49)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[200] + [10] * 30, [100] + [10] * 10], ids=["one large", "one very large"])
def test_a_rate_holds_where_one_group_is_large(sizes: list[int]) -> None:
    """With C - 1 degrees of freedom and the factor C / (C - 1) it held .83 and less."""
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    rate, shared, held = 0.8, 0.3, 0
    concentration = 1 / shared - 1
    for _ in range(400):
        chances = rng.beta(rate * concentration, (1 - rate) * concentration, len(sizes))
        found = proportion("rate", rng.random(len(groups)) < chances[groups], clusters=groups)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= rate <= found.high
    assert held / 400 >= 0.92
