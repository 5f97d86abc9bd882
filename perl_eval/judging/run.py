"""One session with a judge: how it is to judge, what, and what goes on the run card about it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from perl_eval.client.ledger import Ledger
from perl_eval.client.usage import Usage
from perl_eval.judges import prompting
from perl_eval.judges.protocol import Judge
from perl_eval.judging.engine.ask import ask
from perl_eval.judging.key_cache import Recall
from perl_eval.judging.options import JudgeOptions
from perl_eval.judging.outcome_of import Contestants, judgements, plan
from perl_eval.judging.queue import Queue
from perl_eval.records import Ballot, Judgement, Question
from perl_eval.storage import progress

if TYPE_CHECKING:
    pass

__all__ = ["LEDGER", "Put", "filled", "judged", "putting"]

LEDGER = "ledger.sqlite"
"""The ledger's name inside an output folder."""


Put = Callable[[Iterable[Question]], Generator[Ballot, None, None]]
"""What turns questions into ballots, in order."""


def putting(judge: Judge, ledger: Ledger, options: JudgeOptions, tally: Usage) -> Put:
    """Return what puts questions to the judge; after a batch, what it left without an answer stays so."""
    asking = replace(options.asking, offline=options.asking.offline or options.batch is not None)
    return lambda questions: ask(questions, judge, ledger, options=asking, tally=tally)


def filled(
    queue: Iterable[Contestants],
    judge: Judge,
    template: prompting.Template,
    *,
    ledger: Ledger,
    folder: Path,
    options: JudgeOptions,
) -> dict[str, object]:
    """Have a queue answered by batches, if that was asked for, into the ledger; returns what became of it."""
    if options.batch is None:
        return {}
    from perl_eval.judging.engine import batch_api

    def questions() -> Iterator[Question]:
        return plan(queue, judge, template, reasoning=options.reasoning)

    found = batch_api.fill(questions, judge, ledger, folder, asking=options.asking, options=options.batch)
    return {"batch": found}


def judged(
    queue: Queue | Sequence[Contestants],
    judge: Judge,
    template: prompting.Template,
    *,
    put: Put | Recall,
    options: JudgeOptions,
    tally: Usage | None = None,
) -> Generator[Judgement, None, None]:
    """Judge a queue in its order, behind a progress bar that tells of money spent and pairs without a verdict."""
    unjudged, spent = 0, tally or Usage()

    def note() -> str:
        parts = [f"{unjudged} unjudged"] if unjudged else []
        if spent.cost_usd:
            parts.append(f"{spent.cost_usd:.2f} USD")
        return ", ".join(parts)

    votes = options.asking.votes
    if isinstance(put, Recall):
        done = put.judgements(queue, template, reasoning=options.reasoning, votes=votes)
    else:
        done = judgements(queue, judge, template, put=put, reasoning=options.reasoning, votes=votes)
    with contextlib.closing(done):
        for judgement in progress.track(done, f"judging with {judge.model}", total=len(queue), note=note):
            unjudged += judgement.outcome == "unjudged"
            yield judgement
