"""Judgements from tables of outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perl_eval.errors import DataError
from perl_eval.outcomes import decide
from perl_eval.records import OUTCOMES, Ballot, Judgement, Message, Verdict, digest
from perl_eval.sources import user_table
from perl_eval.sources.labels import LabelColumns

__all__ = ["read_outcomes"]

_DESCRIBED = ("item", "policy_a", "policy_b", "judge", "dataset", "text_a", "text_b", "prompt")
_CHOSEN: Mapping[str, Mapping[str, Verdict]] = {
    "verdict_ab": {"a": "first", "b": "second", "tie": "tie"},
    "verdict_ba": {"b": "first", "a": "second", "tie": "tie"},
}


def read_outcomes(source: Any, columns: LabelColumns | None = None) -> list[Judgement]:
    """Read judgements from a table with one judged unit a row.

    The outcome (``win``, ``loss``, ``split``, ``tie``, ``mixed``, ``unjudged`` of contestant a; or ``yes``, ``no``)
    stands in column ``outcome``, or the two orders' verdicts in ``verdict_ab`` and ``verdict_ba``: ``a``, ``b``,
    ``tie``, or empty where there was none. Read where they are there: ``item``, ``group``, ``policy_a``, ``policy_b``,
    ``judge``, ``dataset``, ``text_a``, ``text_b``, ``prompt``, ``p_a``, and the completions' ids ``a``, ``b``.

    Args:
        source: A parquet, CSV or JSON lines file, or a `datasets.Dataset`.
        columns: Names of ``a``, ``b`` and ``group``.

    Raises:
        DataError: A column is missing, or a cell means nothing.
    """
    names = columns or LabelColumns()
    orders, known = ("verdict_ab", "verdict_ba"), (*_DESCRIBED, "p_a", "outcome", names.a, names.b, names.group)
    sheet = user_table.read(source, (), optional=(*orders, *known))
    if not sheet.has("outcome"):
        sheet = user_table.read(source, orders, optional=known)
    cells = {name: sheet.texts(name) for name in sheet.table.column_names if name != "p_a"}
    chances = sheet.numbers("p_a") if sheet.has("p_a") else [None] * len(sheet)
    single = _is_of_single_answers(cells.get("outcome", []))
    found = []
    for row, chance in enumerate(chances):
        if chance is not None and not 0 <= chance <= 1:
            raise DataError(f"{chance} is no probability", file=sheet.name, row=row, field="p_a")
        given = {name: column[row] for name, column in cells.items()}
        try:
            found.append(_outcome(given, names, row, chance, single=single))
        except ValueError as error:
            raise DataError(str(error), file=sheet.name, row=row) from None
    return found


def _is_of_single_answers(outcomes: Sequence[str | None]) -> bool:
    """Return whether all that was judged got yes or no, so that the unjudged rows are of single answers too."""
    judged = {cell.strip().lower() for cell in outcomes if cell is not None} - {"unjudged"}
    return bool(judged) and judged <= {"yes", "no"}


def _outcome(
    given: Mapping[str, str | None], names: LabelColumns, row: int, chance: float | None, *, single: bool
) -> Judgement:
    def told(name: str, otherwise: str) -> str:
        cell = given.get(name)
        return otherwise if cell is None else cell

    ballots: tuple[Ballot, ...] = ()
    if "outcome" in given:
        outcome = told("outcome", "unjudged").strip().lower()
        known = [name for name in OUTCOMES if name != "scored"]
        if outcome not in known:
            raise ValueError(f"outcome {outcome!r} is none of {', '.join(known)}")
    else:
        ballots = tuple(
            _cast(told(column, ""), column, order) for column, order in (("verdict_ab", "ab"), ("verdict_ba", "ba"))
        )
        outcome = decide(ballots).outcome
    single = single or outcome in ("yes", "no")
    item = told("item", f"row {row}")
    a = told(names.a, digest(item, told("policy_a", "a"), str(row)))
    b = "" if single else told(names.b, digest(item, told("policy_b", "b"), str(row)))
    checked: Any = outcome
    return Judgement(
        id=digest("judgement", a, b, told("judge", "")),
        kind="yes_no" if single else "pairwise",
        item=item,
        group=told(names.group, item),
        dataset=told("dataset", "table"),
        a=a,
        b=b,
        policy_a=told("policy_a", "a"),
        policy_b="" if single else told("policy_b", "b"),
        prompt=(Message("user", told("prompt", "")),),
        text_a=told("text_a", ""),
        text_b="" if single else told("text_b", ""),
        outcome=checked,
        ballots=ballots,
        judge=told("judge", "unnamed"),
        prompt_sha256="",
        simulated=False,
        p_a=chance,
        reason="no verdict" if outcome == "unjudged" else None,
    )


def _cast(cell: str, column: str, order: str) -> Ballot:
    meant, known = cell.strip().lower(), _CHOSEN[column]
    if meant and meant not in known:
        raise ValueError(f"{column} {cell!r} is none of {', '.join(known)}, or empty")
    where: Any = order
    return Ballot(where, known.get(meant), None if meant else "no verdict")
