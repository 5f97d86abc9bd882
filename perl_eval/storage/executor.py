"""Where independent pieces of work are done: in this process, or wherever a caller has workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

__all__ = ["Executor", "here"]

Piece = TypeVar("Piece")
Done = TypeVar("Done")


class Executor(Protocol):
    """Does pieces of work that know nothing of one another."""

    def __call__(self, open_worker: Callable[[], Callable[[Piece], Done]], pieces: Sequence[Piece]) -> Iterator[Done]:
        """Yield the result of every piece, in the order of the pieces.

        Args:
            open_worker: Makes what does a piece; called once a worker, in the worker. It can be sent to another
                process, and so can the pieces and the results.
            pieces: The pieces. A piece may be done twice, when its worker dies; it comes back once.

        Raises:
            PerlEvalError: What the work raised.
        """
        ...


def here(open_worker: Callable[[], Callable[[Piece], Done]], pieces: Sequence[Piece]) -> Iterator[Done]:
    """Do the pieces one after the other, in this process; see `Executor`.

    The worker is opened at once: what is wrong with it is said before a progress bar stands there.
    """
    return map(open_worker(), pieces) if pieces else iter(())
