"""The best of k draws, beside all choices of k and beside pass@k as it was published."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perl_eval.stats.best_at_k import best_at, best_of_draws


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.data())
def test_it_is_the_mean_over_all_choices(values: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    every = [max(chosen) for chosen in combinations(values, k)]
    assert best_of_draws(values, k) == pytest.approx(np.mean(every), abs=1e-12)


@pytest.mark.parametrize(("n", "right"), [(10, 0), (10, 3), (10, 10), (200, 7)])
def test_of_right_and_wrong_it_is_pass_at_k(n: int, right: int) -> None:
    for k in (1, 2, 5, 10):
        passed = 1 - comb(n - right, k) / comb(n, k)
        assert best_of_draws([1.0] * right + [0.0] * (n - right), k) == pytest.approx(passed, abs=1e-12)


def test_it_is_unbiased() -> None:
    """Of three uniform draws the best is 3/4 in expectation, however many more are drawn."""
    rng = np.random.default_rng(0)
    found = [best_of_draws(rng.random(8), 3) for _ in range(4000)]
    assert np.mean(found) == pytest.approx(0.75, abs=4 * np.std(found) / 4000**0.5)


def test_prompts_with_few_draws_are_missing() -> None:
    found = best_at("best@2", [0.0, 1.0, 0.5, 0.2, 0.4], ["a", "a", "b", "c", "c"], 2, bounds=(0.0, 1.0))
    assert (found.value, found.n, found.n_missing) == (pytest.approx(0.7), 2, 1)
    assert best_at("best@3", [0.0, 1.0], ["a", "a"], 3).reason == "no prompt has 3 draws"
    with pytest.raises(ValueError, match="the best of 3 of 2 draws"):
        best_of_draws([1.0, 2.0], 3)
