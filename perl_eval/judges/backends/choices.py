"""The options of a question for judges that give each a probability: which they are, and how they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perl_eval.judges import prompting
from perl_eval.records import Question
from perl_eval.storage import images

__all__ = ["DESCRIPTIONS", "options_of", "system_one"]

DESCRIPTIONS = {"A": "answer A is the better one", "B": "answer B is the better one", "tie": "neither is better"}
"""What a judge is told about each option of a pair."""


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
