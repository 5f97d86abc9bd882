"""Exporting and pruning a ledger."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perl_eval.client.ledger import Ledger
from perl_eval.client.ledger_export import KeptReply, Pruning, Token, export, prune
from perl_eval.client.reply import Reply
from perl_eval.errors import UserError
from perl_eval.judges.backends.scripted import ScriptedJudge
from perl_eval.judging import judge
from perl_eval.judging.verify import keys_of
from perl_eval.records import Completion, Message
from perl_eval.storage import parquet, run_folder


def scripted(name: str) -> ScriptedJudge:
    return ScriptedJudge(lambda answer: float(len(answer.text)), name=name)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Make a ledger with two replies of one model from 2020 and three of another from now."""
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as opened:
        opened.add(scripted("old"), [(bytes([key]) * 32, Reply(f"r{key}", model="old-1")) for key in (1, 2)])
    with sqlite3.connect(path) as database:
        database.execute("UPDATE reply SET at = '2020-05-01T12:00:00.000Z'")
    database.close()
    with Ledger(path) as opened:
        new = [(bytes([key]) * 32, Reply("ü\u2028", "stop", (("A", -0.5),), "m", 7, 1, 0.25, 0.5)) for key in (3, 4, 5)]
        opened.add(scripted("new"), new)
    return path


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_all_replies_are_exported_in_the_order_they_were_kept(ledger: Path, tmp_path: Path, name: str) -> None:
    assert export(ledger, tmp_path / name) == 5
    if name.endswith("jsonl"):
        lines = (tmp_path / name).read_text("utf-8").splitlines()
        found = [json.loads(line) for line in lines]
        found = [KeptReply(**row | {"logprobs": tuple(Token(**token) for token in row["logprobs"])}) for row in found]
    else:
        found = parquet.read(tmp_path / name, KeptReply)
    assert [row.key[:2] for row in found] == ["01", "02", "03", "04", "05"]
    assert (found[0].asked, found[0].answered, found[0].text, found[0].at) == (
        *("old", "old-1", "r1"),
        "2020-05-01T12:00:00.000Z",
    )
    last = found[-1]
    assert (last.text, last.logprobs, last.cost_usd) == ("ü\u2028", (Token("A", -0.5),), 0.5)
    assert (last.tokens_in, last.tokens_out, last.latency_s, last.finish, last.backend) == (
        7,
        1,
        0.25,
        "stop",
        "scripted",
    )


def test_a_file_of_another_ending_or_a_missing_ledger_is_refused(ledger: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither \.jsonl nor \.parquet"):
        export(ledger, tmp_path / "out.csv")
    for wrong in (
        lambda: export(tmp_path / "no.sqlite", tmp_path / "o.jsonl"),
        lambda: prune(tmp_path / "no", Pruning()),
    ):
        with pytest.raises(UserError, match="no such ledger"):
            wrong()
    assert not (tmp_path / "no.sqlite").exists()


@pytest.mark.parametrize(
    ("what", "left"),
    [
        (Pruning(before=datetime(2020, 5, 1, 12, 0, 1)), [3, 4, 5]),
        (Pruning(before=datetime(2020, 5, 1, 12, 0, 0)), [1, 2, 3, 4, 5]),
        (Pruning(before=datetime(2020, 5, 1, 13, 0, 1, tzinfo=UTC).astimezone()), [3, 4, 5]),
        (Pruning(before=datetime.now(UTC) + timedelta(days=1), model="new"), [1, 2]),
        (Pruning(model="old"), [3, 4, 5]),
        (Pruning(model="new' OR 1 = 1 --"), [1, 2, 3, 4, 5]),
        (Pruning(unused=[b"\x01" * 32, b"\x04" * 32, b"\x09" * 32]), [1, 4]),
        (Pruning(model="new", unused=[b"\x04" * 32]), [1, 2, 4]),
        (Pruning(unused=[]), []),
    ],
)
def test_what_all_conditions_apply_to_is_deleted(ledger: Path, what: Pruning, left: list[int]) -> None:
    assert prune(ledger, what) == 5 - len(left)
    with Ledger(ledger) as opened:
        assert sorted(key[0] for key in opened.find([bytes([key]) * 32 for key in range(10)])) == left


def test_without_a_condition_nothing_is_deleted(ledger: Path) -> None:
    with pytest.raises(UserError, match="nothing says which replies"):
        prune(ledger, Pruning())


def test_room_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as opened:
        opened.add(scripted("m"), [(number.to_bytes(32, "big"), Reply("x" * 2000)) for number in range(500)])
    before = path.stat().st_size
    assert prune(path, Pruning(model="m")) == 500
    assert path.stat().st_size < before / 10


def test_what_a_run_used_can_be_kept_alone(tmp_path: Path) -> None:
    def completions(side: str, count: int) -> Path:
        with run_folder.start(tmp_path / f"{side}{count}", verb="sample", arguments={}) as run:
            made = [
                Completion(f"{side}{i}", f"i{i}", "g", "d", side, (Message("user", f"{i}"),), side * i, "stop", 0)
                for i in range(count)
            ]
            run.write(made, Completion)
        return tmp_path / f"{side}{count}"

    by, ledger = scripted("length"), tmp_path / "ledger.sqlite"
    options = judge.JudgeOptions("dialogue", ledger=ledger)
    small = judge.run(completions("x", 5), completions("y", 5), tmp_path / "small", judge=by, options=options)
    judge.run(completions("x", 9), completions("y", 9), tmp_path / "large", judge=by, options=options)
    # Two orders of each pair, but the pair of two empty answers is one question.
    assert prune(ledger, Pruning(unused=keys_of(small, judge=by))) == 2 * 9 - 1 - (2 * 5 - 1)
    assert judge.verify(small, judge=by) == []
