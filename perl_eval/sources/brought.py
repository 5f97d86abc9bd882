"""What people bring, as the run folders that verbs read: their files are read once, into ``inputs`` in the output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perl_eval.sources import completions, imported, judgement_files, label_files, labels
from perl_eval.storage import run_folder

__all__ = ["HowRead", "completions_in", "judgements_in", "labels_in", "told"]

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class HowRead:
    """How files of other tools are read.

    Attributes:
        format: The format, where it cannot be told from the content.
        columns: The names that the rows use, by the names used here.
        requests: File of the requests or questions that answers belong to, where they do not repeat them.
    """

    format: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    requests: Path | None = None


def completions_in(
    sources: Sequence[Path], out: Path, *, how: HowRead | None = None, say: Say = lambda _: None
) -> list[Path]:
    """Return a run folder (or the file of one) for each source; what is none is read into one.

    Args:
        sources: Run folders, or files of answers, one a policy. Where a file does not name its policy, it is called as
            the file is, with as many folders before as tell the sources apart.
        out: The verb's output folder; what is read goes into ``inputs`` there.
        how: How files are read.
        say: Told what was read of each file, and what was derived.

    Raises:
        UserError: There is no such file or format.
        DataError: A file is of no known format, or a row lacks what is needed.
    """
    how, found = how or HowRead(), []
    for place, (source, name) in enumerate(zip(sources, _names_apart(sources), strict=True)):
        if completions.is_ours(source):
            found.append(source)
            continue
        home = out / run_folder.INPUTS / "ab"[place] if len(sources) <= 2 else out / run_folder.INPUTS / str(place + 1)
        imported.take_completions(
            source, home, policy=name, format=how.format, columns=how.columns, requests=how.requests
        )
        say(f"{source}: {told(home)}")
        found.append(home)
    return found


def labels_in(source: Path, out: Path, *, how: HowRead | None = None, say: Say = lambda _: None) -> Path:
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
    asked = how or HowRead()
    home = out / run_folder.INPUTS / "labels"
    label_files.take_labels(source, home, format=asked.format, columns=asked.columns)
    say(f"{source}: {label_files.told_labels(home)}")
    return home


def judgements_in(
    source: Path, out: Path, *, how: HowRead | None = None, place: str = "judgements", say: Say = lambda _: None
) -> Path:
    """Return a run folder of judgements (or the file of one); what is none is read into one.

    Args:
        source: A run folder, or a file of judgements of any known format.
        out: The verb's output folder; what is read goes into ``inputs`` there.
        how: How the file is read.
        place: Its folder in ``inputs``.
        say: Told what was read, and what was derived.

    Raises:
        UserError: There is no such file or format.
        DataError: The file is of no known format, or a row lacks what is needed.
    """
    if judgement_files.is_ours(source):
        return source
    asked = how or HowRead()
    home = out / run_folder.INPUTS / place
    judgement_files.take_judgements(source, home, format=asked.format, columns=asked.columns)
    say(f"{source}: {judgement_files.told_judgements(home)}")
    return home


def told(folder: Path) -> str:
    """Say what was read into a run folder: format, rows, policies, what was derived and left out."""
    card = run_folder.read_card(folder)
    assert card is not None
    notes = card.notes
    whole = notes["rows"]
    counts = sorted(notes["derived"].items())
    derived = ", ".join(name if count == whole else f"{name} of {count:,}" for name, count in counts)
    left_out = "; ".join(f"left out: {count:,} {reason}" for reason, count in notes["left_out"].items())
    said = f"{notes['format']}, {notes['rows']:,} answers of {', '.join(notes['policies'])}"
    return "; ".join(part for part in (said, f"derived: {derived}" if derived else "", left_out) if part)


def _names_apart(sources: Sequence[Path]) -> list[str]:
    """Return the shortest ends of some paths, endings left off, that tell them apart."""
    parts = [(*source.parts[:-1], source.name.split(".")[0] or source.name) for source in sources]
    for depth in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return ["/".join(part[-1:]) for part in parts]
