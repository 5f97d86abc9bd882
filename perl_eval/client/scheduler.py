"""The scheduler: requests in, answers out in the same order; paced, retried, kept in the ledger.

A reply counts once the disk has it. Replies are committed to the ledger together, at most ``_FLUSH_S`` after the first
of them came, so a kill loses no more than that; the disk is waited for in another thread, however long it takes.
Errors are never written: the next run asks again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from perl_eval.client.ledger import Answering, Ledger
from perl_eval.client.limits import Limits
from perl_eval.client.rate_limiter import Pace, Slot
from perl_eval.client.reply import Reply
from perl_eval.client.retries import again_after
from perl_eval.client.usage import Usage
from perl_eval.errors import JudgeError, RateLimited, UserError

__all__ = ["NO_ANSWER", "Handling", "Request", "Scheduler", "Service", "looked_up"]

_READY = 256
_WINDOW = 2048
_FLUSH_S = 0.25
_FLUSH_ROWS = 1024
_LANDING_S = 5.0
NO_ANSWER = "the ledger holds no answer"
"""Why there is no answer where nobody is asked."""

Content = TypeVar("Content")
Asked = TypeVar("Asked", contravariant=True)  # noqa: PLC0105  # read in signatures
Outcome = Reply | JudgeError | None
"""A reply, why there is none, or None: never sent, because a budget ran out."""


class Service(Answering, Protocol[Asked]):
    """Who answers: a judge, or a model behind a server that is sampled.

    Attributes:
        group: How many requests one call of `ask` may carry.
        longest: Tokens of the longest reply to one of them, as far as known.
    """

    group: int
    longest: int

    async def ask(self, contents: Sequence[Asked], /) -> list[Reply]:
        """Answer 1 to ``group`` requests, in order, one reply each.

        Raises:
            JudgeError: No reply could be had.
            UserError: No request will ever be answered: asking ends.
        """
        ...

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:
        """Return what so many tokens cost, or None if nobody knows."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...


class Request(NamedTuple, Generic[Content]):
    """One request.

    Attributes:
        key: Its place in the ledger.
        content: What is asked.
        reply: What the ledger holds, if it does.
    """

    key: bytes
    content: Content
    reply: Reply | None = None


def looked_up(ledger: Ledger, block: Sequence[tuple[bytes, Content]]) -> list[Request[Content]]:
    """Return requests with what the ledger holds for them."""
    known = ledger.find([key for key, _ in block])
    return [Request(key, content, known.get(key)) for key, content in block]


@dataclass(frozen=True, slots=True)
class Handling(Generic[Content]):
    """How requests of one kind are handled.

    Attributes:
        unit: What a request is part of: neighbours of one unit are not parted where they fit into one call.
        tokens: How many tokens a request has, roughly.
        ends: Whether asking ends with this failure of a request, given all counts so far, and with which error.
        keeps: Whether a reply goes into the ledger.
    """

    unit: Callable[[Content], object]
    tokens: Callable[[Content], float]
    ends: Callable[[JudgeError, Usage], UserError | None]
    keeps: Callable[[Reply], bool] = lambda _: True


