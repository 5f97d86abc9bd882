"""Answers of a batch of requests: Anthropic's message batches.

A row has ``custom_id`` and ``result``, whose ``type`` is ``succeeded`` (with ``message``), ``errored``, ``canceled`` or
``expired``. Rows come in any order. The requests lie in what was sent: ``custom_id`` and ``params``, as JSON lines or
listed under ``requests`` of one JSON document. What a request begins of the answer is part of the answer.

Source: anthropic-sdk-python ``types/messages/message_batch_result.py``, ``batch_create_params.py``, ``message.py`` and
``stop_reason.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from perl_eval.errors import DataError
from perl_eval.records import Completion
from perl_eval.sources.containers import Brought
from perl_eval.sources.formats.batch_requests import FAILED, Sent, asked, joined, named, turn
from perl_eval.sources.reading import Format, Import, cell

__all__ = ["ANTHROPIC_BATCH"]

_CUT = ("max_tokens", "model_context_window_exceeded")
Cells = Mapping[str, Any]


def _matches(found: Brought) -> bool:
    return any(
        "custom_id" in cells and isinstance(cells.get("result"), dict) and "type" in cells["result"]
        for cells in found.head
    )


def _read(found: Brought, reading: Import) -> Iterator[Cells]:
    requests = joined(found, reading, _SENT)
    for row, cells in enumerate(found.rows()):
        name = named(cells, _SENT, found.name, row)
        result = cell(cells, "result", dict, found.name, row)
        if result.get("type") != "succeeded":
            reading.left_out[FAILED] += 1
            continue
        turns = asked(requests, name, _SENT, found.name, row)
        begun = turns[-1]["content"] if turns[-1]["role"] == "assistant" else None
        message = result.get("message")
        if not isinstance(message, dict):
            raise DataError("is not an object", file=found.name, row=row, field="result.message")
        said = _said(message.get("content"), found.name, row)
        yield {
            "prompt": turns[:-1] if begun else turns,
            "text": [{**said, "content": _text(begun or "") + said["content"]}],
            "policy": message.get("model"),
            "finish": "length" if message.get("stop_reason") in _CUT else "stop",
            "item": name,
            "group": name,
        }


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _said(content: Any, file: str, row: int) -> dict[str, Any]:
    """Return the blocks of a message as a turn: text and calls of tools; thoughts are left out."""
    if not isinstance(content, list):
        raise DataError("is not a list of blocks", file=file, row=row, field="result.message.content")
    text: list[str] = []
    calls: list[Cells] = []
    for block in content:
        if not isinstance(block, dict) or "type" not in block:
            raise DataError("has a block without a type", file=file, row=row, field="result.message.content")
        if block["type"] == "text":
            if not isinstance(block.get("text"), str):
                raise DataError("has a text that is not text", file=file, row=row, field="result.message.content")
            text.append(block["text"])
        elif block["type"] == "tool_use":
            calls.append({"name": block.get("name"), "arguments": block.get("input")})
    return {"role": "assistant", "content": "".join(text), "tool_calls": calls}


def _asked(params: Cells, file: str, row: int) -> list[Cells]:
    """Return the turns of a request, its system prompt first."""
    messages = params.get("messages")
    if not isinstance(messages, list) or not messages:
        raise DataError("has no messages", file=file, row=row, field="params")
    system = params.get("system")
    opening = [turn({"role": "system", "content": system}, file, row, "params")] if system else []
    return [*opening, *(turn(one, file, row, "params") for one in messages)]


_SENT = Sent("custom_id", "params", _asked, within="requests")

ANTHROPIC_BATCH = Format(
    "anthropic-batch",
    Completion,
    "results of Anthropic's message batches, with the file of their requests",
    _matches,
    _read,
    needs="custom_id result",
)
