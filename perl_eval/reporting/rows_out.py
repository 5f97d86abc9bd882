"""What run folders hold as a table, CSV, JSON or Markdown, under the names by which such tables are read again."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from perl_eval.errors import UserError
from perl_eval.exporting.record_cells import CELLS, KINDS, Cells
from perl_eval.reporting.inputs import Folder, folders, records
from perl_eval.storage import parquet

__all__ = ["TableFormat", "What", "write_rows_out"]

What = Literal["estimates", "judgements", "labels", "completions"]
TableFormat = Literal["csv", "json", "md"]


def write_rows_out(sources: Sequence[Path], out: Path, *, what: What, format: TableFormat) -> Path:
    """Write the records of one kind in some run folders, one a row, each once.

    Labels and completions as ``csv`` or ``json``, and judgements that are no scores, are read again as they were.

    Args:
        sources: Folders that hold run folders.
        out: The file to write; replaced whole or not at all.
        what: ``estimates``, ``judgements``, ``labels`` or ``completions``.
        format: ``csv``, ``json`` (a list of objects) or ``md``.

    Raises:
        UserError: No run folder is there, or none holds such records; or kind or format is unknown.
    """
    for value, known in ((what, get_args(What)), (format, get_args(TableFormat))):
        if value not in known:
            raise UserError(f"{value!r} is not known for {what}", f"choose one of {', '.join(known)}")
    if Path(out).is_dir():
        raise UserError(f"{out} is a folder", f"name a file, such as {Path(out) / f'{what}.{format}'}")
    content = _table(folders(sources), what, format)
    parquet.replace_file(Path(out), lambda partial: partial.write_bytes(content.encode("utf-8", "backslashreplace")))
    return Path(out)


def _table(found: Sequence[Folder], what: str, format: str) -> str:
    rows = _once(found, what)
    if not rows:
        raise UserError(f"no run folder here holds {what}", "give folders of runs that write them")
    if format == "json":
        return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
    return _csv(rows) if format == "csv" else _markdown(rows)


def _once(found: Sequence[Folder], what: str) -> list[Cells]:
    """Return the rows of all folders; what another folder holds too, for it was read there, stands once."""
    first: dict[str, Any] = {}
    rows = []
    kind: type[Any] = KINDS[what]
    for folder, record in records(found, kind):
        row = CELLS[what](record)
        if first.setdefault(json.dumps(row, sort_keys=True, default=str), folder) == folder:
            rows.append(row)
    return rows


def _written(cell: Any) -> str:
    if cell is None:
        return ""
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, list | dict) else str(cell)


def _csv(rows: Sequence[Cells]) -> str:
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    names = list(dict.fromkeys(name for row in rows for name in row))
    table.writerow(names)
    table.writerows([_written(row.get(name)) for name in names] for row in rows)
    return written.getvalue()


def _markdown(rows: Sequence[Cells]) -> str:
    """Return a table of the columns in which anything stands."""
    there = dict.fromkeys(name for row in rows for name in row)
    names = [name for name in there if any(row.get(name) not in (None, "", []) for row in rows)]
    lines = [names, ["---"] * len(names), *([_cell(row.get(name)) for name in names] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(cell: Any) -> str:
    return _written(cell).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", "<br>")
