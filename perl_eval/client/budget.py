"""The budget: which request may be sent, given what was spent and what those on their way may cost.

A request reserves the price of its longest reply. Where that does not fit, the request waits until others are settled
and give back what they did not need. Near the end a request may go that costs, as replies were so far, no more than is
left, as long as all that is on its way could pass the cap by a fiftieth at most, or nothing else is on its way.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Protocol

from perl_eval.client.account import Account, spent
from perl_eval.client.limits import Limits
from perl_eval.client.reply import Reply
from perl_eval.client.usage import Usage
from perl_eval.errors import JudgeError, TimedOut

__all__ = ["Priced", "Reservation", "SpendingLimit"]

_SLACK = 0.02
_KNOWN = 20
_SPARE = 1.5
_CHARACTERS_A_TOKEN = 4.0


class Priced(Protocol):
    """Whoever has a price; see `perl_eval.client.service.Service`."""

    longest: int

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:
        """Return what so many tokens cost, or None if nobody knows."""
        ...


class Reservation(NamedTuple):
    """What a call may cost.

    Attributes:
        tokens_in: Tokens of its request, as expected.
        requests: Requests in it.
        most_usd: With the longest replies.
        likely_usd: With replies as they were so far, and half as long again.
        expected_usd: With replies as they were so far.
    """

    tokens_in: float
    requests: int
    most_usd: float
    likely_usd: float
    expected_usd: float


class SpendingLimit:
    """Money and requests of one run.

    Args:
        service: Whose prices count.
        limits: What may be spent.
        tally: What this process came to.
        account: What the run came to.
    """

    def __init__(self, service: Priced, limits: Limits, tally: Usage, account: Account) -> None:
        self._service, self._limits, self._tally, self._account = service, limits, tally, account
        self._priced = service.price_usd(1, 1) is not None
        self._on_way = 0
        self._most_usd = self._likely_usd = 0.0
        self._settled: asyncio.Event = asyncio.Event()
        self._replies = 0
        self._tokens_out = 0.0
        self._longest = 0.0
        self._ratio = 1.0

    async def reserve(self, tokens_in: float, count: int) -> Reservation | None:
        """Wait until a call fits, and note it; None if it never will: the tally then says what stopped it.

        Args:
            tokens_in: Tokens of its request, roughly.
            count: Requests in it.
        """
        while True:
            wanted = self._wanted(tokens_in, count)
            if self._stopped(wanted):
                return None
            if self._fits(wanted):
                break
            self._settled.clear()
            await self._settled.wait()
        self._on_way += 1
        self._most_usd += wanted.most_usd
        self._likely_usd += wanted.likely_usd
        self._tally.requests += 1
        self._account.send(wanted.expected_usd)
        return wanted

    def sent_again(self) -> None:
        """Count a request that a call sends beside its first."""
        self._tally.requests += 1
        self._account.send_again()

    def settle(self, held: Reservation, replies: list[Reply], error: BaseException | None) -> None:
        """Count what a call came to, and give back what it did not need."""
        before, tally = spent(self._tally), self._tally
        for reply in replies:
            self._count(reply.tokens_in, reply.tokens_out, reply.cost_usd, held, estimated=reply.estimated)
        if isinstance(error, JudgeError) and error.paid is not None:
            late = isinstance(error, TimedOut)
            tally.unusable += not late or len(error.paid) > 1
            for tokens in error.paid:
                self._count_lost(tokens, held, late=late)
        elif isinstance(error, asyncio.CancelledError):
            # It was on its way when asking ended, and is answered all the same.
            self._count_lost((None, None), held, late=True)
        self._on_way -= 1
        self._most_usd = self._most_usd - held.most_usd if self._on_way else 0.0
        self._likely_usd = self._likely_usd - held.likely_usd if self._on_way else 0.0
        self._account.settle(held.expected_usd, before, tally)
        self._settled.set()

    def wake(self) -> None:
        """Have those who wait look whether asking stopped."""
        self._settled.set()

    def _count_lost(self, tokens: tuple[int | None, int | None], held: Reservation, *, late: bool) -> None:
        """Count a request that was paid, or may be, and came to no answer.

        Args:
            tokens: In and out, None where nobody said; out alone is an estimate.
            held: What was held for its call.
            late: True if its reply did not come: it may be the longest there is.
        """
        tokens_in, tokens_out = tokens
        if tokens_in is not None and tokens_out is not None:
            self._count(tokens_in, tokens_out, self._service.price_usd(tokens_in, tokens_out), held, estimated=False)
        elif not late or self._priced:
            price = self._estimate_usd(tokens_out, held, late=late)
            self._count(tokens_in or 0, 0, price, held, estimated=True)

    def _estimate_usd(self, tokens_out: int | None, held: Reservation, *, late: bool) -> float:
        if tokens_out is None or not self._priced:
            return (held.most_usd if late else held.expected_usd) / held.requests
        sent = held.tokens_in * self._ratio / held.requests
        return self._service.price_usd(sent, min(tokens_out, self._service.longest)) or 0.0

    def _count(
        self, tokens_in: int, tokens_out: int, cost_usd: float | None, held: Reservation, *, estimated: bool
    ) -> None:
        tally = self._tally
        tally.tokens_in += tokens_in
        tally.tokens_out += tokens_out
        if estimated:
            cost_usd = cost_usd if cost_usd is not None else held.expected_usd / held.requests
            tally.estimated += 1
            tally.estimated_usd += cost_usd
        else:
            self._replies += 1
            self._tokens_out += tokens_out
            self._longest = max(self._longest, tokens_out)
            if held.tokens_in > 0:
                self._ratio = max(self._ratio, tokens_in * held.requests / held.tokens_in)
        tally.cost_usd += cost_usd or 0.0

    def _wanted(self, tokens_in: float, count: int) -> Reservation:
        if not self._priced:
            return Reservation(tokens_in, count, 0.0, 0.0, 0.0)
        longest = float(self._service.longest * count)
        price, sent = self._service.price_usd, tokens_in * self._ratio
        most_usd = price(sent, longest) or 0.0
        if not self._replies:
            return Reservation(tokens_in, count, most_usd, most_usd, most_usd)
        mean = self._tokens_out / self._replies * count
        likely = min(longest, _SPARE * self._longest * count) if self._replies >= _KNOWN else longest
        return Reservation(tokens_in, count, most_usd, price(sent, likely) or 0.0, price(sent, mean) or 0.0)

    def _stopped(self, wanted: Reservation) -> bool:
        """Say whether a budget is used up, and note which."""
        limits, tally, totals = self._limits, self._tally, self._account.totals
        if limits.max_requests is not None and totals.requests >= limits.max_requests:
            tally.stopped = tally.stopped or f"`max_requests` of {limits.max_requests} reached"
        cap_usd = limits.max_cost_usd
        if cap_usd is not None and not self._on_way and totals.cost_usd + wanted.likely_usd > cap_usd:
            small = wanted.likely_usd > cap_usd
            what = f"is less than one reply may cost, {wanted.likely_usd:.4f}" if small else "reached"
            tally.stopped = tally.stopped or f"`max_cost_usd` of {cap_usd} {what}"
        return tally.stopped is not None

    def _fits(self, wanted: Reservation) -> bool:
        cap_usd = self._limits.max_cost_usd
        if cap_usd is None:
            return True
        left_usd = cap_usd - self._account.totals.cost_usd
        if self._most_usd + wanted.most_usd <= left_usd:
            return True
        if self._likely_usd + wanted.likely_usd > left_usd:
            return False
        return not self._on_way or self._most_usd + wanted.most_usd <= left_usd + _SLACK * cap_usd
