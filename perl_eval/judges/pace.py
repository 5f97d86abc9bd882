"""Pace: how many requests may be on their way, and how fast they may follow one another.

The number on their way grows by one with every answer until the server complains, is then halved, and from there grows
by about one a round trip (additive increase, multiplicative decrease). It does not grow while replies take far longer
than they did at best.

Source:
    Chiu and Jain, Analysis of the increase and decrease algorithms for congestion avoidance (1989).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque

__all__ = ["Pace"]

_START = 16
_SMOOTH = 0.1
_SLOW = 4.0


class Pace:
    """The gate in front of a server.

    Args:
        most: Requests on their way at one time, at most.
        rpm: Requests a minute, at most.
        tpm: Tokens a minute, at most, as estimated before sending.
    """

    def __init__(self, most: int, *, rpm: float | None = None, tpm: float | None = None) -> None:
        self._most = most
        self.limit: float = min(most, _START)
        self._rpm, self._tpm = rpm, tpm
        self._on_way = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._complained = False
        self._cut_s = -1.0
        self._next_s = 0.0
        self._latency_s = 0.0
        self._best_s = math.inf

    async def enter(self, tokens: float = 0.0, *, again: bool = False) -> float:
        """Wait for a turn to send a request of so many tokens.

        Args:
            tokens: Tokens of the request and of its reply, as expected.
            again: True if it was sent before; it then goes before those that were not.

        Returns:
            The time of sending, to be given to `leave`.
        """
        if self._on_way < int(self.limit) and not self._waiting:
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
        try:
            await self._spread(tokens)
        except asyncio.CancelledError:
            self._release()
            raise
        return time.monotonic()

    async def _spread(self, tokens: float) -> None:
        """Wait until the rates, and the pause that the server asked for, allow one more request."""
        gap_s = max(60.0 / self._rpm if self._rpm else 0.0, 60.0 * tokens / self._tpm if self._tpm else 0.0)
        # Whoever wakes first moves the time on for the others.
        while (wait_s := self._next_s - time.monotonic()) > 0:
            await asyncio.sleep(wait_s)
        if gap_s:
            self._next_s = time.monotonic() + gap_s

    def leave(self, sent_s: float, *, answered: bool) -> None:
        """Say that a request is done."""
        if answered:
            latency_s = time.monotonic() - sent_s
            self._latency_s += (_SMOOTH if self._latency_s else 1.0) * (latency_s - self._latency_s)
            self._best_s = min(self._best_s, self._latency_s)
            if self._latency_s <= _SLOW * self._best_s:
                self.limit = min(self._most, self.limit + (1.0 / self.limit if self._complained else 1.0))
        self._release()

    def complain(self, sent_s: float, *, retry_after_s: float = 0.0) -> None:
        """Say that the server asked to slow down: halve the limit, once for all requests that were on their way."""
        now = time.monotonic()
        self._complained = True
        if sent_s > self._cut_s:
            self.limit = max(1.0, self.limit / 2)
            self._cut_s = now
        self._next_s = max(self._next_s, now + retry_after_s)

    def _release(self) -> None:
        self._on_way -= 1
        while self._waiting and self._on_way < int(self.limit):
            turn = self._waiting.popleft()
            if not turn.done():
                # The place is taken here, not when the waiting task runs: nobody can slip in between.
                self._on_way += 1
                turn.set_result(None)
