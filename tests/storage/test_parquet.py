"""Any record comes back as it went; files are whole or absent."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
import typing
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perl_eval.errors import DataError, UserError
from perl_eval.records import (
    About,
    Ballot,
    Completion,
    Estimate,
    FigureKind,
    HumanLabel,
    Judgement,
    Measurement,
    Message,
    Question,
    Scale,
    Score,
)
from perl_eval.storage import parquet

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBER = st.floats(allow_nan=False)
WHOLE = st.integers(-(2**63), 2**63 - 1)
MESSAGES = st.lists(st.builds(Message, TEXT, TEXT), max_size=3).map(tuple)
ORDER = st.sampled_from(["ab", "ba", "none"])
KIND = st.sampled_from(["pairwise", "yes_no", "score"])
COMPLETION = st.builds(
    Completion,
    id=TEXT,
    item=TEXT,
    group=TEXT,
    dataset=TEXT,
    policy=TEXT,
    prompt=MESSAGES,
    text=TEXT,
    finish=st.sampled_from(["stop", "length"]),
    draw=WHOLE,
    token_ids=st.lists(WHOLE, max_size=4).map(tuple),
    logprob=st.none() | NUMBER,
    prior_logprob=st.none() | NUMBER,
    images=st.lists(TEXT, max_size=2).map(tuple),
)
BALLOT = st.builds(
    Ballot,
    order=ORDER,
    verdict=st.none() | st.sampled_from(["first", "second", "tie", "yes", "no", "scored"]),
    reason=st.none() | TEXT,
    p_first=st.none() | NUMBER,
    raw=TEXT,
    model=TEXT,
    tokens_in=WHOLE,
    tokens_out=WHOLE,
    latency_s=NUMBER,
    cost_usd=st.none() | NUMBER,
    score=st.none() | NUMBER,
)
ABOUT = st.builds(
    About,
    **{part.name: TEXT for part in fields(About) if part.type == "str"},
    **dict.fromkeys(("at", "bin_low", "bin_high", "bin_mean"), st.none() | NUMBER),
    bin=st.none() | WHOLE,
)
RECORDS: dict[type, st.SearchStrategy[Any]] = {
    Message: st.builds(Message, TEXT, TEXT),
    Completion: COMPLETION,
    Question: st.builds(
        Question,
        id=TEXT,
        kind=KIND,
        order=ORDER,
        candidates=st.lists(COMPLETION, max_size=2).map(tuple),
        messages=MESSAGES,
        prompt_sha256=TEXT,
        scale=st.none() | st.builds(Scale, WHOLE, WHOLE),
        images=st.lists(TEXT, max_size=2).map(tuple),
    ),
    Scale: st.builds(Scale, WHOLE, WHOLE),
    Ballot: BALLOT,
    Judgement: st.builds(
        Judgement,
        **dict.fromkeys(
            ("id", "item", "group", "dataset", "a", "b", "policy_a", "policy_b", "text_a", "text_b", "judge"), TEXT
        ),
        kind=KIND,
        prompt=MESSAGES,
        outcome=st.sampled_from(["win", "loss", "split", "tie", "mixed", "yes", "no", "scored", "unjudged"]),
        ballots=st.lists(BALLOT, max_size=2).map(tuple),
        prompt_sha256=TEXT,
        simulated=st.booleans(),
        p_a=st.none() | NUMBER,
        reason=st.none() | TEXT,
        score=st.none() | NUMBER,
    ),
    HumanLabel: st.builds(
        HumanLabel,
        **dict.fromkeys(("unit", "item", "group", "annotator", "note"), TEXT),
        label=st.sampled_from(["win", "tie", "loss", "yes", "no"]),
        simulated=st.booleans(),
    ),
    Score: st.builds(
        Score,
        **dict.fromkeys(("completion", "item", "group", "policy", "metric"), TEXT),
        value=st.none() | NUMBER,
        reason=st.none() | TEXT,
    ),
    Estimate: st.builds(
        Estimate,
        **dict.fromkeys(("name", "method"), TEXT),
        **dict.fromkeys(("value", "low", "high"), st.none() | NUMBER),
        n=WHOLE,
        n_missing=WHOLE,
        level=NUMBER,
        reason=st.none() | TEXT,
        simulated=st.booleans(),
        kind=st.sampled_from(get_args(FigureKind)),
        about=ABOUT,
    ),
    Measurement: st.builds(Measurement, step=WHOLE, metric=TEXT, value=NUMBER),
}
LABEL = HumanLabel("u", "i", "g", "p1", "win")
ANSWER = Completion("c", "i", "g", "d", "sft", (Message("user", "hi"),), "hello", "stop", 0, (1, 2), -1.5)


# ---------------------------------------------------------------------------------------------------- round trip


@pytest.mark.parametrize("kind", list(RECORDS), ids=lambda kind: kind.__name__)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_record_comes_back_as_it_went(kind: type, data: st.DataObject) -> None:
    records = data.draw(st.lists(RECORDS[kind], max_size=3))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.parquet"
        assert parquet.write(path, records, kind) == len(records)
        found = parquet.read(path, kind)
        assert found == records
        # 0.0 == -0.0 and 1 == 1.0 == True, so look at the spelling too.
        assert repr(found) == repr(records)


def test_no_record_type_that_is_stored_was_forgotten() -> None:
    from perl_eval.storage import run_folder

    assert set(run_folder.FILES) <= set(RECORDS)


def test_many_batches_keep_count_and_order(tmp_path: Path) -> None:
    n = 2 * 4096 + 1  # two whole batches and one row
    path = tmp_path / "curve.parquet"
    written = parquet.write(path, (Measurement(step, "loss", step / 3) for step in range(n)), Measurement)
    assert written == n == pq.read_metadata(path).num_rows
    assert pq.read_metadata(path).num_row_groups == 3
    assert parquet.read(path, Measurement) == [Measurement(step, "loss", step / 3) for step in range(n)]


def test_rows_are_read_as_they_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "curve.parquet"
    parquet.write(path, [Measurement(step, "loss", 0.0) for step in range(5000)], Measurement)
    reading = parquet.iterate(path, Measurement)
    assert next(reading).step == 0
    reading.close()


def test_very_long_text_comes_back(tmp_path: Path) -> None:
    long = "wörter " * 500_000  # 4 MB
    path = tmp_path / "x.parquet"
    parquet.write(path, [replace(ANSWER, text=long, token_ids=tuple(range(100_000)))], Completion)
    (found,) = parquet.read(path, Completion)
    assert found.text == long
    assert found.token_ids == tuple(range(100_000))


def test_no_records_make_a_file_with_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    assert parquet.write(path, [], Judgement) == 0
    assert parquet.read(path, Judgement) == []
    assert pq.read_schema(path).names == [field.name for field in fields(Judgement)]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (replace(ANSWER, text="half \ud83d"), "text"),
        (replace(ANSWER, prompt=(Message("user", "ok"), Message("user", "\udc00"))), "prompt"),
    ],
)
def test_half_a_surrogate_pair_is_one_clear_error(tmp_path: Path, bad: Completion, field: str) -> None:
    path = tmp_path / "x.parquet"
    with pytest.raises(DataError, match=rf"x\.parquet, row 5000, field '{field}': .*surrogate") as caught:
        parquet.write(path, [*[ANSWER] * 5000, bad], Completion)
    assert (caught.value.row, caught.value.field) == (5000, field)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------- schema


def expected_type(hint: Any) -> str:
    """Spell a field's type as arrow would, None allowed only where the hint says so; read from the annotations."""
    if typing.get_origin(hint) in (typing.Union, type(int | None)):
        (inner,) = [part for part in typing.get_args(hint) if part is not type(None)]
        return expected_type(inner).removesuffix(" not null")
    if typing.get_origin(hint) is tuple:
        return f"list<item: {expected_type(typing.get_args(hint)[0])}> not null"
    if typing.get_origin(hint) is Literal:
        return "string not null"
    if hint in (str, int, float, bool):
        return {str: "string", int: "int64", float: "double", bool: "bool"}[hint] + " not null"
    inner = ", ".join(f"{name}: {expected_type(part)}" for name, part in typing.get_type_hints(hint).items())
    return f"struct<{inner}> not null"


