"""Whose turn it is: who labels which unit next, who holds it until when, and what stands in the end."""

from __future__ import annotations

from dataclasses import dataclass

from perl_eval.errors import UserError
from perl_eval.labelling.store import Store
from perl_eval.labelling.units import Task, a_is_first

__all__ = ["Conflict", "Progress", "Said", "Turn", "Turns"]

_TAKEN = """
(SELECT count(*) FROM label WHERE label.unit = turn.unit AND undone = 0 AND label <> 'skip' AND annotator <> :me)
+ (SELECT count(*) FROM lease WHERE lease.unit = turn.unit AND until > :now AND annotator <> :me)
"""
_OPEN = f"""
turn.annotator = :me
AND NOT EXISTS (SELECT 1 FROM label WHERE label.unit = turn.unit AND annotator = :me AND undone = 0)
AND {_TAKEN} < :overlap
"""
_HELD = """
SELECT unit FROM lease WHERE annotator = :me AND until > :now ORDER BY since DESC, unit LIMIT 1
"""
# Units that others have labelled come first, so that what is labelled is labelled by as many people as wanted.
_FREE = f"""
SELECT turn.unit FROM turn
WHERE {_OPEN}
ORDER BY EXISTS (SELECT 1 FROM label WHERE label.unit = turn.unit AND undone = 0 AND label <> 'skip') DESC, turn.place
LIMIT 1
"""


class Conflict(UserError):
    """What an annotator asks for is no longer so: the unit is labelled, or was given to someone else."""


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody said of a unit, whoever it was."""

    label: str
    note: str


@dataclass(frozen=True, slots=True)
class Turn:
    """A unit as one annotator sees it.

    Attributes:
        task: The unit.
        a_first: Whether contestant a is shown first.
        label: What the annotator had said before taking it back; empty if nothing.
        note: The note that went with it.
        said: What others said of it, for an adjudicator.
    """

    task: Task
    a_first: bool
    label: str = ""
    note: str = ""
    said: tuple[Said, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an annotator, and all of them together, have come; counts of labels.

    Attributes:
        mine: Labels of this annotator.
        skipped: Units this annotator skipped.
        left: Units that this annotator may still be asked about, the one at hand among them.
        given: Labels of everybody.
        wanted: Labels wanted of everybody.
        last: The unit that this annotator labelled or skipped last, which can be taken back; None if there is none.
    """

    mine: int
    skipped: int
    left: int
    given: int
    wanted: int
    last: str | None


