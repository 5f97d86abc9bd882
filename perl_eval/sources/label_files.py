"""Files of people's labels, as the run folders that verbs read: read once, into ``inputs`` in the output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from perl_eval.records import HumanLabel
from perl_eval.sources import labels
from perl_eval.sources.brought import HowRead
from perl_eval.sources.containers import opened
from perl_eval.sources.reading import Import
from perl_eval.sources.recognition import format_of
from perl_eval.storage import run_folder
from perl_eval.storage.progress import track

__all__ = ["PLACE", "labels_in", "take_labels", "told_labels"]

PLACE = "labels"
"""The folder in ``inputs`` that labels are read into."""


def labels_in(
    source: Path, out: Path, *, how: HowRead | None = None, say: Callable[[str], None] = lambda _: None
) -> Path:
    """Return a run folder of labels (or the file of one); what is none is read into one.

    Args:
        source: A run folder, or a file of labels of any known format.
        out: The verb's output folder; what is read goes into ``inputs/labels`` there.
        how: How the file is read.
        say: Told what was read, what was derived and what was left out.

    Raises:
        UserError: There is no such file or format.
        DataError: The file is of no known format, a row lacks what is needed, or there are no labels.
    """
    if labels.is_ours(source):
        return source
    home = take_labels(source, out / run_folder.INPUTS / PLACE, how=how)
    say(f"{source}: {told_labels(home)}")
    return home


def take_labels(source: Path, out: Path, *, how: HowRead | None = None) -> Path:
    """Read a file of labels and write them to a run folder.

    Its card says the format, how many labels there are, whose, what was derived, what was left out and why, and how
    many labels their annotator gives anew later on.

    Args:
        source: The file.
        out: Output folder.
        how: How the file is read; ``requests`` mean nothing here.

    Raises:
        UserError: There is no such file or format.
        DataError: The file is of no known format, a row lacks what is needed, or there are no labels.
    """
    asked = how or HowRead()
    arguments = {"kind": "labels", "format": asked.format, "columns": dict(asked.columns)}
    with run_folder.start(out, verb="import", arguments=arguments, inputs={"source": Path(source)}) as going:
        if going.done:
            return going.folder
        found, reading = opened(source), Import(asked.columns)
        made = list(track(labels.read(found, reading, asked.format), "labels read"))
        going.write(made, HumanLabel)
        going.notes |= {
            "format": asked.format or format_of(found, HumanLabel).name,
            "rows": len(made),
            "annotators": sorted({one.annotator for one in made}),
            "derived": dict(reading.derived),
            "left_out": dict(reading.left_out),
            "repeated": labels.repeated(made),
        }
    return going.folder


def told_labels(folder: Path) -> str:
    """Say what was read into a run folder of labels: format, labels, people, what was derived and left out."""
    card = run_folder.read_card(folder)
    assert card is not None
    return "; ".join(_said(card.notes))


def _said(notes: dict[str, Any] | Any) -> Iterator[str]:
    people = notes["annotators"]
    named = ", ".join(people) if len(people) <= _NAMED else f"{len(people):,} people"
    yield f"{notes['format']}, {notes['rows']:,} labels of {named}"
    if notes["derived"]:
        counts = sorted(notes["derived"].items())
        yield "derived: " + ", ".join(name if n == notes["rows"] else f"{name} of {n:,}" for name, n in counts)
    for reason, count in notes["left_out"].items():
        yield f"left out: {count:,} {reason}"
    if notes["repeated"]:
        yield f"{notes['repeated']:,} labels twice of the same unit by the same person, of which the last counts"


_NAMED = 8
"""More people than this are counted, not named."""
