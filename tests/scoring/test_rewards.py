"""The verb `score` on rewards: against people, against the rows that were scored, and from tables."""

from __future__ import annotations

from pathlib import Path

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perl_eval.errors import DataError, UserError
from perl_eval.records import Estimate, HumanLabel, Score, unit_of
from perl_eval.scoring import rewards
from perl_eval.stats.bootstrap import Resampling
from perl_eval.storage import parquet, run_folder

QUICK = Resampling(draws=50)


def reward(completion: str, value: float | None, item: str = "i", group: str = "g", metric: str = "reward") -> Score:
    return Score(completion, item, group, "rl", metric, value)


def labelled(folder: Path, scores: list[Score], labels: list[HumanLabel], scale: str = "logit") -> list[Estimate]:
    parquet.write(folder / "scores.parquet", scores, Score)
    parquet.write(folder / "labels.parquet", labels, HumanLabel)
    how = rewards.QualityOptions(scale, QUICK)
    out = rewards.run(folder / "scores.parquet", folder / "out", labels=folder / "labels.parquet", options=how)
    return run_folder.read(out, Estimate)


def test_rewards_against_labels_of_answers(tmp_path: Path) -> None:
    values = [2.0, 1.0, -1.0, 0.5, -2.0, None]
    answers = ["yes", "yes", "yes", "no", "no", "no"]
    scores = [reward(f"c{place}", value, item=f"i{place}") for place, value in enumerate(values)]
    labels = [HumanLabel(unit_of(f"c{p}"), f"i{p}", f"g{p}", "ann", label, True) for p, label in enumerate(answers)]
    found = {estimate.name: estimate for estimate in labelled(tmp_path, scores, labels)}
    # Above zero: c0, c1, c3. Right: c0, c1, c4.
    assert found["accuracy"].value == pytest.approx(3 / 5)
    assert (found["accuracy"].n, found["accuracy"].n_missing) == (5, 1)
    # Of the six yes-no pairs, c2 against c3 is the one ranked wrong.
    assert found["AUC"].value == pytest.approx(5 / 6)
    assert found["accuracy"].subject == "reward of rl against people"
    assert all(estimate.simulated for estimate in found.values())
    assert "pair accuracy" not in found


def test_rewards_against_labels_of_pairs(tmp_path: Path) -> None:
    scores = [reward("a", 1.0), reward("b", 0.0), reward("c", None), reward("z", 5.0, item="other")]
    pairs = [("a", "b", "win"), ("b", "a", "win"), ("b", "a", "loss")]
    pairs += [("a", "b", "tie"), ("a", "c", "win"), ("a", "z", "win")]
    labels = [
        HumanLabel(unit_of(one, other), "i", f"g{place}", f"p{place}", label)
        for place, (one, other, label) in enumerate(pairs)
    ]
    found = {estimate.name: estimate for estimate in labelled(tmp_path, scores, labels)}
    # Two labels right, one wrong; a tie and a missing reward say nothing; pairs across items are not pairs.
    assert found["pair accuracy"].value == pytest.approx(2 / 3)
    assert (found["pair accuracy"].n, found["pair accuracy"].n_missing) == (3, 2)


def test_rewards_without_labels_and_wrong_scales_are_refused(tmp_path: Path) -> None:
    label = HumanLabel(unit_of("c0"), "i", "g", "ann", "yes")
    with pytest.raises(UserError, match=f"units of labels: {label.unit}.*of scores: {unit_of('c1')}"):
        labelled(tmp_path / "a", [reward("c1", 0.0)], [label])
    with pytest.raises(UserError, match="outside"):
        labelled(tmp_path / "b", [reward("c0", 3.0)], [label], scale="probability")
    with pytest.raises(DataError, match="row 0, field 'value'"):
        labelled(tmp_path / "c", [reward("c0", float("inf"))], [label])
    with pytest.raises(UserError, match="nothing says which scored answers are good"):
        rewards.run(tmp_path / "a" / "scores.parquet", tmp_path / "d")


