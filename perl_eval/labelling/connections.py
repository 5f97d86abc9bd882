"""Connections of the labelling page: so many, each for so long; who holds one and says nothing makes room.

Uvicorn waits for a request as long as it takes, and takes connections until the process has no files left.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections.abc import Mapping
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["PageServer", "most_connections", "served"]

_MOST = 512
"""Connections at a time."""
_OTHER_FILES = 96
"""Files that the process needs beside them: its own, and connections taken that are not counted yet."""
_AT_ONCE = 16
"""Connections taken before those that were taken are counted."""
_WAITING = 512
"""Connections that the system keeps waiting to be taken."""
_HEADERS_S, _BODY_S, _READING_S = 10.0, 30.0, 60.0
"""Longest that a client takes to send a request's headers, its body, and to read of an answer."""


def most_connections() -> int:
    """Return how many connections there may be, given how many files the process may have."""
    try:
        import resource
    except ModuleNotFoundError:  # not on Windows
        return _MOST
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if files == resource.RLIM_INFINITY else max(8, min(_MOST, files - _OTHER_FILES))


class _Connection(H11Protocol):
    """A connection that ends when a request takes too long to come, or an answer to be read."""

    most = _MOST

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room if there are too many, for whoever came last."""
        super().connection_made(transport)
        self.begun_s = self.loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._waits_for: object = None
        self._expect()
        if len(self.connections) > self.most:
            others = [one for one in self.connections if isinstance(one, _Connection) and one is not self]
            oldest = min(others, key=lambda one: (one.is_served, one.begun_s))
            self.connections.discard(oldest)
            oldest.transport.abort()

    @property
    def is_served(self) -> bool:
        """Whether a request is here as a whole, and its answer is not there yet."""
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._wait_for(None, 0.0)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, and see what is still to come."""
        super().data_received(data)
        self._expect()

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._wait_for("reading", _READING_S)

    def resume_writing(self) -> None:
        """Go on: the client reads."""
        super().resume_writing()
        self._wait_for(None, 0.0)

    def send_400_response(self, msg: str) -> None:
        """Say that this is no request, unless an answer has begun: then just end; nobody else answers any more."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.abort()

    def _expect(self) -> None:
        state = self.conn.their_state
        if state is h11.IDLE:
            self._wait_for(state, _HEADERS_S)
        elif state is h11.SEND_BODY:
            self._wait_for(state, _BODY_S)
        else:
            self._wait_for(None, 0.0)

    def _wait_for(self, what: object, most_s: float) -> None:
        """Wait so long for something; going on to wait for the same gives no more time."""
        if what is self._waits_for:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._waits_for = what
        self._timer = None if what is None else self.loop.call_later(most_s, self.transport.abort)


class PageServer(uvicorn.Server):
    """A server whose log has a line, once, where connections outnumber files; Uvicorn's has a traceback for each."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, let more connections wait than are taken at once, and watch the loop's complaints."""
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(_WAITING)
        asyncio.get_running_loop().set_exception_handler(_Complaints())


class _Complaints:
    """What the event loop complains of; about files, once."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, OSError):
            loop.default_exception_handler(dict(context))
        elif error.errno in (errno.EMFILE, errno.ENFILE) and not self._said:
            self._said = True
            sys.stderr.write("there are more connections than files; some wait\n")


def served(application: Any) -> PageServer:
    """Return a server of an application.

    Args:
        application: An ASGI application.
    """
    connection = type("_Connection", (_Connection,), {"most": most_connections()})
    # Neither tokens nor notes reach a log: requests are not logged at all.
    settings: dict[str, Any] = {"log_level": "error", "access_log": False, "server_header": False, "ws": "none"}
    settings |= {"loop": "asyncio", "http": connection, "backlog": _AT_ONCE, "lifespan": "off"}
    return PageServer(uvicorn.Config(application, **settings))
