"""Tables of outcomes with one entry changed, and judgements to read under them, for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from contests import pair_judged

from perl_eval import outcomes
from perl_eval.outcomes import TABLE, Meaning
from perl_eval.records import Estimate, HumanLabel, Judgement
from perl_eval.stats.bootstrap import Resampling

QUICK = Resampling(draws=20)

# The PE-RLHF rule: a win only if preferred in both orders; a split counts as a tie; unjudged never counts.
WORTH = {"win": 1.0, "split": 0.5, "tie": 0.5, "mixed": 0.5, "loss": 0.0, "yes": 1.0, "no": 0.0}
OPEN = {"split", "tie", "mixed"}
TURNED = {"win": "loss", "loss": "win"}
SAYS = {"win": "win", "loss": "loss", "tie": "tie", "split": "tie", "mixed": "tie", "yes": "yes", "no": "no"}
PAIRS = ("win", "split", "tie", "mixed", "loss")


# The readers. Each is asked under the table as it is, and under tables with one entry changed: what it says is worked
# out here from the changed entry, so a reader with an entry of its own says something else.


@dataclass(frozen=True)
class Changed:
    """A table with one entry changed, as the tests read it."""

    name: str
    table: Mapping[str, Meaning]

    def worth(self, names: Sequence[str]) -> list[float]:
        return [float(self.table[name].worth or 0.0) for name in names]

    def won(self, names: Sequence[str]) -> list[float]:
        return [0.0 if self.table[name].undecided else float(self.table[name].worth or 0.0) for name in names]

    def open(self, names: Sequence[str]) -> list[bool]:
        return [self.table[name].undecided for name in names]


def changed(name: str, **change: Any) -> Changed:
    what = ", ".join(f"{field} {value}" for field, value in change.items()) or "nothing"
    return Changed(f"{name}: {what}", {**TABLE, name: replace(TABLE[name], **change)})


WORTHS = [changed("win")]
WORTHS += [changed(name, worth=value) for name, value in zip(WORTH, (0.9, 0.3, 0.4, 0.2, 0.1, 0.8, 0.15), strict=True)]
FLAGS = [changed("win"), changed("win", undecided=True), *(changed(name, undecided=False) for name in sorted(OPEN))]


Under = Callable[[Changed], Changed]


def putting(monkeypatch: pytest.MonkeyPatch) -> Under:
    """Return what puts a changed table in the place of the one, until the test ends."""

    def put(change: Changed) -> Changed:
        monkeypatch.setattr(outcomes, "TABLE", change.table)
        return change

    return put


SAID = ["win"] * 5 + ["loss"] * 3 + ["split"] * 2 + ["tie"] * 3 + ["mixed"] * 2
ANSWERS = ["yes"] * 4 + ["no"] * 3
GIVEN = ["win", "win", "tie", "loss", "win", "loss", "tie", "loss", "tie", "win", "tie", "loss", "tie", "win", "loss"]
TOLD = ["yes", "no", "yes", "yes", "no", "no", "yes"]


def named(estimates: Sequence[Estimate]) -> dict[str, float | None]:
    return {estimate.name: estimate.value for estimate in estimates}


def judged(said: Sequence[str] = SAID, **changes: Any) -> list[Judgement]:
    single = {"kind": "yes_no", "b": "", "policy_b": ""} if said[0] in ("yes", "no") else {}
    return [pair_judged(place, outcome, **{**single, **changes}) for place, outcome in enumerate(said)]


def labelled(records: Sequence[Judgement], given: Sequence[str]) -> list[HumanLabel]:
    return [HumanLabel(r.unit, r.item, r.group, "ann", label) for r, label in zip(records, given, strict=False)]  # type: ignore[arg-type]


def pearson(one: Sequence[float], other: Sequence[float]) -> float:
    return float(np.corrcoef(one, other)[0, 1])
