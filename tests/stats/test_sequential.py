"""Anytime intervals: valid at every moment at once, and worth waiting for."""

from __future__ import annotations

import numpy as np
import pytest

from perl_eval.stats.sequential import anytime_mean, confidence_sequence

SCORES = np.array([1.0, 0.5, 0.0])


def test_the_truth_is_never_left_more_often_than_said() -> None:
    rng, runs, left = np.random.default_rng(0), 400, 0
    for _ in range(runs):
        course = confidence_sequence(rng.choice(SCORES, 250, p=[0.5, 0.3, 0.2]))
        left += bool(((course.low > 0.65) | (course.high < 0.65)).any())
    assert left / runs <= 0.05


def test_a_fixed_interval_peeked_at_would_fail() -> None:
    # The same watch over an ordinary 95 % interval leaves the truth far more often.
    rng, runs, left = np.random.default_rng(1), 400, 0
    t = np.arange(1, 251)
    for _ in range(runs):
        values = rng.choice(SCORES, 250, p=[0.5, 0.3, 0.2])
        means = np.cumsum(values) / t
        errors = np.sqrt(np.maximum(np.cumsum(values**2) / t - means**2, 0) / t)
        left += bool((np.abs(means - 0.65) > 1.96 * errors)[20:].any())
    assert left / runs > 0.15


def test_clear_cases_stop_early_and_close_ones_do_not() -> None:
    rng = np.random.default_rng(2)
    clear = confidence_sequence(rng.choice(SCORES, 500, p=[0.8, 0.1, 0.1]))
    assert clear.decided is not None
    assert clear.decided < 100
    assert clear.low[clear.decided - 1] > 0.5
    assert confidence_sequence(rng.choice(SCORES, 200, p=[0.4, 0.2, 0.4])).decided is None


def test_bounds_only_tighten_and_end_near_the_fixed_width() -> None:
    values = np.random.default_rng(3).choice(SCORES, 2000, p=[0.5, 0.3, 0.2])
    course = confidence_sequence(values)
    assert (np.diff(course.low) >= 0).all()
    assert (np.diff(course.high) <= 0).all()
    fixed = 2 * 1.96 * values.std() / np.sqrt(2000)
    assert course.high[-1] - course.low[-1] < 2.2 * fixed


def test_edges() -> None:
    sure = anytime_mean("win rate", [1.0] * 60)
    assert sure.value == 1.0
    assert sure.high == 1.0
    assert 0.8 < sure.low < 1.0
    assert anytime_mean("win rate", []).value is None
    assert confidence_sequence([]).decided is None
    for wrong in ([1.2], [float("nan")]):
        with pytest.raises(ValueError, match="outside"):
            confidence_sequence(wrong)
