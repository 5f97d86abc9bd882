"""What judging would take, found out without asking anybody."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from perl_eval.judges.ask import expected_tokens
from perl_eval.judges.contest import plan
from perl_eval.judges.ledger import Keys, Ledger
from perl_eval.judges.protocol import Judge
from perl_eval.judges.session import LEDGER, JudgeOptions, queue_of, template_of
from perl_eval.records import Message

__all__ = ["Forecast", "forecast"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What judging would take.

    Attributes:
        units: Pairs, or single answers.
        questions: Different questions about them.
        from_ledger: Questions that the ledger answers.
        requests: Requests to send, if none has to be sent again.
        tokens_in: Tokens of the requests, roughly.
        tokens_out: Tokens of the replies, at most.
        cost_usd: Price, at most; None if the judge's prices are not known.
        example: One rendered question.
    """

    units: int
    questions: int
    from_ledger: int
    requests: int
    tokens_in: int
    tokens_out: int
    cost_usd: float | None
    example: tuple[Message, ...]


def forecast(a: Path, b: Path | None, *, judge: Judge, options: JudgeOptions, out: Path | None = None) -> Forecast:
    """Say what judging would take, and ask nobody.

    Args:
        a: As for `run`.
        b: As for `run`.
        judge: Whom it would ask.
        options: How it would judge.
        out: The output folder it would write; its ledger, if it has one, is looked up.
    """
    template = template_of(b, options)
    queue, _ = queue_of(a, b, options)
    keys = Keys(judge)
    questions = {
        keys.of(question, vote): question
        for question in plan(queue, judge, template, reasoning=options.reasoning)
        for vote in range(options.asking.votes)
    }
    example = next(iter(questions.values())).messages
    path = options.ledger or (out / LEDGER if out is not None else None)
    known: set[bytes] = set()
    if path is not None and path.is_file():
        with Ledger(path) as ledger:
            known = set(ledger.find(list(questions)))
    left = [question for key, question in questions.items() if key not in known]
    tokens_in, tokens_out = round(sum(map(expected_tokens, left))), judge.longest * len(left)
    return Forecast(
        units=len(queue),
        questions=len(questions),
        from_ledger=len(known),
        requests=math.ceil(len(left) / judge.group),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        cost_usd=judge.price_usd(tokens_in, tokens_out),
        example=example,
    )
