"""What answers other than success mean, as servers of several makers word them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perl_eval.client.refusals import Answer, refusal_of
from perl_eval.errors import JudgeError, OutOfCredit, RateLimited, Refused, TurnedAway

QUOTA = "You exceeded your current quota, please check your plan and billing details."


def error_of(status: int, body: Any, **headers: str) -> JudgeError:
    return refusal_of(Answer(status, headers, json.dumps(body).encode()), lambda text: text)


def said(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, said(QUOTA, code="insufficient_quota"), OutOfCredit),
        (429, said(f"{QUOTA} Please retry in 3s.", code="insufficient_quota"), OutOfCredit),
        (429, said(QUOTA), OutOfCredit),
        (402, said("Insufficient credits", code=402), OutOfCredit),
        (400, {"type": "error", **said("Your credit balance is too low to access the Anthropic API.")}, OutOfCredit),
        (400, said("Budget has been exceeded! Current cost: 3.5, Max budget: 3", type="budget_exceeded"), OutOfCredit),
        (400, said("Billing hard limit has been reached", code="billing_hard_limit_reached"), OutOfCredit),
        (400, said(f"invalid message {'x' * 300}: my credit balance is too low"), Refused),
        (400, said("The response was filtered", param="prompt", code="content_filter"), Refused),
        (422, {"detail": [{"msg": "Extra inputs are not permitted"}]}, Refused),
        (404, said('model "x" not found, try pulling it first'), TurnedAway),
        (403, said("Forbidden"), TurnedAway),
    ],
)
def test_an_error_is_of_its_kind(status: int, body: Any, kind: type[JudgeError]) -> None:
    assert type(error_of(status, body)) is kind


@pytest.mark.parametrize("status", [408, 409, 424, 425, 498, 499, 500, 502, 503, 504, 520, 524, 529])
def test_what_is_the_server_s_own_trouble_may_pass(status: int) -> None:
    assert type(error_of(status, said("capacity exceeded"))) is JudgeError


@pytest.mark.parametrize(
    ("body", "headers", "wait_s"),
    [
        ([said(f"{QUOTA} Please retry in 11.665902715s.", code=429, status="RESOURCE_EXHAUSTED")], {}, 11.665902715),
        (said("Rate limit reached. Please try again in 7m12.5s. Visit our page."), {}, 432.5),
        (said("Rate limit reached. Please try again in 20ms."), {}, 0.02),
        (said("Requests have exceeded the call rate limit. Please retry after 26 seconds."), {}, 26.0),
        (said("Please try again in 9s."), {"retry-after": "2"}, 2.0),
        (said("Slow down, then retry."), {}, None),
        (said("Please try again in 3 days or so."), {}, None),
    ],
)
def test_a_rate_limit_says_when_to_come_back(body: Any, headers: dict[str, str], wait_s: float | None) -> None:
    error = error_of(429, body, **headers)
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == wait_s


def test_a_server_that_loads_its_model_is_starting() -> None:
    assert error_of(503, said("Loading model", code=503, type="unavailable_error")).starting
    assert error_of(503, {"error": "Model org/name is currently loading", "estimated_time": 20.0}).starting
    assert not error_of(503, said("Service unavailable")).starting
    assert not error_of(500, said("Loading failed")).starting


def test_an_error_in_a_list_is_read() -> None:
    assert str(error_of(429, [said("Resource has been exhausted", code=429)])) == "429: Resource has been exhausted"
