"""Rows from parquet: the four shapes, plain strings, and what is wrong with a file said in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_models

from perl_eval.errors import DataError, UserError
from perl_eval.records import Message
from perl_eval.sources import rows
from perl_eval.storage import run_folder

ROW = tiny_models.row("1", "hi", "g", completion=tiny_models.turns("assistant", "red"), label=True)


def test_the_four_shapes(tmp_path: Path) -> None:
    said = (Message("assistant", "red"),)
    demonstration = {key: value for key, value in ROW.items() if key != "label"}
    preference = tiny_models.row("2", "hi", chosen=tiny_models.turns("assistant", "red"), rejected="blue")
    prompt = tiny_models.row("3", "hi")
    for place, row in enumerate((demonstration, ROW, preference, prompt)):
        tiny_models.write_rows(tmp_path / str(place), train=[row])
    found = [rows.read(tmp_path / str(place), "train")[0] for place in range(4)]
    asked = (Message("user", "hi"),)
    assert found == [
        rows.Row("1", "g", "paint", asked, completion=said),
        rows.Row("1", "g", "paint", asked, completion=said, label=True),
        rows.Row("2", "hi", "paint", asked, chosen=said, rejected=(Message("assistant", "blue"),)),
        rows.Row("3", "hi", "paint", asked),
    ]


def test_plain_strings_are_a_users_question_and_an_assistants_answer(tmp_path: Path) -> None:
    tiny_models.write_rows(tmp_path, train=[{"id": 7, "group": 8, "prompt": "hi", "completion": "red", "label": 0}])
    (row,) = rows.read(tmp_path, "train", need=("completion", "label"))
    assert row == rows.Row(
        "7", "8", "", (Message("user", "hi"),), completion=(Message("assistant", "red"),), label=False
    )


def test_tool_calls_are_text(tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "order", "arguments": '{"size": "s"}'}}
    turn = {"role": "assistant", "content": None, "tool_calls": [call]}
    tiny_models.write_rows(tmp_path, train=[tiny_models.row("1", "hi", completion=[turn])])
    (row,) = rows.read(tmp_path, "train")
    assert row.completion is not None
    assert row.completion[0].content == '{"arguments": "{\\"size\\": \\"s\\"}", "name": "order"}'


def test_splits_and_shards(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test"):
        pq.write_table(pa.Table.from_pylist([tiny_models.row(name, "hi")]), tmp_path / f"{name}.parquet")
    assert rows.splits(tmp_path) == ["test", "train"]
    assert [row.id for row in rows.read(tmp_path, "train")] == ["train-00000-of-00002", "train-00001-of-00002"]
    assert [row.id for row in rows.read(tmp_path, "test")] == ["test"]


def test_folders_that_are_not_a_config_say_what_to_give(tmp_path: Path) -> None:
    tiny_models.write_rows(tmp_path / "data" / "ratings", train=[ROW])
    tiny_models.write_rows(tmp_path / "data" / "prompts", train=[ROW])
    with pytest.raises(UserError, match="it has the configs prompts, ratings; give one of them"):
        rows.read(tmp_path / "data", "train")
    with pytest.raises(UserError, match=r"no split 'validation' \(it has train\)"):
        rows.read(tmp_path / "data" / "ratings", "validation")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"it has none.*build the data set first"):
        rows.read(tmp_path / "empty", "train")
    with pytest.raises(UserError, match="no such file or folder"):
        rows.read(tmp_path / "none", "train")
    with pytest.raises(UserError, match="is a file; give the folder"):
        rows.read(tmp_path / "data" / "ratings" / "train.parquet", "train")


@pytest.mark.parametrize("column", ["id", "group", "prompt", "completion", "label"])
def test_a_column_that_is_not_there(tmp_path: Path, column: str) -> None:
    tiny_models.write_rows(tmp_path, train=[{key: value for key, value in ROW.items() if key != column}])
    with pytest.raises(DataError, match=rf"train.parquet, field '{column}': no such column; present are ") as caught:
        rows.read(tmp_path, "train", need=("completion", "label"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("column", ["id", "group", "prompt", "completion", "label"])
def test_an_empty_cell(tmp_path: Path, column: str) -> None:
    tiny_models.write_rows(tmp_path, train=[ROW, {**ROW, column: None}])
    with pytest.raises(DataError, match=rf"train.parquet, row 1, field '{column}': is empty"):
        rows.read(tmp_path, "train", need=("completion", "label"))


def test_an_empty_cell_that_is_not_needed(tmp_path: Path) -> None:
    tiny_models.write_rows(tmp_path, train=[ROW, {**ROW, "label": None, "dataset": None}])
    assert [row.label for row in rows.read(tmp_path, "train")] == [True, None]


@pytest.mark.parametrize(
    ("column", "value"),
    [("prompt", [{"content": "hi"}]), ("prompt", [None]), ("prompt", 3), ("completion", ["red"]), ("prompt", [[1]])],
)
def test_turns_that_are_none(tmp_path: Path, column: str, value: Any) -> None:
    tiny_models.write_rows(tmp_path, train=[{**ROW, column: value}])
    with pytest.raises(DataError, match=f"row 0, field '{column}': is neither text nor a list of turns"):
        rows.read(tmp_path, "train")


@pytest.mark.parametrize("value", ["no", 0.5, 2, -1])
def test_labels_that_are_none(tmp_path: Path, value: Any) -> None:
    """A text such as "no" is true to Python: it must not become a thumbs up."""
    tiny_models.write_rows(tmp_path, train=[{**ROW, "label": value}])
    with pytest.raises(DataError, match=r"row 0, field 'label': .* is not a label; give true or false"):
        rows.read(tmp_path, "train")


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_text("id,prompt\n")
    with pytest.raises(DataError, match="is not a parquet file"):
        rows.read(tmp_path, "train")


def test_rows_changed_after_they_were_built_are_refused(tmp_path: Path) -> None:
    with run_folder.start(tmp_path / "built", verb="build", arguments={}) as going:
        tiny_models.write_rows(going.folder / "ratings", train=[ROW])
    assert rows.read(tmp_path / "built" / "ratings", "train")
    tiny_models.write_rows(tmp_path / "built" / "ratings", train=[ROW, ROW])
    with pytest.raises(DataError, match="does not match the sha256"):
        rows.read(tmp_path / "built" / "ratings", "train")
