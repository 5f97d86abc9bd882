"""Outages: a server that answers nobody is waited for; no question is given up because of it.

Failures of one question are that question's. After a run of failures without an answer between them, nothing more is
sent but one request after ever longer waits, until it is answered. After `Limits.patience_s` without an answer asking
stops.
"""

from __future__ import annotations

import asyncio
import time

from perl_eval.client.limits import Limits
from perl_eval.client.rate_limiter import LONGEST_WAIT_S
from perl_eval.client.usage import Usage
from perl_eval.errors import JudgeError, OutOfCredit, RateLimited

__all__ = ["CREDIT_PATIENCE_S", "PATIENCE_S", "Outages"]

PATIENCE_S = 600.0
"""How long a server that is away is waited for, if nobody says."""
CREDIT_PATIENCE_S = 20.0
"""How long one is that wants money, if nobody says: it comes back when somebody pays."""
_RUN = 10
_FEW = 4


class Outages:
    """Whether the server is there, and when to try again.

    Args:
        limits: How long to wait.
        tally: Told what is being waited for, and what stopped the asking.

    Attributes:
        answers: How often the server was heard of: answers and refusals of one question.
        failures: Failures since then.
        away: True while nothing but one request now and then is sent.
    """

    def __init__(self, limits: Limits, tally: Usage) -> None:
        self._limits, self._tally = limits, tally
        self.answers = 0
        self.failures = 0
        self._since_s = 0.0
        self._next_s = 0.0
        self._wait_s = limits.backoff_s
        self._probing = self._there = False
        self.away = False
        self._who: set[bytes] = set()
        self._changed = asyncio.Event()

    @property
    def known(self) -> bool:
        """Whether the server was there before: one that never was is no outage, and asking it ends soon."""
        return self.answers > 0 or self._tally.from_ledger > 0 or self._there

    async def gate(self) -> bool:
        """Wait until a request may be sent; True if it is the one that finds out whether the server is back."""
        while self.away and not self._tally.stopped:
            wait_s = self._next_s - time.monotonic()
            if wait_s <= 0 and not self._probing:
                self._probing = True
                return True
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), max(wait_s, 0.0) or None)
            except TimeoutError:
                continue
        return False

    def heard(self) -> None:
        """Say that the server answered."""
        self.answers += 1
        self.failures = 0
        self._who.clear()
        if self.away:
            self.away = self._probing = False
            self._wait_s = self._limits.backoff_s
            self._tally.waiting = None
            self._changed.set()

    def failed(self, error: JudgeError, who: bytes, *, sent_s: float, probe: bool) -> bool:
        """Say that the server failed in a way that can pass.

        Args:
            error: How.
            who: The question that got no answer.
            sent_s: When the request was sent, on the monotonic clock.
            probe: What `gate` said of it.

        Returns:
            True if so few questions failed since the last answer that they may be to blame, and not the server.
        """
        now_s = time.monotonic()
        if not self.failures:
            self._since_s = sent_s
        self.failures += 1
        self._who.add(who)
        # A reply that led to no answer, such as one that was cut off, is a sign of life too.
        self._there |= error.starting or any(tokens_in is not None for tokens_in, _ in error.paid or ())
        several = len(self._who) > _FEW or error.starting
        patience_s = self._patience_s(error)
        ends_s = self._since_s + patience_s
        if now_s >= ends_s and several:
            self._stop(f"no answer for {patience_s:g} s, lastly: {error}")
        elif probe or (
            self.failures >= _RUN and several and self.known and not self.away and not isinstance(error, RateLimited)
        ):
            self.away, self._probing = True, False
            self._next_s = min(now_s + self._wait_s, max(ends_s, now_s))
            self._tally.waiting = f"no answer, next try in {max(1, round(self._next_s - now_s))} s: {error}"[:80]
            self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
            self._changed.set()
        return self.known and not several

    def left_s(self, error: JudgeError, sent_s: float) -> float:
        """Return how much patience is left, in seconds; see `failed`, which may not be told of the error yet."""
        since_s = self._since_s if self.failures else sent_s
        return max(0.0, since_s + self._patience_s(error) - time.monotonic())

    def released(self, *, probe: bool) -> None:
        """Say that a request was not sent after all, or its end says nothing about the server."""
        if probe and self._probing:
            self._probing = False
            self._changed.set()

    def _patience_s(self, error: JudgeError) -> float:
        if self._limits.patience_s is not None:
            return self._limits.patience_s
        return CREDIT_PATIENCE_S if isinstance(error, OutOfCredit) else PATIENCE_S

    def _stop(self, why: str) -> None:
        self._tally.stopped = self._tally.stopped or why
        self._tally.waiting = None
        self.away = False
        self._changed.set()
