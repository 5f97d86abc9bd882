"""The alternative annotator test: may a judge stand in for a person?

As published it asks whether the judge agrees with people about as well as they do with each other. Where one label is
rare, or people hardly agree, a judge that knows nothing does too: so the same is asked of a judge that always says the
commonest label and of one that draws labels by their shares, and a judge passes only where neither does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from perl_eval import figure_names as named
from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import Clusters, Codes, Resampling, cluster_codes
from perl_eval.stats.clustered_error import clustered_error
from perl_eval.stats.intervals import mean, undefined
from perl_eval.stats.kappa import Ratings

__all__ = ["PASS", "AltTestOptions", "Compared", "Person", "alternative_annotator_test", "share_beaten"]

FloatArray = NDArray[np.float64]
_SIZE_OF_T = 30
"""Units below which the test is by ranks."""
_REFERENCE_DRAWS = 9
"""Judges that draw labels by their shares; what most of them get counts."""
_CLASS = 10
"""Units of each label that the balanced test needs."""


@dataclass(frozen=True, slots=True)
class AltTestOptions:
    """What the test asks for.

    Attributes:
        epsilon: What a judge is allowed to fall short of a person for being cheaper: 0.2 beside experts, 0.15 beside
            skilled, 0.1 beside crowd workers.
        false_discoveries: Rate of false discoveries over the persons tested.
        least_units: Units a person must share with others to be tested.
    """

    epsilon: float = 0.15
    false_discoveries: float = 0.05
    least_units: int = 30


@dataclass(frozen=True, slots=True)
class Person:
    """The test against one person.

    Attributes:
        units: Units compared.
        advantage: Share of units on which the judge agrees with the others at least as well as this person, in [0, 1].
        p: p-value that the judge does not beat this person by the margin; small is good.
        beaten: Whether it does, after correction for testing several persons.
    """

    units: int
    advantage: float
    p: float
    beaten: bool


def alternative_annotator_test(
    verdicts: Sequence[str],
    ratings: Ratings,
    *,
    options: AltTestOptions | None = None,
    clusters: Clusters = None,
    resampling: Resampling | None = None,
) -> tuple[list[Estimate], dict[str, Person]]:
    """Test whether the judge agrees with a panel about as well as its members do.

    Each person j is left out in turn. On each unit of j with others, ``W_f`` says that the judge agrees with at least
    as many of the others as j does, ``W_h`` that j agrees with at least as many as the judge. j is beaten if ``mean(W_h
    - W_f) < epsilon`` by a one-sided t test (Wilcoxon's below 30 units; over groups, by `clustered_error`, where they
    repeat), p-values corrected after Benjamini and Yekutieli. Where j never does better than the judge, p is at least
    ``(1 - epsilon)^n``, the chance of that were j better in a share epsilon of units. The judge passes at a winning
    rate of one half.

    Args:
        verdicts: The judge's label of each unit.
        ratings: Labels by person, one mapping a unit.
        options: Margin, false discovery rate and least units.
        clusters: What shares a source, one a unit.
        resampling: Level, and the seed of the judges that draw labels.

    Returns:
        ``alt-test winning rate`` (share of persons beaten), ``alt-test advantage`` (mean over persons); both with each
        label counting alike, whatever its share (balanced: units weigh by the inverse of how often the label that most
        people gave them occurs); the winning rates of a judge that always says the commonest label and of one that
        draws by their shares (median of nine); whether the judge passes, which is unknown where either of these does;
        and each person's test.

    Source: Calderon, Reichart and Dror, arXiv 2501.10970; weights for imbalanced labels as in its appendix.
    Deviations: Groups; the least p; the judges that know nothing. Published code takes p as 0 where nothing varies.
    """
    asked, how = options or AltTestOptions(), resampling or Resampling()
    panel = _Panel.of(verdicts, ratings, clusters, asked.least_units)
    missing, method = len(verdicts) - panel.units, f"alternative annotator test, epsilon {asked.epsilon:g}"
    if not panel.people:
        reason = f"no person shares {asked.least_units} units with others"
        return [undefined(name, reason, n=panel.units, n_missing=missing, method=method) for name in _NAMES], {}
    people = panel.tested(panel.verdicts, asked)
    tested = f"{method}, {len(people)} {'person' if len(people) == 1 else 'people'}"

    def rate(name: str, value: float) -> Estimate:
        return Estimate(name, value, None, None, panel.units, missing, tested)

    beaten, constant = share_beaten(people), share_beaten(panel.tested(panel.commonest(), asked))
    rng = np.random.default_rng(how.seed)
    drawn = float(np.median([share_beaten(panel.tested(panel.drawn(rng), asked)) for _ in range(_REFERENCE_DRAWS)]))
    figures = [
        rate(named.ALT_TEST_WINNING_RATE, beaten),
        replace(panel.advantage(how.level), n_missing=missing),
        *(replace(one, n_missing=missing) for one in panel.balanced(asked, tested)),
        rate(named.ALT_TEST_WINNING_RATE_CONSTANT, constant),
        rate(named.ALT_TEST_WINNING_RATE_BASE_RATES, drawn),
    ]
    idle = [
        what
        for what, share in (
            (f"a judge that always says {panel.label_of_commonest!r}", constant),
            ("a judge that draws labels by their shares", drawn),
        )
        if share >= PASS
    ]
    passes = rate(named.ALT_TEST_PASSES, float(beaten >= PASS))
    if idle and beaten >= PASS:
        passes = replace(passes, value=None, reason=f"{' and '.join(idle)} would pass too")
    return [*figures, passes], people


PASS = 0.5
"""The winning rate from which a judge passes."""
_NAMES = (
    named.ALT_TEST_WINNING_RATE,
    named.ALT_TEST_ADVANTAGE,
    named.ALT_TEST_WINNING_RATE_BALANCED,
    named.ALT_TEST_ADVANTAGE_BALANCED,
    named.ALT_TEST_WINNING_RATE_CONSTANT,
    named.ALT_TEST_WINNING_RATE_BASE_RATES,
    named.ALT_TEST_PASSES,
)


def share_beaten(people: dict[str, Person]) -> float:
    """Return the share of people that are beaten."""
    return sum(person.beaten for person in people.values()) / len(people)


@dataclass(frozen=True, slots=True)
class Compared:
    """A judge held against each person on the labels or scores of the others, one entry a label or score.

    Attributes:
        ahead: Whether the judge does at least as well as the person, shape (entries,).
        gaps: ``W_h - W_f``: 1 where the person does better, -1 where the judge does, 0 where they do alike.
        rows: Unit of each entry.
        persons: Person of each entry, code.
        groups: Group of each unit, code, shape (all units,).
        people: Names and codes of those with enough units.
    """

    ahead: FloatArray
    gaps: FloatArray
    rows: Codes
    persons: Codes
    groups: Codes
    people: dict[str, int]

    def tested(self, asked: AltTestOptions) -> dict[str, Person]:
        """Return each person's test."""
        from scipy.stats import false_discovery_control

        of = {name: np.flatnonzero(self.persons == code) for name, code in self.people.items()}
        p = {name: _p_value(self.gaps[own], self.groups[self.rows[own]], asked.epsilon) for name, own in of.items()}
        corrected = false_discovery_control(list(p.values()), method="by")
        return {
            name: Person(len(own), float(self.ahead[own].mean()), p[name], bool(q <= asked.false_discoveries))
            for (name, own), q in zip(of.items(), corrected, strict=True)
        }

    def advantage(self, level: float) -> Estimate:
        """Return the mean over persons of the judge's advantage, with an interval over units."""
        each = np.bincount(self.persons, minlength=int(self.persons.max()) + 1)
        kept = np.isin(self.persons, list(self.people.values()))
        rows, owners = np.unique(self.rows[kept], return_inverse=True)
        # A unit adds what its persons do to the mean over persons, so that the mean over units is it.
        parts = self.ahead[kept] * len(rows) / len(self.people) / each[self.persons[kept]]
        values = np.round(np.bincount(owners, weights=parts), 12)  # a third three times is one
        found = mean(
            named.ALT_TEST_ADVANTAGE,
            values,
            clusters=self.groups[rows],
            bounds=(0.0, max(1.0, values.max())),
            level=level,
        )
        return replace(found, high=None if found.high is None else min(1.0, found.high))


