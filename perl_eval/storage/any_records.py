"""Records of any kind, read and written by where they lie."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from perl_eval.checks import existing
from perl_eval.errors import UserError
from perl_eval.storage import parquet, run_folder

__all__ = ["read", "write"]


def read(path: str | Path, kind: type | None = None) -> list[Any]:
    """Read the records of a run folder, or of its file, checked against the run card.

    Args:
        path: A run folder that holds one kind of record, or a file called as in a run folder.
        kind: The kind of record, where the folder holds several or the file has another name.

    Returns:
        Records: Completion, Judgement, HumanLabel, Score, Estimate or Measurement.

    Raises:
        UserError: There is no such folder, or it holds several kinds of record.
        DataError: The file does not match its card.

    Example:
        >>> import perl_eval as pe, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> path = pe.write(folder, [pe.Score("c1", "i1", "g1", "ours", "length", 3.0)])
        >>> [one.value for one in pe.read(folder)]
        [3.0]
    """
    where = existing(Path(path))
    if kind is not None:
        return run_folder.read(where, kind)
    held = {kind: name for kind, name in run_folder.FILES.items() if where.name == name or (where / name).is_file()}
    if len(held) != 1:
        there = ", ".join(held.values()) or "none of them"
        raise UserError(f"{where} holds {there}", f"say of which kind: {_names()}")
    return run_folder.read(where, *held)


def write(path: str | Path, records: Iterable[Any]) -> Path:
    """Write records of one kind to a file, as the verbs read them.

    Args:
        path: A ``.parquet`` file, or a folder, which gets the file of that kind. Folders are made where they are not
            there. They get no run card, so nothing vouches for the file.
        records: Records of one kind, at least one.

    Returns:
        The file.

    Raises:
        UserError: There are no records, or they are of several kinds.

    Example:
        >>> import perl_eval as pe, tempfile
        >>> pe.write(tempfile.mkdtemp(), [pe.Score("c1", "i1", "g1", "ours", "length", 3.0)]).name
        'scores.parquet'
    """
    given = list(records)
    kinds = {type(one) for one in given}
    if len(kinds) != 1 or not kinds <= run_folder.FILES.keys():
        names = ", ".join(sorted(kind.__name__ for kind in kinds)) or "nothing"
        raise UserError(f"{names} is given", f"give records of one of {_names()}")
    (kind,) = kinds
    file = Path(path) if Path(path).suffix == ".parquet" else Path(path) / run_folder.FILES[kind]
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write(file, given, kind)
    return file


def _names() -> str:
    return ", ".join(kind.__name__ for kind in run_folder.FILES)
