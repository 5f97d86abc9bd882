"""Work of this machine's own beside the event loop: one piece after the other, in a thread of its own.

A model that computes in the loop keeps it from everything else: replies that came are not committed, bars stand still.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["OneWorker"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class OneWorker:
    """A thread that does what it is given in that order; there is none until there is work."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._stopped = threading.Event()

    async def do(self, work: Callable[[], Iterator[Result]]) -> list[Result]:
        """Collect what a generator yields, in the thread; between two results it can be stopped."""
        if self._pool is None:
            self._pool, self._stopped = ThreadPoolExecutor(max_workers=1), threading.Event()
        stopped = self._stopped

        def collected() -> list[Result]:
            found: list[Result] = []
            for one in work():
                found.append(one)
                if stopped.is_set():
                    break
            return found

        return await asyncio.get_running_loop().run_in_executor(self._pool, collected)

    def stop(self) -> None:
        """Drop what has not begun, and end what has at the next result; more may be given later."""
        if self._pool is not None:
            self._stopped.set()
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
