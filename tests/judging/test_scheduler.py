"""The whole engine against a server with limits, with faults, and with the power cut."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import killable
import pytest
from fake_server import FakeServer, serving

from perl_eval.client.ledger import Ledger
from perl_eval.judges.backends.chat import ChatJudge, ChatOptions
from perl_eval.judging import judge
from perl_eval.judging.engine.ask import AskOptions
from perl_eval.records import Completion, Judgement, Message
from perl_eval.storage import run_folder

KEY = "sk-planted-0123456789-never-to-be-seen"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def saved(folder: Path, side: str, count: int) -> Path:
    def completion(number: int) -> Completion:
        text = side * (1 + (number * (3 if side == "x" else 5)) % 11)
        prompt = (Message("user", f"order {number}"),)
        return Completion(f"{side}{number}", f"i{number:04}", "g", "d", side, prompt, text, "stop", 0)

    with run_folder.start(folder / side, verb="sample", arguments={}) as run:
        run.write([completion(number) for number in range(count)], Completion)
    return folder / side


def contestants(folder: Path, count: int) -> tuple[Path, Path]:
    return saved(folder, "x", count), saved(folder, "y", count)


def judge_of(server: FakeServer, **knobs: Any) -> ChatJudge:
    return ChatJudge("tiny", ChatOptions(base_url=server.url, timeout_s=knobs.pop("timeout_s", 10.0), **knobs))


def said(rows: Sequence[Judgement]) -> list[tuple[object, ...]]:
    """Return all that judgements say, but for how long it took."""
    return [
        (row.item, row.outcome, row.reason, [(b.order, b.verdict, b.raw, b.tokens_in, b.model) for b in row.ballots])
        for row in rows
    ]


def judged(server: FakeServer, pair: tuple[Path, Path], out: Path, asking: AskOptions, **knobs: Any) -> list[Judgement]:
    options = judge.JudgeOptions("dialogue", asking=asking)
    return run_folder.read(judge.run(*pair, out, judge=judge_of(server, **knobs), options=options), Judgement)


# ------------------------------------------------------------------------------------------------------ limits


@pytest.mark.parametrize("style", ["openai", "anthropic"])
def test_a_server_that_states_its_limit_never_has_to_refuse(tmp_path: Path, style: str) -> None:
    # Sixteen requests start before the first answer can tell of the limit; 40 fit into the first window. Windows are so
    # long that what is sent as one begins arrives before it ends, whatever else the machine does.
    server = FakeServer(window=(40, 1.5), style=style, latency_s=0.01)
    with serving(server):
        rows = judged(server, contestants(tmp_path, 60), tmp_path / "out", AskOptions())
    assert {row.outcome for row in rows} <= {"win", "loss", "tie"}
    assert len(server.answered) >= 110
    assert server.refused == 0


def test_requests_a_minute_are_kept_to(tmp_path: Path) -> None:
    with serving(FakeServer()) as server:
        begun_s = time.monotonic()
        judged(server, contestants(tmp_path, 15), tmp_path / "out", AskOptions(rpm=3000))
    # 3,000 a minute are one in 20 ms; the last of n starts after n - 1 of those, less 20 ms that a late start makes up.
    sent = [at_s for at_s, _ in server.answered_at]
    assert sent[-1] - begun_s >= 0.02 * (len(sent) - 2)


def test_tokens_a_minute_are_kept_to(tmp_path: Path) -> None:
    with serving(FakeServer()) as server:
        pair = contestants(tmp_path, 4)
        options = judge.JudgeOptions("dialogue")
        tokens = judge.forecast(*pair, judge=judge_of(server, max_tokens=10), options=options)
        begun_s = time.monotonic()
        # As many tokens as all requests and longest replies have, in half a second.
        tpm = (tokens.tokens_in + tokens.tokens_out) * 120
        judged(server, pair, tmp_path / "out", AskOptions(tpm=tpm), max_tokens=10)
    assert server.answered_at[-1][0] - begun_s >= 0.5 * (1 - 2 / len(server.answered_at))


def test_a_server_that_gets_slow_is_not_flooded(tmp_path: Path) -> None:
    # Four requests are worked on at one time, 5 ms each: 64 on their way wait 80 ms, 16 wait 20 ms. Growth stops when
    # replies take four times as long as at best.
    server = FakeServer(lanes=4, latency_s=0.005)
    with serving(server):
        judged(server, contestants(tmp_path, 300), tmp_path / "out", AskOptions(max_concurrency=500))
    assert 16 <= server.most_at_once <= 150


# ------------------------------------------------------------------------------------------------------ faults


def test_faults_change_no_judgement_and_no_answer_is_paid_twice(tmp_path: Path) -> None:
    pair = contestants(tmp_path, 150)
    asking = AskOptions(attempts=10, backoff_s=0.005)
    with serving(FakeServer()) as server:
        calm = judged(server, pair, tmp_path / "calm", asking)
    with serving(FakeServer(fault_rate=0.2, stall_s=1.5)) as server:
        rough = judged(server, pair, tmp_path / "rough", asking, timeout_s=0.5)
    assert said(rough) == said(calm)
    assert "unjudged" not in {row.outcome for row in rough}
    assert set(server.answered.values()) == {1}
    assert sum(server.attempts.values()) > 1.1 * len(server.answered)


def test_faults_without_end_leave_pairs_unjudged_with_a_reason_and_a_second_run_heals_them(tmp_path: Path) -> None:
    pair = contestants(tmp_path, 60)
    once = AskOptions(attempts=1)
    ledger = tmp_path / "ledger.sqlite"
    options = judge.JudgeOptions("dialogue", ledger=ledger, asking=once)
    server = FakeServer(fault_rate=0.2, stall_s=1.5)
    with serving(server):
        by = judge_of(server, timeout_s=0.5)
        broken = run_folder.read(judge.run(*pair, tmp_path / "broken", judge=by, options=options), Judgement)
        server.fault_rate = 0.0
        healed = run_folder.read(judge.run(*pair, tmp_path / "healed", judge=by, options=options), Judgement)
        calm = judged(server, pair, tmp_path / "calm", once)
    unjudged = [row for row in broken if row.outcome == "unjudged"]
    assert 5 <= len(unjudged) <= 40
    assert all(row.reason for row in unjudged)
    assert {row.item: row.outcome for row in broken} == {
        row.item: "unjudged" if row in unjudged else good.outcome for row, good in zip(broken, calm, strict=True)
    }
    assert said(healed) == said(calm)
    # The calm run, with a ledger of its own, asks each once more.
    assert set(server.answered.values()) == {2}


# --------------------------------------------------------------------------------------------------- processes

PROGRAM = """
import sys
from pathlib import Path
from perl_eval.judging import judge
from perl_eval.judging.engine.ask import AskOptions
from perl_eval.judges.backends.chat import ChatJudge, ChatOptions

