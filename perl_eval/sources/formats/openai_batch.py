"""Answers of a batch of requests: OpenAI's Batch API, and what writes the same form, such as vLLM's ``run-batch``.

A row has ``custom_id``, ``response`` (``status_code`` and ``body``) and ``error``; the body is a chat completion, a
completion, or a response of the Responses API. The requests lie in the file that was sent: ``custom_id`` and ``body``.

Sources: vllm ``vllm/entrypoints/openai/run_batch.py`` (BatchRequestOutput); openai-python ``types/chat``,
``types/completion.py`` and ``types/responses/response.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from perl_eval.client.chat_replies import content_of
from perl_eval.errors import DataError
from perl_eval.records import Completion
from perl_eval.sources.containers import Brought
from perl_eval.sources.formats.batch_requests import FAILED, Sent, asked, joined, named, turn
from perl_eval.sources.reading import Format, Import

__all__ = ["OPENAI_BATCH"]

Cells = Mapping[str, Any]


def _matches(found: Brought) -> bool:
    return found.has("custom_id", "response")


def _read(found: Brought, reading: Import) -> Iterator[Cells]:
    requests = joined(found, reading, _SENT)
    for row, cells in enumerate(found.rows()):
        name = named(cells, _SENT, found.name, row)
        body = _body(cells)
        if body is None:
            reading.left_out[FAILED] += 1
            continue
        turns = asked(requests, name, _SENT, found.name, row)
        for said in _answers(body, found.name, row):
            yield {"messages": turns, "policy": body.get("model"), "item": name, "group": name, **said}


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
            raise DataError("has a choice that is not an object", file=file, row=row, field="response.body.choices")
        said = next((message[name] for name in ("content", "text", "refusal") if message.get(name)), "")
        if isinstance(said, list):  # of thoughts and text, as Mistral's batches have it
            said = content_of({"content": said}).text
        text = [{"role": "assistant", "content": said, "tool_calls": message.get("tool_calls")}]
        yield {"text": text, "finish": choice.get("finish_reason")}


def _spoken(output: list[Any], file: str, row: int) -> str:
    """Return the text of the messages in a response of the Responses API; reasoning is left out."""
    parts = []
    for one in output:
        if not isinstance(one, dict):
            raise DataError("has a part that is not an object", file=file, row=row, field="response.body.output")
        if one.get("type") == "message":
            content = one.get("content")
            content = content if isinstance(content, list) else []
            parts += [str(part.get("text", part.get("refusal", ""))) for part in content if isinstance(part, dict)]
    return "".join(parts)


def _why_ended(body: Cells) -> str | None:
    why = body.get("incomplete_details")
    return "length" if isinstance(why, dict) and why.get("reason") == "max_output_tokens" else None


def _asked(body: Cells, file: str, row: int) -> list[Cells]:
    """Return the turns of a request."""
    if isinstance(body.get("messages"), list):
        return [turn(one, file, row, "body") for one in body["messages"]]
    given = body.get("input", body.get("prompt"))
    turns = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(turns, list):
        raise DataError("has neither messages, input nor prompt", file=file, row=row, field="body")
    opening = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
    return [*opening, *(turn(one, file, row, "body") for one in turns)]


_SENT = Sent("custom_id", "body", _asked)

OPENAI_BATCH = Format(
    "openai-batch",
    Completion,
    "OpenAI's batch output (and vLLM's run-batch), with the file of its requests",
    _matches,
    _read,
    needs="custom_id response",
)