class Turns:
    """The turns of a session; each change is one transaction that holds the file alone.

    Args:
        store: The session.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def a_is_first(self, annotator: str, unit: str) -> bool:
        """Return whether an annotator sees contestant a of a unit first."""
        return a_is_first(self._store.plan["seed"], annotator, unit)

    def take(self, annotator: str) -> Turn | None:
        """Return the unit that an annotator is to label: the one held already, else the next free one, now leased.

        A unit is free if the labels of others and the leases of others that have not run out are fewer than the
        wanted overlap.

        Returns:
            None if nothing is left, or all is decided.
        """
        plan, now = self._store.plan, self._store.clock()
        cells = {"me": annotator, "now": now, "overlap": plan["overlap"]}
        with self._store.transaction() as execute:
            row = execute(_HELD, cells).fetchone()
            if row is None and self._store.is_decided:
                return None
            if row is None:
                row = execute(_FREE, cells).fetchone()
                if row is None:
                    return None
                execute(
                    "INSERT INTO lease VALUES (?, ?, ?, ?) "
                    "ON CONFLICT (unit, annotator) DO UPDATE SET since = excluded.since, until = excluded.until",
                    (row[0], annotator, now, now + plan["lease_s"]),
                )
            return self._turn(row[0], annotator)

    def _turn(self, unit: str, annotator: str) -> Turn:
        before = self._store.read(
            "SELECT label, note FROM label WHERE unit = ? AND annotator = ? AND undone = 1 ORDER BY id DESC LIMIT 1",
            (unit, annotator),
        )
        return Turn(self._store.task(unit), self.a_is_first(annotator, unit), *(before[0] if before else ("", "")))

    def give(self, annotator: str, unit: str, label: str, note: str) -> None:
        """Keep a label, or ``skip``.

        Giving the same label twice is giving it once: a page may repeat what it got no answer to.

        Raises:
            Conflict: The annotator has labelled the unit otherwise, or holds it no longer.
            KeyError: There is no such unit.
        """
        plan, now = self._store.plan, self._store.clock()
        with self._store.transaction() as execute:
            self._must_exist(unit)
            had = execute(
                "SELECT label, note FROM label WHERE unit = ? AND annotator = ? AND undone = 0", (unit, annotator)
            ).fetchone()
            if had is not None:
                if had == (label, note):
                    return
                raise Conflict("you have labelled this one already", "take that label back first")
            lease = execute(
                "SELECT since, until FROM lease WHERE unit = ? AND annotator = ?", (unit, annotator)
            ).fetchone()
            if lease is None or (lease[1] <= now and not self._is_free(unit, annotator, plan["overlap"], now)):
                raise Conflict("this one was given to someone else", "go on with the next")
            first = self.a_is_first(annotator, unit)
            execute(
                "INSERT INTO label (unit, annotator, label, a_first, note, asked, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (unit, annotator, label, int(first), note, lease[0], now),
            )
            execute("DELETE FROM lease WHERE unit = ? AND annotator = ?", (unit, annotator))

    def _must_exist(self, unit: str) -> None:
        if not self._store.read("SELECT 1 FROM task WHERE unit = ?", (unit,)):
            raise KeyError(unit)

    def _is_free(self, unit: str, annotator: str, overlap: int, now: float) -> bool:
        taken = _TAKEN.replace("turn.unit", ":unit")
        [(count,)] = self._store.read(f"SELECT {taken}", {"unit": unit, "me": annotator, "now": now})
        return bool(count < overlap)

    def undo(self, annotator: str, unit: str) -> Turn:
        """Take an annotator's last label or skip back and lease its unit again; doing it twice is doing it once.

        Args:
            annotator: Whose.
            unit: The unit that was labelled last.

        Returns:
            The unit, with what was said of it.

        Raises:
            Conflict: Another label is the last one, or it was a skip and the unit has gone to someone else since.
            KeyError: There is no such unit.
        """
        plan, now = self._store.plan, self._store.clock()
        with self._store.transaction() as execute:
            self._must_exist(unit)
            row = execute(
                "SELECT id, unit, label FROM label WHERE annotator = ? AND undone = 0 ORDER BY id DESC LIMIT 1",
                (annotator,),
            ).fetchone()
            if row is None or row[1] != unit:
                if self._is_undone(unit, annotator):
                    return self._turn(unit, annotator)
                raise Conflict("that is not your last label any more", "reload the page")
            if row[2] == "skip" and not self._is_free(unit, annotator, plan["overlap"], now):
                raise Conflict("the one you skipped was given to someone else", "go on with the next")
            execute("UPDATE label SET undone = 1 WHERE id = ?", (row[0],))
            execute("INSERT OR REPLACE INTO lease VALUES (?, ?, ?, ?)", (unit, annotator, now, now + plan["lease_s"]))
            return self._turn(unit, annotator)

    def _is_undone(self, unit: str, annotator: str) -> bool:
        """Return whether an annotator took the last label of a unit back and holds the unit."""
        return bool(
            self._store.read(
                "SELECT 1 FROM lease JOIN label USING (unit, annotator) WHERE unit = ? AND annotator = ? "
                "AND undone = 1 AND NOT EXISTS (SELECT 1 FROM label AS live "
                "WHERE live.unit = lease.unit AND live.annotator = lease.annotator AND live.undone = 0)",
                (unit, annotator),
            )
        )

    def progress(self, annotator: str) -> Progress:
        """Count what an annotator and all of them have done."""
        plan, now = self._store.plan, self._store.clock()
        cells = {"me": annotator, "now": now, "overlap": plan["overlap"]}
        read = self._store.read
        [(mine, skipped)] = read(
            "SELECT coalesce(sum(label <> 'skip'), 0), coalesce(sum(label = 'skip'), 0) FROM label "
            "WHERE annotator = :me AND undone = 0",
            cells,
        )
        [(left,)] = read(f"SELECT count(*) FROM turn WHERE {_OPEN}", cells)
        last = read("SELECT unit FROM label WHERE annotator = :me AND undone = 0 ORDER BY id DESC LIMIT 1", cells)
        [(given,)] = read("SELECT count(*) FROM label WHERE undone = 0 AND label <> 'skip'")
        [(tasks,)] = read("SELECT count(DISTINCT unit) FROM turn")
        return Progress(mine, skipped, left, given, tasks * plan["overlap"], last[0][0] if last else None)
