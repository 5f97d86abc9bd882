"""JSON files of other tools, read so that an error names the row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perl_eval.errors import DataError

__all__ = ["json_lines", "objects", "parts", "utf_8"]


@contextmanager
def utf_8(source: Path) -> Iterator[None]:
    """Say of a file that its text is of another encoding, where that comes to light within the block.

    Raises:
        DataError: It is.
    """
    try:
        yield
    except UnicodeDecodeError:
        raise DataError("is not UTF-8", file=source, fix="save it as UTF-8") from None


def _json(source: Path) -> Any:
    try:
        with utf_8(source):
            return json.loads(source.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({error})", file=source) from None


def json_lines(source: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a JSON lines file; an empty line is skipped."""
    with utf_8(source), source.open(encoding="utf-8") as handle:
        for row, line in enumerate(handle):
            if not line.strip():
                continue
            try:
                found = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"is not JSON ({error})", file=source, row=row) from None
            if not isinstance(found, dict):
                raise DataError("is not a JSON object", file=source, row=row)
            yield found


def objects(source: Path) -> Sequence[Mapping[str, Any]]:
    """Return the objects of a JSON array, or of JSON lines."""
    if source.suffix in (".jsonl", ".ndjson"):
        return list(json_lines(source))
    found = _json(source)
    if not isinstance(found, list) or not all(isinstance(part, dict) for part in found):
        raise DataError("is not a list of JSON objects", file=source)
    return found


def parts(value: Any, what: str, source: Path | str, row: int) -> Sequence[Mapping[str, Any]]:
    """Return a list of objects inside a row; nothing counts as an empty one.

    Raises:
        DataError: It is something else.
    """
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        raise DataError(f"{what} is not a list of JSON objects", file=source, row=row)
    return value
