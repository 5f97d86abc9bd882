"""What to know before a figure of a page is believed; each caution with the section where it can be seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perl_eval import figure_names as named
from perl_eval.outcomes import is_vote, worth
from perl_eval.records import About, Estimate
from perl_eval.reporting.counts import OutcomeCounts
from perl_eval.reporting.decision_lines import TwoPolicies
from perl_eval.reporting.format import count, number
from perl_eval.reporting.inputs import Figure
from perl_eval.reporting.judge_worth import Worth

__all__ = ["Caution", "cautions"]

_MANY_UNJUDGED = 0.02
_ALL_OF_IT = 0.9
_SHOWN = 4
_NOTHING_BUT_LENGTH = 0.9
"""A judge that surely prefers the longer answer more often than this may see nothing else."""


@dataclass(frozen=True, slots=True)
class Caution:
    """A sentence, and the id of the section in which its figures stand."""

    sentence: str
    where: str


def cautions(
    figures: Sequence[Figure],
    tallies: Sequence[OutcomeCounts],
    comparisons: Sequence[TwoPolicies],
    judges: Sequence[Worth],
    complaints: Sequence[str],
) -> list[Caution]:
    """Return what to know first, the gravest first.

    Args:
        figures: The figures.
        tallies: Judgements by comparison.
        comparisons: What is decided.
        judges: What each judge is worth.
        complaints: Why something could not be decided.
    """
    return [
        *(Caution(f"Not decided: {line}.", "decision") for line in complaints),
        *_contradictions(comparisons),
        *_judges(figures, judges),
        *_unjudged(tallies),
        *_length(figures),
        *_wide(figures),
    ]


def _contradictions(comparisons: Sequence[TwoPolicies]) -> Iterator[Caution]:
    for one in comparisons:
        if one.disagree:
            yield Caution(f"Judges contradict each other about {one.one} and {one.other}.", "decision")
        elif one.apart:
            between = f"{one.one} and {one.other}, corrected by labels, do not overlap between judges"
            yield Caution(f"The intervals of {between}, so one of them is wrong.", "decision")


def _judges(figures: Sequence[Figure], judges: Sequence[Worth]) -> Iterator[Caution]:
    below = {
        one.estimate.about.judge: one.estimate
        for one in figures
        if one.estimate.name == named.JUDGE_MINUS_HUMAN_CEILING and (one.estimate.high or 0.0) < 0
    }
    for judge in judges:
        if judge.judge in below:
            gap = _told(below[judge.judge])
            yield Caution(f"Judge {judge.judge} agrees with people less than they do with each other: {gap}.", "rest")
        if judge.follows_position:
            counts = f"first on {count(judge.first)}, the one shown second on {count(judge.second)}"
            of = f"of {count(judge.ordered)} pairs shown in both orders it named twice the answer shown {counts}"
            yield Caution(f"Judge {judge.judge} follows the order of the answers: {of}.", "comparisons")


def _unjudged(tallies: Sequence[OutcomeCounts]) -> Iterator[Caution]:
    for tally in tallies:
        missing = tally.outcomes["unjudged"]
        if missing < max(1, _MANY_UNJUDGED * tally.n):
            continue
        won = sum(worth(outcome) * n for outcome, n in tally.outcomes.items() if is_vote(outcome)) / tally.n
        bounds = f"between {number(won)} and {number(won + missing / tally.n)}"
        rate = "rate of yes" if tally.kind == "yes_no" else "win rate, undecided half,"
        known = f"; had all a verdict, the {rate} would lie {bounds}" if tally.kind != "score" else ""
        of = f"{count(missing)} of {count(tally.n)} judgements of {tally.pair} by {tally.judge} have no verdict"
        yield Caution(f"{of}{known}.", "comparisons")


def _length(figures: Sequence[Figure]) -> Iterator[Caution]:
    """Warn where the longer answers make the winner."""
    rates: dict[About, dict[str, float]] = {}
    for figure in figures:
        estimate = figure.estimate
        if estimate.name == named.LONGER_PREFERRED_RATE and (estimate.low or 0.0) > _NOTHING_BUT_LENGTH:
            share = f"{number(estimate.value or 0.0)} of {estimate.n:,} pairs that it decided"
            yield Caution(f"The longer answer won {share}, {estimate.about.sentence}.", "rest")
        if estimate.value is not None:
            rates.setdefault(estimate.about, {})[estimate.name] = estimate.value
    for about, own in rates.items():
        plain, level = own.get(named.WIN_RATE_UNDECIDED_HALF), own.get(named.WIN_RATE_AT_EQUAL_LENGTH)
        if plain is not None and level is not None and (plain - 0.5) * (level - 0.5) < 0:
            turned = f"{number(plain)} becomes {number(level)} at equal length"
            yield Caution(f"Length turns the winner of {about.sentence}: its win rate of {turned}.", "rest")


def _wide(figures: Sequence[Figure]) -> Iterator[Caution]:
    """Warn of shares whose interval leaves nothing out, as those that separated data give."""
    wide = [one.estimate for one in figures if _says_nothing(one.estimate)]
    for estimate in wide[:_SHOWN]:
        yield Caution(f"{estimate.name} of {estimate.subject} is hardly known: {_told(estimate)}.", "figures")
    if len(wide) > _SHOWN:
        yield Caution(f"{len(wide) - _SHOWN} more figures have intervals that leave nothing out.", "figures")


def _says_nothing(estimate: Estimate) -> bool:
    low, high = estimate.low, estimate.high
    share = low is not None and high is not None and 0 <= low <= high <= 1
    return share and estimate.kind == "value" and (high or 0.0) - (low or 0.0) >= _ALL_OF_IT and estimate.n > 0


def _told(estimate: Estimate) -> str:
    values = [number(value) for value in (estimate.value, estimate.low, estimate.high) if value is not None]
    return f"{values[0]} ({values[1]} to {values[2]})" if len(values) == 3 else values[0]
