"""What people bring, as the run folders that verbs read: their files are read once, into ``inputs`` in the output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from perl_eval.sources import completions, imported
from perl_eval.sources.containers import opened
from perl_eval.sources.reading import HowRead
from perl_eval.storage import run_folder

__all__ = ["HowRead", "completions_in", "rows_in", "told"]

_NAMED = 8
Say = Callable[[str], None]


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
    if _only_some_name_items(sources, how):
        how = replace(how, by_prompt=True)
        say("only some of the files name their items, so items are told by their prompts, letter by letter")
    for place, (source, name) in enumerate(zip(sources, _names_apart(sources), strict=True)):
        if completions.is_ours(source):
            found.append(source)
            continue
        home = out / run_folder.INPUTS / "ab"[place] if len(sources) <= 2 else out / run_folder.INPUTS / str(place + 1)
        imported.take_completions(source, home, how=how, policy=name)
        say(f"{source}: {told(home)}")
        found.append(home)
    return found


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
    home = out / run_folder.INPUTS / "data"
    imported_rows.take_rows(source, home, columns=(how or HowRead()).columns, make=make, whole=whole)
    say(f"{source}: {told(home)}")
    return home


def _only_some_name_items(sources: Sequence[Path], how: HowRead) -> bool:
    """Return whether of several files some name their items, and others do not, so that no two would meet."""
    if len(sources) < 2 or any(completions.is_ours(source) for source in sources):
        return False
    return len({completions.names_items(opened(one), how) for one in sources}) > 1


def told(folder: Path) -> str:
    """Say what was read into a run folder: format, rows, policies or judges, what was derived and left out."""
    card = run_folder.read_card(folder)
    assert card is not None
    notes = card.notes
    if "format" not in notes:
        return ""  # a table or an export of labels
    whole, derived = notes["rows"], sorted(notes.get("derived", {}).items())
    if "judges" in notes:
        said = [f"{notes['format']}, {whole:,} judgements by {_few(notes['judges'])}"]
    elif "splits" in notes:
        said = [f"{notes['format']}, {_by_split(notes)}"]
    else:
        said = [f"{notes['format']}, {whole:,} answers of {_few(notes['policies'])}"]
    if derived:
        counts = (name if count == whole else f"{name} of {count:,}" for name, count in derived)
        said.append(f"derived: {', '.join(counts)}")
    said += [f"left out: {count:,} {reason}" for reason, count in notes["left_out"].items()]
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
