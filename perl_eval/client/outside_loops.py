"""Work that runs an event loop of its own, wherever it is called from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["inside_a_loop", "outside_loops"]

Result = TypeVar("Result")


def inside_a_loop() -> bool:
    """Say whether this thread runs an event loop, as a notebook's does."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def outside_loops(work: Callable[[], Result]) -> Result:
    """Return what work gives, done in another thread if this one runs a loop: two cannot run in one thread."""
    if not inside_a_loop():
        return work()
    with ThreadPoolExecutor(max_workers=1) as elsewhere:
        return elsewhere.submit(work).result()
