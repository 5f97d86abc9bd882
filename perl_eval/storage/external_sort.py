"""Rows of parquet files in an order of our own, in bounded memory however many there are.

Rows are dealt out to blocks in one pass over the file; each block is put in order by itself when it is its turn. One
block stays in memory, more of them go to a scratch folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from perl_eval.storage import parquet

__all__ = ["Ordered", "Places", "column", "write_sorted"]

Record = TypeVar("Record")
Places = npt.NDArray[np.int64]
_BLOCK_ROWS = 16_384
_MOST_BLOCKS = 256  # files that are open at one time
_DECODED_ROWS = 1024
_PLACE, _ROW = "place of the row", "row of the file"


def column(numbers: Places) -> pa.Array:
    """Return whole numbers as an arrow array; what pyarrow has for it loads pandas first."""
    numbers = np.ascontiguousarray(numbers, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])


class Ordered(Generic[Record]):
    """Records of a file in another order than they lie in; can be gone through more than once.

    Args:
        path: The file.
        record: What its rows are.
        places: (rows,) Which place each row of the file gets, from 0 on and without a gap; -1 to leave it out.
        scratch: An empty folder for as long as this is used.

    Raises:
        UserError: The file is missing.
        DataError: It is not a table of such records.
    """

    def __init__(self, path: Path, record: type[Record], places: Places, scratch: Path) -> None:
        self._path, self._record = path, record
        self._count = int(places.max(initial=-1)) + 1
        self._size = max(_BLOCK_ROWS, -(-self._count // _MOST_BLOCKS))
        pieces = self._dealt(places)
        self._blocks: list[pa.Table | Path] = []
        if self._count > self._size:
            self._blocks.extend(_spilt(pieces, -(-self._count // self._size), scratch))
        elif self._count:
            self._blocks.append(pa.Table.from_batches([piece for _, piece in pieces]))

    def __len__(self) -> int:
        return self._count

    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows in order, as blocks of a fixed size; the columns of the file come first."""
        for block in self._blocks:
            if isinstance(block, Path):
                with pa.OSFile(str(block)) as source, pa.ipc.open_stream(source) as stream:
                    table = stream.read_all()
            else:
                table = block
            yield table.take(pc.sort_indices(table, [(_PLACE, "ascending")]))

    def __iter__(self) -> Iterator[Record]:
        for table in self.tables():
            for start in range(0, len(table), _DECODED_ROWS):
                (batch,) = table.slice(start, _DECODED_ROWS).combine_chunks().to_batches()
                rows = batch.column(_ROW).to_pylist()
                yield from parquet.decoded(batch.drop_columns([_PLACE, _ROW]), self._record, self._path, rows)

    def _dealt(self, places: Places) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield pieces of the file, each with the number of its block."""
        row = 0
        for batch in parquet.batches(self._path, self._record, rows=_BLOCK_ROWS):
            rows = np.arange(row, row + batch.num_rows)
            place = places[rows]
            row += batch.num_rows
            whole = batch.append_column(_PLACE, column(place)).append_column(_ROW, column(rows))
            blocks = np.where(place < 0, -1, place // self._size)
            for block in np.unique(blocks[blocks >= 0]):
                yield int(block), whole.take(column(np.flatnonzero(blocks == block)))


def _spilt(pieces: Iterator[tuple[int, pa.RecordBatch]], count: int, scratch: Path) -> list[Path]:
    """Write the pieces of each block into a file of its own."""
    writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
    paths = [scratch / f"{number}.arrow" for number in range(count)]
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    try:
        for block, piece in pieces:
            if block not in writers:
                writers[block] = pa.ipc.new_stream(str(paths[block]), piece.schema, options=options)
            writers[block].write_batch(piece)
    finally:
        for writer in writers.values():
            writer.close()
    return paths


def write_sorted(path: Path, records: Iterable[Any], record: type, *, by: Sequence[str], scratch: Path) -> int:
    """Write records to a parquet file in the order of some columns, atomically.

    Args:
        path: The file.
        records: What to write, in any order.
        record: What they are.
        by: Fields of text to sort by, in the order of code points.
        scratch: An empty folder for as long as this lasts.

    Returns:
        The number of rows.

    Raises:
        UserError: The folder cannot be written.
        DataError: A text holds half a surrogate pair, which no file can hold.
    """
    remaining = iter(records)
    head = list(islice(remaining, _BLOCK_ROWS))
    following = list(islice(remaining, 1))
    if not following:
        head.sort(key=lambda one: [getattr(one, name) for name in by])
        return parquet.write(path, head, record)
    unsorted = scratch / "unsorted.parquet"
    count = parquet.write(unsorted, chain(head, following, remaining), record)
    del head
    keys = pa.Table.from_batches(list(parquet.batches(unsorted, record, by)))
    order = pc.sort_indices(keys, [(name, "ascending") for name in by]).to_numpy()
    places = np.empty(count, np.int64)
    places[order] = np.arange(count)
    blocks: Ordered[Any] = Ordered(unsorted, record, places, scratch)
    unsorted.unlink()
    schema = parquet.schema_of(record)

    def write_to(partial: Path) -> None:
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            for table in blocks.tables():
                writer.write_table(table.select(schema.names).cast(schema), row_group_size=_BLOCK_ROWS)

    parquet.replace_file(path, write_to)
    return count
