"""Requests counted where they are sent: one call of a service may send several.

A reply that was cut off is asked for again with more tokens, an option that the server does not take is left out and
the rest sent anew, and what went out on a kept connection that the server had just closed is sent on another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["counting", "sending"]


class _Call:
    """What one call sent so far; ``further`` is told of each request but the first."""

    __slots__ = ("_further", "_sent")

    def __init__(self, further: Callable[[], None]) -> None:
        self._further, self._sent = further, False

    def sends(self) -> None:
        if self._sent:
            self._further()
        self._sent = True


_call: ContextVar[_Call | None] = ContextVar("call", default=None)


@contextmanager
def counting(further: Callable[[], None]) -> Iterator[None]:
    """Have ``further`` called before each request that is sent inside the block, but for the first."""
    token = _call.set(_Call(further))
    try:
        yield
    finally:
        _call.reset(token)


def sending() -> None:
    """Say that a request is sent now, and may reach the server."""
    call = _call.get()
    if call is not None:
        call.sends()
