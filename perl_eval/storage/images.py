"""Pictures beside a table of completions: one file each, called by its sha256, so that many rows can share one.

A row names its pictures (``Completion.images``); the files lie in the folder ``images`` beside the parquet file, and a
run card covers them like every other output.
"""

from __future__ import annotations

import base64
import hashlib
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from perl_eval.errors import DataError
from perl_eval.storage.parquet import replace_file

__all__ = [
    "COLUMN",
    "FOLDER",
    "Picture",
    "data_url",
    "in_files",
    "in_table",
    "keep",
    "kind_and_base64",
    "locate",
    "read",
]

FOLDER = "images"
# How files of each kind begin; between the two words of WebP stands its length.
_KINDS = {
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "jpeg": re.compile(rb"\xff\xd8\xff"),
    "gif": re.compile(rb"GIF8[79]a"),
    "webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}


def _kind(content: bytes, source: Path | str) -> str:
    for kind, beginning in _KINDS.items():
        if beginning.match(content):
            return kind
    raise DataError("is not a picture", file=source, fix=f"give one of {', '.join(_KINDS)}")


def keep(folder: Path, content: bytes) -> str:
    """Write a picture into a run folder, unless it is there, and return the name that rows give it.

    Args:
        folder: The run folder.
        content: The file's bytes.

    Raises:
        DataError: The bytes are no picture of a known kind.
    """
    name = f"{hashlib.sha256(content).hexdigest()}.{_kind(content, 'a picture')}"
    path = folder / FOLDER / name
    if not path.is_file():
        replace_file(path, lambda partial: partial.write_bytes(content))
    return name


def locate(table: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Return the paths of pictures, from the table whose rows name them.

    Args:
        table: The run folder, or the parquet file in it.
        names: The names, as rows give them.

    Raises:
        DataError: A picture is missing, or its name leads elsewhere.
    """
    folder = (table if table.is_dir() else table.parent) / FOLDER
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise DataError("is named by a completion and missing", file=folder / name, fix="put it there")
    return tuple(str(folder / name) for name in names)


def read(path: Path | str) -> bytes:
    """Return the bytes of a picture.

    Raises:
        DataError: They are gone, or others than when they were named.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", file=path, fix="put it there") from None
    if hashlib.sha256(content).hexdigest() != Path(path).stem:
        raise DataError("does not match the sha256 that it is called by", file=path, fix="put the picture back")
    return content


def data_url(path: Path | str) -> str:
    """Return a picture as a data URL, the form in which servers take it.

    Raises:
        DataError: It cannot be read, was changed, or is not a picture.
    """
    kind, content = kind_and_base64(path)
    return f"data:image/{kind};base64,{content}"


def kind_and_base64(path: Path | str) -> tuple[str, str]:
    """Return what kind of picture a file is, and its bytes in base64.

    Raises:
        DataError: It cannot be read, was changed, or is not a picture.
    """
    content = read(path)
    return _kind(content, path), base64.b64encode(content).decode("ascii")


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
            return read(self.file)
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
