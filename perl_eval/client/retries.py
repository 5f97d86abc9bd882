"""Doing again what failed, where that can help: the one rule for every request of this package."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import tenacity

from perl_eval.client.rate_limiter import LONGEST_WAIT_S
from perl_eval.errors import JudgeError, RateLimited

__all__ = ["again_after", "pause_s", "with_retries"]

_DOUBLINGS = 32

Result = TypeVar("Result")


async def with_retries(act: Callable[[], Awaitable[Result]], *, attempts: int, backoff_s: float) -> Result:
    """Do something, and again after a failure that may pass; see `again_after`."""
    try:
        return await act()
    except JudgeError as error:
        return await again_after(error, act, attempts=attempts, backoff_s=backoff_s)


async def again_after(
    error: JudgeError,
    act: Callable[[], Awaitable[Result]],
    *,
    attempts: int,
    backoff_s: float,
    failed: Callable[[], None] = lambda: None,
) -> Result:
    """Do again what failed once, as long as its failures may pass, with growing waits between.

    Where a server said how long to wait, no less is waited, up to a minute.

    Args:
        error: How it failed.
        act: Does it.
        attempts: How often it is done, at most, the first time included.
        backoff_s: Mean of the first wait; it doubles with every attempt, with jitter.
        failed: Called before every wait.

    Raises:
        JudgeError: The last failure; of a refusal, the first.
    """
    if not _may_pass(error):
        raise error
    first = [error]

    async def attempt() -> Result:
        if first:
            raise first.pop()
        return await act()

    def wait_s(state: tenacity.RetryCallState) -> float:
        failed()
        return pause_s(state.outcome.exception() if state.outcome else None, state.attempt_number, backoff_s)

    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(_may_pass),
        stop=tenacity.stop_after_attempt(attempts),
        wait=wait_s,
        reraise=True,
    )
    result: Result = await retrying(attempt)
    return result


def pause_s(error: BaseException | None, tries: int, backoff_s: float, longest_s: float = LONGEST_WAIT_S) -> float:
    """Return how long to wait before something is done again: random, up to a time that doubles with every attempt.

    Args:
        error: How it failed; where a server said how long to wait, no less is waited, up to a minute.
        tries: How often it was done.
        backoff_s: Twice the mean of the first wait.
        longest_s: The most that is waited because the server said so, if that is less than a minute.
    """
    most_s = min(backoff_s * 2.0 ** min(tries - 1, _DOUBLINGS), LONGEST_WAIT_S)
    pause = random.uniform(0.0, most_s)
    if isinstance(error, RateLimited) and error.retry_after_s is not None:
        return min(error.retry_after_s, longest_s, LONGEST_WAIT_S) + pause / 4
    return pause


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, JudgeError) and error.can_pass
