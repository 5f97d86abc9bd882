"""The verbs judge and verify as they are typed: what each option reaches, and what is printed."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from command_line import Command
from fake_server import FakeServer, serving
from judged_pairs import KEY, judge, without_reading

from perl_eval.client.ledger import Ledger
from perl_eval.records import Judgement
from perl_eval.storage import parquet, run_folder

pytestmark = pytest.mark.usefixtures("without_a_key")


# ---------------------------------------------------------------------------------------------------- servers


def test_a_chat_judge_is_run_and_verified(command: Command, pairs: str, tmp_path: Path) -> None:
    with serving(FakeServer()) as server:
        shown = command(
            judge(pairs, tmp_path / "out", f"--judge chat:m --base-url {server.url} --price-in 1 --price-out 2")
        )
    # The server prefers the shorter answer: a in i0 to i3, b in i4 to i7.
    assert shown.out.splitlines()[:2] == [
        "8 judged: 4 loss, 4 win",
        "16 requests, 0 answers from the ledger, 0.0017 US dollars",
    ]
    assert (shown.code, shown.out.splitlines()[-1]) == (None, str(tmp_path / "out"))
    # The server is gone: nobody is asked.
    shown = command(f"verify {tmp_path}/out")
    assert (shown.code, shown.out) == (None, "all 8 judgements come out the same\n")


def test_pairs_are_compared_by_the_general_prompt_unless_told_otherwise(
    command: Command, pairs: str, tmp_path: Path
) -> None:
    assert command(f"judge {pairs} --out {tmp_path}/out --judge scripted:length").code is None
    card = run_folder.read_card(tmp_path / "out")
    assert card is not None
    assert card.arguments["prompt"] == "preference"


def test_a_forged_run_does_not_verify(command: Command, pairs: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command(judge(pairs, out, "--judge scripted:length --noise 2 --position-bias 0.5 --seed 3"))
    assert command(f"verify {out}").code is None
    forged = run_folder.read(out, Judgement)
    forged[2] = replace(forged[2], outcome="tie")
    parquet.write(out / "judgements.parquet", forged, Judgement)
    card = json.loads((out / "run.json").read_text())
    card["outputs"]["judgements.parquet"] = sha256((out / "judgements.parquet").read_bytes()).hexdigest()
    (out / "run.json").write_text(json.dumps(card))
    shown = command(f"verify {out}")
    assert (shown.code, shown.out) == (1, f"{forged[2].id}\n")
    assert shown.err.endswith("1 of 8 judgements come out otherwise\n")


@pytest.mark.parametrize("form", ["openai", "systemone"])
def test_a_decisions_judge_is_run_and_verified(command: Command, pairs: str, tmp_path: Path, form: str) -> None:
    with serving(FakeServer()) as server:
        more = f"--judge decisions:luna --form {form} --base-url {server.url} --tie-option --tie-margin 0.01"
        assert command(judge(pairs, tmp_path / "out", more)).code is None
        assert len(server.requests) == 8
        assert server.requests[0]["model"] == "luna"
        questions = server.requests[0]["questions"]
        first = questions[0] if form == "openai" else questions["0"]
        assert len(first.get("choices") or first["criteria"]) == 3
    card = run_folder.read_card(tmp_path / "out")
    assert card is not None
    wanted = {"form": form, "tie": True, "tie_margin": 0.01}
    assert wanted.items() <= card.arguments["judge"]["parameters"].items()
    assert command(f"verify {tmp_path}/out").code is None


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ("", {"response_format", "temperature", "max_tokens"}),
        ("--verdict-by text", {"temperature", "max_tokens"}),
        ("--verdict-by logprobs", {"temperature", "max_tokens", "logprobs", "top_logprobs"}),
    ],
)
def test_the_way_of_the_verdict_shapes_the_request(
    command: Command, pairs: str, tmp_path: Path, more: str, fields: set[str]
) -> None:
    with serving(FakeServer()) as server:
        line = f"--judge chat:m --base-url {server.url} --limit 1 --max-reply-tokens 9 --temperature 0.5 {more}"
        command(judge(pairs, tmp_path / "out", line))
    assert server.requests[0].keys() == {"model", "messages"} | fields
    assert (server.requests[0]["max_tokens"], server.requests[0]["temperature"]) == (9, 0.5)


def test_votes_and_reasoning_reach_the_judge(command: Command, pairs: str, tmp_path: Path) -> None:
    with serving(FakeServer()) as server:
        line = f"--judge chat:m --base-url {server.url} --limit 2 --votes 3 --temperature 1 --reasoning"
        shown = command(judge(pairs, tmp_path / "out", line))
    assert shown.out.splitlines()[1].startswith("12 requests")
    assert "Give your reasons" in server.requests[0]["messages"][-1]["content"]
    assert {len(row.ballots) for row in run_folder.read(tmp_path / "out", Judgement)} == {6}


def test_a_key_comes_from_a_file_and_stays_there(command: Command, pairs: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    with serving(FakeServer()) as server:
        line = f"--judge chat:m --base-url {server.url} --key-file {tmp_path}/key"
        shown = command(judge(pairs, tmp_path / "out", line))
    assert f"Bearer {KEY}" in server.headers[0]
    kept = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(kept) >= 3
    assert not any(KEY.encode() in content for content in [*kept, shown.out.encode(), shown.err.encode()])


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"\xff\xfe", None, "schl\u00fcssel".encode()])
def test_a_file_without_a_key_is_one_line(command: Command, pairs: str, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    shown = command(judge(pairs, tmp_path / "out", f"--judge chat:m --key-file {tmp_path}/key"))
    assert (shown.code, shown.err.splitlines()) == (
        2,
        [
            f"error: {tmp_path}/key holds no key; give a file that holds the key and nothing else"
            " (see `perl-eval docs judging`)"
        ],
    )


def test_limits_end_a_run_and_the_ledger_may_lie_elsewhere(command: Command, pairs: str, tmp_path: Path) -> None:
    with serving(FakeServer()) as server:
        more = f"--judge chat:m --base-url {server.url} --ledger {tmp_path}/l.sqlite --max-concurrency 1"
        shown = command(judge(pairs, tmp_path / "out", f"{more} --max-requests 6"))
        assert "stopped: --max-requests of 6 reached; 5 not asked" in shown.out
        with Ledger(tmp_path / "l.sqlite") as ledger:
            assert len(ledger) == 6
        shown = command(judge(pairs, tmp_path / "paid", f"{more} --max-cost 0.001 --price-in 1 --price-out 1"))
        assert "stopped: --max-cost of 0.001 is less than one reply may cost, 0.0018" in shown.out
        whole = command(judge(pairs, tmp_path / "whole", more))
    assert len(server.requests) == 16
    assert whole.out.startswith("8 judged: 4 loss, 4 win\n")


def test_a_run_that_a_budget_stopped_is_exit_code_3_and_goes_on_with_more(
    command: Command, pairs: str, tmp_path: Path
) -> None:
    with serving(FakeServer()) as server:
        more = f"--judge chat:m --base-url {server.url} --max-concurrency 1 --price-in 1 --price-out 1"
        shown = command(judge(pairs, tmp_path / "out", f"{more} --max-requests 6"))
        assert shown.code == 3
        decided = command(f"decide {tmp_path}/out --judge-alone --out {tmp_path}/decided").out
        assert decided.splitlines()[1] == (
            "out is not complete, it lacks 5 items that were not asked (--max-requests of 6 reached; the same `judge`"
            " command goes on)"
        )
        shown = command(judge(pairs, tmp_path / "out", f"{more} --max-requests 6"))
        assert (shown.code, len(server.requests)) == (3, 6)
        shown = command(judge(pairs, tmp_path / "out", f"{more} --max-requests 60"))
        assert (shown.code, len(server.requests)) == (None, 16)
        assert "US dollars over all 3 runs in this folder" in shown.out
        assert command(judge(pairs, tmp_path / "out", more)).code is None
        decided = command(f"decide {tmp_path}/out --judge-alone --out {tmp_path}/decided-whole").out
        assert "not complete" not in decided
    assert len(server.requests) == 16
    card = run_folder.read_card(tmp_path / "out")
    assert card is not None
    assert card.notes["asking_in_all"]["requests"] == 16
    assert card.notes["asking_in_all"]["cost_usd"] == pytest.approx(16 * 102 / 1e6)
    assert [path.name for path in (tmp_path / "out").glob(".*")] == []


def test_a_server_that_dies_is_exit_code_3_and_the_same_command_asks_for_the_rest(
    command: Command, pairs: str, tmp_path: Path
) -> None:
    away = FakeServer()
    away.fault = lambda *_: "drop" if len(away.answered) >= 4 else None
    with serving(away):
        port, more = away.port, f"--judge chat:m --base-url {away.url} --max-concurrency 8"
        shown = command(judge(pairs, tmp_path / "out", f"{more} --patience 1"))
    assert shown.code == 3
    assert "stopped: no answer for 1 s" in shown.out
    with serving(FakeServer(port=port)) as back:
        shown = command(judge(pairs, tmp_path / "out", more))
    assert (shown.code, len(back.requests)) == (None, 16 - len(away.answered))
    assert shown.out.startswith("8 judged: 4 loss, 4 win\n")


def test_a_rate_spreads_the_requests(command: Command, pairs: str, tmp_path: Path) -> None:
    with serving(FakeServer()) as server:
        more = f"--judge chat:m --base-url {server.url} --limit 2 --rpm 600 --tpm 1e9"
        command(judge(pairs, tmp_path / "out", more))
    card = run_folder.read_card(tmp_path / "out")
    assert card is not None
    # Four requests, 0.1 s from one to the next.
    assert card.seconds >= 0.3


def test_why_pairs_are_unjudged_is_printed(command: Command, pairs: str, tmp_path: Path) -> None:
    with serving(FakeServer(answer=lambda _: "Both are fine.")) as server:
        shown = command(judge(pairs, tmp_path / "out", f"--judge chat:m --base-url {server.url} --verdict-by text"))
    assert shown.out.splitlines()[:2] == ["8 judged: 8 unjudged", "  8 unjudged: the reply commits to no verdict"]


# ---------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("judge {a} --out {o} --prompt dialogue", "--judge is missing"),
        ("judge {a} --out {o} --judge chat:m", "--prompt is missing"),
        ("judge --out {o} --judge chat:m --prompt dialogue", "no completions are given"),
        ("{j} --judge chat:m --verdict-by guess", "--verdict-by 'guess' is not known; choose from structured, text"),
        ("{j} --judge decisions:m --form xml", "--form 'xml' is not known; choose from openai, systemone"),
        ("{j} --judge chat:m --verdict-by logprobs --reasoning", "the first token is not a verdict"),
        ("{j} --judge chat:m --votes 3", "chat:m says the same 3 times"),
        ("{j} --judge scripted:world --votes 2 --temperature 1", "scripted:world says the same 2 times"),
        ("{j} --judge scripted:world --max-requests 0", "--max-requests is 0"),
        ("{j} --judge scripted:world --max-cost -1", "--max-cost is -1"),
        ("{j} --judge scripted:world --rpm 0", "--rpm is 0"),
        ("{j} --judge chat:m --timeout 0", "--timeout is 0"),
        ("{j} --judge chat:m --base-url http://127.0.0.1:9 --batch --attack", "attacks are not sent in batches"),
        ("{j} --judge chat:m --base-url http://127.0.0.1:9 --batch --look", "controls are not sent in batches"),
        ("{j} --judge scripted:world --look", "has no two items with different pictures"),
        ("{j} --judge scripted:world --batch", "the scripted backend takes no batches"),
        ("{j} --judge chat:m --base-url http://127.0.0.1:9 --batch --batch-poll 0", "--batch-poll is 0"),
        ("{j} --judge chat:m --price-in -1", "--price-in is -1"),
        ("{j} --judge chat:m --max-reply-tokens 0", "--max-reply-tokens is 0"),
        ("{j} --judge chat:m --temperature nan", "--temperature is nan"),
        ("{j} --judge chat:m", "OPENAI_API_KEY is not set"),
        (
            "{j} --judge chat:m --base-url http://127.0.0.1:9 --max-cost 1",
            "--max-cost needs prices; give --price-in and --price-out",
        ),
        ("{j} --judge local:nowhere", "no such folder: nowhere"),
        ("{j} --judge local:", "no judge 'local:'"),
        ("{j} --judge scripted:world --dry-run --attack", "are different things"),
        ("{j} --judge scripted:world --attack --stop-when-decided", "--stop-when-decided is for judging"),
        ("{j} --judge scripted:world --half-width 0.1", "a half-width alone stops nothing"),
        ("judge {a} --reread {a} --out {o}", "--reread takes completions, judge and prompt from the run"),
        ("judge --reread {a} --judge scripted:length --out {o}", "--reread takes completions, judge and prompt"),
        (
            "{j} --judge chat:m --verdict-pattern (",
            "--verdict-pattern '(' is not a reg",
        ),
        ("{j} --judge scripted:length --verdict-pattern (A)", "answers in none"),
        ("judge --reread {a} --prompt dialogue --out {o}", "--reread takes completions, judge and prompt from the run"),
        ("judge --reread {a} --out {o}", "a run of `sample` has no judge"),
        ("judge --reread nowhere --out {o}", "nowhere is not a finished run"),
        ("verify nowhere", "nowhere is not a finished run"),
        ("verify {a}", "a run of `sample` has no judge"),
    ],
)
def test_a_wrong_wish_is_one_line(command: Command, pairs: str, tmp_path: Path, line: str, said: str) -> None:
    out = tmp_path / "out"
    a = pairs.split(maxsplit=1)[0]
    shown = command(line.format(a=a, o=out, j=f"judge {pairs} --out {out} --prompt dialogue"))
    assert shown.code == 2, shown
    assert shown.err.startswith("error: ")
    assert said in shown.err
    assert len(shown.err.splitlines()) == 1
    assert not (out / "run.json").exists()


def test_a_card_of_an_unknown_judge_is_one_line(command: Command, pairs: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command(judge(pairs, out, "--judge scripted:length"))
    card = json.loads((out / "run.json").read_text())
    card["arguments"]["judge"]["door"] = "oracle"
    (out / "run.json").write_text(json.dumps(card))
    without_reading(out)
    shown = command(f"verify {out}")
    assert (shown.code, shown.err.splitlines()) == (
        2,
        [
            "error: the card names no judge of this version: oracle, 'oracle'; judge again"
            " (see `perl-eval docs judging#prompts-and-runs`)"
        ],
    )
