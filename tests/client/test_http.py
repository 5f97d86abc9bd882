"""The wire against servers that frame, break and close their replies in every way."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import threading
from collections.abc import Awaitable, Callable

import pytest

from perl_eval.client.endpoint import Endpoint
from perl_eval.client.http import Transport
from perl_eval.client.refusals import Answer
from perl_eval.errors import JudgeError, TimedOut, UserError

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


HEADERS = {"authorization": "Bearer x", "content-type": "application/json"}


def exchange(server: Server, times: int = 1, timeout_s: float = 2.0) -> list[Answer]:
    async def run() -> list[Answer]:
        listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        async with listening:
            line = Transport(f"http://127.0.0.1:{port}/v1/", HEADERS, timeout_s)
            try:
                return [await line.post("/x", b'{"n":%d}' % number) for number in range(times)]
            finally:
                await line.close()
                # Let the server see that its connections are gone.
                await asyncio.sleep(0.01)

    return asyncio.run(run())


def test_a_request_is_sent_as_http_and_the_connection_is_used_again() -> None:
    server = Server(OK)
    assert exchange(server, times=5) == [Answer(200, {"content-length": "2"}, b"{}")] * 5
    assert server.connections == 1
    assert server.requests[0].startswith(b"POST /v1/x HTTP/1.1\r\n")
    assert b"authorization: Bearer x\r\n" in server.requests[0]
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
    (response,) = exchange(Server(b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\ncontent-length: 0\r\n\r\n"))
    assert (response.status, response.headers["retry-after"]) == (429, "7")


def test_a_kept_connection_that_the_server_closed_is_replaced() -> None:
    server = Server(OK, None, OK)
    responses = exchange(server, times=2)
    assert [response.status for response in responses] == [200, 200]
    assert server.connections == 2


def test_a_server_that_wants_to_close_is_let_go() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
    exchange(server, times=3)
    assert server.connections == 3


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (None, TimedOut),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 10\r\n\r\nhalf", TimedOut),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\n", TimedOut),
        (b"SSH-2.0-OpenSSH\r\n\r\n", JudgeError),
        (b"HTTP/1.1 two OK\r\n\r\n", JudgeError),
        (b"HTTP/1.1\r\n\r\n", JudgeError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", JudgeError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", JudgeError),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", JudgeError),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-5\r\n", JudgeError),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", JudgeError),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}", JudgeError),
    ],
    ids=[
        *("nothing", "half", "half head", "no http", "no status", "bare", "negative", "endless", "no size", "minus"),
        *("no colon", "no gzip"),
    ],
)
def test_broken_replies_are_errors_of_the_judge(reply: bytes | None, error: type[JudgeError]) -> None:
    with pytest.raises(error) as caught:
        exchange(Server(reply))
    assert type(caught.value) is error


def test_a_reply_that_does_not_come_times_out() -> None:
    with pytest.raises(TimedOut, match=r"no reply within 0\.1 s"):
        exchange(Server(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhal"), timeout_s=0.1)


@pytest.mark.parametrize(
    ("reply", "paid"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\nconnection: close\r\n\r\n" + b"x" * 40, ((None, 10),)),
        (b"HTTP/1.1 500 NO\r\ncontent-length: 90\r\nconnection: close\r\n\r\n" + b"x" * 40, None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n" + b"x" * 40, ((None, None),)),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n" + b"x" * 40, ((None, 10),)),
        (b" ", None),
        (None, None),
    ],
)
def test_what_may_be_paid_is_said(reply: bytes | None, paid: object) -> None:
    async def run() -> object:
        server = Server(reply)
        listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
        async with listening:
            port = listening.sockets[0].getsockname()[1]
            endpoint = Endpoint(f"http://127.0.0.1:{port}/v1", "NO_SUCH_KEY", 0.5, None, None)
            try:
                await endpoint.post("/x", {})
            except JudgeError as error:
                return error.paid
            finally:
                await endpoint.close()
                await asyncio.sleep(0.01)

    assert asyncio.run(run()) == paid


def test_a_request_that_nobody_answers_may_be_paid_and_one_that_nobody_took_not() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def run(*, there: bool) -> object:
        listening = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        if not there:
            listening.close()
        endpoint = Endpoint(f"http://127.0.0.1:{port}/v1", "NO_SUCH_KEY", 0.3, None, None)
        try:
            await endpoint.post("/x", {})
        except TimedOut as error:
            return error.paid
        finally:
            await endpoint.close()
            listening.close()
            await asyncio.sleep(0.01)

    assert asyncio.run(run(there=True)) == ((None, None),)
    assert asyncio.run(run(there=False)) is None


def test_a_server_that_is_not_there_cannot_be_connected() -> None:
    async def run() -> None:
        line = Transport("http://127.0.0.1:9/v1", HEADERS, 1.0)
        try:
            await line.post("/x", b"{}")
        finally:
            await line.close()

    with pytest.raises(TimedOut, match="could not be made"):
        asyncio.run(run())


def test_a_server_that_speaks_no_tls_is_no_safe_connection() -> None:
    async def run() -> None:
        server = Server(OK)
        listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
        async with listening:
            line = Transport(f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1", HEADERS, 1.0)
            try:
                await line.post("/x", b"{}")
            finally:
                await line.close()

    with pytest.raises(TimedOut):
        asyncio.run(run())


def test_a_proxy_is_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(OK)

    async def run() -> object:
        listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with listening:
            endpoint = Endpoint("http://judge.invalid/v1", "NO_SUCH_KEY", 2.0, None, None)
            try:
                return (await endpoint.post("/x", {"n": 1})).content
            finally:
                await endpoint.close()
                await asyncio.sleep(0.01)

    assert asyncio.run(run()) == {}
    assert server.requests[0].startswith(b"POST http://judge.invalid/v1/x HTTP/1.1\r\n")


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
        async with listening:
            line = Transport(f"http://127.0.0.1:{port}", HEADERS, 2.0)
            first = asyncio.create_task(line.post("/", b"{}"))
            await held.wait()
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            server.replies = [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond"]
            content = (await line.post("/", b"{}")).content
            await line.close()
            await asyncio.sleep(0.05)
            return content, server.connections

    content, connections = asyncio.run(run())
    assert content == b"second"
    assert connections == 2


def numbered(number: int, content: bytes = b"") -> bytes:
    body = content or b"reply %d" % number
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize("pause_s", [(0.0, 0.0), (0.02, 0.0), (0.0, 0.02), (0.02, 0.02)])
@pytest.mark.parametrize("cut", [0, 20, -1], ids=["whole", "in the head", "in the body"])
def test_a_spare_reply_answers_no_other_request(pause_s: tuple[float, float], cut: int) -> None:
    """Each reply is sent twice, in one piece or several; between two requests there is time for all of them to come."""

    async def run() -> list[bytes]:
        number = 0

        async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal number
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    await reader.readexactly(
                        next(int(line[15:]) for line in head.lower().split(b"\r\n") if b"t-length:" in line)
                    )
                    number += 1
                    both = numbered(number) * 2
                    place = len(both) // 2 + cut
                    for piece, wait_s in ((both[:place], pause_s[0]), (both[place:], pause_s[1])):
                        writer.write(piece)
                        await writer.drain()
                        await asyncio.sleep(wait_s)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        listening = await asyncio.start_server(twice, "127.0.0.1", 0)
        async with listening:
            line = Transport(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", HEADERS, 30.0)
            contents = []
            for _ in range(6):
                contents.append((await line.post("/", b"{}")).content)
                await asyncio.sleep(0.06)
            await line.close()
            await asyncio.sleep(0.01)
        return contents

    assert asyncio.run(run()) == [b"reply %d" % number for number in range(1, 7)]


def test_a_spare_reply_that_comes_while_the_loop_is_busy_answers_no_other_request() -> None:
    """Nothing has read the spare reply when the next request is about to be sent."""
    spare_sent, numbers = threading.Event(), iter(range(1, 9))

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(ConnectionError), connection:
            while connection.recv(4096):
                reply = numbered(next(numbers))
                connection.sendall(reply)
                asked_again.wait(9.0)
                connection.sendall(reply)
                spare_sent.set()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=[listening.accept()[0]], daemon=True).start()

    async def run() -> list[bytes]:
        line = Transport(f"http://127.0.0.1:{listening.getsockname()[1]}", HEADERS, 9.0)
        contents = [(await line.post("/", b"{}")).content]
        asked_again.set()
        spare_sent.wait(9.0)  # the loop stands still
        contents.append((await line.post("/", b"{}")).content)
        await line.close()
        return contents

    asked_again = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        assert asyncio.run(run()) == [b"reply 1", b"reply 2"]


def test_a_reply_that_says_go_on_first_is_read() -> None:
    (answer,) = exchange(Server(b"HTTP/1.1 100 Continue\r\n\r\n" + OK))
    assert (answer.status, answer.content) == (200, b"{}")


def test_an_address_may_hold_any_letter() -> None:
    server = Server(OK)

    async def run() -> Answer:
        listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
        async with listening:
            line = Transport(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/é/%20", HEADERS, 2.0)
            try:
                return await line.post("/x", b"{}")
            finally:
                await line.close()
                await asyncio.sleep(0.01)

    assert asyncio.run(run()).content == b"{}"
    assert server.requests[0].startswith(b"POST /%C3%A9/%20/x HTTP/1.1")


def test_what_unpacks_to_too_much_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perl_eval.client.http._LONGEST_REPLY", 1 << 16)
    packed = gzip.compress(bytes(1 << 20))
    reply = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%s" % (len(packed), packed)
    with pytest.raises(JudgeError, match="too long"):
        exchange(Server(reply))


@pytest.mark.parametrize("port", ["abc", "99999"])
def test_an_address_without_a_port_number_is_a_mistake(port: str) -> None:
    with pytest.raises(UserError, match="address is none"):
        Endpoint(f"http://127.0.0.1:{port}/v1", "NO_SUCH_KEY", 2.0, None, None)


def test_the_key_is_hidden_however_it_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    escaped = "".join(f"\\u{ord(char):04x}" for char in "sk-secret").encode()
    replies = [
        b"HTTP/1.1 sk-secret OK\r\nconnection: close\r\n\r\n",
        b"HTTP/1.1 302 F\r\nlocation: http://x/?t=sk-secret\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        numbered(1, b'{"error": "%s"}' % escaped).replace(b"200", b"400"),
        numbered(1, b'{"error": "%s"}' % escaped),
        numbered(1, b'{"model": "%s"}' % escaped),
    ]

    async def run(reply: bytes) -> str:
        server = Server(reply)
        listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
        async with listening:
            port = listening.sockets[0].getsockname()[1]
            endpoint = Endpoint(f"http://127.0.0.1:{port}/v1", "SOME_KEY", 2.0, None, None)
            try:
                return str((await endpoint.post("/x", {})).content)
            except JudgeError as error:
                return str(error)
            finally:
                await endpoint.close()
                await asyncio.sleep(0.01)

    said = [asyncio.run(run(reply)) for reply in replies]
    assert not any("secret" in text for text in said)
    assert sum("(key)" in text for text in said) == 4
