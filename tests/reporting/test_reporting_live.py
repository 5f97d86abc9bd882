"""Runs that are followed while they are written: a judge in a child process, checkpoints of training, the server."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from accessibility import serious
from chrome import Chrome
from report_story import READY

from perl_eval.errors import UserError
from perl_eval.reporting import serve
from perl_eval.reporting.running import Watched
from perl_eval.storage.folder_lock import HOLDER
from perl_eval.storage.remote import MARK

SLOW = """
import asyncio, sys
import perl_eval as pe
from perl_eval.judges.registry import open_judge
from perl_eval.judging.engine.ask import AskOptions
from perl_eval.judging.options import JudgeOptions

judge = open_judge("scripted:length")
ask = judge.ask

async def slow(questions):
    await asyncio.sleep(0.1)
    return await ask(questions)

judge.ask, judge.group = slow, 1
n = int(sys.argv[2])
ours = {"ours": [{"prompt": f"Say {i}.", "text": "x" * (3 + i % 7)} for i in range(n)]}
theirs = {"theirs": [{"prompt": f"Say {i}.", "text": "y" * (1 + i % 5)} for i in range(n)]}
a, b = pe.completions(ours["ours"], policy="ours"), pe.completions(theirs["theirs"], policy="theirs")
pe.write(sys.argv[1] + "/data/ours", a)
pe.write(sys.argv[1] + "/data/theirs", b)
pe.judge(sys.argv[1] + "/data/ours", sys.argv[1] + "/data/theirs", by=judge, prompt="dialogue",
         out=sys.argv[1] + "/judged", options=JudgeOptions("dialogue", asking=AskOptions(max_concurrency=2)))
"""


@contextmanager
def judging(folder: Path, n: int) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", SLOW, str(folder), str(n)], stderr=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def until(look: Any, wanted: Any, seconds: float = 60.0) -> Any:
    """Look again and again until what is seen is wanted."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        seen = look()
        if wanted(seen):
            return seen
        time.sleep(0.1)
    raise AssertionError(f"never came: last seen {seen}")


def test_a_judge_that_goes_on_is_followed(tmp_path: Path) -> None:
    watched = Watched([tmp_path])

    def judged() -> dict[str, Any]:
        folders = watched.state()["folders"]
        return dict(folders[0]) if folders else {}

    with judging(tmp_path, 60) as child:
        early = until(judged, lambda seen: seen.get("progress", {}).get("done", 0) >= 5)
        assert early["state"] == "running"
        assert early["label"] == "judged"
        assert early["judge"] == "length"
        assert early["simulated"]
        progress = early["progress"]
        assert progress["total"] == 60
        assert sum(progress["outcomes"].values()) == progress["done"] < 60
        rate = progress["rate"]
        assert rate["n"] <= progress["done"]
        assert 0 <= rate["low"] <= rate["value"] <= rate["high"] <= 1
        later = until(judged, lambda seen: seen["progress"]["done"] > progress["done"])
        assert later["progress"]["rate"]["high"] <= rate["high"]
        assert later["cost"]["requests"] >= 2 * progress["done"]
        child.wait(timeout=120)
    finished = judged()
    assert finished["state"] == "finished"
    assert "judged: 60" in finished["said"]


def test_what_was_followed_is_what_the_run_says(tmp_path: Path) -> None:
    watched = Watched([tmp_path])
    with judging(tmp_path, 30) as child:
        last: dict[str, Any] = {}
        while child.poll() is None:
            for one in watched.state()["folders"]:
                last = one.get("progress", last)
            time.sleep(0.05)
    card = json.loads((tmp_path / "judged" / "run.json").read_text("utf-8"))
    for outcome, n in last["outcomes"].items():
        assert n <= card["notes"]["outcomes"][outcome]
    assert last["done"] > 15


def test_folders_that_come_and_go_while_one_looks_stop_nothing(tmp_path: Path) -> None:
    """A run writes in hidden folders that it renames or takes away in the next moment."""
    busy = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys\n"
            "while True:\n"
            "    os.makedirs(sys.argv[1]); open(sys.argv[1] + '/file', 'w').close()\n"
            "    os.remove(sys.argv[1] + '/file'); os.rmdir(sys.argv[1])\n",
            str(tmp_path / "judged" / ".scratch-1"),
        ]
    )
    try:
        until((tmp_path / "judged").is_dir, bool)
        plan = {"verb": "train policy", "arguments": {}, "seed": 0, "inputs": {}, "simulated": False}
        (tmp_path / "judged" / MARK).write_text(json.dumps(plan), "utf-8")
        (tmp_path / "judged" / HOLDER).write_text(json.dumps({"process": busy.pid, "machine": socket.gethostname()}))
        watched = Watched([tmp_path])
        for _ in range(500):
            (seen,) = watched.state()["folders"]
            assert seen["state"] == "running"
    finally:
        busy.kill()
        busy.wait()


