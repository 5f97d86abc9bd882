"""The mean of scores against scipy's t interval, and what is missing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.mean_score import mean_score

SCORES = [3.0, 7.0, 8.0, 4.5, 9.0, 6.0]


def test_the_mean_and_its_interval_are_scipys() -> None:
    found = mean_score([*SCORES, None], clusters=[str(place) for place in range(7)])
    expected = stats.ttest_1samp(SCORES, 0).confidence_interval(0.95)
    assert (found.value, found.low, found.high) == pytest.approx((6.25, expected.low, expected.high))
    assert (found.name, found.n, found.n_missing) == ("mean score", 6, 1)


def test_groups_count_as_one_each() -> None:
    # Three groups of two equal scores: the interval of three scores (scipy), not of six.
    doubled = [score for score in SCORES[:3] for _ in range(2)]
    found = mean_score(doubled, clusters=list("aabbcc"))
    expected = stats.ttest_1samp(SCORES[:3], 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_bootstrap_interval_is_near_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(5, 1, 400).tolist()
    found = mean_score(values, clusters=list(range(400)), resampling=Resampling(draws=1000))
    half = 1.96 * np.std(values) / 20
    assert (found.low, found.high) == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=0.02)


def test_no_scores_are_no_mean() -> None:
    found = mean_score([None, None], clusters=["a", "b"])
    assert (found.value, found.n, found.n_missing, found.reason) == (None, 0, 2, "no answer has a score")
