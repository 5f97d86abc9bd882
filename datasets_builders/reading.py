"""Upstream containers, read strictly: whatever is cut short or holds other keys than it should is refused."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from datasets_builders.errors import DataError
from datasets_builders.tally import Tally

__all__ = [
    "Seen",
    "blocks",
    "check_keys",
    "check_texts",
    "column_batches",
    "json_array",
    "json_lines",
    "parquet_rows",
    "parse_line",
    "parse_object",
    "text_blocks",
]

_BLOCK_BYTES = 4 << 20
_SURROGATE = re.compile("[\ud800-\udfff]")


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
        DataError: It is not an object, or has other keys.
    """
    if isinstance(record, dict) and record.keys() == required:
        return
    if not isinstance(record, dict):
        raise DataError(f"is a {type(record).__name__}, expected an object", file, row, within)
    keys = record.keys()
    if missing := required - keys:
        raise DataError(f"key {min(missing)!r} is missing", file, row, within)
    if unknown := keys - required - optional:
        raise DataError(f"unexpected key {min(unknown)!r}; upstream has changed its format", file, row, within)


def check_texts(record: dict[str, Any], *, file: str, row: int) -> None:
    """Refuse a record with a value that is not text.

    Raises:
        DataError: There is one.
    """
    for key, value in record.items():
        if type(value) is not str:
            raise DataError(f"is a {type(value).__name__}, expected text", file, row, key)


def parse_object(text: str | bytes, *, file: str, row: int, field: str | None = None) -> Any:
    """Parse JSON text.

    Raises:
        DataError: It is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({error})", file, row, field) from None


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_whole(part) for part in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(part) for key, part in value.items()}
    return value


def parse_line(line: str, *, file: str, row: int, tally: Tally | None = None) -> Any:
    r"""Parse the JSON of one line; half a surrogate pair (``\ud83d`` alone), which no file can hold, becomes U+FFFD.

    Raises:
        DataError: It is not JSON.
    """
    record = parse_object(line, file=file, row=row)
    if "\\ud" in line or "\\uD" in line:
        whole = _whole(record)
        if tally is not None and whole != record:
            tally.note("half a character replaced by U+FFFD", file=file, row=row)
        return whole
    return record


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


def text_blocks(path: Path, *, file: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines of a UTF-8 file, gzip or plain, some megabytes at a time.

    Yields:
        The number of the first line, from 0, and the lines without their newlines.

    Raises:
        DataError: The file is cut short or not UTF-8.
    """
    for first, block in blocks(path, file=file):
        try:
            text = block.decode("utf-8")
        except UnicodeDecodeError as error:
            row = first + block.count(b"\n", 0, error.start)
            raise DataError(f"is not UTF-8 ({error.reason})", file, row) from None
        yield first, text.split("\n")[:-1]


def json_lines(path: Path, *, file: str, tally: Tally | None = None) -> Iterator[tuple[int, Any]]:
    """Yield the JSON value of each line of a file, gzip or plain, with its number from 0; see `parse_line`.

    Raises:
        DataError: A line is empty or not JSON, or the file is cut short.
    """
    for first, block in text_blocks(path, file=file):
        for row, line in enumerate(block, first):
            yield row, parse_line(line, file=file, row=row, tally=tally)


class Seen:
    """Finds strings that have been there before, at eight bytes a string.

    Only a 64-bit hash of each is held: of a million strings, two different ones are taken for equal with a
    probability below one in ten million.
    """

    def __init__(self) -> None:
        self._runs: list[npt.NDArray[np.int64]] = []

    def again(self, texts: Sequence[str]) -> set[int]:
        """Return the positions of those strings that were there before, in this call or an earlier one."""
        keys = np.fromiter(map(hash, texts), np.int64, len(texts))
        fresh, firsts = np.unique(keys, return_index=True)
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, fresh), len(run) - 1)
            unknown = run[at] != fresh
            fresh, firsts = fresh[unknown], firsts[unknown]
        if len(fresh):
            self._runs.append(fresh)
        # Runs of like size are merged, so that there are few of them and each string is moved a few times only.
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            self._runs.append(np.sort(np.concatenate([self._runs.pop(), self._runs.pop()])))
        return set(range(len(texts))) - set(firsts.tolist())


def parquet_rows(path: Path, *, file: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a parquet file, each with its number from 0.

    Raises:
        DataError: It is not a parquet file.
    """
    row = 0
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches():
                for record in batch.to_pylist():
                    yield row, record
                    row += 1
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"is not a parquet file ({error})", file) from None


def column_batches(folder: Path, column: str) -> Iterator[list[Any]]:
    """Yield one column of the arrow and parquet files in a folder, batch by batch."""
    for path in sorted(folder.glob("*.arrow")):
        # Read, not mapped: mapped pages would count as memory of this process for as long as it runs.
        with pa.OSFile(str(path)) as handle, pa.ipc.open_stream(handle) as stream:
            for batch in stream:
                yield batch[column].to_pylist()
    for path in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(columns=[column]):
                yield batch[column].to_pylist()
