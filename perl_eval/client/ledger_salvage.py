"""Saving what can be read of a damaged ledger.

SQLite gives a file up where its pages do not fit together, and with it all rows that lie there. Rows are looked for
here in the pages themselves, in the database and in its write-ahead log, by the beginning that all rows of replies
share; a row whose checksum holds is one, wherever it was found. Of rows that older versions kept without a checksum
those are taken that a page names and whose columns are possible ones.

Source:
    SQLite's own description of its files, https://www.sqlite.org/fileformat2.html, sections 1.5 to 1.6, 2.1 and 4.1.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

from perl_eval.client.ledger import Ledger
from perl_eval.client.ledger_rows import COLUMNS, KEY_BYTES, checksum, is_whole
from perl_eval.client.reply import Finish
from perl_eval.errors import UserError
from perl_eval.storage import parquet

__all__ = ["Salvaged", "salvage"]

_BLOCK = 1000
_FILE_HEADER, _LOG_HEADER, _FRAME_HEADER = 100, 32, 24
_SIZES = tuple(2**power for power in range(9, 17))
_USUAL_SIZE = 4096
_LEAF, _INDEX_LEAF, _INDEX_INTERIOR = 0x0D, 0x0A, 0x02
_KEY_TYPE = 12 + 2 * KEY_BYTES
# The size of a record's header, then the type of its first column: a key.
_BEGINNING = re.compile(rb"[\x0d-\x1f]" + bytes([_KEY_TYPE]))
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_FINISHES = get_args(Finish)
_LONGEST = 1 << 30


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What became of the replies of a damaged ledger.

    Attributes:
        kept: Replies in the new one.
        unchecked: Those of them that had no checksum: nothing says that they are as they were kept.
        lost: Replies that could not be read, as far as the rest of the file tells.
    """

    kept: int
    unchecked: int
    lost: int


def salvage(damaged: Path, out: Path) -> Salvaged:
    """Copy the replies of a damaged ledger that can be read into a new one.

    Refusals are not copied: those questions are asked again.

    Args:
        damaged: The ledger; it is read and left as it is.
        out: The new one; must not be there.

    Raises:
        UserError: There is no such file, no reply in it can be read, or the new one is there or cannot be written.
    """
    if not damaged.is_file():
        raise UserError(f"no such ledger: {damaged}", "check the path")
    if out.exists():
        raise UserError(f"{out} is already there", "choose another file")
    found = Salvaged(0, 0, 0)

    def write_to(partial: Path) -> None:
        nonlocal found
        found = _copied(damaged, partial)
        if not found.kept:
            raise UserError(f"no reply can be read in {damaged}", "give another file")

    parquet.replace_file(out, write_to)
    return found


def _copied(damaged: Path, out: Path) -> Salvaged:
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(_mapped(damaged))
        log = stack.enter_context(_mapped(damaged.with_name(f"{damaged.name}-wal")))
        ledger = stack.enter_context(Ledger(out))
        for size in _page_sizes(database):
            search = _Search(_Pages(database, log, size))
            kept = unchecked = 0
            for rows in _batches(search.rows()):
                kept += ledger.restore([(*row[:12], checksum(row)) for row in rows if row[12] is not None])
                old = [(*row[:12], checksum(row)) for row in rows if row[12] is None]
                new = ledger.restore(old)
                kept, unchecked = kept + new, unchecked + new
            if kept:
                return Salvaged(kept, unchecked, max(0, search.expected() - kept))
        return Salvaged(0, 0, 0)


