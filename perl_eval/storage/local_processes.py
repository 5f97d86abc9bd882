"""Independent pieces of work, done by several processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from perl_eval.errors import UserError

__all__ = ["LocalProcesses", "usable_cores"]

Piece = TypeVar("Piece")
Done = TypeVar("Done")
_worker: list[Callable[[Any], Any]] = []
"""In a worker process, what does a piece."""


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _open(open_worker: Callable[[], Callable[[Any], Any]]) -> None:
    """Make ready what does pieces, in a worker process.

    It ends when the process that started it has ended; an interruption is for that one to hear.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    _worker.append(open_worker())


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _do(piece: Any) -> Any:
    return _worker[0](piece)


class LocalProcesses:
    """Does pieces of work in new processes of this machine; a `perl_eval.storage.executor.Executor`.

    Args:
        count: How many, 1 or more. Each imports what it needs anew.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, open_worker: Callable[[], Callable[[Piece], Done]], pieces: Sequence[Piece]) -> Iterator[Done]:
        """Yield the result of every piece, in the order of the pieces.

        Args:
            open_worker: Makes what does a piece; called once a process, in it. It is pickled, and so are pieces and
                results.
            pieces: The pieces.

        Raises:
            PerlEvalError: What the work raised; pieces that were not begun are left.
            UserError: A process was killed.
        """
        if not pieces:
            return
        others = {child.pid for child in multiprocessing.active_children()}
        pool = ProcessPoolExecutor(
            min(self.count, len(pieces)),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_open,
            initargs=(open_worker,),
        )
        cancel = True
        try:
            for piece in [pool.submit(_do, one) for one in pieces]:
                yield piece.result()
        except BrokenProcessPool:
            said = f"one of {self.count} processes was killed or could not start"
            raise UserError(said, "run the same command again, with fewer processes if memory was short") from None
        except KeyboardInterrupt:
            cancel = (
                False  # the pool fails what is left when its processes are gone, and stumbles over what is cancelled
            )
            for child in multiprocessing.active_children():
                if child.pid not in others:
                    child.terminate()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=cancel)
