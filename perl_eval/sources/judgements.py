"""Judgements from tables: one judged unit a row, with its outcome, its one verdict, or the verdicts of both orders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from perl_eval.errors import DataError, OptionError
from perl_eval.outcomes import decide, of_verdict
from perl_eval.records import OUTCOMES, Ballot, Judgement, Message, Order, Verdict, digest
from perl_eval.sources.containers import Brought, opened
from perl_eval.sources.label_rows import TIES, LabelColumns, not_given
from perl_eval.sources.reading import Import

__all__ = ["OUTCOME_FIELDS", "has_verdicts", "read_outcomes", "read_table"]

OUTCOME_FIELDS: Mapping[str, tuple[str, ...]] = {
    "outcome": ("outcome",),
    "verdict": ("verdict", "winner"),
    "verdict_ab": ("verdict_ab",),
    "verdict_ba": ("verdict_ba",),
    "item": ("item", "question_id", "prompt_id", "uid"),
    "group": ("group",),
    "policy_a": ("policy_a", "model_a", "model_1"),
    "policy_b": ("policy_b", "model_b", "model_2"),
    "judge": ("judge",),
    "dataset": ("dataset",),
    "text_a": ("text_a", "answer_a", "response_a"),
    "text_b": ("text_b", "answer_b", "response_b"),
    "prompt": ("prompt", "instruction", "question"),
    "p_a": ("p_a",),
    "a": ("a",),
    "b": ("b",),
}
"""What a table of judgements has, and the names under which it keeps it; the first that is there is taken."""
_ORDERS: Mapping[str, Order] = {"verdict_ab": "ab", "verdict_ba": "ba"}
_SAID = ("outcome", "verdict", *_ORDERS)
_OUTCOME_OF = {"a": "win", "b": "loss"}
_WINNER_OF = {"win": "a", "loss": "b"}
_CONTESTANTS = {
    **{"a": "a", "model_a": "a", "model_1": "a", "policy_a": "a"},
    **{"b": "b", "model_b": "b", "model_2": "b", "policy_b": "b"},
    **dict.fromkeys(TIES, "tie"),
}
_MOST_BY_CHANCE = 0.001
"""Two orders that contradict each other with a smaller chance than this were written as positions."""


def read_outcomes(source: Any, columns: LabelColumns | Mapping[str, str] | None = None) -> list[Judgement]:
    """Read judgements from a table with one judged unit a row.

    What was said stands in one of these columns:

    - ``outcome``: win, loss, split, tie, mixed or unjudged of contestant a; or yes, no.
    - ``verdict``: who won, where each pair was asked once: ``a``, ``b``, ``tie`` (or draw, equal, same and the like) or
      a policy's name; or yes, no. Nothing is known of the other order then, so position and consistency have no
      figures.
    - ``verdict_ab`` and ``verdict_ba``: who won with a shown first, and with b shown first; ``a``, ``b``, ``tie`` or a
      policy's name say who, ``first`` and ``second`` where. One of the two may be missing.

    An empty cell is not a verdict. Read where present: ``item``, ``group``, ``policy_a``, ``policy_b``, ``judge``,
    ``dataset``, ``text_a``, ``text_b``, ``prompt``, ``p_a``, and the completions' ids ``a``, ``b``.

    Args:
        source: A file of rows, or rows in memory.
        columns: The names that the table uses, by these.

    Raises:
        OptionError: No such table has a column of that name.
        DataError: A column is missing, a cell means nothing, or verdicts are positions under the names of contestants.
    """
    given = columns.given() if isinstance(columns, LabelColumns) else dict(columns or {})
    return list(read_table(opened(source), Import(given)))


def has_verdicts(found: Brought) -> bool:
    """Return whether rows have an outcome or verdicts, as a table of judgements has."""
    return any(name in cells for cells in found.head for name in _SAID)


def read_table(found: Brought, reading: Import) -> Iterator[Judgement]:
    """Yield the judgements of a table; see `read_outcomes`."""
    rows = list(found.rows())
    make = _Maker(found.name, rows, reading)
    _refuse_positions(make, rows, found.name)
    single = _is_of_single_answers([make.said(cells) for cells in rows])
    for row, cells in enumerate(rows):
        try:
            made = make(row, cells, single=single)
        except _NoMeaningError as error:
            field = make.column(error.field)
            raise DataError(str(error), file=found.name, row=row, field=field, fix=error.fix) from None
        make.refuse_again(row, made)
        yield made


class _NoMeaningError(Exception):
    """A cell means nothing."""

    def __init__(self, field: str, what: str, fix: str = "say what it means with --means, or correct it") -> None:
        super().__init__(what)
        self.field, self.fix = field, fix


def _is_of_single_answers(said: Sequence[str]) -> bool:
    """Return whether all that was judged got yes or no, so that the unjudged rows are of single answers too."""
    judged = set(said) - {"unjudged", ""}
    return bool(judged) and judged <= {"yes", "no"}


@dataclass
class _Row:
    """The cells of one row by what they are, as texts; empty where they are not there."""

    cells: Mapping[str, str]

    def __getitem__(self, field: str) -> str:
        return self.cells.get(field, "")


class _Maker:
    """Makes judgements of rows."""

    def __init__(self, file: str, rows: Sequence[Mapping[str, Any]], reading: Import) -> None:
        for name in reading.columns:
            if name not in OUTCOME_FIELDS:
                what = f"{name!r}, which no table of judgements has"
                raise OptionError("column", what, f"choose from {', '.join(OUTCOME_FIELDS)}")
        self._file, self._reading = file, reading
        present = dict.fromkeys(name for cells in rows for name in cells)
        self._names: dict[str, str] = {}
        for field, names in OUTCOME_FIELDS.items():
            asked = reading.columns.get(field)
            if asked is not None and asked not in present:
                what = f"no such column; present are {', '.join(map(str, present))}"
                raise DataError(what, file=file, field=asked, fix=f"name the column of {field}")
            there = asked or next((name for name in names if name in present), None)
            if there is not None:
                self._names[field] = there
        self.orders = [field for field in _ORDERS if field in self._names]
        more = bool(self.orders) or "outcome" in self._names
        if more and self._names.get("verdict") == "winner" != reading.columns.get("verdict"):
            del self._names["verdict"]
        if not any(field in self._names for field in _SAID):
            what = f"no such column; present are {', '.join(map(str, present))}"
            fix = "name the column that holds it: outcome, verdict, or verdict_ab and verdict_ba"
            raise DataError(what, file=file, field="verdict_ab", fix=fix)
        if "verdict" in self._names and self.orders:
            what = f"is given together with {self.orders[0]}"
            raise DataError(what, file=file, field="verdict", fix="keep one of them")
        self._seen: Counter[tuple[str, ...]] = Counter()
        self._met: dict[tuple[str, str, str], int] = {}
        self._use_one_of_outcome_and_verdict(rows)

    def _use_one_of_outcome_and_verdict(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Read the outcome where any row has one, and the verdict else; refuse rows that have only the other.

        Raises:
            DataError: A row has a verdict where the others have outcomes, or a table lacks what it says in a row.
        """
        names = [(field, self._names[field]) for field in _SAID if field in self._names]
        filled = {field for field, name in names for cells in rows if not not_given(cells.get(name), {})}
        if "outcome" in self._names and filled and "outcome" not in filled:
            del self._names["outcome"]
        used = ["outcome"] if "outcome" in self._names else [field for field, _ in names if field != "outcome"]
        for row, cells in enumerate(rows):
            if any(not not_given(cells.get(self._names[field]), {}) for field in used):
                continue
            other = next(
                (name for field, name in names if field not in used and not not_given(cells.get(name), {})), ""
            )
            if other:
                what = f"has {other} and no {used[0]}, which other rows have"
                raise DataError(what, file=self._file, row=row, field=other, fix=f"give {used[0]} in every row")
            if not any(self._names[field] in cells for field in used):
                what = f"no such field, which other rows have; present are {', '.join(map(str, cells))}"
                fix = "leave it empty where nothing was said"
                raise DataError(what, file=self._file, row=row, field=self._names[used[0]], fix=fix)

    def refuse_again(self, row: int, made: Judgement) -> None:
        """Refuse a second judgement of the same completions by the same judge.

        Raises:
            DataError: There was one before.
        """
        before = self._met.setdefault((made.judge, made.a, made.b), row)
        if before != row:
            what = f"judgement of the same completions by the same judge occurs twice, first in row {before}"
            fix = "give each answer an id of its own, or leave the columns a and b out"
            raise DataError(what, file=self._file, row=row, field=self._names.get("a", "a"), fix=fix)

    def row(self, cells: Mapping[str, Any]) -> _Row:
        """Return a row's cells by what they are."""
        given = {field: cells.get(name) for field, name in self._names.items()}
        texts = {field: _text(cell) for field, cell in given.items() if cell is not None}
        for field in texts.keys() & {*_SAID}:
            meant = str(self._reading.meant(texts[field]))
            if meant != texts[field]:
                texts[field] = (_OUTCOME_OF if field == "outcome" else _WINNER_OF).get(meant, meant)
        return _Row(texts)

    def column(self, field: str) -> str:
        """Return what the table calls a field."""
        return self._names.get(field, field)

    def said(self, cells: Mapping[str, Any]) -> str:
        """Return the outcome or the one verdict of a row, as written."""
        row = self.row(cells)
        return (row["outcome"] or row["verdict"]).strip().lower()

    def __call__(self, row: int, cells: Mapping[str, Any], *, single: bool) -> Judgement:
        """Return the judgement of a row."""
        given = self.row(cells)
        outcome, ballots = self._outcome(given)
        single = single or outcome in ("yes", "no")
        item = self._told(given, "item", lambda: digest("item", given["prompt"]) if given["prompt"] else f"row {row}")
        policies = (given["policy_a"] or "a", "" if single else given["policy_b"] or "b")
        a, b = self._ids(given, item, policies)
        checked: Any = outcome
        return Judgement(
            id=digest("judgement", a, b, given["judge"]),
            kind="yes_no" if single else "pairwise",
            item=item,
            group=given["group"] or item,
            dataset=given["dataset"] or "table",
            a=a,
            b=b,
            policy_a=policies[0],
            policy_b=policies[1],
            prompt=(Message("user", given["prompt"]),),
            text_a=given["text_a"],
            text_b="" if single else given["text_b"],
            outcome=checked,
            ballots=ballots,
            judge=given["judge"] or "unnamed",
            prompt_sha256="",
            simulated=False,
            p_a=self._chance(given["p_a"], row),
            reason="no verdict" if outcome == "unjudged" else None,
        )

    def _told(self, given: _Row, field: str, derive: Any) -> str:
        if given[field]:
            return given[field]
        self._reading.derived[field] += 1
        return str(derive())

    def _ids(self, given: _Row, item: str, policies: tuple[str, str]) -> tuple[str, str]:
        """Return the ids of the completions: the same for every judge, and for the pair the other way round."""
        key = (given["judge"], item, *sorted(policies))
        place, self._seen[key] = self._seen[key], self._seen[key] + 1
        again = [str(place)] if place else []
        a = given["a"] or digest("completion", item, policies[0], *again)
        if not policies[1]:
            return a, ""
        side = ["b"] if policies[0] == policies[1] else []
        return a, given["b"] or digest("completion", item, policies[1], *side, *again)

    def _outcome(self, given: _Row) -> tuple[str, tuple[Ballot, ...]]:
        """Return the outcome, and the ballots where the verdicts of orders are known.

        Raises:
            _NoMeaningError: A cell means nothing, or the outcome is not that of the verdicts.
        """
        known = [name for name in OUTCOMES if name != "scored"]
        outcome = ""
        if "outcome" in self._names:
            outcome = given["outcome"].strip().lower() or "unjudged"
            if outcome not in known:
                raise _NoMeaningError("outcome", f"outcome {outcome!r} is none of {', '.join(known)}")
        if self.orders:
            ballots = tuple(self._cast(given, field) for field in self.orders)
            decided = decide(ballots).outcome if len(ballots) > 1 else _of_one(ballots[0])
            if outcome and outcome != decided and any(ballot.verdict for ballot in ballots):
                what = f"outcome {outcome!r} is not that of the verdicts, which is {decided}"
                raise _NoMeaningError("outcome", what, "correct one of them")
            return outcome or decided, ballots if not outcome or decided == outcome else ()
        return outcome or self._once(given), ()

    def _once(self, given: _Row) -> str:
        """Return the outcome of the one verdict of a pair, or of an answer."""
        said = given["verdict"].strip()
        if said.lower() in ("yes", "no", "unjudged", ""):
            return said.lower() or "unjudged"
        winner = _winner(said, given, "verdict")
        if winner is None:
            what = f"verdict {said!r} is a position, and the row does not say who stood there"
            raise _NoMeaningError("verdict", what, "give a, b, tie or the policy, or a column verdict_ab")
        return {"a": "win", "b": "loss", "tie": "tie"}[winner]

    def _cast(self, given: _Row, field: str) -> Ballot:
        order, said = _ORDERS[field], given[field].strip()
        if not said:
            return Ballot(order, None, "no verdict")
        winner = _winner(said, given, field)
        verdict: Any = said.lower()  # a position
        if winner is not None:
            verdict = "tie" if winner == "tie" else "first" if winner == order[0] else "second"
        checked: Verdict = verdict
        return Ballot(order, checked)

    def _chance(self, cell: str, row: int) -> float | None:
        if not cell or cell.lower() in ("nan", "na", "null", "none"):
            return None
        try:
            chance = float(cell)
        except ValueError:
            raise DataError(f"{cell!r} is not a number", file=self._file, row=row, field=self._names["p_a"]) from None
        if not 0 <= chance <= 1:
            raise DataError(f"{chance} is not a probability", file=self._file, row=row, field=self._names["p_a"])
        return chance