def _batches(rows: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    batch: list[tuple[Any, ...]] = []
    for row in rows:
        batch.append(row)
        if len(batch) >= _BLOCK:
            yield batch
            batch = []
    yield batch


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[bytes | mmap.mmap]:
    """Give a file's content without reading it into memory; nothing where there is none."""
    try:
        handle = path.open("rb")
    except FileNotFoundError:
        yield b""
        return
    with handle:
        if not handle.seek(0, 2):
            yield b""
            return
        with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content


def _page_sizes(database: bytes | mmap.mmap) -> list[int]:
    """Return the sizes that pages may have, the likeliest first: the header that says it may be damaged."""
    said = int.from_bytes(database[16:18], "big")
    said = 65536 if said == 1 else said
    likely = [said] if said in _SIZES else []
    return list(dict.fromkeys([*likely, _USUAL_SIZE, *_SIZES]))


class _Pages:
    """The pages of a database and of its log, where there may be several versions of one.

    Args:
        database: The file.
        log: Its write-ahead log.
        size: Of a page, in bytes.
    """

    def __init__(self, database: bytes | mmap.mmap, log: bytes | mmap.mmap, size: int) -> None:
        self.size = size
        self._database, self._log = database, log
        self._frames: dict[int, list[int]] = {}
        for place in range(_LOG_HEADER, len(log) - _FRAME_HEADER, _FRAME_HEADER + size):
            self._frames.setdefault(int.from_bytes(log[place : place + 4], "big"), []).append(place + _FRAME_HEADER)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Yield every page of both files with the place at which it begins to be one: behind a header of the file."""
        for place in range(0, len(self._database), self.size):
            yield 0 if place else _FILE_HEADER, self._database[place : place + self.size]
        for number, places in self._frames.items():
            for place in places:
                yield 0 if number != 1 else _FILE_HEADER, self._log[place : place + self.size]

    def versions(self, number: int, which: int) -> bytes:
        """Return a page by its number: 0 for its latest version, 1 for its first in the log, 2 for the database's."""
        frames = self._frames.get(number, [])
        if frames and which < 2:
            place = frames[-1 if which == 0 else 0]
            return self._log[place : place + self.size]
        return self._database[(number - 1) * self.size : number * self.size]


class _Record(NamedTuple):
    """The header of a record: the types of its columns, and the bytes of its content."""

    types: list[int]
    header: int
    content: int


class _Search:
    """The search for rows in pages."""

    def __init__(self, pages: _Pages) -> None:
        self._pages = pages
        self._in_table: set[int] = set()
        self._in_index: set[int] = set()

    def expected(self) -> int:
        """Return how many rows there were, as far as the pages that were searched tell."""
        return max(len(self._in_table), len(self._in_index))

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows that are found, some perhaps twice: their columns, and the checksum if they have one."""
        for begin, page in self._pages:
            kind = page[begin] if len(page) > begin else 0
            if kind in (_INDEX_LEAF, _INDEX_INTERIOR):
                self._in_index.update(_row_numbers(page, begin, kind))
                continue
            named = dict(_cells(page, begin)) if kind == _LEAF else {}
            for match in _BEGINNING.finditer(page):
                record = _record(page, match.start())
                if record is None:
                    continue
                if match.start() in named:
                    self._in_table.add(named[match.start()])
                row = self._row(page, match.start(), record, named=match.start() in named)
                if row is not None:
                    yield row

    def _row(self, page: bytes, place: int, record: _Record, *, named: bool) -> tuple[Any, ...] | None:
        total = record.header + record.content
        for which in range(3):
            content = self._payload(page, place, total, which)
            if content is not None:
                row = _values(record, content)
                if row is not None and (is_whole(row) if row[12] is not None else named and _possible(row)):
                    return row
            if total <= self._pages.size - 35:
                break
        return None

    def _payload(self, page: bytes, place: int, total: int, which: int) -> bytes | None:
        """Return a record that may go on in other pages."""
        size = self._pages.size
        local, at_least = total, ((size - 12) * 32 // 255) - 23
        if total > size - 35:
            local = at_least + (total - at_least) % (size - 4)
            local = local if local <= size - 35 else at_least
        parts = [page[place : place + local]]
        missing = total - local
        following = int.from_bytes(page[place + local : place + local + 4], "big") if missing else 0
        while missing > 0:
            over = self._pages.versions(following, which) if following else b""
            if len(over) < size:
                return None
            parts.append(over[4 : 4 + missing])
            missing -= len(parts[-1])
            following = int.from_bytes(over[:4], "big")
        payload = b"".join(parts)
        return payload if len(payload) == total else None


def _cells(page: bytes, begin: int) -> Iterator[tuple[int, int]]:
    """Yield where the records of a leaf of a table begin, each with the number of its row."""
    for place in _pointers(page, begin, 8):
        with contextlib.suppress(IndexError):
            _, behind = _varint(page, place)
            number, record = _varint(page, behind)
            yield record, number


def _row_numbers(page: bytes, begin: int, kind: int) -> Iterator[int]:
    """Yield the numbers of rows that a page of the index of keys names."""
    skip, header = (4, 12) if kind == _INDEX_INTERIOR else (0, 8)
    for place in _pointers(page, begin, header):
        head = page[place + skip : place + skip + 4]  # the size of all, of the header, and two types
        if len(head) < 4 or head[1:3] != bytes([3, _KEY_TYPE]) or (head[3] not in _INTEGERS and head[3] not in (8, 9)):
            continue
        behind = place + skip + 4 + KEY_BYTES
        yield _integer(head[3], page[behind : behind + _INTEGERS.get(head[3], 0)])


def _pointers(page: bytes, begin: int, header: int) -> Iterator[int]:
    count = min(int.from_bytes(page[begin + 3 : begin + 5], "big"), len(page) // 2)
    for place in range(begin + header, begin + header + 2 * count, 2):
        yield int.from_bytes(page[place : place + 2], "big")


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """Read a number of 1 to 9 bytes; returns it, and the place behind it.

    Raises:
        IndexError: The content ends inside it.
    """
    value = 0
    for length in range(8):
        byte = content[place + length]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + length + 1
    return value << 8 | content[place + 8], place + 9


def _record(page: bytes, place: int) -> _Record | None:
    """Read the header of a record; None if it is not that of a row."""
    header, types = page[place], list[int]()
    behind = place + 1
    try:
        while behind < place + header:
            kind, behind = _varint(page, behind)
            types.append(kind)
    except IndexError:
        return None
    if behind != place + header or len(types) not in (len(COLUMNS) - 1, len(COLUMNS)):
        return None
    content = sum(map(_length, types))
    return _Record(types, header, content) if content <= _LONGEST else None


def _length(kind: int) -> int:
    if kind >= 12:
        return (kind - 12) // 2
    return 8 if kind == 7 else _INTEGERS.get(kind, 0)


def _values(record: _Record, payload: bytes) -> tuple[Any, ...] | None:
    """Return the columns of a row; None where a text is none."""
    values: list[Any] = []
    place = record.header
    for kind in record.types:
        part = payload[place : place + _length(kind)]
        place += len(part)
        if kind >= 13 and kind % 2:
            try:
                values.append(part.decode("utf-8"))
            except UnicodeDecodeError:
                return None
        elif kind >= 12:
            values.append(part)
        elif kind == 7:
            values.append(struct.unpack(">d", part)[0])
        else:
            values.append(None if kind == 0 else _integer(kind, part))
    for name in ("latency_s", "cost_usd"):  # whole ones are kept as integers
        place = COLUMNS.index(name)
        values[place] = float(values[place]) if isinstance(values[place], int) else values[place]
    return (*values, *[None] * (len(COLUMNS) - len(values)))


def _integer(kind: int, part: bytes) -> int:
    return kind - 8 if kind in (8, 9) else int.from_bytes(part, "big", signed=True)


def _possible(row: Sequence[Any]) -> bool:
    """Say whether a row without a checksum can have been kept as it is."""
    key, door, asked, answered, text, finish, logprobs, tokens_in, tokens_out, latency_s, cost_usd, at, _ = row
    try:
        json.loads(logprobs or "[]")
    except (ValueError, TypeError):
        return False
    return (
        isinstance(key, bytes)
        and all(isinstance(one, str) for one in (door, asked, answered, text, at))
        and finish in _FINISHES
        and isinstance(tokens_in, int)
        and isinstance(tokens_out, int)
        and isinstance(latency_s, float)
        and (cost_usd is None or isinstance(cost_usd, float))
        and _MOMENT.fullmatch(at) is not None
    )
