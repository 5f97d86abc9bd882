"""Upstream containers: lines over block borders, gzip, UTF-8, JSON, repeated lines."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets_builders import DataError
from datasets_builders.reading import (
    Seen,
    blocks,
    check_keys,
    json_array,
    json_lines,
    parse_line,
    text_blocks,
)
from datasets_builders.tally import Tally

lines_of_text = st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=20))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=lines_of_text, size=st.integers(1, 50), packed=st.booleans(), ended=st.booleans())
def test_blocks_are_the_lines_of_the_file(lines, size, packed, ended, tmp_path: Path) -> None:
    text = "\n".join(lines) + ("\n" if ended else "")
    path = tmp_path / "lines"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    found = []
    for first, block in blocks(path, file="lines", size=size):
        assert first == len(found)
        assert block.endswith(b"\n")
        found += block.decode().split("\n")[:-1]
    expected = text.split("\n")
    assert found == (expected[:-1] if expected[-1] == "" else expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n\xff\n', r"f, row 1: is not UTF-8"),
        (b'{"a": 1}\n{"a": \n', r"f, row 1: is not JSON"),
        (b'{"a": 1}\n\n{"a": 2}\n', r"f, row 1: is not JSON"),
        (b"\x1f\x8b not gzip at all", r"f, row 0: is cut short or damaged"),
        (b"[" * 100_000 + b"\n", r"f, row 0: is not JSON"),
    ],
)
def test_damaged_lines_are_refused_with_their_row(content, message, tmp_path) -> None:
    path = tmp_path / "f"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(json_lines(path, file="f"))


def test_a_gzip_whose_content_was_changed_is_refused(tmp_path) -> None:
    packed = bytearray(gzip.compress(json.dumps({"a": "x" * 500}).encode() + b"\n", mtime=0))
    packed[-6] ^= 1  # one bit of the checksum at the end
    path = tmp_path / "f.gz"
    path.write_bytes(packed)
    with pytest.raises(DataError, match="cut short or damaged"):
        list(json_lines(path, file="f"))


@pytest.mark.parametrize(("content", "message"), [(b"{}", "holds a dict"), (b"[1", "is not JSON"), (b"\xff", "JSON")])
def test_a_file_that_is_no_array_is_refused(content, message, tmp_path) -> None:
    path = tmp_path / "f"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        json_array(path, file="f")


@settings(deadline=None)
@given(calls=st.lists(st.lists(st.text("abc", max_size=2), max_size=8), max_size=12))
def test_strings_that_were_there_before_are_found(calls) -> None:
    seen, known = Seen(), set()
    for texts in calls:
        expected = set()
        for at, text in enumerate(texts):
            if text in known:
                expected.add(at)
            known.add(text)
        assert seen.again(texts) == expected


def test_many_strings_are_held_in_few_runs() -> None:
    seen = Seen()
    for start in range(0, 100_000, 100):
        assert seen.again([str(number) for number in range(start, start + 100)]) == set()
    assert len(seen._runs) < 15
    assert sum(run.nbytes for run in seen._runs) == 8 * 100_000
    assert seen.again(["5", "new", "99999", "new"]) == {0, 2, 3}


@pytest.mark.parametrize(
    ("line", "expected", "noted"),
    [
        ('"\\ud83d\\ude00"', "\U0001f600", 0),
        ('"a\\ud83d"', "a\ufffd", 1),
        ('"a\\uD83Db"', "a\ufffdb", 1),
        ('["\\udead", {"\\udead": 1}]', ["\ufffd", {"\ufffd": 1}], 1),
        ('"\\\\ud83d"', "\\ud83d", 0),
    ],
)
def test_half_a_surrogate_pair_is_replaced_and_noted(line, expected, noted) -> None:
    tally = Tally()
    assert parse_line(line, file="f", row=0, tally=tally) == expected
    assert tally.notes.total() == noted


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"a": 1, "b": 2, "z": 3}, "unexpected key 'z'"),
        ({"a": 1}, "key 'b' is missing"),
        ([], "is a list, expected an object"),
        (None, "is a NoneType, expected an object"),
    ],
)
def test_keys_are_compared(record, message) -> None:
    with pytest.raises(DataError, match=f"f, row 7, field 'x': {message}"):
        check_keys(record, {"a", "b"}, optional={"c"}, file="f", row=7, within="x")


def test_optional_keys_may_be_there() -> None:
    check_keys({"a": 1, "c": 2}, {"a"}, optional={"c"}, file="f", row=0)
    check_keys({"a": 1}, {"a"}, optional={"c"}, file="f", row=0)


def test_blocks_know_their_first_row_across_reads(tmp_path) -> None:
    path = tmp_path / "f"
    path.write_text("".join(f"{number}\n" for number in range(5000)))
    for first, lines in text_blocks(path, file="f"):
        assert lines[0] == str(first)
