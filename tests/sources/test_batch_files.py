"""Batch outputs of model providers: what is left out of them, and said."""

from __future__ import annotations

from pathlib import Path

import pytest
from tool_files import (
    ASKED,
    anthropic_requests,
    anthropic_row,
    batch_row,
    blocks,
    chat_body,
    gemini_request,
    gemini_requests,
    gemini_response,
    left_out,
    lines,
    openai_batch,
    requests,
)

from perl_eval import sources
from perl_eval.errors import DataError
from perl_eval.records import Completion, Message
from perl_eval.sources.brought import HowRead
from perl_eval.sources.completions import completions
from perl_eval.storage import run_folder


def test_failed_requests_are_left_out_and_counted(tmp_path: Path) -> None:
    requests(tmp_path)
    failed = {"id": "x", "custom_id": "r1", "response": None, "error": {"code": "expired"}}
    source = lines(tmp_path / "o.jsonl", [batch_row(0, chat_body("7")), failed, batch_row(1, {"error": {}}, 400)])
    assert left_out(source, tmp_path / "out") == {"requests that failed": 2}


def test_several_choices_are_several_draws(tmp_path: Path) -> None:
    requests(tmp_path)
    body = {**chat_body("7"), "choices": chat_body("7")["choices"] + chat_body("11")["choices"]}
    found = completions(lines(tmp_path / "o.jsonl", [batch_row(0, body)]))
    assert sorted(one.draw for one in found) == [0, 1]
    assert {one.item for one in found} == {"r0"}


def test_requests_are_found_by_their_ids_among_other_files(tmp_path: Path) -> None:
    source = openai_batch(tmp_path)
    lines(tmp_path / "a.jsonl", [{"custom_id": "other", "body": {"messages": []}}])
    assert completions(source)[0].prompt == (Message("user", ASKED[0]),)
    (tmp_path / "requests.jsonl").rename(tmp_path / "elsewhere.txt")
    with pytest.raises(DataError, match="give it with --requests"):
        completions(source)
    folder = sources.take(source, tmp_path / "out", how=HowRead(requests=tmp_path / "elsewhere.txt"))
    assert len(run_folder.read(folder, Completion)) == 2


def test_requests_of_anthropic_that_came_to_nothing_are_counted(tmp_path: Path) -> None:
    lines(tmp_path / "requests.jsonl", anthropic_requests())
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "x"}}
    rows = [
        {"custom_id": "r1", "result": {"type": "errored", "error": error}},
        {"custom_id": "r1", "result": {"type": "expired"}},
        {"custom_id": "r1", "result": {"type": "canceled"}},
        anthropic_row(0, blocks("7")),
    ]
    assert left_out(lines(tmp_path / "o.jsonl", rows), tmp_path / "out") == {"requests that failed": 3}


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
    ],
)
def test_why_a_message_ended_is_kept(tmp_path: Path, reason: str, finish: str) -> None:
    lines(tmp_path / "requests.jsonl", anthropic_requests())
    (found,) = completions(lines(tmp_path / "o.jsonl", [anthropic_row(0, blocks("7"), stop_reason=reason)]))
    assert (found.finish, found.policy, found.item) == (finish, "ours", "r0")


def test_what_a_request_begins_of_an_answer_belongs_to_it(tmp_path: Path) -> None:
    request = {
        "model": "m",
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Name a prime."}]}],
    }
    request["messages"] = [*request["messages"], {"role": "assistant", "content": "It is "}]
    lines(tmp_path / "requests.jsonl", [{"custom_id": "r0", "params": request}])
    (found,) = completions(lines(tmp_path / "o.jsonl", [anthropic_row(0, blocks("7"))]))
    assert found.prompt == (Message("system", "Be brief."), Message("user", "Name a prime."))
    assert found.text == "It is 7"


def test_a_call_of_a_tool_is_part_of_the_answer(tmp_path: Path) -> None:
    lines(tmp_path / "requests.jsonl", anthropic_requests())
    (tmp_path / "g").mkdir()
    gemini_requests(tmp_path / "g")
    call = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}
    (one,) = completions(lines(tmp_path / "o.jsonl", [anthropic_row(0, [*blocks("7"), call])]))
    response = gemini_response("7")
    response["candidates"][0]["content"]["parts"].append({"functionCall": {"name": "add", "args": {"a": 1}}})
    (other,) = completions(lines(tmp_path / "g" / "o.jsonl", [{"key": "r0", "response": response}]))
    assert one.text == other.text == '7\n{"arguments": {"a": 1}, "name": "add"}'


def test_what_gemini_blocked_or_failed_is_counted(tmp_path: Path) -> None:
    gemini_requests(tmp_path)
    rows = [
        {"key": "r0", "error": {"code": 3, "message": "x"}},
        {"key": "r0", "response": {"promptFeedback": {"blockReason": "SAFETY"}, "modelVersion": "ours"}},
        {"key": "r0", "response": gemini_response(None, "SAFETY")},
        {"key": "r1", "response": gemini_response("7", "MAX_TOKENS")},
    ]
    source = lines(tmp_path / "o.jsonl", rows)
    assert left_out(source, tmp_path / "out") == {"requests that failed": 1, "answers that were blocked": 2}
    assert [one.finish for one in completions(source)] == ["length"]


def test_candidates_are_draws_and_instructions_come_first(tmp_path: Path) -> None:
    request = {**gemini_request("Name a prime."), "system_instruction": {"parts": [{"text": "Be brief."}]}}
    request["contents"] = [{"role": "user", "parts": [{"text": "Hi"}]}, {"role": "model", "parts": [{"text": "Yes?"}]}]
    request["contents"] += [{"parts": [{"text": "Name a "}, {"text": "prime."}]}]
    response = gemini_response("7")
    response["candidates"] += gemini_response("11")["candidates"]
    row = {"status": "", "request": request, "response": response}
    failed = {"status": "Bad Request: x", "request": request, "response": {}}
    source = lines(tmp_path / "o.jsonl", [row, {**failed, "response": {"error": "x"}}])
    found = completions(source)
    assert [turn.content for turn in found[0].prompt] == ["Be brief.", "Hi", "Yes?", "Name a prime."]
    assert [turn.role for turn in found[0].prompt] == ["system", "user", "assistant", "user"]
    assert sorted(one.draw for one in found) == [0, 1]
    assert {one.text for one in found} == {"7", "11"}


def test_a_name_that_two_requests_have_is_refused(tmp_path: Path) -> None:
    rows = anthropic_requests()
    rows[1]["custom_id"] = "r0"
    lines(tmp_path / "requests.jsonl", rows)
    source = lines(tmp_path / "o.jsonl", [anthropic_row(0, blocks("7"))])
    with pytest.raises(DataError, match="row 1, field 'custom_id': 'r0' names two different requests"):
        completions(source)
