"""What each judge is worth, in a line: its agreement with people beside theirs, its orders, its missing verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perl_eval import figure_names as named
from perl_eval.metrics.judge_standing import standings
from perl_eval.reporting.counts import OutcomeCounts
from perl_eval.reporting.inputs import Figure

__all__ = ["Worth", "worths"]

_AGREEMENT = (
    (
        "agrees with people on a share of",
        (named.HUMAN_JUDGE_EXACT_AGREEMENT, named.HUMAN_JUDGE_EXACT_AGREEMENT_MAJORITY),
    ),
    ("people agree with each other on", (named.HUMAN_HUMAN_EXACT_AGREEMENT,)),
    ("judge and people beyond chance (kappa)", (named.HUMAN_JUDGE_COHEN_KAPPA, named.HUMAN_JUDGE_COHEN_KAPPA_MAJORITY)),
    ("asked again, it says the same on", (named.SAME_OUTCOME_WHEN_ASKED_AGAIN,)),
    ("attacks change its verdict on", (named.ATTACK_SUCCESS_RATE,)),
)


@dataclass(frozen=True, slots=True)
class Worth:
    """What is known of a judge.

    Attributes:
        judge: Its name.
        simulated: Whether no model is behind it.
        figures: Figures that hold it against people or itself, each with the words before it.
        judged: Judgements that it was asked for.
        unjudged: Those without a verdict.
        ordered: Pairs with a verdict in both orders.
        first: Those of them where it named the answer shown first twice.
        second: Those where it named the second twice.
        standing: Whether it may stand in for a person, in a sentence; "" where that is not known.
    """

    judge: str
    simulated: bool
    figures: tuple[tuple[str, Figure], ...]
    judged: int
    unjudged: int
    ordered: int
    first: int
    second: int
    standing: str = ""

    @property
    def by_people(self) -> bool:
        """Whether it was held against people."""
        return any(words == _AGREEMENT[0][0] for words, _ in self.figures)

    @property
    def follows_position(self) -> bool:
        """Whether the place of an answer turns its verdict far more often one way than chance would."""
        turned = self.first + self.second
        return turned > 0.1 * self.ordered and abs(self.first - self.second) > 3 * turned**0.5


def worths(figures: Sequence[Figure], tallies: Sequence[OutcomeCounts]) -> list[Worth]:
    """Return what is known of each judge that judged, in the order in which they first appear."""
    found = []
    for judge in dict.fromkeys(tally.judge for tally in tallies):
        own = [tally for tally in tallies if tally.judge == judge]
        found.append(
            Worth(
                judge,
                any(tally.simulated for tally in own),
                tuple((words, one) for words, names in _AGREEMENT for one in _first(figures, judge, names)),
                sum(tally.n for tally in own),
                sum(tally.outcomes["unjudged"] for tally in own),
                sum(tally.ordered for tally in own),
                sum(tally.both_first for tally in own),
                sum(tally.both_second for tally in own),
                next(
                    iter(standings([one.estimate for one in figures if one.estimate.about.judge == judge], brief=True)),
                    "",
                ),
            )
        )
    return found


def _first(figures: Sequence[Figure], judge: str, names: Sequence[str]) -> list[Figure]:
    """Return the first figure of one of some names that is of the judge as a whole; of later runs, the last."""
    for name in names:
        own = [
            one
            for one in figures
            if one.estimate.name == name
            and one.estimate.about.judge == judge
            and not (one.estimate.about.person or one.estimate.about.policy or one.estimate.about.slice)
            and one.estimate.value is not None
        ]
        if own:
            return own[-1:]
    return []
