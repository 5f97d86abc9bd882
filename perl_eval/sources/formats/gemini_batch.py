"""Answers of a batch of requests: Gemini's batch jobs, of the Gemini API and of Vertex AI.

A row of the Gemini API has ``key`` and ``response`` (or ``error``, or a status instead); the requests lie in the file
that was sent: ``key`` and ``request``. A row of Vertex AI repeats its ``request``; one that failed says so in
``status``. A response has ``candidates``, each a draw.

Sources: the documentation of Gemini's batch mode and of batch prediction from Cloud Storage; python-genai ``types.py``
(GenerateContentResponse, Candidate, FinishReason).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from perl_eval.errors import DataError
from perl_eval.records import Completion
from perl_eval.sources.containers import Brought
from perl_eval.sources.formats.batch_requests import FAILED, Sent, Turns, asked, joined, named
from perl_eval.sources.reading import Format, Import, cell

__all__ = ["GEMINI_BATCH"]

_BLOCKED = "answers that were blocked"
_WHOLE = ("", "STOP", "MAX_TOKENS", "FINISH_REASON_UNSPECIFIED")
_ROLES = {"model": "assistant", "user": "user", "function": "tool"}
Cells = Mapping[str, Any]


def _matches(found: Brought) -> bool:
    return any(
        isinstance(response := cells.get("response"), dict)
        and ("key" in cells or "request" in cells)
        and ("candidates" in response or _either(response, "promptFeedback") is not None)
        for cells in found.head
    )


def _read(found: Brought, reading: Import) -> Iterator[Cells]:
    repeated = any("request" in cells for cells in found.head)
    requests = {} if repeated else joined(found, reading, _SENT)
    for row, cells in enumerate(found.rows()):
        name = str(cells["key"]) if repeated and cells.get("key") is not None else ""
        if not repeated:
            name = named(cells, _SENT, found.name, row)
        response = cells.get("response")
        if not isinstance(response, dict) or response.get("error") or cells.get("error"):
            reading.left_out[FAILED] += 1
            continue
        if repeated:
            turns = _asked(cell(cells, "request", dict, found.name, row), found.name, row)
        else:
            turns = asked(requests, name, _SENT, found.name, row)
        for said in _answers(response, reading, found.name, row):
            yield {
                "prompt": turns,
                "policy": _either(response, "modelVersion"),
                **({"item": name, "group": name} if name else {}),
                **said,
            }


def _either(cells: Cells, name: str) -> Any:
    """Return a field, whose name is written as JSON of Google's servers has it, or as its Python package has it."""
    snake = "".join(f"_{char.lower()}" if char.isupper() else char for char in name)
    return cells.get(name, cells.get(snake))


def _answers(response: Cells, reading: Import, file: str, row: int) -> Iterator[Cells]:
    """Yield text and finish of each candidate; one that was blocked has no text and is counted."""
    candidates = response.get("candidates")
    if not candidates and _either(response, "promptFeedback"):
        reading.left_out[_BLOCKED] += 1
        return
    if not isinstance(candidates, list) or not candidates:
        raise DataError("has no candidates", file=file, row=row, field="response.candidates")
    for candidate in candidates:
        if not isinstance(candidate, dict):
            raise DataError("has a candidate that is not an object", file=file, row=row, field="response.candidates")
        reason = str(_either(candidate, "finishReason") or "").rpartition(".")[2]
        content = candidate.get("content") or {}
        parts = content.get("parts") or [] if isinstance(content, dict) else None
        if not isinstance(parts, list):
            raise DataError("has no parts", file=file, row=row, field="response.candidates.content")
        said = _said(parts, file, row)
        if reason not in _WHOLE and not said["content"] and not said["tool_calls"]:
            reading.left_out[_BLOCKED] += 1
            continue
        yield {"text": [said], "finish": "length" if reason == "MAX_TOKENS" else "stop"}


def _said(parts: list[Any], file: str, row: int) -> dict[str, Any]:
    """Return the parts of a candidate as a turn: text and calls of functions; thoughts are left out."""
    text: list[str] = []
    calls: list[Cells] = []
    for part in parts:
        if not isinstance(part, dict):
            raise DataError("has a part that is not an object", file=file, row=row, field="response.candidates.content")
        call = _either(part, "functionCall")
        if isinstance(part.get("text"), str) and part.get("thought") is not True:
            text.append(part["text"])
        elif isinstance(call, dict):
            calls.append({"name": call.get("name"), "arguments": call.get("args")})
    return {"role": "assistant", "content": "".join(text), "tool_calls": calls}


def _asked(request: Cells, file: str, row: int) -> Turns:
    """Return the turns of a request, its system instruction first."""
    contents = request.get("contents")
    contents = [contents] if isinstance(contents, dict | str) else contents
    if not isinstance(contents, list) or not contents:
        raise DataError("has no contents", file=file, row=row, field="request")
    system = _either(request, "systemInstruction")
    opening = [{"role": "system", "content": _words(system, file, row)}] if system else []
    return [*opening, *(_turn(content, file, row) for content in contents)]


def _turn(content: Any, file: str, row: int) -> Cells:
    role = content.get("role") or "user" if isinstance(content, dict) else "user"
    if role not in _ROLES:
        raise DataError(f"has a turn of role {role!r}", file=file, row=row, field="request")
    return {"role": _ROLES[role], "content": _words(content, file, row)}


def _words(content: Any, file: str, row: int) -> str:
    """Return the text of a content, which may also be its text or its parts alone."""
    parts = content.get("parts") if isinstance(content, dict) else content
    said: list[str] = []
    for part in parts if isinstance(parts, list) else [parts]:
        text = part.get("text") if isinstance(part, dict) else part
        if not isinstance(text, str):
            kind = next((name for name in part if name != "text"), "none") if isinstance(part, dict) else part
            raise DataError(f"has a part of type {kind!r}, and only text is read", file=file, row=row, field="request")
        said.append(text)
    return "".join(said)


_SENT = Sent("key", "request", _asked)

GEMINI_BATCH = Format(
    "gemini-batch",
    Completion,
    "results of Gemini's batch jobs, with the file of their requests; Vertex AI's repeat them",
    _matches,
    _read,
    needs="key response",
)
