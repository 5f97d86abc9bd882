"""Python rows to arrow tables of a given `datasets.Features`, column by column."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from datasets import Features, Image, Json, List

__all__ = ["array_of", "table_of"]


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
