"""The ledger: every answer a judge gave, kept so that nothing is asked, or paid, twice.

One SQLite file in WAL mode; several processes may share it. It holds replies, and which requests were refused for
good: no errors that can pass, no cut-off replies, no requests, no keys, no headers. A committed reply outlives its
process at once, and the machine after `Ledger.sync`: a disk that makes one wait for seconds delays the second, not the
first. A second table says under which keys the replies about a unit are, so that they are found without rendering; it
may be emptied at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from perl_eval.client.reply import Reply
from perl_eval.errors import DataError, Refused, UserError

__all__ = ["Answering", "Ledger"]

_VERSION = 1
_LOOKUP = 500
_CACHE_KIB = 16_000
_LONGEST_LOG = 2**22
"""Bytes of the write-ahead log from which on `Ledger.sync` brings it into the database."""
_LONGEST_LOG_PAGES = 2**14
"""Pages of it, 64 MiB, at which a commit does so itself, and makes its caller wait for the disk."""
_TABLE = """
CREATE TABLE IF NOT EXISTS reply (
  key BLOB NOT NULL UNIQUE,
  door TEXT NOT NULL,
  asked TEXT NOT NULL,
  answered TEXT NOT NULL,
  text TEXT NOT NULL,
  finish TEXT NOT NULL,
  logprobs TEXT NOT NULL,
  tokens_in INTEGER NOT NULL,
  tokens_out INTEGER NOT NULL,
  latency_s REAL NOT NULL,
  cost_usd REAL,
  at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
)
"""
_ALIASES = "CREATE TABLE IF NOT EXISTS alias (unit BLOB PRIMARY KEY, keys BLOB NOT NULL) WITHOUT ROWID"
_REFUSALS = "CREATE TABLE IF NOT EXISTS refusal (key BLOB PRIMARY KEY, reason TEXT NOT NULL) WITHOUT ROWID"
_KEY_BYTES = 32
_COLUMNS = "key, door, asked, answered, text, finish, logprobs, tokens_in, tokens_out, latency_s, cost_usd"


class Answering(Protocol):
    """Who gave a reply: a judge, or a model behind a server that was sampled."""

    backend: str
    model: str


class Ledger:
    """An open ledger; use as a context manager, from one thread at a time.

    Args:
        path: The file; made if it is not there.

    Raises:
        UserError: It cannot be opened for writing.
        DataError: It is no ledger, or one of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=60.0, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.OperationalError) as error:
            raise UserError(f"cannot open the ledger {path}: {error}", "choose a file you can write to") from None
        try:
            self._prepare()
        except (sqlite3.DatabaseError, DataError) as error:
            self._database.close()
            if isinstance(error, sqlite3.OperationalError):
                raise UserError(f"cannot open the ledger {path}: {error}", "choose a file you can write to") from None
            if isinstance(error, DataError):
                raise
            raise DataError(f"is not a ledger ({error})", file=path, fix="give another file") from None

    def _prepare(self) -> None:
        execute = self._database.execute
        # Looked at before anything is set: another program's database is not to be changed.
        (version,) = execute("PRAGMA user_version").fetchone()
        theirs = execute("SELECT 1 FROM sqlite_master").fetchone() is not None
        ours = {name for _, name, *_ in execute("PRAGMA table_info(reply)")} >= set(_COLUMNS.split(", "))
        if (theirs or version == _VERSION) and not ours:
            raise DataError("is another program's database", file=self.path, fix="give another file")
        if version > _VERSION:
            raise DataError(
                f"is a ledger of version {version}, newer than {_VERSION}", file=self.path, fix="update perl-eval"
            )
        execute("PRAGMA journal_mode = WAL")
        # NORMAL: a commit does not wait for the disk; `sync` does.
        execute("PRAGMA synchronous = NORMAL")
        execute(f"PRAGMA wal_autocheckpoint = {_LONGEST_LOG_PAGES}")
        execute(f"PRAGMA cache_size = -{_CACHE_KIB}")  # keys are hashes: looking up goes all over the file
        if version < _VERSION:
            execute(_TABLE)
            execute(f"PRAGMA user_version = {_VERSION}")
        execute(_ALIASES)
        execute(_REFUSALS)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def __len__(self) -> int:
        (count,) = self._database.execute("SELECT count(*) FROM reply").fetchone()
        return int(count)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Reply]:
        """Return the replies that are there, by key."""
        found: dict[bytes, Reply] = {}
        for start in range(0, len(keys), _LOOKUP):
            part = keys[start : start + _LOOKUP]
            marks = ",".join("?" * len(part))
            # Only question marks are put into the statement; the keys are bound.
            for (
                key,
                text,
                finish,
                logprobs,
                answered,
                tokens_in,
                tokens_out,
                latency_s,
                cost_usd,
            ) in self._database.execute(
                "SELECT key, text, finish, logprobs, answered, tokens_in, tokens_out, latency_s, cost_usd "
                f"FROM reply WHERE key IN ({marks})",
                part,
            ):
                tokens = tuple(map(tuple, json.loads(logprobs))) if logprobs else ()
                found[key] = Reply(text, finish, tokens, answered, tokens_in, tokens_out, latency_s, cost_usd)
        return found

    def refused(self, keys: Sequence[bytes]) -> dict[bytes, Refused]:
        """Return which requests were refused for good, and why, by key."""
        found: dict[bytes, Refused] = {}
        for start in range(0, len(keys), _LOOKUP):
            part = keys[start : start + _LOOKUP]
            marks = ",".join("?" * len(part))
            for key, reason in self._database.execute(f"SELECT key, reason FROM refusal WHERE key IN ({marks})", part):
                found[key] = Refused(reason)
        return found

    def refuse(self, refusals: Sequence[tuple[bytes, str]]) -> None:
        """Note that requests were refused for good, and why.

        Raises:
            UserError: The disk is full or the file cannot be written.
        """
        self._written("INSERT OR REPLACE INTO refusal (key, reason) VALUES (?, ?)", refusals)

    def noted(self, units: Sequence[bytes]) -> dict[bytes, list[bytes]]:
        """Return the keys that were noted for units, by unit."""
        found: dict[bytes, list[bytes]] = {}
        for start in range(0, len(units), _LOOKUP):
            part = units[start : start + _LOOKUP]
            marks = ",".join("?" * len(part))
            for unit, keys in self._database.execute(f"SELECT unit, keys FROM alias WHERE unit IN ({marks})", part):
                found[unit] = [keys[place : place + _KEY_BYTES] for place in range(0, len(keys), _KEY_BYTES)]
        return found

    def note(self, aliases: Sequence[tuple[bytes, bytes]]) -> None:
        """Note the keys of units in one transaction: all keys of a unit after one another.

        Raises:
            UserError: The disk is full or the file cannot be written.
        """
        self._written("INSERT OR REPLACE INTO alias (unit, keys) VALUES (?, ?)", aliases)

    def add(self, who: Answering, replies: Sequence[tuple[bytes, Reply]]) -> dict[bytes, Reply]:
        """Keep some replies, on the disk: `commit` and `sync`."""
        earlier = self.commit(who, replies)
        self.sync()
        return earlier

    def sync(self) -> None:
        """Wait until all that was committed is on the disk; another thread may do so while this one commits.

        Raises:
            UserError: The disk does not take it.
        """
        log = self.path.with_name(f"{self.path.name}-wal")
        try:
            with log.open("r+b") as file:
                os.fsync(file.fileno())
                length = os.fstat(file.fileno()).st_size
        except FileNotFoundError:  # all of it is in the database
            return
        except OSError as error:
            raise UserError(f"cannot write the ledger {self.path}: {error}", "free the disk or the file") from None
        if length > _LONGEST_LOG:
            with contextlib.closing(sqlite3.connect(self.path, timeout=60.0)) as database:
                database.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def commit(self, who: Answering, replies: Sequence[tuple[bytes, Reply]]) -> dict[bytes, Reply]:
        """Keep some replies in one transaction; of two replies to one question the earlier stays.

        Returns:
            The earlier replies that stay, where there were some.

        Raises:
            UserError: The disk is full or the file cannot be written.
        """
        rows = [
            (
                key,
                who.backend,
                who.model,
                reply.model,
                reply.text,
                reply.finish,
                json.dumps(reply.logprobs) if reply.logprobs else "",
                reply.tokens_in,
                reply.tokens_out,
                reply.latency_s,
                reply.cost_usd,
            )
            for key, reply in replies
        ]
        marks = ",".join("?" * 11)
        added = self._written(f"INSERT OR IGNORE INTO reply ({_COLUMNS}) VALUES ({marks})", rows)
        return self.find([key for key, _ in replies]) if added < len(rows) else {}

    def _written(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                count = self._database.executemany(statement, rows).rowcount
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise UserError(f"cannot write the ledger {self.path}: {error}", "free the disk or the file") from None
        return count

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield everything, in the order it was kept: the columns of the table."""
        # A ledger of an earlier version has no rows in order; their times are.
        yield from self._database.execute(f"SELECT {_COLUMNS}, at FROM reply ORDER BY at, key")

    def delete(self, conditions: Sequence[str], values: Sequence[str], *, keep: Iterable[bytes] | None) -> int:
        """Delete the replies to which all conditions apply, and give their room on the disk back.

        Args:
            conditions: In SQL, with a question mark for each value.
            values: What stands in the conditions.
            keep: Keys of replies to which they do not apply.

        Returns:
            The number of replies that were deleted.

        Raises:
            UserError: Another process is writing the ledger.
        """
        execute = self._database.execute
        clauses = [*conditions]
        try:
            if keep is not None:
                execute("CREATE TEMP TABLE kept (key BLOB PRIMARY KEY) WITHOUT ROWID")
                self._database.executemany("INSERT OR IGNORE INTO kept VALUES (?)", ((key,) for key in keep))
                clauses.append("key NOT IN (SELECT key FROM kept)")
            # The conditions are this package's own words; what a user gave is bound.
            count = execute(f"DELETE FROM reply WHERE {' AND '.join(clauses)}", values).rowcount
            execute("DELETE FROM alias")
            execute("DELETE FROM refusal")
            execute("VACUUM")
            execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as error:
            raise UserError(f"cannot prune the ledger {self.path}: {error}", "try when nobody uses it") from None
        return int(count)
