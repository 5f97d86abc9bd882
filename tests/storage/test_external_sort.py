"""Rows in another order: nothing is lost, nothing is mixed up, however few rows a block holds."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perl_eval.errors import DataError
from perl_eval.records import Completion, Message
from perl_eval.storage import external_sort, parquet

laws = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass(frozen=True, slots=True)
class Entry:
    """What is ordered here."""

    name: str
    other: str
    words: tuple[str, ...]
    number: float | None


def entry(number: int, name: str = "") -> Entry:
    return Entry(name or f"n{number % 7}", f"o{number % 3}", tuple("ab" * (number % 3)), None if number % 5 else 0.5)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_sort, "_BLOCK_ROWS", 4)
    monkeypatch.setattr(external_sort, "_DECODED_ROWS", 3)


def fresh(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder))


@laws
@given(data=st.data(), count=st.integers(0, 30))
def test_rows_come_in_the_places_they_are_given(
    tmp_path: Path, small_blocks: None, data: st.DataObject, count: int
) -> None:
    entries = [entry(number) for number in range(count)]
    order = data.draw(st.permutations(range(count)))[: data.draw(st.integers(0, count))]
    places = np.full(count, -1)
    places[list(order)] = np.arange(len(order))
    folder = fresh(tmp_path)
    parquet.write(folder / "entries.parquet", entries, Entry)
    found = external_sort.Ordered(folder / "entries.parquet", Entry, places, folder)
    assert len(found) == len(order)
    for _ in range(2):
        assert list(found) == [entries[row] for row in order]


def test_more_rows_than_blocks_may_be_make_larger_blocks(
    tmp_path: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external_sort, "_MOST_BLOCKS", 3)
    entries = [entry(number) for number in range(50)]
    parquet.write(tmp_path / "entries.parquet", entries, Entry)
    found = external_sort.Ordered(tmp_path / "entries.parquet", Entry, np.arange(50)[::-1], tmp_path)
    assert list(found) == entries[::-1]
    assert len(list(tmp_path.glob("*.arrow"))) == 3


@laws
@given(names=st.lists(st.text(st.characters(codec="utf-8"), max_size=3), max_size=30))
def test_what_is_written_is_sorted(tmp_path: Path, small_blocks: None, names: list[str]) -> None:
    entries = [entry(number, name) for number, name in enumerate(names)]
    folder = fresh(tmp_path)
    count = external_sort.write_sorted(
        folder / "out.parquet", iter(entries), Entry, by=("name", "other"), scratch=folder
    )
    found = parquet.read(folder / "out.parquet", Entry)
    assert count == len(entries)
    assert sorted(map(repr, found)) == sorted(map(repr, entries))
    assert [(one.name, one.other) for one in found] == sorted((one.name, one.other) for one in entries)


def test_a_bad_cell_is_named_by_its_row_in_the_file(tmp_path: Path, small_blocks: None) -> None:
    path = tmp_path / "completions.parquet"
    made = [Completion(f"c{i}", "i", "g", "d", "p", (Message("user", "x"),), "t", "stop", i) for i in range(20)]
    parquet.write(path, made, Completion)
    table = pq.read_table(path)
    finish = ["stop"] * 13 + ["exploded"] + ["stop"] * 6
    pq.write_table(table.set_column(table.schema.get_field_index("finish"), "finish", pa.array(finish)), path)
    with pytest.raises(DataError, match="row 13, field 'finish': 'exploded' is none of"):
        list(external_sort.Ordered(path, Completion, np.arange(20)[::-1], tmp_path))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"name": ["x"]}), tmp_path / "entries.parquet")
    with pytest.raises(DataError, match="field 'other': no such column"):
        external_sort.Ordered(tmp_path / "entries.parquet", Entry, np.zeros(1, np.int64), tmp_path)
