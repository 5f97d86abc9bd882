"""Effective numbers of judges against textbook cases and numpy's own correlations and eigenvalues."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.rater_correlation import EIGENVALUE, KISH, likeness

QUICK = Resampling(draws=50)


def named(estimates: list[Estimate]) -> dict[tuple[str, str], Estimate]:
    return {(estimate.name, estimate.subject): estimate for estimate in estimates}


def figures(data: np.ndarray, clusters: list[str] | None = None, draws: int = 50) -> dict[tuple[str, str], Estimate]:
    names = [f"j{place}" for place in range(data.shape[1])]
    return named(likeness(data, names, of="errors", clusters=clusters, resampling=Resampling(draws=draws)))


def correlated(rho: float, count: int) -> np.ndarray:
    """Return data whose sample correlations are exactly rho everywhere, made from orthogonal columns."""
    random = np.random.default_rng(0)
    raw = random.normal(size=(400, count))
    white = np.linalg.qr(raw - raw.mean(axis=0))[0]
    wanted = np.full((count, count), rho) + (1 - rho) * np.eye(count)
    return white @ np.linalg.cholesky(wanted).T


@pytest.mark.parametrize(
    ("rho", "count", "kish", "eigen"),
    [
        # n / (1 + (n - 1) rho), and n^2 / (n + n (n - 1) rho^2) = n / (1 + (n - 1) rho^2)
        (0.0, 3, 3.0, 3.0),
        (0.5, 4, 1.6, 4 / 1.75),
        (0.25, 5, 2.5, 4.0),
        (0.9, 2, 2 / 1.9, 2 / 1.81),
        (-0.25, 3, 6.0, 3 / 1.125),
    ],
)
def test_equal_correlations_give_the_textbook_numbers(rho: float, count: int, kish: float, eigen: float) -> None:
    found = figures(correlated(rho, count))
    assert found["mean correlation of errors", ""].value == pytest.approx(rho, abs=1e-9)
    assert found[f"{KISH}, errors", ""].value == pytest.approx(kish)
    assert found[f"{EIGENVALUE}, errors", ""].value == pytest.approx(eigen)


def test_a_judge_asked_twice_is_one_judge() -> None:
    one = np.random.default_rng(1).normal(size=50)
    found = figures(np.stack([one, one, one], axis=1))
    assert found[f"{KISH}, errors", ""].value == pytest.approx(1.0)
    assert found[f"{EIGENVALUE}, errors", ""].value == pytest.approx(1.0)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_any_data_gives_what_numpy_gives(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    data = random.choice([0.0, 0.5, 1.0], size=(40, count)) + random.normal(size=(40, 1))
    found = named(likeness(data, [str(place) for place in range(count)], of="x", resampling=QUICK))
    matrix = np.corrcoef(data, rowvar=False)
    values = np.linalg.eigvalsh(matrix)
    off = matrix[np.triu_indices(count, 1)]
    assert found["correlation of x", "0 and 1"].value == pytest.approx(matrix[0, 1])
    assert found["mean correlation of x", ""].value == pytest.approx(off.mean())
    assert found[f"{KISH}, x", ""].value == pytest.approx(count / (1 + (count - 1) * off.mean()))
    assert found[f"{EIGENVALUE}, x", ""].value == pytest.approx(values.sum() ** 2 / (values**2).sum())


def test_the_variance_of_the_mean_of_judges_is_what_the_number_says() -> None:
    # n_eff is defined by Var(mean of n) = Var(one) / n_eff: checked on data, with equal variances.
    data = correlated(0.4, 4)
    data = data / data.std(axis=0)
    found = figures(data)
    assert 1 / data.mean(axis=1).var() == pytest.approx(float(found[f"{KISH}, errors", ""].value or 0))


def test_intervals_cover_the_truth_and_clusters_widen_them() -> None:
    random = np.random.default_rng(3)
    shared = np.repeat(random.normal(size=(40, 1)), 5, axis=0)
    data = shared + 0.3 * random.normal(size=(200, 2))
    clusters = [f"g{place // 5}" for place in range(200)]
    alone, together = figures(data, draws=400), figures(data, clusters, draws=400)
    key = ("mean correlation of errors", "")
    widths = [float(found[key].high or 0) - float(found[key].low or 0) for found in (alone, together)]
    assert widths[1] > 1.2 * widths[0]
    low, high = together[key].low, together[key].high
    assert low is not None
    assert high is not None
    # True correlation: 1 / (1 + 0.09)
    assert low < 1 / 1.09 < high


@pytest.mark.parametrize(("rho", "n", "count"), [(0.0, 60, 3), (0.3, 100, 3), (0.6, 40, 4)])
def test_the_interval_by_eigenvalues_is_that_of_a_plain_derivation(rho: float, n: int, count: int) -> None:
    """Item by item left out, and every sum tried that scipy's noncentral chi-square does not refuse."""
    random = np.random.default_rng(7)
    data = np.sqrt(rho) * random.normal(size=(n, 1)) + np.sqrt(1 - rho) * random.normal(size=(n, count))
    pairs = list(combinations(range(count), 2))

    def correlations(values: np.ndarray) -> np.ndarray:
        matrix = np.corrcoef(values, rowvar=False)
        return np.array([matrix[pair] for pair in pairs])

    r = correlations(data)
    z = np.arctanh([correlations(np.delete(data, place, axis=0)) for place in range(n)])
    off = z - z.mean(axis=0)
    parts = (off**2).sum(axis=1)
    freedom = 2 * n / ((parts**2).mean() / parts.mean() ** 2 - 1)
    tail = stats.norm.cdf(stats.t.ppf(0.025, freedom))
    held = []
    for true in np.linspace(1e-9, len(pairs), 20_001):
        there = np.clip(r * np.sqrt(true / (r @ r)), -1 + 1e-12, 1 - 1e-12)
        slope = 1 - there**2
        of_z = (n - 1) / n * off.T @ off
        of_r = of_z * np.outer(slope, slope)
        middle = max(true - (np.diag(of_z) * there**2 * slope).sum(), 0.0)
        scale = (2 * (of_r**2).sum() + 4 * there @ of_r @ there) / (2 * np.trace(of_r) + 4 * middle)
        chance = stats.ncx2.cdf(r @ r / scale, np.trace(of_r) / scale, middle / scale)
        if tail <= chance <= 1 - tail:
            held.append(true)
        elif held:
            break
    found = figures(data)[f"{EIGENVALUE}, errors", ""]
    assert found.low == pytest.approx(count**2 / (count + 2 * held[-1]), abs=2e-3)
    assert found.high == pytest.approx(count**2 / (count + 2 * held[0]), abs=2e-3)


