"""The ledger: every answer a judge gave, kept so that nothing is asked, or paid, twice.

One SQLite file in WAL mode; several processes may share it. It holds replies, and which requests were refused for
good: no errors that can pass, no cut-off replies, no requests, no keys, no headers. A committed reply outlives its
process at once, and the machine after `Ledger.sync`: a disk that makes one wait for seconds delays the second, not the
first. A second table says under which keys the replies about a unit are, so that they are found without rendering; it
may be emptied at any time. Every row has a checksum, which is looked at when it is read: what a disk changed is an
error, and `perl_eval.client.ledger_salvage` the way out. A small file is looked through whole when it is opened.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from perl_eval.client.ledger_rows import COLUMNS, KEY_BYTES, Answering, is_whole, reply_of, row_of
from perl_eval.client.reply import Reply
from perl_eval.errors import DataError, Refused, UserError

__all__ = ["Answering", "Ledger"]

_VERSION = 1
_LATEST = 1000
"""No version of this package will write a ledger of a later version than this."""
_SMALL = 2**22
"""Bytes up to which a file is looked through when it is opened, in 10 ms a MiB; larger ones where they are read."""
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
  at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  checksum INTEGER
)
"""
_ALIASES = "CREATE TABLE IF NOT EXISTS alias (unit BLOB PRIMARY KEY, keys BLOB NOT NULL) WITHOUT ROWID"
_REFUSALS = "CREATE TABLE IF NOT EXISTS refusal (key BLOB PRIMARY KEY, reason TEXT NOT NULL) WITHOUT ROWID"
_INSERT = f"INSERT OR IGNORE INTO reply ({', '.join(COLUMNS)}) VALUES ({','.join('?' * len(COLUMNS))})"
_NAMES = frozenset({"reply", "alias", "refusal"})
_COLUMNS = ", ".join(COLUMNS)
_TOLD = ", ".join(name for name in COLUMNS if name != "at")
_NO_DAMAGE = (
    "BUSY",
    "LOCKED",
    "READONLY",
    "CANTOPEN",
    "FULL",
    "IOERR",
    "PERM",
    "AUTH",
    "NOMEM",
    "PROTOCOL",
    "INTERRUPT",
)
"""Errors of SQLite that say nothing about the content of a file."""
_LATER = "checksum"
"""The column that ledgers of earlier versions lack."""


