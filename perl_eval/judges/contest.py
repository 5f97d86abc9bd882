"""A contest, purely: the questions to ask about completions that meet, and what ballots come to."""

from __future__ import annotations

import contextlib
import json
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal, NamedTuple

from perl_eval import render
from perl_eval.judges.protocol import Judge
from perl_eval.records import Ballot, Completion, Judgement, Order, Outcome, Question, digest

__all__ = [
    "Contestants",
    "Decision",
    "decide",
    "judgement",
    "judgement_id",
    "judgements",
    "naming",
    "orders_of",
    "plan",
]


class Decision(NamedTuple):
    """What some ballots come to; see `decide`."""

    outcome: Outcome
    p_a: float | None
    reason: str | None


# Which contestant a position is, by order. A judge without positions is shown a first.
_CONTESTANT: dict[Order, dict[str, Literal["a", "b"]]] = {
    "ab": {"first": "a", "second": "b"},
    "ba": {"first": "b", "second": "a"},
    "none": {"first": "a", "second": "b"},
}
_SINGLE_OUTCOMES: dict[str | None, Outcome] = {"yes": "yes", "no": "no", "scored": "scored"}
_SINGLE = frozenset(_SINGLE_OUTCOMES)
# By what the orders prefer.
_OUTCOMES: dict[str, Outcome] = {
    "a": "win",
    "b": "loss",
    "tie": "tie",
    "a+b": "split",
    "a+tie": "mixed",
    "b+tie": "mixed",
}
# What one ballot of either order comes to, without the detours of votes.
_PAIR_OUTCOMES: dict[tuple[str | None, str | None], Outcome] = {
    (ab, ba): _OUTCOMES["+".join(sorted({_CONTESTANT["ab"].get(ab, "tie"), _CONTESTANT["ba"].get(ba, "tie")}))]
    for ab in ("first", "second", "tie")
    for ba in ("first", "second", "tie")
}


def decide(ballots: Sequence[Ballot]) -> Decision:
    """Decide one judgement from its ballots: as many of either order, or only such without order.

    Win or loss needs both orders. Several votes of one order count as the verdict that most of them give; without one
    ahead they are a tie, or for yes and no unjudged. ``p_a`` is the mean over the ballots of the probability that a is
    preferred (or of yes), ties counted half; None if a ballot has none. A pair is unjudged, whatever the other order
    says, if half of the votes of an order or more hold no verdict. An answer is scored if more than half hold a score.

    Raises:
        ValueError: The ballots do not belong together.
    """
    if [ballot.order for ballot in ballots] == ["ab", "ba"]:
        ab, ba = ballots
        if outcome := _PAIR_OUTCOMES.get((ab.verdict, ba.verdict)):
            if ab.p_first is None or ba.p_first is None:
                return Decision(outcome, None, None)
            return Decision(outcome, (ab.p_first + (1.0 - ba.p_first)) / 2, None)
    votes: dict[Order, list[Ballot]] = {}
    for ballot in ballots:
        votes.setdefault(ballot.order, []).append(ballot)
    single = not _SINGLE.isdisjoint([ballot.verdict for ballot in ballots])
    orders, sizes = "+".join(sorted(votes)), {len(cast) for cast in votes.values()}
    if orders not in ("ab+ba", "none") or len(sizes) != 1 or (single and orders != "none"):
        raise ValueError(f"ballots {[(ballot.order, ballot.verdict) for ballot in ballots]} are no judgement")
    verdicts = [(order, _most(cast, "" if single else "tie")) for order, cast in votes.items()]
    if any(verdict is None for _, verdict in verdicts):
        reasons = [ballot.reason or "no verdict" for ballot in ballots if ballot.verdict is None]
        return Decision("unjudged", None, "; ".join(dict.fromkeys(reasons)) or "as many votes for yes as for no")
    given = [1.0 - b.p_first if b.order == "ba" else b.p_first for b in ballots if b.p_first is not None]
    p_a = sum(given) / len(given) if len(given) == len(ballots) else None
    if single:
        return Decision(_SINGLE_OUTCOMES[verdicts[0][1]], p_a, None)
    preferred = {_CONTESTANT[order].get(str(verdict), "tie") for order, verdict in verdicts}
    return Decision(_OUTCOMES["+".join(sorted(preferred))], p_a, None)


def _most(cast: Sequence[Ballot], drawn: str) -> str | None:
    """Return the verdict of most votes, ``drawn`` if none is ahead, None if half of them or more hold none."""
    if len(cast) == 1:
        return cast[0].verdict
    counts = Counter(ballot.verdict for ballot in cast if ballot.verdict is not None)
    if 2 * counts.total() <= len(cast):
        return None
    (leader, most), *others = counts.most_common(2)
    return (drawn or None) if others and others[0][1] == most else leader


Contestants = tuple[Completion, ...]
"""One completion to judge alone, or a and b."""


def plan(
    units: Iterable[Contestants], judge: Judge, template: render.Template, *, reasoning: bool = False
) -> Iterator[Question]:
    """Yield the questions to ask, those of one pair next to each other."""
    named = naming(judge, template)
    for unit in units:
        yield from _asked(unit, judge, template, id=judgement_id(unit, named), reasoning=reasoning)


def _asked(unit: Contestants, judge: Judge, template: render.Template, *, id: str, reasoning: bool) -> list[Question]:
    return render.questions(template, unit, orders=orders_of(unit, judge), id=id, reasoning=reasoning)


def orders_of(unit: Contestants, judge: Judge) -> tuple[Order, ...]:
    """Return the orders in which a unit is shown to a judge."""
    return ("ab", "ba") if len(unit) == 2 and judge.positional else ("none",)


def naming(judge: Judge, template: render.Template) -> str:
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
    template: render.Template,
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
    id: str, unit: Contestants, ballots: tuple[Ballot, ...], judge: Judge, template: render.Template
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
