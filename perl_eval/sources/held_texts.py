"""The texts of a file that somebody holds, such as an evaluation set, to look for them in rows that are built."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from perl_eval.errors import DataError
from perl_eval.records import Completion, Message
from perl_eval.sources.completions import FIELDS, read
from perl_eval.sources.containers import Brought, is_saved_dataset, opened
from perl_eval.sources.reading import Format, Import
from perl_eval.sources.recognition import formats_for
from perl_eval.storage import run_folder

__all__ = ["HeldTexts", "held_texts"]

_ANSWERS = (*FIELDS["text"], "chosen", "rejected", "output_1", "output_2", "response_A", "response_B")
_LIST_OF_TEXTS = re.compile(r'\s*\[\s*"')
_IDS = (*FIELDS["id"], *FIELDS["item"], "pair_id")


class HeldTexts(NamedTuple):
    """The texts of one record: its id, the turns of its prompt, its answers."""

    id: str
    prompt: tuple[str, ...]
    answers: tuple[str, ...]


def held_texts(path: Path) -> list[HeldTexts]:
    """Read the prompts and answers of a file or run folder, whatever it is for.

    Args:
        path: A run folder with completions; a text file (``.txt``) with a prompt a line, or a JSON list of texts; a
            file of another tool's answers, such as a log of Inspect or a batch's output; or a JSON, JSON lines, CSV,
            TSV, parquet or Arrow file whose records have a prompt, answers or both, under the names that completions
            and rows go by. A record without an id is called ``row N``, N from 0.

    Raises:
        UserError: There is no such file, or it is none of these.
        DataError: A record has neither prompt nor answer, or there is none.
    """
    if path.is_dir() and not is_saved_dataset(path):
        return [_of_completion(one) for one in run_folder.read(path, Completion)]
    if (bare := _bare(path)) is not None:
        held = [HeldTexts(f"row {row}", (text,), ()) for row, text in enumerate(bare)]
        return _some(held, path)
    found = opened(path)
    layout = next((one for one in formats_for(Completion) if _is_told(one, found)), None)
    if layout is not None:
        held = [_of_completion(one) for one in read(found, Import(), layout.name)]
    else:
        held = list(_of_records(found.rows(), path))
    return _some(held, path)


def _some(held: list[HeldTexts], path: Path) -> list[HeldTexts]:
    if not held:
        raise DataError("holds no records", file=path, fix="give a file with prompts, answers or both")
    return held


def _bare(path: Path) -> list[str] | None:
    """Return the texts of a file that is nothing but texts, None of any other file.

    Such are the lines of a text file that are not empty, and a JSON list of texts.
    """
    if path.suffix not in (".txt", ".json") or not path.is_file():
        return None
    try:
        content = path.read_text("utf-8")
        if path.suffix == ".txt" and not content.lstrip().startswith(("{", "[")):
            return [line for line in content.splitlines() if line.strip()]
        found = json.loads(content) if _LIST_OF_TEXTS.match(content) else None
    except ValueError:  # neither UTF-8 nor JSON: what reads other files says so
        return None
    return found if isinstance(found, list) and all(isinstance(one, str) for one in found) else None


def _is_told(one: Format, found: Brought) -> bool:
    """Return whether answers are of a format that keeps them otherwise than in columns as they are."""
    return one.matches(found) and (not one.plain or found.has("conversations"))


def _of_completion(one: Completion) -> HeldTexts:
    return HeldTexts(one.id, tuple(turn.content for turn in one.prompt), (one.text,))


def _of_records(records: Iterable[Mapping[str, Any]], path: Path) -> Iterator[HeldTexts]:
    for row, cells in enumerate(records):
        given = next((cells[name] for name in _IDS if cells.get(name) not in (None, "")), f"row {row}")
        prompt, answers = _texts(cells, path, row)
        if not prompt and not answers:
            present = ", ".join(map(str, cells))
            raise DataError(f"has neither prompt nor answer; present are {present}", file=path, row=row)
        yield HeldTexts(str(given), prompt, answers)


def _texts(cells: Mapping[str, Any], path: Path, row: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the turns of the prompt and the answers of a record."""
    prompt = next((cells[name] for name in FIELDS["prompt"] if cells.get(name) is not None), None)
    answers = [said for name in _ANSWERS for said in _answers(cells.get(name), path, row, name)]
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
