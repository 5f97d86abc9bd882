"""What people bring, as the run folders that verbs read: their files are read once, into ``inputs`` in the output."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from perl_eval.errors import UserError
from perl_eval.records import Completion
from perl_eval.sources import completions, imported, judgement_files, label_files, labels
from perl_eval.sources.containers import opened
from perl_eval.sources.counting import counted
from perl_eval.sources.reading import HowRead
from perl_eval.storage import run_folder
from perl_eval.storage.remote import MARK

__all__ = ["HowRead", "completions_in", "judgements_in", "labels_in", "rows_in", "told"]

_NAMED = 8
Say = Callable[[str], None]


def completions_in(
    sources: Sequence[Path],
    out: Path,
    *,
    how: HowRead | None = None,
    only: Sequence[str] = (),
    say: Say = lambda _: None,
) -> list[Path]:
    """Return a run folder (or the file of one) for each source; what is none is read into one.

    Args:
        sources: Run folders, or files of answers, one a policy. Where a file does not name its policy, it is called as
            the file is, with as many folders before as tell the sources apart.
        out: The verb's output folder; what is read goes into ``inputs`` there.
        how: How files are read.
        only: The policy whose answers are read, by source; empty for all of a source.
        say: Told what was read of each file, and what was derived.

    Raises:
        UserError: There is no such file or format; or a policy of a run folder is asked for; or one of two files has
            the answers of several policies to the same items.
        DataError: A file is of no known format, or a row lacks what is needed.
    """
    how, found = how or HowRead(), []
    ways = _by_file(sources, how)
    ways = [replace(way, only=name) for way, name in zip(ways, only or [""] * len(ways), strict=True)]
    if why := _why_by_prompt(sources, ways):
        ways = [replace(way, by_prompt=True) for way in ways]
        say(f"{why}, so items are matched by the exact text of their prompts")
    for place, (source, name, way) in enumerate(zip(sources, _names_apart(sources), ways, strict=True)):
        if completions.is_ours(source):
            if way.only:
                raise UserError(f"{source} is a run folder, and one policy is read of other files only", "leave it out")
            if completions.repeats_ids(source):
                source = imported.take_anew(source, _place(out, "ab"[place] if len(sources) <= 2 else str(place + 1)))  # noqa: PLW2901
                say(f"{sources[place]}: {told(source)}")
            found.append(source)
            continue
        home = _place(out, "ab"[place] if len(sources) <= 2 else str(place + 1))
        imported.take_completions(source, home, how=way, policy=name)
        say(f"{source}: {told(home)}")
        if len(sources) == 2:
            _refuse_several(source, home, "ab"[place])
        found.append(home)
    return found


def _refuse_several(source: Path, home: Path, side: str) -> None:
    """Refuse a contestant that is several policies which answer the same."""
    card = run_folder.read_card(home)
    if card is None or len(card.notes["policies"]) < 2:
        return
    table = pq.read_table(home / run_folder.FILES[Completion], columns=["item", "draw"])
    if table.group_by(["item", "draw"]).aggregate([]).num_rows < len(table):
        fix = f"choose one with --policy-{side} NAME"
        raise UserError(f"{source} holds several policies: {_few(card.notes['policies'])}", fix)


def rows_in(
    source: Path,
    out: Path,
    *,
    how: HowRead | None = None,
    make: Sequence[str] = (),
    whole: str = "",
    say: Say = lambda _: None,
) -> Path:
    """Return a folder of splits, as `build` writes it; what is none is read into one.

    Args:
        source: Such a folder; a file or a folder of files of rows, one a split; or a data set's id on the hub.
        out: The verb's output folder; what is read goes into ``inputs/data`` there.
        how: How files are read.
        make: Held-out splits to make by group of the rows for training, where they are missing.
        whole: The split that all rows are, where they come without splits.
        say: Told what was read, and what was derived.

    Raises:
        UserError: There is no such file, data set or format.
        DataError: A row lacks what is needed.
    """
    from perl_eval.sources import hub, imported_rows

    if imported_rows.is_built(source) or not (source.exists() or hub.hub_name(str(source))):
        return source  # of one that is not there, the verb says so
    home = _place(out, "data")
    imported_rows.take_rows(source, home, columns=(how or HowRead()).columns, make=make, whole=whole)
    say(f"{source}: {told(home)}")
    return home


def _by_file(sources: Sequence[Path], how: HowRead) -> list[HowRead]:
    """Return how each file is read: without a column that it has not, where another of the files has it."""
    if len(sources) < 2 or not how.columns:
        return [how] * len(sources)
    present = [
        {} if completions.is_ours(one) else {name for row in opened(one).head for name in row} for one in sources
    ]
    anywhere = set().union(*present)
    return [
        replace(how, columns={f: name for f, name in how.columns.items() if name in has or name not in anywhere})
        for has in present
    ]


def _why_by_prompt(sources: Sequence[Path], ways: Sequence[HowRead]) -> str:
    """Return why items of several files are told by their prompts, if they are: else too few answers would meet."""
    if len(sources) < 2 or any(completions.is_ours(source) for source in sources):
        return ""
    named = [completions.names_items(opened(one), way) for one, way in zip(sources, ways, strict=True)]
    if "some" in named:
        return f"only some rows of {sources[named.index('some')]} name their items"
    return "only some of the files name their items" if len(set(named)) > 1 else ""


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
    home = _place(out, "labels")
    label_files.take_labels(source, home, format=asked.format, columns=asked.columns, means=asked.means)
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
    home = _place(out, place)
    judgement_files.take_judgements(source, home, how=how)
    say(f"{source}: {judgement_files.told_judgements(home)}")
    return home


def _place(out: Path, name: str) -> Path:
    """Return where something is read into; what lies there of a command that never began is taken away."""
    home = out / run_folder.INPUTS / name
    if home.is_dir() and not (out / run_folder.CARD).exists() and not (out / MARK).exists():
        shutil.rmtree(home)
    return home


def told(folder: Path) -> str:
    """Say what was read into a run folder: format, rows, policies or judges, what was derived and left out."""
    card = run_folder.read_card(folder)
    assert card is not None
    notes = card.notes
    if "format" not in notes:
        return ""  # a table or an export of labels
    if "annotators" in notes:
        return label_files.told_labels(folder)
    if "judges" in notes:
        return judgement_files.told_judgements(folder)
    whole, derived = notes["rows"], sorted(notes.get("derived", {}).items())
    what = _by_split(notes) if "splits" in notes else f"{counted(whole, 'answers')} of {_few(notes['policies'])}"
    said = [f"{notes['format']}, {what}"]
    if derived:
        counts = (name.rstrip(",") if count == whole else f"{name} of {count:,}" for name, count in derived)
        said.append(f"derived: {', '.join(counts)}")
    said += [f"left out: {counted(count, reason)}" for reason, count in notes["left_out"].items()]
    for split, count in notes.get("shared_prompts", {}).items():
        rows = counted(notes["splits"][split], "rows")
        said.append(f"{count:,} of {rows} of {split} have a prompt that train has too: no test of other prompts")
    if unused := notes.get("unused"):
        said.append(f"not read: {_few(unused)}")
    return "; ".join(said)


def _few(names: Sequence[str]) -> str:
    """Return names, or how many there are beyond the first eight."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _names_apart(sources: Sequence[Path]) -> list[str]:
    """Return the shortest ends of some paths, endings left off, that tell them apart."""
    parts = [(*source.parts[:-1], source.name.split(".")[0] or source.name) for source in sources]
    for depth in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return ["/".join(part[-1:]) for part in parts]


def _by_split(notes: Mapping[str, Any]) -> str:
    made = f" (by group: {', '.join(notes['made'])})" if notes["made"] else ""
    return f"rows: {', '.join(f'{count:,} {split}' for split, count in notes['splits'].items())}{made}"
