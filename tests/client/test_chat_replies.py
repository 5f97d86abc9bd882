"""Replies as servers of many makers send them: why they end, what they say, and their log-probabilities."""

from __future__ import annotations

import math
from typing import Any

import pytest

from perl_eval.client.chat_replies import content_of, finish_of, first_token, summed
from perl_eval.client.reply_checks import checks_of
from perl_eval.client.thoughts import split
from perl_eval.errors import JudgeError

ENDS = {
    "stop": ("stop", "STOP", "end_turn", "eos", "eos_token", "stop_sequence", "tool_calls", "COMPLETE", None),
    "length": ("length", "max_tokens", "MAX_TOKENS", "model_length", "max_output_tokens", "FINISH_REASON_MAX_TOKENS"),
    "refusal": ("content_filter", "refusal", "SAFETY", "RECITATION", "guardrail_intervened", "PROHIBITED_CONTENT"),
}


@pytest.mark.parametrize(("reason", "finish"), [(reason, finish) for finish, all_ in ENDS.items() for reason in all_])
def test_every_maker_s_reason_is_known(reason: str | None, finish: str) -> None:
    assert finish_of({"finish_reason": reason}) == finish


@pytest.mark.parametrize("reason", ["error", "insufficient_system_resource", "cancelled", "ABORT", "network_error"])
def test_what_went_wrong_at_the_server_may_pass(reason: str) -> None:
    with pytest.raises(JudgeError, match=f"ended the reply with {reason}") as caught:
        finish_of({"finish_reason": reason})
    assert caught.value.can_pass


@pytest.mark.parametrize("reason", ["whatever", "MALFORMED_FUNCTION_CALL", "OTHER", "", 7, ["stop"]])
def test_a_reason_that_is_not_known_is_no_clean_stop(reason: Any) -> None:
    assert finish_of({"finish_reason": reason}) == "other"
    said = checks_of(BODY, {"choices": [{"finish_reason": reason}]}, 10_000, "A")["finish"]
    assert repr(str(reason)) in said


@pytest.mark.parametrize(
    ("message", "text", "thought"),
    [
        ({"content": "B"}, "B", ""),
        ({"content": None}, "", ""),
        ({"content": "B", "reasoning_content": "A?"}, "B", "A?"),
        ({"content": "B", "reasoning": "A?"}, "B", "A?"),
        ({"content": [{"type": "text", "text": "B"}]}, "B", ""),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "A?"}]},
                    {"type": "text", "text": "B"},
                ]
            },
            *("B", "A?"),
        ),
        ({"content": [{"type": "thinking", "thinking": "A?"}, {"type": "output_text", "text": "B"}]}, "B", "A?"),
        ({"content": [{"type": "image_url"}, "B"]}, "B", ""),
    ],
)
def test_what_a_message_says_is_told_from_what_it_thinks(message: dict[str, Any], text: str, thought: str) -> None:
    assert content_of(message) == (text, thought)


def test_content_of_another_form_is_an_error() -> None:
    with pytest.raises(TypeError, match="content is a int"):
        content_of({"content": 5})


def listed(*logprobs: float | None) -> dict[str, Any]:
    tops = [{"token": token, "logprob": logprob} for token, logprob in zip("AB", logprobs, strict=False)]
    return {"content": [{"token": "A", "logprob": logprobs[0], "top_logprobs": tops}]}


def test_log_probabilities_that_are_none_are_left_out() -> None:
    assert first_token(listed(-0.5, -1.0)) == (("A", -0.5), ("B", -1.0))
    for broken in (listed(None, -1.0), listed(-0.5, None), listed(math.nan, -1.0), None, {}, {"content": []}):
        assert first_token(broken) == ()
    assert first_token({"content": [{"token": "A", "logprob": -0.1}]}) == ()
    assert first_token({"tokens": ["A"], "token_logprobs": [-0.1]}) == ()


def test_the_log_probability_of_a_reply_needs_that_of_every_token() -> None:
    assert summed({"content": [{"logprob": -0.5}, {"logprob": -0.25}]}, 2) == -0.75
    assert summed({"content": [{"logprob": -0.5}, {"logprob": None}]}, 2) is None
    assert summed({"content": [{"logprob": -0.5}, {"logprob": math.nan}]}, 2) is None
    assert summed({"content": [{"logprob": -0.5}]}, 2) is None
    assert summed(None, 0) is None


@pytest.mark.parametrize(
    ("text", "said", "thought", "is_open"),
    [
        ("<think>a</think>b", "b", "a", False),
        ("a</think>b", "b", "a", False),
        ("<think>a", "", "a", True),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>",
            "b",
            "a",
            False,
        ),
        ("<|channel|>analysis<|message|>a", "", "a", True),
        ("analysisWe weigh.assistantfinalb", "b", "We weigh.", False),
        ("analysis of both", "analysis of both", "", False),
        ("b<think>a</think>", "b", "a", False),
        ("<think>a</thinking> still</think>b", "b", "a</thinking> still", False),
        ("[THINK]a[/THINK]b", "b", "a", False),
    ],
)
def test_thoughts_are_told_from_what_is_said(text: str, said: str, thought: str, is_open: bool) -> None:
    assert split(text) == (said, thought, is_open)


def test_an_answer_that_writes_tags_of_its_own_is_left_as_it_is() -> None:
    text = "Wrap it like this: <thought>x</thought>."
    assert split(text, leading=True) == (text, "", False)
    assert split("<think>a</think>Use <thought>x</thought>.", leading=True).said == "Use <thought>x</thought>."


BODY = {"model": "org/tiny-1", "messages": [{"role": "user", "content": "x" * 40_000}]}


def test_a_server_that_does_otherwise_is_noticed() -> None:
    form = {**BODY, "response_format": {}}
    assert checks_of(form, {"model": "tiny-1-2026"}, 10_000, '```json\n{"verdict": "A"}\n```') == {}
    assert checks_of(form, {"model": "tiny-1"}, None, "") == {}
    assert "2,051 tokens in a prompt of 40,000" in checks_of(BODY, {}, 2051, "A")["truncated"]
    assert "does not follow it" in checks_of(form, {}, 10_000, "Verdict: A")["schema"]
    assert checks_of(BODY, {"model": "other-7b"}, 10_000, "A")["model"].endswith(
        "asked for org/tiny-1 and answers as other-7b"
    )
