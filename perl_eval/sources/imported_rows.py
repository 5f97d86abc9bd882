"""From files, folders and data sets on the hub to a folder of splits, as a run folder of `import`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from perl_eval.errors import UserError
from perl_eval.sources import hub
from perl_eval.sources.containers import Brought, opened
from perl_eval.sources.reading import Import
from perl_eval.sources.split_files import write_splits
from perl_eval.sources.training_rows import NAMES, repeats_prompts
from perl_eval.storage import run_folder

__all__ = ["is_built", "parts_of", "take_rows"]

_ENDINGS = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".arrow", ".gz")
_SEED = 0
_NO_SPLIT = "split train, for no file's name begins with a split's"


def is_built(source: Path) -> bool:
    """Return whether a path is a folder of splits in the columns that verbs read, no prompt told twice in a row.

    A folder without any file of rows is one too: its reader says what is wrong.
    """
    if not source.is_dir():
        return False
    files = sorted(source.glob("*.parquet"))
    if not files:
        return not _files(source)
    try:
        if not all({"id", "group", "prompt"} <= set(pq.read_schema(file).names) for file in files):
            return False
        return not any(_repeats_prompts(file) for file in files)
    except (pa.ArrowInvalid, OSError):
        return True


def _repeats_prompts(file: Path) -> bool:
    with pq.ParquetFile(file) as table:
        names = [name for name in ("prompt", "completion", "chosen", "rejected") if name in table.schema_arrow.names]
        found = (cells for batch in table.iter_batches(1024, columns=names) for cells in batch.to_pylist())
        return repeats_prompts(found, table.metadata.num_rows)


def take_rows(
    source: Path,
    out: Path,
    *,
    columns: Mapping[str, str] | None = None,
    make: Sequence[str] = (),
    whole: str = "",
) -> Path:
    """Read rows in any of TRL's shapes and write them as splits to a run folder.

    Args:
        source: A file, a folder of files, or a data set's id on the hub.
        out: Output folder.
        columns: The names that the rows use, by `training_rows.COLUMNS`.
        make: Held-out splits to make of the rows for training, by group, where they are missing.
        whole: The split that all rows are, where they come without splits.

    Raises:
        UserError: There is no such file or data set, or there are no rows.
        DataError: A row lacks what is needed.
    """
    state = Import(columns or {})
    parts, commit = parts_of(Path(source), whole or "train", state)
    named = {"source": str(source), "revision": commit} if commit else {}
    arguments = {"kind": "rows", "columns": dict(columns or {}), "make": list(make), "whole": whole, **named}
    inputs = {} if commit else {"source": Path(source)}
    with run_folder.start(out, verb="import", arguments=arguments, seed=_SEED, inputs=inputs) as going:
        if going.done:
            return going.folder
        counts = write_splits(parts, going.folder, state, make=make, seed=_SEED)
        for name in state.derived.keys() & {_NO_SPLIT}:
            state.derived[name] = sum(counts.values())
        going.notes |= {
            "format": "hub" if commit else next(iter(parts.values())).container,
            "rows": sum(counts.values()),
            "splits": counts,
            "made": [split for split in counts if split not in parts],
            "derived": dict(state.derived),
            "left_out": dict(state.left_out),
            "shared_prompts": {split: count for split, count in state.shared.items() if count},
        }
    return going.folder


def parts_of(source: Path, whole: str, state: Import) -> tuple[Mapping[str, Brought], str]:
    """Return what was brought by split, and the commit of a data set on the hub.

    Args:
        source: A file, a folder of files, or a data set's id on the hub.
        whole: The split that all rows are, where they come without splits.
        state: Gets the files that are left out, or that none has the name of a split.
    """
    if source.is_dir():
        found = _files(source)
        if not found:
            raise UserError(f"{source} holds no files of rows", f"give files that end with {', '.join(_ENDINGS)}")
        others = found.pop("", [])
        if not found:
            state.derived[_NO_SPLIT] += 1
            return {"train": _joined(others)}, ""
        if others:
            names = ", ".join(file.name for file in others)
            state.left_out[f"files whose names begin with no split, such as train or test: {names}"] += len(others)
        return {split: _joined(files) for split, files in found.items()}, ""
    name = None if source.exists() else hub.hub_name(str(source))
    if name is None:
        return {whole: opened(source)}, ""
    parts, commit = hub.hub_splits(name)
    if name.split or len(parts) == 1:
        parts = {whole: next(iter(parts.values()))}
    return parts, commit


def _files(folder: Path) -> dict[str, list[Path]]:
    """Return the files of rows in a folder, or in its folder ``data``, by the split that their names begin with.

    Files whose names begin with none are under "".
    """
    places = [_by_split(place) for place in (folder, folder / "data")]
    named = next((found for found in places if found.keys() - {""}), None)
    return named or next((found for found in places if found), {})


def _by_split(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if file.is_file() and file.suffix in _ENDINGS and file.name != run_folder.CARD:
            word = file.name.replace("-", ".").replace("_", ".").split(".")[0].lower()
            found.setdefault(NAMES.get(word, ""), []).append(file)
    return found


def _joined(files: Sequence[Path]) -> Brought:
    """Return several files as one."""
    parts = [opened(file) for file in files]
    if len(parts) == 1:
        return parts[0]
    return Brought(
        str(files[0].parent),
        parts[0].container,
        lambda: (cells for part in parts for cells in part.rows()),
        files[0],
        parts=tuple(parts),
    )
