"""What each file or folder that somebody has holds: told by its content, read as every verb reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from perl_eval.errors import DataError, PerlEvalError
from perl_eval.records import Completion, HumanLabel, Judgement
from perl_eval.scoring.several_files import for_kind, kind_named
from perl_eval.sources import brought, completions, imported, imported_rows, judgement_files, label_files, labels
from perl_eval.sources.column_names import column_like, columns_typed
from perl_eval.sources.containers import Brought, is_saved_dataset, opened
from perl_eval.sources.formats.label_table import WIDE
from perl_eval.sources.reading import Format, HowRead
from perl_eval.sources.recognition import FORMATS
from perl_eval.sources.rows import Row
from perl_eval.storage import run_folder
from perl_eval.storage.remote import CARD, MARK

__all__ = ["Held", "held_in"]

_SIDES = ("a", "b")
_TAKES: Mapping[type, Callable[[Path, Path, HowRead], Path]] = {
    Completion: lambda source, home, how: imported.take_completions(source, home, how=how),
    Judgement: lambda source, home, how: judgement_files.take_judgements(source, home, how=how),
    HumanLabel: lambda source, home, how: label_files.take_labels(
        source, home, format=how.format, columns=how.columns, means=how.means
    ),
}
_TABLE_OF: Mapping[type, str] = {Completion: "table", Judgement: "outcomes", HumanLabel: "table"}
"""The format of a file whose columns somebody named."""
_OURS: Mapping[type, Callable[[Path], bool]] = {
    Completion: completions.is_ours,
    Judgement: judgement_files.is_ours,
    HumanLabel: labels.is_ours,
}


@dataclass(frozen=True, slots=True)
class Held:
    """What one source holds.

    Attributes:
        name: The source as typed.
        homes: Run folders, or their files, by the kind of record in them.
        told: What was read of a file of another tool, and what was derived and left out.
        wrong: Why it cannot be read, or not all of it.
    """

    name: str
    homes: Mapping[type, tuple[Path, ...]] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


def held_in(source: Path, home: Path, how: HowRead | None = None) -> Held:
    """Look at a source: a run folder, the file of one, or a file of another tool.

    Args:
        source: The path.
        home: An empty folder, for what is read of a file of another tool.
        how: How a file of another tool is read.

    Raises:
        UserError: There is nothing at that path.
    """
    if source.is_dir() and not is_saved_dataset(source):
        return _in_folder(source, home)
    if source.is_file() and source.suffix == ".parquet":
        for kind, file in run_folder.FILES.items():
            if source.name == file or (kind in _OURS and _OURS[kind](source)):
                return Held(str(source), {kind: (source,)}, wrong=_changed(source))
    return _of_another_tool(source, home, how or HowRead())


def _in_folder(source: Path, home: Path) -> Held:
    """Look at a folder: what lies in it, and in the folders of two contestants."""
    found: dict[type, tuple[Path, ...]] = {}
    for kind, file in run_folder.FILES.items():
        places = [place for place in (source, *(source / side for side in _SIDES)) if (place / file).is_file()]
        if places:
            found[kind] = tuple(places)
    if found:
        return Held(str(source), found, wrong=_changed(source))
    if (source / MARK).exists() and not (source / CARD).exists():
        return Held(str(source), wrong=(f"{source}: its verb did not finish; run the same command again",))
    return _as_rows(source, home, "holds no records of perl-eval and no rows")


def _changed(source: Path) -> tuple[str, ...]:
    """Say whether a source is not what its card says."""
    try:
        run_folder.fingerprint(source)
    except DataError as error:
        return (str(error),)
    return ()


def _of_another_tool(source: Path, home: Path, how: HowRead) -> Held:
    try:
        found = opened(source)
    except DataError as error:
        return Held(str(source), wrong=(str(error),))
    homes: dict[type, tuple[Path, ...]] = {}
    told, wrong = [], []
    for place, (kind, name) in enumerate(_kinds(found, how)):
        folder = home / f"{place}"
        try:
            _TAKES[kind](source, folder, for_kind(how, kind, name))
        except PerlEvalError as error:
            wrong.append(str(error))
            continue
        homes[kind] = (folder,)
        told.append(brought.told(folder))
    if not homes and not wrong:
        columns = list(map(str, found.head[0])) if found.head else []
        fields = ("prompt", "label") if column_like("label", columns) else ("prompt", "text")
        why = f"is of no known format ({', '.join(columns) or 'no rows'}); name its columns, as in "
        return _as_rows(source, home, why + columns_typed(fields, columns), how)
    if homes:
        return Held(str(source), homes, tuple(told))
    as_rows = _as_rows(source, home, "", how)
    return as_rows if as_rows.homes else Held(str(source), wrong=tuple(wrong))


def _kinds(found: Brought, how: HowRead) -> list[tuple[type, str]]:
    """Return the kinds of record that a file is read as, with the format of each.

    The columns that somebody named say it, then its content; the format that was typed counts where the file is of it,
    or of none that is told by its content.
    """
    named = kind_named(found, how)
    if named is not None:
        return [(named, _TABLE_OF[named])] if named in _TABLE_OF else []
    of_name = [one for one in FORMATS if one.name == how.format and one.gives in _TAKES]
    told = list(_layouts(found))
    matching = [one for one in of_name if one.matches(found)]
    return [(one.gives, one.name) for one in matching or told or of_name]


def _layouts(found: Brought) -> Iterator[Format]:
    """Yield the first format of each kind that something is of; those that little tells only where no other is."""
    matching = [one for one in FORMATS if one.gives in _TAKES and one.matches(found)]
    strong = [one for one in matching if not one.weak and one is not WIDE] or matching[:1]
    seen: set[type] = set()
    for one in strong:
        if one.gives not in seen:
            seen.add(one.gives)
            yield one


def _as_rows(source: Path, home: Path, why: str, how: HowRead | None = None) -> Held:
    """Look at what may be rows for training."""
    columns = for_kind(how, Row).columns if how else {}
    try:
        folder = source if imported_rows.is_built(source) and any(source.glob("*.parquet")) else None
        if folder is None:
            folder = imported_rows.take_rows(source, home / "rows", columns=columns)
            told = brought.told(folder)
        else:
            told = "rows as `build` writes them"
    except PerlEvalError:
        return Held(str(source), wrong=(f"{source} {why}",))
    return Held(str(source), {Row: (folder,)}, (told,))
