"""A contest, purely: the questions to ask about completions that meet, and what ballots come to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from perl_eval.judges import prompting
from perl_eval.judges.protocol import Judge
from perl_eval.outcomes import decide
from perl_eval.records import Ballot, Completion, Judgement, Order, Question, digest

__all__ = ["ORDERS", "Contestants", "asked", "judgement", "judgement_id", "naming", "orders_of", "plan"]


Contestants = tuple[Completion, ...]
"""One completion to judge alone, or a and b."""


ORDERS: tuple[tuple[Order, ...], ...] = (("ab", "ba"), ("none",))
"""The orders in which a unit may be shown: a pair to a judge with positions, and all else."""


def plan(
    units: Iterable[Contestants], judge: Judge, template: prompting.Template, *, reasoning: bool = False
) -> Iterator[Question]:
    """Yield the questions to ask, those of one pair next to each other."""
    named = naming(judge, template)
    for unit in units:
        yield from asked(unit, judge, template, id=judgement_id(unit, named), reasoning=reasoning)


def asked(unit: Contestants, judge: Judge, template: prompting.Template, *, id: str, reasoning: bool) -> list[Question]:
    """Return the questions to ask about one unit, in the orders in which it is shown."""
    return prompting.questions(template, unit, orders=orders_of(unit, judge), id=id, reasoning=reasoning)


def orders_of(unit: Contestants, judge: Judge) -> tuple[Order, ...]:
    """Return the orders in which a unit is shown to a judge."""
    return ORDERS[0] if len(unit) == 2 and judge.positional else ORDERS[1]


def naming(judge: Judge, template: prompting.Template) -> str:
    """Return what all judgements of one judge and prompt have in common in their ids."""
    parameters = json.dumps(dict(judge.parameters), sort_keys=True)
    return digest(judge.backend, judge.model, parameters, template.sha256, *filter(None, [template.rubric_sha256]))


def judgement_id(unit: Contestants, named: str) -> str:
    """Return the id of the judgement of a unit.

    Args:
        unit: What is judged.
        named: See `naming`.
    """
    return digest("judgement", named, *(completion.id for completion in unit))


def judgement(
    id: str, unit: Contestants, ballots: tuple[Ballot, ...], judge: Judge, template: prompting.Template
) -> Judgement:
    """Return the judgement that the ballots about a unit come to."""
    a, b = unit[0], unit[1] if len(unit) == 2 else None
    decision = decide(ballots)
    scores: list[float] = []
    if decision.outcome == "scored":
        scores = [ballot.score for ballot in ballots if ballot.score is not None]
    return Judgement(
        id=id,
        kind=template.kind,
        item=a.item,
        group=a.group,
        dataset=a.dataset,
        a=a.id,
        b=b.id if b else "",
        policy_a=a.policy,
        policy_b=b.policy if b else "",
        prompt=a.prompt,
        text_a=a.text,
        text_b=b.text if b else "",
        outcome=decision.outcome,
        ballots=ballots,
        judge=judge.model,
        prompt_sha256=template.sha256,
        simulated=judge.simulated,
        p_a=decision.p_a,
        reason=decision.reason,
        score=sum(scores) / len(scores) if scores else None,
    )
