"""Records to parquet and back: schemas drawn from the dataclasses, files written atomically."""

from __future__ import annotations

import contextlib
import os
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import islice, product
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.parquet as pq

from perl_eval.errors import DataError, UserError

__all__ = ["batches", "decoded", "is_running", "iterate", "read", "replace_file", "schema_of", "sweep", "write"]

Record = TypeVar("Record")
_BATCH_ROWS = 4096
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
        return _row_encoder(typing.cast(type, hint))
    return None


@cache
def _row_encoder(record: type) -> Callable[[Any], dict[str, Any]]:
    parts = [(name, _encoder(hint)) for name, hint in _hints(record).items()]
    texts = _texts(record)

    def encode(value: Any) -> dict[str, Any]:
        row = {name: getattr(value, name) for name in texts}
        for name, encoder in parts:
            part = getattr(value, name)
            row[name] = encoder(part) if encoder and part is not None else part
        return row

    return encode


class _Misfit(Exception):
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
                raise _Misfit(field, f"{value!r} is none of {', '.join(map(repr, allowed))}")
            return value

        return chosen
    if get_origin(hint) is tuple:
        part = _present_decoder(get_args(hint)[0], field)
        if get_args(hint)[0] in _SCALARS:
            return lambda value: tuple(map(part, value)) if None in value else tuple(value)
        return lambda value: tuple([part(one) for one in value])
    if is_dataclass(hint):
        return _row_decoder(typing.cast(type, hint))
    return None


@cache
def _present_decoder(hint: Any, field: str) -> Decoder:
    """Return a decoder that takes empty cells too: as None where the field allows it, else as a misfit."""
    decode, optional = _decoder(hint, field), _optional(hint)[1]

    def present(value: Any) -> Any:
        if value is None:
            if optional:
                return None
            raise _Misfit(field, "is empty")
        return decode(value) if decode else value

    return present


@cache
def _row_decoder(record: type) -> Callable[[dict[str, Any]], Any]:
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
def _texts(record: type) -> tuple[str, ...]:
    """Return the columns that were fields once and are still written, as texts for readers other than this one."""
    return tuple(sorted({column for column, _ in _instead_of(record).values()} - _hints(record).keys()))


@cache
def _wanted(record: type, names: tuple[str, ...]) -> pa.Schema:
    """Return the columns that are read of a file: what there must be, what came later, and what stood in its place."""
    later = _added_later(record)
    own = [part for part in schema_of(record) if part.name in names or part.name not in later]
    earlier = {column for name, (column, _) in _instead_of(record).items() if name not in names and column in names}
    return pa.schema([*own, *(pa.field(name, pa.string()) for name in sorted(earlier - {part.name for part in own}))])


def is_running(process: int) -> bool:
    """Return whether another process of this number is running here."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def sweep(folder: Path) -> None:
    """Remove what processes that were killed while in `replace_file` left half written in a folder."""
    for left in folder.glob(".*.partial"):
        process = left.name.split(".")[-2]
        if process.isdecimal() and not is_running(int(process)):
            left.unlink(missing_ok=True)


def replace_file(path: Path, write_to: Callable[[Path], object]) -> None:
    """Write a file so that it is there whole or not at all.

    Args:
        path: The file to end up with.
        write_to: Called with a temporary path in the same folder; must write and close it.

    Raises:
        UserError: The folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_to(partial)
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}", "choose a folder you can write to") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write(path: Path, records: Iterable[Any], record: type) -> int:
    """Write records of one type to a parquet file, atomically and in batches.

    Returns:
        The number of rows.

    Raises:
        UserError: The folder cannot be written.
        DataError: A text holds half a surrogate pair, which no file can hold.
    """
    texts = [pa.field(name, pa.string(), nullable=False) for name in _texts(record)]
    schema, encode, count = pa.schema([*schema_of(record), *texts]), _row_encoder(record), 0

    def write_to(partial: Path) -> None:
        nonlocal count
        remaining = iter(records)
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            while batch := [encode(value) for value in islice(remaining, _BATCH_ROWS)]:
                try:
                    table = pa.Table.from_pylist(batch, schema=schema)
                except UnicodeEncodeError:
                    raise _unwritable(batch, path, count) from None
                writer.write_table(table)
                count += len(batch)

    replace_file(path, write_to)
    return count


def _unwritable(batch: list[dict[str, Any]], path: Path, first_row: int) -> DataError:
    """Return the error that names the first cell whose text UTF-8 has no form for."""

    def is_bad(value: Any) -> bool:
        if isinstance(value, dict):
            return any(map(is_bad, value.values()))
        if isinstance(value, list):
            return any(map(is_bad, value))
        return isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value)

    row, field = next((row, name) for row, cells in enumerate(batch) for name in cells if is_bad(cells[name]))
    return DataError(
        "holds half a surrogate pair, which no file can hold",
        file=path,
        row=first_row + row,
        field=field,
        fix="put U+FFFD in its place",
    )