def _text(cell: Any) -> str:
    return "" if isinstance(cell, float) and isnan(cell) else str(cell)


def _of_one(ballot: Ballot) -> str:
    return "unjudged" if ballot.verdict is None else of_verdict(ballot.verdict, ballot.order)


def _winner(said: str, given: _Row, field: str) -> str | None:
    """Return a, b or tie; None for a position.

    Raises:
        _NoMeaningError: It is none of them.
    """
    policies = {given["policy_a"]: "a", given["policy_b"]: "b"} if given["policy_a"] != given["policy_b"] else {}
    if said in policies and said:
        return policies[said]
    low = " ".join(said.lower().split())
    if low in _CONTESTANTS:
        return _CONTESTANTS[low]
    if low in ("first", "second"):
        return None
    order = ("b", "a") if field == "verdict_ba" else ("a", "b")
    known = ", ".join([*order, "tie", *filter(None, policies)])
    raise _NoMeaningError(field, f"{field} {said!r} is none of {known}, or empty")


def _refuse_positions(make: _Maker, rows: Sequence[Mapping[str, Any]], file: str) -> None:
    """Refuse verdicts of both orders that contradict each other more than a judge without any opinion would.

    A judge that favours a position says a in one order and b in the other, but always the same way round; one without
    opinion agrees with itself by chance. Only positions, written where contestants belong, turn agreement round.
    """
    if len(make.orders) < 2:
        return
    counts: Counter[tuple[str, ...]] = Counter()
    for cells in rows:
        row = make.row(cells)
        counts[tuple(row[field].strip().lower() for field in make.orders)] += 1
    table = [[counts[one, other] for other in "ab"] for one in "ab"]
    against, alike = table[0][1] + table[1][0], table[0][0] + table[1][1]
    if against <= alike:
        return
    import numpy as np
    from scipy.stats import fisher_exact

    if fisher_exact(np.array(table), alternative="less").pvalue >= _MOST_BY_CHANCE:
        return
    what = (
        f"{against:,} of {against + alike:,} pairs have another winner in each order, in both directions: "
        "a and b look like the first and the second answer shown"
    )
    fix = "write the contestant that won in each order, or first and second"
    raise DataError(what, file=file, field=make.orders[1], fix=fix)
