"""Where a command writes when nobody says: ``runs/VERB-NAME-n``, the same place for the same command."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

__all__ = ["INPUTS", "SHOWN", "default_out", "tidied"]

SHOWN = "runs/VERB-NAME-n"
_RUNS = Path("runs")
_COMMAND = ".command.json"
"""The hidden file in which such a folder keeps the command, so that the same one goes on there."""
INPUTS = "inputs"
"""The folder of what is read of files, as `perl_eval.storage.run_folder` calls it, which is slow to load."""
_GROUPS = ("train", "ledger")


def default_out() -> Path:
    """Return the folder of the command that is being run, and leave the command's words in it.

    It is the one in which the same words ran before, on the same files, finished or not; else the next number.
    """
    words = [*sys.argv[1:], *_states(sys.argv[1:])]
    name = _name(sys.argv[1:])
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


def _states(words: Sequence[str]) -> list[str]:
    """Return what tells whether the files among the words have changed since."""
    states = []
    for word in words:
        try:
            found = Path(word.rpartition("=")[2]).stat()
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(found.st_mode):
            states.append(f"{word}: {found.st_size} bytes, {found.st_mtime_ns}")
    return states


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


def _holds_nothing(folder: Path) -> bool:
    """Return whether no verb has begun in a folder: it has what was read of files at most."""
    return {path.name for path in folder.iterdir()} <= {_COMMAND, INPUTS}


@contextmanager
def tidied() -> Iterator[None]:
    """Remove the folder again that a command which wrote nothing else was given."""
    there = set(_RUNS.glob("*")) if _RUNS.is_dir() else None
    try:
        yield
    finally:
        for command in set(_RUNS.glob(f"*/{_COMMAND}")):
            if command.parent not in (there or ()) and _holds_nothing(command.parent):
                shutil.rmtree(command.parent, ignore_errors=True)
        if there is None:
            with contextlib.suppress(OSError):
                _RUNS.rmdir()
