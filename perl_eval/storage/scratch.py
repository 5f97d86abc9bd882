"""A hidden folder for temporary files, swept after a kill."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from perl_eval.storage.parquet import is_running

__all__ = ["scratch_in"]

_SCRATCH = ".scratch-"


@contextlib.contextmanager
def scratch_in(folder: Path) -> Iterator[Path]:
    """Make a hidden folder for as long as the block lasts, and sweep away what killed processes left."""
    for old in folder.glob(f"{_SCRATCH}*"):
        process = old.name.removeprefix(_SCRATCH)
        if process.isdecimal() and not is_running(int(process)):
            shutil.rmtree(old, ignore_errors=True)
    scratch = folder / f"{_SCRATCH}{os.getpid()}"
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
