"""The wire to a judge's server: HTTP/1.1 over kept-alive asyncio connections, one POST at a time on each.

A judge's request is small and its reply is read whole, so most of what a general client does is not needed; without it
the engine sends several times as many requests a second from a third of the memory (``benchmarks/judge_engine.py``).
Proxies are not spoken to here: `Detour` goes through them with the general client.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Mapping
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from perl_eval.errors import JudgeError, TimedOut

__all__ = ["Answer", "Connection", "Detour", "Wire"]

_LONGEST_HEAD = 1 << 20
_LONGEST_REPLY = 1 << 26
_BROKEN = "the connection broke or could not be made"


class Answer(NamedTuple):
    """What a server sent back: the names of the headers are in lower case."""

    status: int
    headers: dict[str, str]
    content: bytes


class Connection(Protocol):
    """A way to a server."""

    async def post(self, path: str, content: bytes) -> Answer:
        """Send one request and read its whole reply.

        Raises:
            TimedOut: No connection, a broken one, or no reply in time.
            JudgeError: The reply is no HTTP.
        """
        ...

    async def close(self) -> None:
        """Close all connections that are not in use."""
        ...


class _Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class _Stale(Exception):
    """A kept connection was closed by the server before it took the request."""


class Wire:
    """Connections to one server, kept alive and used again, the last one first.

    Args:
        base_url: Its address; paths are put behind it.
        headers: Sent with every request.
        timeout_s: Longest wait for one reply, connecting included.
    """

    def __init__(self, base_url: str, headers: Mapping[str, str], timeout_s: float) -> None:
        parts = urlsplit(base_url)
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._secure else 80)
        self._root = parts.path.rstrip("/")
        fields = {"host": parts.netloc, "accept-encoding": "identity", "connection": "keep-alive", **headers}
        self._fields = "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode("latin-1")
        self._timeout_s = timeout_s
        self._idle: list[_Connection] = []
        self._security: ssl.SSLContext | None = None

    async def post(self, path: str, content: bytes) -> Answer:
        """Send one request and read its whole reply; see `Connection`."""
        start = f"POST {self._root}{path} HTTP/1.1\r\n".encode("ascii")
        request = b"%s%scontent-length: %d\r\n\r\n%s" % (start, self._fields, len(content), content)
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    connection = self._kept()
                    fresh = connection is None
                    if connection is None:
                        connection = await self._connect()
                    try:
                        answer = await self._exchange(connection, request)
                    except BaseException as error:
                        connection.writer.close()
                        if isinstance(error, _Stale) and not fresh:
                            continue
                        raise
                    return answer
        except TimeoutError:
            raise TimedOut(f"no reply within {self._timeout_s:g} s") from None
        except _Stale:
            raise TimedOut(_BROKEN) from None
        except (EOFError, ConnectionError):
            raise TimedOut("the connection broke inside the reply") from None
        except OSError:
            raise TimedOut(_BROKEN) from None
        except (ValueError, asyncio.LimitOverrunError, zlib.error) as error:
            raise JudgeError(f"the reply is broken: {error}") from None

    async def close(self) -> None:
        """Close all connections that are not in use."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.writer.close()
        await asyncio.gather(*(connection.writer.wait_closed() for connection in idle), return_exceptions=True)

    def _kept(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.reader.at_eof() and not connection.writer.is_closing():
                return connection
            connection.writer.close()
        return None

    async def _connect(self) -> _Connection:
        if self._secure and self._security is None:
            import httpx2  # knows where the certificates of this machine are

            self._security = httpx2.create_ssl_context()
        try:
            reader, writer = await asyncio.open_connection(
                self._host, self._port, ssl=self._security, limit=_LONGEST_HEAD
            )
        except OSError as error:  # ssl.SSLError too
            raise TimedOut(_BROKEN if not isinstance(error, ssl.SSLError) else f"no safe connection: {error}") from None
        return _Connection(reader, writer)

    async def _exchange(self, connection: _Connection, request: bytes) -> Answer:
        reader, writer = connection
        try:
            writer.write(request)
            await writer.drain()
            received = await reader.readuntil(b"\r\n\r\n")
        except ConnectionError:
            raise _Stale from None
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            raise _Stale from None
        version, status, headers = _parsed(received)
        content, whole = await _body(reader, status, headers)
        if headers.get("content-encoding") == "gzip":
            content = zlib.decompressobj(wbits=31).decompress(content, _LONGEST_REPLY)
        closing = headers.get("connection", "").lower()
        if whole and closing != "close" and (version != b"HTTP/1.0" or closing == "keep-alive"):
            self._idle.append(connection)
        else:
            writer.close()
        return Answer(status, headers, content)


class Detour:
    """The general client, which finds its way through proxies; as `Wire`, but slower."""

    def __init__(self, base_url: str, headers: Mapping[str, str], timeout_s: float) -> None:
        import httpx2

        self._base_url, self._timeout_s = base_url.rstrip("/"), timeout_s
        self._client = httpx2.AsyncClient(headers=dict(headers), timeout=timeout_s)
        self._failures = httpx2.TransportError

    async def post(self, path: str, content: bytes) -> Answer:
        """Send one request and read its whole reply; see `Connection`."""
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._client.post(f"{self._base_url}{path}", content=content)
        except TimeoutError:
            raise TimedOut(f"no reply within {self._timeout_s:g} s") from None
        except self._failures as error:
            raise TimedOut(f"{_BROKEN} ({type(error).__name__})") from None
        return Answer(response.status_code, dict(response.headers), response.content)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()


def _parsed(head: bytes) -> tuple[bytes, int, dict[str, str]]:
    lines = head[:-4].split(b"\r\n")
    version, status, *_ = lines[0].split(b" ", 2)
    if not version.startswith(b"HTTP/1."):
        raise ValueError("it is no HTTP/1")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise ValueError("a header has no colon")
        headers[name.strip().lower()] = value.strip()
    return version, int(status), headers


async def _body(reader: asyncio.StreamReader, status: int, headers: Mapping[str, str]) -> tuple[bytes, bool]:
    """Return the body, and whether its end was marked, so that the connection can be used again."""
    if status in (204, 304):
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
    return await reader.read(_LONGEST_REPLY), False
