"""How far some batches are: the files of their requests, and the state file that a killed run goes on from."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from perl_eval.errors import DataError, UserError
from perl_eval.storage.parquet import replace_file

__all__ = ["STATE", "TAG", "Chunk", "ChunkWriter", "State", "read_state"]

STATE = ".batch.json"
"""The state file's name inside a run folder."""
TAG = "perl-eval"
"""What files and batches are known by at the server."""


@dataclass(slots=True)
class Chunk:
    """One batch.

    Attributes:
        sha256: Of its file.
        lines: Its requests.
        round: In which round it is sent.
        uploading: True once its upload may have begun.
        file: The id of its file at the server.
        submitting: True once its submission may have begun.
        batch: Its own id at the server.
        collected: True once its answers are in the ledger.
    """

    sha256: str
    lines: int
    round: int
    uploading: bool = False
    file: str = ""
    submitting: bool = False
    batch: str = ""
    collected: bool = False

    @property
    def name(self) -> str:
        """The name of its file at the server."""
        return f"{TAG}-{self.sha256}.jsonl"

    def path(self, folder: Path) -> Path:
        """Return its file here."""
        return folder / f".batch-{self.sha256}.jsonl"


@dataclass(slots=True)
class State:
    """All batches of a run, the keys of cut-off replies, and why requests had no answer.

    ``complaints`` are what the server said about requests that it does not take.
    """

    chunks: list[Chunk] = field(default_factory=list)
    cut_off: list[str] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write the state file, whole or not at all."""
        text = json.dumps(asdict(self), indent=1)
        replace_file(folder / STATE, lambda partial: partial.write_text(text, "utf-8"))


def read_state(folder: Path) -> State:
    """Read the state file of a run folder; a state without batches if there is none.

    Raises:
        DataError: It is no state file.
    """
    path = folder / STATE
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return State(**(content | {"chunks": [Chunk(**chunk) for chunk in content["chunks"]]}))
    except FileNotFoundError:
        return State()
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"is not a state of batches ({error})", file=path, fix="delete it to begin anew") from None


class ChunkWriter:
    """Writes requests into files of a bounded size; use as a context manager.

    Args:
        folder: Where to.
        round: The round that they are of.
        max_lines: Requests in one file, at most.
        max_bytes: Size of one file, at most, unless one request alone is larger.

    Attributes:
        chunks: What was written; all of it once the block has ended.
    """

    def __init__(self, folder: Path, round: int, max_lines: int, max_bytes: int) -> None:
        self.chunks: list[Chunk] = []
        self._folder, self._round, self._max_lines, self._max_bytes = folder, round, max_lines, max_bytes
        self._partial = folder / f".batch.{os.getpid()}.partial"
        self._handle: IO[bytes] | None = None
        self._lines, self._size, self._hash = 0, 0, hashlib.sha256()

    def __enter__(self) -> ChunkWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._close()
        elif self._handle is not None:
            self._handle.close()
            self._partial.unlink(missing_ok=True)

    def add(self, line: bytes) -> None:
        """Write one request.

        Raises:
            UserError: The disk is full.
        """
        if self._lines and (self._lines >= self._max_lines or self._size + len(line) > self._max_bytes):
            self._close()
        try:
            if self._handle is None:
                self._handle = self._partial.open("wb")
            self._handle.write(line)
        except OSError as error:
            raise UserError(f"cannot write {self._partial}: {error.strerror or error}", "free the disk") from None
        self._hash.update(line)
        self._lines += 1
        self._size += len(line)

    def _close(self) -> None:
        if self._handle is None:
            return
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self._handle.close()
        chunk = Chunk(self._hash.hexdigest(), self._lines, self._round)
        os.replace(self._partial, chunk.path(self._folder))
        self.chunks.append(chunk)
        self._handle, self._lines, self._size, self._hash = None, 0, 0, hashlib.sha256()
