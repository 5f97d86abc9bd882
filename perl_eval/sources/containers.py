"""Files and objects that people bring, as rows: what holds the rows is told by its content, not by its name.

Rows are read one after another, so that a file of any length takes the memory of a few of its rows. A JSON file that
is one object (a report of another tool) has that object as `Brought.document`.
"""

from __future__ import annotations

import csv
import gzip
import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, Literal, TextIO

from perl_eval.errors import DataError, UserError
from perl_eval.sources.json_files import DECODER, RepeatedKeyError, not_json
from perl_eval.sources.objects import mappings

__all__ = ["TURN_COLUMNS", "Brought", "Container", "is_saved_dataset", "opened", "turns_in"]

Container = Literal["json", "jsonl", "document", "csv", "parquet", "arrow", "zip", "objects"]
Cells = Mapping[str, Any]
_HEAD = 16
_CHUNK = 1 << 16
_LONGEST_CELL = 1 << 30
_MARKS: Sequence[tuple[bytes, Container]] = (
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"\xff\xff\xff\xff", "arrow"),
    (b"PK\x03\x04", "zip"),
)
_STATE, _SPLITS = "state.json", "dataset_dict.json"
_GZIP = b"\x1f\x8b"
TURN_COLUMNS = frozenset(
    {
        *("messages", "prompt", "completion", "chosen", "rejected"),
        *("conversations", "conversation", "conversation_a", "conversation_b"),
    }
)
"""The columns whose cells are turns; delimited text holds them as JSON."""


@dataclass(frozen=True)
class Brought:
    """Something with rows in it.

    Attributes:
        name: What to call it in an error: the file as typed.
        container: What holds the rows. A zip archive has none here; see `path`.
        rows: Yields the rows from the first on, each time that it is called.
        path: The file, if it is one.
        document: The object that a JSON file is, if it is one object; its only row.
        parts: The files, if they are several.
    """

    name: str
    container: Container
    rows: Callable[[], Iterator[Cells]]
    path: Path | None = None
    document: Cells | None = None
    parts: tuple[Brought, ...] = ()

    @cached_property
    def head(self) -> tuple[Cells, ...]:
        """The first rows, at most 16."""
        return tuple(islice(self.rows(), _HEAD))

    @property
    def stem(self) -> str:
        """The file's name without endings, empty for objects."""
        return self.path.name.split(".")[0] or self.path.name if self.path else ""

    def has(self, *columns: str) -> bool:
        """Return whether the first row has all of some columns."""
        return bool(self.head) and all(column in self.head[0] for column in columns)


def opened(source: Any) -> Brought:
    """Open what somebody brought.

    Args:
        source: A path, of a file or of a folder that `datasets` saved; or a list of dicts, a DataFrame, a
            `datasets.Dataset`, an Arrow table, or another iterable of mappings, which is then read into memory.

    Raises:
        UserError: There is no such file, or the object holds no rows.
        DataError: The file is empty, or of none of the kinds that are known.
    """
    if isinstance(source, str | Path):
        return _file(Path(source))
    name = f"the {type(source).__name__}"
    again = source if hasattr(source, "__len__") else list(mappings(source))
    return Brought(name, "objects", lambda: iter(mappings(again)))


def _file(path: Path) -> Brought:
    if path.is_dir():
        return _saved_dataset(path)
    if not path.is_file():
        raise UserError(f"no such file or folder: {path}", "check the path", page="")
    name = str(path)
    with path.open("rb") as handle:
        start = handle.read(8)
    if not start:
        raise DataError("is empty", file=path)
    container = next((container for mark, container in _MARKS if start.startswith(mark)), None)
    if container is None:
        return _text(path)
    read = {"parquet": _parquet, "arrow": _arrow}.get(container, _no_rows)
    return Brought(name, container, lambda: read(path), path)


def is_saved_dataset(path: Path) -> bool:
    """Return whether a path is a folder that `datasets.Dataset.save_to_disk` wrote, of one split or of several."""
    return path.is_dir() and any((path / name).is_file() for name in (_STATE, _SPLITS))


