"""Judgements from tables of outcomes, AlpacaEval annotations and MT-bench files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

from perl_eval.errors import DataError
from perl_eval.outcomes import decide
from perl_eval.records import OUTCOMES, Ballot, Judgement, Message, Order, Verdict, digest
from perl_eval.sources import user_table
from perl_eval.sources.json_files import objects
from perl_eval.sources.labels import LabelColumns

__all__ = ["read_judgements", "read_outcomes"]

_DESCRIBED = ("item", "policy_a", "policy_b", "judge", "dataset", "text_a", "text_b", "prompt")
_CHOSEN: Mapping[str, Mapping[str, Verdict]] = {
    "verdict_ab": {"a": "first", "b": "second", "tie": "tie"},
    "verdict_ba": {"b": "first", "a": "second", "tie": "tie"},
}


def read_judgements(source: Path, form: str) -> list[Judgement]:
    """Read AlpacaEval annotations or MT-bench pair judgements, as those tools write them.

    AlpacaEval asks one order and does not say which, so its judgements have no positions. MT-bench asks both.

    Raises:
        DataError: A row lacks a field, or has a value that means nothing.
    """
    read = _alpaca if form == "alpaca-eval" else _mt_bench
    found = []
    for row, data in enumerate(objects(source)):
        try:
            found.append(read(data))
        except KeyError as error:
            raise DataError(
                f"no such field; present are {', '.join(map(str, data))}",
                file=source,
                row=row,
                field=str(error.args[0]),
            ) from None
        except (TypeError, ValueError) as error:
            raise DataError(str(error), file=source, row=row) from None
    return found


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


def _alpaca(data: Mapping[str, Any]) -> Judgement:
    """Read one annotation: preference 1 for output 1 (the baseline) to 2 for output 2 (the model, contestant a)."""
    preference = data["preference"]
    if preference is not None and not (isinstance(preference, int | float) and isfinite(preference)):
        preference = None
    chance = None if preference is None else 0.5 if preference == 0 else float(preference) - 1
    if chance is not None and not 0 <= chance <= 1:
        raise ValueError(f"preference {preference} is not in [1, 2]")
    verdict: Verdict | None = None
    if chance is not None:
        verdict = "tie" if chance == 0.5 else "first" if chance > 0.5 else "second"
    ballot = Ballot("none", verdict, None if verdict else "no preference", p_first=chance, model=str(data["annotator"]))
    return _judgement(
        str(data["instruction"]),
        (str(data["generator_2"]), str(data["generator_1"])),
        (str(data["output_2"]), str(data["output_1"])),
        (ballot,),
        "alpaca-eval",
    )


def _mt_bench(data: Mapping[str, Any]) -> Judgement:
    """Read one pair: the winner of the game with model 1 first, and of the game with model 2 first."""
    judge, template = data["judge"]
    turn = int(data.get("turn", 1))
    ballots = []
    orders: tuple[tuple[str, Order], ...] = (("g1", "ab"), ("g2", "ba"))
    for game, order in orders:
        winner = data[f"{game}_winner"]
        if winner not in ("model_1", "model_2", "tie", "error"):
            raise ValueError(f"{game}_winner {winner!r} is none of model_1, model_2, tie, error")
        shown_first = "model_1" if order == "ab" else "model_2"
        verdict: Verdict | None = None
        if winner != "error":
            verdict = "tie" if winner == "tie" else "first" if winner == shown_first else "second"
        reason = None if verdict else "error"
        ballots.append(Ballot(order, verdict, reason, raw=str(data.get(f"{game}_judgment", "")), model=str(judge)))
    policies = (str(data["model_1"]), str(data["model_2"]))
    made = _judgement(f"{data['question_id']}, turn {turn}", policies, ("", ""), tuple(ballots), "mt-bench")
    return replace(made, group=str(data["question_id"]), judge=f"{judge}, {template}", prompt=())


def _judgement(
    prompt: str, policies: tuple[str, str], texts: tuple[str, str], ballots: tuple[Ballot, ...], dataset: str
) -> Judgement:
    item = digest(prompt)
    a, b = (digest(item, policy, text) for policy, text in zip(policies, texts, strict=True))
    decision = decide(ballots)
    return Judgement(
        id=digest("judgement", a, b, ballots[0].model),
        kind="pairwise",
        item=item,
        group=item,
        dataset=dataset,
        a=a,
        b=b,
        policy_a=policies[0],
        policy_b=policies[1],
        prompt=(Message("user", prompt),),
        text_a=texts[0],
        text_b=texts[1],
        outcome=decision.outcome,
        ballots=ballots,
        judge=ballots[0].model,
        prompt_sha256="",
        simulated=False,
        p_a=decision.p_a,
        reason=decision.reason,
    )
