"""Clients that say nothing, little, or nonsense: others are served, and the log stays empty."""

from __future__ import annotations

import contextlib
import http.client
import resource
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from server import Server
from sessions import completions

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="files are limited otherwise there")


@pytest.fixture
def few_files() -> Iterator[None]:
    """Let what is started have 200 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    completions(tmp_path / "a", "kappa", 5)
    completions(tmp_path / "b", "sigma", 5)
    return tmp_path


def opened(server: Server) -> int:
    connection = http.client.HTTPConnection(server.host, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        return connection.getresponse().status


def test_people_are_served_while_others_hold_hundreds_of_connections(shelf: Path, few_files: None) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Server(shelf) as server, contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
        held = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20)) for _ in range(500)]
        for one in held:
            with contextlib.suppress(OSError):
                one.sendall(b"GET / HTTP/1.1\r\nHost: 1")
        begun = time.monotonic()
        assert opened(server) == 200
        assert server.call("annotator-1", "/api/next")["status"] == 200
        assert time.monotonic() - begun < 5
        # Those that hold on are let go of.
        held[-1].settimeout(20)
        assert held[-1].recv(1) == b""
        assert opened(server) == 200
        code, log = server.interrupt_and_log()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (code, log) == (0, "")


def test_nonsense_leaves_no_traceback(shelf: Path) -> None:
    with Server(shelf) as server:
        start = f"POST /api/label HTTP/1.1\r\nHost: {server.host}\r\nContent-Type: application/json\r\n"
        token = f"Authorization: Bearer {server.token('annotator-1')}\r\n"
        nonsense = (
            b"\x00\xff\r\n\r\n",
            f"{start}{token}Content-Length: 100\r\n\r\n{{".encode(),  # and gone
            f"{start}Transfer-Encoding: chunked\r\n\r\nzz\r\n".encode(),
            f"{start}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\nzz\r\n".encode(),
            f"{start}Content-Length: -1\r\n\r\n".encode(),
            f"GET / HTTP/1.1\r\nHost: {server.host}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".encode(),
            b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 30_000,
        )
        for wait_s in (0.0, 0.3):
            with contextlib.ExitStack() as stack:
                ones = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20)) for _ in nonsense]
                for part in (slice(None, -2), slice(-2, None)):
                    for one, sent in zip(ones, nonsense, strict=True):
                        with contextlib.suppress(OSError):
                            one.sendall(sent[part])
                    time.sleep(wait_s)
        assert opened(server) == 200
        assert server.interrupt_and_log() == (0, "")


def test_a_connection_that_is_kept_open_is_used_again(shelf: Path) -> None:
    with Server(shelf) as server:
        connection = http.client.HTTPConnection(server.host, timeout=20)
        with contextlib.closing(connection):
            for _ in range(3):
                connection.request("GET", "/page.js")
                assert connection.getresponse().read()
