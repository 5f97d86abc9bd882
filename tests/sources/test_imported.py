"""Label and judgement files of other tools, written by hand in their published shapes."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from perl_eval import sources
from perl_eval.errors import DataError, UserError
from perl_eval.records import Estimate, HumanLabel, Judgement, unit_of
from perl_eval.scoring import score
from perl_eval.storage import run_folder


def written(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    lines = path.suffix == ".jsonl"
    path.write_text("\n".join(map(json.dumps, content)) if lines else json.dumps(content), "utf-8")
    return path


ROWS = [
    {"left_id": "a1", "right_id": "b1", "choice": "A", "who": "ann", "source": "g1"},
    {"left_id": "a1", "right_id": "b1", "choice": "tie", "who": "bob", "source": "g1"},
    {"left_id": "a2", "right_id": "b2", "choice": "B", "who": "ann", "source": "g2"},
]
COLUMNS = sources.LabelColumns(a="left_id", b="right_id", label="choice", annotator="who", group="source")


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet", "labels.jsonl"])
def test_tables_of_any_kind(tmp_path: Path, name: str) -> None:
    path, frame = tmp_path / name, pd.DataFrame(ROWS)
    if name.endswith(".csv"):
        frame.to_csv(path, index=False)
    elif name.endswith(".parquet"):
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    out = sources.run(path, tmp_path / "out", form="table", columns=COLUMNS)
    labels = run_folder.read(out, HumanLabel)
    assert [(label.unit, label.label, label.annotator, label.group) for label in labels] == [
        (unit_of("a1", "b1"), "win", "ann", "g1"),
        (unit_of("a1", "b1"), "tie", "bob", "g1"),
        (unit_of("a2", "b2"), "loss", "ann", "g2"),
    ]
    assert not any(label.simulated for label in labels)


def test_single_answers_and_unnamed_people(tmp_path: Path) -> None:
    path = written(tmp_path, "labels.jsonl", [{"a": "c1", "label": True}, {"unit": "u", "label": "No"}])
    one, other = sources.read_labels(path)
    assert (one.unit, one.label, one.annotator, one.group) == (unit_of("c1"), "yes", "unnamed", unit_of("c1"))
    assert (other.unit, other.label) == ("u", "no")


def test_wrong_columns_and_labels_name_what_there_is(tmp_path: Path) -> None:
    path = written(tmp_path, "labels.jsonl", ROWS)
    with pytest.raises(DataError, match=r"row 0, field 'label'.*left_id, right_id, choice, who, source"):
        sources.read_labels(path)
    with pytest.raises(DataError, match=r"neither 'unit' nor 'a'.*left_id"):
        sources.read_labels(path, "table", sources.LabelColumns(label="choice"))
    odd = written(tmp_path, "odd.jsonl", [{"a": "c", "label": "maybe"}])
    with pytest.raises(DataError, match=r"'maybe' means nothing.*win, tie"):
        sources.read_labels(odd)
    for name, text in (("bad.jsonl", "{"), ("bad.parquet", "x"), ("list.jsonl", "[1]")):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=r"is (not|neither)"):
            sources.read_labels(tmp_path / name)
    with pytest.raises(UserError, match="no form 'excel'"):
        sources.run(path, tmp_path / "out", form="excel")
    with pytest.raises(UserError, match="no such file"):
        sources.run(tmp_path / "absent.csv", tmp_path / "out", form="table")


def test_label_studio(tmp_path: Path) -> None:
    def said(kind: str, value: dict[str, object], by: object, cancelled: bool = False) -> dict[str, object]:
        result = {"from_name": "better", "to_name": "text", "type": kind, "value": value}
        other = {"from_name": "why", "type": "textarea", "value": {"text": ["because"]}}
        return {"completed_by": by, "was_cancelled": cancelled, "result": [other, result]}

    tasks = [
        {
            "id": 1,
            "data": {"a": "a1", "b": "b1", "group": "g"},
            "annotations": [
                said("pairwise", {"selected": "left"}, 7),
                said("choices", {"choices": ["Tie"]}, {"id": 8, "email": "x"}),
                said("pairwise", {"selected": "right"}, 9, cancelled=True),
            ],
        }
    ]
    labels = sources.read_labels(
        written(tmp_path, "export.json", tasks), "label-studio", sources.LabelColumns(label="better")
    )
    assert [(label.label, label.annotator, label.group) for label in labels] == [("win", "7", "g"), ("tie", "8", "g")]
    with pytest.raises(DataError, match="not a Label Studio task"):
        sources.read_labels(written(tmp_path, "other.json", [{"id": 1}]), "label-studio")


def test_argilla(tmp_path: Path) -> None:
    records = [
        {
            "id": "r1",
            "fields": {"prompt": "p", "answer": "x"},
            "metadata": {"unit": "u1"},
            "responses": {
                "label": [{"value": "yes", "user_id": "n"}, {"value": "no", "user_id": "m", "status": "draft"}]
            },
        },
        {"id": "r2", "fields": {}, "metadata": {"unit": "u2"}, "responses": {}},
    ]
    labels = sources.read_labels(written(tmp_path, "records.json", records), "argilla")
    assert [(label.unit, label.label, label.annotator) for label in labels] == [("u1", "yes", "n")]
    with pytest.raises(DataError, match="list of JSON objects"):
        sources.read_labels(written(tmp_path, "one.json", {"id": 1}), "argilla")


def annotation(place: int, preference: float | None) -> dict[str, object]:
    return {
        "instruction": f"question {place}",
        "output_1": "baseline's answer",
        "generator_1": "base",
        "output_2": "model's",
        "generator_2": "model",
        "annotator": "weighted",
        "dataset": "selfinstruct",
        "preference": preference,
    }


def test_alpaca_annotations_score_to_the_tools_own_figure(tmp_path: Path) -> None:
    preferences = [1.9, 1.2, 1.5, 2.0, 0.0, None]
    path = written(tmp_path, "annotations.json", [annotation(p, value) for p, value in enumerate(preferences)])
    out = sources.run(path, tmp_path / "judged", form="alpaca-eval")
    outcomes = [record.outcome for record in run_folder.read(out, Judgement)]
    assert outcomes == ["win", "loss", "tie", "win", "tie", "unjudged"]
    found = {e.name: e for e in run_folder.read(score.run(out, tmp_path / "scores"), Estimate)}
    # The tool's win rate is the mean preference, where 0 stands for 1.5, less one.
    assert found["win rate, from probabilities"].value == pytest.approx((0.9 + 0.2 + 0.5 + 1.0 + 0.5) / 5)
    assert found["consistency"].reason == "the judge sees no positions"


def test_broken_annotations_name_row_and_field(tmp_path: Path) -> None:
    without = {key: value for key, value in annotation(0, 1.0).items() if key != "generator_2"}
    broken = written(tmp_path, "broken.json", [without])
    with pytest.raises(DataError, match=r"row 0, field 'generator_2'.*present are instruction"):
        sources.read_judgements(broken, "alpaca-eval")
    far = written(tmp_path, "far.json", [annotation(0, 7.0)])
    with pytest.raises(DataError, match=r"not in \[1, 2\]"):
        sources.read_judgements(far, "alpaca-eval")


def test_mt_bench_pairs_keep_both_orders(tmp_path: Path) -> None:
    games = [
        ("model_1", "model_1"),
        ("model_2", "model_2"),
        ("model_1", "model_2"),
        ("tie", "model_1"),
        ("error", "tie"),
    ]
    rows = [
        {
            "question_id": 80 + place,
            "model_1": "vicuna",
            "model_2": "alpaca",
            "g1_winner": first,
            "g2_winner": second,
            "judge": ["gpt-4", "pair-v2"],
            "turn": 1,
        }
        for place, (first, second) in enumerate(games)
    ]
    judged = sources.read_judgements(written(tmp_path, "gpt-4_pair.jsonl", rows), "mt-bench")
    assert [record.outcome for record in judged] == ["win", "loss", "split", "mixed", "unjudged"]
    # Model 1 was shown first in game 1 and second in game 2: in the split pair the first shown won twice.
    assert [ballot.verdict for ballot in judged[2].ballots] == ["first", "first"]
    assert (judged[0].policy_a, judged[0].judge, judged[0].group) == ("vicuna", "gpt-4", "80")
    assert judged[0].ballots[0].model == "gpt-4, pair-v2"
    with pytest.raises(DataError, match="'draw' is none of"):
        sources.read_judgements(written(tmp_path, "odd.jsonl", [{**rows[0], "g1_winner": "draw"}]), "mt-bench")


def test_tables_of_outcomes(tmp_path: Path) -> None:
    rows = [
        {
            "outcome": "win",
            "item": "q1",
            "policy_a": "rl",
            "policy_b": "sft",
            "text_a": "long",
            "text_b": "x",
            "p_a": 0.8,
        },
        {"outcome": "Unjudged", "item": "q2", "policy_a": "rl", "policy_b": "sft"},
        {"outcome": "yes", "item": "q3", "policy_a": "rl"},
    ]
    for name in ("t.csv", "t.parquet", "t.jsonl"):
        path = tmp_path / name
        frame = pd.DataFrame(rows)
        if path.suffix == ".csv":
            frame.to_csv(path, index=False)
        elif path.suffix == ".parquet":
            frame.to_parquet(path)
        else:
            written(tmp_path, name, rows)
        judged = sources.read_outcomes(path)
        assert [record.outcome for record in judged] == ["win", "unjudged", "yes"], name
        assert [record.kind for record in judged] == ["pairwise", "pairwise", "yes_no"]
        assert (judged[0].p_a, judged[0].text_a, judged[0].policy_b) == (0.8, "long", "sft")
        assert (judged[2].b, judged[2].policy_b, judged[1].p_a) == ("", "", None)


def test_two_orders_of_a_table_are_decided_here(tmp_path: Path) -> None:
    orders = [("a", "a"), ("A ", "b"), ("tie", "tie"), ("tie", "b"), ("b", None)]
    rows = [{"verdict_ab": ab, "verdict_ba": ba} for ab, ba in orders]
    judged = sources.read_outcomes(written(tmp_path, "orders.jsonl", rows))
    assert [record.outcome for record in judged] == ["win", "split", "tie", "mixed", "unjudged"]
    # The pair won in both orders was first in one and second in the other.
    assert [ballot.verdict for ballot in judged[0].ballots] == ["first", "second"]
    out = sources.run(tmp_path / "orders.jsonl", tmp_path / "judged", form="outcomes")
    assert len(run_folder.read(out, Judgement)) == 5


def test_tables_of_outcomes_name_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 0, field 'outcome': outcome 'victory' is none of win, loss"):
        sources.read_outcomes(written(tmp_path, "a.jsonl", [{"outcome": "victory"}]))
    with pytest.raises(DataError, match=r"row 0, field 'verdict_ba': verdict_ba 'left' is none of b, a, tie"):
        sources.read_outcomes(written(tmp_path, "b.jsonl", [{"verdict_ab": "a", "verdict_ba": "left"}]))
    with pytest.raises(DataError, match=r"field 'verdict_ab': no such column; present are result"):
        sources.read_outcomes(written(tmp_path, "c.jsonl", [{"result": "win"}]))
    with pytest.raises(DataError, match=r"row 1, field 'p_a': 1\.5 is not a probability"):
        sources.read_outcomes(
            written(tmp_path, "d.jsonl", [{"outcome": "win", "p_a": 0.5}, {"outcome": "win", "p_a": 1.5}])
        )


def test_unjudged_rows_of_a_table_of_single_answers_are_single_answers(tmp_path: Path) -> None:
    rows = [{"outcome": outcome} for outcome in ("yes", "unjudged", "no", None)]
    judged = sources.read_outcomes(written(tmp_path, "single.jsonl", rows))
    assert [(record.outcome, record.kind, record.b, record.policy_b) for record in judged] == [
        (outcome, "yes_no", "", "") for outcome in ("yes", "unjudged", "no", "unjudged")
    ]


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl", "labels.json"])
def test_text_of_another_encoding_is_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes('a,b,label\nx,y,"caf\u00e9"\n'.encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8; save it as UTF-8"):
        sources.read_labels(path, "argilla" if name.endswith(".json") else "table")


def test_a_note_may_be_longer_than_what_csv_takes_by_itself(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(f"a,label,note\nx,yes,{'z' * 200_000}\n")
    (found,) = sources.read_labels(tmp_path / "x.csv")
    assert len(found.note) == 200_000


@pytest.mark.parametrize(
    ("form", "row", "said"),
    [
        ("label-studio", {"data": {"a": "x"}, "annotations": ["oops"]}, "field 'annotations': is not a list"),
        (
            "label-studio",
            {"data": {"a": "x"}, "annotations": [{"result": ["oops"]}]},
            "field 'annotations.result': is not a list",
        ),
        (
            "label-studio",
            {
                "data": {"a": "x"},
                "annotations": [{"result": [{"from_name": "label", "type": "choices", "value": None}]}],
            },
            "label None means nothing",
        ),
        ("argilla", {"fields": {"a": "x"}, "responses": {"label": ["yes"]}}, "field 'responses.label': is not a list"),
        ("argilla", {"fields": {"a": "x"}, "metadata": [1], "responses": {}}, "metadata that are not an object"),
    ],
)
def test_an_export_of_another_shape_is_one_line(tmp_path: Path, form: str, row: dict[str, object], said: str) -> None:
    good = {"data": {}, "annotations": [{"result": None}], "fields": {}, "responses": {"label": None}}
    with pytest.raises(DataError, match=f"row 1.*{said}"):
        sources.read_labels(written(tmp_path, "x.json", [good, row]), form)
