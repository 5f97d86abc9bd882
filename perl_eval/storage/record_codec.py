"""Record types to arrow schemas and rows, drawn from the dataclasses, and rows back to records."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import pyarrow as pa

__all__ = ["Misfit", "fits", "kept_texts", "nullable", "row_decoder", "row_encoder", "schema_of", "wanted_schema"]

_SCALARS: dict[object, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}


@cache
def _hints(record: type) -> dict[str, Any]:
    hints = typing.get_type_hints(record)
    return {field.name: hints[field.name] for field in fields(record)}


def _optional(hint: Any) -> tuple[Any, bool]:
    """Split ``X | None`` into ``X`` and whether None is allowed."""
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        if len(kinds) == 1:
            return kinds[0], True
    return hint, False


def _arrow(hint: Any) -> pa.DataType:
    hint, _ = _optional(hint)
    if get_origin(hint) is Literal:
        return pa.string()
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        return pa.list_(pa.field("item", _arrow(inner), nullable=_optional(inner)[1]))
    if is_dataclass(hint):
        return pa.struct(_columns(typing.cast(type, hint)))
    return _SCALARS[hint]


def _columns(record: type) -> list[pa.Field]:
    return [pa.field(name, _arrow(hint), nullable=_optional(hint)[1]) for name, hint in _hints(record).items()]


@cache
def schema_of(record: type) -> pa.Schema:
    """Return the arrow schema of a record type: one column a field, None allowed where the type says so."""
    return pa.schema(_columns(record))


@cache
def _encoder(hint: Any) -> Callable[[Any], Any] | None:
    """Return what turns a value into plain Python for arrow, or None where it is plain already."""
    hint, _ = _optional(hint)
    if get_origin(hint) is tuple:
        inner = _encoder(get_args(hint)[0])
        return (lambda value: [inner(part) for part in value]) if inner else list
    if is_dataclass(hint):
        return row_encoder(typing.cast(type, hint))
    return None


@cache
def row_encoder(record: type) -> Callable[[Any], dict[str, Any]]:
    """Return what turns a record into a row for arrow; texts that were fields once go with it."""
    parts = [(name, _encoder(hint)) for name, hint in _hints(record).items()]
    texts = kept_texts(record)

    def encode(value: Any) -> dict[str, Any]:
        row = {name: getattr(value, name) for name in texts}
        for name, encoder in parts:
            part = getattr(value, name)
            row[name] = encoder(part) if encoder and part is not None else part
        return row

    return encode


class Misfit(Exception):
    """A cell does not fit its field; carries the field's name."""

    def __init__(self, field: str, what: str) -> None:
        super().__init__(what)
        self.field = field


Decoder = Callable[[Any], Any]
"""Turns a cell, as plain Python, into a field's value."""


@cache
def _decoder(hint: Any, field: str) -> Decoder | None:
    """Return what turns a cell of a field into its value; None where every cell but an empty one is its value."""
    hint, _ = _optional(hint)
    if get_origin(hint) is Literal:
        allowed = dict.fromkeys(get_args(hint))

        def chosen(value: Any) -> Any:
            if value not in allowed:
                raise Misfit(field, f"{value!r} is none of {', '.join(map(repr, allowed))}")
            return value

        return chosen
    if get_origin(hint) is tuple:
        part = _present_decoder(get_args(hint)[0], field)
        if get_args(hint)[0] in _SCALARS:
            return lambda value: tuple(map(part, value)) if None in value else tuple(value)
        return lambda value: tuple([part(one) for one in value])
    if is_dataclass(hint):
        return row_decoder(typing.cast(type, hint))
    return None


@cache
def _present_decoder(hint: Any, field: str) -> Decoder:
    """Return a decoder that takes empty cells too: as None where the field allows it, else as a misfit."""
    decode, optional = _decoder(hint, field), _optional(hint)[1]

    def present(value: Any) -> Any:
        if value is None:
            if optional:
                return None
            raise Misfit(field, "is empty")
        return decode(value) if decode else value

    return present


@cache
def row_decoder(record: type) -> Callable[[dict[str, Any]], Any]:
    """Return what turns a row into a record; it raises `Misfit` for a cell that fits no field."""
    hints, later, instead = _hints(record), _added_later(record), _instead_of(record)
    parts = [(name, _present_decoder(hint, name)) for name, hint in hints.items()]

    def decode(row: dict[str, Any]) -> Any:
        given = {name: part(row[name]) for name, part in parts if name in row or name not in later}
        for name, (column, read) in instead.items():
            if name not in row and row.get(column) is not None:
                given[name] = read(row[column])
        return record(**given)

    return decode


@cache
def _added_later(record: type) -> frozenset[str]:
    """Return the fields of a record that files of earlier versions lack; they take their defaults then."""
    return frozenset(field.name for field in fields(record) if field.metadata.get("added_later"))


@cache
def _instead_of(record: type) -> dict[str, tuple[str, Callable[[str], Any]]]:
    """Return the fields that earlier versions wrote as a text in another column, and what reads that text."""
    return {one.name: one.metadata["instead_of"] for one in fields(record) if "instead_of" in one.metadata}


@cache
def kept_texts(record: type) -> tuple[str, ...]:
    """Return the columns that were fields once and are still written, as texts for readers other than this one."""
    return tuple(sorted({column for column, _ in _instead_of(record).values()} - _hints(record).keys()))


@cache
def wanted_schema(record: type, names: tuple[str, ...]) -> pa.Schema:
    """Return the columns that are read of a file: what there must be, what came later, and what stood in its place."""
    later = _added_later(record)
    own = [part for part in schema_of(record) if part.name in names or part.name not in later]
    earlier = {column for name, (column, _) in _instead_of(record).items() if name not in names and column in names}
    return pa.schema([*own, *(pa.field(name, pa.string()) for name in sorted(earlier - {part.name for part in own}))])


def fits(kind: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether a type is of the wanted family; widths and encodings may differ, and empty fits everywhere."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind):
        return True
    if pa.types.is_list(wanted):
        return (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and fits(kind.value_type, wanted.value_type)
    if pa.types.is_struct(wanted):
        return pa.types.is_struct(kind) and all(
            fits(kind.field(part.name).type, part.type) for part in wanted if kind.get_field_index(part.name) >= 0
        )
    if pa.types.is_string(wanted):
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
    if pa.types.is_boolean(wanted):
        return bool(pa.types.is_boolean(kind))
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


@cache
def nullable(schema: pa.Schema) -> pa.Schema:
    """Return the schema with every level nullable: emptiness is judged row by row, where the row can be named."""

    def loosen(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_list(kind):
            return pa.list_(loosen(kind.value_type))
        if pa.types.is_struct(kind):
            return pa.struct([pa.field(part.name, loosen(part.type)) for part in kind])
        return kind

    return pa.schema([pa.field(column.name, loosen(column.type)) for column in schema])
