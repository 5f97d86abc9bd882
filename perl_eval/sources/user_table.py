"""Tables that people bring, parquet, CSV, JSON lines or a `datasets.Dataset`, read by the names of their columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isinf, isnan
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq
from numpy.typing import NDArray

from perl_eval.errors import DataError, OptionError, UserError

__all__ = ["Sheet", "columns", "columns_of", "named", "read"]

FloatArray = NDArray[np.float64]
_JSON_LINES = (".jsonl", ".ndjson")
_NO_NUMBER = frozenset(("", *pa_csv.ConvertOptions().null_values))


@dataclass(frozen=True, slots=True)
class Sheet:
    """Some columns of a table.

    Attributes:
        table: The columns asked for, those that are there.
        name: What to call the table in an error: its file.
    """

    table: pa.Table
    name: str

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.table.num_rows)

    def has(self, column: str) -> bool:
        """Return whether a column is there."""
        return column in self.table.column_names

    def texts(self, column: str) -> list[str | None]:
        """Return a column as texts, None where a cell is empty; numbers and truth values are written out.

        Raises:
            DataError: The column holds lists or objects.
        """
        cells = self.table[column]
        if pa.types.is_dictionary(cells.type):
            cells = cells.cast(cells.type.value_type)
        try:
            written: list[str | None] = cells.cast(pa.string()).to_pylist()
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
            raise DataError(f"holds {cells.type}, not texts", file=self.name, field=column) from None
        return written

    def full_texts(self, column: str) -> list[str]:
        """Return a column as texts, every cell filled.

        Raises:
            DataError: A cell is empty; it names the row.
        """
        found = self.texts(column)
        for row, cell in enumerate(found):
            if cell is None:
                raise DataError("is empty", file=self.name, row=row, field=column)
        return [str(cell) for cell in found]

    def numbers(self, column: str) -> list[float | None]:
        """Return a column as finite numbers, None where a cell is empty or no number (NaN).

        Raises:
            DataError: A cell is a text that is not a number, or infinite; it names the row.
        """
        cells = self.table[column]
        if pa.types.is_floating(cells.type) or pa.types.is_integer(cells.type) or pa.types.is_boolean(cells.type):
            values = cells.cast(pa.float64()).to_pylist()
        else:
            values = [self._number(text, row, column) for row, text in enumerate(self.texts(column))]
        found: list[float | None] = []
        for row, value in enumerate(values):
            if value is not None and isinf(value):
                raise DataError(f"{value} is not a number", file=self.name, row=row, field=column)
            found.append(None if value is None or isnan(value) else float(value))
        return found

    def _number(self, text: str | None, row: int, column: str) -> float | None:
        if text is None or text.strip() in _NO_NUMBER:
            return None
        try:
            return float(text)
        except ValueError:
            raise DataError(f"{text!r} is not a number", file=self.name, row=row, field=column) from None

    def codes(self, column: str) -> NDArray[np.intp]:
        """Return a column as codes from 0, one for each distinct cell, in order of first appearance; shape (n,)."""
        encoded = pc.dictionary_encode(self.table[column].combine_chunks(), null_encoding="encode")
        return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.intp)


def read(source: Any, columns: Iterable[str], *, optional: Iterable[str] = ()) -> Sheet:
    """Read named columns.

    Args:
        source: A ``.parquet``, ``.csv``, ``.jsonl`` or ``.ndjson`` file, or a `datasets.Dataset`.
        columns: Names of columns that must be there.
        optional: Names of columns that are read where they are there.

    Raises:
        UserError: There is no such file, or it is a folder.
        DataError: The file is none of these, or lacks a column; it names those present.
    """
    wanted = list(dict.fromkeys(columns))
    whole, present, name = _opened(source)
    for column in wanted:
        if column not in present:
            raise DataError(
                f"no such column; present are {', '.join(present)}",
                file=name,
                field=column,
                fix="name the column that holds it",
            )
    chosen = [*wanted, *(column for column in dict.fromkeys(optional) if column in present and column not in wanted)]
    return Sheet(pq.read_table(Path(name), columns=chosen) if whole is None else whole.select(chosen), name)


def columns(source: Any) -> list[str]:
    """Return the names of a table's columns; see `read`."""
    return _opened(source)[1]


def _opened(source: Any) -> tuple[pa.Table | None, list[str], str]:
    """Return a table, or None for a parquet file, which is read by column; its columns; and what to call it."""
    if hasattr(source, "column_names"):
        table, name = _dataset(source)
        return table, list(table.column_names), name
    path = Path(source)
    if path.is_dir():
        raise UserError(f"{path} is a folder", "give a .parquet, .csv or .jsonl file")
    if not path.is_file():
        raise UserError(f"no such file: {path}", "check the path", page="")
    if path.suffix not in (".csv", *_JSON_LINES):
        return None, _parquet_columns(path), str(path)
    table = _text_table(path)
    return table, list(table.column_names), str(path)


def _dataset(source: Any) -> tuple[pa.Table, str]:
    """Return a Hugging Face data set as a table; a selection of rows is taken as it is."""
    table = source.with_format("arrow")[:]
    return table, "the data set"


def _parquet_columns(path: Path) -> list[str]:
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"is not parquet ({error})", file=path, fix="give .parquet, .csv or .jsonl") from None


def _text_table(path: Path) -> pa.Table:
    """Read CSV or JSON lines; an empty cell of a CSV file is an empty one, not an empty text."""
    try:
        if path.suffix == ".csv":
            return _csv_table(path)
        return pa_json.read_json(path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        kind = "a CSV file" if path.suffix == ".csv" else "JSON lines"
        raise DataError(f"is not {kind} ({error})", file=path, fix="see that every row has the same columns") from None


def _csv_table(path: Path) -> pa.Table:
    """Read a CSV file, cells as written, for item 007 is not item 7 and NA may be a name; truth values apart."""
    guessed = pa_csv.read_csv(path).schema
    texts = {field.name: pa.string() for field in guessed if not pa.types.is_boolean(field.type)}
    options = pa_csv.ConvertOptions(column_types=texts, null_values=[""], strings_can_be_null=True)
    return pa_csv.read_csv(path, convert_options=options)


def columns_of(given: Mapping[str, str] | Sequence[str] | None, names: Any) -> dict[str, str]:
    """Read where a table keeps what, for a dataclass of column names.

    Args:
        given: Column by name, or such pairs as typed, ``score=NAME``.
        names: A value of the dataclass.

    Raises:
        OptionError: There is no such name, or no column.
    """
    from dataclasses import fields

    known = [field.name for field in fields(names)]
    found = {}
    typed = [f"{name}={column}" for name, column in given.items()] if isinstance(given, Mapping) else given
    for entry in typed or ():
        name, equals, column = entry.partition("=")
        if not equals or name not in known or not column:
            raise OptionError("column", repr(entry), f"give NAME=COLUMN, NAME one of {', '.join(known)}")
        found[name] = column
    return found


def named(given: Mapping[str, str] | Sequence[str] | None) -> dict[str, str]:
    """Return columns by name, of such pairs as typed; what is no such pair is left out, for `columns_of` refuses it.

    Args:
        given: Column by name, or such pairs as typed, ``score=NAME``.
    """
    if isinstance(given, Mapping):
        return dict(given)
    pairs = (entry.partition("=") for entry in given or ())
    return {name: column for name, equals, column in pairs if name and equals and column}
