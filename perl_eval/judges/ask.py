"""Asking: questions in, ballots out in the same order; what the ledger holds is not asked again.

A reply counts once it is in the ledger. Replies are written together, at most ``_FLUSH_S`` after the first of them
came, so a kill loses no more than that. Errors and cut-off replies are never written: the next run asks again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, groupby, islice
from typing import Any

import tenacity

from perl_eval.errors import JudgeError, RateLimited, Refused, UserError
from perl_eval.judges.ledger import Keys, Ledger
from perl_eval.judges.pace import Pace
from perl_eval.judges.protocol import Judge, Reply
from perl_eval.records import Ballot, Question

__all__ = ["NOT_KEPT", "AskOptions", "Tally", "ask", "expected_tokens"]

_BLOCK = 256
_WINDOW = 4096
_FLUSH_S = 0.25
_FLUSH_ROWS = 1024
_LONGEST_WAIT_S = 60.0
_HOPELESS = 20
_CHARACTERS_A_TOKEN = 4.0
_NO_ANSWER = "the ledger holds no answer"
NOT_KEPT = f"{JudgeError.__name__}: {_NO_ANSWER}"
"""The reason of a ballot that was asked for offline and is not in the ledger."""


@dataclass(frozen=True, slots=True)
class AskOptions:
    """How to ask.

    Attributes:
        max_concurrency: Requests on their way at one time, at most; the engine finds what the server bears below it.
        attempts: How often a request is sent before its question is given up.
        backoff_s: Mean of the first wait before asking again; it doubles with every attempt, with jitter.
        votes: How often each question is asked; more than once only makes sense at a temperature above 0.
        rpm: Requests a minute, at most.
        tpm: Tokens a minute, at most, as estimated before sending.
        max_requests: Requests in all, sent again or not; then asking stops.
        max_cost_usd: Money in all; asking stops before a request that could cost more than what is left.
        offline: Ask nobody: what the ledger does not hold stays without an answer.
    """

    max_concurrency: int = 32
    attempts: int = 6
    backoff_s: float = 0.5
    votes: int = 1
    rpm: float | None = None
    tpm: float | None = None
    max_requests: int | None = None
    max_cost_usd: float | None = None
    offline: bool = False

    def __post_init__(self) -> None:
        for name in ("max_concurrency", "attempts", "backoff_s", "votes", "rpm", "tpm", "max_requests", "max_cost_usd"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{name} is {value}", "give a number above 0")


@dataclass(slots=True)
class Tally:
    """What asking came to.

    Attributes:
        asked: Questions that were sent and answered.
        from_ledger: Questions that the ledger answered.
        shared: Questions equal to one on its way, which took its answer.
        requests: Requests sent, again or not.
        retries: Requests sent again.
        failed: Questions without an answer after all attempts.
        tokens_in: Tokens of the requests that were answered.
        tokens_out: Tokens of their answers.
        cost_usd: Their price, where prices are known.
        stopped: Which budget ended the asking, if one did.
    """

    asked: int = 0
    from_ledger: int = 0
    shared: int = 0
    requests: int = 0
    retries: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    stopped: str | None = None


def expected_tokens(question: Question) -> float:
    """Return a rough number of tokens of a request: a quarter of its characters."""
    return sum(len(turn.content) for turn in question.messages) / _CHARACTERS_A_TOKEN


def ask(
    questions: Iterable[Question],
    judge: Judge,
    ledger: Ledger,
    *,
    options: AskOptions | None = None,
    tally: Tally | None = None,
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
    desk = _Desk(judge, ledger, options, tally or Tally())
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


def _drive(desk: _Desk, judge: Judge, questions: Iterable[Question]) -> Generator[Ballot, None, None]:
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


Answer = asyncio.Future[Reply | JudgeError | None]
"""A reply, why there is none, or None: never sent, because a budget ran out."""


class _Desk:
    """One round of asking: what is on its way, what came back and is not on disk yet."""

    def __init__(self, judge: Judge, ledger: Ledger, options: AskOptions, tally: Tally) -> None:
        self._judge, self._ledger, self._options, self._tally = judge, ledger, options, tally
        self._keys = Keys(judge)
        self._pace = Pace(options.max_concurrency, rpm=options.rpm, tpm=options.tpm)
        self._reserved_usd = 0.0
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
                while len(waiting) < _WINDOW and not self._tally.stopped and (block := list(islice(source, _BLOCK))):
                    waiting.extend(self._admit(block))
                if not waiting:
                    return
                ahead: set[asyncio.Future[Any]] = {waiting[0][1], self._broken}
                await asyncio.wait(ahead, return_when=asyncio.FIRST_COMPLETED)
                if self._broken.done():
                    self._broken.result()
                ready: list[Ballot] = []
                while waiting and waiting[0][1].done():
                    question, answer = waiting.popleft()
                    outcome = answer.result()
                    if outcome is None:
                        yield ready
                        await asyncio.gather(*self._tasks)
                        return
                    ready.append(self._read(question, outcome))
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
        block = [question for question in block for _ in range(self._options.votes)]
        keys = [self._keys.of(question, place % self._options.votes) for place, question in enumerate(block)]
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
                elif self._options.offline:
                    answer.set_result(JudgeError(_NO_ANSWER))
                    self._tally.failed += 1
                else:
                    self._open[key] = answer
                    missing.append((key, question))
            else:
                self._tally.shared += 1
            admitted.append((question, answer))
        for group in _grouped(missing, self._judge.group):
            task = loop.create_task(self._send(group))
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
            replies: list[Reply] = await retrying(self._once, questions, count())
        except _BudgetSpent:
            for key, _ in group:
                self._open.pop(key).set_result(None)
        except JudgeError as error:
            self._tally.failed += len(group)
            if self._tally.failed >= _HOPELESS and not self._tally.asked + self._tally.from_ledger:
                raise UserError(
                    f"{self._judge.model} answered none of {self._tally.failed} questions, lastly: {error}",
                    "check that the judge can be reached and takes such questions",
                ) from None
            for key, _ in group:
                self._open.pop(key).set_result(error)
        else:
            for (key, _), reply in zip(group, replies, strict=True):
                self._keep(key, reply)

    async def _once(self, questions: Sequence[Question], attempts: Iterator[int]) -> list[Reply]:
        tokens = sum(map(expected_tokens, questions))
        sent_s = await self._pace.enter(tokens + self._judge.longest * len(questions), again=next(attempts) > 0)
        reserve_usd = self._judge.price_usd(tokens, self._judge.longest * len(questions)) or 0.0
        answered = False
        self._reserved_usd += reserve_usd
        try:
            self._check_budget()
            self._tally.requests += 1
            replies = await self._judge.ask(questions)
            answered = True
            return replies
        except RateLimited as error:
            self._pace.complain(sent_s, retry_after_s=min(error.retry_after_s or 0.0, _LONGEST_WAIT_S))
            raise
        finally:
            self._reserved_usd -= reserve_usd
            self._pace.leave(sent_s, answered=answered)

    def _check_budget(self) -> None:
        """Stop before a request that a budget does not cover; what is on its way counts at its highest price."""
        options, tally = self._options, self._tally
        if options.max_requests is not None and tally.requests >= options.max_requests:
            tally.stopped = f"max_requests of {options.max_requests} reached"
        if options.max_cost_usd is not None and tally.cost_usd + self._reserved_usd > options.max_cost_usd:
            tally.stopped = f"max_cost_usd of {options.max_cost_usd} reached"
        if tally.stopped:
            raise _BudgetSpent

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


def _grouped(missing: Sequence[tuple[bytes, Question]], size: int) -> Iterator[list[tuple[bytes, Question]]]:
    """Cut questions into groups, and never between those of one judgement if they fit into one."""
    group: list[tuple[bytes, Question]] = []
    for _, same in groupby(missing, key=lambda entry: entry[1].id):
        unit = list(same)
        for start in range(0, len(unit), size):
            piece = unit[start : start + size]
            if len(group) + len(piece) > size:
                yield group
                group = []
            group = [*group, *piece]
    if group:
        yield group


class _BudgetSpent(Exception):
    """A budget ran out before a request was sent."""


def _worth_asking_again(error: BaseException) -> bool:
    return isinstance(error, JudgeError) and not isinstance(error, Refused)
