"""Upstream containers, read strictly: whatever is cut short or holds other keys than it should is refused."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datasets_builders.errors import DataError

__all__ = ["blocks", "check_keys", "column_batches", "json_array", "json_lines", "parse_object"]

_BLOCK_BYTES = 4 << 20


def check_keys(
    record: Any, required: Set[str], *, file: str, row: int, optional: Set[str] = frozenset(), within: str | None = None
) -> None:
    """Refuse a record whose keys are not the expected ones.

    `datasets` drops unknown keys and fills missing ones without a word, so upstream's changes would go unseen.

    Args:
        record: The record.
        required: Keys that must be there.
        file: The upstream file, for the message.
        row: The row in it.
        optional: Keys that may be there.
        within: The key that the record is the value of, if it is not the row itself.

    Raises:
        DataError: It is no object, or has other keys.
    """
    if not isinstance(record, dict):
        raise DataError(f"is a {type(record).__name__}, expected an object", file, row, within)
    keys = record.keys()
    if missing := required - keys:
        raise DataError(f"key {min(missing)!r} is missing", file, row, within)
    if unknown := keys - required - optional:
        raise DataError(f"unexpected key {min(unknown)!r}; upstream has changed its format", file, row, within)


def parse_object(text: str | bytes, *, file: str, row: int, field: str | None = None) -> Any:
    """Parse JSON text.

    Raises:
        DataError: It is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({error})", file, row, field) from None


def json_array(path: Path, *, file: str) -> list[Any]:
    """Read a file that is one JSON array.

    Raises:
        DataError: It is not.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({error})", file) from None
    if not isinstance(content, list):
        raise DataError(f"holds a {type(content).__name__}, expected an array", file)
    return content


def blocks(path: Path, *, file: str, size: int = _BLOCK_BYTES) -> Iterator[tuple[int, bytes]]:
    """Read a text file, gzip or plain, in blocks of whole lines.

    Args:
        path: The file; gzip is told by its first two bytes.
        file: The upstream name, for messages.
        size: Bytes of a block, about.

    Yields:
        The number of the block's first line, from 0, and the block, ending in a newline.

    Raises:
        DataError: The file is cut short or not gzip where it claims to be.
    """
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    row, rest = 0, b""
    with gzip.open(path, "rb") if packed else path.open("rb") as handle:
        while True:
            try:
                block = handle.read(size)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise DataError(f"is cut short or damaged ({error})", file, row, fix="download it again") from None
            if not block:
                break
            cut = block.rfind(b"\n") + 1
            if not cut:
                rest += block
                continue
            whole, rest = rest + block[:cut], block[cut:]
            yield row, whole
            row += whole.count(b"\n")
    if rest:
        yield row, rest + b"\n"


def json_lines(path: Path, *, file: str) -> Iterator[tuple[int, Any]]:
    """Read a file of one JSON value a line, gzip or plain.

    Yields:
        The line's number, from 0, and its value.

    Raises:
        DataError: A line is empty or not JSON, or the file is cut short.
    """
    for first, block in blocks(path, file=file):
        for row, line in enumerate(block.split(b"\n")[:-1], first):
            yield row, parse_object(line, file=file, row=row)


def column_batches(folder: Path, column: str) -> Iterator[list[Any]]:
    """Yield one column of the arrow and parquet files in a folder, batch by batch."""
    for path in sorted(folder.glob("*.arrow")):
        with pa.memory_map(str(path)) as mapped, pa.ipc.open_stream(mapped) as stream:
            for batch in stream:
                yield batch[column].to_pylist()
    for path in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(columns=[column]):
                yield batch[column].to_pylist()
