"""Find the run folders a report is made from, check their files, and read what is small."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from perl_eval.errors import DataError, UserError
from perl_eval.records import Estimate, Judgement, RunCard, digest
from perl_eval.storage import parquet, run_folder

__all__ = ["Figure", "Folder", "figures", "folders", "records"]

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Folder:
    """One run folder.

    Attributes:
        label: Its path below the folder that all of them share.
        path: Where it is.
        card: Its run card.
        files: The record files in it, by kind; each matches the card.
        rows: Rows of those files, by the name of the kind.
        fingerprints: What other cards name it, or its files, by: sha256 values.
    """

    label: str
    path: Path
    card: RunCard
    files: Mapping[type, Path]
    rows: Mapping[str, int]
    fingerprints: frozenset[str]

    @property
    def anchor(self) -> str:
        """Names its card within a page, whatever else is on it."""
        return f"run-{digest(self.label)}"


@dataclass(frozen=True, slots=True)
class Figure:
    """An estimate and the place among the folders of the one it stands in.

    Attributes:
        estimate: The estimate.
        folder: The place.
        anchor: Names it within the page: by what it is and its run, so that a link to it outlives a rebuild.
    """

    estimate: Estimate
    folder: int
    anchor: str = ""


def folders(sources: Sequence[Path]) -> list[Folder]:
    """Return every run folder at or below the sources, each once, oldest first.

    Raises:
        UserError: A source is not a folder, or no run folder is at or below it.
        DataError: A record file does not match its run card.
    """
    found: dict[Path, RunCard] = {}
    for source in map(Path, sources):
        if not source.is_dir():
            state = "is a file" if source.exists() else "does not exist"
            raise UserError(f"{source} {state}", "give folders that perl-eval verbs wrote")
        cards = run_folder.find_cards(source)
        if not cards:
            raise UserError(f"no run folder at or below {source}", "give a folder with a run.json in it or below it")
        found |= {path.resolve(): card for path, card in cards}
    if not found:
        raise UserError("no folder given", "give at least one folder that a perl-eval verb wrote")
    shared = Path(os.path.commonpath(found))
    ordered = sorted(found.items(), key=lambda entry: (entry[1].started, str(entry[0])))
    return [_folder(path, shared, card) for path, card in ordered]


def _folder(path: Path, shared: Path, card: RunCard) -> Folder:
    files = {kind: path / name for kind, name in run_folder.FILES.items() if (path / name).is_file()}
    prints = {run_folder.fingerprint(file) for file in files.values()}
    if Judgement in files:  # what is judged is small; a folder of weights is not hashed for a name nobody asks for
        prints.add(run_folder.fingerprint(path))
    below = path.relative_to(shared).as_posix()
    return Folder(
        label=path.name if below == "." else below,
        path=path,
        card=card,
        files=files,
        rows={kind.__name__: _rows(file) for kind, file in files.items()},
        fingerprints=frozenset(prints),
    )


def _rows(file: Path) -> int:
    try:
        return int(pq.read_metadata(file).num_rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"is not a parquet file ({error})", file=file, fix="run the verb again") from None


def records(found: Sequence[Folder], kind: type[Record]) -> Iterator[tuple[int, Record]]:
    """Yield every record of a kind with the place of its folder, file by file, one batch in memory."""
    for place, folder in enumerate(found):
        if kind in folder.files:
            for record in parquet.iterate(folder.files[kind], kind):
                yield place, record


def figures(found: Sequence[Folder]) -> list[Figure]:
    """Read every estimate.

    Raises:
        DataError: A figure is NaN or infinite.
    """
    read = []
    times: Counter[str] = Counter()
    for place, estimate in records(found, Estimate):
        file = found[place].files[Estimate]
        for field in ("value", "low", "high"):
            value = getattr(estimate, field)
            if value is not None and not math.isfinite(value):
                raise DataError(f"{estimate.name!r} is {value}", file=file, field=field, fix="run the verb again")
        anchor = f"f-{digest(estimate.name, repr(estimate.about), found[place].label)}"
        times[anchor] += 1
        read.append(Figure(estimate, place, anchor if times[anchor] == 1 else f"{anchor}-{times[anchor]}"))
    return read
