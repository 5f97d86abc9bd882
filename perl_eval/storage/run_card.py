"""Run cards: what a folder's ``run.json`` says, and whether the files beside it are still those that it names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from perl_eval.checks import existing
from perl_eval.errors import DataError
from perl_eval.records import RunCard
from perl_eval.storage import hub_snapshot
from perl_eval.storage.remote import CARD

__all__ = ["INPUTS", "find_cards", "fingerprint", "is_simulated", "outputs_of", "read_card", "refuse_if_changed"]

INPUTS = "inputs"
"""The folder in a run folder that holds what the verb read of other tools' files, run folders of their own."""


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _is_output(path: Path, folder: Path) -> bool:
    """Ledgers stay open to later runs, hidden files are unfinished work, inputs have cards: none is an output."""
    name = path.relative_to(folder)
    if hub_snapshot.name_of(folder) and not hub_snapshot.counts(name.as_posix()):
        return False  # another program's
    other = name.parts[0] == INPUTS or any(part.startswith(".") for part in name.parts)
    return path.is_file() and path.name != CARD and not other and ".sqlite" not in path.name


def outputs_of(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file that a run wrote in a folder, by its name there."""
    found = sorted(path for path in folder.rglob("*") if _is_output(path, folder))
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in found}


def read_card(folder: Path) -> RunCard | None:
    """Return the run card of a folder, or None if it has none; another program's file of that name is none.

    Raises:
        DataError: The card is not a card.
    """
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
        if isinstance(content, dict) and content and not content.keys() & {one.name for one in fields(RunCard)}:
            return None
        card = RunCard(**content)
        for name in ("arguments", "inputs", "outputs", "versions", "notes"):
            if not isinstance(getattr(card, name), dict):
                raise TypeError(f"{name} is not an object")
        if not isinstance(card.verb, str) or not isinstance(card.started, str):
            raise TypeError("verb or started is not text")
        return card
    except (ValueError, TypeError) as error:
        raise DataError(f"is not a run card ({error})", file=path, fix="run the verb again") from None


def refuse_if_changed(folder: Path, card: RunCard, names: Iterable[str]) -> None:
    """Check some of the files that a card names.

    Raises:
        DataError: One is missing, or is not the one that the run wrote.
    """
    for name in names:
        path = folder / name
        if not path.is_file():
            raise DataError("is named by the run card and missing", file=path, fix=f"run `{card.verb}` again")
        if _sha256(path) != card.outputs[name]:
            raise DataError(
                f"does not match the sha256 in {folder / CARD}; it was changed after `{card.verb}` wrote it",
                file=path,
                fix=f"run `{card.verb}` again, or delete {CARD} to vouch for the file yourself",
            )


def fingerprint(path: Path) -> str:
    """Return the sha256 of an input file or folder, after checking it against its run card.

    File or folder is checked against the card of the run folder it is, or lies in. Input without a card is taken
    as it is.

    Raises:
        UserError: There is nothing at that path.
        DataError: A card does not match its file.
    """
    path = existing(Path(path))
    owner = _owner(path if path.is_dir() else path.parent)  # a link counts where it lies, not where it points
    if path.is_dir():
        outputs = outputs_of(path)
        if owner is not None:
            folder, card = owner
            inside = path.resolve().relative_to(folder).as_posix()
            prefix = "" if inside == "." else f"{inside}/"
            refuse_if_changed(folder, card, [name for name in card.outputs if name.startswith(prefix)])
        return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()
    if owner is not None:
        folder, card = owner
        name = (path.parent.resolve() / path.name).relative_to(folder).as_posix()
        if name in card.outputs:
            refuse_if_changed(folder, card, [name])
    return _sha256(path)


def _owner(folder: Path) -> tuple[Path, RunCard] | None:
    """Return the nearest run folder at or above a folder, four levels up at most, with its card."""
    folder = folder.resolve()
    for candidate in (folder, *folder.parents[:3]):
        card = read_card(candidate)
        if card is not None:
            return candidate, card
    return None


def is_simulated(path: Path) -> bool:
    """Return whether the run that wrote a file or folder says that simulated people or judges come in."""
    owner = _owner(path if path.is_dir() else path.parent)
    return owner is not None and owner[1].simulated


def find_cards(root: Path) -> list[tuple[Path, RunCard]]:
    """Return every run folder at or below a folder, oldest first."""
    cards = [(path.parent, card) for path in Path(root).rglob(CARD) if (card := read_card(path.parent)) is not None]
    return sorted(cards, key=lambda found: found[1].started)
