"""JSON as other tools write it: text in which no object has a key twice, and lists of objects inside rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perl_eval.errors import DataError

__all__ = ["DECODER", "RepeatedKeyError", "not_json", "parts"]


class RepeatedKeyError(ValueError):
    """An object of JSON has a key twice, so that one of the two values would be lost.

    Attributes:
        key: The key.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key!r} appears twice in one object")
        self.key = key


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise RepeatedKeyError(next(name for name in names if names.count(name) > 1))
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_once)
"""Decodes JSON; refuses an object that has a key twice."""


def not_json(error: Exception, file: Path, row: int | None = None) -> DataError:
    """Return what is wrong with text that is not JSON, or has a key twice."""
    if isinstance(error, RepeatedKeyError):
        return DataError("appears twice in one object", file=file, row=row, field=error.key, fix="keep one of them")
    return DataError(f"is not JSON ({error})", file=file, row=row)


def parts(value: Any, field: str, source: Path | str, row: int) -> Sequence[Mapping[str, Any]]:
    """Return a list of objects inside a row, the field of that name; nothing counts as an empty one.

    Raises:
        DataError: It is something else.
    """
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        raise DataError("is not a list of JSON objects", file=source, row=row, field=field)
    return value
