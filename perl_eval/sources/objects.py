"""Objects in memory that people bring, row by row: dicts, a DataFrame, a `datasets.Dataset`, an Arrow table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from perl_eval.errors import DataError, UserError

__all__ = ["mappings"]


def mappings(source: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of an object as mappings from column to cell.

    Args:
        source: An iterable of mappings, a ``pandas.DataFrame``, a ``pyarrow.Table`` or a ``datasets.Dataset``. Cells of
            a DataFrame that are missing come as None.

    Raises:
        UserError: It is none of these.
        DataError: A row is no mapping; it names the row.
    """
    if isinstance(source, Mapping):
        raise UserError(f"{type(source).__name__} has splits or is one row", "give one split, or a list of rows")
    if hasattr(source, "iloc"):  # pandas, which need not be imported to be recognised
        source = pa.Table.from_pandas(source, preserve_index=False)
    if isinstance(source, pa.Table):
        for batch in source.to_batches(max_chunksize=1024):
            yield from batch.to_pylist()
        return
    if not isinstance(source, Iterable) or isinstance(source, str | bytes):
        raise UserError(f"{type(source).__name__} holds no rows", "give a list of dicts, a DataFrame or a Dataset")
    for row, cells in enumerate(source):
        if not isinstance(cells, Mapping):
            what = f"is a {type(cells).__name__}, not a mapping"
            raise DataError(what, file=f"the {type(source).__name__}", row=row, fix="give one dict a row")
        yield cells
