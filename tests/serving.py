"""``transformers serve`` on a model folder, as a program of its own, for tests."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

_START_S = 90.0


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def transformers_serve(model: Path, *options: str, pinned: bool = True) -> Iterator[str]:
    """Serve a model on the CPU while the block lasts; yields the address up to and with /v1.

    The server knows the model by its path; one that is not ``pinned`` to it loads whatever is asked for. Skips the test
    where the server's packages are missing.
    """
    pytest.importorskip("fastapi", reason="transformers serve needs fastapi")
    port = _free_port()
    program = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
    words = [
        "serve",
        *([str(model)] if pinned else []),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--device",
        "cpu",
        *options,
    ]
    log = model.parent / f"serve-{port}.log"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as sink:
        server = subprocess.Popen([sys.executable, "-c", program, *words], stdout=sink, stderr=sink, env=environment)
    try:
        until_s = time.monotonic() + _START_S
        while True:
            assert server.poll() is None, log.read_text("utf-8", "replace")
            assert time.monotonic() < until_s, log.read_text("utf-8", "replace")
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(10)