def spelled(field: pa.Field) -> str:
    kind = field.type
    if pa.types.is_list(kind):
        name = f"list<item: {spelled(kind.value_field)}>"
    elif pa.types.is_struct(kind):
        name = f"struct<{', '.join(f'{part.name}: {spelled(part)}' for part in kind)}>"
    else:
        name = str(kind)
    return name + ("" if field.nullable else " not null")


@pytest.mark.parametrize("kind", list(RECORDS), ids=lambda kind: kind.__name__)
def test_none_is_allowed_only_where_the_type_says_so(kind: type, tmp_path: Path) -> None:
    expected = {name: expected_type(hint) for name, hint in typing.get_type_hints(kind).items()}
    assert {field.name: spelled(field) for field in parquet.schema_of(kind)} == expected
    parquet.write(tmp_path / "x.parquet", [], kind)
    stored = pq.read_schema(tmp_path / "x.parquet")
    assert [stored.field(name).nullable for name in expected] == [
        not said.endswith("not null") for said in expected.values()
    ]


# ---------------------------------------------------------------------------------------------------- whole or absent


def breaks(after: int) -> Iterator[HumanLabel]:
    for _ in range(after):
        yield LABEL
    raise RuntimeError("midway")


@pytest.mark.parametrize("after", [0, 1, 4096, 9000])
def test_a_writer_that_raises_midway_leaves_the_old_file_or_none(tmp_path: Path, after: int) -> None:
    path = tmp_path / "labels.parquet"
    with pytest.raises(RuntimeError, match="midway"):
        parquet.write(path, breaks(after), HumanLabel)
    assert list(tmp_path.iterdir()) == []
    parquet.write(path, [LABEL], HumanLabel)
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="midway"):
        parquet.write(path, breaks(after), HumanLabel)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import sys, time
