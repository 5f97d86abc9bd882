"""Correlations against scipy, and their intervals by coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from perl_eval.stats.correlation import correlations

NAMES = ("Pearson r", "Spearman rho", "Kendall tau-b")


def figures(x: object, y: object, **options: object) -> dict[str, object]:
    return {estimate.name: estimate for estimate in correlations(x, y, **options)}


@pytest.fixture
def tied() -> tuple[list[float], list[float]]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    return np.round(x, 0).tolist(), np.round(x + rng.normal(size=200), 0).tolist()


def test_values_are_those_of_scipy(tied: tuple[list[float], list[float]]) -> None:
    found = figures(*tied)
    for name, theirs in zip(NAMES, (stats.pearsonr, stats.spearmanr, stats.kendalltau), strict=True):
        assert found[name].value == pytest.approx(theirs(*tied).statistic)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_error_is_that_of_the_jackknife(tied: tuple[list[float], list[float]], place: int) -> None:
    # Influence values are what leaving one item out does, up to 1 / n; so half widths agree with scipy's jackknife.
    x, y = map(np.array, tied)
    theirs = (stats.pearsonr, stats.spearmanr, stats.kendalltau)[place]
    left = [theirs(np.delete(x, i), np.delete(y, i)).statistic for i in range(200)]
    error = np.sqrt(199 / 200 * np.sum((left - np.mean(left)) ** 2))
    found = figures(*tied)[NAMES[place]]
    ours = (np.arctanh(found.high) - np.arctanh(found.low)) / 2 * (1 - found.value**2) / stats.t.ppf(0.975, 199)
    assert ours == pytest.approx(error, rel=0.02)


def test_clusters_of_copies_are_one_item_each(tied: tuple[list[float], list[float]]) -> None:
    x, y = (part[:60] for part in tied)
    once = figures(x, y)
    thrice = figures(x * 3, y * 3, clusters=[f"g{i}" for i in range(60)] * 3)
    for name in NAMES:
        assert (thrice[name].value, thrice[name].low) == pytest.approx((once[name].value, once[name].low), abs=1e-9)
    assert thrice["Pearson r"].method.endswith("60 clusters")


def test_what_has_no_correlation_says_why() -> None:
    for estimate in correlations([1.0, 1.0, 1.0, 1.0, None], [1.0, 2.0, 3.0, 4.0, 5.0]):
        assert (estimate.value, estimate.reason) == (None, "a score is the same for all items")
        assert (estimate.n, estimate.n_missing) == (4, 1)
    assert correlations([1.0, 2.0], [1.0, 3.0])[0].reason == "fewer than 4 items have both scores"
    full = figures([1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0, 8.0])
    assert full["Pearson r"].value == pytest.approx(1.0)
    assert full["Pearson r"].low is None
    assert "agree fully" in full["Kendall tau-b"].reason


@given(st.lists(st.tuples(st.integers(-3, 3), st.floats(-2, 2).map(lambda part: round(part, 1))), min_size=4))
def test_kendall_is_that_of_all_pairs(items: list[tuple[int, float]]) -> None:
    x, y = np.array(items, float).T
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return
    a, b = (np.sign(part[:, None] - part[None, :]) for part in (x, y))
    tau = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    # The influence of an item is the slope of tau-b in its weight: of both signs of pairs, and of the ties.
    parts = np.stack([a * b, a * a, b * b]).mean(axis=2)
    slopes = parts - parts.mean(axis=1, keepdims=True)
    shared = slopes[0] / np.sqrt(parts[1].mean() * parts[2].mean())
    influence = 2 * shared - tau * (slopes[1] / parts[1].mean() + slopes[2] / parts[2].mean())
    found = figures(x.tolist(), y.tolist())["Kendall tau-b"]
    assert found.value == pytest.approx(tau)
    if found.low is not None and not len(set(x)) == len(set(y)) == 2:  # labels have another interval
        error = np.sqrt(len(x) / max(len(x) - 3, 1) * (influence @ influence)) / len(x)
        half = stats.t.ppf(0.975, len(x) - 1) * error / (1 - tau**2)
        assert (found.low, found.high) == pytest.approx(
            (np.tanh(np.arctanh(tau) - half), np.tanh(np.arctanh(tau) + half))
        )


@pytest.mark.parametrize("groups", [None, 7])
def test_the_error_of_r_is_that_of_leaving_out_each_group(groups: int | None) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 30).T
    names = rng.integers(groups, size=30) if groups else np.arange(30)
    left = np.array([np.arctanh(np.corrcoef(x[names != one], y[names != one])[0, 1]) for one in np.unique(names)])
    number = len(left)
    half = stats.t.ppf(0.975, number - 1) * np.sqrt((number - 1) / number * ((left - left.mean()) ** 2).sum())
    middle = np.arctanh(np.corrcoef(x, y)[0, 1])
    found = correlations(x.tolist(), y.tolist(), clusters=names.tolist())[0]
    assert (found.low, found.high) == pytest.approx((np.tanh(middle - half), np.tanh(middle + half)))


def test_labels_that_agree_fully_are_not_certain_to() -> None:
    """Of 20 items of which all agree, the two labels' correlation is 1 and its interval does not end there."""
    labels = [1.0] * 8 + [0.0] * 12
    for found in correlations(labels, labels):
        assert (found.value, found.high) == (1.0, 1.0)
        assert found.low is not None
        assert 0.6 < found.low < 0.95


