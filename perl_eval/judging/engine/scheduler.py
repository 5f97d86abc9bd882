"""The desk where questions are put: one round of asking, from the ledger's answers to the judge's.

A reply counts once the disk has it. Replies are committed to the ledger together, at most ``_FLUSH_S`` after the first
of them came, so a kill loses no more than that; the disk is waited for in another thread, however long it takes.
Errors and cut-off replies are never written: the next run asks again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from itertools import groupby, islice
from typing import Any

import tenacity

from perl_eval.client.ledger import Ledger
from perl_eval.client.rate_limiter import LONGEST_WAIT_S, Pace, Slot
from perl_eval.client.reply import Reply
from perl_eval.client.usage import Usage
from perl_eval.errors import JudgeError, RateLimited, Refused, UserError
from perl_eval.judges.protocol import Judge
from perl_eval.judges.question_keys import Keys
from perl_eval.judging.engine.limits import AskOptions, expected_tokens
from perl_eval.records import Ballot, Question

__all__ = ["NOT_KEPT", "Desk"]

_BLOCK = 256
_WINDOW = 2048
_FLUSH_S = 0.25
_FLUSH_ROWS = 1024
_HOPELESS = 20
_NO_ANSWER = "the ledger holds no answer"
NOT_KEPT = f"{JudgeError.__name__}: {_NO_ANSWER}"
"""The reason of a ballot that was asked for offline and is not in the ledger."""

Outcome = Reply | JudgeError | None
"""A reply, why there is none, or None: never sent, because a budget ran out."""
_Group = list[tuple[bytes, Question]]


class Desk:
    """One round of asking: what waits to be sent, what is on its way, what came back and is not on disk yet.

    Args:
        judge: Whom to ask.
        ledger: Where answers are kept.
        options: How to ask.
        tally: Counts are added to it.
    """

    def __init__(self, judge: Judge, ledger: Ledger, options: AskOptions, tally: Usage) -> None:
        self._judge, self._ledger, self._options, self._tally = judge, ledger, options, tally
        self._keys = Keys(judge)
        self._pace = Pace(options.max_concurrency, rpm=options.rpm, tpm=options.tpm)
        self._reserved_usd = 0.0
        self._todo: deque[_Group] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: dict[bytes, asyncio.Future[Outcome]] = {}
        self._fresh: list[tuple[bytes, Reply]] = []
        self._flusher: asyncio.Task[None] | None = None
        self._committed: list[tuple[bytes, Reply]] = []
        self._syncer: asyncio.Task[None] | None = None
        self._broken: asyncio.Future[None] | None = None

    async def ballots(self, source: Iterator[Question]) -> AsyncGenerator[list[Ballot]]:
        """Yield ballots as they come, in the order of the questions.

        Raises:
            UserError: The judge will never answer, or the ledger cannot be written.
        """
        self._broken = asyncio.get_running_loop().create_future()
        waiting: deque[tuple[Question, Outcome | asyncio.Future[Outcome]]] = deque()
        try:
            while True:
                while len(waiting) < _WINDOW and not self._tally.stopped and (block := list(islice(source, _BLOCK))):
                    waiting.extend(self._admit(block))
                if not waiting:
                    return
                await self._until(waiting[0][1])
                ready: list[Ballot] = []
                read = self._judge.read
                # Few at a time: while they are taken nothing else runs, and replies wait to be written.
                while waiting and len(ready) < _BLOCK:
                    question, answer = waiting[0]
                    if not isinstance(answer, (Reply, JudgeError)):
                        if answer is not None and not answer.done():
                            break
                        answer = answer.result() if answer is not None else None
                        if answer is None:
                            yield ready
                            await asyncio.gather(*self._tasks)
                            return
                    waiting.popleft()
                    ready.append(read(question, answer) if isinstance(answer, Reply) else _unanswered(question, answer))
                yield ready
        finally:
            tasks = [*self._tasks, *(one for one in (self._sender, self._flusher, self._syncer) if one is not None)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._fresh:
                self._ledger.add(self._judge, self._fresh)
            if self._broken.done() and not self._broken.cancelled():
                self._broken.exception()

    async def _until(self, answer: Outcome | asyncio.Future[Outcome]) -> None:
        """Wait for an answer, or for whatever ends the asking."""
        assert self._broken is not None
        if isinstance(answer, asyncio.Future) and not answer.done():
            ahead: set[asyncio.Future[Any]] = {answer, self._broken}
            await asyncio.wait(ahead, return_when=asyncio.FIRST_COMPLETED)
        if self._broken.done():
            self._broken.result()

    def _admit(self, block: list[Question]) -> list[tuple[Question, Outcome | asyncio.Future[Outcome]]]:
        """Look questions up and line up those that nobody answered or is asking already."""
        votes, tally = self._options.votes, self._tally
        if votes > 1:
            block = [question for question in block for _ in range(votes)]
        keys = [self._keys.of(question, place % votes) for place, question in enumerate(block)]
        known = self._ledger.find([key for key in keys if key not in self._open])
        admitted: list[tuple[Question, Outcome | asyncio.Future[Outcome]]] = []
        missing: _Group = []
        for key, question in zip(keys, block, strict=True):
            if key in known:
                tally.from_ledger += 1
                admitted.append((question, known[key]))
            elif key in self._open:
                tally.shared += 1
                admitted.append((question, self._open[key]))
            elif self._options.offline:
                tally.failed += 1
                admitted.append((question, JudgeError(_NO_ANSWER)))
            else:
                answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
                self._open[key] = answer
                missing.append((key, question))
                admitted.append((question, answer))
        self._todo.extend(_grouped(missing, self._judge.group))
        if self._todo and (self._sender is None or self._sender.done()):
            self._sender = self._started(self._send_all())
        return admitted

    def _started(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()  # looked at in any case: else asyncio logs it
        if task.cancelled() or self._broken is None or self._broken.done():
            return
        if error is not None:
            self._broken.set_exception(error)
        elif not self._tasks and self._fresh:
            self._flush_after(0.0)

    async def _send_all(self) -> None:
        """Send what is lined up, one group after the other, as fast as the pace allows."""
        while self._todo:
            # The group is taken after the wait: what was cancelled in it is still lined up.
            turn = await self._pace.enter(self._tokens(self._todo[0]))
            if self._todo:
                self._started(self._send(self._todo.popleft(), turn))
            else:  # a budget ran out meanwhile
                self._pace.leave(turn, answered=False)

    def _tokens(self, group: _Group) -> float:
        return sum(expected_tokens(question) for _, question in group) + self._judge.longest * len(group)

    async def _send(self, group: _Group, turn: Slot) -> None:
        try:
            try:
                replies = await self._once(group, turn)
            except JudgeError as error:
                if not _worth_asking_again(error):
                    raise
                replies = await self._again(group, error)
        except _BudgetSpent:
            for key, _ in [*group, *(entry for other in self._todo for entry in other)]:
                self._open.pop(key).set_result(None)
            self._todo.clear()
        except JudgeError as error:
            self._give_up(group, error)
        else:
            for (key, _), reply in zip(group, replies, strict=True):
                self._keep(key, reply)

    async def _again(self, group: _Group, error: JudgeError) -> list[Reply]:
        """Ask again after a first failure, as often as allowed."""
        first: list[JudgeError] = [error]

        async def attempt() -> list[Reply]:
            if first:
                raise first.pop()
            return await self._once(group, await self._pace.enter(self._tokens(group), again=True))

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_worth_asking_again),
            stop=tenacity.stop_after_attempt(self._options.attempts),
            wait=self._pause_s,
            reraise=True,
        )
        replies: list[Reply] = await retrying(attempt)
        return replies

    def _give_up(self, group: _Group, error: JudgeError) -> None:
        self._tally.failed += len(group)
        if self._tally.failed >= _HOPELESS and not self._tally.asked + self._tally.from_ledger:
            raise UserError(
                f"{self._judge.model} answered none of {self._tally.failed} questions, lastly: {error}",
                "check that the judge can be reached and takes such questions",
            ) from None
        for key, _ in group:
            self._open.pop(key).set_result(error)

    async def _once(self, group: _Group, turn: Slot) -> list[Reply]:
        tokens_out = self._judge.longest * len(group)
        reserve_usd = 0.0
        replies: list[Reply] = []
        try:
            if self._options.max_cost_usd is not None:
                reserve_usd = self._judge.price_usd(self._tokens(group) - tokens_out, tokens_out) or 0.0
                self._reserved_usd += reserve_usd
            self._check_budget()
            self._tally.requests += 1
            replies = await self._judge.ask([question for _, question in group])
            return replies
        except RateLimited as error:
            self._pace.complain(turn, retry_after_s=error.retry_after_s or 0.0)
            raise
        finally:
            self._reserved_usd -= reserve_usd
            self._pace.leave(turn, answered=bool(replies), left=replies[-1].left if replies else None)

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
        pause = tenacity.wait_random_exponential(multiplier=self._options.backoff_s, max=LONGEST_WAIT_S)(state)
        if isinstance(error, RateLimited) and error.retry_after_s is not None:
            return min(error.retry_after_s, LONGEST_WAIT_S) + pause / 4
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
        elif self._flusher is None or self._flusher.done():
            self._flush_after(_FLUSH_S)

    def _flush_after(self, wait_s: float) -> None:
        async def flush() -> None:
            await asyncio.sleep(wait_s)
            self._flush()

        if self._flusher is not None:
            self._flusher.cancel()
        self._flusher = asyncio.get_running_loop().create_task(flush())
        self._flusher.add_done_callback(self._finished)

    def _flush(self) -> None:
        """Commit what came back."""
        if not self._fresh:
            return
        fresh, self._fresh = self._fresh, []
        earlier = self._ledger.commit(self._judge, fresh)
        # Another process may have been faster with the same question: what is kept is what counts.
        self._committed += [(key, earlier.get(key, reply)) for key, reply in fresh]
        if self._syncer is None or self._syncer.done():
            self._syncer = asyncio.get_running_loop().create_task(self._settle())
            self._syncer.add_done_callback(self._finished)

    async def _settle(self) -> None:
        """Let what was committed count once the disk has it."""
        while self._committed:
            committed, self._committed = self._committed, []
            await asyncio.to_thread(self._ledger.sync)
            for key, reply in committed:
                self._open.pop(key).set_result(reply)


def _unanswered(question: Question, error: JudgeError) -> Ballot:
    return Ballot(question.order, None, reason=f"{type(error).__name__}: {error}")


def _grouped(missing: _Group, size: int) -> Iterator[_Group]:
    """Cut questions into groups, and never between those of one judgement if they fit into one."""
    if size == 1:
        yield from ([entry] for entry in missing)
        return
    group: _Group = []
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
