"""The dialogs of Taskmaster-3 and Taskmaster-4 as messages; each corpus notes its API calls in a way of its own.

Taskmaster-4 flattens them into an utterance's ``annotations``, requests and responses as JSON text. Taskmaster-3 has
``apis``, a list of objects; its form is that of upstream's README, at the commit pinned in `taskmaster`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from datasets_builders import reading
from datasets_builders.errors import DataError
from datasets_builders.features import message, tool_call

if TYPE_CHECKING:
    from datasets_builders.builder import Part
    from datasets_builders.tally import Tally

__all__ = ["opening_of", "turns_of"]

_DIALOG_KEYS = frozenset({"conversation_id", "vertical", "scenario", "instructions", "utterances"})
_UTTERANCE_KEYS = frozenset({"index", "speaker", "text"})
_NOTED: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "TM-3-2020": (frozenset(), frozenset({"segments", "apis"})),
    "TM-4-2024": (frozenset({"segments", "annotations"}), frozenset()),
}
"""What an utterance of a corpus must and may have besides."""
_ANNOTATION_KEYS = frozenset({"name", "value", "context"})
_CALL_KEYS = frozenset({"api_call", "api_response", "response"})
_API_KEYS = frozenset({"name", "args"})
_DOUBLED_QUOTE = re.compile(r'""(?=\w)|(?<=\w)""')

Row = dict[str, Any]


def opening_of(record: Any, part: Part, row: int) -> str:
    """Return the text of a dialog's first turn.

    Raises:
        DataError: It is no dialog, or has no turn.
    """
    reading.check_keys(record, _DIALOG_KEYS, file=part.name, row=row)
    if not record["utterances"]:
        raise DataError("a dialog without turns", part.name, row, "utterances")
    return str(record["utterances"][0]["text"])


def turns_of(record: Row, part: Part, row: int, tally: Tally) -> list[Row]:
    """Return a dialog's messages; the API calls noted at a turn follow it, each with its response.

    Raises:
        DataError: It is not of its corpus' form.
    """
    must, may = _NOTED[part.name.split("/")[0]]
    said = []
    for utterance in record["utterances"]:
        reading.check_keys(
            utterance, _UTTERANCE_KEYS | must, optional=may, file=part.name, row=row, within="utterances"
        )
        if utterance["speaker"] not in ("user", "assistant"):
            raise DataError(f"unknown speaker {utterance['speaker']!r}", part.name, row, "utterances")
        said.append(message(utterance["speaker"], utterance["text"]))
        said += _annotated(utterance.get("annotations") or (), part, row, tally)
        for api in utterance.get("apis") or ():
            said += _api(api, part, row)
    return said


def _api(api: Any, part: Part, row: int) -> Iterator[Row]:
    """Yield one call as Taskmaster-3 has it, and its response if it has one."""
    reading.check_keys(api, _API_KEYS, optional={"index", "response"}, file=part.name, row=row, within="apis")
    if not isinstance(api["args"], dict):
        raise DataError(f"arguments of {api['name']!r} are not an object", part.name, row, "apis")
    yield message("assistant", "", tool_calls=[tool_call(api["name"], api["args"])])
    if "response" in api:
        yield message("tool", json.dumps(api["response"], ensure_ascii=False), name=api["name"])


def _annotated(annotations: Sequence[Row], part: Part, row: int, tally: Tally) -> Iterator[Row]:
    """Yield the calls as Taskmaster-4 has them, each with its response."""
    for call in _calls(annotations, part, row):
        arguments = _mended(call.get("request", "{}"), part, row, tally)
        if not isinstance(arguments, dict):
            raise DataError(f"arguments of {call['api_call']!r} are not an object", part.name, row, "annotations")
        response = _mended(call["response"], part, row, tally)
        yield message("assistant", "", tool_calls=[tool_call(call["api_call"], arguments)])
        yield message("tool", json.dumps(response, ensure_ascii=False), name=call["api_response"])


def _calls(annotations: Sequence[Row], part: Part, row: int) -> list[dict[str, str]]:
    """Return annotations gathered by call: api_call, request (may be missing), api_response, response."""
    calls: list[dict[str, str]] = []
    for annotation in annotations:
        reading.check_keys(annotation, _ANNOTATION_KEYS, file=part.name, row=row, within="annotations")
        if annotation["name"] == "api_call":
            calls.append({})
        if not calls or annotation["name"] in calls[-1]:
            raise DataError(f"{annotation['name']!r} belongs to no call", part.name, row, "annotations")
        calls[-1][annotation["name"]] = annotation["value"]
    for call in calls:
        reading.check_keys(call, _CALL_KEYS, optional={"request"}, file=part.name, row=row, within="annotations")
    return calls


def _mended(text: str, part: Part, row: int, tally: Tally) -> Any:
    """Parse the JSON of a request or response; upstream doubled some quotes (``""latte-4968""``)."""
    try:
        return json.loads(text, strict=False)
    except ValueError:
        tally.note("doubled quotes in an API call mended", file=part.name, row=row)
    try:
        return json.loads(_DOUBLED_QUOTE.sub('"', text), strict=False)
    except ValueError as error:
        raise DataError(f"is not JSON ({error})", part.name, row, "annotations") from None
