"""The Batch API against a server that speaks it: every stage, every kill, and no request submitted twice."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_batches import FakeBatches
from fake_server import FakeServer, prefer_shorter, serving

from perl_eval.client.ledger import Ledger
from perl_eval.errors import DataError, UserError
from perl_eval.judges.backends.chat import ChatJudge, ChatOptions
from perl_eval.judges.backends.scripted import ScriptedJudge
from perl_eval.judging import judge
from perl_eval.judging.engine.ask import AskOptions
from perl_eval.judging.engine.batch_api import BatchOptions
from perl_eval.judging.engine.batch_state import STATE, ChunkWriter, State
from perl_eval.records import Completion, Judgement, Message
from perl_eval.storage import run_folder

QUICK = BatchOptions(batch_poll_s=0.001)
ASKING = AskOptions(attempts=3, backoff_s=0.001)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted")


def saved(folder: Path, policy: str, sizes: list[int]) -> Path:
    with run_folder.start(folder, verb="sample", arguments={}) as run:
        answers = [
            Completion(
                f"{policy}{i}", f"i{i}", f"g{i}", "d", policy, (Message("user", f"order {i}"),), "x" * n, "stop", 0
            )
            for i, n in enumerate(sizes)
        ]
        run.write(answers, Completion)
    return folder


@pytest.fixture
def contest(tmp_path: Path) -> tuple[Path, Path]:
    return saved(tmp_path / "a", "a", [1, 9, 5, 2, 8]), saved(tmp_path / "b", "b", [5] * 5)


WANTED = ["win", "loss", "tie", "win", "loss"]  # the server prefers the shorter answer, in either place
OPTIONS = judge.JudgeOptions("dialogue", asking=ASKING, batch=QUICK)


def run(
    server: FakeServer, contest: tuple[Path, Path], out: Path, options: judge.JudgeOptions = OPTIONS, **knobs: Any
) -> list[str]:
    by = ChatJudge("m", ChatOptions(base_url=server.url, **knobs))
    folder = judge.run(*contest, out, judge=by, options=options)
    return [row.outcome for row in run_folder.read(folder, Judgement)]


def notes(out: Path) -> dict[str, Any]:
    card = run_folder.read_card(out)
    assert card is not None
    return dict(card.notes)


def test_a_batch_judges_and_a_later_run_costs_nothing(tmp_path: Path, contest: tuple[Path, Path]) -> None:
    ledger = tmp_path / "l.sqlite"
    with serving(FakeServer()) as server:
        assert run(server, contest, tmp_path / "out", replace(OPTIONS, ledger=ledger)) == WANTED
        assert server.requests == []
        one_by_one = replace(OPTIONS, ledger=ledger, batch=None)
        assert run(server, contest, tmp_path / "next", one_by_one) == WANTED
        assert server.requests == []
    assert run_folder.read(tmp_path / "out", Judgement) == run_folder.read(tmp_path / "next", Judgement)
    # The pair of equal answers is one question in both orders: 9 requests for 5 pairs.
    assert notes(tmp_path / "out")["batch"] == {"batches": 1, "requests": 9, "cut_off": 0, "without_answer": {}}
    assert notes(tmp_path / "out")["asking"]["requests"] == 0
    assert set(server.batches.answered.values()) == {1}
    assert judge.verify(tmp_path / "out", judge=ChatJudge("m", ChatOptions(base_url=server.url))) == []


def test_what_goes_up_is_what_chat_would_send(tmp_path: Path, contest: tuple[Path, Path]) -> None:
    with serving(FakeServer()) as server:
        run(server, contest, tmp_path / "batch", structured=True, max_tokens=7)
        run(server, contest, tmp_path / "chat", replace(OPTIONS, batch=None), structured=True, max_tokens=7)
    name, content = server.batches.files["file-0"]
    sent = [json.loads(line)["body"] for line in content.splitlines()]
    assert sorted(map(json.dumps, sent)) == sorted(map(json.dumps, server.requests))
    assert name.startswith("perl-eval-")
    assert server.batches.batches["batch-0"]["metadata"]["perl-eval"] in name


def test_a_server_that_cuts_the_prompts_of_a_batch_is_noted(tmp_path: Path) -> None:
    sides = [saved(tmp_path / policy, policy, sizes) for policy, sizes in (("a", [9000, 2]), ("b", [5, 5]))]
    with serving(FakeServer()) as server:
        assert run(server, (sides[0], sides[1]), tmp_path / "out") == ["loss", "win"]
    (line,) = notes(tmp_path / "out")["noted"]["server"]
    assert re.fullmatch(r"the server counts 100 tokens in a prompt of 9,\d\d\d characters: it cuts prompts; .*", line)


def test_many_requests_are_several_batches(tmp_path: Path, contest: tuple[Path, Path]) -> None:
    with serving(FakeServer()) as server:
        small = replace(OPTIONS, batch=replace(QUICK, max_lines=2))
        assert run(server, contest, tmp_path / "out", small) == WANTED
    uploads = [content for name, content in server.batches.files.values() if name.startswith("perl-eval")]
    assert [len(content.splitlines()) for content in uploads] == [2, 2, 2, 2, 1]


def test_a_file_keeps_to_its_size(tmp_path: Path) -> None:
    with ChunkWriter(tmp_path, 1, max_lines=100, max_bytes=10) as writer:
        for line in (b"1234\n", b"1234\n", b"1\n", b"a much longer line\n", b"2\n"):
            writer.add(line)
    contents = [chunk.path(tmp_path).read_bytes() for chunk in writer.chunks]
    assert contents == [b"1234\n1234\n", b"1\n", b"a much longer line\n", b"2\n"]
    assert [chunk.lines for chunk in writer.chunks] == [2, 1, 1, 1]
    with contextlib.suppress(RuntimeError), ChunkWriter(tmp_path, 1, 9, 9) as broken:
        broken.add(b"x")
        assert list(tmp_path.glob(".*.partial"))
        raise RuntimeError
    assert broken.chunks == []
    assert not list(tmp_path.glob(".*.partial"))


# ------------------------------------------------------------------------------------------------------- faults


def test_what_failed_is_sent_once_more_and_then_unjudged(tmp_path: Path, contest: tuple[Path, Path]) -> None:
    def fail(body: dict[str, Any]) -> int | None:
        return 500 if "order 3" in body["messages"][-1]["content"] else None

    with serving(FakeServer(batches=FakeBatches(fail=fail))) as server:
        assert run(server, contest, tmp_path / "out") == ["win", "loss", "tie", "unjudged", "loss"]
    found = notes(tmp_path / "out")["batch"]
    assert (found["batches"], found["requests"]) == (2, 11)
    assert found["without_answer"] == {"500: fault 500": 4}


def test_an_expired_batch_is_completed_by_the_next(tmp_path: Path, contest: tuple[Path, Path]) -> None:
    seen: list[str] = []

    def expired(body: dict[str, Any]) -> bool:
        text = body["messages"][-1]["content"]
        seen.append(text)
        return seen.count(text) == 1 and "order 1" in text

    with serving(FakeServer(batches=FakeBatches(end="expired", expired=expired))) as server:
        assert run(server, contest, tmp_path / "out") == WANTED
    assert notes(tmp_path / "out")["batch"]["without_answer"] == {"the day was over": 2}


def test_cut_off_replies_are_asked_for_once_more_with_twice_the_tokens(
    tmp_path: Path, contest: tuple[Path, Path]
) -> None:
    def finish(body: dict[str, Any]) -> str:
        return "length" if body["max_tokens"] < 20 and "order 0" in body["messages"][-1]["content"] else "stop"

    with serving(FakeServer(finish=finish)) as server:
        assert run(server, contest, tmp_path / "out", max_tokens=10) == WANTED
    second = [json.loads(line)["body"]["max_tokens"] for line in server.batches.files["file-2"][1].splitlines()]
    assert second == [20, 20]
    assert notes(tmp_path / "out")["batch"]["cut_off"] == 2


def test_what_the_server_does_not_take_is_left_out_in_the_next_round(
    tmp_path: Path, contest: tuple[Path, Path]
) -> None:
    def complaint(body: dict[str, Any]) -> str | None:
        if "max_tokens" in body:
            return "Use 'max_completion_tokens' instead."
        return None

    with serving(FakeServer(complaint=complaint)) as server:
        assert run(server, contest, tmp_path / "out") == WANTED
        assert server.batches.calls["POST batches"] == 2


def test_what_a_server_says_does_not_steer_a_terminal(tmp_path: Path, contest: tuple[Path, Path]) -> None:
    with serving(FakeServer(complaint=lambda _: "too\n long\x1b[2J\u202e")) as server:
        assert set(run(server, contest, tmp_path / "out")) == {"unjudged"}
    assert notes(tmp_path / "out")["batch"]["without_answer"] == {"400: too long [2J": 18}


def test_a_refused_batch_is_one_line_and_can_be_tried_again(tmp_path: Path, contest: tuple[Path, Path]) -> None:
    with serving(FakeServer(batches=FakeBatches(refuse="model `m` is not served in batches"))) as server:
        with pytest.raises(UserError, match="the server refused batch batch-0: model `m` is not served in batches"):
            run(server, contest, tmp_path / "out")
        server.batches.refuse = ""
        assert run(server, contest, tmp_path / "out") == WANTED


@pytest.mark.parametrize("lost", ["POST files", "POST batches", "GET batches", "GET files"])
def test_a_reply_that_is_lost_after_the_deed_submits_nothing_twice(
    tmp_path: Path, contest: tuple[Path, Path], lost: str
) -> None:
    batches = FakeBatches(lose=lambda route, call: route == lost and call == 1)
    with serving(FakeServer(batches=batches)) as server:
        assert run(server, contest, tmp_path / "out") == WANTED
    assert len(server.batches.batches) == 1
    assert sum(name.startswith("perl-eval") for name, _ in server.batches.files.values()) == 1
    assert set(server.batches.answered.values()) == {1}


# -------------------------------------------------------------------------------------------------------- kills


@pytest.mark.parametrize("moment", range(1, 14))
def test_a_run_that_dies_at_any_stage_goes_on(
    tmp_path: Path, contest: tuple[Path, Path], moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Die instead of noting a stage: what it noted before is all that the next run knows."""
    save: Callable[[State, Path], None] = State.save
    left = [moment]

    def dying(state: State, folder: Path) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        save(state, folder)

    options = replace(OPTIONS, batch=replace(QUICK, max_lines=5))
    monkeypatch.setattr(State, "save", dying)
    with serving(FakeServer()) as server:
        try:
            run(server, contest, tmp_path / "out", options)
            died = False
        except KeyboardInterrupt:
            died = True
        # One note of the files written, five a batch, one of nothing left.
        assert died == (moment <= 12)
        assert run(server, contest, tmp_path / "out", options) == WANTED
    assert len(server.batches.batches) == 2
    assert sum(name.startswith("perl-eval") for name, _ in server.batches.files.values()) == 2
    assert set(server.batches.answered.values()) == {1}
    assert len(server.batches.answered) == 9


