"""Lists of objects inside the rows of other tools' files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perl_eval.errors import DataError

__all__ = ["parts"]


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
