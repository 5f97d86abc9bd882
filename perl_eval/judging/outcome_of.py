"""A contest, purely: the questions to ask about completions that meet, and what ballots come to."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice

from perl_eval.judges import prompting
from perl_eval.judges.protocol import Judge
from perl_eval.outcomes import decide
from perl_eval.records import Ballot, Completion, Judgement, Order, Question, digest

__all__ = ["Contestants", "judgement", "judgement_id", "judgements", "naming", "orders_of", "plan"]


Contestants = tuple[Completion, ...]
"""One completion to judge alone, or a and b."""


def plan(
    units: Iterable[Contestants], judge: Judge, template: prompting.Template, *, reasoning: bool = False
) -> Iterator[Question]:
    """Yield the questions to ask, those of one pair next to each other."""
    named = naming(judge, template)
    for unit in units:
        yield from _asked(unit, judge, template, id=judgement_id(unit, named), reasoning=reasoning)


def _asked(
    unit: Contestants, judge: Judge, template: prompting.Template, *, id: str, reasoning: bool
) -> list[Question]:
    return prompting.questions(template, unit, orders=orders_of(unit, judge), id=id, reasoning=reasoning)


def orders_of(unit: Contestants, judge: Judge) -> tuple[Order, ...]:
    """Return the orders in which a unit is shown to a judge."""
    return ("ab", "ba") if len(unit) == 2 and judge.positional else ("none",)


def naming(judge: Judge, template: prompting.Template) -> str:
    """Return what all judgements of one judge and prompt have in common in their ids."""
    parameters = json.dumps(dict(judge.parameters), sort_keys=True)
    return digest(judge.door, judge.model, parameters, template.sha256, *filter(None, [template.rubric_sha256]))


def judgement_id(unit: Contestants, named: str) -> str:
    """Return the id of the judgement of a unit.

    Args:
        unit: What is judged.
        named: See `naming`.
    """
    return digest("judgement", named, *(completion.id for completion in unit))


def judgements(
    units: Iterable[Contestants],
    judge: Judge,
    template: prompting.Template,
    *,
    put: Callable[[Iterable[Question]], Generator[Ballot, None, None]],
    reasoning: bool = False,
    votes: int = 1,
) -> Generator[Judgement, None, None]:
    """Plan, ask and decide, unit by unit; if the ballots end early, so do the judgements.

    Args:
        units: What to judge, in the order to ask; taken as they are needed, some thousand ahead.
        judge: Whom to ask.
        template: What to ask.
        put: Asks: turns questions into ballots, in order, ``votes`` a question.
        reasoning: Ask for reasons before the verdict.
        votes: How often each question is asked.
    """
    named = naming(judge, template)
    planned: deque[tuple[str, Contestants, int]] = deque()

    def questions() -> Iterator[Question]:
        for unit in units:
            id = judgement_id(unit, named)
            asked = _asked(unit, judge, template, id=id, reasoning=reasoning)
            planned.append((id, unit, votes * len(asked)))
            yield from asked

    with contextlib.closing(put(questions())) as ballots:
        # A unit is planned before its first ballot comes.
        for ballot in ballots:
            id, unit, wanted = planned.popleft()
            cast = (ballot, *islice(ballots, wanted - 1))
            if len(cast) < wanted:
                return
            yield judgement(id, unit, cast, judge, template)


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
