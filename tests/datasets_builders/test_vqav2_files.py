"""Reading an array of a JSON file item by item: whole, cut into blocks, damaged."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_builders import vqav2_files
from datasets_builders.errors import DataError


def items(path: Path, text: str | bytes) -> list[tuple[int, Any]]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(vqav2_files.array_items(path, "questions", file="q.json", head={"data_subtype": "train2014"}))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(_JSON, max_size=6), _JSON, st.integers(1, 40), st.booleans(), st.sampled_from([None, 1]))
@settings(deadline=None, max_examples=120)
def test_items_come_whatever_block_they_are_cut_into(
    content: list[Any], other: Any, block: int, first: bool, indent: int | None
) -> None:
    parts = [("questions", content), ("info", other)]
    text = json.dumps(dict(parts if first else parts[::-1]), indent=indent, ensure_ascii=False)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(vqav2_files, "_BLOCK_CHARS", block)
        assert items(Path(folder) / "q", text.encode("utf-8", "replace")) == list(
            enumerate(json.loads(text.encode("utf-8", "replace"))["questions"])
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected \{, found the end of the file"),
        ("[1]", r"expected \{, found \["),
        ('{"questions": [1, 2', "expected ,"),
        ('{"questions": [1 2]}', "expected ,"),
        ('{"questions": [1, ]}', "Expecting value"),
        ('{"questions": {}}', r"expected \[, found \{"),
        ('{"info": 1}', "key 'questions' is missing"),
        ('{"questions": []} {', "something follows"),
        ('{"questions": [], "mood": 1}', "unexpected key 'mood'"),
        ('{"questions": [], "questions": []}', "unexpected key 'questions'"),
        ('{"data_subtype": "val2014", "questions": []}', "data_subtype is 'val2014', expected 'train2014'"),
        (b'{"questions": ["\xff"]}', "utf-8"),
        ('{"questions": [' + "[" * 100_000, "recursion"),
        (gzip.compress(b'{"questions": [1, 2]}', mtime=0)[:-9], "ended before"),
        (b"\x1f\x8bno gzip at all", "Unknown compression method"),
        (b"PK\x03\x04no zip", "not a zip"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        items(tmp_path / "q", text)
    assert caught.value.file == "q.json"


def test_an_archive_of_two_files_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.json", "{}")
        archive.writestr("b.json", "{}")
    with pytest.raises(DataError, match="holds 2 JSON files"):
        items(tmp_path / "q", out.getvalue())
