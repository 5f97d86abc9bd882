"""Asking: questions in, ballots out in the same order; what the ledger holds is not asked again.

A reply counts once it is in the ledger. Replies are written together, at most ``_FLUSH_S`` after the first of them
came, so a kill loses no more than that. Errors and cut-off replies are never written: the next run asks again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import tenacity

from perl_eval.errors import JudgeError, RateLimited, Refused, UserError
from perl_eval.judges.ledger import Keys, Ledger
from perl_eval.judges.protocol import Judge, Reply
from perl_eval.records import Ballot, Question

__all__ = ["AskOptions", "Tally", "ask"]

_BLOCK = 256
_WINDOW = 4096
_FLUSH_S = 0.25
_FLUSH_ROWS = 1024
_LONGEST_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class AskOptions:
    """How to ask.

    Attributes:
        max_concurrency: Requests on their way at one time, at most.
        attempts: How often a request is sent before its question is given up.
        backoff_s: Mean of the first wait before asking again; it doubles with every attempt, with jitter.
    """

    max_concurrency: int = 32
    attempts: int = 6
    backoff_s: float = 0.5


@dataclass(slots=True)
class Tally:
    """What asking came to.

    Attributes:
        asked: Questions that were sent and answered.
        from_ledger: Questions that the ledger answered.
        shared: Questions equal to one on its way, which took its answer.
        retries: Requests that were sent again.
        failed: Questions without an answer after all attempts.
        tokens_in: Tokens of the requests that were answered.
        tokens_out: Tokens of their answers.
        cost_usd: Their price, where prices are known.
    """

    asked: int = 0
    from_ledger: int = 0
    shared: int = 0
    retries: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0


def ask(
    questions: Iterable[Question],
    judge: Judge,
    ledger: Ledger,
    *,
    options: AskOptions | None = None,
    tally: Tally | None = None,
) -> Generator[Ballot, None, None]:
    """Put questions to a judge and yield one ballot a question, in order.

    Questions are taken from the iterable as they are needed, some thousand ahead of the ballots.

    Args:
        questions: What to ask; questions that can share a request should be neighbours.
        judge: Whom to ask.
        ledger: Where answers are kept.
        options: How to ask.
        tally: Counts are added to it.

    Raises:
        UserError: The judge will never answer, or the ledger cannot be written.
    """
    desk = _Desk(judge, ledger, options or AskOptions(), tally or Tally())
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


Answer = asyncio.Future[Reply | JudgeError]


class _Desk:
    """One round of asking: what is on its way, what came back and is not on disk yet."""

    def __init__(self, judge: Judge, ledger: Ledger, options: AskOptions, tally: Tally) -> None:
        self._judge, self._ledger, self._options, self._tally = judge, ledger, options, tally
        self._keys = Keys(judge)
        self._slots = asyncio.Semaphore(options.max_concurrency)
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: dict[bytes, Answer] = {}
        self._fresh: list[tuple[bytes, Reply]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._broken: asyncio.Future[None] | None = None

    async def ballots(self, source: Iterator[Question]) -> AsyncGenerator[list[Ballot]]:
        """Yield ballots as they come, in the order of the questions."""
        self._broken = asyncio.get_running_loop().create_future()
        waiting: deque[tuple[Question, Answer]] = deque()
        try:
            while True:
                while len(waiting) < _WINDOW and (block := list(islice(source, _BLOCK))):
                    waiting.extend(self._admit(block))
                if not waiting:
                    return
                ahead: set[asyncio.Future[Any]] = {waiting[0][1], self._broken}
                await asyncio.wait(ahead, return_when=asyncio.FIRST_COMPLETED)
                if self._broken.done():
                    self._broken.result()
                ready = []
                while waiting and waiting[0][1].done():
                    question, answer = waiting.popleft()
                    ready.append(self._read(question, answer.result()))
                yield ready
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._flush()
            if self._broken.done() and not self._broken.cancelled():
                self._broken.exception()

    def _admit(self, block: Sequence[Question]) -> list[tuple[Question, Answer]]:
        """Look questions up and send off those that nobody answered or is asking already."""
        loop = asyncio.get_running_loop()
        keys = [self._keys.of(question) for question in block]
        known = self._ledger.find([key for key in set(keys) if key not in self._open])
        admitted: list[tuple[Question, Answer]] = []
        missing: list[tuple[bytes, Question]] = []
        for key, question in zip(keys, block, strict=True):
            answer = self._open.get(key)
            if answer is None:
                answer = loop.create_future()
                if key in known:
                    answer.set_result(known[key])
                    self._tally.from_ledger += 1
                else:
                    self._open[key] = answer
                    missing.append((key, question))
            else:
                self._tally.shared += 1
            admitted.append((question, answer))
        size = self._judge.group
        for start in range(0, len(missing), size):
            task = loop.create_task(self._send(missing[start : start + size]))
            self._tasks.add(task)
            task.add_done_callback(self._finished)
        return admitted

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or self._broken is None or self._broken.done():
            return
        error = task.exception()
        if error is not None:
            self._broken.set_exception(error)
        elif not self._tasks:
            self._flush_or_break()

    async def _send(self, group: Sequence[tuple[bytes, Question]]) -> None:
        questions = [question for _, question in group]
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_worth_asking_again),
            stop=tenacity.stop_after_attempt(self._options.attempts),
            wait=self._pause_s,
            reraise=True,
        )
        try:
            replies: list[Reply] = await retrying(self._once, questions)
        except JudgeError as error:
            self._tally.failed += len(group)
            for key, _ in group:
                self._open.pop(key).set_result(error)
            return
        for (key, _), reply in zip(group, replies, strict=True):
            self._keep(key, reply)

    async def _once(self, questions: Sequence[Question]) -> list[Reply]:
        async with self._slots:
            return await self._judge.ask(questions)

    def _pause_s(self, state: tenacity.RetryCallState) -> float:
        self._tally.retries += 1
        error = state.outcome.exception() if state.outcome else None
        pause = tenacity.wait_random_exponential(multiplier=self._options.backoff_s, max=_LONGEST_WAIT_S)(state)
        if isinstance(error, RateLimited) and error.retry_after_s is not None:
            return min(error.retry_after_s, _LONGEST_WAIT_S) + pause / 4
        return pause

    def _keep(self, key: bytes, reply: Reply) -> None:
        self._tally.asked += 1
        self._tally.tokens_in += reply.tokens_in
        self._tally.tokens_out += reply.tokens_out
        self._tally.cost_usd += reply.cost_usd or 0.0
        if reply.finish == "length":
            self._open.pop(key).set_result(reply)
            return
        self._fresh.append((key, reply))
        if len(self._fresh) >= _FLUSH_ROWS:
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self._flush_or_break)

    def _flush(self) -> None:
        """Write what came back, and only then let it count."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._fresh:
            return
        fresh, self._fresh = self._fresh, []
        self._ledger.add(self._judge, fresh)
        for key, reply in fresh:
            self._open.pop(key).set_result(reply)

    def _flush_or_break(self) -> None:
        """Flush from a callback, where an exception would reach nobody."""
        try:
            self._flush()
        except UserError as error:
            if self._broken is not None and not self._broken.done():
                self._broken.set_exception(error)

    def _read(self, question: Question, answer: Reply | JudgeError) -> Ballot:
        if isinstance(answer, JudgeError):
            return Ballot(question.order, None, reason=f"{type(answer).__name__}: {answer}")
        return self._judge.read(question, answer)


def _worth_asking_again(error: BaseException) -> bool:
    return isinstance(error, JudgeError) and not isinstance(error, Refused)
