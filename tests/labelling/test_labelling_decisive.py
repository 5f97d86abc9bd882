"""Asking first what tells most, and until it is decided: weights that keep rates true, looks that share one error."""

from __future__ import annotations

import itertools
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from server import Server
from sessions import Client, completions, unit
from test_labelling_labels import judgement

from perl_eval.errors import UserError
from perl_eval.labelling import deciding
from perl_eval.labelling.assignment import Turns
from perl_eval.labelling.deciding import Watch, look_now, looks
from perl_eval.labelling.export import export
from perl_eval.labelling.serve import AnnotateOptions, begin
from perl_eval.labelling.store import Store
from perl_eval.labelling.units import Drawing, Task, drawn, sequence_key, weights_of
from perl_eval.records import HumanLabel, Judgement
from perl_eval.stats.corrected_difference import Differences, corrected_difference
from perl_eval.storage import parquet, run_folder


def sized(sizes: list[float]) -> list[Task]:
    return [
        Task(unit(place), f"item {place}", "g", (), ("x", "y"), weight=1 / size) for place, size in enumerate(sizes)
    ]


def test_doubt_comes_first_and_sureness_has_a_chance() -> None:
    said = [judgement(p, "split" if p < 20 else "win", 0.5 if p < 20 else 1.0) for p in range(200)]
    tasks = drawn([Task(unit(p), f"item {p}", "g", (), ("x", "y")) for p in range(200)], Drawing("decisive"), said)
    assert [round(1 / task.weight, 3) for task in tasks[:1] + tasks[-1:]] == [0.6, 0.1]
    places = {task.unit: place for place, task in enumerate(tasks)}
    first = [
        sum(places[task.unit] < 20 for task in sorted(tasks, key=lambda task: sequence_key(seed, task))[:10])
        for seed in range(300)
    ]
    # Of a size of 30 in all, the doubted have 12: the first ten take somewhat under ten times 0.4 of them.
    assert np.mean(first) == pytest.approx(3.7, abs=0.4)


def test_a_judge_without_probabilities_will_do() -> None:
    said = [judgement(0, "split", None), judgement(1, "win", None), judgement(2, "unjudged", None)]
    tasks = drawn([Task(unit(p), f"item {p}", "g", (), ("x", "y")) for p in range(3)], Drawing("decisive"), said)
    assert [1 / task.weight for task in tasks] == pytest.approx([0.6, 0.4, 0.1])
    with pytest.raises(UserError, match="has no judgement"):
        drawn(sized([1.0] * 4), Drawing("decisive"), said)


@pytest.mark.parametrize("labelled", [10, 40, 90])
def test_weighted_rates_are_true_whenever_people_stop(labelled: int) -> None:
    """Truth and size go together, so that a rate without weights would be far off."""
    random = np.random.default_rng(0)
    sizes = random.uniform(0.1, 0.6, 100)
    truth = (random.random(100) < 1.5 * sizes).astype(float)
    tasks = sized(sizes.tolist())
    place = {task.unit: at for at, task in enumerate(tasks)}
    weights = weights_of(tasks, labelled)
    weighted, plain = [], []
    for seed in range(600):
        taken = sorted(tasks, key=lambda task: sequence_key(seed, task))[:labelled]
        share = np.array([weights[task.unit] for task in taken])
        values = np.array([truth[place[task.unit]] for task in taken])
        weighted.append(share @ values / share.sum())
        plain.append(values.mean())
    error = np.std(weighted) / np.sqrt(600)
    assert np.mean(weighted) == pytest.approx(truth.mean(), abs=4 * error + 0.01)
    if labelled == 10:
        assert np.mean(plain) > truth.mean() + 0.05


def test_looks_share_one_error() -> None:
    for units in (5, 20, 21, 500, 100_000):
        found = looks(units)
        assert found[-1].units == units
        assert [one.units for one in found] == sorted({one.units for one in found})
        assert sum(1 - one.level for one in found) == pytest.approx(0.05)
        assert all(one.level > other.level for one, other in itertools.pairwise(found))


def test_looking_again_and_again_is_seldom_wrong() -> None:
    """Sessions without a difference, a judge that is kinder to one side: looks at 95 % each would often be wrong."""
    units, wrong, naive = 120, 0, 0
    for seed in range(150):
        random = np.random.default_rng(seed)
        chance = random.beta(0.6, 0.6, units)
        truth = 2.0 * (random.random(units) < 0.5 + 0.7 * (chance - 0.5)) - 1.0
        judged = 2.0 * np.clip(chance + 0.08, 0.0, 1.0) - 1.0
        tasks = sized((0.1 + np.sqrt(chance * (1 - chance))).tolist())
        order = np.array(sorted(range(units), key=lambda row: sequence_key(seed, tasks[row])))
        values = []
        for look in looks(units):
            rows, weights = order[: look.units], weights_of(tasks, look.units)
            weight = np.array([weights[tasks[row].unit] for row in rows])
            found = corrected_difference(Differences(judged[:, None], rows, truth[rows], weight, np.arange(units)))
            assert found is not None
            values.append((found.p_value(), 1 - look.level))
        wrong += any(p <= error for p, error in values)
        naive += any(p <= 0.05 for p, _ in values)
    # 150 sessions at 0.05: more than 14 happen once in a hundred times.
    assert wrong <= 14
    assert naive > 15


def shelf(folder: Path, n: int, wins: int) -> Path:
    """Write completions of two policies and a judge's judgements: a wins the first ``wins`` units, loses the others."""
    completions(folder / "a", "kappa", n)
    completions(folder / "b", "sigma", n)
    said = [judgement(p, "win" if p < wins else "loss", 0.8 if p < wins else 0.2) for p in range(n)]
    parquet.write(folder / "judged.parquet", said, Judgement)
    return folder


