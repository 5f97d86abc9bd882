"""Python rows to arrow tables of a given `datasets.Features`, column by column.

`table_of` takes rows as dicts and any features. `Conversations` and `text_table` make the same tables several times as
fast where messages are plain text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from datasets import Features, Image, Json, List

__all__ = ["Conversations", "array_of", "table_of", "text_table"]


def _list_array(values: Sequence[Any], feature: List) -> pa.Array:
    offsets: list[int | None] = []
    flat: list[Any] = []
    for value in values:
        if value is None:
            offsets.append(None)
        else:
            offsets.append(len(flat))
            flat.extend(value)
    offsets.append(len(flat))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), array_of(flat, feature.feature))


def _struct_array(values: Sequence[Any], feature: Mapping[str, Any]) -> pa.Array:
    mask = pa.array([value is None for value in values]) if None in values else None
    children = [
        array_of([None if value is None else value[name] for value in values], part) for name, part in feature.items()
    ]
    return pa.StructArray.from_arrays(children, names=list(feature), mask=mask)


def array_of(values: Sequence[Any], feature: Any) -> pa.Array:
    """Return the arrow array of some Python values of a feature.

    Args:
        values: The values; None where there is none. Pictures are ``{"bytes": ..., "path": ...}``.
        feature: The feature: a `datasets` type, or a dict of them for a struct.

    Raises:
        KeyError: A struct lacks a key.
    """
    if isinstance(feature, List):
        return _list_array(values, feature)
    if isinstance(feature, dict):
        return _struct_array(values, feature)
    if isinstance(feature, Json):
        texts = [None if value is None else json.dumps(value) for value in values]
        return pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts, pa.string()))
    if isinstance(feature, Image):
        return pa.array(values, feature.pa_type)
    return pa.array(values, feature())


def table_of(rows: Sequence[Mapping[str, Any]], features: Features) -> pa.Table:
    """Return the table of some rows.

    Raises:
        KeyError: A row has other columns than the features.
    """
    for row in rows:
        if row.keys() != features.keys():
            raise KeyError(f"columns {sorted(row.keys() ^ features.keys())} are in the row or the features only")
    columns = [array_of([row[name] for row in rows], feature) for name, feature in features.items()]
    return pa.Table.from_arrays(columns, schema=features.arrow_schema)


class Conversations:
    """A column of messages of plain text, filled turn by turn: no dict is made for a message."""

    def __init__(self) -> None:
        self._roles: list[str] = []
        self._texts: list[str] = []
        self._ends: list[int] = [0]

    def add(self, roles: Sequence[str], texts: Sequence[str]) -> None:
        """Add a row: the role and the text of each of its messages."""
        self._roles += roles
        self._texts += texts
        self._ends.append(len(self._roles))

    def array(self) -> pa.Array:
        """Return the column."""
        count = len(self._roles)
        tool_calls = pa.list_(pa.json_())
        turns = pa.StructArray.from_arrays(
            [
                pa.array(self._roles, pa.string()),
                pa.array(self._texts, pa.string()),
                pa.nulls(count, pa.string()),
                pa.nulls(count, tool_calls),
            ],
            names=["role", "content", "name", "tool_calls"],
        )
        return pa.ListArray.from_arrays(pa.array(self._ends, pa.int32()), turns)


def text_table(columns: Mapping[str, Conversations | Sequence[Any]], features: Features) -> pa.Table:
    """Return the table of some columns: conversations, and plain values.

    Raises:
        KeyError: There are other columns than the features.
    """
    if columns.keys() != features.keys():
        raise KeyError(f"columns {sorted(columns.keys() ^ features.keys())} are in the columns or the features only")
    arrays = []
    for name, feature in features.items():
        column = columns[name]
        arrays.append(column.array() if isinstance(column, Conversations) else array_of(column, feature))
    return pa.Table.from_arrays(arrays, schema=features.arrow_schema)
