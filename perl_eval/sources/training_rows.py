"""Rows that people bring for training and sampling, in any of TRL's shapes, as the folder of splits that verbs read.

Shapes (TRL, "Dataset formats and types"), standard (texts) or conversational (turns): language modelling (``text`` or
``messages``), prompt-only, prompt-completion, preference with explicit or implicit prompt, unpaired preference. What
is not there is derived: the id from all that the row says, the group from how the dialogue opens, the prompt of a
preference from what both sides begin with, and splits that are missing by group.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from perl_eval.errors import DataError, OptionError, UserError
from perl_eval.records import Message, digest
from perl_eval.sources.containers import Brought
from perl_eval.sources.reading import Import
from perl_eval.storage import images

__all__ = ["COLUMNS", "NAMES", "cells_of", "repeats_prompts", "split_of", "write_splits"]

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


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a row stands, for what is said of it."""

    file: str
    row: int

    def wrong(self, what: str, field: str, fix: str = "") -> DataError:
        return DataError(what, file=self.file, row=self.row, field=field, fix=fix)


class _NoPromptError(Exception):
    """The sides of a preference share no beginning that could be its prompt."""


def cells_of(found: Brought, state: Import) -> Iterator[dict[str, Any]]:
    """Yield rows in the columns of a built data set, turns as lists of role and content.

    Raises:
        OptionError: No row has a column of that name.
        DataError: A row has none of TRL's shapes, or not the one that the first has.
    """
    for name in state.columns:
        if name not in COLUMNS:
            raise OptionError("column", f"{name!r}, which no row has", f"choose from {', '.join(COLUMNS)}")
    doubled = repeats_prompts([_named(cells, state) for cells in found.head])
    for row, cells in enumerate(found.rows()):
        try:
            yield _completed(_named(cells, state), _Place(found.name, row), state, doubled=doubled)
        except _NoPromptError:
            state.left_out["whose sides part before their last answer, so there is no prompt"] += 1


def _named(cells: Mapping[str, Any], state: Import) -> dict[str, Any]:
    """Return a row's cells that are not empty, under the names used here."""
    renamed = {column: name for name, column in state.columns.items()}
    return {renamed.get(name, name): value for name, value in cells.items() if value is not None}


def _completed(cells: dict[str, Any], place: _Place, state: Import, *, doubled: bool) -> dict[str, Any]:
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


def _shaped(cells: Mapping[str, Any], place: _Place, state: Import) -> dict[str, Any]:
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


def _turns(value: Any, place: _Place, name: str) -> list[dict[str, str]]:
    try:
        turns = Message.sequence(value, role="user" if name == "prompt" else "assistant")
    except (KeyError, TypeError, AttributeError):
        raise place.wrong("is neither text nor a list of turns with role and content", name) from None
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _label(value: Any, place: _Place) -> bool:
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


def repeats_prompts(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the answers of all of some rows begin with the prompt that stands in its own column."""
    asked = [cells for cells in rows if cells.get("prompt")]
    return bool(asked) and all(_repeats(cells) for cells in asked)


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
    for split, found in parts.items():
        wanted = tuple(make) if split == "train" else ()
        writers = {name: _Writer(folder / f"{name}.parquet", found.name) for name in (split, *wanted)}
        for cells in cells_of(found, state):
            writers[split_of(cells["group"], wanted, seed) if wanted else split].add(cells)
        for name, writer in writers.items():
            if rows := writer.close():
                counts[name] = rows
    if not counts:
        why = "; ".join(f"left out are {count:,} {reason}" for reason, count in state.left_out.items())
        raise UserError(f"there are no rows{f' ({why})' if why else ''}", "give at least one")
    return counts


class _Writer:
    """Writes rows to a parquet file, the schema drawn from the first few thousand."""

    def __init__(self, path: Path, file: str) -> None:
        self._path, self._file, self._rows = path, file, 0
        self._waiting: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None

    def add(self, cells: dict[str, Any]) -> None:
        self._waiting.append(cells)
        if len(self._waiting) >= _BATCH:
            self._flush()

    def close(self) -> int:
        """Finish the file and return its rows; without any there is no file."""
        if self._waiting:
            self._flush()
        if self._writer is not None:
            self._writer.close()
        return self._rows

    def _flush(self) -> None:
        try:
            table = pa.Table.from_pylist(self._waiting, schema=None if self._writer is None else self._writer.schema)
            if self._writer is None:
                table = table.cast(_settled(table.schema))
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd")
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            what = f"near row {self._rows + len(self._waiting)}: cells of several types in one column ({error})"
            raise DataError(what, file=self._file) from None
        self._writer.write_table(table, row_group_size=256 if images.COLUMN in table.column_names else None)
        self._rows += len(self._waiting)
        self._waiting = []


def _settled(schema: pa.Schema) -> pa.Schema:
    """Return a schema whose turns are turns, even where the first rows have none, and no column of which is empty."""
    kinds = dict.fromkeys(("prompt", *_SIDES), _TURNS)
    return pa.schema(
        [
            pa.field(one.name, kinds.get(one.name, pa.string() if pa.types.is_null(one.type) else one.type))
            for one in schema
        ]
    )
