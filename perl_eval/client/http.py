"""The transport to a model server: one POST, its whole reply, over connections that are kept and used again.

It is aiohttp's client with three bounds of our own: a reply has a largest size, redirects are reported and not
followed, and a connection on which more than the one reply came is not used again: the spare reply would answer the
next request.
"""

from __future__ import annotations

import select
import urllib.request
import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from perl_eval.client.refusals import Answer
from perl_eval.client.sent_requests import sending
from perl_eval.client.usage import BYTES_A_TOKEN
from perl_eval.errors import JudgeError, TimedOut, UserError

__all__ = ["Transport"]

_LONGEST_LINE = 1 << 16
_LONGEST_REPLY = 1 << 26
_POLLS = hasattr(select, "poll")
_BROKEN = "the connection broke or could not be made"


class _Trip:
    """What is known of the request on its way.

    Attributes:
        reused: Whether it is sent on a connection that another was sent on before.
        sent: Whether it reached a server.
        came: Bytes that came to it of a reply that says success; None before there is one.
    """

    __slots__ = ("came", "reused", "sent")

    def __init__(self) -> None:
        self.reused = self.sent = False
        self.came: int | None = None


_trip: ContextVar[_Trip] = ContextVar("trip")

_used: weakref.WeakSet[Any] = weakref.WeakSet()
"""Connections that something was sent on."""


class _SpoiltError(aiohttp.ClientConnectionError):
    """More than the one reply came on a kept connection; nothing was sent on it."""


class _Request(aiohttp.ClientRequest):
    """A request that looks at its connection before it is sent."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Send the request, unless more than the reply before came on this connection."""
        protocol = conn.protocol
        if protocol is not None and protocol.should_close:
            raise _SpoiltError
        trip = _trip.get()
        trip.reused = protocol in _used
        if not trip.reused:
            _used.add(protocol)
        elif _waits(conn):
            raise _SpoiltError
        trip.sent = True
        sending()
        return await super().send(conn)


def _waits(connection: Connection) -> bool:
    """Say whether something came on a kept connection that nobody has read yet, as when the loop was busy."""
    transport = connection.transport
    socket = None if transport is None else transport.get_extra_info("socket")
    if socket is None:
        return False
    if not _POLLS:
        return bool(select.select([socket], [], [], 0.0)[0])
    ready = select.poll()
    ready.register(socket.fileno(), select.POLLIN)
    return bool(ready.poll(0))


class Transport:
    """Connections to one server, kept alive and used again.

    Proxies are those of the environment, certificates those of this machine; compressed replies are unpacked.

    Args:
        base_url: Its address; paths are put behind it.
        headers: Sent with every request.
        timeout_s: Longest wait for one reply, connecting included.
    """

    def __init__(self, base_url: str, headers: Mapping[str, str], timeout_s: float) -> None:
        self._base_url, self._headers, self._timeout_s = base_url.rstrip("/"), dict(headers), timeout_s
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}

    async def post(self, path: str, content: bytes) -> Answer:
        """Send one request and read its whole reply.

        What was sent and had no end, or broke inside a reply that says success, may have to be paid. The error's
        ``paid`` then says so: with a token for four bytes that came, or without a count where nothing tells one.

        Raises:
            TimedOut: No connection, a broken one, or no reply in time.
            JudgeError: The reply is not HTTP, or too long.
            UserError: The address, or a proxy's, is none.
        """
        trip = _Trip()
        _trip.set(trip)
        try:
            return await self._post(path, content, trip)
        except TimeoutError:
            late = TimedOut(f"no reply within {self._timeout_s:g} s")
            late.paid = ((None, None),) if trip.sent else None
            raise late from None
        except JudgeError as error:
            raise _owed(error, trip) from None
        except (aiohttp.ClientConnectorSSLError, aiohttp.ClientConnectorCertificateError) as error:
            raise TimedOut(f"no safe connection ({type(error).__name__})") from None
        except aiohttp.InvalidURL:
            raise UserError("the server's address, or the proxy's, is not valid", "give an http address") from None
        except aiohttp.ClientHttpProxyError as error:
            raise TimedOut(f"the proxy answered {error.status}") from None
        except aiohttp.ClientPayloadError as error:
            if isinstance(error.__cause__, aiohttp.http_exceptions.PayloadEncodingError) and not isinstance(
                error.__cause__, (aiohttp.http_exceptions.ContentLengthError)
            ):
                raise _owed(JudgeError("the reply is broken"), trip) from None
            raise _owed(TimedOut("the connection broke inside the reply"), trip) from None
        except aiohttp.ClientResponseError:
            # What was wrong with it is not said: servers send keys back.
            raise JudgeError("the reply is not HTTP") from None
        except (aiohttp.ClientError, OSError):
            raise TimedOut(_BROKEN) from None

    async def close(self) -> None:
        """Close all connections; the next request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _post(self, path: str, content: bytes, trip: _Trip) -> Answer:
        if self._session is None:
            self._session = self._opened()
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = _address(f"{self._base_url}{path}")
        while True:
            trip.reused = False
            try:
                async with self._session.post(url, data=content, allow_redirects=False) as response:
                    if 200 <= response.status < 300:
                        trip.came = 0
                    body = await _body(response, trip)
                    headers = {name.lower(): value for name, value in response.headers.items()}
                    return Answer(response.status, headers, body)
            except _SpoiltError:
                continue
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # A kept connection that the server had closed before it took the request.
                if not trip.reused:
                    raise

    def _opened(self) -> aiohttp.ClientSession:
        secure = self._base_url.startswith("https:")
        if secure:
            import httpx2  # knows where the certificates of this machine are

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=httpx2.create_ssl_context() if secure else True),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            proxy=_proxy(self._base_url),
            cookie_jar=aiohttp.DummyCookieJar(),
            request_class=_Request,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
        )


def _address(text: str) -> URL:
    try:
        return URL(text)
    except ValueError:
        raise UserError("the server's address is not valid", "give an http address") from None


def _proxy(base_url: str) -> str | None:
    """Return the proxy that the environment names for an address, if it does."""
    address = _address(base_url)
    proxy = urllib.request.getproxies().get(address.scheme)
    if proxy is None or urllib.request.proxy_bypass(address.host or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


async def _body(response: aiohttp.ClientResponse, trip: _Trip) -> bytes:
    """Read a body of bounded size."""
    if (response.content_length or 0) > _LONGEST_REPLY:
        raise _too_long(response)
    parts: list[bytes] = []
    total = 0
    while part := await response.content.readany():
        parts.append(part)
        total += len(part)
        if trip.came is not None:
            trip.came = total
        if total > _LONGEST_REPLY:
            raise _too_long(response)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _owed(error: JudgeError, trip: _Trip) -> JudgeError:
    """Note in an error what came of a reply that says success, if there was one."""
    error.paid = None if trip.came is None else ((None, trip.came // BYTES_A_TOKEN),)
    return error


def _too_long(response: aiohttp.ClientResponse) -> JudgeError:
    response.close()
    return JudgeError("the reply is too long")
