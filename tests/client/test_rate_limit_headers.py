"""What servers say about how much more they will take, in the words each of them uses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from perl_eval.client.rate_limit_headers import Allowance, allowance_of, retry_after_s


def test_the_headers_of_openai_are_read() -> None:
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    assert allowance_of(headers) == Allowance(59.0, 1.0, 149984.0, 360.0)


def test_the_headers_of_anthropic_are_read() -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = allowance_of({"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": soon})
    assert found is not None
    assert (found.requests, found.tokens, found.tokens_reset_s) == (0.0, None, None)
    # The date is cut to whole seconds, and a moment passed.
    assert found.requests_reset_s == pytest.approx(29.5, abs=1.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20ms", 0.02), ("7.66s", 7.66), ("2m59.56s", 179.56), ("1h2m3s", 3723.0), ("1d", 86400.0), ("12", 12.0)],
)
def test_spans_are_read(text: str, seconds: float) -> None:
    found = allowance_of({"x-ratelimit-reset-tokens": text})
    assert found is not None
    assert found.tokens_reset_s == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "-3", "nan", "inf", "1.2.3s", "m", "2026-13-45T00:00:00Z"])
def test_what_is_no_span_is_nothing(text: str) -> None:
    assert allowance_of({"x-ratelimit-reset-tokens": text}) is None
    assert retry_after_s({"retry-after": text}) is None


def test_other_headers_are_no_allowance() -> None:
    assert allowance_of({"content-length": "3", "date": "today"}) is None


def test_the_wait_that_is_asked_for_comes_in_seconds_milliseconds_or_a_date() -> None:
    assert retry_after_s({"retry-after": "1.5"}) == 1.5
    assert retry_after_s({"retry-after-ms": "250", "retry-after": "1"}) == 0.25
    moment = datetime.now(UTC) + timedelta(seconds=60)
    assert retry_after_s({"retry-after": format_datetime(moment, usegmt=True)}) == pytest.approx(59.5, abs=1.0)
    assert retry_after_s({"retry-after": format_datetime(moment - timedelta(days=1), usegmt=True)}) == 0.0
    assert retry_after_s({}) is None


def test_without_a_wait_it_is_the_refill_of_what_ran_out() -> None:
    left = {"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "90s"}
    assert retry_after_s(left) is None
    spent = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "4s"}
    assert retry_after_s(left | spent) == 4.0
    assert retry_after_s(left | spent | {"x-ratelimit-remaining-requests": "0"}) == 90.0
