"""Rows as the folder of splits that verbs read: missing splits are made by group, columns are those of all rows."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from os import SEEK_END
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from perl_eval.errors import DataError, UserError
from perl_eval.sources.containers import Brought
from perl_eval.sources.counting import counted
from perl_eval.sources.reading import Import
from perl_eval.sources.training_rows import SIDES, Place, Survey, cells_of, surveyed
from perl_eval.storage import images

__all__ = ["split_of", "write_splits"]

_IF_JUDGED = " if judged"
"""After the name of a split to make: only where rows say what people thought of answers."""

_SHARE = 0.1
_TURN = pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())])
_TURNS = pa.list_(_TURN)
_BATCH = 4096
_NO_ARRAY = (
    pa.ArrowInvalid,
    pa.ArrowTypeError,
    pa.ArrowNotImplementedError,
    OverflowError,
    UnicodeEncodeError,
)
_KINDS: Mapping[str, pa.DataType] = {
    **dict.fromkeys(("prompt", *SIDES), _TURNS),
    "label": pa.bool_(),
    **dict.fromkeys(("id", "group", "dataset"), pa.string()),
}
"""The types of the columns that all rows have in common, in the order in which they are written."""


def split_of(group: str, wanted: Sequence[str], seed: int) -> str:
    """Return the split that a group belongs to: a tenth each for the held-out ones wanted, the rest for training.

    Args:
        group: The group; its rows stay together.
        wanted: Held-out splits to make.
        seed: Of the hash.
    """
    point = int(hashlib.sha256(f"{seed}:{group}".encode()).hexdigest()[:12], 16) / 16**12
    place = int(point / _SHARE)
    return wanted[place] if place < len(wanted) else "train"


def write_splits(
    parts: Mapping[str, Brought], folder: Path, state: Import, *, make: Sequence[str] = (), seed: int = 0
) -> dict[str, int]:
    """Write what was brought as a folder of splits.

    Args:
        parts: What was brought, by split.
        folder: Where to write ``SPLIT.parquet``.
        state: How it is read, and what is found out.
        make: Held-out splits to make of ``train`` by group, where they are missing; ``test if judged`` is made of
            preferences and ratings only, so that a model which imitates their answers has seen none of those that
            reward models on it are tested on.
        seed: Of the splits that are made.

    Returns:
        Rows by split; ``state.shared`` counts those whose prompt the split for training has too.

    Raises:
        UserError: There are no rows.
        DataError: A row lacks what is needed, or a column mixes types.
    """
    counts: dict[str, int] = {}
    prompts: dict[str, Counter[int]] = {}
    survey = surveyed(parts.values(), state.columns)
    folder.mkdir(parents=True, exist_ok=True)
    for split, found in parts.items():
        wanted = _wanted(make, parts, survey) if split == "train" else ()
        with ExitStack() as stack:
            held = {name: stack.enter_context(_Held(folder)) for name in (split, *wanted)}
            for place, cells in cells_of(found, state, survey):
                if len(parts) > 1 and cells["prompt"]:
                    prompts.setdefault(split, Counter())[_digest(cells["prompt"])] += 1
                held[split_of(cells["group"], wanted, seed) if wanted else split].add(place, cells)
            schema = _in_common([batch for one in held.values() for batch in one.finished()])
            for name, one in held.items():
                if rows := one.write(folder / f"{name}.parquet", schema):
                    counts[name] = counts.get(name, 0) + rows
    if not counts:
        why = "; ".join(f"left out: {counted(count, reason)}" for reason, count in state.left_out.items())
        raise UserError(f"there are no rows{f' ({why})' if why else ''}", "give at least one")
    trained = prompts.pop("train", Counter())
    for split, held_out in prompts.items():
        state.shared[split] += sum(rows for prompt, rows in held_out.items() if prompt in trained)
    return counts


def _wanted(make: Sequence[str], parts: Mapping[str, Brought], survey: Survey) -> tuple[str, ...]:
    """Return the splits to make of the rows for training."""
    names = (name.removesuffix(_IF_JUDGED) for name in make if survey.judged or not name.endswith(_IF_JUDGED))
    return tuple(name for name in names if name not in parts)


def _digest(prompt: Any) -> int:
    return int.from_bytes(hashlib.blake2b(json.dumps(prompt).encode(), digest_size=7).digest(), "big")


@dataclass(frozen=True, slots=True)
class _Batch:
    """Some rows on disk: their columns, where the first row with each of them stands, and the bytes."""

    schema: pa.Schema
    first: Mapping[str, Place]
    start: int
    size: int


class _Held:
    """Rows on the way to a file of parquet, kept beside it until the columns of all of them are known."""

    def __init__(self, folder: Path) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed in __exit__)
        self._waiting: list[tuple[Place, dict[str, Any]]] = []
        self._batches: list[_Batch] = []
        self._rows = 0

    def __enter__(self) -> _Held:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, place: Place, cells: dict[str, Any]) -> None:
        self._waiting.append((place, cells))
        if len(self._waiting) >= _BATCH:
            self._flush()

    def finished(self) -> list[_Batch]:
        """Return all batches, the last rows among them."""
        if self._waiting:
            self._flush()
        return self._batches

    def write(self, path: Path, schema: pa.Schema) -> int:
        """Write all rows with the columns given and return how many there are; without any there is no file."""
        if not self._batches:
            return 0
        size = 256 if images.COLUMN in schema.names else None
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for batch in self._batches:
                self._file.seek(batch.start)
                table = pa.ipc.open_stream(pa.py_buffer(self._file.read(batch.size))).read_all()
                writer.write_table(_widened(table, schema, batch), row_group_size=size)
        return self._rows

    def _flush(self) -> None:
        first: dict[str, Place] = {}
        for place, cells in self._waiting:
            for name, value in cells.items():
                if value is not None and name not in first:
                    first[name] = place
                    if _is_half(name):
                        what = f"a column is called {name!a}, with half a character (a lone surrogate)"
                        raise place.wrong(what, None, "call it otherwise")
        table = pa.table({name: _column(name, self._waiting) for name in first})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        content = sink.getvalue()
        self._batches.append(_Batch(table.schema, first, self._file.seek(0, SEEK_END), content.size))
        self._file.write(content)
        self._rows += len(self._waiting)
        self._waiting = []


def _is_half(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def _column(name: str, rows: Sequence[tuple[Place, Mapping[str, Any]]]) -> pa.Array:
    """Return the cells of a column; one that does not go with those before it is told."""
    cells = [row.get(name) for _, row in rows]
    try:
        return _array(cells, _KINDS.get(name))
    except _NO_ARRAY as error:
        place, why = _to_blame(cells, _KINDS.get(name), error)
        raise rows[place][0].wrong(why, name, "correct the cell, or leave the column out") from None


def _array(cells: Sequence[Any], kind: pa.DataType | None) -> pa.Array:
    made = pa.array(cells, type=kind)
    # Parquet cannot hold objects without keys: what has none is empty.
    return pa.array([_without_hollow(one) for one in cells]) if "struct<>" in str(made.type) else made


def _without_hollow(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_hollow(one) for name, one in value.items()} or None
    return [_without_hollow(one) for one in value] if isinstance(value, list) else value


def _to_blame(cells: Sequence[Any], kind: pa.DataType | None, error: Exception) -> tuple[int, str]:
    """Return the first place up to which cells are no column, and why."""
    low, high = 0, len(cells)  # the first `low` cells are one, the first `high` are not
    while high - low > 1:
        middle = (low + high) // 2
        try:
            _array(cells[:middle], kind)
            low = middle
        except _NO_ARRAY as found:
            high, error = middle, found
    if isinstance(error, UnicodeEncodeError):
        return low, "holds half a character (a lone surrogate)"
    if isinstance(error, OverflowError):
        return low, "holds a whole number of more than 64 bits"
    return low, f"differs in type from cells before it ({error})"


def _in_common(batches: Sequence[_Batch]) -> pa.Schema:
    """Return the columns of all batches, each wide enough for all cells, in an order of their own."""
    found = pa.schema([])
    for batch in batches:
        for one in batch.schema:
            try:
                both = pa.unify_schemas([found, pa.schema([one])], promote_options="permissive")
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise _mixed(batch, one.name, error) from None
            found = both
    names = [name for name in _KINDS if name in found.names]
    names += sorted(set(found.names) - set(names))
    settled = [found.field(name) for name in names]
    return pa.schema([one.with_type(pa.string()) if pa.types.is_null(one.type) else one for one in settled])


def _mixed(batch: _Batch, name: str, error: Exception) -> DataError:
    what = f"differs in type from cells of other rows ({error})"
    return batch.first[name].wrong(what, name, "give the column one type, or leave it out")


def _widened(table: pa.Table, schema: pa.Schema, batch: _Batch) -> pa.Table:
    columns = []
    for one in schema:
        if one.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, one.type))
            continue
        try:
            columns.append(table[one.name].cast(one.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise _mixed(batch, one.name, error) from None
    return pa.table(columns, schema=schema)
