"""The places that policies can have, as `decide` says them: intervals that hold together, and ties shown as ties."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perl_eval import figure_names as named
from perl_eval.records import Estimate
from perl_eval.storage import run_folder

__all__ = ["Ranking", "Standing", "ranking_in"]


@dataclass(frozen=True, slots=True)
class Standing:
    """A policy among the others.

    Attributes:
        policy: Its name.
        low: The best place that it can have, 1 the first.
        high: The worst.
        first: Chance that it is the best, None where nobody knows.
        tied: Whether another policy can be as good: it has the same best place.
    """

    policy: str
    low: int
    high: int
    first: float | None
    tied: bool

    @property
    def place(self) -> str:
        """The place as a table of results gives it: shared places with an equals sign."""
        return f"{self.low}{'=' if self.tied else ''}"

    @property
    def between(self) -> str:
        """The places that it can have."""
        return str(self.low) if self.low == self.high else f"{self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Ranking:
    """Policies by the places that they can have.

    Attributes:
        judge: Who judged; "" if no run tells.
        level: Chance that the places of all policies are right together.
        run: Place of the run of `decide` among the folders; None if the report decided.
        standings: Best first.
        simulated: Whether it rests on simulated judges or people.
    """

    judge: str
    level: float
    run: int | None
    standings: tuple[Standing, ...]
    simulated: bool = False


def ranking_in(home: Path, judge: str, run: int | None) -> Ranking | None:
    """Return the ranking that a run of `decide` holds; None where it compares fewer than three policies.

    Args:
        home: The run folder.
        judge: Who judged.
        run: Its place among the folders of the report, if it is one of them.
    """
    return ranked([one for one in run_folder.read(home, Estimate) if not one.about.minus], judge, run)


def ranked(figures: Sequence[Estimate], judge: str, run: int | None) -> Ranking | None:
    """Return the ranking that figures of places make."""
    places = [one for one in figures if one.name == named.PLACE and one.low is not None and one.high is not None]
    first = {one.about.policy: one.value for one in figures if one.name == named.CHANCE_TO_BE_BEST}
    shared = Counter(one.low for one in places)
    standings = [
        Standing(
            one.about.policy,
            round(one.low or 0),
            round(one.high or 0),
            first.get(one.about.policy),
            shared[one.low] > 1,
        )
        for one in places
    ]
    if not standings:
        return None
    standings.sort(key=lambda one: (one.low, one.high, -(one.first or 0.0), one.policy))
    return Ranking(judge, places[0].level, run, tuple(standings), all(one.simulated for one in places))
