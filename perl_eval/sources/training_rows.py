"""Rows that people bring for training and sampling, in any of TRL's shapes, as the folder of splits that verbs read.

Shapes (TRL, "Dataset formats and types"), standard (texts) or conversational (turns): language modelling (``text`` or
``messages``), prompt-only, prompt-completion, preference with explicit or implicit prompt, unpaired preference. What
is not there is derived: the id from all that the row says, the group from how the dialogue opens, the prompt of a
preference from what both sides begin with, and splits that are missing by group.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import takewhile
from os import SEEK_END
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from perl_eval.errors import DataError, OptionError, UserError
from perl_eval.records import Message, digest
from perl_eval.sources.containers import TURN_COLUMNS, Brought, turns_in
from perl_eval.sources.reading import Import
from perl_eval.storage import images

__all__ = ["COLUMNS", "NAMES", "Place", "Survey", "cells_of", "repeats_prompts", "split_of", "surveyed", "write_splits"]

COLUMNS = ("prompt", "completion", "chosen", "rejected", "label", "messages", "text", "id", "group", "dataset")
"""The names of columns, as ``--column NAME=COLUMN`` may say where they are."""
NAMES: Mapping[str, str] = {
    "train": "train",
    "validation": "validation",
    **{"valid": "validation", "val": "validation", "dev": "validation", "eval": "validation"},
    "test": "test",
}
"""Splits, by the names that files have."""
_HELD_OUT = ("validation", "test")
_SHARE = 0.1
_TURN = pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())])
_TURNS = pa.list_(_TURN)
_SIDES = ("completion", "chosen", "rejected")
_BATCH = 4096
_MOST = 10
"""Answers repeat their prompts if at most one row in so many does not."""
_KINDS: Mapping[str, pa.DataType] = {
    **dict.fromkeys(("prompt", *_SIDES), _TURNS),
    "label": pa.bool_(),
    **dict.fromkeys(("id", "group", "dataset"), pa.string()),
}
"""The types of the columns that all rows have in common, in the order in which they are written."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands, for what is said of it: the file as typed, and the row in it, from 0."""

    file: str
    row: int

    def wrong(self, what: str, field: str | None, fix: str = "") -> DataError:
        """Return the error that a row is wrong."""
        return DataError(what, file=self.file, row=self.row, field=field, fix=fix)


_NO_ARRAY = (
    pa.ArrowInvalid,
    pa.ArrowTypeError,
    pa.ArrowNotImplementedError,
    OverflowError,
    UnicodeEncodeError,
)


class _NoPromptError(Exception):
    """The sides of a preference share no beginning that could be its prompt."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What holds of all rows together, so that it does not depend on their order.

    Attributes:
        doubled: Whether answers that are texts repeat the texts that ask for them.
    """

    doubled: bool


def surveyed(parts: Iterable[Brought], columns: Mapping[str, str]) -> Survey:
    """Read rows once, to find out what cannot be told from one.

    Args:
        parts: What was brought.
        columns: The names that the rows use, by those of `COLUMNS`.

    Raises:
        OptionError: There is no such name, no row has such a column, or one column is named twice.
    """
    for name, column in columns.items():
        if name not in COLUMNS:
            raise OptionError("column", f"{name!r}, which no row has", f"choose from {', '.join(COLUMNS)}")
        if twice := [other for other, one in columns.items() if one == column and other != name]:
            raise OptionError("column", f"{column!r} for both {name} and {twice[0]}", "give each its own column")
    present: dict[str, None] = {}
    asked = repeated = 0
    for part in parts:
        for found in part.rows():
            present.update(dict.fromkeys(map(str, found)))
            cells = _named(found, columns)
            if isinstance(cells.get("prompt"), str) and cells["prompt"]:
                asked, repeated = asked + 1, repeated + _repeats(cells)
    for name, column in columns.items():
        if present and column not in present:
            have = ", ".join(present)
            raise OptionError("column", f"'{name}={column}': no such column", f"present are {have}")
    return Survey(_are_most(repeated, asked))


def _are_most(repeated: int, asked: int) -> bool:
    return asked > 0 and _MOST * (asked - repeated) <= asked


