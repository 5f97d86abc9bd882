"""Putting replies on the disk while others are on their way: a reply counts once the disk has it.

Replies are committed to the ledger together, at most ``_FLUSH_S`` after the first of them came, so a kill loses no more
than that; the disk is waited for in another thread, however long it takes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine

from perl_eval.client.ledger import Answering, Ledger
from perl_eval.client.reply import Reply

__all__ = ["LedgerWrites"]

_FLUSH_S = 0.25
_FLUSH_ROWS = 1024


class LedgerWrites:
    """Replies that are not on the disk yet.

    Args:
        who: Who gave them.
        ledger: Where they go.
        landed: Told of each reply that counts, once it is on the disk.
        finished: Told of each task that ended, however it did.
    """

    def __init__(
        self,
        who: Answering,
        ledger: Ledger,
        landed: Callable[[bytes, Reply], None],
        finished: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._who, self._ledger, self._landed, self._finished = who, ledger, landed, finished
        self._fresh: list[tuple[bytes, Reply]] = []
        self._since_s = 0.0
        self._refused: list[tuple[bytes, str]] = []
        self._committed: list[tuple[bytes, Reply]] = []
        self._flusher: asyncio.Task[None] | None = None
        self._syncer: asyncio.Task[None] | None = None

    def add(self, key: bytes, reply: Reply) -> None:
        """Keep a reply."""
        self._fresh.append((key, reply))
        if len(self._fresh) == 1:
            self._since_s = time.monotonic()
        # Who answers may hold the loop up, so that no timer runs: then it is the replies that tell the time.
        if len(self._fresh) >= _FLUSH_ROWS or time.monotonic() - self._since_s >= _FLUSH_S:
            self._flush()
        elif self._flusher is None or self._flusher.done():
            self.flush_after(_FLUSH_S)

    def refuse(self, key: bytes, reason: str) -> None:
        """Keep that a request was refused for good; it goes out with the next replies.

        A server that answers nobody refuses everybody for a reason of its own, so without a reply none is kept.
        """
        self._refused.append((key, reason))

    def flush_after(self, wait_s: float) -> None:
        """Commit what came back, in so many seconds."""
        if not self._fresh:
            return

        async def flush() -> None:
            await asyncio.sleep(wait_s)
            self._flush()

        if self._flusher is not None:
            self._flusher.cancel()
        self._flusher = self._started(flush())

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return what is under way."""
        return [task for task in (self._flusher, self._syncer) if task is not None]

    def end(self, *, answered: bool) -> None:
        """Put the rest on the disk, at once; refusals only if somebody was answered."""
        if answered and self._refused:
            self._ledger.refuse(self._refused)
        if self._fresh:
            self._ledger.add(self._who, self._fresh)
        self._fresh, self._refused = [], []

    def _started(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._finished)
        return task

    def _flush(self) -> None:
        """Commit what came back."""
        if not self._fresh:
            return
        if self._refused:
            self._ledger.refuse(self._refused)
            self._refused = []
        fresh, self._fresh = self._fresh, []
        earlier = self._ledger.commit(self._who, fresh)
        # Another process may have been faster with the same question: what is kept is what counts.
        self._committed += [(key, earlier.get(key, reply)) for key, reply in fresh]
        if self._syncer is None or self._syncer.done():
            self._syncer = self._started(self._settle())

    async def _settle(self) -> None:
        """Let what was committed count once the disk has it."""
        while self._committed:
            committed, self._committed = self._committed, []
            await asyncio.to_thread(self._ledger.sync)
            for key, reply in committed:
                self._landed(key, reply)
