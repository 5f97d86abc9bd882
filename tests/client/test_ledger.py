"""The ledger: keys, durability, sharing, and what it never holds."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from perl_eval.client.ledger import Ledger
from perl_eval.client.reply import Reply
from perl_eval.errors import DataError, UserError
from perl_eval.judges.backends.reward_model import RewardJudge
from perl_eval.judges.backends.scripted import ScriptedJudge
from perl_eval.judges.question_keys import Keys
from perl_eval.records import Completion, Message, Question

JUDGE = ScriptedJudge(lambda _: 0.0, name="nil")
REPLY = Reply("A", "stop", (("A", -0.1), ("B", -2.5)), "m-1", 10, 1, 0.25, 0.001)


def completion(text: str, token_ids: tuple[int, ...] = ()) -> Completion:
    return Completion("c", "i", "g", "d", "p", (Message("user", "hi"),), text, "stop", 0, token_ids)


def question(text: str = "x", *, shown: str = "x", token_ids: tuple[int, ...] = ()) -> Question:
    return Question("j", "yes_no", "none", (completion(text, token_ids),), (Message("user", shown),), "sha")


class Chatty(ScriptedJudge):
    """A judge that sees the messages only."""

    sees = "messages"


def chatty(parameters: Mapping[str, object] | None = None, name: str = "nil") -> Chatty:
    judge = Chatty(lambda _: 0.0, name=name)
    judge.parameters = parameters if parameters is not None else judge.parameters
    return judge


def test_replies_come_back_as_they_went_in(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    bare = Reply("B")
    with Ledger(path) as ledger:
        ledger.add(JUDGE, [(b"1" * 32, REPLY), (b"2" * 32, bare)])
    with Ledger(path) as ledger:
        assert ledger.find([b"1" * 32, b"2" * 32, b"3" * 32]) == {b"1" * 32: REPLY, b"2" * 32: bare}
        assert len(ledger) == 2


def test_more_keys_than_a_statement_takes(tmp_path: Path) -> None:
    keys = [number.to_bytes(32, "big") for number in range(2000)]
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.add(JUDGE, [(key, REPLY) for key in keys])
        assert set(ledger.find(keys)) == set(keys)


def test_the_earlier_of_two_replies_stays(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.sqlite") as one, Ledger(tmp_path / "l.sqlite") as other:
        one.add(JUDGE, [(b"k", REPLY)])
        other.add(JUDGE, [(b"k", replace(REPLY, text="B"))])
        assert one.find([b"k"])[b"k"].text == "A"
        assert other.find([b"k"])[b"k"].text == "A"


def test_a_reply_outlives_its_process_once_committed_and_is_on_the_disk_once_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[int] = []
    monkeypatch.setattr(os, "fsync", waits.append)
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.commit(JUDGE, [(b"k", REPLY)])
        # Another connection sees committed rows only, and what it sees is the system's, no longer the process's.
        with contextlib.closing(sqlite3.connect(tmp_path / "l.sqlite")) as other:
            assert other.execute("SELECT text FROM reply").fetchall() == [("A",)]
        assert waits == []
        ledger.add(JUDGE, [(b"l", REPLY)])
        assert len(waits) == 1
        assert ledger._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_long_log_is_brought_into_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger:
        ledger.add(JUDGE, [(b"k", replace(REPLY, text="in the log alone"))])
        assert b"in the log alone" not in path.read_bytes()
        monkeypatch.setattr("perl_eval.client.ledger._LONGEST_LOG", 0)
        ledger.sync()
        assert b"in the log alone" in path.read_bytes()
        assert ledger.find([b"k"])[b"k"].text == "in the log alone"


def test_a_disk_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with Ledger(tmp_path / "l.sqlite") as ledger, pytest.raises(UserError, match="No space left"):
        ledger.add(JUDGE, [(b"k", REPLY)])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Keys(chatty(name="m1")).of(question()), Keys(chatty(name="m2")).of(question())),
        (Keys(chatty({"t": 0})).of(question()), Keys(chatty({"t": 1})).of(question())),
        (Keys(chatty()).of(question(shown="x")), Keys(chatty()).of(question(shown="y"))),
        (Keys(chatty()).of(question()), Keys(chatty()).of(question(), vote=1)),
        (Keys(chatty()).of(question()), Keys(chatty()).of(replace(question(), kind="pairwise"))),
        (Keys(chatty()).of(question()), Keys(RewardJudge(lambda _: [], name="nil")).of(question())),
        (Keys(JUDGE).of(question(token_ids=(1, 23))), Keys(JUDGE).of(question(token_ids=(12, 3)))),
        (Keys(JUDGE).of(question("[[A]]")), Keys(JUDGE).of(question("[ [A]]"))),
    ],
)
def test_whatever_changes_the_answer_changes_the_key(one: bytes, other: bytes) -> None:
    assert len(one) == len(other) == 32
    assert one != other


def test_whatever_does_not_change_the_answer_leaves_the_key_alone() -> None:
    assert Keys(chatty({"a": 1, "b": 2})).of(question()) == Keys(chatty({"b": 2, "a": 1})).of(question())
    seen = replace(question(), id="another", prompt_sha256="another", order="ab", candidates=(completion("z"),))
    assert Keys(chatty()).of(seen) == Keys(chatty()).of(question())


def test_boundaries_between_messages_count() -> None:
    def key(*contents: str) -> bytes:
        return Keys(chatty()).of(replace(question(), messages=tuple(Message("user", text) for text in contents)))

    assert len({key("ab", "c"), key("a", "bc"), key("abc"), key("ab", "c", "")}) == 4


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, and long enough to be looked at as one " * 20)
    with pytest.raises(DataError, match="is not a ledger"):
        Ledger(tmp_path / "text")
    with pytest.raises(UserError, match="cannot open the ledger"):
        Ledger(tmp_path)
    with pytest.raises(UserError, match="cannot open the ledger"):
        Ledger(tmp_path / "text" / "l.sqlite")


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "l.sqlite") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(DataError, match="version 99"):
        Ledger(tmp_path / "l.sqlite")


@pytest.mark.parametrize("table", ["theirs (x)", "reply (key, text)"])
@pytest.mark.parametrize("version", [0, 1, 99])
def test_another_programs_database_is_left_alone(tmp_path: Path, table: str, version: int) -> None:
    path = tmp_path / "l.sqlite"
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE TABLE {table}")
        database.execute(f"PRAGMA user_version = {version}")
    database.close()
    before = path.read_bytes()
    with pytest.raises(DataError, match="another program's database"):
        Ledger(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_two_connections_write_at_once(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.sqlite") as one, Ledger(tmp_path / "l.sqlite") as other:
        for number in range(50):
            (one if number % 2 else other).add(JUDGE, [(bytes([number]), REPLY)])
        assert len(one) == len(other) == 50
