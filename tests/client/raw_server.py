"""A server that answers with the bytes that a test gives it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from perl_eval.client.http import Transport
from perl_eval.client.refusals import Answer

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


def numbered(number: int, content: bytes = b"") -> bytes:
    body = content or b"reply %d" % number
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