class Ledger:
    """An open ledger; use as a context manager, from one thread at a time.

    Args:
        path: The file; made if it is not there.

    Raises:
        UserError: It cannot be opened for writing.
        DataError: It is not a ledger, or one of a newer version.
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
        except UserError:
            self._database.close()
            raise
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise self._unreadable(error) from None

    def _prepare(self) -> None:
        execute = self._database.execute
        # Looked at before anything is set: another program's database is not to be changed.
        (version,) = execute("PRAGMA user_version").fetchone()
        tables = {name for (name,) in execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        found = {name for _, name, *_ in execute("PRAGMA table_info(reply)")}
        if (tables or version == _VERSION) and not found >= set(COLUMNS) - {_LATER}:
            if len(_NAMES & tables) > 1:
                raise self._damaged("its tables have other columns")
            raise DataError("is another program's database", file=self.path, fix="give another file")
        if version > _LATEST:
            raise self._damaged(f"its version is {version}")
        if version > _VERSION:
            raise DataError(
                f"is a ledger of version {version}, newer than {_VERSION}", file=self.path, fix="update perl-eval"
            )
        if tables and self.path.stat().st_size <= _SMALL:
            (state,) = execute("PRAGMA integrity_check(1)").fetchone()
            if state != "ok":
                raise self._damaged(" ".join(state.split()))
        execute("PRAGMA journal_mode = WAL")
        # NORMAL: a commit does not wait for the disk; `sync` does.
        execute("PRAGMA synchronous = NORMAL")
        execute(f"PRAGMA wal_autocheckpoint = {_LONGEST_LOG_PAGES}")
        execute(f"PRAGMA cache_size = -{_CACHE_KIB}")  # keys are hashes: looking up goes all over the file
        if version < _VERSION:
            execute(_TABLE)
            execute(f"PRAGMA user_version = {_VERSION}")
        elif _LATER not in found:
            self._add_checksums()
        execute(_ALIASES)
        execute(_REFUSALS)

    def _add_checksums(self) -> None:
        """Let a ledger of an earlier version hold checksums, unless another process was faster."""
        execute = self._database.execute
        execute("BEGIN IMMEDIATE")
        try:
            if _LATER not in {name for _, name, *_ in execute("PRAGMA table_info(reply)")}:
                execute(f"ALTER TABLE reply ADD COLUMN {_LATER} INTEGER")
        finally:
            execute("COMMIT")

    def _damaged(self, how: str) -> DataError:
        way_out = f"`perl-eval ledger salvage {shlex.quote(str(self.path))} --out NEW.sqlite` saves what can be read"
        return DataError(f"is a damaged ledger ({how})", file=self.path, fix=way_out)

    def _unreadable(self, error: sqlite3.DatabaseError) -> UserError:
        """Return what an error of the database means for the user."""
        if "not a database" in str(error):
            return DataError(
                f"is not a ledger ({error})",
                file=self.path,
                fix="give another file; if it was one, "
                f"`perl-eval ledger salvage {shlex.quote(str(self.path))} --out NEW.sqlite` saves what can be read",
            )
        if not self._tells_damage(error):
            return UserError(f"cannot open the ledger {self.path}: {error}", "choose a file you can write to")
        return self._damaged(str(error))

    def _tells_damage(self, error: sqlite3.DatabaseError) -> bool:
        """Say whether an error of SQLite means that the content of the file is not what was written."""
        name = str(getattr(error, "sqlite_errorname", "")).removeprefix("SQLITE_")  # none where Python found it
        if name.startswith("READONLY"):  # a byte of the file says so, too
            return os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)
        return name == "IOERR_SHORT_READ" or not name.startswith(_NO_DAMAGE)

    @contextlib.contextmanager
    def _read(self) -> Iterator[None]:
        """Tell damage that is met while reading.

        Raises:
            DataError: The file is damaged.
            UserError: It cannot be read for another reason.
        """
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise self._unreadable(error) from None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def __len__(self) -> int:
        with self._read():
            (count,) = self._database.execute("SELECT count(*) FROM reply").fetchone()
        return int(count)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Reply]:
        """Return the replies that are there, by key.

        Raises:
            DataError: The ledger is damaged, in what was looked up.
        """
        found: dict[bytes, Reply] = {}
        for start in range(0, len(keys), _LOOKUP):
            part = keys[start : start + _LOOKUP]
            marks = ",".join("?" * len(part))
            # Only question marks are put into the statement; the keys are bound.
            statement = f"SELECT {_TOLD} FROM reply WHERE key IN ({marks})"
            try:
                with self._read():
                    for row in self._database.execute(statement, part):
                        found[row[0]] = reply_of(row)
            except ValueError:
                raise self._damaged("a reply is not as it was kept") from None
        return found

    def refused(self, keys: Sequence[bytes]) -> dict[bytes, Refused]:
        """Return which requests were refused for good, and why, by key."""
        found: dict[bytes, Refused] = {}
        for start in range(0, len(keys), _LOOKUP):
            part = keys[start : start + _LOOKUP]
            marks = ",".join("?" * len(part))
            with self._read():
                for key, reason in self._database.execute(
                    f"SELECT key, reason FROM refusal WHERE key IN ({marks})", part
                ):
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
            with self._read():
                for unit, keys in self._database.execute(f"SELECT unit, keys FROM alias WHERE unit IN ({marks})", part):
                    found[unit] = [keys[place : place + KEY_BYTES] for place in range(0, len(keys), KEY_BYTES)]
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
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        rows = [row_of(who, key, reply, at) for key, reply in replies]
        added = self._written(_INSERT, rows)
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
        except sqlite3.DatabaseError as error:
            if not self._tells_damage(error):
                raise UserError(f"cannot write the ledger {self.path}: {error}", "free the disk or the file") from None
            raise self._damaged(str(error)) from None
        return count

    def restore(self, rows: Sequence[tuple[Any, ...]]) -> int:
        """Keep rows of another ledger as they are, those whose keys are not there yet; returns how many.

        Raises:
            UserError: The disk is full or the file cannot be written.
        """
        return self._written(_INSERT, rows)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield everything, in the order it was kept: the columns of the table, and the checksum last.

        Raises:
            DataError: The ledger is damaged.
        """
        with self._read():
            # A ledger of an earlier version has no rows in order; their times are.
            for row in self._database.execute(f"SELECT {_COLUMNS} FROM reply ORDER BY at, key"):
                if not is_whole(row):
                    raise self._damaged("a reply is not as it was kept")
                yield row

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
        except sqlite3.DatabaseError as error:
            if not self._tells_damage(error):
                raise UserError(f"cannot prune the ledger {self.path}: {error}", "try when nobody uses it") from None
            raise self._damaged(str(error)) from None
        return int(count)