def cells_of(found: Brought, state: Import, survey: Survey) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield rows in the columns of a built data set, turns as lists of role and content, with where they stand.

    Args:
        found: What was brought.
        state: How it is read, and what is found out.
        survey: See `surveyed`.

    Raises:
        DataError: A row has none of TRL's shapes, or not the one that those before it have.
    """
    sides: frozenset[str] = frozenset()
    for part in found.parts or (found,):
        for row, cells in enumerate(part.rows()):
            place = Place(part.name, row)
            try:
                made = _completed(_named(cells, state.columns), place, state, doubled=survey.doubled)
            except _NoPromptError:
                state.left_out["whose sides part before their last answer, so there is no prompt"] += 1
                continue
            except UnicodeEncodeError:
                raise place.wrong("holds half a character (a lone surrogate)", None, "write it as UTF-8") from None
            sides = _one_shape(sides, made, place)
            yield place, made


def _one_shape(before: frozenset[str], made: Mapping[str, Any], place: Place) -> frozenset[str]:
    """Return the sides that the rows of a file have; a row without any, a prompt alone, goes with all."""
    have = frozenset(name for name in _SIDES if name in made)
    if len(have & {"chosen", "rejected"}) == 1:
        (there,) = have & {"chosen", "rejected"}
        raise place.wrong(
            f"is missing, and {there} is there", "rejected" if there == "chosen" else "chosen", "give both or neither"
        )
    if before and have and have != before:
        names, other = (" and ".join(sorted(one)) for one in (have, before))
        raise place.wrong(f"has {names}, and rows before it have {other}", None, "give each shape its own file")
    return before or have


def _named(cells: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Return a row's cells that are not empty, under the names used here: a column that was named goes first."""
    taken = {*columns, *columns.values()}
    named = {name: value for name, value in cells.items() if name not in taken}
    named |= {name: _turns_of(name, cells.get(column)) for name, column in columns.items()}
    return {name: value for name, value in named.items() if value is not None}


def _turns_of(name: str, cell: Any) -> Any:
    return turns_in(cell) if name in TURN_COLUMNS else cell


def _completed(cells: dict[str, Any], place: Place, state: Import, *, doubled: bool) -> dict[str, Any]:
    made = _shaped(cells, place, state)
    if doubled or not isinstance(cells.get("prompt"), str):
        _take_off_prompt(made, state)
    if "label" in cells:
        made["label"] = _label(cells["label"], place)
    opening = [f"{turn['role']}:{turn['content']}" for turn in made["prompt"] if turn["role"] != "system"][:1]
    said = json.dumps([made.get(name) for name in ("prompt", *_SIDES, "label")], ensure_ascii=False)
    for name, derived in (("id", digest("row", said)), ("group", digest("group", *opening))):
        if cells.get(name) in (None, ""):
            state.derived[name] += 1
        made[name] = derived if cells.get(name) in (None, "") else str(cells[name])
    made["dataset"] = str(cells.get("dataset", Path(place.file).stem))
    rest = {name: value for name, value in cells.items() if name not in made and name not in ("messages", "text")}
    return {**made, **rest}


def _shaped(cells: Mapping[str, Any], place: Place, state: Import) -> dict[str, Any]:
    """Return the turns of a row by column, whatever its shape."""
    if "completions" in cells and "labels" in cells:
        raise place.wrong("is of stepwise supervision, which no verb trains on", "completions")
    sides = {name: _turns(cells[name], place, name) for name in _SIDES if name in cells}
    if "prompt" in cells:
        return {"prompt": _turns(cells["prompt"], place, "prompt"), **sides}
    if "chosen" in sides and "rejected" in sides:
        state.derived["prompt"] += 1
        return _implicit(cells, sides)
    if "messages" in cells:
        turns = [] if isinstance(cells["messages"], str) else _turns(cells["messages"], place, "messages")
        asked = list(takewhile(lambda turn: turn["role"] != "assistant", turns))
        if len(asked) == len(turns):
            raise place.wrong("has no assistant's turn", "messages")
        state.derived["prompt"] += 1
        return {"prompt": asked, "completion": turns[len(asked) :]}
    if isinstance(cells.get("text"), str):
        state.derived["prompt"] += 1
        return {"prompt": [], "completion": _turns(cells["text"], place, "text")}
    present = ", ".join(map(str, cells))
    raise place.wrong(f"has neither prompt, messages, text, nor chosen and rejected; present are {present}", "prompt")


def _turns(value: Any, place: Place, name: str) -> list[dict[str, str]]:
    try:
        turns = Message.sequence(value, role="user" if name == "prompt" else "assistant")
    except (KeyError, TypeError, AttributeError):
        raise place.wrong("is neither text nor a list of turns with role and content", name) from None
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _label(value: Any, place: Place) -> bool:
    said = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}.get(str(value).lower())
    if said is None:
        raise place.wrong(f"{value!r} is no label", "label", "give true or false")
    return said


