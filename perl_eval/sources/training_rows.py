"""Rows that people bring for training and sampling, in any of TRL's shapes.

Shapes (TRL, "Dataset formats and types"), standard (texts) or conversational (turns): language modelling (``text`` or
``messages``), prompt-only, prompt-completion, preference with explicit or implicit prompt, unpaired preference; and
what OpenAI's preference fine-tuning takes. What is not there is derived: the id from all that the row says, the group
from how the dialogue opens, the prompt of a preference from what both sides begin with.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from perl_eval.errors import DataError, OptionError
from perl_eval.records import Message, digest
from perl_eval.sources.containers import TURN_COLUMNS, Brought, turns_in
from perl_eval.sources.reading import Import

__all__ = ["COLUMNS", "NAMES", "SIDES", "Place", "Survey", "cells_of", "repeats_prompts", "surveyed"]

COLUMNS = ("prompt", "completion", "chosen", "rejected", "label", "messages", "text", "id", "group", "dataset")
"""The names of columns, as ``--column NAME=COLUMN`` may say where they are."""
NAMES: Mapping[str, str] = {
    "train": "train",
    "validation": "validation",
    **{"valid": "validation", "val": "validation", "dev": "validation", "eval": "validation"},
    "test": "test",
}
"""Splits, by the names that files have."""
SIDES = ("completion", "chosen", "rejected")
"""The columns of answers."""
_FINE_TUNING = ("input", "preferred_output", "non_preferred_output")
"""The columns of OpenAI's preference fine-tuning."""
_MOST = 10
"""Answers repeat their prompts if at most one row in so many does not."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands, for what is said of it: the file as typed, and the row in it, from 0."""

    file: str
    row: int

    def wrong(self, what: str, field: str | None, fix: str = "") -> DataError:
        """Return the error that a row is wrong."""
        return DataError(what, file=self.file, row=self.row, field=field, fix=fix)


class _NoPromptError(Exception):
    """The sides of a preference share no beginning that could be its prompt."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What holds of all rows together, so that it does not depend on their order.

    Attributes:
        doubled: Whether the texts of answers begin with the texts that ask for them.
        judged: Whether rows say what people thought of answers: preferences or ratings.
    """

    doubled: bool
    judged: bool = False


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
    judged = False
    for part in parts:
        for found in part.rows():
            present.update(dict.fromkeys(map(str, found)))
            cells = _named(found, columns)
            judged = judged or cells.get("chosen") is not None or cells.get("label") is not None
            if cells.get("prompt"):
                asked, repeated = asked + 1, repeated + (_repeats(cells) or _repeats_text(cells))
    for name, column in columns.items():
        if present and column not in present:
            have = ", ".join(present)
            raise OptionError("column", f"'{name}={column}': no such column", f"present are {have}")
    return Survey(_are_most(repeated, asked), judged)


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
                state.left_out["rows whose sides part before their last answer, so there is no prompt"] += 1
                continue
            except UnicodeEncodeError:
                raise place.wrong("holds half a character (a lone surrogate)", None, "write it as UTF-8") from None
            sides = _one_shape(sides, made, place)
            yield place, made


def _one_shape(before: frozenset[str], made: Mapping[str, Any], place: Place) -> frozenset[str]:
    """Return the sides that the rows of a file have; a row without any, a prompt alone, goes with all."""
    have = frozenset(name for name in SIDES if name in made)
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
    cells = _of_fine_tuning(cells)
    taken = {*columns, *columns.values()}
    named = {name: value for name, value in cells.items() if name not in taken}
    named |= {name: _turns_of(name, cells.get(column)) for name, column in columns.items()}
    return {name: value for name, value in named.items() if value is not None}


