"""Fixtures shared by the rooms; no test reaches the network."""

from __future__ import annotations

import os
import shlex
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Command, Shown
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two test processes share the cores
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

settings.register_profile("any machine", deadline=None)  # how long an example takes says what else the machine does
settings.load_profile("any machine")

_connect = socket.socket.connect


def _connect_locally(self: socket.socket, address: Any) -> None:
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise AssertionError(f"a test tried to reach {address}")
    _connect(self, address)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", _connect_locally)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real upstream files, or skip."""
    repository = Path(__file__).resolve().parent.parent
    folder = Path(os.environ.get("PERL_EVAL_REAL_DATA", repository.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set PERL_EVAL_REAL_DATA")
    return folder


@pytest.fixture
def denied() -> Iterator[Path]:
    """Yield a folder that the process may not write to; root steps down for as long as the test runs."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        os.seteuid(was)
        folder.rmdir()


@pytest.fixture
def contestants(tmp_path: Path) -> tuple[Path, Path]:
    """Return the completions of two policies that answer thirty items both, and ten each alone."""
    from contests import completion, saved

    a = saved(tmp_path / "a", [completion("rl", i, "x" * (i % 7)) for i in range(40)])
    b = saved(tmp_path / "b", [completion("sft", i, "y" * (i % 5)) for i in range(10, 50)])
    return a, b


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return what runs a command line in this process, as the installed program would."""
    from perl_eval import cli

    def run(line: str) -> Shown:
        monkeypatch.setattr(sys, "argv", ["perl-eval", *shlex.split(line)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        shown = capsys.readouterr()
        code = caught.value.code
        assert code is None or isinstance(code, int)
        return Shown(code, shown.out, shown.err)

    return run


@pytest.fixture
def fails(command: Command) -> Callable[[str], str]:
    """Return what runs a command line that must fail as users' mistakes do, and gives the one line."""

    def run(line: str) -> str:
        shown = command(line)
        assert shown.code == 2, shown
        assert shown.out == ""
        assert shown.err.startswith("error: ")
        assert shown.err.endswith("\n")
        assert len(shown.err.splitlines()) == 1
        assert "Traceback" not in shown.err
        return shown.err

    return run
