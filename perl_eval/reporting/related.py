"""Find the estimates that belong together: rate and comparison, truth and judgement, people and judge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from perl_eval import figure_names as named
from perl_eval.records import About
from perl_eval.reporting.counts import OutcomeCounts
from perl_eval.reporting.inputs import Figure, Folder

__all__ = ["Agreement", "Truth", "agreements", "position_figures", "rates", "truths"]

_TRUE = "true "
_LEARNED = "learned "
_PEOPLE = re.compile(r"\bhuman-human\b|^human ceiling$")
_JUDGE = re.compile(r"\b(?:human-judge|judge-human)\b|^judge at the ceiling's task$")
_TWO_BY_TWO = (", one person", ", two people")
"""Endings of figures of single people, which have a matrix of their own."""
_LEFT_OUT = "against the majority of the others"
_RATES = {
    "pairwise": (named.WIN_RATE, named.WIN_RATE_UNDECIDED_HALF),
    "yes_no": (named.YES_RATE, named.NO_RATE),
    "score": (named.MEAN_SCORE,),
}


def _of(figures: Sequence[Figure], tally: OutcomeCounts, found: Sequence[Folder]) -> list[Figure]:
    """Return the figures about one tally.

    They are about its policies, and what else they state (judge, data set, prompt) is the tally's. If some of these
    figures were made from the tally's folder, which their run card's inputs tell, the others are dropped.
    """
    about = [
        figure
        for figure in figures
        if not figure.estimate.name.startswith(_TRUE) and _fits(figure.estimate.about, tally)
    ]
    prints = found[tally.folder].fingerprints
    made_from = [
        figure
        for figure in about
        if figure.folder == tally.folder or not prints.isdisjoint(found[figure.folder].card.inputs.values())
    ]
    return made_from or [figure for figure in about if figure.estimate.about.judge == tally.judge]


def _fits(about: About, tally: OutcomeCounts) -> bool:
    stated = (
        (about.judge, tally.judge),
        (about.dataset, tally.dataset),
        (about.prompt_sha256, tally.prompt_sha256),
    )
    compared = About(policy=tally.a, against=tally.b)
    return about.who_fields == compared.who_fields and all(one in ("", other) for one, other in stated)


def rates(figures: Sequence[Figure], tally: OutcomeCounts, found: Sequence[Folder]) -> list[Figure]:
    """Return the rates to draw under a comparison: by their usual names, else the win rate with the shortest name."""
    about = _of(figures, tally, found)
    usual = [figure for name in _RATES[tally.kind] for figure in about if figure.estimate.name == name]
    if usual or tally.kind != "pairwise":
        return usual
    others = [figure for figure in about if named.WIN_RATE in figure.estimate.name]
    return sorted(others, key=lambda figure: len(figure.estimate.name))[:1]


def position_figures(figures: Sequence[Figure], tally: OutcomeCounts, found: Sequence[Folder]) -> list[Figure]:
    """Return the figures about position that belong to a comparison."""
    return [figure for figure in _of(figures, tally, found) if re.search("position|consisten", figure.estimate.name)]


@dataclass(frozen=True, slots=True)
class Truth:
    """A figure of the known truth, and one that a judge or a learned reward gives for it."""

    truth: Figure
    judged: Figure | None

    @property
    def simulated(self) -> bool:
        """Whether every figure here rests on simulated judges or people."""
        return all(figure is None or figure.estimate.simulated for figure in (self.truth, self.judged))

    @property
    def same_unit(self) -> bool:
        """Whether the two can be subtracted: a learned reward has a unit of its own."""
        return self.judged is not None and not self.judged.estimate.name.startswith(_LEARNED)

    @property
    def difference(self) -> float | None:
        """Judged minus true, where both have a value in the same unit."""
        if self.judged is None or not self.same_unit:
            return None
        if self.judged.estimate.value is None or self.truth.estimate.value is None:
            return None
        return self.judged.estimate.value - self.truth.estimate.value

    @property
    def covered(self) -> bool | None:
        """Whether the judged interval holds the true value; None without an interval in the same unit."""
        true = self.truth.estimate.value
        if self.judged is None or true is None or not self.same_unit:
            return None
        low, high = self.judged.estimate.low, self.judged.estimate.high
        return None if low is None or high is None else low <= true <= high


def truths(figures: Sequence[Figure]) -> list[Truth]:
    """Return every figure whose name starts with "true ", with each figure that claims to be it."""
    paired = []
    for truth in figures:
        if not truth.estimate.name.startswith(_TRUE):
            continue
        rest, about = truth.estimate.name.removeprefix(_TRUE), truth.estimate.about
        judged = [
            figure
            for figure in figures
            if figure.estimate.name in (rest, f"judged {rest}", f"{_LEARNED}{rest}")
            and about.covers(figure.estimate.about)
        ]
        paired += [Truth(truth, figure) for figure in judged] or [Truth(truth, None)]
    return paired


@dataclass(frozen=True, slots=True)
class Agreement:
    """One statistic between people, and the same between people and a judge."""

    statistic: str
    people: Figure | None
    judge: Figure | None

    @property
    def simulated(self) -> bool:
        """Whether every figure here rests on simulated judges or people."""
        return all(figure is None or figure.estimate.simulated for figure in (self.people, self.judge))


def agreements(figures: Sequence[Figure]) -> list[Agreement]:
    """Return the figures named human-human or human-judge, side by side by what is left of their names."""
    people: dict[str, list[Figure]] = {}
    judges: dict[str, list[Figure]] = {}
    for figure in figures:
        name = figure.estimate.name
        if name.endswith(_TWO_BY_TWO):
            continue
        for pattern, table in ((_PEOPLE, people), (_JUDGE, judges)):
            if pattern.search(name):
                statistic = " ".join(pattern.sub(" ", name).split()).strip(" ,:;()") or _LEFT_OUT
                table.setdefault(statistic, []).append(figure)
    rows = []
    for statistic in dict.fromkeys([*people, *judges]):
        between = people.get(statistic, [])
        for judge in judges.get(statistic, []):
            alike = [figure for figure in between if figure.estimate.about == judge.estimate.about]
            only = between if len(between) == 1 else []
            rows.append(Agreement(statistic, next(iter(alike or only), None), judge))
        if statistic not in judges:
            rows += [Agreement(statistic, figure, None) for figure in between]
    return rows