from pathlib import Path
from perl_eval.storage import parquet
from perl_eval.records import HumanLabel

def labels():
    for row in range(10**9):
        if row == 20000:
            print("midway", flush=True)
            time.sleep(60)
        yield HumanLabel(str(row), "i", "g", "p1", "loss")

parquet.write(Path(sys.argv[1]), labels(), HumanLabel)
"""


@pytest.mark.parametrize("old", [True, False])
def test_a_writer_that_is_killed_leaves_the_old_file_or_none(tmp_path: Path, old: bool) -> None:
    path = tmp_path / "labels.parquet"
    if old:
        parquet.write(path, [LABEL], HumanLabel)
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "midway\n"
        left = [name for name in os.listdir(tmp_path) if name != path.name]
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    assert len(left) == 1  # it was indeed writing
    assert left[0].startswith(".")
    assert path.exists() == old
    if old:
        assert parquet.read(path, HumanLabel) == [LABEL]
    # Whoever comes next is not disturbed by what was left.
    parquet.write(path, [LABEL, LABEL], HumanLabel)
    assert len(parquet.read(path, HumanLabel)) == 2


FULL = """
import resource, sys
from pathlib import Path
from perl_eval.storage import parquet
from perl_eval.errors import UserError
from perl_eval.records import HumanLabel

resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))  # as a full disk: no file may grow beyond this
labels = (HumanLabel(str(row * 7919), "i", "g", "p1", "loss") for row in range(10**5))
try:
    parquet.write(Path(sys.argv[1]), labels, HumanLabel)
except UserError as error:
    print(error)
"""


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    command = [sys.executable, "-c", FULL, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    assert done.stdout.startswith(f"cannot write {path}: ")
    assert done.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_is_a_file_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "x.parquet", tmp_path / "file" / "deeper" / "x.parquet"):
        with pytest.raises(UserError, match=r"cannot write .*; choose a folder you can write to"):
            parquet.write(path, [LABEL], HumanLabel)


def test_a_folder_in_the_place_of_the_file_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "x.parquet" / "inside").mkdir(parents=True)
    with pytest.raises(UserError, match="cannot write"):
        parquet.write(tmp_path / "x.parquet", [LABEL], HumanLabel)
    assert list(tmp_path.iterdir()) == [tmp_path / "x.parquet"]


def test_a_denied_folder_is_a_user_error(denied: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*Permission denied"):
        parquet.write(denied / "x.parquet", [LABEL], HumanLabel)


def test_replace_file_makes_folders_and_is_seen_only_whole(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.txt"

    def write(partial: Path) -> None:
        assert not path.exists()
        assert partial.parent == path.parent
        assert partial.name.startswith(".")
        partial.write_text("whole")

    parquet.replace_file(path, write)
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["x.txt"]


def test_infinity_is_a_number(tmp_path: Path) -> None:
    parquet.write(tmp_path / "x.parquet", [replace(ANSWER, logprob=-math.inf)], Completion)
    assert parquet.read(tmp_path / "x.parquet", Completion)[0].logprob == -math.inf


def test_what_a_figure_is_about_is_written_as_a_sentence_too(tmp_path: Path) -> None:
    path = tmp_path / "estimates.parquet"
    about = About(policy="rl", against="sft", judge="j", bin=0, bin_low=0.0, bin_high=0.1, bin_mean=1 / 30)
    made = Estimate("observed share", 0.5, None, None, 4, 0, "Wilson", about=about)
    parquet.write(path, [made], Estimate)
    (row,) = pq.read_table(path).to_pylist()
    assert row["subject"] == "rl against sft, judge j, predicted 0 to 0.1, mean 0.033"
    assert row["about"]["bin_mean"] == 1 / 30
    assert parquet.read(path, Estimate) == [made]
