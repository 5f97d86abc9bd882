"""The store of a labelling session: who is asked what, and what they said; one SQLite file.

It is in WAL mode with full synchronisation: a label is on disk before the page hears so, whatever happens to process
or machine. Every decision is one immediate transaction, so that several servers, threads and annotators agree on who
holds which unit. Nothing is overwritten: a label taken back stays, marked as undone.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, cast

from perl_eval.errors import DataError, UserError
from perl_eval.labelling.units import Task, order_key, sequence_key, weights_of
from perl_eval.records import HumanLabel, Message
from perl_eval.storage import images

__all__ = ["Store", "StoredLabel"]

_VERSION = 2
_KIND = 0x50454C41
"""What SQLite's application id says of our files, so that no other tool's file is taken for one."""
_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS task (
  unit TEXT PRIMARY KEY, item TEXT NOT NULL, source TEXT NOT NULL, prompt TEXT NOT NULL, answers TEXT NOT NULL,
  images TEXT NOT NULL, weight REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS picture (name TEXT PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS turn (
  annotator TEXT NOT NULL, place INTEGER NOT NULL, unit TEXT NOT NULL REFERENCES task, PRIMARY KEY (annotator, place)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lease (
  unit TEXT NOT NULL REFERENCES task, annotator TEXT NOT NULL, since REAL NOT NULL, until REAL NOT NULL,
  PRIMARY KEY (unit, annotator)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS label (
  id INTEGER PRIMARY KEY AUTOINCREMENT, unit TEXT NOT NULL REFERENCES task, annotator TEXT NOT NULL,
  label TEXT NOT NULL, a_first INTEGER NOT NULL, note TEXT NOT NULL, asked REAL NOT NULL, at REAL NOT NULL,
  undone INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS adjudicator (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ruling (
  id INTEGER PRIMARY KEY AUTOINCREMENT, unit TEXT NOT NULL REFERENCES task, annotator TEXT NOT NULL,
  label TEXT NOT NULL, a_first INTEGER NOT NULL, note TEXT NOT NULL, asked REAL NOT NULL, at REAL NOT NULL,
  undone INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX IF NOT EXISTS one_ruling ON ruling (unit, annotator) WHERE undone = 0;
CREATE UNIQUE INDEX IF NOT EXISTS one_label ON label (unit, annotator) WHERE undone = 0;
CREATE INDEX IF NOT EXISTS labels_of ON label (annotator, undone, id);
"""


@dataclass(frozen=True, slots=True)
class StoredLabel:
    """One label that stands, with its task; ``at`` is seconds since 1970, ``seconds`` from question to answer."""

    task: Task
    annotator: str
    label: str
    a_first: bool
    note: str
    at: float
    seconds: float

    @property
    def record(self) -> HumanLabel:
        """The label as it is written."""
        task, label = self.task, cast(Any, self.label)
        return HumanLabel(task.unit, task.item, task.group, self.annotator, label, note=self.note, weight=task.weight)


