"""From drawing to labels: every unit has a chance, its weight travels, and other tools give back what they got."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from sessions import Client, completions, session, unit

from perl_eval import sources
from perl_eval.errors import DataError, UserError
from perl_eval.labelling.assignment import Turns
from perl_eval.labelling.export import Form, export
from perl_eval.labelling.serve import AnnotateOptions, begin
from perl_eval.labelling.store import Store
from perl_eval.labelling.units import Drawing, Task, drawn, tasks_of
from perl_eval.records import Completion, Estimate, HumanLabel, Judgement, unit_of
from perl_eval.scoring import agree
from perl_eval.storage import parquet, run_folder

# ------------------------------------------------------------------------------------------------------------ drawing


def judgement(place: int, outcome: str = "win", p_a: float | None = 0.9, *, turned: bool = False) -> Judgement:
    a, b = (f"sigma-{place}", f"kappa-{place}") if turned else (f"kappa-{place}", f"sigma-{place}")
    return Judgement(
        id=f"j{place}", kind="pairwise", item=f"item {place}", group=f"g{place}", dataset="coffee", a=a, b=b,
        policy_a="kappa", policy_b="sigma", prompt=(), text_a="", text_b="", outcome=outcome, ballots=(),
        judge="chat", prompt_sha256="", simulated=False, p_a=p_a,
    )  # fmt: skip


def units(n: int) -> list[Task]:
    return [Task(unit(place), f"item {place}", f"g{place}", (), ("one", "two")) for place in range(n)]


def test_units_are_pairs_of_one_item_or_single_answers(tmp_path: Path) -> None:
    a = run_folder.read(completions(tmp_path / "a", "kappa", 3), Completion)
    b = run_folder.read(completions(tmp_path / "b", "sigma", 2), Completion)
    assert [task.unit for task in tasks_of(a, b)] == [unit(0), unit(1)]
    assert [(task.unit, task.kind) for task in tasks_of(a, None)] == [
        (unit_of(f"kappa-{p}"), "yes_no") for p in range(3)
    ]
    with pytest.raises(UserError, match="there are no completions"):
        tasks_of([], None)
    with pytest.raises(UserError, match="no item is in both"):
        tasks_of(a[2:], b)


def test_all_units_weigh_one_and_a_random_part_its_share() -> None:
    everything = units(40)
    assert drawn(everything, Drawing()) == everything
    assert {task.weight for task in drawn(everything, Drawing(limit=40))} == {1.0}
    part = drawn(everything, Drawing(limit=10, seed=3))
    assert [task.weight for task in part] == pytest.approx([4.0] * 10)
    assert drawn(everything[::-1], Drawing(limit=10, seed=3)) == part
    assert drawn(everything, Drawing(limit=10, seed=4)) != part


@pytest.mark.parametrize("by", ["uncertain", "split"])
def test_what_the_judge_doubts_is_drawn_more_often_and_weighs_less(by: str) -> None:
    everything = units(200)
    said = [judgement(p, "split", 0.5) if p < 50 else judgement(p, "win", 1.0, turned=p % 2 == 0) for p in range(200)]
    part = drawn(everything, Drawing(by, limit=60), said)  # type: ignore[arg-type]
    doubted = {unit(place) for place in range(50)}
    # Sizes 0.6 and 0.1 (uncertain): 60 of 45 in all, so each of the 50 has 60 * 0.6 / 45 = 0.8, and the others 0.1333.
    # Sizes 4 and 1 (split): 60 of 350, so 0.6857 and 0.1714.
    chances = (0.8, 0.1 * 60 / 45) if by == "uncertain" else (4 * 60 / 350, 60 / 350)
    for task in part:
        assert 1 / task.weight == pytest.approx(chances[task.unit not in doubted])
    assert sum(task.unit in doubted for task in part) == pytest.approx(50 * chances[0], abs=1)


def test_units_without_a_verdict_have_a_chance_too() -> None:
    said = [judgement(place, "unjudged", None) for place in range(5)] + [judgement(5, "split", 0.5)]
    part = drawn(units(6), Drawing("uncertain", limit=2, seed=1), said)
    assert len(part) == 2
    assert unit(5) in {task.unit for task in part}  # 2 * 0.6 / 1.1 is above 1


def test_drawings_that_lack_something() -> None:
    with pytest.raises(UserError, match="has no judgement; judge the same completions first"):
        drawn(units(3), Drawing("split", limit=2), [judgement(0)])
    with pytest.raises(UserError, match="has no probability; draw by split"):
        drawn(units(3), Drawing("uncertain", limit=2), [judgement(place, p_a=None) for place in range(3)])
    with pytest.raises(UserError, match="is judged twice, by chat and other"):
        drawn(units(3), Drawing("split", limit=2), [judgement(0), replace(judgement(0), judge="other")])


# ------------------------------------------------------------------------------------------------------------- labels


def say(store: Store, answer: Callable[[str, str], str], people: tuple[str, ...] = ("ann", "bob")) -> None:
    turns = Turns(store)
    for name in people:
        while (turn := turns.take(name)) is not None:
            turns.give(name, turn.task.unit, answer(name, turn.task.unit), f"{name}'s\nnote <b>")


def test_labels_go_straight_into_agree(tmp_path: Path) -> None:
    with session(tmp_path, 12, overlap=2) as store:
        say(store, lambda name, unit: "win" if name == "ann" or int(unit, 16) % 2 else "tie")
    out = export(tmp_path / "session", tmp_path / "labels")
    labels = run_folder.read(out, HumanLabel)
    assert {(label.unit, label.annotator) for label in labels} == {
        (unit(p), name) for p in range(12) for name in ("ann", "bob")
    }
    assert {(label.item, label.group) for label in labels} == {(f"item {p}", f"group {p // 2}") for p in range(12)}
    assert {label.note for label in labels if label.annotator == "ann"} == {"ann's\nnote <b>"}
    assert not any(label.simulated for label in labels)
    card = run_folder.read_card(out)
    assert card is not None
    assert card.notes["by annotator"] == {"ann": 12, "bob": 12}
    assert (card.notes["labels"], card.notes["units"], card.notes["skipped"]) == (24, 12, 0)
    parquet.write(tmp_path / "judged.parquet", [judgement(p) for p in range(12)], Judgement)
    found = {
        e.name: e for e in run_folder.read(agree.run(tmp_path / "judged.parquet", out, tmp_path / "agreed"), Estimate)
    }
    ties = sum(label.label == "tie" for label in labels)
    assert 0 < ties < 12
    assert found["human-judge exact agreement"].value == pytest.approx(1 - ties / 24)
    assert found["people"].value == 2


def test_weights_travel_and_correct_the_rate(tmp_path: Path) -> None:
    """400 pairs; the judge says win of 320, rightly, and splits on 80, where people say loss: the truth is 0.8."""
    completions(tmp_path / "a", "kappa", 400)
    completions(tmp_path / "b", "sigma", 400)
    said = [judgement(p, "split" if p % 5 == 0 else "win", 0.5 if p % 5 == 0 else 0.98) for p in range(400)]
    parquet.write(tmp_path / "judged.parquet", said, Judgement)
    options = AnnotateOptions(drawing=Drawing("split", limit=120, seed=5), judgements=tmp_path / "judged.parquet")
    splits = {unit(place) for place in range(0, 400, 5)}
    with begin(tmp_path / "a", tmp_path / "b", tmp_path / "session", options=options) as store:
        say(store, lambda _, unit: "loss" if unit in splits else "win", ("annotator-1",))
    labels = run_folder.read(export(tmp_path / "session", tmp_path / "labels"), HumanLabel)
    # Sizes 4 and 1: 120 of 640, so splits weigh 640 / 480 and the others 640 / 120.
    assert {(round(x.weight, 6), x.unit in splits) for x in labels} == {(1.333333, True), (5.333333, False)}
    assert sum(label.label == "win" for label in labels) / len(labels) < 0.6
    agreed = agree.run(tmp_path / "judged.parquet", tmp_path / "labels", tmp_path / "agreed")
    found = {e.name: e for e in run_folder.read(agreed, Estimate)}
    corrected = found["win rate, undecided half, corrected by PPI++"]
    assert corrected.value == pytest.approx(0.8, abs=0.005)
    assert corrected.method.startswith("weighted")


def test_corrected_rates_over_many_drawings_are_unbiased(tmp_path: Path) -> None:
    """Through drawing, labels and agree: the mean over seeds is the truth, and the labels' own rate is not."""
    from perl_eval.metrics.agreement import estimate_agreement
    from perl_eval.stats.bootstrap import Resampling

    rng = np.random.default_rng(3)
    chance = rng.beta(0.6, 0.3, 300)
    truth = rng.random(300) < chance
    said = [judgement(p, "win" if q > 0.7 else "split" if q > 0.3 else "loss", float(q)) for p, q in enumerate(chance)]
    right = {unit(place): bool(truth[place]) for place in range(300)}
    values, plain = [], []
    for seed in range(60):
        part = drawn(units(300), Drawing("uncertain", limit=80, seed=seed), said)
        labels = [
            HumanLabel(x.unit, x.item, x.group, "ann", "win" if right[x.unit] else "loss", weight=x.weight)
            for x in part
        ]
        found = {e.name: e.value for e in estimate_agreement(said, labels, resampling=Resampling(draws=2))}
        values.append(found["win rate, undecided half, corrected by PPI++"])
        plain.append(np.mean([label.label == "win" for label in labels]))
    error = np.std(values) / np.sqrt(60)
    assert abs(np.mean(values) - truth.mean()) < 3 * error
    assert abs(np.mean(plain) - truth.mean()) > 5 * error


