"""The scheduler: requests in, answers out in the same order; paced, retried, kept in the ledger.

Failures that can pass are never written: the next run asks again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from perl_eval.client.account import Spending
from perl_eval.client.budget import Reservation, SpendingLimit
from perl_eval.client.garbage import seldom_collected
from perl_eval.client.ledger import Ledger
from perl_eval.client.ledger_writes import LedgerWrites
from perl_eval.client.limits import Limits
from perl_eval.client.outages import Outages
from perl_eval.client.outside_loops import inside_a_loop, outside_loops
from perl_eval.client.rate_limiter import LONGEST_WAIT_S, Pace, Slot
from perl_eval.client.reply import Reply
from perl_eval.client.retries import pause_s
from perl_eval.client.sent_requests import counting
from perl_eval.client.service import Handling, Request, Service, grouped
from perl_eval.errors import JudgeError, RateLimited, Refused, TurnedAway, UserError

__all__ = ["NO_ANSWER", "Scheduler"]

_READY = 256
_WINDOW = 2048
_LANDING_S = 5.0
_FORBIDDEN = 3
_TURN_S = 0.1
"""How long what is lined up is sent before all else gets a turn."""
NO_ANSWER = "the ledger holds no answer"
"""Why there is no answer where nobody is asked."""

Content = TypeVar("Content")
Outcome = Reply | JudgeError | None
"""A reply, why there is none, or None: never sent, because asking stopped."""


class _Ticket(NamedTuple):
    """Leave to send one call: its turn, what it may cost, and whether it finds out if the server is back."""

    turn: Slot
    held: Reservation
    probe: bool


class Scheduler(Generic[Content]):
    """One round of asking: what waits to be sent, what is on its way, what came back and is not on disk yet.

    Args:
        service: Whom to ask.
        ledger: Where answers are kept.
        limits: How to ask.
        handling: How the requests are handled.
        spending: Counts are added to it: what this process comes to, and the account of the run if it has one.
    """

    def __init__(
        self,
        service: Service[Content],
        ledger: Ledger,
        limits: Limits,
        handling: Handling[Content],
        spending: Spending,
    ) -> None:
        self._service, self._limits, self._tally = service, limits, spending.tally
        self._handling = handling
        longest_s = LONGEST_WAIT_S if limits.patience_s is None else min(limits.patience_s, LONGEST_WAIT_S)
        self._pace = Pace(limits.max_concurrency, rpm=limits.rpm, tpm=limits.tpm, longest_s=longest_s)
        self._budget = SpendingLimit(service, limits, self._tally, spending.account)
        self._outages = Outages(limits, self._tally)
        self._keeping = LedgerWrites(service, ledger, self._landed_on_disk, self._finished)
        self._todo: deque[list[Request[Content]]] = deque()
        self._choosing = self._hired = False
        self._yielded_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: dict[bytes, asyncio.Future[Outcome]] = {}
        self._broken: asyncio.Future[None] | None = None
        self._on_way = 0
        self._landed: asyncio.Event | None = None
        self._stopped = asyncio.Event()

    def answers(
        self, blocks: Iterable[Sequence[Request[Content]]]
    ) -> Generator[tuple[Content, Reply | JudgeError], None, None]:
        """Yield every request's content with its reply, or with why it has none, in order.

        Blocks are taken as they are needed, so that some thousand requests are ahead of the answers. If a budget or
        patience runs out, or nobody takes them any more, the answers end early; what was on its way is waited for and
        kept.

        Args:
            blocks: Requests, each block looked up in the ledger just before it is taken.

        Raises:
            UserError: The service will never answer, or the ledger cannot be written.
        """
        if inside_a_loop():
            yield from outside_loops(lambda: list(self._drive(iter(blocks))))
        else:
            yield from self._drive(iter(blocks))

    def _drive(
        self, blocks: Iterator[Sequence[Request[Content]]]
    ) -> Generator[tuple[Content, Reply | JudgeError], None, None]:
        with seldom_collected(), asyncio.Runner() as runner:
            answers = self._answers(blocks)

            async def following() -> list[tuple[Content, Reply | JudgeError]] | None:
                return await anext(answers, None)

            async def close() -> None:
                await answers.aclose()
                try:
                    await self._end()
                finally:
                    await self._service.close()

            try:
                while (some := runner.run(following())) is not None:
                    yield from some
            finally:
                runner.run(close())

    async def _answers(
        self, blocks: Iterator[Sequence[Request[Content]]]
    ) -> AsyncGenerator[list[tuple[Content, Reply | JudgeError]]]:
        self._broken = asyncio.get_running_loop().create_future()
        waiting: deque[tuple[Content, Outcome | asyncio.Future[Outcome]]] = deque()
        while True:
            while len(waiting) < _WINDOW and not self._tally.stopped and (block := next(blocks, None)) is not None:
                waiting.extend(self._admit(block))
            if not waiting:
                return
            await self._until(waiting[0][1])
            ready: list[tuple[Content, Reply | JudgeError]] = []
            # Few at a time: while they are taken nothing else runs, and replies wait to be written.
            while waiting and len(ready) < _READY:
                content, answer = waiting[0]
                if not isinstance(answer, (Reply, JudgeError)):
                    if answer is not None and not answer.done():
                        break
                    answer = answer.result() if answer is not None else None
                    if answer is None:
                        yield ready
                        await asyncio.gather(*self._tasks)
                        return
                waiting.popleft()
                ready.append((content, answer))
            yield ready

    async def _end(self) -> None:
        """Send nothing more, wait for what is on its way, which is paid, and put it on the disk.

        Who interrupts the wait ends it.
        """
        landed = self._close()
        self._stopped.set()
        if self._on_way:
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(landed.wait(), _LANDING_S)
        tasks = [*self._tasks, *self._keeping.tasks()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._keeping.end(answered=bool(self._tally.asked or self._tally.from_ledger))
        self._tally.waiting = None
        if self._broken is not None and self._broken.done() and not self._broken.cancelled():
            self._broken.exception()

    async def _until(self, answer: Outcome | asyncio.Future[Outcome]) -> None:
        """Wait for an answer, or for whatever ends the asking."""
        assert self._broken is not None
        if isinstance(answer, asyncio.Future) and not answer.done():
            ahead: set[asyncio.Future[Any]] = {answer, self._broken}
            await asyncio.wait(ahead, return_when=asyncio.FIRST_COMPLETED)
        if self._broken.done():
            self._broken.result()

    def _admit(self, block: Sequence[Request[Content]]) -> list[tuple[Content, Outcome | asyncio.Future[Outcome]]]:
        """Line up the requests that nobody answered or is asking already."""
        tally = self._tally
        admitted: list[tuple[Content, Outcome | asyncio.Future[Outcome]]] = []
        missing: list[Request[Content]] = []
        for request in block:
            key, content, reply = request
            if key in self._open:
                tally.shared += 1
                admitted.append((content, self._open[key]))
            elif isinstance(reply, Refused):
                tally.failed += 1
                admitted.append((content, reply))
            elif reply is not None:
                tally.from_ledger += 1
                admitted.append((content, reply))
            elif self._limits.offline:
                tally.failed += 1
                admitted.append((content, JudgeError(NO_ANSWER)))
            else:
                answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
                self._open[key] = answer
                missing.append(request)
                admitted.append((content, answer))
        self._todo.extend(grouped(missing, self._service.group, self._handling.unit))
        self._hire()
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
        elif not self._tasks:
            self._keeping.flush_after(0.0)

    def _hire(self) -> None:
        """Have one more task send what is lined up, where more may be on its way and none is about to be sent."""
        if self._todo and not (self._choosing or self._hired) and self._pace.room:
            self._hired = True
            self._started(self._work())

    async def _work(self) -> None:
        """Send what is lined up, one group after the other, as fast as pace, budget and server allow.

        A task that ends although there is more leaves it to one that chooses, or has something on its way.
        """
        self._hired = False
        while self._todo and not self._choosing and (self._pace.room or not self._on_way):
            # The group is taken after the wait: what was cancelled in it is still lined up.
            self._choosing = True
            try:
                ticket = await self._ticket(self._todo[0])
            finally:
                self._choosing = False
            if ticket is None:
                self._stop([])
                return
            group = self._todo.popleft()
            self._hire()
            await self._send(group, ticket)
            if ticket.turn.sent_s - self._yielded_s > _TURN_S:
                self._yielded_s = ticket.turn.sent_s
                await asyncio.sleep(0)  # who answers without waiting holds all others up

    async def _ticket(self, group: Sequence[Request[Content]], *, again: bool = False) -> _Ticket | None:
        """Wait until a group may be sent; None if it never may."""
        tokens_in = sum([self._handling.tokens(request.content) for request in group])
        while True:
            probe = self._outages.away and await self._outages.gate()
            try:
                turn = await self._pace.enter(tokens_in + self._service.longest * len(group), again=again)
            except asyncio.CancelledError:
                self._outages.released(probe=probe)
                raise
            held = None
            try:
                if self._outages.away and not probe:
                    continue
                held = None if self._over() else await self._budget.reserve(tokens_in, len(group))
            finally:
                if held is None:
                    self._pace.leave(turn, answered=False)
                    self._outages.released(probe=probe)
            if held is None:
                return None
            return _Ticket(Slot(time.monotonic(), turn.requests, turn.tokens), held, probe)

    def _close(self) -> asyncio.Event:
        """Send nothing more; what is on its way is paid, and waited for: the event is set when nothing is."""
        self._landed = self._landed or asyncio.Event()
        return self._landed

    def _over(self) -> bool:
        return self._tally.stopped is not None or self._landed is not None

    async def _send(self, group: list[Request[Content]], ticket: _Ticket) -> None:
        """Send a group, again where that can help, and hand on what came of it."""
        tries, heard = 0, 0
        while True:
            try:
                replies = await self._once(group, ticket)
            except JudgeError as error:
                tries += 1
                heard = self._outages.answers if tries == 1 else heard
                final = self._noted(error, group, ticket, tries=tries, others=self._outages.answers > heard)
                if final is not None:
                    self._give_up(group, final)
                    return
                left_s = self._outages.left_s(error, ticket.turn.sent_s)
                pause = pause_s(error, tries, self._limits.backoff_s, left_s)
            else:
                self._outages.heard()
                for request, reply in zip(group, replies, strict=True):
                    self._keep(request.key, reply)
                return
            if not self._over():
                self._hire()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopped.wait(), pause)
            again = None if self._over() else await self._ticket(group, again=True)
            if again is None:
                self._stop(group)
                return
            self._tally.retries += 1
            ticket = again

    def _noted(
        self, error: JudgeError, group: Sequence[Request[Content]], ticket: _Ticket, *, tries: int, others: bool
    ) -> JudgeError | None:
        """Say how a group failed; returns its final reason, or None if it is to be sent again.

        Args:
            error: How it failed.
            group: What was sent.
            ticket: With what leave.
            tries: How often it was sent.
            others: Whether the server answered others since this group failed first.
        """
        if not error.can_pass:
            self._outages.heard()
            return error
        few = self._outages.failed(error, group[0].key, sent_s=ticket.turn.sent_s, probe=ticket.probe)
        if isinstance(error, TurnedAway):
            if not self._outages.answers and (not error.forbidden or self._outages.failures >= _FORBIDDEN):
                self._close()
                raise UserError(error.what, error.fix)
            if error.forbidden and tries >= _FORBIDDEN and others:
                return Refused(error.what)
        if tries < self._limits.attempts:
            return None
        return error if others or few or not self._outages.known else None

    def _give_up(self, group: Sequence[Request[Content]], error: JudgeError) -> None:
        self._tally.failed += len(group)
        self._tally.can_pass += len(group) if error.can_pass else 0
        if (end := self._handling.ends(error, self._tally)) is not None:
            self._close()
            raise end from None
        for request in group:
            if not error.can_pass:
                self._keeping.refuse(request.key, str(error))
            self._open.pop(request.key).set_result(error)

    def _stop(self, group: Sequence[Request[Content]]) -> None:
        """Send nothing more: what is not on its way stays without an answer."""
        for request in [*group, *(entry for other in self._todo for entry in other)]:
            self._open.pop(request.key).set_result(None)
        self._todo.clear()
        self._stopped.set()
        self._budget.wake()

    async def _once(self, group: Sequence[Request[Content]], ticket: _Ticket) -> list[Reply]:
        replies: list[Reply] = []
        failure: BaseException | None = None
        self._on_way += 1
        try:
            with counting(self._budget.sent_again):
                replies = await self._service.ask([request.content for request in group])
            return replies
        except RateLimited as error:
            left_s = self._outages.left_s(error, ticket.turn.sent_s)
            self._pace.complain(ticket.turn, retry_after_s=min(error.retry_after_s or 0.0, left_s))
            failure = error
            raise
        except BaseException as error:
            failure = error
            raise
        finally:
            self._on_way -= 1
            if self._landed is not None and not self._on_way:
                self._landed.set()
            self._budget.settle(ticket.held, replies, failure)
            self._pace.leave(ticket.turn, answered=bool(replies), left=replies[-1].left if replies else None)
            if not isinstance(failure, JudgeError):
                self._outages.released(probe=ticket.probe and not replies)

    def _keep(self, key: bytes, reply: Reply) -> None:
        self._tally.asked += 1
        if self._handling.keeps(reply):
            self._keeping.add(key, reply)
        else:
            self._landed_on_disk(key, reply)

    def _landed_on_disk(self, key: bytes, reply: Reply) -> None:
        self._open.pop(key).set_result(reply)
