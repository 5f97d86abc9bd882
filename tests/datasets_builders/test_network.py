"""Downloads and uploads without a network: one line that says so."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest

from datasets_builders import BuilderError, builder_class, network
from datasets_builders.errors import SourceError
from datasets_builders.publish import push
from datasets_builders.sources import Source, download
from perl_eval.errors import UserError
from perl_eval.storage import remote


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of a port that nobody listens at, where the hub is taken to be; nothing is offline."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    return address


class _Broken(BaseHTTPRequestHandler):
    """Has one file, of which it sends half."""

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == "/half.json" else 404)
        self.send_header("Content-Length", "1000")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(b"x" * 500)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def broken(refusing: str) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def refusal(url: str, cache: Path) -> str:
    with pytest.raises(SourceError) as caught:
        download([Source("one.json", url=url)], manager=None, cache_dir=cache)
    return str(caught.value)


def test_a_download_without_a_network_says_so_in_one_line(refusing: str, tmp_path: Path) -> None:
    said = refusal(f"{refusing}/one.json", tmp_path)
    assert said.startswith(f"cannot download {refusing}/one.json (no connection: Connect call failed")
    assert said.endswith("; check the network and try again, or download it by hand and give data_dir")


def test_a_file_that_is_not_there_is_no_missing_network(broken: str, tmp_path: Path) -> None:
    said = refusal(f"{broken}/other.json", tmp_path)
    assert "404" in said
    assert "no connection" not in said


def test_a_download_that_breaks_off_is_one_line(broken: str, tmp_path: Path) -> None:
    assert refusal(f"{broken}/half.json", tmp_path).startswith(f"cannot download {broken}/half.json (")


def test_a_data_set_of_the_hub_without_a_network_is_one_line(refusing: str, tmp_path: Path) -> None:
    said = refusal("hf://datasets/me/mine/one.json", tmp_path)
    assert said.startswith("cannot download hf://datasets/me/mine/one.json (no connection: ")


def test_a_push_without_a_network_is_one_line(refusing: str, tmp_path: Path) -> None:
    with pytest.raises(BuilderError, match=r"cannot push to me/mine \(no connection: .*\); check the name, your login"):
        push(tmp_path, "me/mine", builder_class("harmless").ORIGIN)


def test_an_address_at_the_hub_without_a_network_is_one_line(refusing: str) -> None:
    with pytest.raises(UserError, match=r"cannot read hf://datasets/me/mine: no connection: .*; check address, cred"):
        remote.fetch("hf://datasets/me/mine")
    with pytest.raises(UserError, match="cannot read hf://datasets/me/mine: no connection"):
        remote.is_private("hf://datasets/me/mine")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (socket.gaierror(-2, "Name or service not known"), "no connection: Name or service not known"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "no connection: Network is unreachable"),
        (TimeoutError(), "no connection: no answer in time"),
        (OSError(errno.ENOSPC, "No space left on device"), "[Errno 28] No space left on device"),
        (PermissionError("Access\n denied"), "Access denied"),
        (OSError(), "OSError"),
    ],
)
def test_only_a_connection_that_failed_is_called_one(error: OSError, said: str) -> None:
    assert network.reason(error) == said
