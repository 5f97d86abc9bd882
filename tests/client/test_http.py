"""The wire against servers that frame, break and close their replies in every way."""

from __future__ import annotations

import asyncio
import gzip

import pytest
from raw_server import HEADERS, OK, Server, exchange, numbered

from perl_eval.client.endpoint import Endpoint
from perl_eval.client.http import Transport
from perl_eval.client.refusals import Answer
from perl_eval.errors import JudgeError, TimedOut, UserError


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
    with pytest.raises(UserError, match="address is not valid"):
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
