"""Import data set rows, as the builders write them: TRL's columns in parquet, one folder a config, files by split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from perl_eval.errors import DataError, UserError
from perl_eval.records import PICTURE, Message, digest
from perl_eval.sources.containers import opened
from perl_eval.storage import images, run_folder
from perl_eval.storage.images import Picture

__all__ = ["EQUAL_PROMPTS", "Row", "asked", "columns", "demonstrations", "iterate", "limited", "read", "rows", "splits"]

EQUAL_PROMPTS = "rows with the prompt of another"
"""What a run card calls rows that are not answered apart, for an earlier one asks the same."""
_BATCH_ROWS = 1024
_TURNS = ("prompt", "completion", "chosen", "rejected")
_OWN = frozenset((*_TURNS, "id", "group", "dataset", "label", images.COLUMN))


@dataclass(frozen=True, slots=True)
class Row:
    """One row of any of the four shapes; what a shape lacks is None.

    Demonstration has ``completion``, Rating has ``completion`` and ``label``, Preference has ``chosen`` and
    ``rejected``, Prompt has neither. ``images`` are the pictures of the prompt, in the order of their places in it
    (`perl_eval.records.PICTURE`); ``more`` has the row's other columns.
    """

    id: str
    group: str
    dataset: str
    prompt: tuple[Message, ...]
    completion: tuple[Message, ...] | None = None
    chosen: tuple[Message, ...] | None = None
    rejected: tuple[Message, ...] | None = None
    label: bool | None = None
    images: tuple[Picture, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


def _files(folder: Path, split: str) -> list[Path]:
    return sorted([*folder.glob(f"{split}.parquet"), *folder.glob(f"{split}-*.parquet")])


def splits(folder: Path) -> list[str]:
    """Return the names of the splits in a folder."""
    return sorted({path.stem.split("-")[0] for path in Path(folder).glob("*.parquet")})


def columns(folder: Path, split: str) -> set[str]:
    """Return the columns of one split, empty if there is no such split or its file is broken: `read` says so."""
    try:
        return {name for path in _files(Path(folder), split) for name in pq.read_schema(path).names}
    except (pa.ArrowInvalid, OSError):
        return set()


def read(folder: Path, split: str, *, need: tuple[str, ...] = ()) -> list[Row]:
    """Read one split.

    Args:
        folder: One config's folder, as ``perl-eval build`` writes it.
        split: ``train``, ``validation``, ``test`` or what the folder has.
        need: Columns that must be there beyond ``prompt``.

    Raises:
        UserError: No such folder or split.
        DataError: The files do not match their run card, or a row lacks what is needed.
    """
    return list(iterate(folder, split, need=need))


def iterate(folder: Path, split: str, *, need: tuple[str, ...] = ()) -> Iterator[Row]:
    """Read one split row by row; memory is that of a batch, and of where the pictures lie. See `read`."""
    folder = Path(folder)
    run_folder.fingerprint(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is a file", "give the folder that holds the splits")
    files = _files(folder, split)
    if not files:
        inside = sorted(path.name for path in folder.iterdir() if path.is_dir() and list(path.glob("*.parquet")))
        hint = f"it has the configs {', '.join(inside)}; give one of them" if inside else "build the data set first"
        have = ", ".join(splits(folder)) or "none"
        raise UserError(f"{folder} has no split {split!r} (it has {have})", hint)
    return (row for path in files for row in _rows(path, need))


def demonstrations(folder: Path, split: str) -> list[Row]:
    """Read the answers of one split that are worth imitating: its completions, or the chosen answers of preferences.

    Raises:
        UserError: No such folder or split.
        DataError: The files do not match their run card, or a row lacks what is needed.
    """
    if {"chosen", "completion"} & columns(folder, split) != {"chosen"}:
        return read(folder, split, need=("completion",))
    chosen = read(folder, split, need=("chosen",))
    return [replace(row, completion=row.chosen, chosen=None, rejected=None) for row in chosen]


def rows(
    source: str | Path | Iterable[Any], split: str = "train", *, columns: Mapping[str, str] | None = None
) -> list[Row]:
    """Return what somebody brought as rows for training.

    Args:
        source: A folder of splits, as ``perl-eval build`` writes it; a file, or a folder of files; the id of a data set
            on the hub, ``org/name[:config][@revision][#split]``; or a list of dicts, a DataFrame or a Dataset. Rows
            have any of TRL's shapes: ``prompt``, and ``completion``, ``completion`` and ``label``, or ``chosen`` and
            ``rejected``; the latter without a prompt; ``messages``; ``text``. ``id`` and ``group`` are derived where
            they are not given: the group from how the dialogue opens.
        split: Of what has splits: which one.
        columns: The names that the rows use, by the names used here.

    Raises:
        UserError: There is no such folder, file, data set or split.
        DataError: A row lacks what is needed.

    Example:
        >>> import perl_eval as pe
        >>> (row,) = pe.rows([{"prompt": "Name a prime.", "chosen": "7", "rejected": "8"}])
        >>> row.chosen
        (Message(role='assistant', content='7'),)
    """
    from perl_eval.sources.imported_rows import is_built, parts_of
    from perl_eval.sources.reading import Import
    from perl_eval.sources.training_rows import cells_of, surveyed

    if isinstance(source, str | Path) and is_built(Path(source)):
        return read(Path(source), split)
    state = Import(columns or {})
    if isinstance(source, str | Path):
        parts, _ = parts_of(Path(source), split, state)
        if split not in parts:
            raise UserError(f"{source} has no split {split!r}", f"it has {', '.join(parts)}")
    else:
        parts = {split: opened(source)}
    survey = surveyed(parts.values(), state.columns)
    return [_row(cells, Path(place.file), place.row, ()) for place, cells in cells_of(parts[split], state, survey)]


def asked(folder: Path, split: str, *, limit: int = 0, counts: Counter[str] | None = None) -> list[Row]:
    """Return the prompts of a split that are to be answered, each dialogue (with its pictures) once.

    Args:
        folder: One config's folder.
        split: The split.
        limit: This many at most, the same ones whatever else the split holds; 0 for all.
        counts: Gets ``rows with the prompt of another``: those that are answered together with an earlier one.

    Raises:
        UserError: No such folder or split.
        DataError: The files do not match their run card.
    """
    found_rows = read(folder, split)
    distinct = {(row.prompt, row.images): row for row in reversed(found_rows)}
    if counts is not None:
        counts[EQUAL_PROMPTS] += len(found_rows) - len(distinct)
    found = sorted(distinct.values(), key=lambda row: row.id)
    return limited(found, limit)


def limited(found: Sequence[Row], limit: int) -> list[Row]:
    """Return so many of some rows, the same ones whatever their order; 0 for all."""
    return sorted(found, key=lambda row: digest("limit", row.id))[:limit] if limit else list(found)


def _rows(path: Path, need: tuple[str, ...]) -> Iterator[Row]:
    try:
        present = pq.read_schema(path).names
        shown = images.in_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"is not a parquet file ({error})", file=path, fix="build the data set again") from None
    for column in ("id", "group", "prompt", *need):
        if column not in present:
            raise DataError(
                f"no such column; present are {', '.join(present)}",
                file=path,
                field=column,
                fix="give a config of the right shape",
            )
    for index, cells in enumerate(_cells(path, [name for name in present if name != images.COLUMN])):
        for column in ("id", "group", "prompt", *need):
            if cells[column] is None:
                raise DataError("is empty", file=path, row=index, field=column)
        yield _row(cells, path, index, shown[index])


def _cells(path: Path, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(path) as source:
            for batch in source.iter_batches(_BATCH_ROWS, columns=list(names)):
                yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"is not a parquet file ({error})", file=path, fix="build the data set again") from None


def _turns(value: Any, path: Path, index: int, name: str) -> tuple[Message, ...]:
    try:
        return Message.sequence(value, role="user" if name == "prompt" else "assistant")
    except (KeyError, TypeError, AttributeError):
        raise DataError(
            "is neither text nor a list of turns with role and content", file=path, row=index, field=name
        ) from None


def _check_places(turns: Mapping[str, Sequence[Message]], shown: Sequence[Picture], path: Path, index: int) -> None:
    """Refuse a row of which some picture has no place in the prompt, or some place no picture."""
    places = sum(turn.content.count(PICTURE) for turn in turns["prompt"])
    for name in sorted(turns.keys() - {"prompt"}):
        if shown and any(PICTURE in turn.content for turn in turns[name]):
            raise DataError("has a picture", file=path, row=index, field=name, fix="put pictures into prompts only")
    if shown and places != len(shown):
        raise DataError(
            f"has places for {places} pictures, and the row comes with {len(shown)}",
            file=path,
            row=index,
            field="prompt",
            fix='give the turn one part of type "image" for each picture',
        )


def _row(cells: dict[str, Any], path: Path, index: int, shown: tuple[Picture, ...]) -> Row:
    turns = {name: _turns(cells[name], path, index, name) for name in _TURNS if cells.get(name) is not None}
    _check_places(turns, shown, path, index)
    label = cells.get("label")
    if label not in (None, 0, 1):
        raise DataError(f"{label!r} is not a label", file=path, row=index, field="label", fix="give true or false")
    return Row(
        id=str(cells["id"]),
        group=str(cells["group"]),
        dataset=str(cells.get("dataset", "")),
        prompt=turns["prompt"],
        completion=turns.get("completion"),
        chosen=turns.get("chosen"),
        rejected=turns.get("rejected"),
        label=None if label is None else bool(label),
        images=shown,
        more={name: value for name, value in cells.items() if name not in _OWN},
    )