@dataclass(frozen=True, slots=True)
class _Panel:
    """Labels of units that have two or more, one entry a label, and the judge's.

    Attributes:
        verdicts: The judge's label of each unit, code, shape (all units,).
        rows: Unit of each entry.
        persons: Person of each entry, code.
        labels: Label of each entry, code.
        counts: How often each unit has each label, shape (all units, labels).
        groups: Group of each unit, code.
        people: Names and codes of those with enough units.
        names: The labels.
        units: How many units have two labels or more.
    """

    verdicts: Codes
    rows: Codes
    persons: Codes
    labels: Codes
    counts: FloatArray
    groups: Codes
    people: dict[str, int]
    names: list[str]
    units: int

    @classmethod
    def of(cls, verdicts: Sequence[str], ratings: Ratings, clusters: Clusters, least_units: int) -> _Panel:
        """Read a panel."""
        live = [(row, unit) for row, unit in enumerate(ratings) if len(unit) > 1]
        names = sorted({*verdicts, *(label for _, unit in live for label in unit.values())})
        people = sorted({person for _, unit in live for person in unit})
        label_codes = {name: code for code, name in enumerate(names)}
        person_codes = {name: code for code, name in enumerate(people)}
        entries = [
            (row, person_codes[person], label_codes[label]) for row, unit in live for person, label in unit.items()
        ]
        rows, persons, labels = np.array(entries, np.intp).reshape(-1, 3).T
        counts = np.zeros((len(verdicts), len(names)))
        np.add.at(counts, (rows, labels), 1.0)
        shared = np.bincount(persons, minlength=len(people))
        return cls(
            np.array([label_codes[verdict] for verdict in verdicts], np.intp),
            rows,
            persons,
            labels,
            counts,
            cluster_codes(range(len(verdicts)) if clusters is None else clusters)[0],
            {name: code for name, code in person_codes.items() if shared[code] >= least_units},
            names,
            len(live),
        )

    @property
    def label_of_commonest(self) -> str:
        """The label that people give most often."""
        return self.names[int(self.counts.sum(axis=0).argmax())]

    def commonest(self) -> Codes:
        """Return the verdicts of a judge that always says the commonest label."""
        return np.full_like(self.verdicts, self.counts.sum(axis=0).argmax())

    def drawn(self, rng: np.random.Generator) -> Codes:
        """Return the verdicts of a judge that draws labels by their shares among people's."""
        shares = self.counts.sum(axis=0) / self.counts.sum()
        return rng.choice(len(self.names), len(self.verdicts), p=shares).astype(np.intp)

    def gaps(self, verdicts: Codes) -> tuple[FloatArray, FloatArray]:
        """Return for each entry whether the judge does at least as well as the person, and ``W_h - W_f``."""
        said = verdicts[self.rows]
        with_judge = self.counts[self.rows, said] - (said == self.labels)
        with_person = self.counts[self.rows, self.labels] - 1
        ahead = (with_judge >= with_person).astype(np.float64)
        return ahead, (with_person >= with_judge) - ahead

    def tested(self, verdicts: Codes, asked: AltTestOptions) -> dict[str, Person]:
        """Return each person's test against a judge."""
        ahead, gaps = self.gaps(verdicts)
        return Compared(ahead, gaps, self.rows, self.persons, self.groups, self.people).tested(asked)

    def advantage(self, level: float) -> Estimate:
        """Return the mean over persons of the judge's advantage, with an interval over units."""
        compared = Compared(*self.gaps(self.verdicts), self.rows, self.persons, self.groups, self.people)
        return replace(compared.advantage(level), n=self.units)

    def balanced(self, asked: AltTestOptions, method: str) -> list[Estimate]:
        """Return winning rate and advantage with each label that people give counting alike."""
        names = (named.ALT_TEST_WINNING_RATE_BALANCED, named.ALT_TEST_ADVANTAGE_BALANCED)
        kinds = self.counts.argmax(axis=1)[self.rows]
        found, ahead_of = [], []
        ahead, gaps = self.gaps(self.verdicts)
        for code in self.people.values():
            own = self.persons == code
            there, sizes = np.unique(kinds[own], return_counts=True)
            if sizes.min() < _CLASS:
                reason = f"fewer than {_CLASS} units are {self.names[there[sizes.argmin()]]!r} to most people"
                return [undefined(name, reason, n=self.units, method=method) for name in names]
            parts = [(gaps[own & (kinds == kind)], ahead[own & (kinds == kind)]) for kind in there.tolist()]
            found.append(_balanced_p([part for part, _ in parts], asked.epsilon))
            ahead_of.append(np.mean([part.mean() for _, part in parts]))
        from scipy.stats import false_discovery_control

        beaten = float(np.mean(false_discovery_control(found, method="by") <= asked.false_discoveries))
        values = (beaten, float(np.mean(ahead_of)))
        words = f"{method}, labels balanced"
        return [
            Estimate(name, value, None, None, self.units, 0, words) for name, value in zip(names, values, strict=True)
        ]