def test_a_hundred_thousand_items_take_no_table_of_pairs() -> None:
    # A table of all pairs would have 10^10 cells.
    rng = np.random.default_rng(4)
    x = np.round(rng.normal(size=100_000), 2)
    y = np.round(x + rng.normal(size=100_000), 1)
    found = figures(x.tolist(), y.tolist())["Kendall tau-b"]
    assert found.value == pytest.approx(stats.kendalltau(x, y).statistic)
    # 2 / pi asin(1 / sqrt 2) = 1/2 before rounding; its error is about 2 / 3 / sqrt n.
    assert found.low < 0.5 + 0.01
    assert found.high - found.low == pytest.approx(2 * 1.96 * 2 / 3 / np.sqrt(100_000), rel=0.3)


# A normal pair with correlation r: Spearman is 6 / pi asin(r / 2), Kendall 2 / pi asin(r).
R = 0.6
NORMAL = {"Pearson r": R, "Spearman rho": 6 / np.pi * np.arcsin(R / 2), "Kendall tau-b": 2 / np.pi * np.arcsin(R)}


def test_intervals_cover() -> None:
    rng, runs, held = np.random.default_rng(1), 2000, dict.fromkeys(NAMES, 0)
    for _ in range(runs):
        x = rng.normal(size=60)
        y = R * x + np.sqrt(1 - R**2) * rng.normal(size=60)
        for name, estimate in figures(x.tolist(), y.tolist()).items():
            held[name] += estimate.low <= NORMAL[name] <= estimate.high
    for name, times in held.items():
        assert 0.93 <= times / runs <= 0.97, (name, times / runs)


def test_intervals_cover_with_ties_and_clusters() -> None:
    # Scores of 1 to 5 of items in groups of 4 that share half of their variance; the truth is that of a large sample.
    def drawn(rng: np.random.Generator, groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        names = np.repeat(np.arange(groups), 4)
        quality = (rng.normal(size=groups)[names] + rng.normal(size=4 * groups)) / np.sqrt(2)
        one, other = (np.clip(np.round(3 + quality + rng.normal(0, 0.7, 4 * groups)), 1, 5) for _ in range(2))
        return one, other, names

    x, y, _ = drawn(np.random.default_rng(2), 50_000)
    truth = dict(
        zip(NAMES, (f(x, y).statistic for f in (stats.pearsonr, stats.spearmanr, stats.kendalltau)), strict=True)
    )
    rng, runs, held = np.random.default_rng(3), 1000, dict.fromkeys(NAMES, 0)
    for _ in range(runs):
        one, other, names = drawn(rng, 50)
        for name, estimate in figures(one.tolist(), other.tolist(), clusters=names.tolist()).items():
            held[name] += estimate.low <= truth[name] <= estimate.high
    for name, times in held.items():
        assert 0.93 <= times / runs <= 0.97, (name, times / runs)


@pytest.mark.parametrize(("rate", "n"), [(0.03, 200), (0.05, 50), (0.05, 200), (0.10, 50)])
def test_rare_labels_that_are_independent_are_not_said_to_disagree(rate: float, n: int) -> None:
    """Without the floor the interval lay wholly below 0 in 39 to 78 % of such runs."""
    rng, held, runs = np.random.default_rng(1), 0, 300
    for _ in range(runs):
        one, other = ((rng.random(n) < rate).astype(float).tolist() for _ in range(2))
        found = correlations(one, other)[0]
        held += found.low is None or (found.low <= 0 <= (found.high or 0.0))
    assert held / runs >= 0.93
