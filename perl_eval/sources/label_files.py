"""From a file of people's labels to a run folder, and what its card says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from perl_eval.records import HumanLabel
from perl_eval.sources import labels
from perl_eval.sources.containers import opened
from perl_eval.sources.counting import counted
from perl_eval.sources.label_rows import NAMES
from perl_eval.sources.reading import Import, meanings
from perl_eval.storage import run_folder
from perl_eval.storage.progress import track

__all__ = ["take_labels", "told_labels", "write"]


def take_labels(
    source: Path,
    out: Path,
    *,
    format: str = "",
    columns: Mapping[str, str] | None = None,
    means: Mapping[str, str] | None = None,
) -> Path:
    """Read a file of labels and write them to a run folder; see `write`.

    Args:
        source: The file.
        out: Output folder.
        format: The format, where it cannot be told from the content.
        columns: The names that the file uses, by `perl_eval.sources.label_rows.NAMES`.
        means: What words of labels mean that are not known here.

    Raises:
        UserError: There is no such file or format.
        DataError: The file is of no known format, a row lacks what is needed, or there are no labels.
    """
    arguments = {"kind": "labels", "format": format, "columns": dict(columns or {})}
    if means:
        arguments["means"] = dict(means)
    with run_folder.start(out, verb="import", arguments=arguments, inputs={"source": Path(source)}) as going:
        if not going.done:
            write(going, Path(source), format=format, columns=columns, means=means)
    return going.folder


def write(
    going: run_folder.Run,
    source: Path,
    *,
    format: str = "",
    columns: Mapping[str, str] | None = None,
    means: Mapping[str, str] | None = None,
) -> None:
    """Write the labels of a file to a run.

    Its card says the format, how many labels there are, whose, what was derived, what was left out and why, and how
    many labels their annotator gives anew later on; where no column says who labelled, also which are not used.
    """
    found, reading = opened(source), Import(columns or {}, means=meanings(means or {}))
    made = list(track(labels.read(found, reading, format), "labels read"))
    going.write(made, HumanLabel)
    going.notes |= {
        "format": labels.kind_of(found, reading, format).name,
        "rows": len(made),
        "annotators": sorted({one.annotator for one in made}),
        "derived": dict(reading.derived),
        "left_out": dict(reading.left_out),
        "repeated": labels.repeated(made),
    }
    if going.notes["repeated"] and reading.derived["annotator"] == len(made) and found.head:
        going.notes["unused"] = _unused(found.head[0], reading)


def _unused(first: Mapping[str, Any], reading: Import) -> list[str]:
    """Return the columns that nothing is read from."""
    used = {*reading.columns.values(), *(name for names in NAMES.values() for name in names)}
    return [str(name) for name in first if name not in used]


def told_labels(folder: Path) -> str:
    """Say what was read into a run folder of labels: format, labels, people, what was derived and left out."""
    card = run_folder.read_card(folder)
    assert card is not None
    return "; ".join(_said(card.notes))


def _said(notes: dict[str, Any] | Any) -> Iterator[str]:
    people = notes["annotators"]
    named = ", ".join(people) if len(people) <= _NAMED else f"{len(people):,} people"
    yield f"{notes['format']}, {counted(notes['rows'], 'labels')} of {named}"
    if notes["derived"]:
        counts = sorted(notes["derived"].items())
        yield "derived: " + ", ".join(name if n == notes["rows"] else f"{name} of {n:,}" for name, n in counts)
    for reason, count in notes["left_out"].items():
        yield f"left out: {counted(count, reason)}"
    if notes["repeated"]:
        twice = counted(notes["repeated"], "labels")
        yield f"{twice} twice of the same unit by the same person, of which the last counts"
    if (unused := notes.get("unused")) is not None:
        there = f"unused are {', '.join(unused)}; " if unused else ""
        typed = f"--column annotator={unused[0] if unused else 'NAME'}"
        yield f"no column says who labelled; {there}if several people did, type {typed}"


_NAMED = 8
"""More people than this are counted, not named."""