def _p_value(gaps: FloatArray, groups: Codes, epsilon: float) -> float:
    """Test ``mean(gaps) < epsilon``, one-sided."""
    codes, number = cluster_codes(groups)
    least = (1 - epsilon) ** number if (gaps <= 0).all() else 0.0
    if np.ptp(gaps) == 0:
        return least if gaps[0] < epsilon else 1.0
    from scipy.special import stdtr
    from scipy.stats import ttest_1samp, wilcoxon

    if number < len(gaps):
        if number < 2:
            return 1.0
        found = clustered_error(gaps, codes)
        p = float(stdtr(found.degrees, (gaps.mean() - epsilon) / found.error)) if found.error > 0 else least
    elif len(gaps) < _SIZE_OF_T:
        p = float(wilcoxon(gaps - epsilon, alternative="less", method="approx").pvalue)
    else:
        p = float(ttest_1samp(gaps, epsilon, alternative="less").pvalue)
    return max(p, least)


def _balanced_p(parts: Sequence[FloatArray], epsilon: float) -> float:
    """Test that the mean over labels of the mean gap is below epsilon, one-sided; a pseudo-gap of 1 in each label."""
    from scipy.special import stdtr

    sizes = np.array([len(part) for part in parts])
    variances = np.array([((part - part.mean()) ** 2).sum() + 1 for part in parts]) / (sizes * (sizes - 1))
    error = float(np.sqrt(variances.sum())) / len(parts)
    degrees = float(variances.sum() ** 2 / (variances**2 / (sizes - 1)).sum())
    return float(stdtr(degrees, (np.mean([part.mean() for part in parts]) - epsilon) / error))
