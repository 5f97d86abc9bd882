"""The decision as labels come: looked at after 20, 30, 45, ... labelled units; asking ends once it is made.

Who looks again and again at a 95 % interval and stops when it suits them is wrong far more often than once in twenty.
So the looks share the 5 %: of K looks, look j is taken at level ``1 - 0.05 1.5**j / sum_k 1.5**k``, the later ones
more, since they have more labels. However the looks depend on each other, all of them together are right in 95 % of
sessions (Bonferroni).
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from perl_eval.errors import PerlEvalError
from perl_eval.labelling.adjudication import settled
from perl_eval.labelling.store import Store
from perl_eval.records import HumanLabel
from perl_eval.scoring import decide
from perl_eval.scoring.decision_words import sentence
from perl_eval.storage import parquet

__all__ = ["DECIDED", "Look", "Watch", "look_now", "looks"]

DECIDED = "decided"
"""Under this name a session keeps the sentence that it was decided with."""
_FIRST, _GROWTH, _ERROR = 20, 1.5, 0.05
_POLL_S, _LINGER_S = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class Look:
    """A look at the decision: after so many labelled units, at which level."""

    units: int
    level: float


def looks(units: int) -> list[Look]:
    """Return the looks at a session of so many units; the last is when all are labelled."""
    counts, at = [], float(_FIRST)
    while round(at) < units:
        counts.append(round(at))
        at *= _GROWTH
    counts.append(units)
    shares = [_GROWTH**place for place in range(len(counts))]
    return [Look(count, 1.0 - _ERROR * share / sum(shares)) for count, share in zip(counts, shares, strict=True)]


def look_now(store: Store, judgements: Path, folder: Path) -> str | None:
    """Take the look that is due, if one is, and keep what it says.

    Args:
        store: The session.
        judgements: The judge's judgements of its units.
        folder: Gets ``decision.md``, a line a look.

    Returns:
        What the look says, None if none is due. A session in which it is decided has no more looks.

    Raises:
        PerlEvalError: The judgements are not of these units.
    """
    plan = store.plan
    [(units,)] = store.read("SELECT count(DISTINCT unit) FROM turn")
    [(labelled,)] = store.read(
        "SELECT count(*) FROM (SELECT unit FROM label WHERE undone = 0 AND label <> 'skip' "
        "GROUP BY unit HAVING count(*) >= ?)",
        (plan["overlap"],),
    )
    said: list[str] = json.loads(store.noted("looks") or "[]")
    due = [place for place, look in enumerate(looks(units)) if look.units <= labelled]
    taken = json.loads(store.noted("last look") or "-1")
    if store.is_decided or not due or due[-1] <= taken:
        return None
    look = looks(units)[due[-1]]
    verdict, words = _decision(store, judgements, look.level)
    line = f"after {labelled} labelled units, at level {look.level:.4g}: {words}"
    said.append(line)
    store.note("looks", json.dumps(said))
    store.note("last look", json.dumps(due[-1]))
    if verdict:
        store.note(DECIDED, line)
    text = "".join(f"- {one}\n" for one in said)
    parquet.replace_file(folder / decide.DECISION, lambda partial: partial.write_text(text, "utf-8"))
    return line


def _decision(store: Store, judgements: Path, level: float) -> tuple[bool, str]:
    """Return whether it is decided by the labels so far, adjudicated, and the sentence that says so."""
    how = decide.DecideOptions(level=level)
    with tempfile.TemporaryDirectory() as scratch:
        labels = Path(scratch) / "labels.parquet"
        parquet.write(labels, [one.record for one in settled(store.given(), store.rulings())[0]], HumanLabel)
        _, found = decide.run(judgements, Path(scratch) / "decision", labels=labels, options=how)
    return all(one.verdict != "not decided" for one in found), "; ".join(sentence(one, how) for one in found)


class Watch(threading.Thread):
    """Looks as labels come, until it is decided.

    Args:
        store: The session.
        judgements: The judge's.
        say: Told what each look says.
        end: Called once it is decided, and those who label have been told, or do not come back within a minute.
        at_hand: Who has something before them; it changes as they answer.
    """

    def __init__(
        self,
        store: Store,
        judgements: Path,
        say: Callable[[str], object],
        end: Callable[[], object],
        at_hand: Collection[str] = (),
    ) -> None:
        super().__init__(daemon=True)
        self._store, self._judgements, self._say, self._finish = store, judgements, say, end
        self._at_hand = at_hand
        self._stopped = threading.Event()

    def run(self) -> None:
        """Look every second whether a look is due."""
        if self._store.is_decided:
            self._say(str(self._store.noted(DECIDED)))
        while not self._stopped.wait(_POLL_S):
            try:
                line = look_now(self._store, self._judgements, self._store.path.parent)
            except PerlEvalError as error:
                self._say(f"no decision can be made: {error}")
                return
            if line is not None:
                self._say(line)
            if self._store.is_decided:
                self._linger()
                return

    def _linger(self) -> None:
        """End once nobody has anything before them, a moment later so that their page hears of it."""
        end_s = time.monotonic() + _LINGER_S
        while not self._stopped.wait(_POLL_S):
            if not self._at_hand or time.monotonic() >= end_s:
                self._finish()
                return

    def stop(self) -> None:
        """Look no more, and wait for the look that is being taken."""
        self._stopped.set()
        self.join()
