"""The pictures of data set rows: where each lies, so that a data set of many gigabytes need not lie in memory.

Builders write pictures into the column ``images`` of a parquet file, as lists of ``{bytes, path}``; completions keep
theirs as files (see ``perl_eval.images``). Either is a `Picture`: the sha256 of its bytes, and where to read them.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from perl_eval import images
from perl_eval.errors import DataError

__all__ = ["COLUMN", "Picture", "in_files", "in_table"]

COLUMN = "images"
_GROUPS = 4
"""Row groups kept in memory; the builders write 64 to 256 rows a group."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture; two with the same bytes are equal, wherever they lie.

    Attributes:
        sha256: Of the file's bytes, as they were encoded.
        file: The picture's own file, or the parquet file that holds it.
        row: Its row in the parquet file; None if the file is its own.
        place: Its place among the row's pictures.
    """

    sha256: str
    file: Path = field(compare=False)
    row: int | None = field(default=None, compare=False)
    place: int = field(default=0, compare=False)

    def read(self) -> bytes:
        """Return the encoded bytes.

        Raises:
            DataError: They are gone, or others than before.
        """
        if self.row is None:
            return images.read(self.file)
        content = _cell(self.file, self.row)[self.place]["bytes"].as_buffer()
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise DataError("holds other pictures than before", file=self.file, row=self.row, fix="start the run again")
        return bytes(content)


def in_table(path: Path) -> list[tuple[Picture, ...]]:
    """Return the pictures of every row of a parquet file; only their sums and places are kept.

    Raises:
        DataError: A picture's bytes are not in the file.
    """
    file = pq.ParquetFile(path)
    if COLUMN not in file.schema_arrow.names:
        return [()] * file.metadata.num_rows
    found: list[tuple[Picture, ...]] = []
    for group in range(file.num_row_groups):
        for cell in file.read_row_group(group, columns=[COLUMN]).column(COLUMN):
            cells = list(cell) if cell.is_valid else []
            found.append(tuple(_picture(one, path, len(found), place) for place, one in enumerate(cells)))
    return found


def in_files(paths: Sequence[Path | str]) -> tuple[Picture, ...]:
    """Return pictures that lie in files called by their sha256, as completions keep them."""
    return tuple(Picture(Path(path).stem, Path(path)) for path in paths)


def _picture(cell: Any, path: Path, row: int, place: int) -> Picture:
    try:
        held = cell["bytes"] if cell.is_valid else cell
        content = held.as_buffer() if held.is_valid else None
    except (KeyError, TypeError, AttributeError):
        content = None
    if content is None:
        raise DataError("has no bytes of a picture", file=path, row=row, field=COLUMN, fix="build with pictures inside")
    return Picture(hashlib.sha256(content).hexdigest(), path, row, place)


def _cell(path: Path, row: int) -> Any:
    try:
        starts = _starts(path, path.stat().st_mtime_ns)
        group = bisect_right(starts, row) - 1
        return _group(path, path.stat().st_mtime_ns, group)[row - starts[group]]
    except (OSError, IndexError) as error:
        raise DataError(f"can no longer be read ({error})", file=path, row=row, fix="put it back") from None


@lru_cache(maxsize=256)
def _starts(path: Path, changed_ns: int) -> list[int]:  # noqa: ARG001
    """Return the number of the first row of each row group."""
    metadata = pq.ParquetFile(path).metadata
    return list(accumulate((metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)), initial=0))


@lru_cache(maxsize=_GROUPS)
def _group(path: Path, changed_ns: int, group: int) -> Any:  # noqa: ARG001
    return pq.ParquetFile(path).read_row_group(group, columns=[COLUMN]).column(COLUMN)
