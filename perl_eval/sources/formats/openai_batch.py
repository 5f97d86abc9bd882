"""Answers of a batch of requests: OpenAI's Batch API, and what writes the same form, such as vLLM's ``run-batch``.

A row has ``custom_id``, ``response`` (``status_code`` and ``body``) and ``error``; the body is a chat completion, a
completion, or a response of the Responses API. The requests lie in the file that was sent: ``custom_id`` and ``body``.

Sources: vllm ``vllm/entrypoints/openai/run_batch.py`` (BatchRequestOutput); openai-python ``types/chat``,
``types/completion.py`` and ``types/responses/response.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from perl_eval.errors import DataError, UserError
from perl_eval.records import Completion
from perl_eval.sources.containers import Brought, opened
from perl_eval.sources.reading import Format, Import, cell

__all__ = ["OPENAI_BATCH"]

_SIBLINGS = 50
_FAILED = "requests that failed"
Cells = Mapping[str, Any]


def _matches(found: Brought) -> bool:
    return found.has("custom_id", "response")


def _read(found: Brought, reading: Import) -> Iterator[Cells]:
    asked = _requests(found, reading)
    for row, cells in enumerate(found.rows()):
        name = str(cell(cells, "custom_id", (str, int), found.name, row))
        body = _body(cells)
        if body is None:
            reading.left_out[_FAILED] += 1
            continue
        if name not in asked:
            raise DataError(f"{name!r} is in no request", file=found.name, row=row, field="custom_id")
        for said in _answers(body, found.name, row):
            yield {"messages": asked[name], "policy": body.get("model"), "item": name, "group": name, **said}


def _body(cells: Cells) -> Cells | None:
    """Return what the server answered, None if the request failed."""
    response = cells.get("response")
    if not isinstance(response, dict) or response.get("status_code", 200) != 200:
        return None
    body = response.get("body")
    return body if isinstance(body, dict) and not body.get("error") else None


def _answers(body: Cells, file: str, row: int) -> Iterator[Cells]:
    """Yield text and finish of each answer of a response."""
    if isinstance(body.get("output"), list):
        yield {"text": _spoken(body["output"], file, row), "finish": _why_ended(body)}
        return
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise DataError("has neither choices nor output", file=file, row=row, field="response.body")
    for choice in choices:
        message = choice.get("message", choice) if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            raise DataError("has a choice that is no object", file=file, row=row, field="response.body.choices")
        said = next((message[name] for name in ("content", "text", "refusal") if message.get(name)), "")
        text = [{"role": "assistant", "content": said, "tool_calls": message.get("tool_calls")}]
        yield {"text": text, "finish": choice.get("finish_reason")}


def _spoken(output: list[Any], file: str, row: int) -> str:
    """Return the text of the messages in a response of the Responses API; reasoning is left out."""
    parts = []
    for one in output:
        if not isinstance(one, dict):
            raise DataError("has a part that is no object", file=file, row=row, field="response.body.output")
        if one.get("type") == "message":
            content = one.get("content")
            content = content if isinstance(content, list) else []
            parts += [str(part.get("text", part.get("refusal", ""))) for part in content if isinstance(part, dict)]
    return "".join(parts)


def _why_ended(body: Cells) -> str | None:
    why = body.get("incomplete_details")
    return "length" if isinstance(why, dict) and why.get("reason") == "max_output_tokens" else None


def _requests(found: Brought, reading: Import) -> Mapping[str, Any]:
    """Read the turns of the requests by their ids: from the file that was given, or the one that lies beside."""
    file = reading.requests or _beside(found)
    if file is None:
        raise DataError(
            "keeps answers without their requests, and no file of them lies beside",
            file=found.name,
            fix="give it with --requests",
        )
    asked = {}
    for row, cells in enumerate(opened(file).rows()):
        name = cell(cells, "custom_id", (str, int), str(file), row)
        asked[str(name)] = _asked(cell(cells, "body", dict, str(file), row), str(file), row)
    return asked


def _asked(body: Cells, file: str, row: int) -> Any:
    """Return the turns of a request."""
    if isinstance(body.get("messages"), list):
        return [_turn(turn, file, row) for turn in body["messages"]]
    given = body.get("input", body.get("prompt"))
    turns = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(turns, list):
        raise DataError("has neither messages, input nor prompt", file=file, row=row, field="body")
    opening = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
    return [*opening, *(_turn(turn, file, row) for turn in turns)]


def _turn(turn: Any, file: str, row: int) -> Cells:
    """Return a turn with parts as they are called here."""
    if not isinstance(turn, dict) or "role" not in turn:
        raise DataError("has a turn without a role", file=file, row=row, field="body")
    content = turn.get("content")
    if isinstance(content, list):
        content = [_part(part, file, row) for part in content]
    return {"role": turn["role"], "content": content, "tool_calls": turn.get("tool_calls")}


def _part(part: Any, file: str, row: int) -> Cells:
    if not isinstance(part, dict) or not isinstance(part.get("text"), str):
        kind = part.get("type") if isinstance(part, dict) else part
        raise DataError(f"has a part of type {kind!r}, and only text is read", file=file, row=row, field="body")
    return {"type": "text", "text": part["text"]}


def _beside(found: Brought) -> Path | None:
    """Return the file in the same folder that asks for most of what the first rows answer."""
    if found.path is None:
        return None
    own = found.path.resolve()
    names = {str(cells.get("custom_id")) for cells in found.head}
    others = [path for path in islice(sorted(own.parent.glob("*.jsonl")), _SIBLINGS) if path != own]
    shared = {path: len(names & _asked_in(path)) for path in others}
    best = max(shared, key=lambda path: shared[path], default=None)
    return best if best and shared[best] else None


def _asked_in(path: Path) -> set[str]:
    """Return the ids of the requests in a file; none if it is no file of requests, or cannot be read."""
    try:
        other = opened(path)
        if other.container != "jsonl" or not other.has("custom_id", "body"):
            return set()
        return {str(cells.get("custom_id")) for cells in other.rows()}
    except (UserError, OSError):
        return set()


OPENAI_BATCH = Format(
    "openai-batch",
    Completion,
    "OpenAI's batch output (and vLLM's run-batch), with the file of its requests",
    _matches,
    _read,
    needs="custom_id response",
)
