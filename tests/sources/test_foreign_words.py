"""Unknown formats, words of labels that are not known here, ids and keys that occur twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import perl_eval as pe
from perl_eval import sources
from perl_eval.errors import DataError, OptionError, UserError
from perl_eval.records import Completion, HumanLabel, Judgement
from perl_eval.sources.brought import HowRead
from perl_eval.sources.counting import counted
from perl_eval.storage import run_folder


def lines(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


# Unknown formats


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"promt": "q", "anwser": "a"}, "nearest is table, without prompt .* and text .*; .*--column prompt=promt"),
        ({"custom_id": "r", "error": {}}, "nearest is openai-batch, without response"),
        ({"custom_id": "r", "result": {}}, "nearest is anthropic-batch, whose columns it has in another form"),
        ({"key": "r", "reponse": {}}, "nearest is gemini-batch, without response, and has 'reponse'"),
        ({"doc_id": 1, "doc": {}, "resps": []}, "nearest is lm-eval, without arguments"),
        (
            {"question_id": 1, "model_1": "a", "g1_winer": "x", "g2_winner": "y"},
            "pairs, without g1_winner, and",
        ),
        ({"games": [], "judge": "j"}, "nearest is arena-hard-judgments, without model"),
        ({"data": {}, "annotation": []}, "nearest is label-studio, without annotations, and has 'annotation'"),
        ({"fields": {}, "answers": {}}, "nearest is argilla, without responses"),
        ({"zebra": 1}, r"\(columns zebra\); known are "),
    ],
)
def test_an_unknown_format_is_told_with_the_nearest(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    source = lines(tmp_path / "x.jsonl", [row])
    with pytest.raises(DataError, match=said) as caught:
        sources.take(source, tmp_path / "out")
    text = str(caught.value)
    assert "\n" not in text
    assert all(f" {name}" in text for name in ("openai-batch", "alpaca-eval-annotations", "argilla", "table"))


def test_the_column_that_is_named_then_reads_the_file(tmp_path: Path) -> None:
    source = lines(tmp_path / "x.jsonl", [{"promt": "q", "anwser": "a"}])
    how = HowRead(columns={"prompt": "promt", "text": "anwser"})
    (found,) = run_folder.read(sources.take(source, tmp_path / "out", how=how), Completion)
    assert (found.prompt[0].content, found.text) == ("q", "a")


def test_verdicts_of_both_orders_are_no_labels_of_two_raters(tmp_path: Path) -> None:
    rows = [{"item": "q", "policy_a": "x", "policy_b": "y", "verdict_ab": "a", "verdict_ba": "tie"}]
    (found,) = run_folder.read(sources.take(lines(tmp_path / "x.jsonl", rows), tmp_path / "out"), Judgement)
    assert found.outcome == "mixed"


# Words

LABEL = {"item": "q1", "policy_a": "ours", "policy_b": "theirs", "annotator": "ann"}
GERMAN = [{**LABEL, "label": "Die linke"}, {**LABEL, "item": "q2", "label": "gleich gut"}]
MEANS = {"die  LINKE": "a", "gleich gut": "tie"}


def label_studio(word: str) -> dict[str, Any]:
    result = [{"from_name": "label", "type": "choices", "value": {"choices": [word]}}]
    return {"data": {"a": "x", "b": "y"}, "annotations": [{"completed_by": 1, "result": result}]}


def test_words_mean_what_somebody_says(tmp_path: Path) -> None:
    assert [one.label for one in pe.labels(GERMAN, means=MEANS)] == ["win", "tie"]
    source = lines(tmp_path / "x.jsonl", GERMAN)
    found = run_folder.read(sources.take(source, tmp_path / "out", how=HowRead(means=MEANS)), HumanLabel)
    assert [one.label for one in found] == ["win", "tie"]
    studio = lines(tmp_path / "ls.jsonl", [label_studio("nichts davon")])
    assert [one.label for one in pe.labels(studio, means={"nichts davon": "tie"})] == ["tie"]


def test_words_of_the_side_that_was_shown_first(tmp_path: Path) -> None:
    rows = [{**LABEL, "label": "links", "a_is": place} for place in ("first", "second")]
    assert [one.label for one in pe.labels(rows, means={"links": "first"})] == ["win", "loss"]


def test_words_of_verdicts(tmp_path: Path) -> None:
    about = {"policy_a": "ours", "policy_b": "theirs"}
    tables = {
        "outcome": [{**about, "item": "1", "outcome": "Sieg"}, {**about, "item": "2", "outcome": "win"}],
        "verdict": [{**about, "item": "1", "verdict": "Sieg"}, {**about, "item": "2", "verdict": "ours"}],
        "orders": [{**about, "item": "1", "verdict_ab": "Sieg", "verdict_ba": "Sieg"}],
    }
    for name, rows in tables.items():
        out = sources.take(lines(tmp_path / f"{name}.jsonl", rows), tmp_path / name, how=HowRead(means={"sieg": "win"}))
        assert {one.outcome for one in run_folder.read(out, Judgement)} == {"win"}, name


def test_words_that_nothing_says_or_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="means is 'rechts', which does not occur in the list"):
        pe.labels(GERMAN, means={**MEANS, "rechts": "b"})
    with pytest.raises(OptionError, match="means is 'gleich=even'; give WORDS=MEANING, one of a, b, tie"):
        pe.labels(GERMAN, means={"gleich": "even"})
    answers = lines(tmp_path / "a.jsonl", [{"prompt": "q", "text": "a"}])
    with pytest.raises(OptionError, match="means is for labels and verdicts, and the file holds answers"):
        sources.take(answers, tmp_path / "out", how=HowRead(means={"x": "a"}))


def test_words_are_typed(tmp_path: Path, command: Callable[[str], Any], fails: Callable[[str], str]) -> None:
    source = lines(tmp_path / "x.jsonl", GERMAN)
    out = tmp_path / "out"
    shown = command(f"import {source} --means 'Die linke=a' --means 'gleich gut=tie' --out {out}")
    assert shown.code is None
    assert [one.label for one in run_folder.read(out, HumanLabel)] == ["win", "tie"]
    assert "--means is 'x'; give WORDS=MEANING" in fails(f"import {source} --means x --out {tmp_path / 'no'}")
    said = fails(f"import {source} --out {tmp_path / 'unsaid'}")
    assert "label 'Die linke' means nothing here" in said
    assert "--means 'Die linke=a'" in said


# Ids


def test_records_of_one_id_are_refused() -> None:
    first, other = pe.completions([{"prompt": "q", "text": text, "model": "m"} for text in "xy"])
    with pytest.raises(UserError, match=r"completions 0 and 1 have the same id, '.*'; give each its own"):
        pe.completions([first, pe.Completion(**{**vars_of(other), "id": first.id})])
    with pytest.raises(UserError, match="have the same id"):
        pe.judge([first, first], [other], by="scripted:length", prompt="dialogue")


def vars_of(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}


@pytest.mark.parametrize("reverse", [False, True])
def test_ids_that_rows_share_are_derived_anew_whatever_the_order(tmp_path: Path, reverse: bool) -> None:
    rows = [
        {"id": "q1", "prompt": "q", "text": "x", "model": "one"},
        {"id": "q1", "prompt": "q", "text": "y", "model": "two"},
        {"id": "q2", "prompt": "p", "text": "z", "model": "two"},
    ]
    source = lines(tmp_path / "x.jsonl", rows[::-1] if reverse else rows)
    folder = sources.take(source, tmp_path / "out")
    found = {one.text: one.id for one in run_folder.read(folder, Completion)}
    assert found["z"] == "q2"
    assert len({*found.values(), "q1"}) == 4
    assert "id, for several answers have the same, of 2" in sources.told(folder)
    assert found == {one.text: one.id for one in pe.completions(rows)}


# Counts


@pytest.mark.parametrize(
    ("several", "one"),
    [
        ("requests that failed", "1 request that failed"),
        ("responses that are draft", "1 response that is draft"),
        ("annotations that were skipped", "1 annotation that was skipped"),
        ("second turns, asked after", "1 second turn, asked after"),
        ("empty cells: units that a rater", "1 empty cell: units that a rater"),
        ("policies whose file", "1 policy whose file"),
        ("votes of MT-bench's own judge, which is no person", "1 vote of MT-bench's own judge, which is no person"),
    ],
)
def test_one_of_something_is_no_plural(several: str, one: str) -> None:
    assert counted(1, several) == one
    assert counted(1200, several) == f"1,200 {several}"


# What to type


def csv_of(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def test_every_missing_column_of_answers_is_named_at_once(tmp_path: Path) -> None:
    source = csv_of(tmp_path / "x.csv", "ticket_id,user_question,bot_reply,latency_ms\n1,q,a,3\n")
    with pytest.raises(DataError, match=r"hold them: --column prompt=user_question --column text=bot_reply$"):
        pe.completions(source)
    source = csv_of(tmp_path / "y.csv", "prompt,conclusion\nq,a\n")
    with pytest.raises(DataError, match=r"has no answer; present are prompt, conclusion; name .*: --column text=NAME$"):
        pe.completions(source)
    source = csv_of(tmp_path / "z.csv", "conclusion_2,answer\nq,a\n")
    with pytest.raises(DataError, match=r"has no prompt; .*; name its column: --column prompt=NAME$"):
        pe.completions(source)


def test_an_empty_cell_is_to_be_filled_not_named(tmp_path: Path) -> None:
    source = lines(tmp_path / "x.jsonl", [{"prompt": "q", "text": "a"}, {"prompt": "q", "text": None}])
    with pytest.raises(
        DataError, match=r"row 1, field 'text': has no answer; .*; fill its text in, or leave the row ou"
    ):
        pe.completions(source)


def test_columns_of_labels_are_proposed_by_their_words(tmp_path: Path) -> None:
    source = csv_of(tmp_path / "x.csv", "ticket_id,user_question,rater,verdict\n1,q,ann,A\n")
    with pytest.raises(DataError, match="as in --column prompt=user_question --column label=verdict, or the format"):
        pe.labels(source)
    source = csv_of(tmp_path / "y.csv", "prompt,conclusion\nq,a\n")
    with pytest.raises(DataError, match="as in --column label=NAME, or the format"):
        pe.labels(source)


def test_a_table_with_a_column_a_person_is_offered_as_wide(tmp_path: Path) -> None:
    head, rows = "prompt,policy_a,policy_b,Aiko,Esra\n", "q,x,y,erste,zweite\nr,x,y,zweite,erste\n"
    source = csv_of(tmp_path / "x.csv", head + rows)
    with pytest.raises(DataError, match=r"a column, type --format wide --column annotator=Aiko,Esra$"):
        pe.labels(source)
    means = {"erste": "a", "zweite": "b"}
    made = pe.labels(source, format="wide", columns={"annotator": "Aiko,Esra"}, means=means)
    assert [(one.annotator, one.label) for one in made][:2] == [("Aiko", "win"), ("Esra", "loss")]


def test_columns_of_verdicts_beside_labels_are_read_by_import(tmp_path: Path) -> None:
    with pytest.raises(
        OptionError, match=r"'verdict', which is no property of a label; for .* run `perl-eval import FILE --column v"
    ):
        pe.labels([{**LABEL, "label": "a"}], columns={"verdict": "said"})


def test_a_file_of_verdicts_is_told_how_it_is_read_first(command: Callable[[str], Any], tmp_path: Path) -> None:
    source = csv_of(tmp_path / "v.csv", "prompt,policy_a,policy_b,said\nq,x,y,x\n")
    labels = csv_of(tmp_path / "l.csv", "prompt,policy_a,policy_b,label\nq,x,y,a\n")
    shown = command(f"agree {source} {labels} --out {tmp_path / 'out'}")
    assert shown.code == 2
    assert "as in --column verdict=NAME, or run `perl-eval import` with that first" in shown.err


def test_what_labels_of_a_named_table_lack_is_told_as_it_is_typed(tmp_path: Path) -> None:
    source = csv_of(tmp_path / "x.csv", "ticket_id,user_question,rater,verdict\n1,q,ann,A\n")
    with pytest.raises(DataError, match=r"nor an item; .*; name what was labelled: --column prompt=user_question$"):
        pe.labels(source, columns={"label": "verdict"})
    with pytest.raises(DataError, match=r"no such column; .*; name it: --column label=verdict$"):
        pe.labels(source, format="table")
    with pytest.raises(DataError, match=r"has no column of labels; .*; name them: --column annotator=ANN,BOB$"):
        pe.labels(csv_of(tmp_path / "y.csv", "prompt,conclusion\nq,other\n"), format="wide")
