"""Anytime intervals: valid at every moment at once, and worth waiting for."""

from __future__ import annotations

import numpy as np
import pytest

from perl_eval.stats.sequential import StopRule, anytime_mean, confidence_sequence

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


def test_a_queue_with_groups_never_leaves_its_own_mean_more_often_than_said() -> None:
    # 60 groups of 5 equal scores: independent items they are not, but the order of the queue is random.
    rng, runs, left, width = np.random.default_rng(4), 300, 0, []
    for _ in range(runs):
        queue = rng.permutation(np.repeat(rng.choice(SCORES, 60, p=[0.5, 0.3, 0.2]), 5))
        course = confidence_sequence(queue, population=300)
        left += bool(((course.low > queue.mean()) | (course.high < queue.mean())).any())
        width.append(course.high[-1] - course.low[-1])
    assert left / runs <= 0.05
    assert max(width) < 0.03  # nothing is left to learn about a queue that was asked whole


def test_unjudged_places_leave_the_queue() -> None:
    # One score in five is missing, whatever it would have been; the target is the mean of the rest.
    rng, runs, left = np.random.default_rng(5), 300, 0
    for _ in range(runs):
        queue = rng.choice(SCORES, 200, p=[0.6, 0.2, 0.2])
        judged = rng.random(200) > 0.2
        rule, out = StopRule(200), False
        for score, known in zip(queue.tolist(), judged.tolist(), strict=True):
            rule.feed(score if known else None)
            out |= not rule.low <= queue[judged].mean() <= rule.high
        left += out
    assert left / runs <= 0.05
    assert (rule.n, rule.n_missing) == (judged.sum(), 200 - judged.sum())


def test_the_rule_says_when() -> None:
    rule = StopRule()
    said = [rule.feed(1.0) for _ in range(30)]
    assert rule.decided == said.index(True) + 1
    assert all(said[said.index(True) :])
    estimate = rule.estimate("win rate")
    assert (estimate.value, estimate.low, estimate.n) == (1.0, rule.low, 30)
    assert rule.low > 0.5
    # A half-width ends what the mark never would.
    flat, narrow = StopRule(), StopRule(half_width=0.1)
    for _ in range(400):
        flat.feed(0.5)
        narrow.feed(0.5)
    assert flat.decided is None
    assert narrow.decided is not None
    assert narrow.high - narrow.low <= 0.2


def test_groups_that_repeat_make_the_queue_the_population() -> None:
    assert StopRule.over(["a", "b", "c"]).population is None
    assert StopRule.over(["a", "b", "a"]).population == 3
    full = StopRule(1)
    full.feed(0.5)
    with pytest.raises(ValueError, match="population of 1"):
        full.feed(0.5)
    for wrong in ({"level": 1.0}, {"population": 0}, {"half_width": 0.5}):
        with pytest.raises(ValueError, match="is"):
            StopRule(**wrong)
    assert StopRule().estimate("win rate").reason == "there are no items"
