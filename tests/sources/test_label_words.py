"""Labels whose words, columns and numbers are written in several ways are understood, or refused with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from label_files import ABOUT, document, studio_task, table

from perl_eval.errors import DataError, OptionError
from perl_eval.records import HumanLabel
from perl_eval.sources.brought import HowRead, labels_in
from perl_eval.sources.labels import LabelColumns, labels
from perl_eval.storage import run_folder


@pytest.mark.parametrize("cell", ["NaN", "nan", ""])
def test_a_rating_that_is_no_number_is_no_label(tmp_path: Path, cell: str) -> None:
    rows = [{"item": "q1", "label": "5", "annotator": "x"}, {"item": "q2", "label": cell, "annotator": "x"}]
    folder = labels_in(table(tmp_path / "l.csv", rows), tmp_path / "out", how=HowRead(columns={"yes_from": "4"}))
    assert [(one.item, one.label) for one in run_folder.read(folder, HumanLabel)] == [("q1", "yes")]
    card = run_folder.read_card(folder)
    assert card is not None
    assert card.notes["left_out"] == {"rows whose label is empty": 1}


def test_an_infinite_rating_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = [{"item": f"q{place}", "label": one, "annotator": "x"} for place, one in enumerate(["5", "inf", "1e999"])]
    folder = labels_in(table(tmp_path / "l.csv", rows), tmp_path / "out", how=HowRead(columns={"yes_from": "4"}))
    assert len(run_folder.read(folder, HumanLabel)) == 1
    card = run_folder.read_card(folder)
    assert card is not None
    assert card.notes["left_out"] == {"rows whose label is not a finite number": 2}


def test_a_missing_rating_of_a_parquet_table_is_no_label() -> None:
    rows = [{"item": "q1", "label": 5.0, "annotator": "x"}, {"item": "q2", "label": float("nan"), "annotator": "x"}]
    assert [one.label for one in labels(rows, columns=LabelColumns(yes_from="4"))] == ["yes"]
    wide = [{"item": "q1", "ann": 5.0, "bob": float("nan")}]
    found = labels(wide, columns=LabelColumns(yes_from="4", annotator="ann,bob"), format="wide")
    assert [one.annotator for one in found] == ["ann"]


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e400", "four"])
def test_a_rating_is_a_yes_from_a_finite_number_only(number: str) -> None:
    with pytest.raises(OptionError, match="give a number"):
        labels([{"item": "q1", "label": 5, "annotator": "x"}], columns=LabelColumns(yes_from=number))


@pytest.mark.parametrize("second", ["second", "Second", " SECOND", "2", 2, 2.0, "b", "B"])
def test_who_was_shown_second_is_said_in_several_words(second: Any) -> None:
    assert labels([{**ABOUT, "label": "left", "annotator": "x", "a_is": second}])[0].label == "loss"


@pytest.mark.parametrize("first", ["first", "First", "1", "a", "", None, float("nan")])
def test_who_was_shown_first_is_said_in_several_words(first: Any) -> None:
    assert labels([{**ABOUT, "label": "left", "annotator": "x", "a_is": first}])[0].label == "win"


def test_another_word_for_the_place_is_refused() -> None:
    with pytest.raises(DataError, match=r"row 0, field 'a_is': 'third' is none of first, .*give first or second"):
        labels([{**ABOUT, "label": "left", "annotator": "x", "a_is": "third"}])


@pytest.mark.parametrize(
    ("said", "simulated"),
    [("yes", True), ("True", True), (1, True), (True, True), ("no", False), (0, False), ("", False)],
)
def test_simulated_labels_are_said_in_several_words(said: Any, simulated: bool) -> None:
    assert labels([{**ABOUT, "label": "win", "annotator": "x", "simulated": said}])[0].simulated is simulated


def test_another_word_for_simulated_is_refused() -> None:
    with pytest.raises(DataError, match="field 'simulated': 'perhaps' is none of"):
        labels([{**ABOUT, "label": "win", "annotator": "x", "simulated": "perhaps"}])


@pytest.mark.parametrize(
    "name", ["worker", "worker_id", "rater", "user", "user_id", "labeler", "labeller", "evaluator", "annotator_id"]
)
def test_usual_names_of_the_annotator_are_known(name: str) -> None:
    found = labels([{**ABOUT, "label": "win", name: "ann"}, {**ABOUT, "label": "loss", name: "bob"}])
    assert [one.annotator for one in found] == ["ann", "bob"]


def test_a_file_without_annotators_whose_units_repeat_says_what_to_type(tmp_path: Path) -> None:
    rows = [{**ABOUT, "label": said, "who": who} for said, who in (("win", "ann"), ("loss", "bob"))]
    said: list[str] = []
    folder = labels_in(table(tmp_path / "l.csv", rows), tmp_path / "out", say=said.append)
    assert "no column says who labelled; unused are who" in said[0]
    assert "--column annotator=who" in said[0]
    card = run_folder.read_card(folder)
    assert card is not None
    assert card.notes["unused"] == ["who"]


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        *[
            ("Answer 1", "win"),
            ("answer 2", "loss"),
            ("Response A", "win"),
            ("response_b", "loss"),
            ("Model B", "loss"),
        ],
        *[("Option A", "win"), ("left is better", "win"), ("The right one is better", "loss"), ("A is better", "win")],
        *[("Second answer", "loss"), ("B is slightly better", "loss")],
    ],
)
def test_choices_that_name_a_side_in_words_are_known(tmp_path: Path, choice: str, said: str) -> None:
    source = document(tmp_path / "ls.json", [studio_task(("label", "choices", {"choices": [choice]}))])
    assert [one.label for one in labels(source)] == [said]


@pytest.mark.parametrize("choice", ["Answer 3", "not sure", "model", "is better", "A or B"])
def test_other_choices_are_refused_with_what_to_do(tmp_path: Path, choice: str) -> None:
    source = document(tmp_path / "ls.json", [studio_task(("label", "choices", {"choices": [choice]}))])
    with pytest.raises(DataError, match=r"means nothing here; known are .*say what it means: --means"):
        labels(source)


def test_columns_are_named_by_a_dict_too() -> None:
    found = labels([{**ABOUT, "said": "win", "annotator": "x"}], columns={"label": "said"})
    assert [one.label for one in found] == ["win"]


def test_a_sheet_whose_columns_and_words_are_its_own_is_read_once_both_are_said(
    tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No column has a known name, so the format is not told by the content: the names that are typed must do."""
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"q{n},{who},{'same' if n % 3 else 'new'}\n" for n in range(6) for who in ("mia", "tom"))
    (tmp_path / "sheet.csv").write_text(f"question,who,better\n{rows}", "utf-8")
    for policy in ("new", "old"):
        answers = "".join(f"q{n},{policy} {n}\n" for n in range(6))
        (tmp_path / f"{policy}.csv").write_text(f"question,response\n{answers}", "utf-8")
    assert command("judge new.csv old.csv --judge scripted:length --out judged").code is None
    columns = "--column prompt=question --column annotator=who --column label=better"
    shown = command(f"agree judged sheet.csv {columns} --means new=a --means same=tie --draws 50 --out agreed")
    assert shown.code is None, shown.err
    assert "sheet.csv: table, 12 labels of mia, tom" in shown.err
