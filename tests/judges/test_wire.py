"""The lean transport against servers that frame, break and close their replies in every way."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable

import httpx2
import pytest

from perl_eval.judges.wire import LeanTransport

Reply = Callable[[asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Server:
    """Answers the n-th request with the n-th reply, the last one for ever; a reply of None closes the connection."""

    def __init__(self, *replies: bytes | None) -> None:
        self.replies = list(replies)
        self.connections = 0
        self.requests: list[bytes] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self.answered(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request and say whether the connection stays open."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        self.requests.append(head + await reader.readexactly(length))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if reply is None:
            return False
        writer.write(reply)
        await writer.drain()
        return b"connection: close" not in reply and (b"length" in reply.lower() or b"chunked" in reply)


def exchange(server: Server, times: int = 1, timeout_s: float = 2.0) -> list[httpx2.Response]:
    async def run() -> list[httpx2.Response]:
        listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        async with listening, httpx2.AsyncClient(transport=LeanTransport(), timeout=timeout_s) as client:
            responses = [await client.post(f"http://127.0.0.1:{port}/v1/x?y=1", json={"n": n}) for n in range(times)]
            await client.aclose()
            # Let the server see that its connections are gone.
            await asyncio.sleep(0.01)
            return responses

    return asyncio.run(run())


def test_a_request_is_sent_as_http_and_the_connection_is_used_again() -> None:
    server = Server(OK)
    responses = exchange(server, times=5)
    assert [response.json() for response in responses] == [{}] * 5
    assert server.connections == 1
    assert server.requests[0].startswith(b"POST /v1/x?y=1 HTTP/1.1\r\n")
    assert server.requests[0].endswith(b'{"n":0}')
    assert server.requests[0].lower().count(b"host: 127.0.0.1") == 1


@pytest.mark.parametrize(
    ("reply", "content"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", b"abcde"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\ntrailer: x\r\n\r\n", b"a"),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end"),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nold", b"old"),
        (b"HTTP/1.1 200\r\nContent-Length:4\r\nX:\r\n\r\nbare", b"bare"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%s"
            % (len(gzip.compress(b"small", mtime=0)), gzip.compress(b"small", mtime=0)),
            b"small",
        ),
    ],
    ids=["chunked", "trailer", "to the end", "http 1.0", "odd head", "gzip"],
)
def test_replies_are_read_however_they_are_framed(reply: bytes, content: bytes) -> None:
    (first, second) = exchange(Server(reply), times=2)
    assert first.content == second.content == content


def test_status_and_headers_come_through() -> None:
    (response,) = exchange(Server(b"HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n"))
    assert (response.status_code, response.headers["Retry-After"]) == (429, "7")


def test_a_kept_connection_that_the_server_closed_is_replaced() -> None:
    server = Server(OK, None, OK)
    responses = exchange(server, times=2)
    assert [response.status_code for response in responses] == [200, 200]
    assert server.connections == 2


def test_a_server_that_wants_to_close_is_let_go() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
    exchange(server, times=3)
    assert server.connections == 3


@pytest.mark.parametrize(
    "reply",
    [
        None,
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 two OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    ],
    ids=["nothing", "half", "half head", "no http", "no status", "negative", "endless", "no size", "minus", "no colon"],
)
def test_broken_replies_are_transport_errors(reply: bytes | None) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        exchange(Server(reply))


def test_a_reply_that_does_not_come_times_out() -> None:
    with pytest.raises(httpx2.ReadTimeout):
        exchange(Server(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhal"), timeout_s=0.1)


def test_a_server_that_is_not_there_cannot_be_connected() -> None:
    async def run() -> None:
        async with httpx2.AsyncClient(transport=LeanTransport(), timeout=1.0) as client:
            await client.post("http://127.0.0.1:9/")

    with pytest.raises(httpx2.ConnectError):
        asyncio.run(run())


def test_a_cancelled_request_does_not_leave_its_reply_to_the_next() -> None:
    async def run() -> tuple[bytes, int]:
        server = Server(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst")
        held = asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                if not held.is_set():
                    held.set()
                    await asyncio.sleep(0.02)
                await server.connected(reader, writer)
            finally:
                writer.close()

        listening = await asyncio.start_server(slow, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        async with listening, httpx2.AsyncClient(transport=LeanTransport(), timeout=2.0) as client:
            first = asyncio.create_task(client.post(f"http://127.0.0.1:{port}/", json={}))
            await held.wait()
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            server.replies = [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond"]
            content = (await client.post(f"http://127.0.0.1:{port}/", json={})).content
            await client.aclose()
            await asyncio.sleep(0.05)
            return content, server.connections

    content, connections = asyncio.run(run())
    assert content == b"second"
    assert connections == 2
