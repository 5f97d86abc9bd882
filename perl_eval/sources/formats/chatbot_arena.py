"""Answers as FastChat (MT-bench) and Arena-Hard keep them: one JSON line a question, the questions in a file beside.

Sources: lm-sys/FastChat ``fastchat/llm_judge/gen_model_answer.py`` and ``common.py``; lmarena/arena-hard-auto
``gen_answer.py`` (``choices`` before version 2, ``messages`` with content ``{"answer": ...}`` since).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from perl_eval.errors import DataError
from perl_eval.records import Completion
from perl_eval.sources.containers import Brought, opened
from perl_eval.sources.reading import Format, Import, cell

__all__ = ["ARENA_HARD", "MT_BENCH"]

_QUESTIONS = ("question.jsonl", "questions.jsonl")


def _has_choices(found: Brought) -> bool:
    choices = found.head[0].get("choices") if found.has("question_id", "choices") else None
    return isinstance(choices, list) and all(isinstance(one, dict) and "turns" in one for one in choices)


def _choices(found: Brought, reading: Import) -> Iterator[Mapping[str, Any]]:
    questions = _questions(found, reading)
    for row, cells in enumerate(found.rows()):
        asked = str(cell(cells, "question_id", (str, int), found.name, row))
        if asked not in questions:
            raise DataError(f"{asked!r} is none of the questions", file=found.name, row=row, field="question_id")
        for choice in cell(cells, "choices", list, found.name, row):
            turns = choice.get("turns") if isinstance(choice, dict) else None
            if not isinstance(turns, list) or not turns:
                raise DataError("has a choice without turns", file=found.name, row=row, field="choices")
            if len(turns) > 1:
                reading.left_out["second turns, asked after the policy's own first"] += len(turns) - 1
            yield {
                "prompt": questions[asked][0],
                "text": _answer(turns[0], found, row),
                "policy": cells.get("model_id", cells.get("model")),
                "item": asked,
                "group": asked,
            }


def _answer(turn: Any, found: Brought, row: int) -> str:
    said = turn.get("content") if isinstance(turn, dict) else turn
    if isinstance(said, dict):
        said = said.get("answer")
    if not isinstance(said, str):
        raise DataError("has a turn that is not text", file=found.name, row=row, field="choices")
    return said


def _questions(found: Brought, reading: Import) -> Mapping[str, Sequence[str]]:
    """Read the questions' turns by their ids: from the file that was given, or the one that lies beside."""
    file = reading.requests or _beside(found.path)
    if file is None:
        raise DataError(
            f"keeps answers without their questions, and no {_QUESTIONS[0]} lies beside or above",
            file=found.name,
            fix="give it with --requests",
        )
    asked = {}
    for row, cells in enumerate(opened(file).rows()):
        turns = cells.get("turns", cells.get("prompt"))
        turns = [turns] if isinstance(turns, str) else turns
        first = turns[0] if isinstance(turns, list) and turns else None
        first = first.get("content") if isinstance(first, dict) else first
        if not isinstance(first, str):
            raise DataError("has no turns", file=file, row=row, field="turns")
        asked[str(cells.get("question_id", cells.get("uid")))] = [first]
    return asked


def _beside(path: Path | None) -> Path | None:
    """Return the file of questions in a file's folder or the two above it."""
    folders = list(path.resolve().parents)[:3] if path else []
    return next((folder / name for folder in folders for name in _QUESTIONS if (folder / name).is_file()), None)


def _has_messages(found: Brought) -> bool:
    if not found.has("messages", "model") or not _names_question(found):
        return False
    turns = found.head[0]["messages"]
    return isinstance(turns, list) and bool(turns) and isinstance(turns[-1], dict)


def _names_question(found: Brought) -> bool:
    """Return whether rows name their question as Arena-Hard does."""
    return found.has("uid") or found.has("question_id", "ans_id") or found.has("question_id", "answer_id")


def _messages(found: Brought, _: Import) -> Iterator[Mapping[str, Any]]:
    for row, cells in enumerate(found.rows()):
        turns = cell(cells, "messages", list, found.name, row)
        plain = [
            {**turn, "content": _said(turn, found.name, row)} if isinstance(turn, dict) else turn for turn in turns
        ]
        item = str(cell(cells, "question_id" if "question_id" in cells else "uid", (str, int), found.name, row))
        yield {"messages": plain, "policy": cells.get("model"), "item": item, "group": item}


def _said(turn: Mapping[str, Any], file: str, row: int) -> Any:
    content = turn.get("content")
    said = content.get("answer") if isinstance(content, dict) else content
    if not isinstance(said, str | list):
        raise DataError("has a turn that is not text", file=file, row=row, field="messages")
    return said


MT_BENCH = Format(
    "mt-bench",
    Completion,
    "FastChat's and older Arena-Hard's model answers, with question.jsonl",
    _has_choices,
    _choices,
    needs="question_id choices",
)
ARENA_HARD = Format(
    "arena-hard",
    Completion,
    "Arena-Hard 2's model answers",
    _has_messages,
    _messages,
    needs="messages model uid|question_id",
)
