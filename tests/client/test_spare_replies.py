"""A reply that nobody asked for on this connection answers no other request."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

import pytest
from raw_server import HEADERS, Server, numbered

from perl_eval.client.http import Transport


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