def test_a_killed_run_is_stopped(tmp_path: Path) -> None:
    watched = Watched([tmp_path])
    with judging(tmp_path, 60):
        until(lambda: watched.state()["folders"], lambda seen: seen and seen[0].get("progress", {}).get("done", 0) > 2)
    (seen,) = watched.state()["folders"]
    assert seen["state"] == "stopped"
    assert seen["progress"]["done"] > 2


def checkpoint(folder: Path, curve: list[dict[str, Any]]) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    hidden = folder / ".checkpoint"
    hidden.mkdir(parents=True)
    header = {"steps": 20, "seconds": 61.5, "curve": curve}
    save_file({"w": np.zeros(2, np.float32)}, hidden / "state.safetensors", metadata={"state": json.dumps(header)})
    plan = {"verb": "train policy", "arguments": {}, "seed": 0, "inputs": {}, "simulated": False}
    (folder / MARK).write_text(json.dumps(plan), "utf-8")


def test_training_shows_its_curve_and_what_is_wrong(tmp_path: Path) -> None:
    points = [
        {"step": step, "metric": name, "value": value}
        for step in range(20)
        for name, value in (("loss", 1.0 / (step + 1)), ("kl", step * 1.0), ("entropy", 2.0 * 0.7**step))
    ]
    checkpoint(tmp_path / "rl", [*points, {"step": 20, "metric": "loss", "value": float("nan")}])
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / MARK).write_text("{", "utf-8")
    rl, torn = Watched([tmp_path]).state()["folders"]
    assert {one["metric"]: len(one["points"]) for one in rl["curves"]} == {"loss": 20, "kl": 20, "entropy": 20}
    assert rl["said"] == ["20 steps in 62 s"]
    assert rl["alarms"] == [
        "loss: 1 values are not finite",
        "kl is 19.0 nats: the policy is far from where it began",
        "entropy fell from 2.00 to 0.00 nats: answers become all alike",
    ]
    assert (torn["verb"], torn["state"]) == ("?", "stopped")


HEARS_CTRL_C = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in a shell's background inherit to ignore it
from perl_eval.cli import main
main()
"""


@contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-c", HEARS_CTRL_C, "report", str(folder), "--serve"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stderr is not None
        line = child.stderr.readline()
        found = re.match(r"(http://127\.0\.0\.1:\d+/)", line)
        assert found, line
        yield child, found[1]
    finally:
        child.kill()
        child.wait()
        if child.stderr:
            child.stderr.close()


def ask(address: str, path: str, host: str | None = None) -> tuple[int, dict[str, str], bytes]:
    where = address.removeprefix("http://").strip("/")
    connection = http.client.HTTPConnection(where, timeout=20)
    try:
        connection.request("GET", path, headers={"Host": host or where})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_the_server_is_for_this_machine_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    with served(tmp_path) as (child, address):
        status, headers, body = ask(address, "/state.json")
        assert (status, json.loads(body)["folders"]) == (200, [])
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert ask(address, "/state.json", host="evil.example")[0] == 421
        for path in ("/../pyproject.toml", "/live.html", "/%2e%2e/page.py"):
            assert ask(address, path)[0] == 404
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=20) == 0


def test_the_page_follows_a_judge(tmp_path: Path, chrome: Chrome) -> None:
    chrome.console()
    with judging(tmp_path, 400), served(tmp_path) as (_, address):
        chrome.open(address)
        chrome.script(READY)
        number = "const bar = document.querySelector('progress'); return bar ? bar.value : 0"
        first = until(lambda: chrome.script(number), lambda seen: seen >= 2)
        until(lambda: chrome.script(number), lambda seen: seen > first)
        text = chrome.script("return document.body.innerText")
        assert "1 running, 0 other run folders." in text
        assert "of 400 judged" in text
        assert "holds at every moment" in text
        assert serious(chrome) == []
        shot = Path(os.environ.get("PERL_EVAL_SHOTS", tmp_path)) / "live.png"
        chrome.screenshot(shot)
        chrome.open("about:blank")
    assert chrome.console() == []


def test_what_cannot_be_served_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist"):
        serve([tmp_path / "nowhere"])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="cannot serve at port"):
            serve([tmp_path], port=taken.getsockname()[1])
    with pytest.raises(UserError, match="port is 70000"):
        serve([tmp_path], port=70_000)