def test_held_out_pairs_need_no_labels(tmp_path: Path) -> None:
    margins = [(1.0, 0.0), (0.5, 0.7), (2.0, 2.0), (3.0, None)]
    scores = [
        reward(f"row{place}", value, group=f"g{place}", metric=metric)
        for place, pair in enumerate(margins)
        for metric, value in zip(("reward chosen", "reward rejected"), pair, strict=True)
    ]
    parquet.write(tmp_path / "scores.parquet", scores, Score)
    out = rewards.run(tmp_path / "scores.parquet", tmp_path / "out")
    found = {estimate.name: estimate for estimate in run_folder.read(out, Estimate)}
    # One right, one wrong, one equal, which counts half; one without a reward.
    assert found["pair accuracy"].value == pytest.approx(1.5 / 3)
    assert (found["pair accuracy"].n_missing, found["pair ties"].value) == (1, 1)
    assert found["pair accuracy"].subject == "reward of rl"


def test_rewards_of_rows_are_held_against_the_rows_labels(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hi"}]
    rows = [
        {"id": f"r{p}", "group": f"g{p}", "dataset": "d", "prompt": turns, "completion": turns, "label": p < 3}
        for p in range(6)
    ]
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(rows[:3]), tmp_path / "data" / "validation.parquet")
    pq.write_table(pa.Table.from_pylist(rows[3:]), tmp_path / "data" / "test.parquet")
    values = [1.0, 2.0, -1.0, -2.0, 0.5, -3.0]
    parquet.write(tmp_path / "scores.parquet", [reward(f"r{p}", v, item=f"r{p}") for p, v in enumerate(values)], Score)
    out = rewards.run(tmp_path / "scores.parquet", tmp_path / "out", data=tmp_path / "data")
    found = {(e.subject, e.name): e for e in run_folder.read(out, Estimate)}
    assert found["reward of rl against labels", "accuracy"].value == pytest.approx(4 / 6)
    # Of nine yes-no pairs the answer at 1/2 beats one yes, the one at -1.
    assert found["reward of rl against labels", "AUC"].value == pytest.approx(8 / 9)
    assert any(name == "observed share" for _, name in found)


TABLE = pd.DataFrame(
    {"logit": [2.0, 1.0, -1.0, 0.5, -2.0, None], "good": ["yes", "yes", "yes", "no", "no", "no"], "doc": list("aabbcc")}
)


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl", "dataset"])
def test_tables_of_scores_and_labels(tmp_path: Path, kind: str) -> None:
    columns = rewards.ScoreColumns(score="logit", label="good", group="doc")
    how = rewards.QualityOptions(resampling=QUICK)
    path = tmp_path / f"scores.{kind}"
    if kind == "csv":
        TABLE.to_csv(path, index=False)
    elif kind == "parquet":
        TABLE.to_parquet(path)
    elif kind == "jsonl":
        TABLE.to_json(path, orient="records", lines=True)
    if kind == "dataset":
        found = rewards.of_table(datasets.Dataset.from_pandas(TABLE), columns, how)
    else:
        out = rewards.run_table(path, tmp_path / "out", columns=columns, options=how)
        found = run_folder.read(out, Estimate)
    named = {estimate.name: estimate for estimate in found}
    assert named["accuracy"].value == pytest.approx(3 / 5)
    assert (named["accuracy"].n_missing, named["AUC"].value) == (1, pytest.approx(5 / 6))
    assert named["accuracy"].method == "Wilson, 3 clusters"


def test_tables_of_pairs_and_of_grades() -> None:
    pairs = datasets.Dataset.from_dict({"chosen": [1.0, 2.0, 0.0], "rejected": [0.0, 3.0, -1.0]})
    assert rewards.of_table(pairs)[0].value == pytest.approx(2 / 3)
    graded = datasets.Dataset.from_dict({"score": [0.1, 0.4, 0.2, 0.9, 0.8], "label": ["1", "3", "2", "5", "4"]})
    found = {estimate.name: estimate.value for estimate in rewards.of_table(graded)}
    assert found["Spearman rho"] == pytest.approx(1.0)
    assert found["Kendall tau-b"] == pytest.approx(1.0)


def test_a_wrong_column_names_those_present(tmp_path: Path) -> None:
    TABLE.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match="field 'score': no such column; present are logit, good, doc"):
        rewards.of_table(tmp_path / "t.csv")
    with pytest.raises(DataError, match="row 0, field 'doc': 'a' is not a number"):
        rewards.of_table(tmp_path / "t.csv", rewards.ScoreColumns(score="doc", label="good"))
