"""What people disagree on goes to adjudicators, who see what was said and not by whom; their conflicts are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sessions import Client, session

from perl_eval.errors import UserError
from perl_eval.labelling.adjudication import Rulings, settled
from perl_eval.labelling.assignment import Conflict, Turns
from perl_eval.labelling.export import export
from perl_eval.labelling.store import Store
from perl_eval.records import HumanLabel
from perl_eval.storage import run_folder


def labelled(folder: Path, **changes: Any) -> Store:
    """Begin a session in which ann and bob labelled all six units and disagree on the first two."""
    made = session(folder, overlap=2, adjudicators=("judy", "otto"), **changes)
    turns = Turns(made)
    for name in ("ann", "bob"):
        while (turn := turns.take(name)) is not None:
            place = int(turn.task.item.split()[1])
            label = "loss" if name == "bob" and place < 2 else "win"
            turns.give(name, turn.task.unit, label, f"note of {place}" if name == "bob" else "")
    return made


def test_adjudicators_see_what_was_said_and_no_names(tmp_path: Path) -> None:
    with labelled(tmp_path) as store:
        judy = Client(store, "judy")
        about = judy.get("/api/session").json()
        assert (about["role"], about["progress"]["left"], about["progress"]["wanted"]) == ("adjudicator", 2, 4)
        answer = judy.post("/api/next")
        task = answer.json()["task"]
        assert sorted(one["choice"] for one in task["said"]) == ["first", "second"]
        assert sorted(bool(one["note"]) for one in task["said"]) == [False, True]
        for name in ("ann", "bob", "kappa", "sigma"):
            assert name not in answer.text
        assert Client(store, "ann").post("/api/next").json()["task"] is None
        assert Client(store, "ann").get("/api/session").json()["role"] == "annotator"


def test_nobody_is_known_by_their_place(tmp_path: Path) -> None:
    with session(tmp_path, 60, overlap=2, adjudicators=("judy",)) as store:
        turns, rulings = Turns(store), Rulings(store)
        for name, label in (("ann", "win"), ("bob", "loss")):
            while (turn := turns.take(name)) is not None:
                turns.give(name, turn.task.unit, label, "")
        firsts = []
        while (turn := rulings.take("judy")) is not None:
            firsts.append(turn.said[0].label)
            rulings.give("judy", turn.task.unit, "tie", "")
        assert len(firsts) == 60
        assert 15 < firsts.count("win") < 45


def test_rulings_take_the_place_of_labels_and_conflicts_stay(tmp_path: Path) -> None:
    with labelled(tmp_path) as store:
        judy, otto = Client(store, "judy"), Client(store, "otto")
        for client, label in ((judy, "win"), (otto, "loss")):
            while (task := client.next()) is not None:
                first = "answer one" in task["answers"][0]
                choice = (
                    "tie"
                    if task["answers"][0].endswith(" 0")
                    else {True: "first", False: "second"}[first == (label == "win")]
                )
                assert client.label(task, choice, "so it is").status_code == 200
        assert judy.get("/api/session").json()["progress"] == {
            **{"mine": 2, "skipped": 0, "left": 0, "given": 4, "wanted": 4},
            "last": judy.get("/api/session").json()["progress"]["last"],
        }
        kept, counts = settled(store.given(), store.rulings())
        assert counts == {"disagreed": 2, "adjudicated": 2, "adjudicators disagree": 1}
        by_item = sorted((one.task.item, one.annotator, one.label) for one in kept)
        assert by_item[:4] == [
            ("item 0", "judy", "tie"),
            ("item 0", "otto", "tie"),
            ("item 1", "judy", "win"),
            ("item 1", "otto", "loss"),
        ]
        assert len(kept) == 12
    export(tmp_path / "session", tmp_path / "people")
    assert {label.annotator for label in run_folder.read(tmp_path / "people", HumanLabel)} == {"ann", "bob"}
    export(tmp_path / "session", tmp_path / "final", form="adjudicated")
    final = run_folder.read(tmp_path / "final", HumanLabel)
    assert {label.annotator for label in final if label.item < "item 2"} == {"judy", "otto"}
    card = run_folder.read_card(tmp_path / "final")
    assert card is not None
    assert card.notes["adjudicators disagree"] == 1


def test_a_ruling_can_be_taken_back_and_what_is_agreed_on_is_not_ruled_on(tmp_path: Path) -> None:
    with labelled(tmp_path) as store:
        rulings, turns = Rulings(store), Turns(store)
        turn = rulings.take("judy")
        assert turn is not None
        unit = turn.task.unit
        rulings.give("judy", unit, "win", "sure")
        rulings.give("judy", unit, "win", "sure")
        with pytest.raises(Conflict, match="you have ruled on this one already"):
            rulings.give("judy", unit, "loss", "")
        assert rulings.progress("judy").last == unit
        back = rulings.undo("judy", unit)
        assert (back.label, back.note) == ("win", "sure")
        assert rulings.undo("judy", unit) == back
        assert rulings.progress("judy").mine == 0
        agreed = next(one.task.unit for one in store.given() if one.task.item == "item 5")
        with pytest.raises(Conflict, match="people agree on this one"):
            rulings.give("judy", agreed, "win", "")
        with pytest.raises(Conflict, match="not your last ruling"):
            rulings.undo("otto", unit)
        with pytest.raises(KeyError):
            rulings.give("judy", "nowhere", "win", "")
        # Bob changes his mind about the unit that he labelled last; where that ends a disagreement, it is gone.
        rulings.give("judy", unit, "tie", "")
        last = turns.progress("bob").last
        assert last is not None
        turns.undo("bob", last)
        turns.give("bob", last, "win", "")
        assert rulings.progress("otto").wanted in (2, 4)


def test_one_person_is_not_both(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a pseudonym is given twice"):
        session(tmp_path, overlap=2, adjudicators=("ann",))
    with pytest.raises(UserError, match="overlap is 1; people can disagree only where two label the same: give 2"):
        session(tmp_path, adjudicators=("judy",))
    session(tmp_path, overlap=2, adjudicators=("judy",)).__exit__(None, None, None)
    with pytest.raises(UserError, match="judy is annotator and adjudicator"):
        session(tmp_path, overlap=2, annotators=("ann", "judy"))
