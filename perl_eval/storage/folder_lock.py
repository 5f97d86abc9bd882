"""One process at a time in an output folder: an advisory lock on the folder itself, which ends with its process."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from pathlib import Path

from perl_eval.errors import UserError

try:
    import fcntl
except ImportError:  # no POSIX system: folders are not locked there
    fcntl = None  # type: ignore[assignment]

__all__ = ["HOLDER", "FolderLock"]

HOLDER = ".held-by.json"
"""The hidden file that says who writes in a folder; it is only read while the folder is locked."""
_TAKEN = (errno.EACCES, errno.EAGAIN)


class FolderLock:
    """The lock of a folder.

    Args:
        folder: The folder; it must be there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take the lock, and say who has it; where the file system knows no locks, do nothing.

        Raises:
            UserError: Another process has it.
        """
        if fcntl is None or self._descriptor is not None:
            return
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _TAKEN:
                raise UserError(
                    f"{self._folder} is being written by {self._holder()}", "wait for it, or choose another folder"
                ) from None
            return
        self._descriptor = descriptor
        holder = {"process": os.getpid(), "machine": socket.gethostname()}
        with contextlib.suppress(OSError):
            (self._folder / HOLDER).write_text(json.dumps(holder), "utf-8")

    def release(self) -> None:
        """Let the folder go."""
        if self._descriptor is None:
            return
        (self._folder / HOLDER).unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None

    def _holder(self) -> str:
        try:
            found = json.loads((self._folder / HOLDER).read_text("utf-8"))
            return f"process {int(found['process'])} on {found['machine']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"
