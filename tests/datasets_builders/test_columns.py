"""Rows survive arrow and parquet unchanged, whatever they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets_builders import features
from datasets_builders.columns import Conversations, table_of, text_table

# Whatever UTF-8 can hold: empty, very long, NUL, private use, right to left, look-alikes of JSON.
text = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["", "null", "2", '{"a": 1}', "\x00", "\ue415", "\u202e", "x" * 100_000, "\r\n\t "]),
)
scalar = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False), text)
nested = st.recursive(
    scalar,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=8,
)
calls = st.lists(st.builds(features.tool_call, text, st.dictionaries(text, nested, max_size=3)), max_size=2)
message = st.builds(
    features.message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    text,
    name=st.none() | text,
    tool_calls=st.none() | calls,
)
messages = st.lists(message, max_size=4)
meta = dict.fromkeys(features.METADATA, text)
rows_of: dict[str, tuple[Any, Any]] = {
    "demonstration": (
        features.demonstration(),
        st.fixed_dictionaries({"prompt": messages, "completion": messages} | meta),
    ),
    "preference": (
        features.preference(extra={"score": datasets.Value("int64")}),
        st.fixed_dictionaries(
            {"prompt": messages, "chosen": messages, "rejected": messages}
            | meta
            | {"score": st.none() | st.integers(-(2**63), 2**63 - 1)}
        ),
    ),
    "rating": (
        features.rating(),
        st.fixed_dictionaries({"prompt": messages, "completion": messages, "label": st.booleans()} | meta),
    ),
    "prompt": (features.prompt(), st.fixed_dictionaries({"prompt": messages} | meta)),
}


def opened(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row read with plain pyarrow with its tool calls, which are JSON text there, parsed."""
    for column in row.values():
        for turn in column if isinstance(column, list) else ():
            if turn["tool_calls"] is not None:
                turn["tool_calls"] = [json.loads(call) for call in turn["tool_calls"]]
    return row


@pytest.mark.parametrize("shape", rows_of)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rows_come_back_from_parquet_as_they_were(shape, data, tmp_path: Path) -> None:
    wanted, strategy = rows_of[shape]
    rows = data.draw(st.lists(strategy, max_size=4))
    path = tmp_path / "rows.parquet"
    pq.write_table(table_of(rows, wanted), path)
    back = pq.read_table(path)
    assert [opened(row) for row in back.to_pylist()] == rows
    assert datasets.Features.from_arrow_schema(back.schema) == wanted


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.fixed_dictionaries({"prompt": messages} | meta), min_size=1, max_size=4))
def test_datasets_reads_tool_calls_as_objects(rows) -> None:
    # Here without floats and huge numbers: the JSON reader of datasets rounds those.
    wanted = features.prompt()
    for row, found in zip(rows, datasets.Dataset(table_of(rows, wanted)), strict=True):
        for turn, found_turn in zip(row["prompt"], found["prompt"], strict=True):
            assert found_turn["content"] == turn["content"]
            names = [call["function"]["name"] for call in turn["tool_calls"] or ()]
            assert [call["function"]["name"] for call in found_turn["tool_calls"] or ()] == names


plain = st.lists(st.tuples(st.sampled_from(["user", "assistant"]), text), max_size=4)


@settings(max_examples=60, deadline=None)
@given(conversations=st.lists(plain, max_size=5))
def test_the_fast_way_makes_the_same_table(conversations) -> None:
    wanted = features.prompt()
    rows = [
        {
            "prompt": [features.message(role, said) for role, said in turns],
            **{"id": str(number), "group": "g", "dataset": "d", "source_file": "f"},
        }
        for number, turns in enumerate(conversations)
    ]
    column = Conversations()
    for turns in conversations:
        column.add([role for role, _ in turns], [said for _, said in turns])
    columns = {name: [row[name] for row in rows] for name in features.METADATA}
    assert text_table({"prompt": column, **columns}, wanted).equals(table_of(rows, wanted), check_metadata=True)


def test_the_fast_way_refuses_other_columns() -> None:
    with pytest.raises(KeyError, match="extra"):
        text_table({"prompt": Conversations(), "extra": []}, features.prompt())


def test_one_shape_has_one_schema() -> None:
    assert features.rating() == features.rating()
    assert list(features.preference())[:3] == ["prompt", "chosen", "rejected"]
    for make in (features.demonstration, features.preference, features.rating, features.prompt):
        assert set(features.METADATA) < set(make())
        assert "images" in make(vision=True)
