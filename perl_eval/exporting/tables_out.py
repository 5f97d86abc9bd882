"""Records as plain tables, one a row, under the names by which they are read again."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from perl_eval.exporting.layouts import Layout, Tally, write_json, write_lines, write_pieces
from perl_eval.exporting.record_cells import CELLS, KINDS, Cells
from perl_eval.records import Completion, HumanLabel, Judgement

__all__ = ["TABLES"]

_KINDS = (Completion, Judgement, HumanLabel)
_NAMES = {kind: name for name, kind in KINDS.items()}


def _cells(found: Iterable[Any]) -> Iterator[Cells]:
    return (CELLS[_NAMES[type(one)]](one) for one in found)


def _csv(found: Iterable[Any], out: Path, tally: Tally) -> None:
    write_pieces(out, _csv_rows(_cells(found)), tally)


def _csv_rows(rows: Iterable[Cells]) -> Iterator[str]:
    """Yield rows of a table as CSV, the header with the first; all rows of a kind have the same columns."""
    written, names = io.StringIO(), list[str]()
    # Everything in quotes: a bare carriage return in a cell would end its row.
    table = csv.writer(written, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        if not names:
            names = list(row)
            table.writerow(names)
        table.writerow([_written(row[name]) for name in names])
        yield written.getvalue()
        written.seek(0)
        written.truncate()


def _written(cell: Any) -> str:
    if cell is None:
        return ""
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, list | dict) else str(cell)


def _json(found: Iterable[Any], out: Path, tally: Tally) -> None:
    write_json(out, _cells(found), tally)


def _lines(found: Iterable[Any], out: Path, tally: Tally) -> None:
    write_lines(out, _cells(found), tally)


_ALL = frozenset(
    {
        *("id", "item", "group", "dataset", "policy", "prompt", "text", "finish", "draw", "annotator", "label", "unit"),
        *("weight", "note", "simulated", "policy_a", "policy_b", "judge", "kind", "outcome", "p_a", "score", "a", "b"),
        *("text_a", "text_b", "reason", "ballots"),
    }
)
TABLES: Sequence[Layout] = (
    Layout("csv", _KINDS, "a table of completions, judgements or labels (CSV)", _csv, _ALL, ".csv"),
    Layout("json", _KINDS, "the same as a JSON list of objects", _json, _ALL, ".json"),
    Layout("jsonl", _KINDS, "the same as JSON lines", _lines, _ALL, ".jsonl"),
)
