"""Forms in which other servers say the same: why a reply ended, thoughts, usage, log-probabilities, errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perl_eval.client import thoughts
from perl_eval.client.chat_replies import content_of, finish_of, first_token
from perl_eval.client.refusals import Answer, refusal_of, said_in_reply
from perl_eval.client.usage import tokens_of

GOOGLE_DETAILS = {"fieldViolations": [{"field": "generation_config.response_logprobs", "description": "not enabled"}]}


def told(status: int, error: Any) -> Any:
    return refusal_of(Answer(status, {}, json.dumps(error).encode()), str)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        *(("FinishReason.STOP", "stop"), ("EndTurn", "stop"), ("end-turn", "stop"), ("<|eot_id|>", "stop")),
        *(("FINISH_REASON_MAX_TOKENS", "length"), ("MaxTokens", "length"), ("max tokens", "length")),
        *(
            ("ERROR_LIMIT", "length"),
            ("output_limit", "length"),
            ("ERROR_TOXIC", "refusal"),
            ("MODEL_ARMOR", "refusal"),
        ),
        *(("safety_violation", "refusal"), ("repetition", "other"), ("pause_turn", "other")),
    ],
)
def test_a_reason_is_known_however_it_is_written(reason: str, finish: str) -> None:
    assert finish_of({"finish_reason": reason}) == finish


@pytest.mark.parametrize(
    "reply",
    [
        *("<think_fast>no</think_fast>A", "<ling:think>no</ling:think>A", "< think >no</ think >A", "<cot>no</cot>A"),
        *(
            "<thinking_process>no</thinking_process>A",
            "<inner_monologue>no</inner_monologue>A",
            "[thinking]no[/thinking]A",
        ),
        *("<|think|>no<|/think|>A", "<|think_start|>no<|think_end|>A", "<|inner_prefix|>no<|inner_suffix|>A"),
        *("<seed:cot_budget_reflect>no</seed:cot_budget_reflect>A", "<|START_THINKING|>no<|END_THINKING|>A"),
        *("Here is my thought process: no Here is my response: A",),
        *("<|im_start|>think\nno<|im_end|>\n<|im_start|>assistant\nA",),
    ],
)
@pytest.mark.parametrize("leading", [False, True])
def test_thoughts_are_told_by_any_makers_marks(reply: str, leading: bool) -> None:
    found = thoughts.split(reply, leading=leading)
    assert (found.said.strip(), found.thought, found.open) == ("A", "no", False)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"input_tokens": 3, "output_tokens": 1}, (3, 1)),
        ({"promptTokenCount": 3, "candidatesTokenCount": 1}, (3, 1)),
        ({"prompt_tokens": "3", "completion_tokens": "1"}, (3, 1)),
        ({"prompt_tokens": 3, "total_tokens": 4}, (3, 1)),
        ({"prompt_tokens": 3, "completion_tokens": None, "total_tokens": 4}, (3, None)),
        ({"prompt_tokens": 3, "total_tokens": 2}, (3, None)),
        ({"prompt_tokens": "-3", "completion_tokens": "x"}, (None, None)),
        ({"prompt_tokens": "9" * 5000, "completion_tokens": 1}, (None, 1)),
    ],
)
def test_usage_is_read_under_other_names(usage: dict[str, Any], tokens: tuple[int | None, int | None]) -> None:
    assert tokens_of({"usage": usage}) == tokens


PAIR = [("A", -0.1), ("B", -2.5)]
LISTED = [{"token": token, "logprob": logprob} for token, logprob in PAIR]


@pytest.mark.parametrize(
    ("logprobs", "found"),
    [
        ({"tokens": ["A"], "token_logprobs": [-0.1], "top_logprobs": [dict(PAIR)]}, PAIR),
        ({"content": [{"token": "A", "top_logprobs": dict(PAIR)}]}, PAIR),
        ([{"token": "A", "top_logprobs": LISTED}], PAIR),
        ({"content": [{"top_logprobs": ["x"]}]}, []),
        ({"content": [{"top_logprobs": [{"tok": "A", "logprob": -0.1}]}]}, []),
        ({"content": [{"token": "A", "logprob": -0.1}]}, []),
        ({"top_logprobs": [{"A": None, "B": -1.0}]}, []),
        ({"content": "x"}, []),
    ],
)
def test_log_probabilities_of_any_form_cost_no_verdict(logprobs: Any, found: list[tuple[str, float]]) -> None:
    assert list(first_token(logprobs)) == found


@pytest.mark.parametrize(
    "content",
    [{"type": "text", "text": "A"}, {"parts": [{"text": "A"}]}, [{"text": "no", "thought": True}, {"text": "A"}]],
)
def test_contents_of_other_forms_are_read(content: Any) -> None:
    assert content_of({"content": content}).text == "A"


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (
            400,
            {"error": {"message": "Please enable billing on project 1", "status": "FAILED_PRECONDITION"}},
            "OutOfCredit",
        ),
        (400, {"error": {"message": "User location is not supported.", "status": "FAILED_PRECONDITION"}}, "TurnedAway"),
        (400, {"error": {"message": "API key not valid. Pass a valid one."}}, "TurnedAway"),
        (400, {"error": {"message": "Filtered by policy", "code": "content_filter"}}, "Refused"),
        (403, {"error": {"message": "Key limit exceeded (total limit)."}}, "OutOfCredit"),
        (
            429,
            {"error": {"message": "Not active, check your billing details", "code": "billing_not_active"}},
            "OutOfCredit",
        ),
    ],
)
def test_errors_are_what_they_mean(status: int, error: Any, kind: str) -> None:
    assert type(told(status, error)).__name__ == kind


def test_the_field_at_fault_is_found_in_details() -> None:
    error = {"error": {"code": 400, "message": "Invalid argument.", "details": [GOOGLE_DETAILS]}}
    assert "response_logprobs" in str(told(400, error))


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ({"error": {"message": "x", "code": "429"}}, "RateLimited"),
        ({"error": {"message": "slow down", "type": "rate_limit_error"}}, "RateLimited"),
        ([{"error": {"code": 429, "message": "exhausted"}}], "RateLimited"),
        ({"object": "error", "message": "bad", "code": 400}, "Refused"),
        ({"success": False, "errors": [{"message": "no capacity"}]}, "JudgeError"),
        ({"status": "error", "message": "busy"}, "JudgeError"),
        ({"code": 50000, "msg": "system busy"}, "JudgeError"),
        ({"detail": "not now"}, "JudgeError"),
        ({"choices": [{"message": {"content": "A"}}], "error": None, "status": "error"}, None),
        ({"output": [], "message": "fine"}, None),
    ],
)
def test_errors_inside_success_are_found(reply: Any, kind: str | None) -> None:
    found = said_in_reply(Answer(200, {}, b""), reply, str)
    assert (None if found is None else type(found).__name__) == kind
