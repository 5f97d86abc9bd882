"""Records as the cells of a table, under the names by which such tables are read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from perl_eval.outcomes import of_verdict
from perl_eval.records import About, Completion, Estimate, HumanLabel, Judgement, Message

__all__ = ["CELLS", "KINDS", "Cells"]

Cells = Mapping[str, Any]
_WINNERS = {"win": "a", "loss": "b", "tie": "tie"}


def _estimate(one: Estimate) -> Cells:
    known = {name: value for name, value in asdict(one).items() if name != "about"}
    about = {part.name: getattr(one.about, part.name) for part in fields(About)}
    return known | {"subject": one.subject} | {f"about_{name}": value for name, value in about.items() if value != ""}


def _judgement(one: Judgement) -> Cells:
    return {
        "item": one.item,
        "group": one.group,
        "dataset": one.dataset,
        "policy_a": one.policy_a,
        "policy_b": one.policy_b,
        "judge": one.judge,
        "kind": one.kind,
        "outcome": one.outcome,
        "verdict_ab": _verdict(one, "ab"),
        "verdict_ba": _verdict(one, "ba"),
        "p_a": one.p_a,
        "score": one.score,
        "a": one.a,
        "b": one.b,
        "prompt": _prompt(one.prompt),
        "text_a": one.text_a,
        "text_b": one.text_b,
        "reason": one.reason,
        "simulated": one.simulated,
    }


def _verdict(one: Judgement, order: str) -> str:
    """Return who won in an order, empty where nobody was asked, or where several votes were taken."""
    said = [ballot for ballot in one.ballots if ballot.order == order]
    if len(said) != 1 or said[0].verdict is None:
        return ""
    return _WINNERS.get(of_verdict(said[0].verdict, said[0].order), "")


def _label(one: HumanLabel) -> Cells:
    return {
        "item": one.item,
        "policy_a": one.policy_a,
        "policy_b": one.policy_b,
        "label": one.label,
        "annotator": one.annotator,
        "unit": one.unit,
        "group": one.group,
        "weight": one.weight,
        "note": one.note,
        "simulated": one.simulated,
    }


def _completion(one: Completion) -> Cells:
    return {
        "id": one.id,
        "item": one.item,
        "group": one.group,
        "dataset": one.dataset,
        "policy": one.policy,
        "prompt": [asdict(turn) for turn in one.prompt],
        "text": one.text,
        "finish": one.finish,
        "draw": one.draw,
    }


def _prompt(turns: Sequence[Message]) -> Any:
    """Return a prompt as text if it is one turn of a user, else as turns."""
    plain = len(turns) == 1 and turns[0].role == "user"
    return turns[0].content if plain else [asdict(turn) for turn in turns]


KINDS: Mapping[str, type] = {
    "estimates": Estimate,
    "judgements": Judgement,
    "labels": HumanLabel,
    "completions": Completion,
}
"""The kinds of record that can be a table, by their names."""
CELLS: Mapping[str, Any] = {
    "estimates": _estimate,
    "judgements": _judgement,
    "labels": _label,
    "completions": _completion,
}
"""What makes a record the cells of a row, by the names of `KINDS`."""