def _implicit(cells: Mapping[str, Any], sides: Mapping[str, list[dict[str, str]]]) -> dict[str, Any]:
    """Part two dialogues, or two texts, into what both begin with and how each goes on."""
    if isinstance(cells["chosen"], str) and isinstance(cells["rejected"], str):
        return _implicit_texts(cells["chosen"], cells["rejected"])
    chosen, rejected = sides["chosen"], sides["rejected"]
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False)))
    # The answers begin with an assistant's turn: a shared beginning of one is no part of the prompt.
    shared = min(shared, len(chosen) - 1, len(rejected) - 1)
    while shared and chosen[shared]["role"] != "assistant":
        shared -= 1
    if shared <= 0:
        raise _NoPromptError
    return {"prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}


def _implicit_texts(chosen: str, rejected: str) -> dict[str, Any]:
    """Part transcripts after the last turn mark that both have, other texts after the last line that both have."""
    mark = "\n\nAssistant:"
    if chosen.startswith("\n\nHuman:") and rejected.startswith("\n\nHuman:"):
        end, other = chosen.rfind(mark), rejected.rfind(mark)
        if end == other > 0 and chosen[:end] == rejected[:end]:
            return {
                "prompt": _transcript(chosen[:end]),
                "chosen": [{"role": "assistant", "content": chosen[end + len(mark) :].strip()}],
                "rejected": [{"role": "assistant", "content": rejected[end + len(mark) :].strip()}],
            }
        raise _NoPromptError
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False)))
    end = max(chosen.rfind(" ", 0, shared), chosen.rfind("\n", 0, shared)) + 1
    if end <= 0:
        raise _NoPromptError
    return {
        "prompt": [{"role": "user", "content": chosen[:end].rstrip()}],
        "chosen": [{"role": "assistant", "content": chosen[end:]}],
        "rejected": [{"role": "assistant", "content": rejected[end:]}],
    }


def _transcript(text: str) -> list[dict[str, str]]:
    """Return the turns of a transcript in the form of Anthropic's HH-RLHF."""
    turns = []
    for part in text.replace("\n\nHuman:", "\0user:").replace("\n\nAssistant:", "\0assistant:").split("\0")[1:]:
        role, _, content = part.partition(":")
        turns.append({"role": role, "content": content.strip()})
    return turns


def repeats_prompts(rows: Iterable[Mapping[str, Any]], whole: int) -> bool:
    """Return whether the answers of nearly all rows begin with the prompt that stands in its own column.

    Args:
        rows: The rows, read no further than needed.
        whole: How many there are.
    """
    asked = repeated = 0
    for cells in rows:
        if cells.get("prompt"):
            asked, repeated = asked + 1, repeated + _repeats(cells)
            if _MOST * (asked - repeated) > whole:
                return False
    return _are_most(repeated, asked)


def _repeats(cells: Mapping[str, Any]) -> bool:
    sides = [cells[name] for name in _SIDES if cells.get(name) is not None]
    if isinstance(cells["prompt"], str):
        return bool(sides) and all(isinstance(one, str) and one.startswith(cells["prompt"]) for one in sides)
    return bool(sides) and all(
        isinstance(one, list) and one[: len(cells["prompt"])] == cells["prompt"] for one in sides
    )


def _take_off_prompt(made: dict[str, Any], state: Import) -> None:
    """Take a prompt that stands in its column and again at the start of the answers off them."""
    asked, taken = made["prompt"], False
    for name in _SIDES:
        turns = made.get(name)
        if not turns or not asked:
            continue
        if len(turns) > len(asked) and turns[: len(asked)] == asked:
            made[name], taken = turns[len(asked) :], True
        elif len(asked) == len(turns) == 1 and turns[0]["role"] == "assistant" and _begins(turns, asked):
            rest = turns[0]["content"][len(asked[0]["content"]) :].lstrip()
            made[name], taken = [{"role": "assistant", "content": rest}], True
    if taken:
        state.derived["answers without the prompt that they repeated"] += 1


def _begins(turns: Sequence[Mapping[str, str]], asked: Sequence[Mapping[str, str]]) -> bool:
    return turns[0]["content"].startswith(asked[0]["content"])


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
        make: Held-out splits to make of ``train`` by group.
        seed: Of the splits that are made.

    Returns:
        Rows by split.

    Raises:
        UserError: There are no rows.
        DataError: A row lacks what is needed, or a column mixes types.
    """
    counts: dict[str, int] = {}
    survey = surveyed(parts.values(), state.columns)
    folder.mkdir(parents=True, exist_ok=True)
    for split, found in parts.items():
        wanted = tuple(make) if split == "train" else ()
        with ExitStack() as stack:
            held = {name: stack.enter_context(_Held(folder)) for name in (split, *wanted)}
            for place, cells in cells_of(found, state, survey):
                held[split_of(cells["group"], wanted, seed) if wanted else split].add(place, cells)
            schema = _in_common([batch for one in held.values() for batch in one.finished()])
            for name, one in held.items():
                if rows := one.write(folder / f"{name}.parquet", schema):
                    counts[name] = counts.get(name, 0) + rows
    if not counts:
        why = "; ".join(f"left out are {count:,} {reason}" for reason, count in state.left_out.items())
        raise UserError(f"there are no rows{f' ({why})' if why else ''}", "give at least one")
    return counts


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
        raise rows[place][0].wrong(why, name, "mend the cell, or leave the column out") from None


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