def test_new_labels_need_a_new_folder_and_the_same_ones_do_not(tmp_path: Path) -> None:
    with session(tmp_path, 3) as store:
        client = Client(store)
        client.label(client.next(), "tie")
        first = export(tmp_path / "session", tmp_path / "labels")
        assert export(tmp_path / "session", tmp_path / "labels") == first
        client.label(client.next(), "skip")
        assert export(tmp_path / "session", tmp_path / "labels") == first
        client.label(client.next(), "first")
        with pytest.raises(UserError, match="labels was"):
            export(tmp_path / "session", tmp_path / "labels")
        card = run_folder.read_card(export(tmp_path / "session" / "labelling.sqlite", tmp_path / "more"))
    assert card is not None
    assert (card.notes["labels"], card.notes["skipped"]) == (2, 1)
    assert card.notes["preferred first"] == "1 of 1"


@pytest.mark.parametrize("form", ["argilla", "label-studio"])
@pytest.mark.parametrize("kind", ["pairwise", "yes_no"])
def test_other_tools_give_back_what_they_got(tmp_path: Path, form: Form, kind: str) -> None:
    completions(tmp_path / "a", "kappa", 9)
    completions(tmp_path / "b", "sigma", 9)
    b = tmp_path / "b" if kind == "pairwise" else None
    options = AnnotateOptions(("ann", "bob"), 2, "Which <one>?", Drawing(limit=8))
    with begin(tmp_path / "a", b, tmp_path / "session", options=options) as store:
        names = ("win", "tie", "loss") if b else ("yes", "no")
        say(store, lambda name, unit: names[(int(unit, 16) + len(name) + ord(name[0])) % len(names)])
    labels = run_folder.read(export(tmp_path / "session", tmp_path / "labels"), HumanLabel)
    out = export(tmp_path / "session", tmp_path / "other", form=form)
    text = (out / f"{form}.json").read_text("utf-8")
    assert "kappa" not in text  # as blind as our own page
    back = sources.run(out / f"{form}.json", tmp_path / "back", form=form)

    def key(label: HumanLabel) -> tuple[str, str]:
        return label.unit, label.annotator

    assert sorted(run_folder.read(back, HumanLabel), key=key) == sorted(labels, key=key)
    assert len({label.label for label in labels}) == len(names)
    if kind == "pairwise":
        rows = json.loads(text)
        facts = [row["metadata"] if form == "argilla" else row["data"] for row in rows]
        assert {fact["a_is"] for fact in facts} == {"first", "second"}
        for row, fact in zip(rows, facts, strict=True):
            shown = (row["fields"] if form == "argilla" else row["data"])[fact["a_is"]]
            assert shown.startswith("answer one")


