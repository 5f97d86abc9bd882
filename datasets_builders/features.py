"""The row shapes, as `datasets.Features` in TRL's column names and conversational form.

===============  ============================  ======================================================
shape            columns                       TRL calls it
===============  ============================  ======================================================
Demonstration    prompt, completion            prompt-completion
Preference       prompt, chosen, rejected      preference with explicit prompt
Rating           prompt, completion, label     unpaired preference; label True is thumbs up
Prompt           prompt                        prompt-only
===============  ============================  ======================================================

``prompt``, ``completion``, ``chosen`` and ``rejected`` are lists of messages, and every row also has `METADATA`. A
message is ``{role, content, name, tool_calls}``: role is system, user, assistant or tool; ``name`` is the function a
tool message answers for; ``tool_calls`` is None or a list of
``{"type": "function", "function": {"name": ..., "arguments": {...}}}``. Where pictures come with the text, the row has
``images`` (encoded, decoded on access) and ``content`` is a list of parts: ``{"type": "image", "text": None}`` or
``{"type": "text", "text": ...}``.

Read with plain pyarrow, each entry of ``tool_calls`` is JSON text (the ``arrow.json`` extension type over string).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Features, Image, Json, List, Value

__all__ = [
    "METADATA",
    "demonstration",
    "message",
    "parts",
    "preference",
    "prompt",
    "rating",
    "tool_call",
    "with_calls_as_text",
]

METADATA = ("id", "group", "dataset", "source_file")
"""Columns of every row: a stable id, the group that splits keep together, the data set's name, the upstream file."""


def _messages(*, vision: bool) -> List:
    if vision:
        return List({"role": Value("string"), "content": List({"type": Value("string"), "text": Value("string")})})
    return List(
        {
            "role": Value("string"),
            "content": Value("string"),
            "name": Value("string"),
            "tool_calls": List(Json()),
        }
    )


def _shape(columns: tuple[str, ...], *, vision: bool, extra: Mapping[str, Any] | None, label: bool = False) -> Features:
    shape: dict[str, Any] = {column: _messages(vision=vision) for column in columns}
    if label:
        shape["label"] = Value("bool")
    if vision:
        shape["images"] = List(Image())
    shape |= {column: Value("string") for column in METADATA}
    return Features(shape | dict(extra or {}))


def demonstration(*, vision: bool = False, extra: Mapping[str, Any] | None = None) -> Features:
    """Return the shape of a Demonstration; ``extra`` adds metadata columns, ``vision`` pictures."""
    return _shape(("prompt", "completion"), vision=vision, extra=extra)


def preference(*, vision: bool = False, extra: Mapping[str, Any] | None = None) -> Features:
    """Return the shape of a Preference; ``extra`` adds metadata columns, ``vision`` pictures."""
    return _shape(("prompt", "chosen", "rejected"), vision=vision, extra=extra)


def rating(*, vision: bool = False, extra: Mapping[str, Any] | None = None) -> Features:
    """Return the shape of a Rating; ``extra`` adds metadata columns, ``vision`` pictures."""
    return _shape(("prompt", "completion"), vision=vision, extra=extra, label=True)


def prompt(*, vision: bool = False, extra: Mapping[str, Any] | None = None) -> Features:
    """Return the shape of a Prompt; ``extra`` adds metadata columns, ``vision`` pictures."""
    return _shape(("prompt",), vision=vision, extra=extra)


def message(
    role: str, content: str, *, name: str | None = None, tool_calls: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Return one message of text."""
    return {"role": role, "content": content, "name": name, "tool_calls": tool_calls}


def tool_call(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return one entry of ``tool_calls``."""
    return {"type": "function", "function": {"name": name, "arguments": dict(arguments)}}


def with_calls_as_text(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return messages with each tool call as a line of JSON, its name and arguments, behind what else the turn says."""
    return [
        message(
            turn["role"],
            "\n".join(
                [
                    *([turn["content"]] if turn["content"] else []),
                    *(json.dumps(call["function"], ensure_ascii=False, sort_keys=True) for call in turn["tool_calls"]),
                ]
            )
            if turn["tool_calls"]
            else turn["content"],
            name=turn["name"],
        )
        for turn in messages
    ]


def parts(role: str, text: str, *, images: int = 0) -> dict[str, Any]:
    """Return one message of some pictures, taken in order from the row's ``images``, and then a text."""
    pictures = [{"type": "image", "text": None}] * images
    return {"role": role, "content": [*pictures, {"type": "text", "text": text}]}
