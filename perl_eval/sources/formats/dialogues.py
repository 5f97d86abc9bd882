"""Dialogues: rows with ``messages`` (OpenAI's form) or ``conversations`` (ShareGPT's), the last turn the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from perl_eval.errors import DataError
from perl_eval.records import Completion
from perl_eval.sources.containers import Brought
from perl_eval.sources.reading import FIELDS, Format, Import

__all__ = ["CHAT"]

_ROLES = {"human": "user", "gpt": "assistant", "bing": "assistant", "chatgpt": "assistant", "bard": "assistant"}


def _matches(found: Brought) -> bool:
    turns = found.head[0].get("messages", found.head[0].get("conversations")) if found.head else None
    return isinstance(turns, list) and bool(turns) and isinstance(turns[-1], dict)


def _read(found: Brought, reading: Import) -> Iterator[Mapping[str, Any]]:
    for row, cells in enumerate(found.rows()):
        name = "messages" if "messages" in cells else "conversations"
        turns = cells.get(name)
        if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
            raise DataError("is not a list of turns", file=found.name, row=row, field=name)
        messages = [_turn(turn) for turn in turns]
        if messages and messages[-1].get("role") == "assistant" and "text" not in reading.columns:
            # The answer is the last turn: what other columns call a response is the same text, or another's.
            yield {**{name: one for name, one in cells.items() if name not in FIELDS["text"]}, "messages": messages}
        else:
            yield {**cells, "messages": messages}


def _turn(turn: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a turn with role and content; ShareGPT says from and value."""
    if "from" not in turn or "role" in turn:
        return turn
    said = str(turn["from"])
    return {"role": _ROLES.get(said, said), "content": turn.get("value", "")}


CHAT = Format(
    "chat",
    Completion,
    "dialogues in `messages` (or ShareGPT's), the last turn the answer",
    _matches,
    _read,
    plain=True,
    needs="messages|conversations",
)
