"""Files that are not what they should be are named by file, row and field; older ones are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perl_eval.errors import DataError, UserError
from perl_eval.records import Ballot, Completion, HumanLabel, Judgement, Measurement, Message
from perl_eval.storage import parquet

LABEL = HumanLabel("u", "i", "g", "p1", "win")
ANSWER = Completion("c", "i", "g", "d", "sft", (Message("user", "hi"),), "hello", "stop", 0, (1, 2), -1.5)


def spoiled(tmp_path: Path, change: Callable[[dict[str, Any]], Any], *, rows: int = 5000, at: int = 4321) -> Path:
    """Write labels as plain parquet, one row changed, past the first batch."""
    cells = [{field.name: getattr(LABEL, field.name) for field in fields(HumanLabel)} for _ in range(rows)]
    change(cells[at])
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.Table.from_pylist(cells), path)
    return path


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("label", None, "is empty"),
        ("unit", None, "is empty"),
        ("simulated", None, "is empty"),
        ("label", "victory", "'victory' is none of 'win', 'tie', 'loss', 'yes', 'no'"),
        ("label", "", "'' is none of"),
    ],
)
def test_a_bad_cell_is_named_by_file_row_and_field(tmp_path: Path, field: str, value: Any, said: str) -> None:
    path = spoiled(tmp_path, lambda cells: cells.update({field: value}))
    with pytest.raises(DataError) as caught:
        parquet.read(path, HumanLabel)
    assert str(caught.value).startswith(f"{path}, row 4321, field '{field}': {said}")


def test_an_empty_cell_within_a_list_or_struct_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    whole = {"id": "c", "item": "i", "group": "g", "dataset": "d", "policy": "p", "text": "t", "finish": "stop"}
    whole |= {"draw": 0, "logprob": None, "prior_logprob": None}
    good = {**whole, "token_ids": [1], "prompt": [{"role": "user", "content": "x"}]}
    for field, bad in (
        ("token_ids", {**good, "token_ids": [1, None]}),
        ("content", {**good, "prompt": [{"role": "user", "content": None}]}),
        ("prompt", {**good, "prompt": [None]}),
    ):
        pq.write_table(pa.Table.from_pylist([good, bad]), path)
        with pytest.raises(DataError, match=rf"row 1, field '{field}': is empty"):
            parquet.read(path, Completion)


def test_a_missing_column_is_named_with_those_present(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"step": [1], "metric": ["loss"]}), path)
    with pytest.raises(DataError, match=r"field 'value': no such column; present are step, metric; .*Measurement"):
        parquet.read(path, Measurement)


def test_a_file_older_than_a_field_is_read_with_the_fields_default(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    label = HumanLabel("u", "i", "g", "ann", "win", weight=4.0)
    parquet.write(path, [label], HumanLabel)
    assert parquet.read(path, HumanLabel) == [label]
    pq.write_table(pq.read_table(path).drop_columns(["weight"]), path)
    assert parquet.read(path, HumanLabel) == [replace(label, weight=1.0)]
    pq.write_table(pq.read_table(path).drop_columns(["note"]), path)  # this one every version has written
    with pytest.raises(DataError, match="field 'note': no such column"):
        parquet.read(path, HumanLabel)


def test_judgements_and_completions_of_older_files_have_no_scores_and_no_images(tmp_path: Path) -> None:
    empty = dict.fromkeys(
        ("item", "group", "dataset", "policy_a", "policy_b", "text_a", "text_b", "prompt_sha256"), "x"
    )
    judged = Judgement(
        id="j",
        kind="yes_no",
        a="one",
        b="",
        prompt=(),
        outcome="yes",
        ballots=(Ballot("none", "yes"),),
        judge="m",
        simulated=False,
        **empty,
    )
    path = tmp_path / "x.parquet"
    parquet.write(path, [judged], Judgement)
    older = pq.read_table(path).drop_columns(["score"])
    ballots = [[{k: v for k, v in one.items() if k != "score"} for one in row] for row in older["ballots"].to_pylist()]
    older = older.set_column(older.schema.get_field_index("ballots"), "ballots", pa.array(ballots))
    assert "score" not in str(older.schema)
    pq.write_table(older, path)
    assert parquet.read(path, Judgement) == [judged]
    parquet.write(path, [ANSWER], Completion)
    pq.write_table(pq.read_table(path).drop_columns(["images"]), path)
    assert parquet.read(path, Completion) == [ANSWER]


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("step", pa.array(["1"])),
        ("step", pa.array([True])),
        ("metric", pa.array([5])),
        ("metric", pa.array([b"loss"])),
        ("value", pa.array(["0.5"])),
        ("value", pa.array([[0.5]])),
        ("metric", pa.array([{"name": "loss"}])),
    ],
)
def test_a_column_of_another_type_is_named(tmp_path: Path, column: str, cells: pa.Array) -> None:
    path = tmp_path / "x.parquet"
    good = {"step": pa.array([1]), "metric": pa.array(["loss"]), "value": pa.array([0.5])}
    pq.write_table(pa.table({**good, column: cells}), path)
    with pytest.raises(DataError, match=rf"x\.parquet, field '{column}': the column has type .*, not "):
        parquet.read(path, Measurement)


def test_a_number_that_is_not_whole_is_named_by_row(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    steps = [float(step) for step in range(5000)]
    steps[4500] = 0.5
    pq.write_table(pa.table({"step": steps, "metric": ["m"] * 5000, "value": [0.0] * 5000}), path)
    with pytest.raises(DataError, match=r"x\.parquet, row 4500, field 'step': does not fit its column"):
        parquet.read(path, Measurement)


def test_other_widths_and_encodings_of_the_same_values_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table(
        {
            "extra": pa.array([[1], [2]]),
            "value": pa.array([0.5, 2.0], pa.float32()),
            "metric": pa.array(["loss", "loss"]).dictionary_encode(),
            "step": pa.array([1, 2], pa.uint8()),
        }
    )
    pq.write_table(table, path)
    assert parquet.read(path, Measurement) == [Measurement(1, "loss", 0.5), Measurement(2, "loss", 2.0)]


def test_a_table_that_went_through_pandas_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet.write(path, [LABEL, replace(LABEL, label="tie")], HumanLabel)
    frame = pd.read_parquet(path)
    frame["label"] = frame["label"].astype("category")
    frame.to_parquet(path)
    assert parquet.read(path, HumanLabel) == [LABEL, replace(LABEL, label="tie")]


@pytest.mark.parametrize("content", [b"", b"hello", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", b"unit,label\nu,win\n"])
def test_what_is_no_parquet_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.parquet: is not a parquet file") as caught:
        parquet.read(path, HumanLabel)
    assert "\n" not in str(caught.value)


def test_a_damaged_page_is_a_data_error(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet.write(path, [replace(LABEL, unit=str(row) * 9) for row in range(3000)], HumanLabel)
    content = bytearray(path.read_bytes())
    content[4:60] = b"\xff" * 56  # the first column's page header
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.parquet: is a damaged parquet file"):
        parquet.read(path, HumanLabel)


def test_a_missing_file_and_a_folder_are_user_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.parquet", tmp_path):
        with pytest.raises(UserError, match="no such file"):
            parquet.read(path, HumanLabel)
