"""Judgements that another tool's judge made, as records: of one answer, and of a pair in one order or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from perl_eval.outcomes import decide
from perl_eval.records import Ballot, Completion, Judgement, Kind, Message, Verdict, digest

__all__ = ["Contestant", "PairItem", "of_answer", "of_pair"]


@dataclass(frozen=True, slots=True)
class PairItem:
    """What a pair answers.

    Attributes:
        item: What tells the item apart: its prompt, or the file's name for it.
        named: Whether that is its name, which other files of the tool have too, and not its prompt.
        group: The group; by default the item.
        prompt: The prompt; empty where the file does not repeat it.
    """

    item: str
    group: str = ""
    prompt: str = ""
    named: bool = False


Contestant = tuple[str, str]
"""A policy and its answer; the answer is empty where the file does not repeat it."""


def of_answer(
    made: Completion, judge: str, value: bool | float | None, *, kind: Kind, raw: str = "", reason: str = ""
) -> Judgement:
    """Return what a judge said of one answer.

    Args:
        made: The answer.
        judge: What the judge is called.
        value: Yes or no, or a number on the judge's own scale; None, or no finite number, if it said nothing.
        kind: ``yes_no`` or ``score``.
        raw: What the judge wrote.
        reason: Why there is no verdict.
    """
    verdict: Verdict | None = None
    score = None
    if value is not None and isfinite(value):
        verdict = "scored" if kind == "score" else "yes" if value else "no"
        score = float(value) if kind == "score" else None
    ballot = Ballot("none", verdict, None if verdict else reason or "no verdict", raw=raw, model=judge, score=score)
    decision = decide((ballot,))
    return Judgement(
        id=digest("judgement", made.id, "", judge),
        kind=kind,
        item=made.item,
        group=made.group,
        dataset=made.dataset,
        a=made.id,
        b="",
        policy_a=made.policy,
        policy_b="",
        prompt=made.prompt,
        text_a=made.text,
        text_b="",
        outcome=decision.outcome,
        ballots=(ballot,),
        judge=judge,
        prompt_sha256="",
        simulated=False,
        p_a=None,
        reason=decision.reason,
        score=score,
    )


def of_pair(
    asked: PairItem,
    contestants: tuple[Contestant, Contestant],
    ballots: Sequence[Ballot],
    dataset: str,
    *,
    judge: str = "",
) -> Judgement:
    """Return what a judge said of a pair.

    Args:
        asked: What they answer.
        contestants: Contestant a and b.
        ballots: One without order, or one of each.
        dataset: What the data set is called.
        judge: What the judge is called; by default as the first ballot's model.
    """
    item = asked.item if asked.named else digest(asked.item)
    a, b = (_answer_id(item, policy, text) for policy, text in contestants)
    cast = tuple(ballots)
    decision = decide(cast)
    return Judgement(
        id=digest("judgement", a, b, cast[0].model),
        kind="pairwise",
        item=item,
        group=asked.group or item,
        dataset=dataset,
        a=a,
        b=b,
        policy_a=contestants[0][0],
        policy_b=contestants[1][0],
        prompt=(Message("user", asked.prompt),) if asked.prompt else (),
        text_a=contestants[0][1],
        text_b=contestants[1][1],
        outcome=decision.outcome,
        ballots=cast,
        judge=judge or cast[0].model,
        prompt_sha256="",
        simulated=False,
        p_a=decision.p_a,
        reason=decision.reason,
    )


def _answer_id(item: str, policy: str, text: str) -> str:
    """Return the id of an answer: that which it has among completions, where the file repeats its text."""
    return digest("completion", policy, item, text) if text else digest(item, policy, text)
