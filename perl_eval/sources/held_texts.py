"""The texts of a file that somebody holds, such as an evaluation set, to look for them in rows that are built."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from perl_eval.errors import DataError, OptionError, UserError
from perl_eval.records import Completion, Message
from perl_eval.sources.column_names import columns_typed
from perl_eval.sources.completions import FIELDS, read
from perl_eval.sources.containers import Brought, is_saved_dataset, opened
from perl_eval.sources.reading import Format, Import
from perl_eval.sources.recognition import formats_for
from perl_eval.storage import run_folder

__all__ = ["HeldTexts", "held_texts"]

_ANSWERS = (*FIELDS["text"], "chosen", "rejected", "output_1", "output_2", "response_A", "response_B")
_LIST_OF_TEXTS = re.compile(r'\s*\[\s*"')
_IDS = (
    *(*FIELDS["id"], *FIELDS["item"], "pair_id", "case_id", "example_id", "sample_id", "row_id", "task_id"),
    *("ticket_id", "qid", "custom_id", "ID", "Id"),
)
_NAMED = ("prompt", "text", "item")


class HeldTexts(NamedTuple):
    """The texts of one record: its id, the turns of its prompt, its answers."""

    id: str
    prompt: tuple[str, ...]
    answers: tuple[str, ...]


def held_texts(path: Path, columns: Mapping[str, str] | None = None) -> list[HeldTexts]:
    """Read the prompts and answers of a file or run folder, whatever it is for.

    Args:
        path: A run folder with completions; a text file (``.txt``) with a prompt a line, or a JSON list of texts; a
            file of another tool's answers, such as a log of Inspect or a batch's output; or a JSON, JSON lines, CSV,
            TSV, parquet or Arrow file whose records have a prompt, answers or both, under the names that completions
            and rows go by. A record without an id is called ``row N``, N from 0; a line of a text file ``line N``, N
            from 1.
        columns: The names that the records use, by ``prompt``, ``text`` and ``item``, which is their id.

    Raises:
        UserError: There is no such file, it is none of these, or columns are named of a file that has none.
        OptionError: What is named is none of these.
        DataError: A record has neither prompt nor answer, or there is none.
    """
    columns = columns or {}
    for name in columns:
        if name not in _NAMED:
            raise OptionError("column", f"{name!r}, which no text has", f"choose from {', '.join(_NAMED)}")
    if path.is_dir() and not is_saved_dataset(path):
        return [_of_completion(one) for one in run_folder.read(path, Completion)]
    if (bare := _bare(path)) is not None:
        if columns:
            raise UserError(f"{path} is a list of texts, without columns", "leave --column out")
        return _some([HeldTexts(name, (text,), ()) for name, text in bare], path)
    found = opened(path)
    if columns:
        return _some(list(_of_records(found.rows(), path, columns)), path)
    layout = next((one for one in formats_for(Completion) if _is_told(one, found)), None)
    if layout is not None:
        reading = Import()
        made = list(read(found, reading, layout.name))
        held = [_of_completion(one) for one in made]
        if reading.derived["id"] == len(made):  # an id that was derived tells nobody which record it is
            given = not reading.derived["item"]
            held = [one._replace(id=made[at].item if given else f"row {at}") for at, one in enumerate(held)]
    else:
        held = list(_of_records(found.rows(), path, {}))
    return _some(held, path)


def _some(held: list[HeldTexts], path: Path) -> list[HeldTexts]:
    if not held:
        raise DataError("holds no records", file=path, fix="give a file with prompts, answers or both")
    return held


def _bare(path: Path) -> list[tuple[str, str]] | None:
    """Return the texts of a file that is nothing but texts, each with its place, None of any other file.

    Such are the lines of a text file that are not empty, and a JSON list of texts.
    """
    if path.suffix not in (".txt", ".json") or not path.is_file():
        return None
    try:
        content = path.read_text("utf-8")
        if path.suffix == ".txt" and not content.lstrip().startswith(("{", "[")):
            return [(f"line {at}", line) for at, line in enumerate(content.splitlines(), start=1) if line.strip()]
        found = json.loads(content) if _LIST_OF_TEXTS.match(content) else None
    except ValueError:  # neither UTF-8 nor JSON: what reads other files says so
        return None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        return None
    return [(f"row {at}", text) for at, text in enumerate(found)]


def _is_told(one: Format, found: Brought) -> bool:
    """Return whether answers are of a format that keeps them otherwise than in columns as they are."""
    return one.matches(found) and (not one.plain or found.has("conversations"))


def _of_completion(one: Completion) -> HeldTexts:
    return HeldTexts(one.id, tuple(turn.content for turn in one.prompt), (one.text,))


def _of_records(records: Iterable[Mapping[str, Any]], path: Path, columns: Mapping[str, str]) -> Iterator[HeldTexts]:
    ids = (columns["item"],) if "item" in columns else _IDS
    for row, cells in enumerate(records):
        _refuse_missing(cells, path, row, columns)
        given = next((cells[name] for name in ids if cells.get(name) not in (None, "")), f"row {row}")
        prompt, answers = _texts(cells, path, row, columns)
        if not prompt and not answers:
            present = ", ".join(map(str, cells))
            raise DataError(
                f"has neither prompt nor answer; present are {present}", file=path, row=row, fix=_what_to_type(cells)
            )
        yield HeldTexts(str(given), prompt, answers)


def _what_to_type(cells: Mapping[str, Any]) -> str:
    ids = "" if any(name in cells for name in _IDS) else " (and --column item=NAME for your own ids)"
    return f"type {columns_typed(['prompt'], list(map(str, cells)))}{ids}, or give a text file with one question a line"


def _refuse_missing(cells: Mapping[str, Any], path: Path, row: int, columns: Mapping[str, str]) -> None:
    for name, column in columns.items():
        if column not in cells:
            what = f"no such column; present are {', '.join(map(str, cells))}"
            raise DataError(what, file=path, row=row, field=column, fix=f"type --column {name}=NAME")


def _texts(
    cells: Mapping[str, Any], path: Path, row: int, columns: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the turns of the prompt and the answers of a record."""
    prompts = (columns["prompt"],) if "prompt" in columns else FIELDS["prompt"]
    said_in = (columns["text"],) if "text" in columns else _ANSWERS
    prompt = next((cells[name] for name in prompts if cells.get(name) is not None), None)
    answers = [said for name in said_in if name not in prompts for said in _answers(cells.get(name), path, row, name)]
    if prompt is not None:
        turns = [turn.content for turn in _turns(prompt, path, row, "prompt")]
        return tuple(turns), tuple("\n".join(turn.content for turn in answer) for answer in answers)
    dialogue = _turns(cells["messages"], path, row, "messages") if cells.get("messages") is not None else ()
    if dialogue and dialogue[-1].role == "assistant":
        answers.append(dialogue[-1:])
        dialogue = dialogue[:-1]
    if not dialogue and answers and len(answers[0]) > 1:  # whole dialogues: what all have in front is the prompt
        shared = min(_shared(answers[0], other) for other in answers)
        dialogue, answers = answers[0][:shared], [answer[shared:] for answer in answers]
    return (
        tuple(turn.content for turn in dialogue),
        tuple("\n".join(turn.content for turn in answer) for answer in answers),
    )


def _shared(one: Sequence[Message], other: Sequence[Message]) -> int:
    """Return how many turns two dialogues have in common at the front; never the last of either."""
    most = min(len(one), len(other)) - 1
    return next((at for at in range(most) if one[at] != other[at]), most)


def _answers(cell: Any, path: Path, row: int, name: str) -> list[tuple[Message, ...]]:
    """Return the answers in a cell: one text, one dialogue, or a list of texts."""
    if cell is None:
        return []
    if isinstance(cell, list | tuple) and cell and all(isinstance(one, str) for one in cell):
        return [_turns(one, path, row, name) for one in cell]
    return [_turns(cell, path, row, name)]


def _turns(cell: Any, path: Path, row: int, name: str) -> tuple[Message, ...]:
    try:
        return Message.sequence(cell)
    except (KeyError, TypeError, AttributeError):
        raise DataError(
            "is neither text nor a list of turns with role and content", file=path, row=row, field=name
        ) from None
