"""Records brought together by what they are of, in bounded memory however many there are."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from perl_eval.exporting.passed import Passed
from perl_eval.storage import parquet
from perl_eval.storage.external_sort import Ordered, Places

__all__ = ["grouped"]

Record = TypeVar("Record")
_HELD = 16_384
"""As many records are brought into order in memory; more of them in a scratch file."""
_WORDS = 2
_DIGEST_BYTES = 8 * _WORDS


def grouped(found: Iterable[Record], *keys: Callable[[Record], object]) -> Iterator[list[Record]]:
    """Yield the records of each group together: of those that are alike in all keys.

    Groups come in the order in which their first records came; with several keys, all groups that are alike in the
    first key follow one another, and so on. The records of a group keep their order. Memory holds one group, and 40
    bytes of every record.

    Args:
        found: The records; gone through more than once.
        keys: What of a record says where it belongs; two that are alike must have the same ``repr``.
    """
    ranks = _ranks(found, keys)
    if not len(ranks):
        return
    if (np.diff(ranks) >= 0).all():
        yield from _cut(found, ranks)
        return
    order = np.argsort(ranks, kind="stable")
    if len(ranks) <= _HELD or _in_memory(found):
        held = list(found)
        yield from _cut((held[place] for place in order), ranks[order])
        return
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    with tempfile.TemporaryDirectory() as scratch:
        yield from _cut(_sorted(found, places, Path(scratch)), ranks[order])


def _ranks(found: Iterable[Record], keys: Sequence[Callable[[Record], object]]) -> Places:
    """Return the place of each record's group: that of its first record, among the groups of its outer key."""
    written = bytearray()
    for one in found:
        written += _digests(one, keys)
    digests = np.frombuffer(written, np.uint64).reshape(-1, _WORDS * len(keys))
    ranks: Places = np.zeros(len(digests), np.int64)
    for depth in range(1, len(keys) + 1):
        # Each depth puts the groups of the one before in parts, which keep to the order of their first records.
        firsts = _firsts(digests[:, : _WORDS * depth])
        _, ranks = np.unique(np.stack([ranks, firsts], axis=1), axis=0, return_inverse=True)
        ranks = ranks.reshape(-1)
    return ranks


def _digests(one: Record, keys: Sequence[Callable[[Record], object]]) -> bytes:
    parts = (repr(key(one)).encode("utf-8", "surrogatepass") for key in keys)
    return b"".join(hashlib.blake2b(part, digest_size=_DIGEST_BYTES).digest() for part in parts)


def _firsts(digests: npt.NDArray[np.uint64]) -> Places:
    """Return for each record the number of the first one with the same digests."""
    _, first, group = np.unique(digests, axis=0, return_index=True, return_inverse=True)
    return np.asarray(first[group.reshape(-1)], np.int64)


def _in_memory(found: Iterable[Any]) -> bool:
    return isinstance(found.source if isinstance(found, Passed) else found, Sequence)


def _sorted(found: Iterable[Record], places: Places, scratch: Path) -> Iterator[Record]:
    first = next(islice(found, 1))
    path = scratch / "records.parquet"
    parquet.write(path, found, type(first))
    yield from Ordered(path, type(first), places, scratch)


def _cut(found: Iterable[Record], ranks: Places) -> Iterator[list[Record]]:
    """Yield neighbours of one rank together."""
    group: list[Record] = []
    for place, one in zip(count(), found):
        if group and ranks[place] != ranks[place - 1]:
            yield group
            group = []
        group.append(one)
    if group:
        yield group
