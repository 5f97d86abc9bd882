"""A lean HTTP/1.1 transport for the openai client: kept-alive connections over asyncio streams, JSON in, JSON out.

A judge's request is small and its reply is read whole, so most of what a general transport does is not needed; without
it the engine sends several times as many requests a second (``benchmarks/judge_engine.py``). Proxies are not supported:
where one is set for the address, the general transport is used.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import NamedTuple

import httpx2

__all__ = ["LeanTransport"]

_LONGEST_HEAD = 1 << 20
_LONGEST_REPLY = 1 << 26


class _Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class _Place(NamedTuple):
    secure: bool
    host: str
    port: int


class _Stale(Exception):
    """A kept connection was closed by the server before it took the request."""


class LeanTransport(httpx2.AsyncBaseTransport):
    """Connections to a few servers, kept alive and used again, the last one first."""

    def __init__(self) -> None:
        self._idle: dict[_Place, list[_Connection]] = {}
        self._security: ssl.SSLContext | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request and read its whole reply.

        Raises:
            httpx2.TransportError: No connection, a broken one, a reply that is no HTTP, or none in time.
        """
        limits = request.extensions.get("timeout", {})
        place = _place(request)
        content = await request.aread()
        while True:
            connection = self._kept(place)
            fresh = connection is None
            if connection is None:
                connection = await self._connect(place, limits.get("connect"), request)
            try:
                async with asyncio.timeout(limits.get("read")):
                    return await self._exchange(place, connection, request, content)
            except _Stale:
                connection.writer.close()
                if fresh:
                    raise httpx2.RemoteProtocolError("the server closed the connection", request=request) from None
            except TimeoutError:
                connection.writer.close()
                raise httpx2.ReadTimeout("no reply in time", request=request) from None
            except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
                connection.writer.close()
                raise httpx2.RemoteProtocolError(f"the reply is broken: {error}", request=request) from None
            except BaseException:
                connection.writer.close()
                raise

    async def aclose(self) -> None:
        """Close all connections that are not in use."""
        idle = [connection for kept in self._idle.values() for connection in kept]
        self._idle.clear()
        for connection in idle:
            connection.writer.close()
        await asyncio.gather(*(connection.writer.wait_closed() for connection in idle), return_exceptions=True)

    def _kept(self, place: _Place) -> _Connection | None:
        kept = self._idle.get(place, [])
        while kept:
            connection = kept.pop()
            if not connection.reader.at_eof() and not connection.writer.is_closing():
                return connection
            connection.writer.close()
        return None

    async def _connect(self, place: _Place, timeout_s: float | None, request: httpx2.Request) -> _Connection:
        if place.secure and self._security is None:
            self._security = httpx2.create_ssl_context()
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_connection(
                    place.host, place.port, ssl=self._security if place.secure else None, limit=_LONGEST_HEAD
                )
        except TimeoutError:
            raise httpx2.ConnectTimeout("no connection in time", request=request) from None
        except (OSError, ssl.SSLError) as error:
            raise httpx2.ConnectError(str(error), request=request) from None
        return _Connection(reader, writer)

    async def _exchange(
        self, place: _Place, connection: _Connection, request: httpx2.Request, content: bytes
    ) -> httpx2.Response:
        reader, writer = connection
        head = [b"%s %s HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
        head += [b"%s: %s" % (name, value) for name, value in request.headers.raw]
        try:
            writer.write(b"\r\n".join(head) + b"\r\n\r\n" + content)
            await writer.drain()
            received = await reader.readuntil(b"\r\n\r\n")
        except ConnectionError:
            raise _Stale from None
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            raise _Stale from None
        version, status, headers = _parsed(received)
        body, whole = await _body(reader, request.method, status, headers)
        closing = headers.get("connection", "").lower()
        if whole and closing != "close" and (version != b"HTTP/1.0" or closing == "keep-alive"):
            self._idle.setdefault(place, []).append(connection)
        else:
            writer.close()
        return httpx2.Response(status, headers=headers, content=body, request=request)


def _place(request: httpx2.Request) -> _Place:
    secure = request.url.scheme == "https"
    return _Place(secure, request.url.host, request.url.port or (443 if secure else 80))


def _parsed(head: bytes) -> tuple[bytes, int, httpx2.Headers]:
    lines = head[:-4].split(b"\r\n")
    version, status, *_ = lines[0].split(b" ", 2)
    if not version.startswith(b"HTTP/1."):
        raise ValueError("it is no HTTP/1")
    pairs = [line.split(b":", 1) for line in lines[1:]]
    return version, int(status), httpx2.Headers([(name.strip(), value.strip()) for name, value in pairs])


async def _body(reader: asyncio.StreamReader, method: str, status: int, headers: httpx2.Headers) -> tuple[bytes, bool]:
    """Return the body, and whether its end was marked, so that the connection can be used again."""
    if method == "HEAD" or status in (204, 304):
        return b"", True
    if "chunked" in headers.get("transfer-encoding", "").lower():
        parts, total = [], 0
        while size := int((await reader.readuntil(b"\r\n")).split(b";", 1)[0], 16):
            total += size
            if size < 0 or total > _LONGEST_REPLY:
                raise ValueError("it is too long")
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return b"".join(parts), True
    if "content-length" in headers:
        length = int(headers["content-length"])
        if not 0 <= length <= _LONGEST_REPLY:
            raise ValueError("it is too long")
        return await reader.readexactly(length), True
    body = await reader.read(_LONGEST_REPLY)
    return body, False
