"""Splits by hash and groups by prefix: laws, and hand-made cases."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_builders.splits import assign, connected, fraction, prefix_groups, stable_id

turns = st.lists(st.integers(0, 2), max_size=5).map(tuple)


def test_the_id_is_a_sha256_of_length_prefixed_parts() -> None:
    assert stable_id("ab", "c") == hashlib.sha256(b"2:ab1:c").hexdigest()[:16]
    assert stable_id("ab", "c") != stable_id("a", "bc")
    assert stable_id("é") == hashlib.sha256("1:é".encode()).hexdigest()[:16]


def test_the_fraction_is_the_hash_read_as_a_number() -> None:
    digits = hashlib.sha256(b"1:x").hexdigest()
    assert fraction("x") == pytest.approx(int(digits, 16) / 16**64, abs=1e-15)


@settings(deadline=None)
@given(st.text(), st.text())
def test_a_split_depends_on_group_and_salt_only(group: str, salt: str) -> None:
    assert assign(group, salt=salt) == assign(group, salt=salt)
    at = fraction(salt, group)
    expected = "train" if at < 0.8 else "validation" if at < 0.9 else "test"
    assert assign(group, salt=salt) == expected


def test_shares_are_met_over_many_groups() -> None:
    found = Counter(assign(str(number), salt="s") for number in range(20_000))
    # Three standard deviations of a binomial share at 20,000 groups are below 0.01.
    assert found["train"] / 20_000 == pytest.approx(0.8, abs=0.01)
    assert found["validation"] / 20_000 == pytest.approx(0.1, abs=0.01)


def test_another_salt_is_another_draw() -> None:
    names = [str(number) for number in range(1000)]
    same = sum(assign(name, salt="a") == assign(name, salt="b") for name in names)
    # Independent draws agree with probability 0.8^2 + 0.1^2 + 0.1^2 = 0.66.
    assert same / 1000 == pytest.approx(0.66, abs=0.05)


def test_prefixes_connect_and_shared_openers_do_not() -> None:
    a, b, c = ("hi", "x"), ("hi", "x", "y", "z"), ("hi", "x", "w")
    other, opener = ("hi", "q"), ("hi",)
    assert prefix_groups([b, a, c, other, opener, a]) == [0, 0, 0, 3, 4, 0]


def test_siblings_without_their_parent_are_strangers() -> None:
    assert prefix_groups([("hi", "x", "y"), ("hi", "x", "z")]) == [0, 1]


@settings(deadline=None)
@given(st.lists(turns, max_size=12))
def test_groups_are_the_components_of_the_prefix_graph(sequences: list[tuple[int, ...]]) -> None:
    # The slow way: compare every two, then close over neighbours.
    size = len(sequences)

    def linked(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
        short, long = sorted((one, other), key=len)
        return one == other or (len(short) > 1 and long[: len(short)] == short)

    expected = list(range(size))
    for _ in range(size):
        for i in range(size):
            for j in range(size):
                if linked(sequences[i], sequences[j]):
                    expected[i] = expected[j] = min(expected[i], expected[j])
    assert prefix_groups(sequences) == expected


@settings(deadline=None)
@given(st.lists(st.sets(st.integers(0, 5), max_size=3), max_size=10))
def test_connected_items_share_a_chain_of_links(links: list[set[int]]) -> None:
    size = len(links)
    expected = list(range(size))
    for _ in range(size):
        for i in range(size):
            for j in range(size):
                if links[i] & links[j]:
                    expected[i] = expected[j] = min(expected[i], expected[j])
    assert connected(links) == expected
