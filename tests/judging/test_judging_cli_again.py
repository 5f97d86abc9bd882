"""The verb judge beside asking one server: dry runs, attacks, rereading, batches, ledgers, juries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Command
from fake_server import FakeServer, prefer_shorter, serving
from judged_pairs import judge, without_reading

from perl_eval.records import Estimate, Judgement
from perl_eval.storage import run_folder

pytestmark = pytest.mark.usefixtures("without_a_key")


def test_a_dry_run_shows_one_request_and_asks_nobody(command: Command, pairs: str, tmp_path: Path) -> None:
    with serving(FakeServer()) as server:
        more = f"--judge chat:m --base-url {server.url} --price-in 1 --price-out 2 --max-reply-tokens 10 --dry-run"
        shown = command(judge(pairs, tmp_path / "out", more))
        assert server.requests == []
    assert shown.code is None
    facts = dict(line.split(maxsplit=1) for line in shown.out.splitlines()[:2])
    assert facts == {"judge": "chat:m", "prompt": "dialogue"}
    # Eight pairs in both orders; a reply that is cut off is asked for once more with twice the tokens: 16 x 30 at most.
    assert "requests   16\n" in shown.out
    assert "questions  16, of which 0 are in the ledger\n" in shown.out
    assert "tokens out 480 at most: a reply cut at --max-reply-tokens is asked for again, twice as long\n" in shown.out
    assert "US dollars at most" in shown.out
    assert "[system]\n" in shown.out
    assert "=== answer A |" in shown.out
    assert not (tmp_path / "out").exists()


def test_a_dry_run_without_prices_says_what_is_missing(command: Command, pairs: str, tmp_path: Path) -> None:
    shown = command(judge(pairs, tmp_path / "out", "--judge chat:m --base-url http://127.0.0.1:9/v1 --dry-run"))
    assert "cost       not known; give --price-in and --price-out\n" in shown.out


def test_an_attack_prints_its_success_rates(command: Command, pairs: str, tmp_path: Path) -> None:
    shown = command(judge(pairs, tmp_path / "out", "--judge scripted:length --attack"))
    assert shown.code is None
    rates = {rate.subject: rate.value for rate in run_folder.read(tmp_path / "out", Estimate)}
    # Whatever makes an answer longer wins with a judge of length.
    assert rates["verdict A"] == 1.0
    assert "all attacks" in shown.out
    assert shown.out.splitlines()[-1] == str(tmp_path / "out")


def test_kept_replies_are_read_again_without_a_server(command: Command, pairs: str, tmp_path: Path) -> None:
    with serving(FakeServer()) as server:
        command(judge(pairs, tmp_path / "out", f"--judge chat:m --base-url {server.url}"))
    shown = command(f"judge --reread {tmp_path}/out --out {tmp_path}/again")
    assert shown.out.splitlines()[:2] == ["8 judged: 4 loss, 4 win", "0 changed"]
    assert run_folder.read(tmp_path / "again", Judgement) == run_folder.read(tmp_path / "out", Judgement)


def test_a_pattern_of_ones_own_reads_replies_and_reads_them_again_for_nothing(
    command: Command, pairs: str, tmp_path: Path
) -> None:
    server = FakeServer(answer=lambda body: f"Take <{prefer_shorter(body)}>")
    with serving(server):
        more = f"--judge chat:m --base-url {server.url} --verdict-by text"
        assert "unjudged" in command(judge(pairs, tmp_path / "out", more)).out
    asked = len(server.requests)
    shown = command(f"judge --reread {tmp_path}/out --out {tmp_path}/again --verdict-pattern 'Take.<(.*?)>'")
    assert shown.out.splitlines()[:2] == ["8 judged: 4 loss, 4 win", "8 changed"]
    card = run_folder.read_card(tmp_path / "again")
    assert card is not None
    assert card.arguments["verdict_pattern"] == "Take.<(.*?)>"
    assert card.notes["reading"]["reader"] == {"name": "pattern", "pattern": "Take.<(.*?)>"}
    more = f"{more} --ledger {tmp_path}/out/ledger.sqlite --verdict-pattern 'Take.<(.*?)>'"
    shown = command(judge(pairs, tmp_path / "new", more))
    assert shown.out.splitlines()[0] == "8 judged: 4 loss, 4 win"
    assert len(server.requests) == asked
    assert command(f"verify {tmp_path}/new").code is None


@pytest.mark.parametrize("of_before", [False, True])
@pytest.mark.parametrize("backend", ["reward", "local"])
def test_a_model_here_is_verified_without_loading_it(
    command: Command, pairs: str, tmp_path: Path, backend: str, of_before: bool
) -> None:
    import asyncio

    from perl_eval.client.reply import Reply
    from perl_eval.judges.backends.reward_model import RewardJudge
    from perl_eval.judges.protocol import Judge
    from perl_eval.judges.readers import ProbabilityReader
    from perl_eval.judging import judge as verb

    class Local(RewardJudge):
        backend, positional, sees = "local", True, "messages"

        async def ask(self, questions: Any) -> list[Reply]:
            await asyncio.sleep(0)
            return [Reply('{"A": 0.75, "B": 0.25}', model=self.model) for _ in questions]

    judges: dict[str, Judge] = {
        "reward": RewardJudge(lambda answers: [len(one.text) for one in answers], name="rm@1", tie_margin=1.0),
        "local": Local(lambda _: [], name="lm@1"),
    }
    judges["local"].parameters = {"tie": False, "tie_margin": 0.0}
    judges["local"].reader = ProbabilityReader()
    a, b = map(Path, pairs.split())
    verb.run(a, b, tmp_path / "out", judge=judges[backend], options=verb.JudgeOptions("dialogue"))
    if of_before:
        without_reading(tmp_path / "out")
    shown = command(f"verify {tmp_path}/out")
    assert (shown.code, shown.out) == (None, "all 8 judgements come out the same\n")


def test_a_batch_is_asked_for_with_one_word(command: Command, pairs: str, tmp_path: Path) -> None:
    with serving(FakeServer()) as server:
        line = f"--judge chat:m --base-url {server.url} --batch --batch-poll 0.001"
        shown = command(judge(pairs, tmp_path / "out", line))
    assert shown.out.startswith("8 judged: 4 loss, 4 win\n")
    assert "1 batch, 16 requests in it\n" in shown.out
    assert "batch batch-0: 16 requests submitted\n" in shown.err
    assert "batch batch-0: completed" in shown.err
    assert server.requests == []


def test_a_ledger_is_exported_and_pruned(command: Command, pairs: str, tmp_path: Path) -> None:
    kept = tmp_path / "l.sqlite"
    for name in ("length", "constant"):
        command(judge(pairs, tmp_path / name, f"--judge scripted:{name} --position-bias 1 --ledger {kept}"))
    shown = command(f"ledger export {kept} --out {tmp_path}/all.jsonl")
    assert shown.out == f"32 replies\n{tmp_path}/all.jsonl\n"
    entries = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert {entry["asked"] for entry in entries} == {"length", "constant"}
    assert command(f"ledger prune {kept} --before 2020-01-01").out == "0 replies deleted\n"
    # What one run needs stays; the other's answers go.
    assert command(f"ledger prune {kept} --keep {tmp_path}/length").out == "16 replies deleted\n"
    assert command(f"verify {tmp_path}/length").code is None
    assert command(f"ledger prune {kept} --model constant").out == "0 replies deleted\n"
    assert command(f"ledger prune {kept} --model length").out == "16 replies deleted\n"
    for line, said in (
        (f"ledger prune {kept}", "nothing says which replies to delete"),
        (f"ledger prune {kept} --keep {tmp_path}/nowhere", "is not a finished run"),
        (f"ledger export {tmp_path}/none --out {tmp_path}/x.jsonl", "no such ledger"),
        (f"ledger export {kept} --out {tmp_path}/x.csv", "is neither .jsonl nor .parquet"),
    ):
        wrong = command(line)
        assert (wrong.code, len(wrong.err.splitlines())) == (2, 1)
        assert said in wrong.err


def test_a_damaged_ledger_is_told_and_salvaged(command: Command, pairs: str, tmp_path: Path) -> None:
    kept, out = tmp_path / "l.sqlite", tmp_path / "out"
    asked = judge(pairs, out, f"--judge scripted:length --ledger {kept}")
    shown = command(asked)
    content = bytearray(kept.read_bytes())
    content[content.index(b"scriptedlength") + 3] ^= 1
    kept.write_bytes(content)
    damaged = command(f"verify {out}")
    assert (damaged.code, len(damaged.err.splitlines())) == (2, 1)
    assert f"{kept}: is a damaged ledger" in damaged.err
    assert f"`perl-eval ledger salvage {kept} --out NEW.sqlite`" in damaged.err
    saved = command(f"ledger salvage {kept} --out {tmp_path}/new.sqlite")
    assert (saved.code, saved.out) == (None, f"15 replies saved, 1 lost\n{tmp_path}/new.sqlite\n")
    (tmp_path / "new.sqlite").rename(kept)
    again = command(judge(pairs, tmp_path / "again", f"--judge scripted:length --ledger {kept}"))
    assert "1 request, 15 answers from the ledger" in again.out
    assert again.out.splitlines()[0] == shown.out.splitlines()[0]
    twice = command(f"ledger salvage {kept} --out {kept}")
    assert (twice.code, len(twice.err.splitlines())) == (2, 1)


def test_several_judges_are_a_jury(command: Command, pairs: str, tmp_path: Path) -> None:
    more = "--judge scripted:length --judge scripted:constant --judge scripted:world --position-bias 0.5"
    shown = command(judge(pairs, tmp_path / "out", more))
    assert (shown.code, shown.out.splitlines()[-1]) == (None, str(tmp_path / "out" / "jury"))
    members = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert members == ["1-scripted-length", "2-scripted-constant", "3-scripted-world", "jury"]
    rows = run_folder.read(tmp_path / "out" / "jury", Judgement)
    # Only one of three judges sees more than the position.
    assert {row.outcome for row in rows if row.judge == "jury of 3, majority"} == {"split"}
    assert len(rows) == 16
    for member in members[:3]:
        assert command(f"verify {tmp_path}/out/{member}").code is None
    again = command(judge(pairs, tmp_path / "out", more))
    assert again.out.splitlines()[-1] == str(tmp_path / "out" / "jury")
    alone = command(f"jury {tmp_path}/out/1-scripted-length {tmp_path}/out/2-scripted-constant --out {tmp_path}/two")
    assert "effective" in alone.out


def test_a_rubric_and_references_reach_the_judge(command: Command, pairs: str, tmp_path: Path) -> None:
    (tmp_path / "rubric.txt").write_text("Say please.")
    a, b = pairs.split()
    with serving(FakeServer(answer=lambda _: "9")) as server:
        line = f"judge {a} --out {tmp_path}/out --prompt quality --judge chat:m --base-url {server.url}"
        shown = command(f"{line} --rubric {tmp_path}/rubric.txt --references {b} --limit 1")
    assert shown.out.startswith("1 judged: 1 scored\n")
    text = server.requests[0]["messages"][-1]["content"]
    assert "Say please." in text
    assert "=== reference |" in text