def test_a_judge_that_always_says_the_same_has_no_correlation() -> None:
    data = np.stack([np.arange(10.0), np.ones(10)], axis=1)
    for estimate in figures(data).values():
        assert estimate.value is None
        assert estimate.reason == "j1 gives the same for all items"
        assert estimate.n == 10


def test_a_judge_that_one_item_alone_tells_from_a_still_one_has_a_number_without_interval() -> None:
    values = np.random.default_rng(0).normal(size=(40, 3))
    values[:, 2] = np.arange(40) == 7
    found = {one.name: one for one in likeness(values, ["j0", "j1", "j2"], of="errors")}
    for name in (KISH, EIGENVALUE):
        number = found[f"{name}, errors"]
        assert number.value is not None
        assert (number.low, number.high) == (None, None)
        assert number.reason.startswith("without one of the items a judge gives the same for all")


def test_no_items_are_no_figures() -> None:
    assert {estimate.value for estimate in figures(np.zeros((0, 2))).values()} == {None}


def test_names_must_fit_the_values() -> None:
    with pytest.raises(ValueError, match="for 3 judges"):
        likeness(np.zeros((4, 2)), ["a", "b", "c"], of="errors")


def test_independent_judges_may_be_as_many_as_they_are() -> None:
    random = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        found = figures(random.normal(size=(200, 3)), draws=1)[f"{EIGENVALUE}, errors", ""]
        assert found.low is not None
        held += found.high == 3.0
        assert 2.5 < found.low <= found.value < 3.0
    assert held >= 185


def test_dependent_judges_are_fewer() -> None:
    found = figures(correlated(0.6, 4))[f"{EIGENVALUE}, errors", ""]
    assert found.low is not None
    assert found.high is not None
    # The delta method by hand: the variance of a sample's mean squared correlation is small at 400 items.
    assert found.low < 4 / (1 + 3 * 0.36) < found.high < 2.4