def iterate(path: Path, record: type[Record]) -> Iterator[Record]:
    """Read records one by one; memory is that of one batch.

    Raises:
        UserError: The file is missing.
        DataError: It is not parquet, a column is missing or of another type, or a cell does not fit its field.
    """
    row = 0
    for batch in batches(path, record):
        yield from decoded(batch, record, path, range(row, row + batch.num_rows))
        row += batch.num_rows


def batches(
    path: Path, record: type, names: Sequence[str] = (), *, rows: int = _BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """Read a file in batches, as it lies there, once its columns are known to fit.

    Args:
        path: The file.
        record: What its rows are.
        names: Which columns; all if none are named.
        rows: Rows of a batch, at most.

    Raises:
        UserError: The file is missing.
        DataError: It is not parquet, or a column is missing or of another type.
    """
    if not path.is_file():
        raise UserError(f"no such file: {path}", "check the path")
    try:
        source = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"is not a parquet file ({error})", file=path, fix="give the output of a perl-eval verb"
        ) from None
    with source:
        present = _present(source.schema_arrow, path, record).names
        try:
            yield from source.iter_batches(rows, columns=[name for name in present if name in names or not names])
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"is a damaged parquet file ({error})", file=path, fix="make it again") from None


def _present(present: pa.Schema, path: Path, record: type) -> pa.Schema:
    """Return what a file must have, which is all but the columns that came later, and check that it does."""
    wanted = _wanted(record, tuple(present.names))
    for column in wanted:
        if column.name not in present.names:
            raise DataError(
                f"no such column; present are {', '.join(present.names)}",
                file=path,
                field=column.name,
                fix=f"give a file of {record.__name__} records",
            )
        kind = present.field(column.name).type
        if not _fits(kind, column.type):
            raise DataError(
                f"the column has type {kind}, not {column.type}",
                file=path,
                field=column.name,
                fix=f"give a file of {record.__name__} records",
            )
    return wanted


def decoded(batch: pa.RecordBatch, record: type[Record], path: Path, rows: Sequence[int]) -> Iterator[Record]:
    """Turn a batch of a file into records.

    Args:
        batch: All columns of some rows; other columns are left out.
        record: What a row is.
        path: The file, for what is said about an error.
        rows: Where in the file each of the rows lies.

    Raises:
        DataError: A cell does not fit its field.
    """
    kind = typing.cast(type, record)
    wanted = _wanted(kind, tuple(batch.schema.names))
    decode = _row_decoder(kind)
    for row, cell in zip(rows, _cells(batch, wanted, path, rows), strict=True):
        try:
            yield decode(cell)
        except _Misfit as misfit:
            raise DataError(str(misfit), file=path, row=row, field=misfit.field) from None


def _fits(kind: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether a type is of the wanted family; widths and encodings may differ, and empty fits everywhere."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind):
        return True
    if pa.types.is_list(wanted):
        return (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _fits(kind.value_type, wanted.value_type)
    if pa.types.is_struct(wanted):
        return pa.types.is_struct(kind) and all(
            _fits(kind.field(part.name).type, part.type) for part in wanted if kind.get_field_index(part.name) >= 0
        )
    if pa.types.is_string(wanted):
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
    if pa.types.is_boolean(wanted):
        return bool(pa.types.is_boolean(kind))
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _cells(batch: pa.RecordBatch, wanted: pa.Schema, path: Path, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Return a batch as plain rows; a number that its column's type cannot hold is an error that names it."""
    loose = _nullable(wanted)
    table = pa.Table.from_batches([batch]).select(wanted.names)
    try:
        cells: list[dict[str, Any]] = table.cast(loose).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError):
        for row, column in product(range(table.num_rows), loose):
            try:
                table[column.name].slice(row, 1).cast(column.type).to_pylist()
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
                raise DataError(
                    f"does not fit its column ({error})", file=path, row=rows[row], field=column.name
                ) from None
        raise
    return cells


def read(path: Path, record: type[Record]) -> list[Record]:
    """Read all records of a file; see `iterate`."""
    return list(iterate(path, record))


@cache
def _nullable(schema: pa.Schema) -> pa.Schema:
    """Return the schema with every level nullable: emptiness is judged row by row, where the row can be named."""

    def loosen(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_list(kind):
            return pa.list_(loosen(kind.value_type))
        if pa.types.is_struct(kind):
            return pa.struct([pa.field(part.name, loosen(part.type)) for part in kind])
        return kind

    return pa.schema([pa.field(column.name, loosen(column.type)) for column in schema])
