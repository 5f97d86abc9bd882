"""The key of a judge's server: sent, and found nowhere else, whatever the server says back."""

from __future__ import annotations

import io
import itertools
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer, serving

from perl_eval import reporting
from perl_eval.client.ledger_export import export
from perl_eval.errors import UserError
from perl_eval.judges.backends.chat import ChatJudge, ChatOptions
from perl_eval.judging import judge
from perl_eval.judging.engine.ask import AskOptions
from perl_eval.records import Completion, Judgement, Message
from perl_eval.scoring import score
from perl_eval.storage import run_folder

KEY = "sk-planted-Zq81-never-to-be-seen"
SIDES = ("x", "y")


@pytest.fixture(params=["environment", "file"])
def key_file(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path | None]:
    """Plant the key in the environment, or in a file and another one in the environment."""
    if request.param == "environment":
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield None
        return
    monkeypatch.setenv("OPENAI_API_KEY", "sk-another")
    path = tmp_path / "secret" / "key.txt"
    path.parent.mkdir()
    path.write_text(f" {KEY}\n")
    yield path


@pytest.fixture
def contestants(tmp_path: Path) -> tuple[Path, Path]:
    for side in SIDES:
        with run_folder.start(tmp_path / "work" / side, verb="sample", arguments={}) as run:
            made = [
                Completion(f"{side}{i}", f"i{i}", "g", "d", side, (Message("user", f"{i}"),), side * i, "stop", 0)
                for i in range(9)  # 18 questions, for a judge that answers none of 20 stops the run
            ]
            run.write(made, Completion)
    return tmp_path / "work" / "x", tmp_path / "work" / "y"


def talkative(attempt_faults: dict[int, str]) -> FakeServer:
    """Make a server that says the key back: in its errors, and now and then in its replies."""
    return FakeServer(
        fault=lambda _, attempt: attempt_faults.get(attempt),
        answer=lambda body: f"Your key is {KEY}.\nVerdict: A" if len(str(body)) % 2 else f"[[A]] \ud800 {KEY}",
    )


def everything(folder: Path) -> str:
    """Return the bytes of all files in a folder, and their names."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    return "".join(f"{path}\n{path.read_bytes().decode('latin-1')}" for path in files)


def judged(server: FakeServer, pair: tuple[Path, Path], out: Path, key_file: Path | None, **asking: Any) -> Path:
    by = ChatJudge("tiny", ChatOptions(base_url=server.url, key_file=key_file))
    options = judge.JudgeOptions("dialogue", asking=AskOptions(backoff_s=0.001, **asking))
    return judge.run(*pair, out, judge=by, options=options)


def test_ledger_card_rows_page_and_logs_hold_no_key(
    tmp_path: Path,
    contestants: tuple[Path, Path],
    key_file: Path | None,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    work = tmp_path / "work"
    with serving(talkative({1: "500", 2: "503"})) as server:
        out = judged(server, contestants, work / "judged", key_file)
        refused = judged(talkative_refusing(server), contestants, work / "refused", key_file)
    assert all(f"authorization: Bearer {KEY}" in head for head in server.headers)
    rows = run_folder.read(out, Judgement)
    assert {row.outcome for row in rows} == {"split"}
    assert all("(key)" in ballot.raw for row in rows for ballot in row.ballots)
    reasons = [row.reason for row in run_folder.read(refused, Judgement) if row.outcome == "unjudged"]
    assert reasons
    assert all("418: fault 418, Bearer (key)" in str(reason) for reason in reasons)
    export(out / "ledger.sqlite", work / "ledger.jsonl")
    export(out / "ledger.sqlite", work / "ledger.parquet")
    score.run(out, work / "scores")
    reporting.run([work], work / "report.html")
    reporting.run([work], work / "report.md", format="md")
    printed = capfd.readouterr()
    # Parquet is compressed: its rows are read above and here.
    for said in (everything(work), caplog.text, printed.out, printed.err, repr(rows)):
        assert KEY not in said


def talkative_refusing(server: FakeServer) -> FakeServer:
    numbers = itertools.count()
    server.fault = lambda *_: "418" if next(numbers) % 2 else None  # not all: that would be a refusal of the key
    return server


@pytest.mark.parametrize("status", ["401", "403", "404"])
def test_a_traceback_of_a_refused_key_does_not_show_it(
    tmp_path: Path, contestants: tuple[Path, Path], key_file: Path | None, status: str
) -> None:
    with serving(talkative({1: status})) as server, pytest.raises(UserError, match=status) as caught:
        judged(server, contestants, tmp_path / "work" / "out", key_file)
    trace = io.StringIO()
    traceback.print_exception(caught.value, file=trace)
    assert "(key)" in trace.getvalue()
    assert KEY not in trace.getvalue()
    assert KEY not in everything(tmp_path / "work")


def test_a_traceback_of_a_bug_does_not_show_it(
    tmp_path: Path, contestants: tuple[Path, Path], key_file: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChatJudge, "_reply", lambda *_: 1 / 0)
    with serving(talkative({})) as server, pytest.raises(ZeroDivisionError) as caught:
        judged(server, contestants, tmp_path / "work" / "out", key_file)
    trace = io.StringIO()
    traceback.print_exception(caught.value, file=trace)
    assert KEY not in trace.getvalue()


@pytest.mark.parametrize("status", ["401", "403"])
def test_the_command_line_does_not_print_it(
    tmp_path: Path, contestants: tuple[Path, Path], key_file: Path | None, status: str
) -> None:
    with serving(talkative(dict.fromkeys(range(1, 9), status))) as server:
        command = [*("judge", *map(str, contestants)), *("--judge", "chat:tiny", "--prompt", "dialogue")]
        command += ["--base-url", server.url, "--out", str(tmp_path / "work" / "out")]
        command += ["--key-file", str(key_file)] if key_file is not None else []
        program = "from perl_eval.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", program, *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=os.environ.copy(),
        )
    assert done.returncode == 2
    assert f"{status}: fault {status}, Bearer (key)" in done.stderr
    assert KEY not in done.stdout + done.stderr + everything(tmp_path / "work")
