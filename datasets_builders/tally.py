"""What happened to the upstream rows: how many were read, dropped and mended, and why."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Tally"]

_SHOWN = 3


@dataclass
class Tally:
    """Counts over the upstream rows that belong to one split.

    Attributes:
        kept: Rows that came out.
        dropped: Rows that did not, by reason.
        notes: What else was seen or mended, by what it was.
        examples: For each reason or note, the first few places, as ``file:row``.
    """

    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def drop(self, reason: str, *, file: str, row: int) -> None:
        """Count a row that is left out."""
        self.dropped[reason] += 1
        self._show(reason, file, row)

    def note(self, what: str, *, file: str, row: int) -> None:
        """Count something worth knowing that drops no row."""
        self.notes[what] += 1
        self._show(what, file, row)

    def _show(self, reason: str, file: str, row: int) -> None:
        places = self.examples.setdefault(reason, [])
        if len(places) < _SHOWN:
            places.append(f"{file}:{row}")

    def add(self, other: Tally) -> None:
        """Add the counts of another part of the same split."""
        self.kept += other.kept
        self.dropped.update(other.dropped)
        self.notes.update(other.notes)
        for reason, places in other.examples.items():
            self.examples[reason] = (self.examples.get(reason, []) + places)[:_SHOWN]

    def save(self, path: Path) -> None:
        """Write the counts as JSON."""
        content = {"kept": self.kept, "dropped": self.dropped, "notes": self.notes, "examples": self.examples}
        path.write_text(json.dumps(content), "utf-8")

    @classmethod
    def read(cls, path: Path) -> Tally:
        """Read what `save` wrote."""
        content = json.loads(path.read_text("utf-8"))
        return cls(content["kept"], Counter(content["dropped"]), Counter(content["notes"]), content["examples"])