def test_argilla_gets_ids_of_users_that_it_takes(tmp_path: Path) -> None:
    import uuid

    with session(tmp_path, 2, overlap=2) as store:
        say(store, lambda *_: "tie")
    rows = json.loads((export(tmp_path / "session", tmp_path / "out", form="argilla") / "argilla.json").read_text())
    users = {answer["user_id"] for row in rows for answers in row["responses"].values() for answer in answers}
    assert len({uuid.UUID(user) for user in users}) == 2
    assert all(set(answer) == {"value", "user_id"} for row in rows for a in row["responses"].values() for answer in a)


def test_label_studio_gets_a_configuration_of_what_the_tasks_hold(tmp_path: Path) -> None:
    with session(tmp_path, 2, question='Which "one" <is> better & why?') as store:
        say(store, lambda *_: "win", ("ann",))
    out = export(tmp_path / "session", tmp_path / "out", form="label-studio")
    view = ElementTree.fromstring((out / "label-studio.xml").read_text("utf-8"))
    assert view[0].get("value") == 'Which "one" <is> better & why?'
    shown = {str(node.get("value")).removeprefix("$") for node in view.iter("Text")}
    (row, _) = json.loads((out / "label-studio.json").read_text("utf-8"))
    assert shown <= row["data"].keys()
    controls = {node.get("name"): node for node in view if node.tag in ("Choices", "TextArea")}
    for result in row["annotations"][0]["result"]:
        assert controls[result["from_name"]].get("toName") == result["to_name"] == "prompt"
    choices = {node.get("value") for node in view.iter("Choice")}
    assert set(row["annotations"][0]["result"][0]["value"]["choices"]) <= choices == {"first", "tie", "second"}


