"""Records on their way to a layout: a few at a time, and what they hold that it has no place for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from perl_eval.exporting.trl_rows import SplitRows
from perl_eval.sources import rows
from perl_eval.storage import parquet

__all__ = ["Passed", "StoredRecords", "StoredRows"]

_BATCH_ROWS = 1024
_NOTHING: tuple[Any, ...] = (None, "", (), {}, 0, "stop", False)
"""Values of fields that say nothing that another tool would miss."""


@dataclass(frozen=True, slots=True)
class StoredRecords:
    """Records of one kind in a parquet file, read anew each time that they are gone through."""

    path: Path
    record: type

    def __iter__(self) -> Iterator[Any]:
        return parquet.iterate(self.path, self.record, rows=_BATCH_ROWS)


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Rows of one split of a folder, read anew each time that they are gone through."""

    folder: Path
    split: str

    def __iter__(self) -> Iterator[Any]:
        return rows.iterate(self.folder, self.split)


@dataclass(slots=True)
class Passed:
    """Records that a layout is made of, and what was seen of them.

    Attributes:
        source: The records, or splits of rows; can be gone through more than once.
        holds: The fields that the layout keeps.
        policy: The policy whose records are passed on; all if empty.
        lost: The fields that hold something, and that the layout has no place for, as far as was seen.
    """

    source: Iterable[Any]
    holds: frozenset[str]
    policy: str = ""
    lost: dict[str, bool] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Any]:
        for one in self.source:
            if isinstance(one, SplitRows):
                yield SplitRows(one.name, Passed(one.rows, self.holds, lost=self.lost))
            elif not self.policy or getattr(one, "policy", "") == self.policy:
                self._look(one)
                yield one

    def _look(self, one: Any) -> None:
        if not self.lost:
            self.lost.update((part.name, False) for part in fields(one) if part.name not in self.holds)
        for name, known in self.lost.items():
            if not known and _says(getattr(one, name)):
                self.lost[name] = True


def _says(value: Any) -> bool:
    return not any(value is nothing or (type(value) is type(nothing) and value == nothing) for nothing in _NOTHING)
