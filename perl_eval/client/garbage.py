"""Looking for cyclic garbage less often while objects are made by the thousand."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["seldom_collected"]

_OBJECTS = 50_000
"""Objects made since the last look, at least: Python's own number is 700, and most of what is made here lives on."""


@contextlib.contextmanager
def seldom_collected() -> Iterator[None]:
    """Have Python look for garbage that refers to itself after some ten thousand objects, not after some hundred.

    Each look goes through all that was made since and lives on, such as the requests that wait for their answers.
    """
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], _OBJECTS) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