def _of_fine_tuning(cells: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a row of OpenAI's preference fine-tuning in TRL's columns; any other as it is.

    Source: OpenAI, "Direct preference optimization": ``input`` with ``messages`` and ``tools``, ``preferred_output``,
    ``non_preferred_output``.
    """
    asked = cells.get("input")
    if not (isinstance(asked, Mapping) and "messages" in asked and "preferred_output" in cells):
        return cells
    rest = {name: cell for name, cell in cells.items() if name not in _FINE_TUNING}
    tools = {"tools": asked["tools"]} if asked.get("tools") else {}
    sides = {"chosen": cells["preferred_output"], "rejected": cells.get("non_preferred_output")}
    return {**rest, **tools, "prompt": asked["messages"], **sides}


def _turns_of(name: str, cell: Any) -> Any:
    return turns_in(cell) if name in TURN_COLUMNS else cell


def _completed(cells: dict[str, Any], place: Place, state: Import, *, doubled: bool) -> dict[str, Any]:
    made = _shaped(cells, place, state)
    if doubled or not isinstance(cells.get("prompt"), str):
        _take_off_prompt(made, state, texts=doubled)
    if "label" in cells:
        made["label"] = _label(cells["label"], place)
    opening = [f"{turn['role']}:{turn['content']}" for turn in made["prompt"] if turn["role"] != "system"][:1]
    said = json.dumps([made.get(name) for name in ("prompt", *SIDES, "label")], ensure_ascii=False)
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
    sides = {name: _turns(cells[name], place, name) for name in SIDES if name in cells}
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
    what = f"has neither prompt, messages, text, nor chosen and rejected; present are {present}"
    raise place.wrong(
        what, "prompt", "name them, as in --column prompt=NAME --column chosen=NAME --column rejected=NAME"
    )


def _turns(value: Any, place: Place, name: str) -> list[dict[str, str]]:
    try:
        turns = Message.sequence(value, role="user" if name == "prompt" else "assistant")
    except (KeyError, TypeError, AttributeError):
        raise place.wrong("is neither text nor a list of turns with role and content", name) from None
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _label(value: Any, place: Place) -> bool:
    said = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}.get(str(value).lower())
    if said is None:
        raise place.wrong(f"{value!r} is not a label", "label", "give true or false")
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


def _repeats_text(cells: Mapping[str, Any]) -> bool:
    """Return whether the one turn of each answer begins with the text of the one turn that asks for it."""
    parts = [cells["prompt"], *(cells[name] for name in SIDES if cells.get(name) is not None)]
    if len(parts) < 2 or not all(isinstance(one, list) and len(one) == 1 for one in parts):
        return False
    asked, *said = (one[0].get("content") if isinstance(one[0], Mapping) else None for one in parts)
    return isinstance(asked, str) and all(isinstance(one, str) and one.startswith(asked) for one in said)


def _repeats(cells: Mapping[str, Any]) -> bool:
    sides = [cells[name] for name in SIDES if cells.get(name) is not None]
    if isinstance(cells["prompt"], str):
        return bool(sides) and all(isinstance(one, str) and one.startswith(cells["prompt"]) for one in sides)
    return bool(sides) and all(
        isinstance(one, list) and one[: len(cells["prompt"])] == cells["prompt"] for one in sides
    )


def _take_off_prompt(made: dict[str, Any], state: Import, *, texts: bool) -> None:
    """Take a prompt that stands in its column and again at the start of the answers off them.

    Args:
        made: The row.
        state: Gets how many there were.
        texts: Whether the text of an answer may begin with that of its prompt, as in nearly all rows; turns that are
            those of the prompt are taken off in any row.
    """
    asked, taken = made["prompt"], False
    for name in SIDES:
        turns = made.get(name)
        if not turns or not asked:
            continue
        if len(turns) > len(asked) and turns[: len(asked)] == asked:
            made[name], taken = turns[len(asked) :], True
        elif texts and len(asked) == len(turns) == 1 and turns[0]["role"] == "assistant" and _begins(turns, asked):
            rest = turns[0]["content"][len(asked[0]["content"]) :].lstrip()
            made[name], taken = [{"role": "assistant", "content": rest}], True
    if taken:
        state.derived["answers without the prompt that they repeated"] += 1


def _begins(turns: Sequence[Mapping[str, str]], asked: Sequence[Mapping[str, str]]) -> bool:
    return turns[0]["content"].startswith(asked[0]["content"])