PROGRAM = """
import sys
from pathlib import Path
from perl_eval.judging import judge
from perl_eval.judging.engine.batch_api import BatchOptions
from perl_eval.judges.backends.chat import ChatJudge, ChatOptions

root, url = Path(sys.argv[1]), sys.argv[2]
batch = BatchOptions(batch_poll_s=0.05, say=lambda line: print(line, flush=True))
options = judge.JudgeOptions("dialogue", batch=batch)
judge.run(root / "a", root / "b", root / "out", judge=ChatJudge("m", ChatOptions(base_url=url)), options=options)
"""


def test_a_killed_batch_run_is_taken_up_by_the_next(tmp_path: Path, contest: tuple[Path, Path]) -> None:
    with serving(FakeServer(batches=FakeBatches(polls=10_000))) as server:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path), server.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ) as process:
            assert process.stdout is not None
            assert b"9 requests submitted" in process.stdout.readline()
            time.sleep(0.2)
            process.send_signal(signal.SIGKILL)
        assert not (tmp_path / "out" / "run.json").exists()
        server.batches.polls = 0
        assert run(server, contest, tmp_path / "out") == WANTED
    assert len(server.batches.batches) == 1


# --------------------------------------------------------------------------------------------- limits, mistakes


@pytest.mark.parametrize(
    ("asking", "knobs", "message"),
    [
        (AskOptions(max_requests=8), {}, "9 requests are needed, and max_requests is 8"),
        (
            AskOptions(max_cost_usd=1e-9),
            {"price_in_usd": 1.0, "price_out_usd": 1.0},
            "may be needed, and max_cost_usd is",
        ),
    ],
)
def test_a_limit_is_kept_before_anything_is_sent(
    tmp_path: Path, contest: tuple[Path, Path], asking: AskOptions, knobs: dict[str, float], message: str
) -> None:
    with serving(FakeServer()) as server:
        with pytest.raises(UserError, match=message):
            run(server, contest, tmp_path / "out", replace(OPTIONS, asking=asking), **knobs)
        assert not server.batches.calls
        enough = replace(OPTIONS, asking=replace(ASKING, max_requests=9))
        assert run(server, contest, tmp_path / "enough", enough) == WANTED


def test_only_chat_judges_take_batches(tmp_path: Path, contest: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match="the scripted backend takes no batches"):
        judge.run(*contest, tmp_path / "out", judge=ScriptedJudge(lambda _: 0.0, name="nil"), options=OPTIONS)


def test_a_broken_state_is_a_data_error(tmp_path: Path, contest: tuple[Path, Path]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / STATE).write_text("{}")
    with serving(FakeServer()) as server, pytest.raises(DataError, match="is not a state of batches"):
        run(server, contest, tmp_path / "out")


def test_the_key_is_in_no_file(tmp_path: Path, contest: tuple[Path, Path]) -> None:
    with serving(FakeServer(answer=prefer_shorter)) as server:
        run(server, contest, tmp_path / "out")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert any(path.name == STATE for path in files)
    assert not any(b"sk-planted" in path.read_bytes() for path in files)
    with Ledger(tmp_path / "out" / "ledger.sqlite") as ledger:
        assert len(ledger) == 9
