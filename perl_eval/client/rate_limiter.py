"""Pace: how many requests may be on their way, and how fast they may follow one another.

The number on their way grows by one with every answer until the server complains or its replies take far longer than
they did at best; it is then halved, and from there grows by about one a round trip (additive increase, multiplicative
decrease). Where the server says how much more it will take, no more than that is sent before it says otherwise.

Source:
    Chiu and Jain, Analysis of the increase and decrease algorithms for congestion avoidance (1989).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from perl_eval.client.rate_limit_headers import Allowance

__all__ = ["LONGEST_WAIT_S", "Pace", "Slot"]

LONGEST_WAIT_S = 60.0
"""However long a server asks us to wait, it is asked again after this, unless patience ends sooner."""
_START = 16
_SMOOTH = 0.1
_SLOW = 4.0
_TOO_SLOW = 8.0
# A sleep ends a little late; a schedule that is late by no more than this is kept, not begun anew.
_LATE_S = 0.02
# A server's clock and its rounding are not ours: what comes the moment it says there is more may come too early.
_EARLY_S = 0.02


class Slot(NamedTuple):
    """The sending of one request.

    Attributes:
        sent_s: When, on the monotonic clock.
        requests: Requests sent up to then, this one included.
        tokens: Tokens of all of them, as expected.
    """

    sent_s: float
    requests: int
    tokens: float


@dataclass(slots=True)
class _Stock:
    """What the server would still take of something.

    Attributes:
        left: How much, at its last word.
        sent: How much we had sent by then.
        until_s: When there is more, on the monotonic clock.
        span_s: The longest that it ever was until then.
        most: The most that was ever left.
        unseen: What was sent before the request that this is the word on, and is not answered yet: the server may not
            have taken it off. By number of request.
    """

    left: float
    sent: float
    until_s: float
    span_s: float
    most: float
    unseen: dict[int, float] = field(default_factory=dict)

    def has(self, sent: float, needed: float) -> bool:
        """Return whether enough is left, whatever of what is on its way was taken off."""
        return self.left - (sent - self.sent) - sum(self.unseen.values()) >= needed

    def refill(self, sent: float) -> None:
        """Take it for filled up again, with at least what there was at most so far, for as long."""
        self.left, self.sent, self.until_s = self.most, sent, time.monotonic() + self.span_s
        self.unseen = {}


class Pace:
    """The gate in front of a server.

    Args:
        most: Requests on their way at one time, at most.
        rpm: Requests a minute, at most.
        tpm: Tokens a minute, at most, as estimated before sending.
        longest_s: However long a server asks us to wait, it is asked again after this.
    """

    def __init__(
        self, most: int, *, rpm: float | None = None, tpm: float | None = None, longest_s: float = LONGEST_WAIT_S
    ) -> None:
        self._most, self._longest_s = most, longest_s
        self.limit: float = min(most, _START)
        self._rpm, self._tpm = rpm, tpm
        self._on_way = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._complained = False
        self._cut_s = -1.0
        self._next_s = 0.0
        self._latency_s = 0.0
        self._best_s = math.inf
        self._requests, self._tokens = 0, 0.0
        self._unanswered: dict[int, float] = {}  # tokens by number of request
        self._stock: dict[str, _Stock] = {}

    @property
    def room(self) -> bool:
        """Whether a request would get its turn without waiting for another one's end."""
        return self._on_way < int(self.limit) and not self._waiting

    async def enter(self, tokens: float = 0.0, *, again: bool = False) -> Slot:
        """Wait for a turn to send a request of so many tokens.

        Args:
            tokens: Tokens of the request and of its reply, as expected.
            again: True if it was sent before; it then goes before those that were not.

        Returns:
            The turn, to be given to `leave`.
        """
        if self.room:
            self._on_way += 1
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            (self._waiting.appendleft if again else self._waiting.append)(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._release()
                raise
        if self._stock or self._next_s or self._rpm or self._tpm:
            try:
                await self._spread(tokens)
            except asyncio.CancelledError:
                self._release()
                raise
        self._requests += 1
        self._tokens += tokens
        self._unanswered[self._requests] = tokens
        return Slot(time.monotonic(), self._requests, self._tokens)

    async def _spread(self, tokens: float) -> None:
        """Wait until the rates, the stock, and the pause that the server asked for, allow one more request."""
        gap_s = max(60.0 / self._rpm if self._rpm else 0.0, 60.0 * tokens / self._tpm if self._tpm else 0.0)
        # Whoever wakes first moves the time on for the others.
        while (wait_s := max(self._next_s, self._refill_s(tokens)) - time.monotonic()) > 0:
            await asyncio.sleep(wait_s)
        if gap_s:
            now = time.monotonic()
            self._next_s = (self._next_s if now - self._next_s < _LATE_S else now) + gap_s

    def _refill_s(self, tokens: float) -> float:
        """Return when the server has enough for a request of so many tokens, as far as it said; 0 is now."""
        when_s = 0.0
        for kind, sent, needed in (("requests", self._requests, 1.0), ("tokens", self._tokens, tokens)):
            stock = self._stock.get(kind)
            if stock is None:
                continue
            if time.monotonic() >= stock.until_s:
                # What was left before is not added: it ended with its window. The next answer will tell.
                stock.refill(sent)
            elif not stock.has(sent, needed):
                when_s = max(when_s, stock.until_s)
        return when_s

    def leave(self, turn: Slot, *, answered: bool, left: Allowance | None = None) -> None:
        """Say that a request is done, and what the server then said that it would still take."""
        if answered and turn.sent_s > self._cut_s:
            now = time.monotonic()
            self._latency_s += (_SMOOTH if self._latency_s else 1.0) * (now - turn.sent_s - self._latency_s)
            self._best_s = min(self._best_s, self._latency_s)
            if self._latency_s <= _SLOW * self._best_s:
                self.limit = min(self._most, self.limit + (1.0 / self.limit if self._complained else 1.0))
            elif self._latency_s > _TOO_SLOW * self._best_s:
                self._cut(now)
        self._unanswered.pop(turn.requests, None)
        if left is not None:
            self._note(turn, left)
        for stock in self._stock.values():
            stock.unseen.pop(turn.requests, None)
        self._release()

    def complain(self, turn: Slot, *, retry_after_s: float = 0.0) -> None:
        """Say that the server asked to slow down: halve the limit, once for all requests that were on their way."""
        now = time.monotonic()
        if turn.sent_s > self._cut_s:
            self._cut(now)
        self._complained = True
        self._next_s = max(self._next_s, now + min(retry_after_s, self._longest_s))

    def _cut(self, now: float) -> None:
        self._complained = True
        self.limit = max(1.0, self.limit / 2)
        self._cut_s = now
        self._latency_s = 0.0  # measured anew: what is on its way still stands in the old queue

    def _note(self, turn: Slot, left: Allowance) -> None:
        """Remember what was left when the server took this request; what was sent after it is to be taken off."""
        now = time.monotonic()
        older = {number: tokens for number, tokens in self._unanswered.items() if number < turn.requests}
        for kind, remaining, reset_s, sent, unseen in (
            ("requests", left.requests, left.requests_reset_s, turn.requests, dict.fromkeys(older, 1.0)),
            ("tokens", left.tokens, left.tokens_reset_s, turn.tokens, older),
        ):
            if remaining is None or reset_s is None:
                continue
            known = self._stock.get(kind)
            # Replies may overtake one another: what the later request was told is newer. After a refill only what was
            # sent since counts: the last word of the window before is none about this one.
            if known is None or sent > known.sent:
                wait_s = min(reset_s, self._longest_s)
                span_s = max(wait_s, known.span_s if known is not None else 0.0)
                most = max(remaining, known.most if known is not None else 0.0)
                self._stock[kind] = _Stock(remaining, sent, now + wait_s + _EARLY_S, span_s, most, dict(unseen))
            elif remaining < known.left:
                # The server took it after all, so it was not taken off what the later one was told.
                known.left -= known.unseen.get(turn.requests, 0.0)

    def _release(self) -> None:
        self._on_way -= 1
        while self._waiting and self._on_way < int(self.limit):
            turn = self._waiting.popleft()
            if not turn.done():
                # The place is taken here, not when the waiting task runs: nobody can slip in between.
                self._on_way += 1
                turn.set_result(None)
