"""What people disagree on, shown to adjudicators: what was said, by nobody knows whom; each rules for themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from perl_eval.labelling.assignment import Conflict, Progress, Said, Turn
from perl_eval.labelling.store import Store, StoredLabel
from perl_eval.labelling.units import a_is_first, order_key

__all__ = ["Rulings", "settled"]

_DISAGREED = """
SELECT unit FROM label WHERE undone = 0 AND label <> 'skip'
GROUP BY unit HAVING count(*) >= :overlap AND count(DISTINCT label) > 1
"""
_OPEN = f"""
SELECT unit FROM ({_DISAGREED}) AS disagreed
WHERE NOT EXISTS (
  SELECT 1 FROM ruling WHERE ruling.unit = disagreed.unit AND annotator = :me AND undone = 0
)
"""


class Rulings:
    """The turns of adjudicators; as `Turns`, but every adjudicator is asked about everything that is disagreed on.

    Args:
        store: The session.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asked: dict[tuple[str, str], float] = {}

    def a_is_first(self, annotator: str, unit: str) -> bool:
        """Return whether an adjudicator sees contestant a of a unit first."""
        return a_is_first(self._store.plan["seed"], annotator, unit)

    def take(self, annotator: str) -> Turn | None:
        """Return a unit that people disagree on and that this adjudicator has not ruled on; None if there is none."""
        open_units = [unit for (unit,) in self._store.read(_OPEN, self._cells(annotator))]
        if not open_units:
            return None
        taken = min(open_units, key=lambda unit: order_key(self._store.plan["seed"], annotator, unit))
        before = self._store.read(
            "SELECT label, note FROM ruling WHERE unit = ? AND annotator = ? AND undone = 1 ORDER BY id DESC LIMIT 1",
            (taken, annotator),
        )
        self._asked.setdefault((annotator, taken), self._store.clock())
        return self._turn(annotator, taken, *(before[0] if before else ("", "")))

    def give(self, annotator: str, unit: str, label: str, note: str) -> None:
        """Keep a ruling, or ``skip``; giving the same twice is giving it once.

        Raises:
            Conflict: The adjudicator has ruled otherwise, or people agree on the unit.
            KeyError: There is no such unit.
        """
        now = self._store.clock()
        with self._store.transaction() as execute:
            if not self._store.read("SELECT 1 FROM task WHERE unit = ?", (unit,)):
                raise KeyError(unit)
            had = execute(
                "SELECT label, note FROM ruling WHERE unit = ? AND annotator = ? AND undone = 0", (unit, annotator)
            ).fetchone()
            if had is not None:
                if had == (label, note):
                    return
                raise Conflict("you have ruled on this one already", "take that back first")
            if (unit,) not in self._store.read(_DISAGREED, self._cells(annotator)):
                raise Conflict("people agree on this one", "go on with the next")
            asked = self._asked.pop((annotator, unit), now)
            execute(
                "INSERT INTO ruling (unit, annotator, label, a_first, note, asked, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (unit, annotator, label, int(self.a_is_first(annotator, unit)), note, asked, now),
            )

    def undo(self, annotator: str, unit: str) -> Turn:
        """Take an adjudicator's last ruling or skip back; doing it twice is doing it once.

        Raises:
            Conflict: Another ruling is the last one.
            KeyError: There is no such unit.
        """
        with self._store.transaction() as execute:
            if not self._store.read("SELECT 1 FROM task WHERE unit = ?", (unit,)):
                raise KeyError(unit)
            row = execute(
                "SELECT id, unit, label, note FROM ruling WHERE annotator = ? ORDER BY undone, id DESC LIMIT 1",
                (annotator,),
            ).fetchone()
            last = execute(
                "SELECT id, unit, label, note FROM ruling WHERE annotator = ? ORDER BY id DESC LIMIT 1", (annotator,)
            ).fetchone()
            if row is not None and row[1] == unit:
                execute("UPDATE ruling SET undone = 1 WHERE id = ?", (row[0],))
            elif last is None or last[1] != unit:
                raise Conflict("that is not your last ruling any more", "reload the page")
            else:
                row = last
        self._asked[annotator, unit] = self._store.clock()
        return self._turn(annotator, unit, row[2], row[3])

    def progress(self, annotator: str) -> Progress:
        """Count what an adjudicator and all of them have done."""
        cells, read = self._cells(annotator), self._store.read
        [(mine, skipped)] = read(
            "SELECT coalesce(sum(label <> 'skip'), 0), coalesce(sum(label = 'skip'), 0) FROM ruling "
            "WHERE annotator = :me AND undone = 0",
            cells,
        )
        [(left,)] = read(f"SELECT count(*) FROM ({_OPEN})", cells)
        [(given,)] = read("SELECT count(*) FROM ruling WHERE undone = 0 AND label <> 'skip'")
        [(disagreed,)] = read(f"SELECT count(*) FROM ({_DISAGREED})", cells)
        last = read("SELECT unit FROM ruling WHERE annotator = :me AND undone = 0 ORDER BY id DESC LIMIT 1", cells)
        wanted = disagreed * len(self._store.adjudicators)
        return Progress(mine, skipped, left, given, wanted, last[0][0] if last else None)

    def _cells(self, annotator: str) -> dict[str, object]:
        return {"me": annotator, "overlap": max(2, self._store.plan["overlap"])}

    def _turn(self, annotator: str, unit: str, label: str, note: str) -> Turn:
        rows = self._store.read(
            "SELECT annotator, label, note FROM label WHERE unit = ? AND undone = 0 AND label <> 'skip'", (unit,)
        )
        # In an order of the unit's own, so that nobody is known by their place.
        rows = sorted(rows, key=lambda row: order_key(self._store.plan["seed"], row[0], unit))
        said = tuple(Said(given, why) for _, given, why in rows)
        return Turn(self._store.task(unit), self.a_is_first(annotator, unit), label, note, said)


def settled(given: Sequence[StoredLabel], rulings: Sequence[StoredLabel]) -> tuple[list[StoredLabel], dict[str, int]]:
    """Return labels with the rulings on units that people disagree on in the place of theirs, and counts.

    Where adjudicators rule differently, the ruling of each is kept.

    Args:
        given: People's labels.
        rulings: What adjudicators said.
    """
    said: dict[str, set[str]] = {}
    for one in given:
        said.setdefault(one.task.unit, set()).add(one.label)
    disagreed = {unit for unit, labels in said.items() if len(labels) > 1}
    ruled: dict[str, list[StoredLabel]] = {}
    for one in rulings:
        if one.task.unit in disagreed:
            ruled.setdefault(one.task.unit, []).append(one)
    kept = [one for one in given if one.task.unit not in ruled]
    weights = {one.task.unit: one.task.weight for one in given}
    for unit, ours in ruled.items():
        kept += [replace(one, task=replace(one.task, weight=weights[unit])) for one in ours]
    conflicts = sum(len({one.label for one in ours}) > 1 for ours in ruled.values())
    return kept, {"disagreed": len(disagreed), "adjudicated": len(ruled), "adjudicators disagree": conflicts}
