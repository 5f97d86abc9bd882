"""Who is asked what: nothing is asked too often or too seldom, whoever races, and nothing said is lost."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sessions import store

from perl_eval.errors import DataError, UserError
from perl_eval.labelling.assignment import Conflict, Turns
from perl_eval.labelling.store import Store
from perl_eval.labelling.units import a_is_first, order_key


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def standing(made: Store) -> Counter[str]:
    return Counter(one.task.unit for one in made.given())


def test_the_order_is_the_annotators_own_and_stays(tmp_path: Path) -> None:
    with store(tmp_path / "s", 30) as made:
        turns, seen = Turns(made), {}
        for name in ("ann", "bob"):
            seen[name] = []
            for _ in range(15):
                turn = turns.take(name)
                assert turn is not None
                assert turns.take(name) == turn  # asked again, as after a reload, it is the same one
                turns.give(name, turn.task.unit, "tie", "")
                seen[name].append(turn.task.unit)
        assert seen["ann"] == sorted((f"u{p:03d}" for p in range(30)), key=lambda u: order_key(0, "ann", u))[:15]
        assert len({*seen["ann"], *seen["bob"]}) == 30
        assert turns.take("ann") is None


def test_sides_are_drawn_by_annotator_and_unit() -> None:
    sides = {name: [a_is_first(0, name, f"u{place}") for place in range(400)] for name in ("ann", "bob")}
    for drawn in sides.values():
        assert 160 < sum(drawn) < 240  # Bin(400, 1/2) leaves this range once in 15,000
    alike = sum(x == y for x, y in zip(sides["ann"], sides["bob"], strict=True))
    assert 160 < alike < 240
    assert sides["ann"] != [a_is_first(1, "ann", f"u{place}") for place in range(400)]


def test_started_units_are_finished_first(tmp_path: Path) -> None:
    with store(tmp_path / "s", 20, overlap=2) as made:
        turns = Turns(made)
        for _ in range(5):
            turns.give("ann", turns.take("ann").task.unit, "win", "")  # type: ignore[union-attr]
        for _ in range(5):
            turns.give("bob", turns.take("bob").task.unit, "loss", "")  # type: ignore[union-attr]
        assert sorted(standing(made).values()) == [2] * 5


def test_a_lease_keeps_a_unit_from_others_until_it_runs_out(tmp_path: Path) -> None:
    clock = Clock()
    with store(tmp_path / "s", 1, clock=clock) as made:
        turns = Turns(made)
        turn = turns.take("ann")
        assert turn is not None
        assert turns.take("bob") is None
        clock.now += 101
        assert turns.take("bob") is not None
        with pytest.raises(Conflict, match="given to someone else"):
            turns.give("ann", turn.task.unit, "win", "")
        turns.give("bob", turn.task.unit, "loss", "")
        assert [one.label for one in made.given()] == ["loss"]


def test_a_late_label_counts_where_nobody_else_took_the_unit(tmp_path: Path) -> None:
    clock = Clock()
    with store(tmp_path / "s", 1, clock=clock) as made:
        turns = Turns(made)
        turn = turns.take("ann")
        clock.now += 10_000
        turns.give("ann", turn.task.unit, "win", "")  # type: ignore[union-attr]
        assert [(one.label, one.seconds) for one in made.given()] == [("win", 10_000.0)]


def test_what_was_never_asked_cannot_be_labelled(tmp_path: Path) -> None:
    with store(tmp_path / "s", 2) as made:
        turns = Turns(made)
        with pytest.raises(Conflict, match="someone else"):
            turns.give("ann", "u000", "win", "")
        with pytest.raises(KeyError):
            turns.give("ann", "elsewhere", "win", "")
        assert made.given() == []


def test_a_label_said_twice_is_one_and_another_is_refused(tmp_path: Path) -> None:
    with store(tmp_path / "s", 1) as made:
        turns = Turns(made)
        unit = turns.take("ann").task.unit  # type: ignore[union-attr]
        turns.give("ann", unit, "win", "why")
        turns.give("ann", unit, "win", "why")
        for label, note in (("loss", "why"), ("win", "")):  # another tab, an older page
            with pytest.raises(Conflict, match="labelled this one already"):
                turns.give("ann", unit, label, note)
        assert [(one.label, one.note) for one in made.given()] == [("win", "why")]


def test_undo_goes_back_step_by_step_and_is_repeatable(tmp_path: Path) -> None:
    with store(tmp_path / "s", 3) as made:
        turns, units = Turns(made), []
        for label in ("win", "skip"):
            units.append(turns.take("ann").task.unit)  # type: ignore[union-attr]
            turns.give("ann", units[-1], label, f"note on {label}")
        assert turns.progress("ann").last == units[1]
        with pytest.raises(Conflict, match="not your last"):
            turns.undo("ann", units[0])
        turn = turns.undo("ann", units[1])
        assert (turn.task.unit, turn.label, turn.note) == (units[1], "skip", "note on skip")
        assert turns.undo("ann", units[1]) == turn  # the answer was lost and asked for again
        assert turns.progress("ann").last == units[0]
        assert turns.undo("ann", units[0]).label == "win"
        assert turns.progress("ann").last is None
        assert turns.take("ann").task.unit == units[0]  # type: ignore[union-attr]
        turns.give("ann", units[0], "loss", "")
        assert turns.take("ann").task.unit == units[1]  # type: ignore[union-attr]
        assert [one.label for one in made.given()] == ["loss"]


def test_undo_keeps_the_unit_for_who_takes_it_back(tmp_path: Path) -> None:
    with store(tmp_path / "s", 1) as made:
        turns = Turns(made)
        unit = turns.take("ann").task.unit  # type: ignore[union-attr]
        turns.give("ann", unit, "win", "")
        turns.undo("ann", unit)
        assert turns.take("bob") is None


def test_a_skip_is_passed_on_and_cannot_be_taken_back_then(tmp_path: Path) -> None:
    with store(tmp_path / "s", 1) as made:
        turns = Turns(made)
        unit = turns.take("ann").task.unit  # type: ignore[union-attr]
        turns.give("ann", unit, "skip", "")
        assert turns.take("ann") is None
        assert turns.take("bob").task.unit == unit  # type: ignore[union-attr]
        with pytest.raises(Conflict, match="the one you skipped was given to someone else"):
            turns.undo("ann", unit)
        assert [one.annotator for one in made.given(skips=True)] == ["ann"]


def test_progress_counts(tmp_path: Path) -> None:
    with store(tmp_path / "s", 3, overlap=2) as made:
        turns = Turns(made)
        for label in ("win", "skip"):
            turns.give("ann", turns.take("ann").task.unit, label, "")  # type: ignore[union-attr]
        turns.take("bob")
        found = turns.progress("ann")
        assert (found.mine, found.skipped, found.left, found.given, found.wanted) == (1, 1, 1, 1, 6)
        assert turns.progress("bob").left == 3


@pytest.mark.parametrize(("overlap", "people"), [(1, 4), (2, 4), (3, 3)])
def test_no_race_labels_a_unit_too_often_or_too_seldom(tmp_path: Path, overlap: int, people: int) -> None:
    names = [f"p{place}" for place in range(people)]
    n, failures = 25, []
    store(tmp_path / "s", n, people=names, overlap=overlap).__exit__(None, None, None)
    start = threading.Barrier(2 * people)

    def work(name: str) -> None:
        """Two tabs of each annotator, each with a connection of its own, as two servers would have."""
        try:
            with Store(tmp_path / "s") as own:
                turns = Turns(own)
                start.wait()
                while (turn := turns.take(name)) is not None:
                    try:
                        turns.give(name, turn.task.unit, "win", threading.current_thread().name)
                    except Conflict:
                        continue
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(name,)) for name in names * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with Store(tmp_path / "s") as made:
        assert set(standing(made).values()) == {overlap}
        assert len(standing(made)) == n
        assert len({(one.task.unit, one.annotator) for one in made.given()}) == n * overlap


class Labelling(RuleBasedStateMachine):
    """Any sequence of what three people may do, time included, keeps every unit within its overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.folder = tempfile.TemporaryDirectory()
        self.made = store(Path(self.folder.name) / "s", 5, people="abc", clock=self.clock, overlap=2)
        self.turns = Turns(self.made)
        self.said: dict[tuple[str, str], str] = {}

    @rule(who=st.sampled_from("abc"), label=st.sampled_from(["win", "tie", "skip"]))
    def label(self, who: str, label: str) -> None:
        turn = self.turns.take(who)
        if turn is not None:
            self.turns.give(who, turn.task.unit, label, "")
            self.said[who, turn.task.unit] = label

    @rule(who=st.sampled_from("abc"))
    def look(self, who: str) -> None:
        turn = self.turns.take(who)
        assert turn is None or (who, turn.task.unit) not in self.said

    @rule(who=st.sampled_from("abc"), unit=st.integers(0, 4))
    def label_late(self, who: str, unit: int) -> None:
        try:
            self.turns.give(who, f"u{unit:03d}", "loss", "")
        except Conflict:
            return
        self.said[who, f"u{unit:03d}"] = "loss"

    @rule(who=st.sampled_from("abc"))
    def undo(self, who: str) -> None:
        last = self.turns.progress(who).last
        if last is not None:
            try:
                self.turns.undo(who, last)
            except Conflict:
                return
            del self.said[who, last]

    @rule(seconds=st.sampled_from([1.0, 60.0, 200.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def nothing_is_lost_or_too_much(self) -> None:
        given = {(one.annotator, one.task.unit): one.label for one in self.made.given()}
        skips = {(one.annotator, one.task.unit): one.label for one in self.made.given(skips=True)}
        assert given | skips == self.said
        assert all(count <= 2 for count in standing(self.made).values())

    def teardown(self) -> None:
        self.made.__exit__(None, None, None)
        self.folder.cleanup()


Labelling.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestLabelling = Labelling.TestCase


def test_the_same_command_goes_on_and_another_is_refused(tmp_path: Path) -> None:
    with store(tmp_path / "s", 2) as made:
        Turns(made).give("ann", Turns(made).take("ann").task.unit, "win", "")  # type: ignore[union-attr]
        secret = made.secret
    with store(tmp_path / "s", 2, people=("ann", "eve")) as made:
        assert (made.secret, len(made.given()), made.annotators) == (secret, 1, ["ann", "bob", "eve"])
    with pytest.raises(UserError, match=r"another session: overlap was 1, now 2; choose another folder"):
        store(tmp_path / "s", 2, overlap=2)


def test_a_file_that_is_no_session_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE reply (key BLOB)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(DataError, match="is not a labelling session"):
        Store(path)
    (tmp_path / "text").write_text("these are words, more than sixteen bytes of them\n" * 50)
    with pytest.raises(DataError, match="is not a labelling session"):
        Store(tmp_path / "text")
    assert sqlite3.connect(path).execute("SELECT name FROM sqlite_schema").fetchall() == [("reply",)]
    assert len(path.read_bytes()) == len(before)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot open the session"):
        Store(tmp_path / "folder")


def test_a_newer_file_is_refused_and_nobody_else_may_read_ours(tmp_path: Path) -> None:
    store(tmp_path / "s").__exit__(None, None, None)
    assert (tmp_path / "s").stat().st_mode & 0o077 == 0
    database = sqlite3.connect(tmp_path / "s")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(DataError, match="version 99, newer than"):
        Store(tmp_path / "s")


def test_the_file_is_written_through_to_disk(tmp_path: Path) -> None:
    with store(tmp_path / "s") as made:
        [(mode,)], [(level,)] = made.read("PRAGMA journal_mode"), made.read("PRAGMA synchronous")
        assert (mode, level) == ("wal", 2)


def test_a_full_or_locked_file_is_one_line(tmp_path: Path) -> None:
    with store(tmp_path / "s") as made:
        made.read("PRAGMA query_only = 1")
        with pytest.raises(UserError, match=r"cannot write the session .*; free the disk or the file"):
            Turns(made).take("ann")


def test_many_units_stay_quick(tmp_path: Path) -> None:
    with store(tmp_path / "s", 10_000, people=("ann",)) as made:
        turns, spent = Turns(made), []
        for _ in range(5):
            begun = time.process_time()
            turns.give("ann", turns.take("ann").task.unit, "win", "")  # type: ignore[union-attr]
            turns.progress("ann")
            spent.append(time.process_time() - begun)
        assert min(spent) < 0.5


def test_hostile_names_and_texts_are_only_bound(tmp_path: Path) -> None:
    bad: Any = "'; DROP TABLE label; --\x00\u202e"
    with store(tmp_path / "s", 1, people=(bad,)) as made:
        turns = Turns(made)
        turns.give(bad, turns.take(bad).task.unit, "win", bad)  # type: ignore[union-attr]
        assert [(one.annotator, one.note) for one in made.given()] == [(bad, bad)]
