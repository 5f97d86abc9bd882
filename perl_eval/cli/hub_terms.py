"""Rows that go to ``hf://``, held against the terms of the data sets that they come from.

Only the hub publishes: a bucket at ``s3://`` or ``gs://`` is storage of one's own, and who reads it is not seen here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from perl_eval.storage import remote

__all__ = ["refuse_by_terms"]


def refuse_by_terms(address: str, output: Path, inputs: Iterable[Path]) -> None:
    """Refuse to send an output to the hub if its rows may not be there.

    Args:
        address: Where it is to go; only ``hf://`` is looked at.
        output: A run folder; or a single file, such as a page, which is taken to show what the inputs hold.
        inputs: What the verb read.

    Raises:
        UserError: The terms forbid it; or forbid it in public, and the repository is public or cannot be seen.
    """
    if not address.startswith("hf://"):
        return
    from datasets_builders import NAMES, BuilderError, builder_class
    from datasets_builders.publish import refuse_push
    from perl_eval.errors import UserError

    held = {name for path in ([output] if output.is_dir() else inputs) for name in _data_sets(path)}
    for name in sorted(held.intersection(NAMES)):
        origin = builder_class(name).ORIGIN
        try:
            refuse_push(origin, private=origin.publishing == "private" and remote.is_private(address))
        except BuilderError as error:
            raise UserError(error.what, error.fix) from None


def _data_sets(folder: Path) -> Iterator[str]:
    """Yield the names of the data sets that the rows of a folder say they come from."""
    import pyarrow.parquet as pq

    for file in sorted(folder.rglob("*.parquet")) if folder.is_dir() else ():
        if "dataset" in pq.read_schema(file).names:
            yield from (str(name) for name in pq.read_table(file, columns=["dataset"])["dataset"].unique().to_pylist())
