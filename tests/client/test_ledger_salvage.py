"""Damaged ledgers: what a disk changed is found, and what can be read is saved."""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from perl_eval.client.ledger import Ledger
from perl_eval.client.ledger_salvage import Salvaged, salvage
from perl_eval.client.reply import Reply
from perl_eval.errors import DataError, UserError
from perl_eval.judges.backends.scripted import ScriptedJudge

JUDGE = ScriptedJudge(lambda _: 0.0, name="nil")
COUNT = 90


def key(number: int) -> bytes:
    return bytes([number, 255 - number]) * 16


def reply(number: int) -> Reply:
    # Some are longer than a page, and go on in others.
    text = f"answer {number}: " + "é and more words " * (1000 if number % 29 == 7 else 5 + number % 7)
    logprobs = (("A", -0.25), ("B", -1.5)) if number % 3 else ()
    return Reply(text, "stop", logprobs, "m-1", 10 + number, number, float(number % 4) / 2, 0.5 if number % 2 else None)


REPLIES = {key(number): reply(number) for number in range(COUNT)}


def filled(path: Path) -> Path:
    with Ledger(path) as ledger:
        for start in range(0, COUNT, 30):
            ledger.add(JUDGE, list(REPLIES.items())[start : start + 30])
        ledger.note([(key(number), key(number) + key(number + 1)) for number in range(0, COUNT, 2)])
        ledger.refuse([(b"r" * 32, "400: no")])
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of a ledger."""
    return filled(tmp_path_factory.mktemp("whole") / "l.sqlite").read_bytes()


def held(path: Path) -> dict[bytes, Reply]:
    with Ledger(path) as ledger:
        return ledger.find(list(REPLIES))


def told_of(path: Path) -> str:
    """Return what is said of a ledger that cannot be read; nothing where all of it is there."""
    try:
        found = held(path)
    except DataError as error:
        return str(error)
    assert found == REPLIES
    return ""


def flipped(content: bytes, *places: int, bit: int = 0) -> bytes:
    changed = bytearray(content)
    for place in places:
        changed[place] ^= 1 << bit
    return bytes(changed)


def test_a_whole_ledger_is_copied_whole(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "l.sqlite").write_bytes(whole)
    assert salvage(tmp_path / "l.sqlite", tmp_path / "new.sqlite") == Salvaged(COUNT, 0, 0)
    assert held(tmp_path / "new.sqlite") == REPLIES
    with contextlib.closing(sqlite3.connect(tmp_path / "new.sqlite")) as new:
        found = new.execute("SELECT door, asked, at, checksum FROM reply ORDER BY key").fetchall()
    with contextlib.closing(sqlite3.connect(tmp_path / "l.sqlite")) as old:
        assert old.execute("SELECT door, asked, at, checksum FROM reply ORDER BY key").fetchall() == found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["l.sqlite", "new.sqlite"]


@pytest.mark.parametrize("bit", [0, 5])
def test_a_flipped_byte_is_found_or_does_no_harm_and_costs_one_reply_at_most(
    whole: bytes, tmp_path: Path, bit: int
) -> None:
    told = 0
    for place in [*range(bit, 128, 7), *range(128 + bit, len(whole), 1499)]:
        path, new = tmp_path / f"{place}.sqlite", tmp_path / f"{place}-new.sqlite"
        path.write_bytes(flipped(whole, place, bit=bit))
        found = salvage(path, new)
        saved = held(new)
        assert saved.items() <= REPLIES.items(), place
        assert found.kept == len(saved) >= COUNT - 1, (place, found)
        assert found.lost == COUNT - found.kept, (place, found)
        said = told_of(path)
        told += bool(said)
        assert not said or f"perl-eval ledger salvage {path} --out NEW.sqlite" in said
        for name in tmp_path.iterdir():
            name.unlink()
    assert told > 10


def test_every_byte_of_a_reply_is_covered(whole: bytes, tmp_path: Path) -> None:
    begin = whole.index(key(12) + b"scripted") + 32
    moment = re.search(rb"20\d\d-\d\d-\d\dT", whole[begin:])
    assert moment is not None
    end = begin + moment.start()
    # When it was kept, in 24 letters, is no part of the reply; the checksum behind it is.
    for place in [*range(begin, end, 3), *range(end + 24, end + 28)]:
        (tmp_path / "l.sqlite").write_bytes(flipped(whole, place, bit=1))
        with pytest.raises(DataError, match="is a damaged ledger"):
            held(tmp_path / "l.sqlite")


def zeroed(content: bytes, start: int, length: int) -> bytes:
    return content[:start] + bytes(length) + content[start + length :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: zeroed(content, 0, 100),
        lambda content: zeroed(content, 0, 4096),
        lambda content: zeroed(content, 4096, 8),
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content + b"more than there was" * 20,
        lambda content: zeroed(content, len(content) // 2 // 4096 * 4096, 4096),
    ],
)
def test_what_is_left_of_a_ledger_is_saved(whole: bytes, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    content = damage(whole)
    (tmp_path / "l.sqlite").write_bytes(content)
    found = salvage(tmp_path / "l.sqlite", tmp_path / "new.sqlite")
    saved = held(tmp_path / "new.sqlite")
    assert saved.items() <= REPLIES.items()
    there = sum(content.count(number + b"scripted") for number in REPLIES)
    assert found.kept == len(saved) >= there - 4
    assert found.lost >= there - found.kept


def test_replies_in_the_log_alone_are_saved(tmp_path: Path) -> None:
    path, copy = tmp_path / "l.sqlite", tmp_path / "copy.sqlite"
    with Ledger(path) as ledger:
        ledger.commit(JUDGE, list(REPLIES.items()))
        shutil.copy(path, copy)
        shutil.copy(f"{path}-wal", f"{copy}-wal")
    assert b"answer 3:" not in copy.read_bytes()
    assert salvage(copy, tmp_path / "new.sqlite") == Salvaged(COUNT, 0, 0)
    assert held(tmp_path / "new.sqlite") == REPLIES


def test_a_ledger_of_an_earlier_version_opens_gets_checksums_and_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    filled(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("ALTER TABLE reply DROP COLUMN checksum")
        database.execute("VACUUM")
    shutil.copy(path, tmp_path / "old.sqlite")
    assert held(path) == REPLIES
    with Ledger(path) as ledger:
        ledger.add(JUDGE, [(b"n" * 32, Reply("new"))])
        assert ledger.find([b"n" * 32]) == {b"n" * 32: Reply("new")}
    content = path.read_bytes()
    (tmp_path / "l.sqlite").write_bytes(content.replace(b"scriptednilnew", b"scriptednilold"))
    with Ledger(path) as ledger, pytest.raises(DataError, match="is a damaged ledger"):
        ledger.find([b"n" * 32])
    assert salvage(path, tmp_path / "new.sqlite") == Salvaged(COUNT, COUNT, 1)
    assert salvage(tmp_path / "old.sqlite", tmp_path / "newer.sqlite") == Salvaged(COUNT, COUNT, 0)
    assert held(tmp_path / "new.sqlite") == held(tmp_path / "newer.sqlite") == REPLIES


def test_what_holds_no_reply_and_what_is_there_already_are_refused(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no ledger, but long enough to be one " * 300)
    (tmp_path / "empty").touch()
    for name in ("text", "empty"):
        with pytest.raises(UserError, match="no reply can be read"):
            salvage(tmp_path / name, tmp_path / "new.sqlite")
    (tmp_path / "l.sqlite").write_bytes(whole)
    with pytest.raises(UserError, match="is already there"):
        salvage(tmp_path / "l.sqlite", tmp_path / "text")
    with pytest.raises(UserError, match="no such ledger"):
        salvage(tmp_path / "none", tmp_path / "new.sqlite")
    assert not (tmp_path / "new.sqlite").exists()
