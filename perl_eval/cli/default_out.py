"""Where a command writes when nobody says: ``runs/VERB-NAME-n``, the same place for the same command."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

__all__ = ["SHOWN", "default_out", "tidied"]

SHOWN = "runs/VERB-NAME-n"
_RUNS = Path("runs")
_COMMAND = ".command.json"
"""The hidden file in which such a folder keeps the command, so that the same one goes on there."""
_GROUPS = ("train", "ledger")


def default_out() -> Path:
    """Return the folder of the command that is being run, and leave the command's words in it.

    It is the one in which the same words ran before, finished or not; else the next number.
    """
    words = sys.argv[1:]
    name = _name(words)
    for number in count(1):
        folder = _RUNS / f"{name}-{number}"
        before = _command_of(folder)
        if before == words:
            return folder
        if before is None and not folder.exists():
            with contextlib.suppress(OSError):  # the verb says what is wrong with the folder
                folder.mkdir(parents=True)
                (folder / _COMMAND).write_text(json.dumps(words), "utf-8")
            return folder
    raise AssertionError("there is always a next number")


def _name(words: Sequence[str]) -> str:
    """Return the verb and the name of the first thing that it is given."""
    depth = 2 if words and words[0] in _GROUPS else 1
    given = next((word for word in words[depth:] if not word.startswith("-")), "")
    name = re.sub(r"[^A-Za-z0-9]+", "-", Path(given).name.split(".")[0]).strip("-").lower()
    return "-".join([*words[:depth], *([name[:40]] if name else [])])


def _command_of(folder: Path) -> list[str] | None:
    try:
        found = json.loads((folder / _COMMAND).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, list) else None


@contextmanager
def tidied() -> Iterator[None]:
    """Remove the folder again that a command which wrote nothing else was given."""
    there = set(_RUNS.glob("*")) if _RUNS.is_dir() else None
    try:
        yield
    finally:
        for folder in set(_RUNS.glob(f"*/{_COMMAND}")):
            if folder.parent not in (there or ()) and len(list(folder.parent.iterdir())) == 1:
                with contextlib.suppress(OSError):
                    folder.unlink()
                    folder.parent.rmdir()
        if there is None:
            with contextlib.suppress(OSError):
                _RUNS.rmdir()
