"""One run with a judge: its ledger's name, its batches, and its progress bar."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from perl_eval.client.ledger import Ledger
from perl_eval.judging.asking import Asking
from perl_eval.judging.options import JudgeOptions
from perl_eval.judging.outcome_of import Contestants
from perl_eval.judging.queue import Queue
from perl_eval.records import Judgement, Question
from perl_eval.storage import progress

__all__ = ["LEDGER", "filled", "judged"]

LEDGER = "ledger.sqlite"
"""The ledger's name inside an output folder."""


def filled(queue: Queue, asking: Asking, *, ledger: Ledger, folder: Path, options: JudgeOptions) -> dict[str, object]:
    """Have a queue answered by batches, if that was asked for, into the ledger; returns what became of it."""
    if options.batch is None:
        return {}
    from perl_eval.judging.engine import batch_api

    def missing() -> Iterator[tuple[bytes, Question]]:
        return asking.missing(queue)

    found = batch_api.fill(missing, asking.judge, ledger, folder, asking=options.asking, options=options.batch)
    return {"batch": found}


def judged(queue: Queue | Sequence[Contestants], asking: Asking) -> Generator[Judgement, None, None]:
    """Judge a queue in its order, behind a progress bar that tells of money, pairs without a verdict, and outages."""
    unjudged = 0

    def note() -> str:
        parts = [f"{unjudged} unjudged"] if unjudged else []
        if asking.tally.cost_usd:
            parts.append(f"{asking.tally.cost_usd:.2f} USD")
        if asking.tally.waiting:
            parts.append(asking.tally.waiting)
        return ", ".join(parts)

    def fresh() -> float:
        tally = asking.tally
        return tally.asked / max(1, tally.asked + tally.from_ledger + tally.failed)

    title = f"judging with {asking.judge.model}"
    with contextlib.closing(asking.judgements(queue)) as done:
        for judgement in progress.track(done, title, total=len(queue), note=note, fresh=fresh):
            unjudged += judgement.outcome == "unjudged"
            yield judgement
