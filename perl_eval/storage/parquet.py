"""Records to parquet files and back, in batches, written atomically."""

from __future__ import annotations

import contextlib
import os
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, product
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from perl_eval.errors import DataError, UserError
from perl_eval.storage.record_codec import (
    Misfit,
    fits,
    kept_texts,
    nullable,
    row_decoder,
    row_encoder,
    schema_of,
    wanted_schema,
)

__all__ = ["batches", "decoded", "is_running", "iterate", "read", "replace_file", "schema_of", "sweep", "write"]

Record = TypeVar("Record")
_BATCH_ROWS = 4096


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
    texts = [pa.field(name, pa.string(), nullable=False) for name in kept_texts(record)]
    schema, encode, count = pa.schema([*schema_of(record), *texts]), row_encoder(record), 0

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


def iterate(path: Path, record: type[Record], *, rows: int = _BATCH_ROWS) -> Iterator[Record]:
    """Read records one by one; memory is that of one batch.

    Args:
        path: The file.
        record: What its rows are.
        rows: Rows of a batch, at most.

    Raises:
        UserError: The file is missing.
        DataError: It is not parquet, a column is missing or of another type, or a cell does not fit its field.
    """
    row = 0
    for batch in batches(path, record, rows=rows):
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
        raise UserError(f"no such file: {path}", "check the path", page="")
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
    wanted = wanted_schema(record, tuple(present.names))
    for column in wanted:
        if column.name not in present.names:
            raise DataError(
                f"no such column; present are {', '.join(present.names)}",
                file=path,
                field=column.name,
                fix=f"give a file of {record.__name__} records",
            )
        kind = present.field(column.name).type
        if not fits(kind, column.type):
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
    wanted = wanted_schema(kind, tuple(batch.schema.names))
    decode = row_decoder(kind)
    for row, cell in zip(rows, _cells(batch, wanted, path, rows), strict=True):
        try:
            yield decode(cell)
        except Misfit as misfit:
            raise DataError(str(misfit), file=path, row=row, field=misfit.field) from None


def _cells(batch: pa.RecordBatch, wanted: pa.Schema, path: Path, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Return a batch as plain rows; a number that its column's type cannot hold is an error that names it."""
    loose = nullable(wanted)
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


def refuse_repeated(values: pa.ChunkedArray, path: Path, field: str) -> None:
    """Refuse a column in which a value stands twice.

    Raises:
        DataError: One does; it names the second row of the first such value.
    """
    import pyarrow.compute as pc

    if pc.count_distinct(values).as_py() == len(values):
        return
    first: dict[Any, int] = {}
    for row, value in enumerate(values.to_pylist()):
        if (before := first.setdefault(value, row)) != row:
            raise DataError(
                f"{value!r} is that of row {before}, too", file=path, row=row, field=field, fix="give each row its own"
            )


def read(path: Path, record: type[Record]) -> list[Record]:
    """Read all records of a file; see `iterate`."""
    return list(iterate(path, record))