def begun(folder: Path, **changes: object) -> Store:
    options = AnnotateOptions(
        annotators=("ann", "bob"),
        drawing=Drawing("decisive", limit=changes.pop("limit", None)),  # type: ignore[arg-type]
        judgements=folder / "judged.parquet",
        until_decided=True,
        **changes,  # type: ignore[arg-type]
    )
    return begin(folder / "a", folder / "b", folder / "session", options=options)


def test_it_is_decided_once_and_then_nobody_is_asked(tmp_path: Path) -> None:
    shelf(tmp_path, 60, 50)
    with begun(tmp_path) as store:
        turns, judged, said = Turns(store), tmp_path / "judged.parquet", list[str]()
        order = {"ann": list[str](), "bob": list[str]()}
        for place in range(60):
            name = ("ann", "bob")[place % 2]
            turn = turns.take(name)
            if turn is None:
                break
            order[name].append(turn.task.unit)
            turns.give(name, turn.task.unit, "win" if int(turn.task.item.split()[1]) < 48 else "loss", "")
            line = look_now(store, judged, tmp_path)
            if line is not None:
                said.append(line)
                assert look_now(store, judged, tmp_path) is None
        assert said[-1].startswith("after 20 labelled units, at level 0.99")
        assert "kappa is better than sigma" in said[-1]
        assert store.is_decided
        assert Client(store).post("/api/next").json()["decided"] is True
        assert sum(map(len, order.values())) == 20
        # One order for both: nobody is sent to the end of it while its beginning is free.
        everything = [unit for (unit,) in store.read("SELECT unit FROM turn WHERE annotator = 'ann' ORDER BY place")]
        assert {*order["ann"], *order["bob"]} == {*everything[:20]}
    assert (tmp_path / "decision.md").read_text() == "".join(f"- {line}\n" for line in said)
    export(tmp_path / "session", tmp_path / "labels")
    labels = run_folder.read(tmp_path / "labels", HumanLabel)
    assert len(labels) == 20
    assert all(label.weight >= 1 for label in labels)


def test_what_makes_no_difference_is_not_decided(tmp_path: Path) -> None:
    shelf(tmp_path, 24, 12)
    with begun(tmp_path) as store:
        turns, lines = Turns(store), list[str]()
        while (turn := turns.take("ann")) is not None:
            turns.give("ann", turn.task.unit, "win" if int(turn.task.item.split()[1]) % 2 else "loss", "")
            lines += filter(None, [look_now(store, tmp_path / "judged.parquet", tmp_path)])
        assert [line.split(",")[0] for line in lines] == ["after 20 labelled units", "after 24 labelled units"]
        assert all("not decided" in line for line in lines)
        assert not store.is_decided
        assert json.loads(store.noted("looks") or "") == lines


def test_a_limit_ends_it(tmp_path: Path) -> None:
    shelf(tmp_path, 24, 12)
    with begun(tmp_path, limit=7) as store:
        turns = Turns(store)
        for _ in range(7):
            turn = turns.take("ann")
            assert turn is not None
            turns.give("ann", turn.task.unit, "tie", "")
        assert turns.take("ann") is None
        progress = turns.progress("ann")
        assert (progress.left, progress.given, progress.wanted) == (0, 7, 7)


def test_what_cannot_be_decided_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="without a judge's judgements; give them with --judgements"):
        AnnotateOptions(until_decided=True)
    shelf(tmp_path, 6, 3)
    options = AnnotateOptions(judgements=tmp_path / "judged.parquet", until_decided=True, question="Good?")
    with pytest.raises(UserError, match="only which of two is better can be decided"):
        begin(tmp_path / "a", None, tmp_path / "session", options=options)


def test_the_server_ends_when_it_is_decided(tmp_path: Path) -> None:
    shelf(tmp_path, 60, 50)
    with Server(tmp_path, "--judgements", "judged.parquet", "--until-decided", "--out", "s") as server:
        kept = 0
        while (asked := server.call("annotator-1", "/api/next"))["task"] is not None:
            # Policy a says "answer one".
            first = "answer one" in asked["task"]["answers"][0]
            body = {"unit": asked["task"]["unit"], "choice": "first" if first else "second"}
            assert server.call("annotator-1", "/api/label", body)["status"] == 200
            kept += 1
            for _ in range(600 if kept == 20 else 0):
                if server.call("annotator-1", "/api/next")["decided"]:
                    break
                time.sleep(0.1)
        assert asked["decided"] is True
        assert kept == 21  # the one that was at hand while the decision was made
        code, log = server.wait()
    assert code == 0
    assert "kappa is better than sigma" in log
    with session_of(tmp_path / "s") as store:
        assert store.is_decided


def test_the_end_waits_for_those_who_have_something_before_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "_POLL_S", 0.01)
    shelf(tmp_path, 4, 4)
    with begun(tmp_path) as store:
        at_hand: set[str] = set()
        ann, bob = (Client(store, name, at_hand=at_hand) for name in ("ann", "bob"))
        task = ann.next()
        assert bob.next() is not None
        store.note(deciding.DECIDED, "after 4 labelled units")
        ended = threading.Event()
        watch = Watch(store, tmp_path / "judged.parquet", lambda _: None, ended.set, at_hand)
        watch.start()
        ann.label(task, "first")
        assert ann.next() is None
        assert not ended.wait(0.3)  # Bob has not answered
        bob.label(bob.next(), "first")
        assert not ended.wait(0.3)  # nor heard
        assert bob.next() is None
        assert ended.wait(20)
        watch.stop()


def session_of(folder: Path) -> Store:
    return Store(folder / "labelling.sqlite")
