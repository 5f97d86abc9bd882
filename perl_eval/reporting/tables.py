"""Tables that set figures of one subject side by side: leaderboard, length, corrected rates, tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from perl_eval import figure_names as named
from perl_eval.figure_names import BEST_OF_LINE, TARGET_LINE
from perl_eval.records import About
from perl_eval.reporting.inputs import Figure

__all__ = ["Board", "Matrix", "TableRow", "boards", "matrices"]

_LEADERS = (
    *(
        named.STRENGTH,
        named.WIN_RATE_UNDECIDED_HALF,
        named.WIN_RATE,
        named.WIN_RATE_AT_EQUAL_LENGTH,
        named.YES_RATE,
        named.NO_RATE,
    ),
    *(
        named.MEAN_SCORE,
        named.VQA_ACCURACY,
        named.ACTION_STEP_MATCH,
        named.TRUE_REWARD,
        "learned reward",
        "reward",
        named.KL_TO_PRIOR,
    ),
    *(named.SELF_BLEU, named.ENTROPY),
)
_LENGTH = (
    named.LONGER_PREFERRED_RATE,
    named.WIN_RATE_AT_EQUAL_LENGTH,
    named.WIN_RATE_ALPACAEVAL_LENGTH_CONTROL,
)
_TASKS = (
    named.VQA_ACCURACY,
    named.VQA_ACCURACY_DIFFERENCE,
    named.ACTION_STEP_MATCH,
    named.ACTION_STEP_MATCH_DIFFERENCE,
)
_REWARDS = (
    *(
        named.PAIR_ACCURACY,
        named.ACCURACY,
        named.MAJORITY_SHARE,
        named.BALANCED_ACCURACY,
        named.AUC,
        named.CALIBRATION_ERROR,
        named.BRIER_SCORE,
    ),
    named.WITHIN_CONTEXT_PAIR_ACCURACY,
)
_CORRECTED = (", corrected by PPI++", ", corrected by Rogan-Gladen")
_ONE_PERSON = named.HUMAN_JUDGE_EXACT_AGREEMENT_ONE_PERSON
_TWO_PEOPLE = named.HUMAN_HUMAN_EXACT_AGREEMENT_TWO_PEOPLE
_LINES = (TARGET_LINE, BEST_OF_LINE)
"""Slices that are points of a line, not policies."""
_CEILING = named.HUMAN_CEILING


@dataclass(frozen=True, slots=True)
class TableRow:
    """One line of a board: what it is about, in one or two parts, and a figure or None for each column."""

    about: tuple[str, ...]
    figures: tuple[Figure | None, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """A table of figures.

    Attributes:
        id: Names it within the page.
        title: Its heading.
        note: How to read it.
        columns: Headings of the columns of figures.
        rows: Its lines.
    """

    id: str
    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]

    @property
    def simulated(self) -> bool:
        """Whether every figure here rests on simulated judges or people."""
        return all(figure is None or figure.estimate.simulated for row in self.rows for figure in row.figures)


@dataclass(frozen=True, slots=True)
class Matrix:
    """Exact agreement of a judge and people two by two.

    Attributes:
        subject: The judge.
        people: Names of the columns.
        rows: The judge, then the people, each with a figure or None for each of the people.
        ceiling: How often a person says what most of the others say, on the units that the judge was held against.
    """

    subject: str
    people: tuple[str, ...]
    rows: tuple[TableRow, ...]
    ceiling: tuple[Figure, ...]


def boards(figures: Sequence[Figure]) -> list[Board]:
    """Return the tables for which there are figures."""
    made = [
        _leaderboard(figures),
        _board("length", "Length", _LENGTH_NOTE, _pivot(figures, (named.WIN_RATE, *_LENGTH), need=_LENGTH)),
        _corrected(figures),
        _board("tasks", "Tasks", _TASKS_NOTE, _pivot(figures, _TASKS)),
        _board("rewards", "Reward models", _REWARDS_NOTE, _pivot(figures, _REWARDS)),
    ]
    return [board for board in made if board is not None]


_LEADERS_NOTE = (
    "Policies by their first figure here, best first. Figures of one judge stand beside those of the same judge only; "
    "a policy's place is worth no more than its interval."
)
_LENGTH_NOTE = (
    "A judge that likes long answers gives their policy wins. Beside the plain rate: how often the longer answer won, "
    "and the rate had both been equally long."
)
_CORRECTED_NOTE = (
    "What the judge says of all units, and the same once its errors are undone by the labels of a part. The corrected "
    "rate is the one to report."
)
_TASKS_NOTE = "Scored by rule, without a judge. Differences are of two policies on the same items."
_REWARDS_NOTE = "Accuracy says little where one label is common: hold it against the majority share."

_Line = tuple[About, tuple[Figure | None, ...]]
_Pivot = tuple[tuple[str, ...], list[_Line]]


def _row(line: _Line) -> TableRow:
    """Return a line with whose figures they are set apart from the rest: against whom, by which judge, on what."""
    about, figures = line
    own = _own(about)
    if own == about:
        return TableRow((about.sentence, ""), figures)
    rest = replace(about, scope="", label="", metric="", policy="", minus="")
    return TableRow((own.who, rest.sentence), figures)


def _own(about: About) -> About:
    """Return whose figure it is, where somebody judged it or it was held against something; else all of it."""
    if about.who and (about.against or about.truth or about.judge):
        return About(scope=about.scope, label=about.label, metric=about.metric, policy=about.policy, minus=about.minus)
    return about


def _pivot(figures: Iterable[Figure], names: Sequence[str], *, need: Sequence[str] = ()) -> _Pivot:
    """Return a line for what has a needed figure, and the columns of which some line has a figure.

    Of figures of one name about the same, from several runs, each gets a line.
    """
    lines: list[tuple[About, dict[str, Figure]]] = []
    for figure in figures:
        estimate = figure.estimate
        if estimate.name not in names:
            continue
        free = (line for about, line in lines if about == estimate.about and estimate.name not in line)
        line = next(free, None)
        if line is None:
            lines.append((estimate.about, {estimate.name: figure}))
        else:
            line[estimate.name] = figure
    kept = [(about, line) for about, line in lines if any(name in line for name in need or names)]
    columns = tuple(name for name in names if any(name in line for _, line in kept))
    return columns, [(about, tuple(line.get(name) for name in columns)) for about, line in kept]


def _board(id: str, title: str, note: str, pivot: _Pivot) -> Board | None:
    columns, lines = pivot
    return Board(id, title, note, columns, tuple(map(_row, lines))) if lines else None


def _leaderboard(figures: Sequence[Figure]) -> Board | None:
    """Rank policies by the first figure that each has; only where there are two policies or more.

    Figures of older files do not say in fields whose they are, and take no part.
    """
    ranked = [one for one in figures if one.estimate.about.slice not in _LINES and not one.estimate.about.text]
    columns, lines = _pivot(ranked, _LEADERS)
    if len({_own(about) for about, _ in lines}) < 2:
        return None
    # What is known of a policy whoever judges it stands in the lines of its judges too.
    judged = {_own(about) for about, _ in lines if _own(about) != about}
    own = {about: line for about, line in reversed(lines) if _own(about) == about}
    rows: list[_Line] = []
    for about, line in lines:
        policy = _own(about)
        if policy != about and policy in own:
            rows.append((about, tuple(one or other for one, other in zip(line, own[policy], strict=True))))
        elif policy != about or policy not in judged or own[policy] is not line:
            rows.append((about, line))

    def place(row: _Line) -> tuple[float, ...]:
        # Figures of different names do not compare: what has the more telling one comes first.
        for column, figure in enumerate(row[1]):
            if figure is not None and figure.estimate.value is not None:
                return column, -figure.estimate.value
        return len(columns), 0.0

    return _board("leaderboard", "Leaderboard", _LEADERS_NOTE, (columns, sorted(rows, key=place)))


def _corrected(figures: Sequence[Figure]) -> Board | None:
    """Set each rate beside its corrections, of the same comparison by the same judge."""
    plain: dict[tuple[About, str], Figure] = {}
    for figure in figures:
        plain.setdefault((figure.estimate.about, figure.estimate.name), figure)
    lines: dict[tuple[About, str], list[Figure | None]] = {}
    for figure in figures:
        for column, ending in enumerate(_CORRECTED):
            if figure.estimate.name.endswith(ending):
                key = (figure.estimate.about, figure.estimate.name.removesuffix(ending))
                lines.setdefault(key, [plain.get(key), None, None])[column + 1] = figure
    rows = [TableRow((name, about.sentence), tuple(line)) for (about, name), line in lines.items()]
    columns = ("as judged", "corrected by PPI++", "corrected by Rogan-Gladen")
    return Board("corrected", "Corrected rates", _CORRECTED_NOTE, columns, tuple(rows)) if rows else None


def matrices(figures: Sequence[Figure]) -> list[Matrix]:
    """Return the agreement of each judge and the people it was held against, two by two."""
    cells: dict[tuple[int, About], dict[tuple[str | None, str | None], Figure]] = {}
    for figure in figures:
        about = figure.estimate.about
        if about.person and figure.estimate.name in (_ONE_PERSON, _TWO_PEOPLE):
            judge = replace(about, person="", other_person="")
            pair = (about.person, about.other_person) if about.other_person else (None, about.person)
            cells.setdefault((figure.folder, judge), {})[pair] = figure
    found = []
    for (folder, judge), own in cells.items():
        both = own | {pair[::-1]: figure for pair, figure in own.items()}
        people = tuple(sorted({person for pair in own for person in pair if person is not None}))
        rows = [
            TableRow((person or judge.sentence,), tuple(both.get((person, other)) for other in people))
            for person in (None, *people)
        ]
        ceiling = (one for one in figures if one.folder == folder and one.estimate.about == judge)
        found.append(
            Matrix(
                judge.sentence,
                people,
                tuple(row for row in rows if any(row.figures)),
                tuple(one for one in ceiling if one.estimate.name == _CEILING),
            )
        )
    return found
