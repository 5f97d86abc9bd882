"""Files of labels are told by their content, whatever tool wrote them, and what is wrong or left out is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from label_files import (
    ABOUT,
    ARENA,
    ARGILLA_FLAT,
    ARGILLA_NESTED,
    FAMILIES,
    MT_BENCH,
    STUDIO_MIN,
    document,
    studio_task,
    table,
    written,
)

from perl_eval.errors import DataError, OptionError
from perl_eval.records import Estimate, HumanLabel, digest, unit_of
from perl_eval.scoring import agree
from perl_eval.sources.brought import HowRead, judgements_in, labels_in
from perl_eval.sources.containers import opened
from perl_eval.sources.labels import LabelColumns, labels
from perl_eval.sources.recognition import format_of
from perl_eval.storage import run_folder


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_is_told_and_read(tmp_path: Path, family: str) -> None:
    named, name, rows = FAMILIES[family]
    path = written(tmp_path, name, rows)
    assert format_of(opened(path), HumanLabel).name == named
    first = labels(path)[0]
    item = "81" if family == "mt-bench" else "q1"
    assert (first.item, first.policy_a, first.policy_b, first.label) == (item, "rl", "sft", "win")
    assert first.unit == ""  # nothing names the completions


def test_what_is_left_out_is_counted_on_the_card_and_said(tmp_path: Path) -> None:
    said: list[str] = []
    home = labels_in(document(tmp_path / "x.json", [ARGILLA_FLAT]), tmp_path / "out", say=said.append)
    assert home == tmp_path / "out" / "inputs" / "labels"
    card = run_folder.read_card(home)
    assert card is not None
    assert card.notes["left_out"] == {"responses that are draft": 1, "responses that are discarded": 1}
    assert "1 label of u1" in said[0]
    assert "left out: 1 response that is draft" in said[0]


def test_drafts_that_a_file_cannot_tell_are_said_to_be_taken(tmp_path: Path) -> None:
    said: list[str] = []
    labels_in(document(tmp_path / "x.json", [ARGILLA_NESTED]), tmp_path / "out", say=said.append)
    assert "derived: status, taken as submitted" in said[0]


def test_a_rater_who_labels_twice_is_counted(tmp_path: Path) -> None:
    rows = [{**ABOUT, "label": label, "annotator": who} for label in ("win", "tie") for who in ("ann", "bob")]
    said: list[str] = []
    labels_in(table(tmp_path / "x.csv", rows), tmp_path / "out", say=said.append)
    assert "2 labels twice of the same unit by the same person, of which the last counts" in said[0]


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([studio_task(("better", "pairwise", {"selected": "left"}))], r"better \(pairwise, 1 answer\)"),
        ([{**{k: v for k, v in STUDIO_MIN.items() if k != "label"}, "better": [{"rating": 4}]}], r"better \(rating"),
        ([{**ARGILLA_NESTED, "responses": {"better": [{"value": "a", "user_id": "u"}]}}], r"better \(label"),
    ],
)
def test_a_question_of_another_name_is_named_with_what_to_type(tmp_path: Path, rows: Any, found: str) -> None:
    with pytest.raises(DataError, match=rf"no answers to a question 'label'.*{found}.*--column label=better"):
        labels(document(tmp_path / "x.json", rows))


def test_a_question_that_was_named_is_read(tmp_path: Path) -> None:
    path = document(tmp_path / "x.json", [studio_task(("better", "choices", {"choices": ["Second"]}))])
    (found,) = labels(path, columns=LabelColumns(label="better"))
    assert found.label == "loss"


def test_ratings_say_from_which_number_on_they_are_a_yes(tmp_path: Path) -> None:
    task = studio_task(("label", "rating", {"rating": 4}))
    path = document(tmp_path / "x.json", [{**task, "data": {"item": "q1", "policy": "rl"}}])
    with pytest.raises(DataError, match=r"row 0, field 'label': label 4 means nothing.*yes_from=NUMBER"):
        labels(path)
    assert labels(path, columns=LabelColumns(yes_from="4"))[0].label == "yes"
    assert labels(path, columns=LabelColumns(yes_from="5"))[0].label == "no"
    with pytest.raises(OptionError, match="yes_from=high"):
        labels(path, columns=LabelColumns(yes_from="high"))


def test_a_ranking_is_won_by_what_is_in_front(tmp_path: Path) -> None:
    def ranked(*ranks: int) -> str:
        value = [{"value": name, "rank": rank} for name, rank in zip(("first", "second"), ranks, strict=True)]
        rows = [{**ARGILLA_NESTED, "responses": {"label": [{"value": value, "user_id": "u"}]}}]
        return labels(document(tmp_path / "x.json", rows))[0].label

    assert [ranked(1, 2), ranked(2, 1), ranked(1, 1)] == ["win", "loss", "tie"]


def test_votes_of_mt_bench(tmp_path: Path) -> None:
    rows = [
        MT_BENCH,
        {**MT_BENCH, "turn": 2, "winner": "tie"},
        {**MT_BENCH, "judge": "author_1", "winner": "model_b"},
        {**MT_BENCH, "judge": "gpt4_pair", "winner": "tie (inconsistent)"},
    ]
    out = labels_in(document(tmp_path / "x.json", rows), tmp_path / "out")
    found = [(one.item, one.group, one.annotator, one.label) for one in run_folder.read(out, HumanLabel)]
    assert found == [
        ("81", "81", "expert_0", "win"),
        ("81, turn 2", "81", "expert_0", "tie"),
        ("81", "81", "author_1", "loss"),
    ]
    card = run_folder.read_card(out)
    assert card is not None
    assert card.notes["left_out"] == {"votes of MT-bench's own judge, which is no person": 1}
    with pytest.raises(DataError, match=r"holds no labels \(left out: 1 vote of MT-bench's own judge"):
        labels(document(tmp_path / "judge.json", rows[3:]))


def test_arena_turns_are_a_number_of_turns_not_a_place(tmp_path: Path) -> None:
    rows = [{**ARENA, "turn": 3, "winner": winner} for winner in ("tie (bothbad)", "model_b")]
    assert [(one.item, one.label) for one in labels(document(tmp_path / "x.json", rows))] == [
        ("q1", "tie"),
        ("q1", "loss"),
    ]


def test_a_prompt_gives_the_item_that_completions_of_it_have(tmp_path: Path) -> None:
    from perl_eval.sources.completions import completions

    row = {"prompt": "Name a prime.", "a": "rl", "b": "sft", "winner": "sft", "annotator": "ann"}
    (found,) = labels([row])
    (made,) = completions([{"prompt": "Name a prime.", "text": "7"}], policy="rl")
    assert found.item == made.item == digest("item", "user:Name a prime.")


def test_a_and_b_name_completions_unless_one_stands_at_several_items() -> None:
    ids = [{"item": f"q{n}", "a": f"x{n}", "b": f"y{n}", "label": "a", "annotator": "ann"} for n in range(3)]
    assert [one.unit for one in labels(ids)] == [unit_of(f"x{n}", f"y{n}") for n in range(3)]
    policies = [{**row, "a": "rl", "b": "sft"} for row in ids]
    assert [(one.unit, one.policy_a) for one in labels(policies)] == [("", "rl")] * 3


def test_a_policy_called_as_the_other_side_is_refused() -> None:
    with pytest.raises(DataError, match="name of a policy and of the other's side"):
        labels([{"item": "q", "a": "b", "b": "c", "winner": "b"}])


TABLE_ROW = {**ABOUT, "label": "win", "annotator": "ann"}
BROKEN: dict[str, tuple[str, Any, str]] = {
    "table: label": ("x.csv", [TABLE_ROW, {**TABLE_ROW, "label": "better"}], r"row 1, field 'label': label 'better'"),
    "table: weight": ("x.csv", [{**TABLE_ROW, "weight": "-1"}], r"row 0, field 'weight': '-1' is not a weight"),
    "table: unit": (
        "x.csv",
        [{**TABLE_ROW, "item": ""}],
        r"row 0, field 'item': has neither 'unit' nor 'a' nor an item",
    ),
    "table: empty": ("x.csv", [{**TABLE_ROW, "label": ""}], r"holds no labels \(left out: 1 row whose label is empty"),
    "table: number": ("x.csv", [{**TABLE_ROW, "label": "5"}], r"row 0, field 'label': label '5'.*yes_from=NUMBER"),
    "wide: cell": (
        "x.csv",
        [
            {**ABOUT, "ann": "win", "bob": "tie"},
            {**ABOUT, "ann": "win", "bob": "tie"},
            {**ABOUT, "ann": "?", "bob": ""},
        ],
        r"row 2, field 'ann': label '\?'",
    ),
    "studio: task": (
        "x.json",
        [studio_task(), {"data": {}, "annotations": {}}],
        "row 1, field 'annotations': is not a Label Studio task",
    ),
    "studio: annotations": (
        "x.json",
        [{"data": ABOUT, "annotations": ["x"]}],
        "row 0, field 'annotations': is not a list",
    ),
    "studio: result": (
        "x.json",
        [{"data": ABOUT, "annotations": [{"result": [1]}]}],
        "row 0, field 'annotations.result': is not a list",
    ),
    "studio: nobody": ("x.json", [{"data": ABOUT, "annotations": []}], "holds no answers to any question"),
    "studio: value": ("x.json", [studio_task(("label", "choices", {}))], r"row 0, field 'label': label None"),
    "studio: choices": (
        "x.json",
        [studio_task(("label", "choices", {"choices": ["first", "second"]}))],
        r"row 0, field 'label': label \['first', 'second'\]",
    ),
    "studio: about": (
        "x.json",
        [{**studio_task(("label", "choices", {"choices": ["tie"]})), "data": {"text": "x"}}],
        "row 0, field 'item': has neither 'unit'",
    ),
    "studio min: value": ("x.json", [{**STUDIO_MIN, "label": "maybe"}], r"row 0, field 'label': label 'maybe'"),
    "argilla: responses": (
        "x.json",
        [ARGILLA_NESTED, {"fields": {}, "responses": []}],
        "row 1, field 'responses': is not an Argilla record",
    ),
    "argilla: list": (
        "x.json",
        [{**ARGILLA_NESTED, "responses": {"label": ["yes"]}}],
        "row 0, field 'responses.label': is not a list",
    ),
    "argilla: metadata": ("x.json", [{**ARGILLA_NESTED, "metadata": [1]}], "row 0, field 'metadata'"),
    "argilla flat: lengths": (
        "x.json",
        [{**ARGILLA_FLAT, "label.responses.users": ["u1"]}],
        r"row 0, field 'label.responses': values, users and status",
    ),
    "argilla: value": (
        "x.json",
        [{**ARGILLA_NESTED, "responses": {"label": [{"value": 9, "user_id": "u"}]}}],
        r"row 0, field 'label': label 9",
    ),
    "votes: winner": ("x.json", [MT_BENCH, {**MT_BENCH, "winner": "rl?"}], r"row 1, field 'winner': 'rl\?' is none of"),
    "votes: model": ("x.json", [{**MT_BENCH, "model_a": None}], r"row 0, field 'model_a': no such field"),
    "votes: turn": ("x.json", [{**MT_BENCH, "turn": "1"}], r"row 0, field 'turn': is a str"),
    "votes: id": ("x.json", [{**ARENA, "question_id": ""}], r"row 0, field 'id': no such field"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_names_file_row_and_field(tmp_path: Path, name: str) -> None:
    file, rows, line = BROKEN[name]
    with pytest.raises(DataError, match=line) as refused:
        labels(written(tmp_path, file, rows))
    assert str(tmp_path / file) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_columns_are_used_or_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "x.csv", [TABLE_ROW])
    with pytest.raises(OptionError, match="'colour', which is no property of a label"):
        labels_in(path, tmp_path / "a", how=HowRead(columns={"colour": "x"}))
    with pytest.raises(DataError, match="field 'who': no such column"):
        labels_in(path, tmp_path / "b", how=HowRead(columns={"annotator": "who"}))
    with pytest.raises(OptionError, match="unit beside a or b"):
        labels_in(path, tmp_path / "c", how=HowRead(columns={"unit": "item", "a": "policy_a"}))


def agreement(judged: Path, people: Path, out: Path) -> dict[str, Estimate]:
    made = agree.run(judgements_in(judged, out), labels_in(people, out), out)
    return {one.name: one for one in run_folder.read(made, Estimate)}


def test_a_table_of_verdicts_beside_a_table_of_winners(tmp_path: Path) -> None:
    said = ["rl", "sft", "tie", "rl"]
    judged = [
        {"item": f"q{n}", "policy_a": "rl", "policy_b": "sft", "verdict": who, "judge": "g"}
        for n, who in enumerate(said)
    ]
    people = [  # the other way round, and one of an item that nobody judged
        {"item": f"q{n}", "a": "sft", "b": "rl", "winner": who, "annotator": "ann"}
        for n, who in enumerate(["rl", "rl", "tie", "b", "rl"])
    ]
    found = agreement(table(tmp_path / "j.csv", judged), table(tmp_path / "p.csv", people), tmp_path / "out")
    # rl beside rl, sft beside rl, tie beside tie, and rl beside b, which is rl there.
    assert found["human-judge exact agreement"].value == pytest.approx(3 / 4)
    assert found["units compared"].value == 4
    assert found["labels of units not judged"].value == 1


def test_labels_of_other_items_name_both_sides(tmp_path: Path) -> None:
    judged = table(tmp_path / "j.csv", [{"item": "q1", "policy_a": "rl", "policy_b": "sft", "verdict": "a"}])
    people = table(tmp_path / "p.csv", [{"item": "z9", "a": "rl", "b": "sft", "winner": "rl", "annotator": "ann"}])
    with pytest.raises(Exception, match=r"item q1 of rl and sft.*item z9 of rl and sft"):
        agreement(judged, people, tmp_path / "out")


def test_a_second_reading_of_the_same_file_is_the_same_run(tmp_path: Path) -> None:
    path = table(tmp_path / "x.csv", [TABLE_ROW])
    assert labels_in(path, tmp_path / "out") == labels_in(path, tmp_path / "out")
    assert labels_in(tmp_path / "out" / "inputs" / "labels", tmp_path / "other").name == "labels"
    assert run_folder.read(tmp_path / "out" / "inputs" / "labels", HumanLabel)[0].policy_a == "rl"
