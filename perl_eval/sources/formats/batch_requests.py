"""The requests of a batch, to which its answers are joined: in the file that was sent, given or lying beside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from perl_eval.errors import DataError, UserError
from perl_eval.sources.containers import Brought, opened
from perl_eval.sources.reading import Import, cell

__all__ = ["FAILED", "Sent", "asked", "joined", "named", "turn"]

FAILED = "requests that failed"
"""Why a row of results gives no answer."""
_SIBLINGS = 50
_ENDINGS = (".jsonl", ".json")
Cells = Mapping[str, Any]
Turns = list[Cells]


class Sent(NamedTuple):
    """How one maker's file of requests is laid out.

    Attributes:
        name: The field that names a request, in requests and results.
        body: The field that holds the request itself.
        turns: Returns the turns of a request, given its body, the file and the row; it raises DataError.
        within: The field of a JSON document that lists the requests, if the maker has such documents.
    """

    name: str
    body: str
    turns: Callable[[Cells, str, int], Turns]
    within: str = ""


def named(cells: Cells, sent: Sent, file: str, row: int) -> str:
    """Return which request a row is about.

    Raises:
        DataError: It does not say so.
    """
    return str(cell(cells, sent.name, (str, int), file, row))


def joined(found: Brought, reading: Import, sent: Sent) -> Mapping[str, Turns]:
    """Read the turns of the requests by their names: from the file that was given, or the one that lies beside.

    Raises:
        DataError: There is no file of requests, a request in it is none, or two different ones have one name.
    """
    file = reading.requests or _beside(found, sent)
    if file is None:
        raise DataError(
            "keeps answers without their requests, and no file of them lies beside",
            file=found.name,
            fix="give it with --requests",
        )
    turns: dict[str, Turns] = {}
    for row, cells in enumerate(_rows(opened(file), sent)):
        name = named(cells, sent, str(file), row)
        own = sent.turns(cell(cells, sent.body, dict, str(file), row), str(file), row)
        if turns.setdefault(name, own) != own:
            what = f"{name!r} names two different requests"
            raise DataError(what, file=file, row=row, field=sent.name, fix="give each its own name")
    return turns


def asked(turns: Mapping[str, Turns], name: str, sent: Sent, file: str, row: int) -> Turns:
    """Return the turns of the request that a row answers.

    Raises:
        DataError: No request has that name.
    """
    if name not in turns:
        raise DataError(f"{name!r} is in no request", file=file, row=row, field=sent.name)
    return turns[name]


def turn(given: Any, file: str, row: int, field: str) -> Cells:
    """Return a turn with parts as they are called here.

    Raises:
        DataError: It has no role, or a part that is not text.
    """
    if not isinstance(given, dict) or "role" not in given:
        raise DataError("has a turn without a role", file=file, row=row, field=field)
    content = given.get("content")
    if isinstance(content, list):
        content = [_part(part, file, row, field) for part in content]
    return {"role": given["role"], "content": content, "tool_calls": given.get("tool_calls")}


def _part(part: Any, file: str, row: int, field: str) -> Cells:
    if not isinstance(part, dict) or not isinstance(part.get("text"), str):
        kind = part.get("type") if isinstance(part, dict) else part
        raise DataError(f"has a part of type {kind!r}, and only text is read", file=file, row=row, field=field)
    return {"type": "text", "text": part["text"]}


def _rows(found: Brought, sent: Sent) -> Iterator[Cells]:
    """Yield the requests of a file: its rows, or what a document lists."""
    if found.document is None or not sent.within or sent.within not in found.document:
        yield from found.rows()
        return
    listed = found.document[sent.within]
    for row, cells in enumerate(listed if isinstance(listed, list) else [listed]):
        if not isinstance(cells, dict):
            raise DataError("is not a JSON object", file=found.name, row=row, field=sent.within)
        yield cells


def _beside(found: Brought, sent: Sent) -> Path | None:
    """Return the file in the same folder that asks for most of what the first rows answer."""
    if found.path is None:
        return None
    own = found.path.resolve()
    names = {str(cells.get(sent.name)) for cells in found.head}
    files = (path for path in sorted(own.parent.iterdir()) if path.suffix in _ENDINGS and path != own)
    shared = {path: len(names & _names_in(path, sent)) for path in islice(files, _SIBLINGS)}
    best = max(shared, key=lambda path: shared[path], default=None)
    return best if best and shared[best] else None


def _names_in(path: Path, sent: Sent) -> set[str]:
    """Return the names of the requests in a file; none if it is not a file of requests, or cannot be read."""
    try:
        other = opened(path)
        if not other.has(sent.name, sent.body) and not (sent.within and other.has(sent.within)):
            return set()
        return {str(cells.get(sent.name)) for cells in _rows(other, sent)}
    except (UserError, OSError):
        return set()