def _saved_dataset(path: Path) -> Brought:
    """Open a folder of `datasets.Dataset.save_to_disk`."""
    if (path / _SPLITS).is_file():
        splits = sorted(part.name for part in path.iterdir() if (part / _STATE).is_file())
        raise UserError(
            f"{path} has several splits", f"give one of them: {', '.join(str(path / one) for one in splits)}"
        )
    if not (path / _STATE).is_file():
        raise UserError(f"{path} is a folder", "give a file in it")
    try:
        parts = [path / part["filename"] for part in json.loads((path / _STATE).read_text("utf-8"))["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"names no data files ({error})", file=path / _STATE, fix="save it again") from None
    if missing := [part for part in parts if not part.is_file()]:
        raise DataError("is missing", file=missing[0], fix="save the data set again")
    return Brought(str(path), "arrow", lambda: (row for part in parts for row in _arrow(part)), path)


def _text(path: Path) -> Brought:
    """Tell JSON, JSON lines and delimited text apart by how they begin."""
    with _reading(path) as handle:
        first = next((line for line in handle if line.strip()), "")
        second = next((line for line in handle if line.strip()), "")
    name, begins = str(path), first.lstrip()[:1]
    if begins == "[":
        return Brought(name, "json", lambda: _array(path), path)
    if begins == "{":
        if _is_object(first) and (second or path.suffix in (".jsonl", ".ndjson")):
            return Brought(name, "jsonl", lambda: _lines(path), path)
        if not _is_object(first) and second.lstrip()[:1] == "{" and path.suffix in (".jsonl", ".ndjson"):
            return Brought(name, "jsonl", lambda: _lines(path), path)  # its reader names the broken line
        return _document(path)
    delimiter = _delimiter(first, path)
    if delimiter is None:
        raise DataError("is neither JSON, JSON lines, CSV, TSV, parquet nor Arrow", file=path, fix="give one of these")
    return Brought(name, "csv", lambda: _delimited(path, delimiter), path)


class _Reader:
    """A text file, packed or not, opened as UTF-8; another encoding is one line."""

    def __init__(self, path: Path, newline: str | None) -> None:
        self._path, self._newline = path, newline
        self._handle: TextIO

    def __enter__(self) -> TextIO:
        with self._path.open("rb") as handle:
            packed = handle.read(2) == _GZIP
        opener: Any = gzip.open if packed else open
        self._handle = opener(self._path, "rt", encoding="utf-8-sig", newline=self._newline)
        return self._handle

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._handle.close()
        if isinstance(error, UnicodeDecodeError):
            raise DataError("is not UTF-8", file=self._path, fix="save it as UTF-8") from None
        if isinstance(error, EOFError | gzip.BadGzipFile | zlib.error):
            raise DataError(f"is damaged ({error})", file=self._path, fix="pack it again") from None


def _reading(path: Path, newline: str | None = None) -> _Reader:
    return _Reader(path, newline)


def _is_object(line: str) -> bool:
    try:
        return isinstance(DECODER.decode(line), dict)
    except RepeatedKeyError:
        return True  # its reader says so
    except (ValueError, RecursionError):
        return False


def _delimiter(first: str, path: Path) -> str | None:
    """Return what separates the cells of a header line, or None where nothing does."""
    counts = {one: first.count(one) for one in ("\t", ",", ";")}
    found = max(counts, key=lambda one: counts[one])
    if counts[found]:
        return found
    return {".csv": ",", ".tsv": "\t"}.get(path.suffix.lower())


def _no_rows(path: Path) -> Iterator[Cells]:
    if not zipfile.is_zipfile(path):
        raise DataError("is a damaged zip archive", file=path, fix="make it again")
    return iter(())


def _document(path: Path) -> Brought:
    with _reading(path) as handle:
        text = handle.read()
    try:
        found = DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise not_json(error, path) from None
    return Brought(str(path), "document", lambda: iter((found,)), path, found)


def _lines(path: Path) -> Iterator[Cells]:
    with _reading(path) as handle:
        for row, line in enumerate(handle):
            if not line.strip():
                continue
            try:
                found = DECODER.decode(line)
            except (ValueError, RecursionError) as error:
                raise not_json(error, path, row) from None
            if not isinstance(found, dict):
                raise DataError("is not a JSON object", file=path, row=row)
            yield found


def _array(path: Path) -> Iterator[Cells]:
    """Yield the objects of a JSON array, read piece by piece."""
    with _reading(path) as handle:
        text = handle.read(_CHUNK).lstrip()[1:]
        for row in range(10**15):
            text = text.lstrip()
            while not text and (more := handle.read(_CHUNK)):
                text = more.lstrip()
            if text.startswith("]"):
                if (text[1:] + handle.read()).strip():
                    raise DataError("has more text after the end of its list", file=path)
                return
            found, text = _one(text, handle, path, row)
            yield found
            text, ended = _past_comma(text, handle)
            if not ended and text[:1] != "]":
                raise DataError("is not JSON (no comma after the object)", file=path, row=row)


def _one(text: str, handle: TextIO, path: Path, row: int) -> tuple[Cells, str]:
    """Return the object that a text begins with, read on as far as needed, and the text after it."""
    size = _CHUNK
    while True:
        try:
            found, end = DECODER.raw_decode(text)
        except (ValueError, RecursionError) as error:
            more = "" if isinstance(error, RepeatedKeyError) else handle.read(size)
            if not more:
                raise not_json(error, path, row) from None
            text, size = text + more, size * 2
            continue
        if not isinstance(found, dict):
            raise DataError("is not a JSON object", file=path, row=row)
        return found, text[end:]


def _past_comma(text: str, handle: TextIO) -> tuple[str, bool]:
    """Return the text after a comma, and whether there was one."""
    text = text.lstrip()
    while not text and (more := handle.read(_CHUNK)):
        text = more.lstrip()
    return (text[1:], True) if text.startswith(",") else (text, False)


def _delimited(path: Path, delimiter: str) -> Iterator[Cells]:
    csv.field_size_limit(max(_LONGEST_CELL, csv.field_size_limit()))  # its own is 131,072, less than a long answer
    with _reading(path, newline="") as handle:
        table, row = csv.reader(handle, delimiter=delimiter, strict=True), 0
        try:
            names = next(table, [])
            if len(set(names)) != len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise DataError("appears twice in the header", file=path, field=str(twice), fix="name each column once")
            turned = [name for name in names if name in TURN_COLUMNS]
            for cells in filter(None, table):
                if len(cells) > len(names):
                    raise DataError(f"has more cells than the {len(names)} of the header", file=path, row=row)
                found: dict[str, Any] = dict(zip_longest(names, cells))
                for name in turned:
                    found[name] = turns_in(found[name])
                yield found
                row += 1
        except csv.Error as error:
            why = f"is not CSV ({error}): a quote in it is not closed, or not doubled"
            raise DataError(why, file=path, row=row, fix="put cells with quotes into quotes, and double each") from None


def turns_in(cell: Any) -> Any:
    """Return a cell of text that holds a JSON list of turns, each with role and content, as that list."""
    if isinstance(cell, str) and cell.startswith("[{"):
        try:
            found = json.loads(cell)
        except (ValueError, RecursionError):
            return cell
        if all(isinstance(one, dict) and {"role", "content"} <= one.keys() for one in found):
            return found
    return cell


def _parquet(path: Path) -> Iterator[Cells]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as source:
            for batch in source.iter_batches(1024):
                yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"is not a parquet file ({error})", file=path, fix="make it again") from None


def _arrow(path: Path) -> Iterator[Cells]:
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            for batch in _batches(source):
                yield from mappings(pa.Table.from_batches([batch]))
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"is not an Arrow table ({error})", file=path, fix="make it again") from None


def _batches(source: Any) -> Iterable[Any]:
    import pyarrow as pa

    try:
        yield from pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        source.seek(0)
        with pa.ipc.open_file(source) as table:
            yield from (table.get_batch(place) for place in range(table.num_record_batches))
