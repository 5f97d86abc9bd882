"""The test of two sides over groups: the sign test without them, exact by enumeration with them, of the right size."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from perl_eval.stats.sign_flip import sign_flip_p


@given(ups=st.integers(0, 40), downs=st.integers(0, 40), zeros=st.integers(0, 5))
def test_without_groups_it_is_the_sign_test(ups: int, downs: int, zeros: int) -> None:
    wanted = stats.binomtest(ups, ups + downs).pvalue if ups + downs else 1.0
    assert sign_flip_p([1] * ups + [-1] * downs + [0] * zeros) == pytest.approx(wanted)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=5), min_size=1, max_size=9), st.booleans())
def test_with_groups_it_counts_all_flips(groups: list[list[int]], mid: bool) -> None:
    sums = [sum(part) for part in groups]
    seen = abs(sum(sums))
    flipped = [
        abs(sum(sign * part for sign, part in zip(flip, sums, strict=True)))
        for flip in product((1, -1), repeat=len(sums))
    ]
    larger, equal = np.mean([one > seen for one in flipped]), np.mean([one == seen for one in flipped])
    wanted = 1.0 if not seen else min(1.0, larger + equal * (0.5 if mid else 1))
    clusters = [place for place, part in enumerate(groups) for _ in part]
    assert sign_flip_p([sign for part in groups for sign in part], clusters=clusters, mid=mid) == pytest.approx(wanted)


def test_large_groups_of_many_sizes_are_added_up_alike() -> None:
    sums = np.array([1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, -60, -200])
    signs = np.concatenate([np.full(abs(one), np.sign(one)) for one in sums])
    clusters = np.repeat(np.arange(len(sums)), np.abs(sums))
    flips = np.array(list(product((1, -1), repeat=len(sums)))) @ sums
    wanted = np.mean(np.abs(flips) >= abs(sums.sum()))
    assert sign_flip_p(signs, clusters=clusters) == pytest.approx(wanted)


@pytest.mark.parametrize("sums", [[4] * 40 + [-3] * 2 + [1] * 30, [2] * 120 + [-1] * 60, [1, 2, 3, 4] * 30])
@pytest.mark.parametrize("mid", [False, True])
def test_small_values_are_right_to_their_digits(sums: list[int], mid: bool) -> None:
    """Against sums of fractions: products of transforms alone are noise below 1e-16."""
    chances = {0: Fraction(1)}
    for one in sums:
        following: dict[int, Fraction] = defaultdict(Fraction)
        for total, chance in chances.items():
            following[total + one] += chance / 2
            following[total - one] += chance / 2
        chances = following
    seen = abs(sum(sums))
    wanted = sum(
        chance * (Fraction(1, 2) if mid and abs(total) == seen else 1)
        for total, chance in chances.items()
        if abs(total) >= seen
    )
    signs = [1 if one > 0 else -1 for one in sums for _ in range(abs(one))]
    clusters = [place for place, one in enumerate(sums) for _ in range(abs(one))]
    assert sign_flip_p(signs, clusters=clusters, mid=mid) == pytest.approx(float(wanted), rel=1e-10, abs=0)
    assert 0 < float(wanted) < 1e-12


def test_a_chance_is_never_nothing() -> None:
    assert sign_flip_p([1] * 5000) == pytest.approx(np.finfo(float).tiny, abs=0)


def test_equal_sides_are_told_apart_in_one_run_of_twenty_whatever_groups_share() -> None:
    """Groups of 20 that share much: the sign test over items said p < .05 in 36 % of such runs."""
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(50), 20)
    low = 0
    for _ in range(400):
        chances = rng.beta(2, 2, 50)  # correlation 0.2 in a group
        low += sign_flip_p(np.where(rng.random(1000) < chances[clusters], 1, -1), clusters=clusters) < 0.05
    assert low / 400 < 0.08
