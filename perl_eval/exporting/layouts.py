"""What a layout to write is: a name, the records that it takes, and what it holds of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from perl_eval.records import Message
from perl_eval.storage import parquet

__all__ = ["Layout", "Tally", "plain_text", "turns", "write_json", "write_lines", "write_pieces"]


@dataclass
class Tally:
    """What is written, and what a layout cannot hold of what was brought.

    Attributes:
        rows: Records written.
        lost: How many of what, in words: what is left out, and what is written otherwise than it was.
        files: The files written, in order.
        not_kept: Fields that hold something, and that the layout has no place for.
        read: What was read of a file of another tool, as one line.
    """

    rows: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    files: list[Path] = field(default_factory=list)
    not_kept: list[str] = field(default_factory=list)
    read: str = ""


Write = Callable[[Iterable[Any], Path, Tally], None]
"""Writes records, which can be gone through more than once and may not all fit into memory."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One layout in which other tools read one kind of record.

    Attributes:
        name: As typed after ``--to``.
        takes: The kinds of record that it is made of.
        what: One line for help.
        write: Writes records to a file, or into a folder.
        holds: The fields of a record that it keeps; of the others those that hold something are told.
        ending: Of the file; empty if it is a folder of files.
    """

    name: str
    takes: tuple[type, ...]
    what: str
    write: Write
    holds: frozenset[str]
    ending: str


def turns(prompt: Iterable[Message]) -> list[dict[str, str]]:
    """Return turns as lists of role and content."""
    return [{"role": turn.role, "content": turn.content} for turn in prompt]


def plain_text(prompt: Sequence[Message], tally: Tally) -> str:
    """Return a prompt as one text: its only turn, if that is a user's, else all turns, each with its role."""
    if len(prompt) == 1 and prompt[0].role == "user":
        return prompt[0].content
    tally.lost["prompts of other than one user's turn, written as one text"] += 1
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in prompt)


def write_json(path: Path, rows: Iterable[Mapping[str, Any]], tally: Tally) -> None:
    """Write rows as one JSON list."""

    def listed() -> Iterator[str]:
        for place, row in enumerate(rows):
            # No string of JSON holds the end of a line, so these are the ends of its own.
            text = json.dumps(row, indent=1, ensure_ascii=False).replace("\n", "\n ")
            yield f",\n {text}" if place else f"[\n {text}"

    write_pieces(path, listed(), tally, end="\n]\n")


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]], tally: Tally) -> None:
    """Write rows as JSON lines."""
    write_pieces(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows), tally)


def write_pieces(path: Path, pieces: Iterable[str], tally: Tally, *, end: str = "") -> None:
    """Write a file piece by piece, a row each; it is replaced whole or not at all, and not where there are no rows.

    Args:
        path: The file.
        pieces: The rows, as text; they are made as they are written.
        tally: Told of them.
        end: What stands after the last row.
    """
    remaining = iter(pieces)
    first = next(remaining, None)
    if first is None:
        return
    rows = 0

    def write_to(partial: Path) -> None:
        nonlocal rows
        # Half a character (a lone surrogate) becomes the escape that JSON has for it.
        with partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            for piece in chain([first], remaining):
                file.write(piece)
                rows += 1
            file.write(end)

    parquet.replace_file(path, write_to)
    tally.rows += rows
    tally.files.append(path)
