"""Diversity figures on texts small enough to count by hand."""

from __future__ import annotations

from math import exp, log

import pytest
from scipy.stats import entropy as scipy_entropy

from perl_eval.stats.diversity import (
    distinct_share,
    diversity,
    entropy,
    mode_share,
    repetition,
    self_bleu,
    unique_share,
)


def test_distinct_n() -> None:
    texts = ["a b a b", "a b c"]
    assert distinct_share(texts, 1) == pytest.approx(3 / 7)  # a, b, c of seven words
    assert distinct_share(texts, 2) == pytest.approx(3 / 5)  # ab, ba, bc of ab ba ab ab bc
    assert distinct_share(["a", ""], 2) is None


def test_shares_and_entropy() -> None:
    texts = ["x", "x", "y", "z"]
    assert unique_share(texts) == 0.75
    assert mode_share(texts) == 0.5
    assert entropy(texts) == pytest.approx(scipy_entropy([2, 1, 1]))
    assert entropy(["x"] * 5) == 0.0
    assert entropy(list("abcd")) == pytest.approx(log(4))


def test_repetition() -> None:
    # Five 4-grams: abab, baba, abab, baba, abab; two of them new.
    assert repetition("a b a b a b a b") == pytest.approx(3 / 5)
    assert repetition("a b c") is None


def test_self_bleu() -> None:
    assert self_bleu(["a b c d e"] * 3) == pytest.approx(1.0)
    assert self_bleu(["a b", "c d"]) == 0.0
    assert self_bleu(["a"]) is None
    # Of "a b c" against "a b d e": 1-grams 2/3, 2-grams (1+1)/(2+1), 3-grams (0+1)/(1+1), 4-grams (0+1)/(0+1); one word
    # shorter, so exp(1 - 4/3). The other way: 2/4, (1+1)/(3+1), (0+1)/(2+1), (0+1)/(1+1), no penalty.
    one = (2 / 3 * 2 / 3 * 1 / 2 * 1) ** 0.25 * exp(1 - 4 / 3)
    other = (2 / 4 * 2 / 4 * 1 / 3 * 1 / 2) ** 0.25
    assert self_bleu(["a b c", "a b d e"]) == pytest.approx((one + other) / 2)


def test_a_collapsed_policy_shows() -> None:
    items = [f"p{i // 4}" for i in range(40)]
    varied = {e.name: e.value for e in diversity([f"word{i} and {i * 7} of" for i in range(40)], items)}
    collapsed = {e.name: e.value for e in diversity(["the same old answer"] * 40, items)}
    assert (collapsed["unique share"], varied["unique share"]) == (0.25, 1.0)
    assert (collapsed["entropy"], varied["entropy"]) == (0.0, pytest.approx(log(4)))
    assert collapsed["self-BLEU"] == pytest.approx(1.0)
    assert collapsed["distinct-2"] < varied["distinct-2"]
    assert collapsed["unique share, all prompts"] == pytest.approx(1 / 40)


def test_one_draw_a_prompt_says_nothing_within_prompts() -> None:
    found = {e.name: e for e in diversity(["a b", "c d", "a b"], ["p", "q", "r"])}
    assert found["entropy"].value is None
    assert found["entropy"].n_missing == 3
    assert found["entropy"].reason
    assert found["unique share, all prompts"].value == pytest.approx(2 / 3)
    assert found["repetition"].reason == "no completion has 4 words"
    assert {e.value for e in diversity([], [])} == {None}


def test_rare_repetition_has_an_interval_away_from_zero() -> None:
    # Two of 40 completions say "x" seven times after three words: 3 of their 7 4-grams occurred before.
    texts = ["a b c x x x x x x x" if place in (3, 20) else "a b c d e" for place in range(40)]
    found = {e.name: e for e in diversity(texts, [f"p{place // 2}" for place in range(40)])}["repetition"]
    assert found.value == pytest.approx(2 * 3 / 7 / 40)
    assert found.method == "Wilson at the effective size, 20 clusters, 2 of them above zero"
    # A t interval would begin below zero and be cut off there.
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < found.value < found.high < 1