class Store:
    """An open session; safe to use from several threads, and several processes may open the same file.

    Args:
        path: The file.
        clock: Seconds since 1970.

    Raises:
        UserError: It cannot be opened for writing.
        DataError: It is not a session, or one of a newer version.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.clock = clock
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Links for annotators are made from a secret in the file: nobody else may read it.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._database = sqlite3.connect(path, timeout=60.0, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.OperationalError) as error:
            raise UserError(f"cannot open the session {path}: {error}", "choose a file you can write to") from None
        try:
            self._prepare()
        except sqlite3.OperationalError as error:
            self._database.close()
            raise UserError(f"cannot open the session {path}: {error}", "choose a file you can write to") from None
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise DataError(f"is not a labelling session ({error})", file=path, fix="give another file") from None
        except DataError:
            self._database.close()
            raise

    def _prepare(self) -> None:
        execute = self._database.execute
        execute("PRAGMA journal_mode = WAL")
        # FULL: a commit is on disk when it returns, whatever happens to process or machine.
        execute("PRAGMA synchronous = FULL")
        (kind,) = execute("PRAGMA application_id").fetchone()
        (tables,) = execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables and kind != _KIND:
            raise DataError("is not a labelling session", file=self.path, fix="give another file")
        (version,) = execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise DataError(
                f"is a session of version {version}, newer than {_VERSION}", file=self.path, fix="update perl-eval"
            )
        for statement in _TABLES.split(";"):
            execute(statement)
        execute(f"PRAGMA application_id = {_KIND}")
        execute(f"PRAGMA user_version = {_VERSION}")

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        """Hold the file alone: what is read inside is still so when it is written."""
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                try:
                    yield self._database.execute
                except BaseException:
                    self._database.execute("ROLLBACK")
                    raise
                self._database.execute("COMMIT")
            except sqlite3.OperationalError as error:
                raise UserError(f"cannot write the session {self.path}: {error}", "free the disk or the file") from None

    def read(self, query: str, cells: Mapping[str, Any] | Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query; within a transaction, as they are in it."""
        with self._lock:
            return self._database.execute(query, cells).fetchall()

    def begin(
        self,
        plan: Mapping[str, Any],
        tasks: Callable[[], Iterable[Task]],
        annotators: Sequence[str],
        adjudicators: Sequence[str] = (),
    ) -> None:
        """Start the session, or go on with it; new people may join.

        Args:
            plan: What the session is: plain values, ``seed``, ``overlap``, ``lease_s`` among them. It must not change.
            tasks: Called for the units if the session is new; their pictures are read from the paths they give.
            annotators: Pseudonyms.
            adjudicators: Pseudonyms of those who see what annotators disagree on; others.

        Raises:
            UserError: The file holds another session, or a person is both.
            DataError: A picture cannot be read.
        """
        wanted = json.loads(json.dumps(plan))
        with self.transaction() as execute:
            row = execute("SELECT value FROM meta WHERE name = 'plan'").fetchone()
            if row is None:
                execute("INSERT INTO meta VALUES ('plan', ?)", (json.dumps(wanted, sort_keys=True),))
                execute("INSERT INTO meta VALUES ('secret', ?)", (secrets.token_hex(32),))
                for task in tasks():
                    self._add(task)
            elif (had := json.loads(row[0])) != wanted:
                differs = next(name for name in sorted({*had, *wanted}) if had.get(name) != wanted.get(name))
                raise UserError(
                    f"{self.path} is another session: {differs} was {had.get(differs)!r}, now {wanted.get(differs)!r}",
                    "choose another folder, or give the same command as before",
                )
            self._seat(plan, annotators)
            for name in adjudicators:
                execute("INSERT OR IGNORE INTO adjudicator VALUES (?)", (name,))
            both = execute("SELECT name FROM adjudicator JOIN turn ON name = annotator LIMIT 1").fetchone()
            if both is not None:
                raise UserError(f"{both[0]} is annotator and adjudicator", "give the adjudicator another name")

    def _seat(self, plan: Mapping[str, Any], annotators: Sequence[str]) -> None:
        """Give each new annotator the units in order: one of their own, or with ``decisive`` the same for all."""
        execute, seed = self._database.execute, plan["seed"]
        new = [one for one in annotators if not execute("SELECT 1 FROM turn WHERE annotator = ?", (one,)).fetchone()]
        if not new:
            return
        units = [unit for (unit,) in execute("SELECT unit FROM task")]
        if plan.get("by") == "decisive":
            units = [task.unit for task in sorted(self.tasks(), key=lambda task: sequence_key(seed, task))]
            units = units[: plan["limit"]]
        for name in new:
            own = units if plan.get("by") == "decisive" else sorted(units, key=lambda u: order_key(seed, name, u))
            cells = [(name, place, unit) for place, unit in enumerate(own)]
            self._database.executemany("INSERT INTO turn VALUES (?, ?, ?)", cells)

    def _add(self, task: Task) -> None:
        for path in task.images:
            self._database.execute("INSERT OR IGNORE INTO picture VALUES (?, ?)", (Path(path).name, images.read(path)))
        names = [Path(path).name for path in task.images]
        prompt = [asdict(turn) for turn in task.prompt]
        texts = (json.dumps(part) for part in (prompt, task.answers, names))
        cells = (task.unit, task.item, task.group, *texts, task.weight)
        self._database.execute("INSERT INTO task VALUES (?, ?, ?, ?, ?, ?, ?)", cells)

    @cached_property
    def plan(self) -> dict[str, Any]:
        """What the session is.

        Raises:
            UserError: None has begun in this file.
        """
        rows = self.read("SELECT value FROM meta WHERE name = 'plan'")
        if not rows:
            raise UserError(f"no session has begun in {self.path}", "run `annotate` first")
        return dict(json.loads(rows[0][0]))

    @property
    def secret(self) -> bytes:
        """What links are made from."""
        [(value,)] = self.read("SELECT value FROM meta WHERE name = 'secret'")
        return bytes.fromhex(value)

    @property
    def annotators(self) -> list[str]:
        """Everyone who may label."""
        return [name for (name,) in self.read("SELECT annotator FROM turn WHERE place = 0 ORDER BY annotator")]

    @property
    def adjudicators(self) -> list[str]:
        """Everyone who may rule on disagreements."""
        return [name for (name,) in self.read("SELECT name FROM adjudicator ORDER BY name")]

    def tasks(self) -> list[Task]:
        """Return every unit of the session, by id."""
        return [_task(row) for row in self.read("SELECT * FROM task ORDER BY unit")]

    def task(self, unit: str) -> Task:
        """Return one unit that is there."""
        return _task(self.read("SELECT * FROM task WHERE unit = ?", (unit,))[0])

    def picture(self, name: str) -> bytes | None:
        """Return a picture's bytes by its name, or None if the session has none of that name."""
        rows = self.read("SELECT content FROM picture WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def given(self, *, skips: bool = False) -> list[StoredLabel]:
        """Return the labels that stand, or with ``skips`` the units skipped, in the order they came.

        Their weights are those of a session that ends now.
        """
        return self._standing("label", skips=skips)

    def rulings(self) -> list[StoredLabel]:
        """Return what adjudicators said and stands, in the order it came, of whatever unit."""
        return self._standing("ruling", skips=False)

    def _standing(self, table: Literal["label", "ruling"], *, skips: bool) -> list[StoredLabel]:
        tasks = {task.unit: task for task in self.weighted()}
        rows = self.read(
            f"SELECT unit, annotator, label, a_first, note, at, at - asked FROM {table} "  # one of two names
            "WHERE undone = 0 AND (label = 'skip') = ? ORDER BY id",
            (int(skips),),
        )
        return [StoredLabel(tasks[unit], who, label, bool(first), *rest) for unit, who, label, first, *rest in rows]

    def weighted(self) -> list[Task]:
        """Return every unit with the weight that its labels have if the session ends now."""
        tasks = self.tasks()
        if self.plan.get("by") != "decisive":
            return tasks
        [(labelled,)] = self.read("SELECT count(DISTINCT unit) FROM label WHERE undone = 0 AND label <> 'skip'")
        weights = weights_of(tasks, labelled)
        return [replace(task, weight=weights[task.unit]) for task in tasks]

    @property
    def is_decided(self) -> bool:
        """Whether the labels so far decide what was to be decided, so that no more are asked for."""
        return self.noted("decided") is not None

    def note(self, name: str, value: str) -> None:
        """Keep a fact about the session under a name of its own."""
        with self.transaction() as execute:
            execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def noted(self, name: str) -> str | None:
        """Return a fact that was kept about the session."""
        rows = self.read("SELECT value FROM meta WHERE name = ?", (name,))
        return rows[0][0] if rows else None


def _task(row: tuple[Any, ...]) -> Task:
    unit, item, group, prompt, answers, names, weight = row
    turns = tuple(Message(**turn) for turn in json.loads(prompt))
    return Task(unit, item, group, turns, tuple(json.loads(answers)), tuple(json.loads(names)), weight)