class Scheduler(Generic[Content]):
    """One round of asking: what waits to be sent, what is on its way, what came back and is not on disk yet.

    Args:
        service: Whom to ask.
        ledger: Where answers are kept.
        limits: How to ask.
        tally: Counts are added to it.
        handling: How the requests are handled.
    """

    def __init__(
        self, service: Service[Content], ledger: Ledger, limits: Limits, tally: Usage, handling: Handling[Content]
    ) -> None:
        self._service, self._ledger, self._limits, self._tally = service, ledger, limits, tally
        self._handling = handling
        self._pace = Pace(limits.max_concurrency, rpm=limits.rpm, tpm=limits.tpm)
        self._reserved_usd = 0.0
        self._todo: deque[list[Request[Content]]] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: dict[bytes, asyncio.Future[Outcome]] = {}
        self._fresh: list[tuple[bytes, Reply]] = []
        self._flusher: asyncio.Task[None] | None = None
        self._committed: list[tuple[bytes, Reply]] = []
        self._syncer: asyncio.Task[None] | None = None
        self._broken: asyncio.Future[None] | None = None
        self._on_way = 0
        self._landed: asyncio.Event | None = None

    def answers(
        self, blocks: Iterable[Sequence[Request[Content]]]
    ) -> Generator[tuple[Content, Reply | JudgeError], None, None]:
        """Yield every request's content with its reply, or with why it has none, in order.

        Blocks are taken as they are needed, so that some thousand requests are ahead of the answers. If a budget runs
        out, the answers end early; what was on its way is waited for and kept.

        Args:
            blocks: Requests, each block looked up in the ledger just before it is taken.

        Raises:
            UserError: The service will never answer, or the ledger cannot be written.
        """
        if _inside_a_loop():
            # In a notebook, say. Two loops cannot run in one thread, so this one waits for another thread's.
            with ThreadPoolExecutor(max_workers=1) as elsewhere:
                yield from elsewhere.submit(lambda: list(self._drive(iter(blocks)))).result()
        else:
            yield from self._drive(iter(blocks))

    def _drive(
        self, blocks: Iterator[Sequence[Request[Content]]]
    ) -> Generator[tuple[Content, Reply | JudgeError], None, None]:
        with asyncio.Runner() as runner:
            answers = self._answers(blocks)

            async def following() -> list[tuple[Content, Reply | JudgeError]] | None:
                return await anext(answers, None)

            async def close() -> None:
                await answers.aclose()
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
        try:
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
        finally:
            if self._landed is not None and self._on_way:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._landed.wait(), _LANDING_S)
            tasks = [*self._tasks, *(one for one in (self._sender, self._flusher, self._syncer) if one is not None)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._fresh:
                self._ledger.add(self._service, self._fresh)
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
        self._todo.extend(_grouped(missing, self._service.group, self._handling.unit))
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

    def _tokens(self, group: Sequence[Request[Content]]) -> float:
        tokens = self._handling.tokens
        return sum(tokens(request.content) for request in group) + self._service.longest * len(group)

    async def _send(self, group: list[Request[Content]], turn: Slot) -> None:
        try:
            try:
                replies = await self._once(group, turn)
            except JudgeError as error:
                replies = await self._again(group, error)
        except _Stopped:
            for request in [*group, *(entry for other in self._todo for entry in other)]:
                self._open.pop(request.key).set_result(None)
            self._todo.clear()
        except JudgeError as error:
            self._give_up(group, error)
        else:
            for request, reply in zip(group, replies, strict=True):
                self._keep(request.key, reply)

    async def _again(self, group: list[Request[Content]], error: JudgeError) -> list[Reply]:
        async def attempt() -> list[Reply]:
            return await self._once(group, await self._pace.enter(self._tokens(group), again=True))

        limits = self._limits
        return await again_after(
            error, attempt, attempts=limits.attempts, backoff_s=limits.backoff_s, failed=self._count_retry
        )

    def _count_retry(self) -> None:
        self._tally.retries += 1

    def _give_up(self, group: Sequence[Request[Content]], error: JudgeError) -> None:
        self._tally.failed += len(group)
        if (end := self._handling.ends(error, self._tally)) is not None:
            self._landed = asyncio.Event()  # nothing more is sent; what is on its way is paid, and waited for
            raise end from None
        for request in group:
            self._open.pop(request.key).set_result(error)

    async def _once(self, group: Sequence[Request[Content]], turn: Slot) -> list[Reply]:
        tokens_out = self._service.longest * len(group)
        reserve_usd = 0.0
        replies: list[Reply] = []
        try:
            if self._limits.max_cost_usd is not None:
                reserve_usd = self._service.price_usd(self._tokens(group) - tokens_out, tokens_out) or 0.0
                self._reserved_usd += reserve_usd
            self._check_budget()
            self._tally.requests += 1
            self._on_way += 1
            try:
                replies = await self._service.ask([request.content for request in group])
            finally:
                self._on_way -= 1
                if self._landed is not None and not self._on_way:
                    self._landed.set()
            return replies
        except RateLimited as error:
            self._pace.complain(turn, retry_after_s=error.retry_after_s or 0.0)
            raise
        finally:
            self._reserved_usd -= reserve_usd
            self._pace.leave(turn, answered=bool(replies), left=replies[-1].left if replies else None)

    def _check_budget(self) -> None:
        """Stop before a request that a budget does not cover; what is on its way counts at its highest price."""
        limits, tally = self._limits, self._tally
        if limits.max_requests is not None and tally.requests >= limits.max_requests:
            tally.stopped = f"max_requests of {limits.max_requests} reached"
        if limits.max_cost_usd is not None and tally.cost_usd + self._reserved_usd > limits.max_cost_usd:
            tally.stopped = f"max_cost_usd of {limits.max_cost_usd} reached"
        if tally.stopped or self._landed is not None:
            raise _Stopped

    def _keep(self, key: bytes, reply: Reply) -> None:
        self._tally.asked += 1
        self._tally.tokens_in += reply.tokens_in
        self._tally.tokens_out += reply.tokens_out
        self._tally.cost_usd += reply.cost_usd or 0.0
        if not self._handling.keeps(reply):
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
        earlier = self._ledger.commit(self._service, fresh)
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


def _grouped(
    missing: list[Request[Content]], size: int, unit: Callable[[Content], object]
) -> Iterator[list[Request[Content]]]:
    """Cut requests into groups, and never between those of one unit if they fit into one."""
    if size == 1:
        yield from ([request] for request in missing)
        return
    group: list[Request[Content]] = []
    for _, same in groupby(missing, key=lambda request: unit(request.content)):
        whole = list(same)
        for start in range(0, len(whole), size):
            piece = whole[start : start + size]
            if len(group) + len(piece) > size:
                yield group
                group = []
            group = [*group, *piece]
    if group:
        yield group


def _inside_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _Stopped(Exception):
    """Asking ended before a request was sent."""
