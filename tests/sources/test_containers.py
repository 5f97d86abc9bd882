"""What holds the rows is told by content; rows come one by one, and a broken one is named."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perl_eval.errors import DataError, UserError
from perl_eval.sources import containers

ROWS = [{"prompt": f"q{n}", "text": f'a, {n}\n"two"'} for n in range(30)]


def _arrow(path: Path, opener: Callable[..., Any]) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(path), "wb") as sink, opener(sink, table.schema) as writer:
        writer.write_table(table, 7)


WRITERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "json": ("json", lambda path: path.write_text(json.dumps(ROWS), "utf-8")),
    "indented": ("json", lambda path: path.write_text(json.dumps(ROWS, indent=2), "utf-8")),
    "jsonl": ("jsonl", lambda path: path.write_text("\n".join(map(json.dumps, ROWS)) + "\n", "utf-8")),
    "packed": ("jsonl", lambda path: path.write_bytes(gzip.compress("\n".join(map(json.dumps, ROWS)).encode()))),
    "csv": ("csv", lambda path: pd.DataFrame(ROWS).to_csv(path, index=False)),
    "excel csv": ("csv", lambda path: pd.DataFrame(ROWS).to_csv(path, index=False, sep=";", encoding="utf-8-sig")),
    "tsv": ("csv", lambda path: pd.DataFrame(ROWS).to_csv(path, index=False, sep="\t")),
    "parquet": ("parquet", lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path)),
    "arrow stream": ("arrow", lambda path: _arrow(path, pa.ipc.new_stream)),
    "arrow file": ("arrow", lambda path: _arrow(path, pa.ipc.new_file)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_container_is_told_by_its_content_and_read_twice(tmp_path: Path, name: str) -> None:
    path = tmp_path / "brought.data"
    container, write = WRITERS[name]
    write(path)
    found = containers.opened(path)
    assert found.container == container
    assert list(found.rows()) == ROWS
    assert list(found.rows()) == ROWS
    assert found.head == tuple(ROWS[:16])


# A whole part, then one that has a head and no block after it that there could be.
DAMAGED = gzip.compress(b'{"a": 1}\n' * 9, mtime=0) + gzip.compress(b"", mtime=0)[:10] + b"\xff" * 20


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.none() | st.integers()), max_size=5),
    indent=st.sampled_from([None, 0, 3]),
    chunk=st.integers(1, 40),
)
def test_a_list_is_read_alike_however_its_pieces_fall(
    rows: list[dict[str, Any]], indent: int | None, chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("array") / "rows.json"
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=False), "utf-8", errors="surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(containers, "_CHUNK", chunk)
        assert list(containers.opened(path).rows()) == rows


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.json", b"", "is empty"),
        ("a.json", b'[{"a": 1}, {"a": ]', "row 1: is not JSON"),
        ("a.json", b'[{"a": 1} {"a": 2}]', "row 0: is not JSON"),
        ("a.json", b'[{"a": 1}, 3]', "row 1: is not a JSON object"),
        ("a.json", b'[{"a": 1}] {"a": 2}', "has more text after the end"),
        ("a.json", b'[{"a": 1}, {"a": 2}', "row 1: is not JSON"),
        ("a.jsonl", b'{"a": 1}\n{"a": 2\n{"a": 3}\n', "row 1: is not JSON"),
        ("a.jsonl", b'{"a": 1\n{"a": 2}\n', "row 0: is not JSON"),
        ("a.jsonl", b'{"a": 1}\n[2]\n', "row 1: is not a JSON object"),
        ("a.jsonl", '{"a": "\u00e4"}\n'.encode("latin-1"), "is not UTF-8"),
        ("a.csv", b"a,a\n1,2\n", "appears twice in the header"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "row 1: has more cells than the 2"),
        (
            "a.csv",
            b'a,b\n1,2\n3,"4\n5,6\n7,8\n',
            "row 1: is not CSV .unexpected end of data.*a quote in it is not closed",
        ),
        ("a.csv", b'a,b\n1,"2\n3,4\n5,"6"\n', "row 0: is not CSV"),
        ("a.csv", b'a,"b\n1,2\n', "row 0: is not CSV"),
        ("a.jsonl.gz", DAMAGED, "is damaged"),
        ("a.txt", b"some text\n", "is neither JSON, JSON lines, CSV"),
        ("a.parquet", b"PAR1 and no more", "is not a parquet file"),
        ("a.zip", b"PK\x03\x04 and no more", "is a damaged zip archive"),
    ],
)
def test_what_is_broken_is_said_with_file_and_row(tmp_path: Path, name: str, content: bytes, line: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=line) as caught:
        list(containers.opened(path).rows())
    assert str(path) in str(caught.value)


def test_a_long_answer_fits_a_cell(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    pd.DataFrame([{"prompt": "q", "text": "x" * 300_000}]).to_csv(path, index=False)
    (row,) = containers.opened(path).rows()
    assert len(row["text"]) == 300_000


def test_what_is_not_there_and_what_holds_no_rows(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder: nowhere"):
        containers.opened("nowhere")
    with pytest.raises(UserError, match="is a folder"):
        containers.opened(tmp_path)
    with pytest.raises(UserError, match="holds no rows"):
        containers.opened(3)


def test_only_turns_in_columns_of_turns_are_read_as_json(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    turns = [{"role": "user", "content": "q"}]
    deep = '[{"a":' * 50_000
    cells = [json.dumps(turns), '[{"role": "user"}]', deep]
    pd.DataFrame([{"prompt": one, "text": one} for one in cells]).to_csv(path, index=False)
    found = list(containers.opened(path).rows())
    assert [row["prompt"] for row in found] == [turns, *cells[1:]]
    assert [row["text"] for row in found] == cells
