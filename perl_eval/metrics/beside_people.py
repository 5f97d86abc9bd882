"""A judge's labels beside people's of the same units: how far they agree, and whether it may stand in for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from perl_eval import figure_names as named
from perl_eval.records import About, Estimate
from perl_eval.stats.alttest import AltTestOptions, Person, alternative_annotator_test
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.human_panel import ceiling, human_judge, one_by_one, two_by_two
from perl_eval.stats.intervals import about, p_value

__all__ = ["BesidePeople"]

_SHOWN_PEOPLE = 12
"""With more people than this, they are not compared two by two."""


@dataclass(frozen=True, slots=True)
class BesidePeople:
    """What a judge and people said of the same units.

    Attributes:
        verdicts: The judge's label of each unit.
        ratings: People's labels of each unit, by person.
        groups: What each unit shares a source with.
    """

    verdicts: Sequence[str]
    ratings: Sequence[Mapping[str, str]]
    groups: Sequence[str]

    def agreement(self, labels: Sequence[str], resampling: Resampling, epsilon: float) -> list[Estimate]:
        """Estimate how far the judge agrees with people, what people can reach, and whether it may stand in for one.

        Args:
            labels: All labels that there are.
            resampling: Draws, seed and level.
            epsilon: Margin of the alternative annotator test.
        """
        verdicts, ratings, groups = self.verdicts, self.ratings, self.groups
        tested, people = alternative_annotator_test(
            verdicts, ratings, options=AltTestOptions(epsilon), clusters=groups, resampling=resampling
        )
        return [
            *human_judge(verdicts, ratings, labels, clusters=groups, resampling=resampling),
            *ceiling(verdicts, ratings, clusters=groups, level=resampling.level),
            *tested,
            *(figure for person, test in people.items() for figure in _person(person, test, tested[0].method)),
        ]

    def one_with_one(self, level: float, judge: About) -> list[Estimate]:
        """Estimate how far the judge agrees with each person, and of few people each with each other.

        Args:
            level: Confidence level.
            judge: What the figures are about, without the person.
        """
        found: list[Estimate] = []
        each = one_by_one(self.verdicts, self.ratings, clusters=self.groups, level=level)
        for person, estimate in each.items():
            found += about([estimate], replace(judge, person=person))
        if len(each) <= _SHOWN_PEOPLE:
            for (one, other), estimate in two_by_two(self.ratings, clusters=self.groups, level=level).items():
                found += about([estimate], replace(judge, person=one, other_person=other))
        return found


def _person(name: str, test: Person, method: str) -> list[Estimate]:
    """Return the alternative annotator test against one person."""
    share, n = named.ALT_TEST_ADVANTAGE_ONE_PERSON, test.units
    figures = [
        Estimate(share, test.advantage, None, None, n, 0, method),
        p_value(named.ALT_TEST_P_ONE_PERSON, test.p, n=n, method=method),
        Estimate(
            named.ALT_TEST_BEATEN_ONE_PERSON,
            float(test.beaten),
            None,
            None,
            n,
            0,
            f"{method}, Benjamini-Yekutieli",
        ),
    ]
    return about(figures, About(person=name))
