"""Splits that depend on nothing but the group of a row, so that no group is ever on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence

__all__ = ["SHARES", "assign", "connected", "fraction", "prefix_groups", "stable_id"]

SHARES: Mapping[str, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}
"""Shares of the groups where upstream has no split."""


def _sha256(parts: Iterable[str]) -> bytes:
    joined = "".join([f"{len(part)}:{part}" for part in parts])
    return hashlib.sha256(joined.encode("utf-8", "surrogatepass")).digest()


def stable_id(*parts: str) -> str:
    """Return the first 16 hex digits of a sha256 of some strings, each with its length before it."""
    return _sha256(parts)[:8].hex()


def fraction(*parts: str) -> float:
    """Return a number in [0, 1) that is uniform over strings: sha256 read as a binary fraction."""
    return int.from_bytes(_sha256(parts)[:8]) / 2**64


def assign(group: str, *, salt: str, shares: Mapping[str, float] = SHARES) -> str:
    """Return the split of a group: where its hash falls when the shares are laid end to end.

    Args:
        group: The group.
        salt: What separates this draw from others over the same groups, usually the data set's name.
        shares: Share of each split, all above 0, summing to 1.
    """
    at, split = fraction(salt, group), ""
    for split, share in shares.items():
        if at < share:
            return split
        at -= share
    return split


class _Sets:
    """Disjoint sets of numbers, joined on demand; the smallest member stands for each."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, member: int) -> int:
        while self._parent[member] != member:
            self._parent[member] = self._parent[self._parent[member]]
            member = self._parent[member]
        return member

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.find(one), self.find(other)))
        self._parent[high] = low


def prefix_groups(sequences: Iterable[Sequence[Hashable]], *, shared: int = 1) -> list[int]:
    """Group sequences that are connected by "is a prefix of".

    Two rows of one conversation have contexts of which one is a prefix of the other; whoever trains on the longer one
    has read the shorter one and its answer.

    Args:
        sequences: The turns of each context.
        shared: Contexts of this length or shorter connect nothing: they are openers that all conversations share.

    Returns:
        For each sequence the index of the first sequence of its group.
    """
    first_at: dict[tuple[Hashable, ...], int] = {}
    keys = [tuple(sequence) for sequence in sequences]
    for index, key in enumerate(keys):
        first_at.setdefault(key, index)
    sets = _Sets(len(keys))
    for index, key in enumerate(keys):
        sets.join(index, first_at[key])
        for length in range(shared + 1, len(key)):
            if (shorter := first_at.get(key[:length])) is not None:
                sets.join(index, shorter)
    return [sets.find(index) for index in range(len(keys))]


def connected(links: Iterable[Iterable[Hashable]]) -> list[int]:
    """Group items that share a link, directly or through others.

    Args:
        links: The links of each item; an item without any is a group of its own.

    Returns:
        For each item the index of the first item of its group.
    """
    listed = [list(of_item) for of_item in links]
    sets, first_with = _Sets(len(listed)), dict[Hashable, int]()
    for index, of_item in enumerate(listed):
        for link in of_item:
            sets.join(index, first_with.setdefault(link, index))
    return [sets.find(index) for index in range(len(listed))]
