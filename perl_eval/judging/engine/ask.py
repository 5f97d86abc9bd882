"""Asking: questions in, ballots out in the same order; what the ledger holds is not asked again."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor

from perl_eval.client.ledger import Ledger
from perl_eval.client.usage import Usage
from perl_eval.errors import UserError
from perl_eval.judges.protocol import Judge
from perl_eval.judging.engine.limits import AskOptions, expected_tokens
from perl_eval.judging.engine.scheduler import NOT_KEPT, Desk
from perl_eval.records import Ballot, Question

__all__ = ["NOT_KEPT", "AskOptions", "Usage", "ask", "expected_tokens"]


def ask(
    questions: Iterable[Question],
    judge: Judge,
    ledger: Ledger,
    *,
    options: AskOptions | None = None,
    tally: Usage | None = None,
) -> Generator[Ballot, None, None]:
    """Put questions to a judge and yield their ballots in order: as many a question as there are votes.

    Questions are taken from the iterable as they are needed, some thousand ahead of the ballots. If a budget runs out,
    the ballots end early; what was on its way is waited for and kept.

    Args:
        questions: What to ask; questions that can share a request should be neighbours.
        judge: Whom to ask.
        ledger: Where answers are kept.
        options: How to ask.
        tally: Counts are added to it.

    Raises:
        UserError: The judge will never answer, its price is not known and money is limited, or the ledger cannot be
            written.
    """
    options = options or AskOptions()
    if options.max_cost_usd is not None and judge.price_usd(1, 1) is None:
        raise UserError(f"money is limited and the price of {judge.model} is not known", "state its prices")
    desk = Desk(judge, ledger, options, tally or Usage())
    if _inside_a_loop():
        # In a notebook, say. Two loops cannot run in one thread, so this one waits for another thread's.
        with ThreadPoolExecutor(max_workers=1) as elsewhere:
            yield from elsewhere.submit(lambda: list(_drive(desk, judge, questions))).result()
    else:
        yield from _drive(desk, judge, questions)


def _inside_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _drive(desk: Desk, judge: Judge, questions: Iterable[Question]) -> Generator[Ballot, None, None]:
    with asyncio.Runner() as runner:
        ballots = desk.ballots(iter(questions))

        async def following() -> list[Ballot] | None:
            return await anext(ballots, None)

        async def close() -> None:
            await ballots.aclose()
            await judge.close()

        try:
            while (some := runner.run(following())) is not None:
                yield from some
        finally:
            runner.run(close())
