"""What a server says in its headers about how much more it will take, and when to come back.

Read are ``Retry-After`` (seconds, or a date) and ``retry-after-ms``; OpenAI's ``x-ratelimit-remaining-requests`` and
``-tokens`` with ``x-ratelimit-reset-requests`` and ``-tokens`` (``1m30s``, ``20ms``, or seconds), which many servers
copied; and Anthropic's ``anthropic-ratelimit-requests-remaining`` and ``-tokens-`` with ``-reset`` (a date).
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["Allowance", "allowance_of", "retry_after_s", "told_s"]

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_SPAN = re.compile("".join(rf"(?:(?P<{unit}>\d+(?:\.\d+)?){unit})?" for unit in _SECONDS))

_TOLD = re.compile(
    r"\b(?:try again|retry) (?:in|after) (?P<span>(?:\d+(?:\.\d+)?(?:ms|[dhms]))+\b|\d+(?:\.\d+)?(?=\s*sec))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a server would still take when it answered; None where it did not say.

    Attributes:
        requests: Requests left.
        requests_reset_s: Seconds until there are more.
        tokens: Tokens left.
        tokens_reset_s: Seconds until there are more.
    """

    requests: float | None = None
    requests_reset_s: float | None = None
    tokens: float | None = None
    tokens_reset_s: float | None = None


def allowance_of(headers: Mapping[str, str]) -> Allowance | None:
    """Read the allowance from headers, whose names are in lower case; None if they hold none."""
    if not any("ratelimit" in name for name in headers):
        return None
    left: list[float | None] = []
    for kind in ("requests", "tokens"):
        remaining = reset = None
        for name in (f"x-ratelimit-remaining-{kind}", f"anthropic-ratelimit-{kind}-remaining"):
            remaining = _number(headers.get(name, "")) if remaining is None else remaining
        for name in (f"x-ratelimit-reset-{kind}", f"anthropic-ratelimit-{kind}-reset"):
            reset = _wait_s(headers.get(name, "")) if reset is None else reset
        left += [remaining, reset]
    return Allowance(*left) if any(value is not None for value in left) else None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return how long to wait after a refusal: what the server asks for, else until what ran out is refilled."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    asked_s = milliseconds / 1000.0 if milliseconds is not None else _wait_s(headers.get("retry-after", ""))
    if asked_s is not None:
        return asked_s
    allowance = allowance_of(headers)
    if allowance is None:
        return None
    waits = [
        reset_s
        for left, reset_s in (
            (allowance.requests, allowance.requests_reset_s),
            (allowance.tokens, allowance.tokens_reset_s),
        )
        if left is not None and left < 1 and reset_s is not None
    ]
    return max(waits, default=None)


def told_s(message: str) -> float | None:
    """Return how long a message in words says to wait, such as ``Please try again in 1m2.5s.``; None if it does not."""
    found = _TOLD.search(message)
    return _wait_s(found["span"]) if found else None


def _number(text: str) -> float | None:
    """Return a number of at least 0, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 <= value < float("inf") else None


def _wait_s(text: str) -> float | None:
    """Read seconds, a span such as ``6m0.5s``, or a date, which is a span from now."""
    text = text.strip()
    if not text:
        return None
    seconds = _number(text)
    if seconds is not None:
        return seconds
    span = _SPAN.fullmatch(text)
    if span:
        return sum(_SECONDS[unit] * float(part) for unit, part in span.groupdict().items() if part is not None)
    moment = _date(text)
    return None if moment is None else max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _date(text: str) -> datetime | None:
    for read in (datetime.fromisoformat, email.utils.parsedate_to_datetime):
        try:
            moment = read(text)
        except ValueError:
            continue
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return None
