"""From records, run folders and files of any known format to a file of another tool."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perl_eval.errors import OptionError, UserError
from perl_eval.exporting.answers_out import ANSWERS
from perl_eval.exporting.labels_out import LABELS
from perl_eval.exporting.layouts import Layout, Tally
from perl_eval.exporting.passed import Passed, StoredRecords, StoredRows
from perl_eval.exporting.tables_out import TABLES
from perl_eval.exporting.trl_rows import TRL, SplitRows
from perl_eval.exporting.verdicts_out import VERDICTS
from perl_eval.records import Completion, HumanLabel, Judgement
from perl_eval.sources import brought, imported, imported_rows, judgement_files, label_files, rows
from perl_eval.sources.counting import counted
from perl_eval.sources.reading import HowRead
from perl_eval.sources.rows import Row
from perl_eval.storage import run_folder

__all__ = ["EXPORTS", "layout_named", "run", "told"]

EXPORTS: Sequence[Layout] = (*ANSWERS, *VERDICTS, *LABELS, *TRL, *TABLES)
"""All layouts that can be written."""
_CALLED = {Completion: "completions", Judgement: "judgements", HumanLabel: "labels", Row: "rows"}
_FEW = 8


def layout_named(name: str) -> Layout:
    """Return the layout of a name.

    Raises:
        OptionError: There is none.
    """
    known = {one.name: one for one in EXPORTS}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise OptionError("to", repr(name), f"{hint}choose from {', '.join(known)}")


def run(source: Any, out: Path, *, to: str, what: str = "", policy: str = "", how: HowRead | None = None) -> Tally:
    """Write records to a file, or a folder of files, that another tool reads.

    Args:
        source: Records; a run folder, a folder of built rows, a file of any format that ``import`` reads, or a data
            set's id on the hub.
        out: The file, or for layouts of several files the folder; files are replaced whole or not at all.
        to: The layout's name, see `EXPORTS`.
        what: ``completions``, ``judgements``, ``labels`` or ``rows``, where the source holds several that the layout
            takes.
        policy: The policy whose answers are written; all if empty.
        how: How a file of another tool is read.

    Returns:
        What was written, and what the layout cannot hold.

    Raises:
        OptionError: There is no such layout.
        UserError: There is nothing of the kind to write, or the layout cannot hold it.
        DataError: The source is of no known format, or a row lacks what is needed.
    """
    layout, tally = layout_named(to), Tally()
    _refuse_out(source, Path(out), layout)
    with _records(source, layout, what, how or HowRead(), tally) as found:
        _refuse_other_policies(found, policy)
        passed = Passed(found, layout.holds, policy)
        layout.write(passed, Path(out), tally)
    if not tally.rows:
        why = "; ".join(f"{counted(count, reason)}" for reason, count in tally.lost.items()) or "there are none"
        raise UserError(f"nothing is left to write as {to}: {why}", "choose another format")
    tally.not_kept += [name for name, held in passed.lost.items() if held]
    return tally


def told(tally: Tally) -> list[str]:
    """Say what was written, and what was not, one line a thing."""
    said = [] if not tally.read else [tally.read]
    files = [str(file) for file in tally.files]
    more = f" and {len(files) - _FEW:,} more" if len(files) > _FEW else ""
    said.append(f"{counted(tally.rows, 'records')} in {', '.join(files[:_FEW])}{more}")
    said += [f"not as it was: {counted(count, reason)}" for reason, count in tally.lost.items()]
    if tally.not_kept:
        said.append(f"not kept, for the format has no place for it: {', '.join(tally.not_kept)}")
    return said


def _refuse_out(source: Any, out: Path, layout: Layout) -> None:
    """Refuse a folder where a file is written, and the other way round; and to write over what is read."""
    if layout.ending and out.is_dir():
        raise UserError(f"{out} is a folder", f"name a file, such as {out / f'{layout.name}{layout.ending}'}")
    if not layout.ending and out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file, and {layout.name} is a folder of files", "name a folder")
    if isinstance(source, str | Path) and out.exists() and Path(source).exists() and out.samefile(source):
        raise UserError(f"{out} is what is read", "name another place")


@contextmanager
def _records(source: Any, layout: Layout, what: str, how: HowRead, tally: Tally) -> Iterator[Iterable[Any]]:
    """Yield the records of a source, of one kind that a layout takes; they can be gone through more than once."""
    if not isinstance(source, str | Path):
        yield _of_objects(source, layout)
        return
    path = Path(source)
    held = [kind for kind in _CALLED if kind is not Row and _holds(path, kind)]
    with tempfile.TemporaryDirectory() as folder:
        if not held and Row in layout.takes and (not path.exists() or imported_rows.is_built(path)):
            yield _splits(path if path.is_dir() else _rows_in(path, Path(folder), tally))
        elif held:
            yield _stored(path, _one_of(held, layout, what, path))
        else:
            yield _of_file(path, Path(folder), layout, what, how, tally)


def _stored(path: Path, kind: type) -> StoredRecords:
    """Return the records of a run folder, which is checked against its card."""
    file = run_folder.locate(path, kind)
    run_folder.fingerprint(file)
    return StoredRecords(file, kind)


def _holds(path: Path, kind: type) -> bool:
    name = run_folder.FILES[kind]
    return path.name == name or (path / name).is_file()


def _one_of(held: Sequence[type], layout: Layout, what: str, path: Path) -> type:
    """Return the kind of record to write."""
    names = ", ".join(_CALLED[kind] for kind in held)
    fits = [kind for kind in held if kind in layout.takes and what in ("", _CALLED[kind])]
    if len(fits) == 1:
        return fits[0]
    if not fits:
        wanted = what or " or ".join(_CALLED[kind] for kind in layout.takes)
        raise UserError(f"{path} holds {names}, and {layout.name} is made of {wanted}", _fitting(held))
    raise UserError(f"{path} holds {names}", f"say which with --what, such as --what {_CALLED[fits[0]]}")


def _fitting(kinds: Iterable[type]) -> str:
    """Return what to do: the layouts that some kinds of record can be written as."""
    names = [one.name for one in EXPORTS if set(kinds) & set(one.takes)]
    return f"choose one of {', '.join(names)}" if names else "give completions, judgements, labels or rows"


def _of_objects(source: Any, layout: Layout) -> Sequence[Any]:
    found = list(source)
    kinds = {type(one) for one in found}
    if len(kinds) != 1 or not kinds <= set(layout.takes):
        names = ", ".join(sorted(kind.__name__ for kind in kinds)) or "nothing"
        wanted = " or ".join(kind.__name__ for kind in layout.takes)
        raise UserError(f"{names} is given, and {layout.name} is made of {wanted} records", _fitting(kinds))
    return [SplitRows("train", found)] if kinds == {Row} else found


def _splits(folder: Path) -> list[SplitRows]:
    """Return built rows by split."""
    return [SplitRows(name, StoredRows(folder, name)) for name in rows.splits(folder)]


def _rows_in(path: Path, folder: Path, tally: Tally) -> Path:
    """Return the folder of the rows of a file, or of a data set on the hub."""
    home = imported_rows.take_rows(path, folder / "rows")
    tally.read = f"{path}: {brought.told(home)}"
    return home


def _of_file(path: Path, folder: Path, layout: Layout, what: str, how: HowRead, tally: Tally) -> Iterable[Any]:
    """Return the records of a file of another tool."""
    kinds = [kind for kind in layout.takes if what in ("", _CALLED[kind])]
    if kinds == [Row] or (Row in kinds and not what):
        return _splits(_rows_in(path, folder, tally))
    home = folder / "taken"
    if kinds == [Completion]:
        imported.take_completions(path, home, how=how)
    elif kinds == [Judgement]:
        judgement_files.take_judgements(path, home, how=how)
    elif kinds == [HumanLabel]:
        label_files.take_labels(path, home, format=how.format, columns=how.columns, means=how.means)
    else:
        imported.take(path, home, how=how)
    tally.read = f"{path}: {brought.told(home)}"
    held = [kind for kind in _CALLED if kind is not Row and _holds(home, kind)]
    return _stored(home, _one_of(held, layout, what, path))


def _refuse_other_policies(found: Iterable[Any], policy: str) -> None:
    """Refuse a policy that none of the records is of."""
    if not policy:
        return
    policies = {str(getattr(one, "policy", "")) for one in found}
    if policy not in policies:
        names = ", ".join(filter(None, sorted(policies)))
        raise UserError(f"there are no answers of {policy!r}", f"choose from {names}")