url, a, b, out, *ledger = sys.argv[1:]
options = judge.JudgeOptions(
    "dialogue", ledger=Path(ledger[0]) if ledger else None, asking=AskOptions(max_concurrency=4)
)
judge.run(Path(a), Path(b), Path(out), judge=ChatJudge("tiny", ChatOptions(base_url=url)), options=options)
"""


def started(server: FakeServer, pair: tuple[Path, Path], out: Path, *ledger: Path) -> ForkServerProcess:
    return killable.started(PROGRAM, [server.url, *map(str, (*pair, out, *ledger))])


@pytest.mark.slow
def test_a_run_killed_twenty_times_is_the_unbroken_run_and_loses_half_a_second_at_most(tmp_path: Path) -> None:
    pair, moments = contestants(tmp_path, 900), random.Random(0)
    kills: list[tuple[float, float]] = []
    with serving(FakeServer()) as server:
        calm = judged(server, pair, tmp_path / "calm", AskOptions())
    server = FakeServer(latency_s=0.01)
    with serving(server):
        while len(kills) < 20:
            process, before = started(server, pair, tmp_path / "out"), sum(server.attempts.values())
            # A moment after a random number of requests: while asking, between two writes, or before the first.
            requests = moments.choice([0, 1, 5, 20, 60, 300])
            while process.is_alive() and sum(server.attempts.values()) - before < requests:
                time.sleep(0.001)
            time.sleep(moments.uniform(0.0, 0.3))
            killed_at_s = time.monotonic()
            process.kill()
            process.join(60)
            # The server still answers what the dead had asked.
            time.sleep(0.05)
            while server.at_once:
                time.sleep(0.001)
            kills.append((killed_at_s, time.monotonic()))
        last = started(server, pair, tmp_path / "out")
        last.join(300)
        assert last.exitcode == 0
    assert said(run_folder.read(tmp_path / "out", Judgement)) == said(calm)
    seen: dict[str, list[float]] = {}
    for at_s, request in server.answered_at:
        seen.setdefault(request, []).append(at_s)
    again = [times for times in seen.values() if len(times) > 1]
    # Asked again is only what was answered in the half second before a kill; a quarter more for a busy machine.
    for times in again:
        assert max(next(kill for kill, over in kills if over >= at_s) - at_s for at_s in times[:-1]) <= 0.75
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")] == []


def test_two_runs_share_a_ledger_at_the_same_time(tmp_path: Path) -> None:
    pair, ledger = contestants(tmp_path, 150), tmp_path / "ledger.sqlite"
    # The server never says the same twice: whoever is asked second must still get what was kept first.
    said_so_far: Counter[str] = Counter()
    lock = threading.Lock()

    def fickle(body: dict[str, Any]) -> str:
        text = str(body["messages"])
        with lock:
            said_so_far[text] += 1
            return "A" if said_so_far[text] % 2 else "B"

    with serving(FakeServer(answer=fickle, latency_s=0.01)) as server:
        processes = [started(server, pair, tmp_path / name, ledger) for name in ("one", "two")]
        for process in processes:
            process.join(120)
        assert [process.exitcode for process in processes] == [0, 0]
        by = judge_of(server)
    one, two = (run_folder.read(tmp_path / name, Judgement) for name in ("one", "two"))
    assert said(one) == said(two)
    assert judge.verify(tmp_path / "one", judge=by) == judge.verify(tmp_path / "two", judge=by) == []
    with Ledger(ledger) as kept:
        assert len(kept) == len(server.answered)


def test_scratch_of_killed_runs_is_swept_away(tmp_path: Path) -> None:
    pair = contestants(tmp_path, 5)
    with serving(FakeServer()) as server:
        process = subprocess.Popen([sys.executable, "-c", ""])
        process.wait(60)
        (tmp_path / "out" / f".scratch-{process.pid}" / "a").mkdir(parents=True)
        for other in (os.getppid(), "of-someone"):
            (tmp_path / "out" / f".scratch-{other}").mkdir()
        judged(server, pair, tmp_path / "out", AskOptions())
    left = {path.name for path in (tmp_path / "out").glob(".*")}
    assert left == {f".scratch-{os.getppid()}", ".scratch-of-someone"}


# ---------------------------------------------------------------------------------------------------- progress


def test_the_bar_tells_of_money_and_of_pairs_without_a_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    server = FakeServer(fault=lambda body, _: "400" if "order 3\n" in str(body["messages"][-1]["content"]) else None)
    with serving(server):
        prices = {"price_in_usd": 1000.0, "price_out_usd": 0.0}
        rows = judged(server, contestants(tmp_path, 9), tmp_path / "out", AskOptions(), **prices)
    assert [row.item for row in rows if row.outcome == "unjudged"] == ["i0003"]
    # Eight pairs in both orders, 100 tokens each, at a thousand dollars a million.
    assert "1 unjudged, 1.60 USD" in capsys.readouterr().err
