"""Tables that people bring: every kind reads alike, and whatever is wrong names its place."""

from __future__ import annotations

from pathlib import Path

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perl_eval.errors import DataError, UserError
from perl_eval.sources import user_table

FRAME = pd.DataFrame({"name": ["x", 'ü, "y"', None], "value": [1.5, None, 3.0], "flag": [True, False, True]})


def written(folder: Path, kind: str) -> object:
    path = folder / f"t.{kind}"
    if kind == "csv":
        FRAME.to_csv(path, index=False)
    elif kind == "parquet":
        FRAME.to_parquet(path)
    elif kind == "jsonl":
        FRAME.to_json(path, orient="records", lines=True)
    else:
        return datasets.Dataset.from_pandas(FRAME)
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl", "dataset"])
def test_every_kind_reads_alike(tmp_path: Path, kind: str) -> None:
    sheet = user_table.read(written(tmp_path, kind), ("value", "name"), optional=("flag", "absent"))
    assert sheet.table.column_names == ["value", "name", "flag"]
    assert sheet.texts("name") == ["x", 'ü, "y"', None]
    assert sheet.numbers("value") == [1.5, None, 3.0]
    assert sheet.numbers("flag") == [1.0, 0.0, 1.0]
    assert sheet.texts("flag") == ["true", "false", "true"]
    assert (len(sheet), sheet.has("absent")) == (3, False)
    assert user_table.columns(written(tmp_path, kind)) == ["name", "value", "flag"]


def test_a_selection_of_a_dataset_is_read_as_selected() -> None:
    chosen = datasets.Dataset.from_dict({"x": list(range(10))}).select([7, 2])
    assert user_table.read(chosen, ("x",)).numbers("x") == [7.0, 2.0]


def test_codes_number_cells_as_they_come(tmp_path: Path) -> None:
    pq.write_table(pa.table({"g": ["b", "a", None, "b", None]}), tmp_path / "g.parquet")
    assert user_table.read(tmp_path / "g.parquet", ("g",)).codes("g").tolist() == [0, 1, 2, 0, 2]


def test_cells_of_a_csv_file_are_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("item,when,score\n007,2024-01-01,NA\n7,NA,1e-3\n1.10,null,\n,x,nan\n")
    sheet = user_table.read(tmp_path / "t.csv", ("item", "when", "score"))
    assert sheet.texts("item") == ["007", "7", "1.10", None]
    assert sheet.texts("when") == ["2024-01-01", "NA", "null", "x"]
    assert sheet.numbers("score") == [None, 1e-3, None, None]
    assert sheet.codes("item").tolist() == [0, 1, 2, 3]


def test_what_is_wrong_names_its_place(tmp_path: Path) -> None:
    path = written(tmp_path, "csv")
    with pytest.raises(DataError, match=r"t.csv, field 'worth': no such column; present are name, value, flag"):
        user_table.read(path, ("worth",))
    with pytest.raises(DataError, match="row 2, field 'name': is empty"):
        user_table.read(path, ("name",)).full_texts("name")
    with pytest.raises(DataError, match="row 0, field 'name': 'x' is not a number"):
        user_table.read(path, ("name",)).numbers("name")
    pq.write_table(pa.table({"v": [1.0, float("inf")], "l": [[1], [2]]}), tmp_path / "odd.parquet")
    odd = user_table.read(tmp_path / "odd.parquet", ("v", "l"))
    with pytest.raises(DataError, match="row 1, field 'v': inf is not a number"):
        odd.numbers("v")
    with pytest.raises(DataError, match="field 'l': holds list"):
        odd.texts("l")


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_what_is_no_table_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b'{"a": 1}, 2\n[\x00\xff"')
    with pytest.raises(DataError, match="is not"):
        user_table.read(tmp_path / name, ("a",))
    with pytest.raises(UserError, match="is a folder"):
        user_table.read(tmp_path, ("a",))
    with pytest.raises(UserError, match="no such file"):
        user_table.read(tmp_path / "absent.csv", ("a",))
