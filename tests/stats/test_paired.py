"""Paired comparisons against statsmodels and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from perl_eval.stats.paired import mcnemar, paired_differences, paired_outcomes


def test_mcnemar_by_hand() -> None:
    # Only a hits 9 times, only b 2 times: X ~ Bin(11, 1/2), P(X <= 2) = (1 + 11 + 55) / 2048, P(X = 2) = 55 / 2048.
    a = [True] * 9 + [False] * 2 + [True] * 5 + [False] * 4
    b = [False] * 9 + [True] * 2 + [True] * 5 + [False] * 4
    estimate = mcnemar(a, b)
    assert estimate.value == pytest.approx((2 * 67 - 55) / 2048)
    assert estimate.n == 20
    # The exact test is wider by the mid-p correction.
    exact = statsmodels_mcnemar([[5, 9], [2, 4]], exact=True).pvalue
    assert estimate.value == pytest.approx(exact - 55 / 2048)
    assert mcnemar(b, a).value == estimate.value
    assert mcnemar([True, False], [True, False]).reason == "no item tells the two apart"
    assert mcnemar([True, False], [False, True]).value == pytest.approx(2 * 0.75 - 0.5)


def test_mcnemar_holds_its_level() -> None:
    rng = np.random.default_rng(0)
    low = [mcnemar(rng.random(150) < 0.4, rng.random(150) < 0.4).value < 0.05 for _ in range(2000)]
    assert 0.035 <= np.mean(low) <= 0.065


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(size=60)
    a, b = base + rng.normal(0.2, 0.1, 60), base + rng.normal(0, 0.1, 60)
    by_t = paired_differences(a.tolist(), b.tolist())
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (by_t.low, by_t.high) == pytest.approx((expected.low, expected.high))


def test_items_that_one_lacks_are_missing() -> None:
    by_t = paired_differences([0.5, None, 1.0], [0.0, 0.5, None], name="VQA accuracy difference")
    assert (by_t.name, by_t.value, by_t.n, by_t.n_missing) == ("VQA accuracy difference", 0.5, 1, 2)
    assert paired_differences([None], [1.0]).reason == "no item has both scores"
    with pytest.raises(ValueError, match="not paired"):
        mcnemar([True], [True, False])


def test_two_policies_against_one_baseline() -> None:
    a = ["win", "win", "split", "loss", "win", "unjudged"]
    b = ["loss", "win", "loss", "loss", "tie", "win"]
    found = {estimate.name: estimate for estimate in paired_outcomes(a, b)}
    assert found["win rate difference"].value == pytest.approx(2 / 5)
    assert found["win rate difference, undecided half"].value == pytest.approx((1 + 0 + 0.5 + 0 + 0.5) / 5)
    assert found["McNemar p"].value == pytest.approx(2 * 0.25 - 0.25)  # two items, both for a
    assert {estimate.n_missing for estimate in found.values()} == {1}