def test_exports_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no labelling session at"):
        export(tmp_path, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    session(tmp_path).__exit__(None, None, None)
    with pytest.raises(UserError, match="no form 'excel'"):
        export(tmp_path / "session", tmp_path / "out", form="excel")  # type: ignore[arg-type]
    (tmp_path / "session" / "labelling.sqlite").write_bytes(b"x" * 4096)
    with pytest.raises(DataError, match="is not a labelling session"):
        export(tmp_path / "session", tmp_path / "out")


def test_foreign_weights_are_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    row = {"unit": "u", "label": "first", "weight": "2.5", "note": "n", "item": "i", "a_is": "second"}
    path.write_text(json.dumps(row))
    (label,) = sources.read_labels(path)
    assert label == HumanLabel("u", "i", "i", "unnamed", "loss", note="n", weight=2.5)
    for bad in ("0", "-1", "nan", "much", []):
        path.write_text(json.dumps({**row, "weight": bad}))
        with pytest.raises(DataError, match=r"row 0, field 'weight': .* is not a weight; give a number above 0"):
            sources.read_labels(path)


def test_labels_of_a_session_go_to_any_format(tmp_path: Path, command: Callable[[str], object]) -> None:
    with session(tmp_path, 3, overlap=2) as store:
        say(store, lambda name, _: "win" if name == "ann" else "tie")
    for to, file in (("csv", "labels.csv"), ("label-studio", "tasks.json")):
        command(f"export {tmp_path / 'session'} --to {to} --out {tmp_path / file}")
        found = sources.read_labels(tmp_path / file, "table" if to == "csv" else to)
        assert sorted((one.unit, one.annotator, one.label) for one in found) == sorted(
            (unit(place), name, label) for place in range(3) for name, label in (("ann", "win"), ("bob", "tie"))
        )
