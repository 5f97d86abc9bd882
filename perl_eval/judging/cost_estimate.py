"""What judging would take, found out without asking anybody."""

from __future__ import annotations

import contextlib
import math
import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from perl_eval.client.ledger import Ledger
from perl_eval.judges.protocol import Judge
from perl_eval.judges.question_keys import Keys
from perl_eval.judging.engine.ask import expected_tokens
from perl_eval.judging.options import JudgeOptions, template_of
from perl_eval.judging.outcome_of import plan
from perl_eval.judging.queue import queue_of
from perl_eval.judging.run import LEDGER
from perl_eval.records import Message

__all__ = ["Forecast", "forecast"]

_BLOCK = 1024


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
    keys, votes = Keys(judge), options.asking.votes
    path = options.ledger or (out / LEDGER if out is not None else None)
    seen: set[bytes] = set()
    example: tuple[Message, ...] = ()
    known, tokens_in = 0, 0.0
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ledger = stack.enter_context(Ledger(path)) if path is not None and path.is_file() else None
        queue, _ = queue_of(a, b, template, options, scratch)
        questions = plan(queue, judge, template, reasoning=options.reasoning)
        while block := list(islice(questions, _BLOCK)):
            example = example or block[0].messages
            fresh = {keys.of(question, vote): question for question in block for vote in range(votes)}
            fresh = {key: question for key, question in fresh.items() if key not in seen}
            seen.update(fresh)
            found = ledger.find(list(fresh)) if ledger is not None else {}
            known += len(found)
            tokens_in += sum(expected_tokens(question) for key, question in fresh.items() if key not in found)
    left = len(seen) - known
    return Forecast(
        units=len(queue),
        questions=len(seen),
        from_ledger=known,
        requests=math.ceil(left / judge.group),
        tokens_in=round(tokens_in),
        tokens_out=judge.longest * left,
        cost_usd=judge.price_usd(round(tokens_in), judge.longest * left),
        example=example,
    )
