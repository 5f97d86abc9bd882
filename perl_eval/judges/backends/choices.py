"""The options of a question for judges that give each a probability: which they are, how they are asked, and read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from perl_eval.client.reply import Reply
from perl_eval.judges import prompting
from perl_eval.judges.parsing.scores import mean_score
from perl_eval.records import Ballot, Question, Verdict
from perl_eval.storage import images

__all__ = ["DESCRIPTIONS", "options_of", "read_probabilities", "system_one"]

DESCRIPTIONS = {"A": "answer A is the better one", "B": "answer B is the better one", "tie": "neither is better"}
"""What a judge is told about each option of a pair."""


def read_probabilities(question: Question, reply: Reply, *, tie_margin: float) -> Ballot:
    """Read a reply of option probabilities: the most probable option is the verdict; ties count half in ``p_first``."""
    if reply.finish == "refusal":
        return reply.ballot(question, None, reason="the judge refused to answer")
    given: dict[str, float] = json.loads(reply.text)
    total = sum(given.values())
    if not given.keys() <= set(options_of(question, tie=True)) or not 0.0 < total < float("inf"):
        return reply.ballot(question, None, reason=f"the probabilities are none: {reply.text[:80]}")
    if question.scale is not None:
        return reply.ballot(question, "scored", score=mean_score(given))
    if question.kind == "yes_no":
        p_first = given.get("yes", 0.0) / total
        return reply.ballot(question, "yes" if p_first > 0.5 else "no", p_first=p_first)
    first, second, tie = (given.get(option, 0.0) / total for option in ("A", "B", "tie"))
    verdict: Verdict = "first" if first > second else "second"
    if tie >= max(first, second) or abs(first - second) <= tie_margin:
        verdict = "tie"
    return reply.ballot(question, verdict, p_first=first + tie / 2)


def options_of(question: Question, *, tie: bool) -> tuple[str, ...]:
    """Return the options of a question: of a score, the numbers of its scale."""
    if question.scale is not None:
        return tuple(map(str, question.scale.levels))
    if question.kind == "yes_no":
        return ("yes", "no")
    return ("A", "B", "tie") if tie else ("A", "B")


def system_one(questions: Sequence[Question], *, tie: bool) -> dict[str, Any]:
    """Return the body of a System One request, but for the model: one state, and the questions by their place.

    Pictures are assets; the names that stand for them in the state hold the code of the fence, which no text holds.
    """
    asked: dict[str, dict[str, Any]] = {}
    for place, question in enumerate(questions):
        shared, own = prompting.parts(question)
        asked[str(place)] = {"type": "noul", "instructions": own}
        if question.kind == "pairwise":
            options = options_of(question, tie=tie)
            criteria = {option: DESCRIPTIONS[option] for option in options}
            asked[str(place)] = {"type": "choice", "instructions": own, "criteria": criteria}
        elif question.scale is not None:
            levels = list(options_of(question, tie=tie))
            asked[str(place)] = {"type": "score", "instructions": own, "criteria": levels}
    body: dict[str, Any] = {"state": shared, "questions": asked}
    if pictures := questions[0].images:
        names = [f"picture-{questions[0].code}-{place}" for place in range(len(pictures))]
        body["state"] = "\n".join([*names, shared])
        body["assets"] = {name: _asset(path) for name, path in zip(names, pictures, strict=True)}
    return body


def _asset(path: str) -> dict[str, str]:
    kind, content = images.kind_and_base64(path)
    return {"type": "image", "format": kind, "data_base64": content}
