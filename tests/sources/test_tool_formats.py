"""Files of other tools in their published layouts, in our own words, and what is made of them."""

from __future__ import annotations

import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from perl_eval import sources
from perl_eval.cli.program import app
from perl_eval.errors import DataError
from perl_eval.records import Completion, Estimate, Judgement, Message
from perl_eval.scoring import score
from perl_eval.sources.brought import HowRead, completions_in
from perl_eval.sources.completions import completions
from perl_eval.sources.containers import opened
from perl_eval.sources.formats import inspect_logs as inspect_formats
from perl_eval.sources.recognition import FORMATS
from perl_eval.storage import run_folder

ASKED = ["Name a prime.", "Say hello."]
SAID = ["7", "Hello!"]
Row = dict[str, Any]


def lines(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def document(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1), "utf-8")
    return path


# OpenAI's batches


def requests(folder: Path) -> Path:
    rows = [
        {
            "custom_id": f"r{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "m", "messages": [{"role": "user", "content": asked}]},
        }
        for n, asked in enumerate(ASKED)
    ]
    return lines(folder / "requests.jsonl", rows)


def chat_body(said: str | None) -> Row:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "ours", "choices": [choice]}


def response_body(said: str) -> Row:
    reasoning = {"type": "reasoning", "summary": []}
    message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": said}]}
    return {"id": "resp_1", "object": "response", "model": "ours", "output": [reasoning, message]}


def batch_row(place: int, body: Row | None, status: int = 200) -> Row:
    return {
        "id": f"batch_req_{place}",
        "custom_id": f"r{place}",
        "response": {"status_code": status, "request_id": "x", "body": body},
        "error": None,
    }


def openai_batch(folder: Path, body: Callable[[str], Row] = chat_body) -> Path:
    requests(folder)
    return lines(folder / "output.jsonl", [batch_row(n, body(said)) for n, said in enumerate(SAID)])


# Anthropic's batches


def anthropic_requests() -> list[Row]:
    return [
        {
            "custom_id": f"r{n}",
            "params": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": asked}]},
        }
        for n, asked in enumerate(ASKED)
    ]


def anthropic_row(place: int, content: Any, **message: Any) -> Row:
    message = {
        **{"id": "msg_1", "type": "message", "role": "assistant", "model": "ours", "content": content},
        **{"stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 11, "output_tokens": 3}},
        **message,
    }
    return {"custom_id": f"r{place}", "result": {"type": "succeeded", "message": message}}


def blocks(said: str) -> list[Row]:
    return [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": said}]


def anthropic_batch(folder: Path) -> Path:
    lines(folder / "requests.jsonl", anthropic_requests())
    return lines(folder / "results.jsonl", [anthropic_row(n, blocks(SAID[n])) for n in range(len(SAID))])


def anthropic_document(folder: Path) -> Path:
    document(folder / "sent.json", {"requests": anthropic_requests()})
    return lines(folder / "results.jsonl", [anthropic_row(n, blocks(SAID[n])) for n in range(len(SAID))])


# Gemini's batches


def gemini_request(asked: str) -> Row:
    return {"contents": [{"role": "user", "parts": [{"text": asked}]}], "generationConfig": {"temperature": 0.7}}


def gemini_response(said: str | None, reason: str = "STOP") -> Row:
    parts = [{"text": "hm", "thought": True}, {"text": said}]
    content = {"role": "model", "parts": parts} if said is not None else {"role": "model"}
    candidate = {"content": content, "finishReason": reason, "index": 0}
    return {"candidates": [candidate], "modelVersion": "ours", "usageMetadata": {"promptTokenCount": 5}}


def gemini_rows() -> list[Row]:
    return [{"key": f"r{n}", "response": gemini_response(said)} for n, said in enumerate(SAID)]


def gemini_requests(folder: Path) -> None:
    rows = [{"key": f"r{n}", "request": gemini_request(asked)} for n, asked in enumerate(ASKED)]
    lines(folder / "requests.jsonl", rows)


def gemini_batch(folder: Path) -> Path:
    gemini_requests(folder)
    return lines(folder / "output.jsonl", gemini_rows())


def vertex_batch(folder: Path) -> Path:
    rows = [
        {
            "status": "",
            "processed_time": "2025-01-01T00:00:00",
            "request": gemini_request(asked),
            "response": gemini_response(said),
        }
        for asked, said in zip(ASKED, SAID, strict=True)
    ]
    return lines(folder / "predictions.jsonl", rows)


def parts_body(said: str) -> Row:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    body = chat_body(None)
    body["choices"][0]["message"]["content"] = [thinking, {"type": "text", "text": said}]
    return body


# Inspect


def inspect_sample(place: int, epoch: int = 1, scores: Row | None = None) -> Row:
    said = {"role": "assistant", "content": SAID[place], "model": "ours"}
    return {
        "id": f"s{place}",
        "epoch": epoch,
        "input": ASKED[place],
        "target": "x",
        "messages": [{"role": "user", "content": ASKED[place]}, said],
        "output": {
            "model": "ours",
            "choices": [{"message": said, "stop_reason": "stop"}],
            "completion": SAID[place],
        },
        "scores": scores or {},
        "attachments": {},
        "error": None,
    }


ABOUT = {"task": "mine", "model": "ours", "dataset": {"name": "mine"}}


def inspect_json(folder: Path) -> Path:
    log = {"version": 2, "status": "success", "eval": ABOUT, "plan": {}}
    return document(folder / "log.json", {**log, "samples": [inspect_sample(n) for n in range(2)]})


def inspect_zip(folder: Path) -> Path:
    path = folder / "log.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(2):
            archive.writestr(f"samples/s{n}_epoch_1.json", json.dumps(inspect_sample(n)))
        archive.writestr("header.json", json.dumps({"version": 2, "eval": ABOUT, "plan": {}}))
    return path


def inspect_zstandard(folder: Path) -> Path:
    """Write an archive whose files are packed as newer versions do, which `zipfile` cannot."""
    content = {f"samples/s{n}_epoch_1.json": inspect_sample(n) for n in range(2)}
    members = {name: json.dumps(one).encode() for name, one in content.items()}
    members["header.json"] = json.dumps({"version": 2, "eval": ABOUT}).encode()
    body, central = b"", b""
    for name, plain in members.items():
        packed = pa.Codec("zstd").compress(plain, asbytes=True)
        sizes = struct.pack("<III", zlib.crc32(plain), len(packed), len(plain))
        common = struct.pack("<HHHHH", 20, 0, 93, 0, 33) + sizes + struct.pack("<HH", len(name), 0)
        central += b"PK\x01\x02" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, len(body))
        central += name.encode()
        body += b"PK\x03\x04" + common + name.encode() + packed
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, len(members), len(members), len(central), len(body), 0)
    path = folder / "log.eval"
    path.write_bytes(body + central + end)
    return path


# lm-evaluation-harness, promptfoo, DeepEval


def lm_eval_row(place: int, filter: str = "none") -> Row:
    return {
        "doc_id": place,
        "doc": {"q": ASKED[place]},
        "target": "x",
        "arguments": {"gen_args_0": {"arg_0": ASKED[place], "arg_1": {"until": ["\n"]}}},
        "resps": [[SAID[place]]],
        "filtered_resps": [SAID[place]],
        "filter": filter,
        "metrics": ["exact_match"],
        "exact_match": 0.0,
    }


def lm_eval(folder: Path) -> Path:
    document(folder / "results_2026-01-01T00-00-00.000000.json", {"results": {}, "model_name": "ours"})
    rows = [lm_eval_row(n) for n in range(2)]
    return lines(folder / "samples_mine_2026-01-01T00-00-00.000000.jsonl", rows)


def promptfoo_row(place: int, checks: Sequence[Row] = ()) -> Row:
    return {
        "gradingResult": {"pass": True, "score": 1, "reason": "", "componentResults": list(checks)},
        "prompt": {"raw": ASKED[place], "label": "{{q}}"},
        "promptIdx": 0,
        "testIdx": place,
        "provider": {"id": "openai:x", "label": "ours"},
        "response": {"output": SAID[place]},
        "success": True,
        "score": 1,
        "failureReason": 0,
    }


def promptfoo(folder: Path) -> Path:
    rows = [promptfoo_row(n) for n in range(2)]
    results = {"version": 3, "timestamp": "t", "prompts": [], "results": rows, "stats": {}}
    return document(folder / "out.json", {"evalId": "eval-1", "results": results, "config": {}})


def promptfoo_lines(folder: Path) -> Path:
    return lines(folder / "out.jsonl", [promptfoo_row(n) for n in range(2)])


def deepeval_case(place: int, metrics: Sequence[Row] = ()) -> Row:
    return {"name": f"c{place}", "input": ASKED[place], "actualOutput": SAID[place], "metricsData": list(metrics)}


def deepeval(folder: Path) -> Path:
    cases = [deepeval_case(n) for n in range(2)]
    return document(folder / "test_run.json", {"testCases": cases, "hyperparameters": {"model": "ours"}})


def swift(folder: Path) -> Path:
    rows = [
        {
            "response": said,
            "labels": "other",
            "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}],
        }
        for asked, said in zip(ASKED, SAID, strict=True)
    ]
    return lines(folder / "ours.jsonl", rows)


def llama_factory(folder: Path) -> Path:
    rows = [{"prompt": asked, "predict": said, "label": "x"} for asked, said in zip(ASKED, SAID, strict=True)]
    return lines(folder / "ours.jsonl", rows)


def saved(folder: Path) -> Path:
    import datasets

    rows = [{"prompt": asked, "completion": said} for asked, said in zip(ASKED, SAID, strict=True)]
    datasets.Dataset.from_list(rows).save_to_disk(folder / "ours")
    return folder / "ours"


WRITERS: Mapping[str, tuple[str, Callable[[Path], Path]]] = {
    "openai batch": ("openai-batch", openai_batch),
    "openai responses": ("openai-batch", lambda folder: openai_batch(folder, response_body)),
    "mistral batch": ("openai-batch", lambda folder: openai_batch(folder, parts_body)),
    "anthropic batch": ("anthropic-batch", anthropic_batch),
    "anthropic document": ("anthropic-batch", anthropic_document),
    "gemini batch": ("gemini-batch", gemini_batch),
    "vertex batch": ("gemini-batch", vertex_batch),
    "inspect json": ("inspect", inspect_json),
    "inspect zip": ("inspect", inspect_zip),
    "inspect zstandard": ("inspect", inspect_zstandard),
    "lm-eval": ("lm-eval", lm_eval),
    "promptfoo": ("promptfoo", promptfoo),
    "promptfoo lines": ("promptfoo", promptfoo_lines),
    "deepeval": ("deepeval", deepeval),
    "ms-swift": ("chat", swift),
    "llama-factory": ("table", llama_factory),
    "save_to_disk": ("table", saved),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WRITERS)
def test_each_tool_gives_the_same_answers(tmp_path: Path, name: str) -> None:
    format, write = WRITERS[name]
    source = write(tmp_path)
    folder = sources.take(source, tmp_path / "out")
    found = run_folder.read(folder, Completion)
    assert [(one.prompt, one.text, one.policy, one.draw, one.finish) for one in found] == [
        ((Message("user", asked),), said, "ours", 0, "stop") for asked, said in zip(ASKED, SAID, strict=True)
    ]
    assert found == completions(source)
    card = run_folder.read_card(folder)
    assert card is not None
    assert (card.notes["format"], card.notes["left_out"]) == (format, {})


# What is left out, and said


def left_out(source: Path, out: Path, how: HowRead | None = None) -> Mapping[str, int]:
    card = run_folder.read_card(sources.take(source, out, how=how))
    assert card is not None
    found: Mapping[str, int] = card.notes["left_out"]
    return found


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


def test_epochs_are_draws(tmp_path: Path) -> None:
    samples = [inspect_sample(0, epoch) for epoch in (3, 1, 2)]
    source = document(tmp_path / "l.json", {"eval": ABOUT, "plan": {}, "samples": samples})
    folder = sources.take(source, tmp_path / "out")
    assert [one.draw for one in run_folder.read(folder, Completion)] == [2, 0, 1]


def test_an_attachment_is_put_in_its_place(tmp_path: Path) -> None:
    key = "0123456789abcdef" * 2
    sample = {**inspect_sample(0), "attachments": {key: ASKED[0]}}
    sample["messages"] = [{"role": "user", "content": f"attachment://{key}"}, sample["messages"][1]]
    (found,) = completions(document(tmp_path / "l.json", {"eval": ABOUT, "plan": {}, "samples": [sample]}))
    assert found.prompt == (Message("user", ASKED[0]),)


def test_other_filters_repeat_the_answers(tmp_path: Path) -> None:
    rows = [lm_eval_row(0, "strict"), lm_eval_row(1, "strict"), lm_eval_row(0, "loose"), lm_eval_row(1, "loose")]
    source = lines(tmp_path / "samples_x_1.jsonl", rows)
    assert left_out(source, tmp_path / "out") == {"rows of other filters, with the same answers": 2}


def test_log_likelihoods_are_no_answers(tmp_path: Path) -> None:
    row = {**lm_eval_row(0), "resps": [[["-0.1", "False"]], [["-0.5", "False"]]]}
    with pytest.raises(DataError, match="has log-likelihoods, no answers; give a generate_until task"):
        completions(lines(tmp_path / "samples_x_1.jsonl", [row]))


# Judgements


def judged(source: Path, format: str = "") -> list[Judgement]:
    return sources.read_judgements(source, format)


def single_row(question: int, turn: int, score: float, template: str) -> Row:
    return {
        "question_id": question,
        "model": "ours",
        "judge": ["gpt-4", template],
        "user_prompt": "p",
        "judgment": f"Rating: [[{score}]]",
        "score": score,
        "turn": turn,
        "tstamp": 1.0,
    }


def test_single_answer_grading_comes_to_the_tools_own_mean(tmp_path: Path) -> None:
    scores = [(81, 1, 9, "single-v1"), (81, 2, 6.5, "single-v1-multi-turn"), (101, 1, 2, "single-math-v1")]
    rows = [single_row(*one) for one in [*scores, (101, 2, -1, "single-math-v1-multi-turn")]]
    source = lines(tmp_path / "gpt-4_single.jsonl", rows)
    out = sources.take(source, tmp_path / "judged")
    found = run_folder.read(out, Judgement)
    assert [(one.kind, one.outcome, one.score) for one in found] == [
        ("score", "scored", 9.0),
        ("score", "scored", 6.5),
        ("score", "scored", 2.0),
        ("score", "unjudged", None),
    ]
    figures = run_folder.read(score.run(out, tmp_path / "scores"), Estimate)
    means = [one for one in figures if one.name == "mean score"]
    # FastChat leaves scores of -1 out and takes the mean over all turns and templates of a judge.
    assert [one.value for one in means] == [pytest.approx((9 + 6.5 + 2) / 3)]


def test_pairs_of_two_templates_are_of_one_judge_and_pooled(tmp_path: Path) -> None:
    rows = [
        {
            "question_id": question,
            "model_1": "ours",
            "model_2": "theirs",
            "g1_winner": "model_1",
            "g2_winner": winner,
            "judge": ["gpt-4", template],
            "turn": 1,
        }
        for question, winner, template in [(81, "model_1", "pair-v2"), (101, "model_2", "pair-math-v1")]
    ]
    out = sources.take(lines(tmp_path / "gpt-4_pair.jsonl", rows), tmp_path / "judged")
    found = run_folder.read(out, Judgement)
    assert {one.judge for one in found} == {"gpt-4"}
    assert [one.ballots[0].model for one in found] == ["gpt-4, pair-v2", "gpt-4, pair-math-v1"]
    figures = run_folder.read(score.run(out, tmp_path / "s"), Estimate)
    assert [(one.value, one.n) for one in figures if one.name == "win rate, undecided half"] == [
        (pytest.approx(0.75), 2)
    ]


def arena_row(first: Any, second: Any, **more: Any) -> Row:
    games = [one if one is None else {"score": one, "judgment": {"answer": "My verdict"}} for one in (first, second)]
    return {
        "uid": "u1",
        "category": "hard_prompt",
        "judge": "j",
        "model": "ours",
        "baseline": "b",
        "games": games,
        **more,
    }


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        # In the first game A is the baseline, in the second the model (arena-hard-auto, gen_judgment.py).
        ("B>A", "A>B", "win"),
        ("B>>A", "A>B", "win"),
        ("A<<B", "B<A", "win"),
        ("A>>B", "B>>A", "loss"),
        ("A>B", "A>B", "split"),
        ("A=B", "B=A", "tie"),
        ("A=B", "A>>B", "mixed"),
        (None, "A>B", "unjudged"),
        ("A>B", None, "unjudged"),
    ],
)
def test_arena_hard_games_are_both_orders(tmp_path: Path, first: str, second: str, outcome: str) -> None:
    (found,) = judged(lines(tmp_path / "ours.jsonl", [arena_row(first, second)]))
    assert (found.outcome, found.policy_a, found.policy_b, found.judge) == (outcome, "ours", "b", "j")
    assert [ballot.order for ballot in found.ballots] == ["ab", "ba"]


def test_arena_hard_labels_count_as_in_the_tool(tmp_path: Path) -> None:
    """Without weights, the tool's score is the mean over both games of 1, 0.5 or 0 for the model."""
    worth = {"A>B": 1, "A>>B": 1, "A=B": 0.5, "A<<B": 0, "A<B": 0, "B>A": 0, "B>>A": 0, "B=A": 0.5, "B<<A": 1, "B<A": 1}
    for first, of_baseline in worth.items():
        for second, of_model in worth.items():
            (found,) = judged(lines(tmp_path / "x.jsonl", [arena_row(first, second)]))
            verdicts = {one.order: one.verdict for one in found.ballots}
            mine = {"first": 1, "tie": 0.5, "second": 0}
            assert mine[str(verdicts["ab"])] == of_model
            assert mine[str(verdicts["ba"])] == of_baseline


def test_arena_hard_of_the_first_version(tmp_path: Path) -> None:
    games = [{"user_prompt": "p", "judgment": "t", "score": label} for label in ("B>A", "A>B")]
    row = {"question_id": "q1", "model": "ours", "judge": "gpt-4-1106-preview", "games": games}
    (found,) = judged(lines(tmp_path / "ours.jsonl", [row]))
    assert (found.outcome, found.group, found.policy_b) == ("win", "q1", "baseline")


def test_scores_of_inspect_belong_to_its_answers(tmp_path: Path) -> None:
    scores = [
        {"graded": {"value": "C", "explanation": "good"}, "f1": {"value": 0.5}, "two": {"value": {"a": 3, "b": "I"}}},
        {"graded": {"value": float("nan"), "reason": "grader_failed"}, "f1": {"value": 0.0}},
        {"graded": {"value": "P"}, "f1": {"value": float("nan")}},
    ]
    samples = [inspect_sample(0, 1, scores[0]), inspect_sample(1, 1, scores[1]), inspect_sample(0, 2, scores[2])]
    source = document(tmp_path / "l.json", {"eval": ABOUT, "plan": {}, "samples": samples})
    found = judged(source)
    said = {(one.item, one.judge, one.kind, one.outcome, one.score) for one in found}
    assert said == {
        ("s0", "graded", "yes_no", "yes", None),
        ("s0", "f1", "score", "scored", 0.5),
        ("s0", "two: a", "score", "scored", 3.0),
        ("s0", "two: b", "yes_no", "no", None),
        ("s1", "graded", "yes_no", "unjudged", None),
        ("s1", "f1", "score", "scored", 0.0),
        ("s0", "graded", "yes_no", "unjudged", None),
        ("s0", "f1", "score", "unjudged", None),
    }
    assert {one.reason for one in found if one.outcome == "unjudged"} == {
        "grader_failed",
        "partly correct",
        "no verdict",
    }
    assert {one.a for one in found} <= {one.id for one in completions(source)}


def test_checks_of_promptfoo_and_metrics_of_deepeval(tmp_path: Path) -> None:
    checks = [
        {"pass": True, "score": 1, "reason": "ok", "assertion": {"type": "contains", "value": "7"}},
        {"pass": False, "score": 0, "reason": "no", "assertion": {"type": "llm-rubric", "metric": "polite"}},
    ]
    found = judged(lines(tmp_path / "out.jsonl", [promptfoo_row(0, checks), promptfoo_row(1)]))
    assert [(one.judge, one.outcome, one.ballots[0].raw) for one in found] == [
        ("contains: 7", "yes", "ok"),
        ("polite", "no", "no"),
    ]
    metrics = [
        {"name": "Exact Match", "score": 1.0, "success": True, "threshold": 1.0},
        {"name": "Clear", "score": None, "success": False, "error": "timeout", "evaluationModel": "gpt"},
    ]
    run = document(tmp_path / "test_run.json", {"testCases": [deepeval_case(0, metrics)]})
    assert [(one.judge, one.outcome, one.score, one.reason) for one in judged(run)] == [
        ("Exact Match", "scored", 1.0, None),
        ("Clear (gpt)", "unjudged", None, "timeout"),
    ]


# What is broken is refused with file, row and field


def broken_batch(change: Callable[[Row], Row]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        requests(folder)
        return lines(folder / "x.jsonl", [batch_row(0, chat_body("7")), change(batch_row(1, chat_body("x")))])

    return write


def broken_inspect(**changed: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        samples = [inspect_sample(0), {**inspect_sample(1), **changed}]
        return document(folder / "x.json", {"eval": ABOUT, "plan": {}, "samples": samples})

    return write


def broken(good: Row, name: str = "x.jsonl", **changed: Any) -> Callable[[Path], Path]:
    return lambda folder: lines(folder / name, [good, {**good, **changed}])


def in_document(name: str, good: Row, **changed: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        rows = [good, {**good, **changed}]
        content = {"results": {"results": rows}} if name == "results" else {name: rows}
        return document(folder / "x.json", content)

    return write


GOOD_PAIR = {
    "question_id": 1,
    "model_1": "a",
    "model_2": "b",
    "g1_winner": "tie",
    "g2_winner": "tie",
    "judge": ["j", "t"],
}
GOOD_PREFERENCE = {
    **{"instruction": "q", "output_1": "x", "output_2": "y", "generator_1": "b", "generator_2": "m"},
    **{"annotator": "w", "preference": 1.5},
}
OPENAI: Sequence[tuple[str, Callable[[Path], Path], str]] = [
    ("", broken_batch(lambda row: {**row, "custom_id": None}), "row 1, field 'custom_id': no such field"),
    ("", broken_batch(lambda row: {**row, "custom_id": [1]}), "row 1, field 'custom_id': is a list"),
    ("", broken_batch(lambda row: {**row, "custom_id": "r9"}), "row 1, field 'custom_id': 'r9' is in no request"),
    ("", broken_batch(lambda _: batch_row(1, {"id": "x"})), "row 1, field 'response.body': has neither choices"),
    ("", broken_batch(lambda _: batch_row(1, {"choices": []})), "row 1, field 'response.body': has neither"),
    ("", broken_batch(lambda _: batch_row(1, {"choices": "x"})), "row 1, field 'response.body': has neither"),
    ("", broken_batch(lambda _: batch_row(1, {"choices": ["x"]})), "row 1, field 'response.body.choices'"),
    ("", broken_batch(lambda _: batch_row(1, {"choices": [{"message": 3}]})), "row 1, field 'response.body.choices'"),
    ("", broken_batch(lambda _: batch_row(1, {"output": ["x"]})), "row 1, field 'response.body.output'"),
    ("", broken_batch(lambda row: {"response": row["response"]}), "row 1, field 'custom_id': no such field"),
]


def broken_message(row: Row) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        lines(folder / "requests.jsonl", anthropic_requests())
        return lines(folder / "x.jsonl", [anthropic_row(0, blocks("7")), row])

    return write


def asked_of(name: str, sent: Any, row: Row) -> Callable[[Path], Path]:
    """Return what writes a row of results whose request is broken."""

    def write(folder: Path) -> Path:
        key = "custom_id" if name == "params" else "key"
        lines(folder / "requests.jsonl", [{key: "r0", name: sent}])
        return lines(folder / "x.jsonl", [row])

    return write


def broken_gemini(row: Row) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        gemini_requests(folder)
        return lines(folder / "x.jsonl", [gemini_rows()[0], row])

    return write


PICTURE_ASKED = [{"role": "user", "content": [{"type": "image", "source": {}}]}]
ANTHROPIC: Sequence[tuple[str, Callable[[Path], Path], str]] = [
    ("", broken_message({**anthropic_row(1, []), "custom_id": None}), "row 1, field 'custom_id': no such field"),
    ("", broken_message({**anthropic_row(1, []), "custom_id": [1]}), "row 1, field 'custom_id': is a list"),
    ("", broken_message(anthropic_row(9, [])), "row 1, field 'custom_id': 'r9' is in no request"),
    ("", broken_message({"custom_id": "r1"}), "row 1, field 'result': no such field"),
    ("", broken_message({"custom_id": "r1", "result": "x"}), "row 1, field 'result': is a str"),
    ("", broken_message({"custom_id": "r1", "result": {"type": "succeeded"}}), "row 1, field 'result.message': is no"),
    ("", broken_message(anthropic_row(1, None)), "row 1, field 'result.message.content': is not a list of blocks"),
    ("", broken_message(anthropic_row(1, "7")), "row 1, field 'result.message.content': is not a list of blocks"),
    ("", broken_message(anthropic_row(1, ["7"])), "row 1, field 'result.message.content': has a block without"),
    ("", broken_message(anthropic_row(1, [{"type": "text"}])), "row 1, field 'result.message.content': has a text"),
    ("", asked_of("params", {"model": "m"}, anthropic_row(0, [])), "row 0, field 'params': has no messages"),
    ("", asked_of("params", {"messages": ["x"]}, anthropic_row(0, [])), "row 0, field 'params': has a turn without"),
    ("", asked_of("params", {"messages": PICTURE_ASKED}, anthropic_row(0, [])), "field 'params': has a part of type"),
    ("anthropic-batch", asked_of("params", "x", anthropic_row(0, [])), "row 0, field 'params': is a str"),
]
GEMINI: Sequence[tuple[str, Callable[[Path], Path], str]] = [
    ("", broken_gemini({"response": gemini_response("7")}), "row 1, field 'key': no such field"),
    ("", broken_gemini({"key": [1], "response": gemini_response("7")}), "row 1, field 'key': is a list"),
    ("", broken_gemini({"key": "r9", "response": gemini_response("7")}), "row 1, field 'key': 'r9' is in no request"),
    ("", broken_gemini({"key": "r1", "response": {}}), "row 1, field 'response.candidates': has no candidates"),
    ("", broken_gemini({"key": "r1", "response": {"candidates": "x"}}), "row 1, field 'response.candidates': has no"),
    ("", broken_gemini({"key": "r1", "response": {"candidates": ["x"]}}), "row 1, field 'response.candidates': has a"),
    (
        "",
        broken_gemini({"key": "r1", "response": {"candidates": [{"content": "x"}]}}),
        "row 1, field 'response.candidates.content': has no parts",
    ),
    (
        "",
        broken_gemini({"key": "r1", "response": {"candidates": [{"content": {"parts": "x"}}]}}),
        "row 1, field 'response.candidates.content': has no parts",
    ),
    (
        "",
        broken_gemini({"key": "r1", "response": {"candidates": [{"content": {"parts": ["x"]}}]}}),
        "row 1, field 'response.candidates.content': has a part that is not an object",
    ),
    ("", asked_of("request", {}, gemini_rows()[0]), "row 0, field 'request': has no contents"),
    ("", asked_of("request", {"contents": [{"parts": []}, 7]}, gemini_rows()[0]), "row 0, field 'request': has a part"),
    (
        "",
        asked_of("request", {"contents": [{"parts": [{"fileData": {}}]}]}, gemini_rows()[0]),
        "row 0, field 'request': has a part of type 'fileData'",
    ),
    (
        "",
        asked_of("request", {"contents": [{"role": "x", "parts": [{"text": "q"}]}]}, gemini_rows()[0]),
        "row 0, field 'request': has a turn of role 'x'",
    ),
]
INSPECT: Sequence[tuple[str, Callable[[Path], Path], str]] = [
    ("inspect", broken_inspect(output=None), "row 1, field 'output': has no output"),
    ("inspect", broken_inspect(output={"choices": [{}], "completion": 3}), "row 1, field 'output.completion'"),
    ("inspect", broken_inspect(id=None), "row 1, field 'id': has no id"),
    ("inspect", broken_inspect(epoch="x"), "row 1, field 'id': has no id and epoch"),
    ("inspect", broken_inspect(messages="x"), "row 1, field 'messages': is not a list of turns"),
    ("inspect", broken_inspect(messages=[{"content": "x"}]), "row 1, field 'messages': is not a list of turns"),
    (
        "inspect",
        lambda folder: document(folder / "x.json", {"eval": {}, "plan": {}}),
        "field 'samples': has no samples",
    ),
    (
        "inspect",
        lambda folder: document(folder / "x.json", {"eval": {}, "plan": {}, "samples": [3]}),
        "row 0, field 'samples': is not a JSON object",
    ),
    ("inspect-scores", broken_inspect(scores=[1]), "row 1, field 'scores': is not an object"),
    ("inspect-scores", broken_inspect(scores={"s": {}}), "row 1, field 'scores.s': has no value"),
    ("inspect-scores", broken_inspect(scores={"s": {"value": "Z"}}), "row 1, field 'scores.s': 'Z' is neither C"),
]
LM_EVAL_BROKEN: Sequence[tuple[str, Callable[[Path], Path], str]] = [
    ("", broken(lm_eval_row(0), doc_id=None), "row 1, field 'doc_id': no such field"),
    ("", broken(lm_eval_row(0), doc_id=[1]), "row 1, field 'doc_id': is a list"),
    ("", broken(lm_eval_row(0), arguments=None), "row 1, field 'arguments': no such field"),
    ("", broken(lm_eval_row(0), arguments="x"), "row 1, field 'arguments': is a str"),
    ("", broken(lm_eval_row(0), arguments={}), "row 1, field 'arguments': has no prompt"),
    ("", broken(lm_eval_row(0), arguments={"gen_args_0": {}}), "row 1, field 'arguments': has no prompt"),
    ("", broken(lm_eval_row(0), arguments=[[3]]), "row 1, field 'arguments': has no prompt"),
    ("", broken(lm_eval_row(0), resps=None), "row 1, field 'resps': no such field"),
    ("", broken(lm_eval_row(0), resps="x"), "row 1, field 'resps': is a str"),
    ("", broken(lm_eval_row(0), resps=[[3]]), "row 1, field 'resps': has log-likelihoods"),
]
PROMPTFOO_BROKEN: Sequence[tuple[str, Callable[[Path], Path], str]] = [
    ("promptfoo", broken(promptfoo_row(0), prompt=None), "row 1, field 'prompt.raw': has no prompt"),
    ("promptfoo", broken(promptfoo_row(0), prompt={"raw": 3}), "row 1, field 'prompt.raw': has no prompt"),
    ("promptfoo", broken(promptfoo_row(0), prompt=["x"]), "row 1, field 'prompt.raw': has no prompt"),
    ("promptfoo", broken(promptfoo_row(0), response={}), "row 1, field 'response.output': has no output"),
    ("promptfoo", in_document("results", promptfoo_row(0), prompt=3), "row 1, field 'prompt.raw': has no prompt"),
    (
        "promptfoo",
        lambda folder: document(folder / "x.json", {"results": {"results": [3]}}),
        "row 0, field 'results': is not a JSON object",
    ),
    (
        "promptfoo-scores",
        broken(promptfoo_row(0), gradingResult={"componentResults": "x"}),
        "row 1, field 'gradingResult.componentResults': is not a list",
    ),
    (
        "promptfoo-scores",
        broken(promptfoo_row(0), gradingResult={"componentResults": ["x"]}),
        r"row 1, field 'gradingResult.componentResults\[0\].pass'",
    ),
    (
        "promptfoo-scores",
        broken(promptfoo_row(0), gradingResult={"componentResults": [{"pass": "yes"}]}),
        r"row 1, field 'gradingResult.componentResults\[0\].pass'",
    ),
    (
        "promptfoo-scores",
        broken(promptfoo_row(0), gradingResult={"componentResults": [{"pass": True}, {}]}),
        r"row 1, field 'gradingResult.componentResults\[1\].pass'",
    ),
]
DEEPEVAL_BROKEN: Sequence[tuple[str, Callable[[Path], Path], str]] = [
    ("deepeval", in_document("testCases", deepeval_case(0), input=None), "row 1, field 'input': no such field"),
    ("deepeval", in_document("testCases", deepeval_case(0), input=3), "row 1, field 'input': is a int"),
    ("deepeval", in_document("testCases", deepeval_case(0), input=["x"]), "row 1, field 'input': is a list"),
    ("deepeval", in_document("testCases", deepeval_case(0), actualOutput=3), "row 1, field 'actualOutput': is a int"),
    ("deepeval", in_document("testCases", deepeval_case(0), actualOutput=[]), "row 1, field 'actualOutput': is a list"),
    (
        "deepeval",
        lambda folder: document(folder / "x.json", {"testCases": [3]}),
        "row 0, field 'testCases': is not a JSON object",
    ),
    ("deepeval-scores", in_document("testCases", deepeval_case(0), metricsData="x"), "row 1, field 'metricsData'"),
    (
        "deepeval-scores",
        in_document("testCases", deepeval_case(0), metricsData=["x"]),
        r"field 'metricsData\[0\].name'",
    ),
    ("deepeval-scores", in_document("testCases", deepeval_case(0), metricsData=[{}]), r"field 'metricsData\[0\].name'"),
    (
        "deepeval-scores",
        in_document("testCases", deepeval_case(0), metricsData=[{"name": "m", "score": "high"}]),
        r"row 1, field 'metricsData\[0\].score': is not a number",
    ),
]
FASTCHAT_BROKEN: Sequence[tuple[str, Callable[[Path], Path], str]] = [
    ("", broken(GOOD_PAIR, g1_winner="draw"), "row 1, field 'g1_winner': 'draw' is none of model_1"),
    ("", broken(GOOD_PAIR, g2_winner=None), "row 1, field 'g2_winner': no such field"),
    ("", broken(GOOD_PAIR, judge=None), "row 1, field 'judge': no such field"),
    ("", broken(GOOD_PAIR, judge=[]), "row 1, field 'judge': is empty"),
    ("", broken(GOOD_PAIR, model_1=3), "row 1, field 'model_1': is a int"),
    ("", broken(GOOD_PAIR, turn="two"), "row 1, field 'turn': 'two' is not a whole number"),
    ("", broken(GOOD_PAIR, question_id=None), "row 1, field 'question_id': no such field"),
    ("", broken(single_row(1, 1, 5, "t"), score=None), "row 1, field 'score': no such field"),
    ("", broken(single_row(1, 1, 5, "t"), score="five"), "row 1, field 'score': is a str"),
    ("", broken(single_row(1, 1, 5, "t"), judge=4), "row 1, field 'judge': is a int"),
]
ARENA_BROKEN: Sequence[tuple[str, Callable[[Path], Path], str]] = [
    ("", broken(arena_row("A>B", "A>B"), uid=None), "row 1, field 'uid': no such field"),
    ("", broken(arena_row("A>B", "A>B"), judge=["x"]), "row 1, field 'judge': is a list"),
    ("", broken(arena_row("A>B", "A>B"), model=None), "row 1, field 'model': no such field"),
    ("", broken(arena_row("A>B", "A>B"), games=None), "row 1, field 'games': no such field"),
    ("", broken(arena_row("A>B", "A>B"), games=[]), "row 1, field 'games': has 0 games"),
    ("", broken(arena_row("A>B", "A>B"), games=["x", "y"]), "row 1, field 'games': has a game without a score"),
    ("", broken(arena_row("A>B", "A>B"), games=[{}, {}]), "row 1, field 'games': has a game without a score"),
    (
        "",
        broken(arena_row("A>B", "A>B"), **arena_row("A>A", "A>B")),
        "row 1, field 'games': score 'A>A' is not a label",
    ),
    (
        "",
        broken(arena_row("A>B", "A>B"), **arena_row("C>B", "A>B")),
        "row 1, field 'games': score 'C>B' is not a label",
    ),
    ("", broken(arena_row("A>B", "A>B"), **arena_row(1, "A>B")), "row 1, field 'games': score 1 is not a label"),
]
ALPACA_BROKEN: Sequence[tuple[str, Callable[[Path], Path], str]] = [
    ("", broken(GOOD_PREFERENCE, preference=value), f"row 1, field 'preference': {value} is not in")
    for value in (7.0, -1, 2.5, 0.5)
]
JUDGEMENTS = [*FASTCHAT_BROKEN, *ARENA_BROKEN, *ALPACA_BROKEN]


@pytest.mark.parametrize(
    ("format", "write", "said"),
    [*OPENAI, *ANTHROPIC, *GEMINI, *INSPECT, *LM_EVAL_BROKEN, *PROMPTFOO_BROKEN, *DEEPEVAL_BROKEN, *JUDGEMENTS],
)
def test_what_is_broken_names_file_row_and_field(
    tmp_path: Path, format: str, write: Callable[[Path], Path], said: str
) -> None:
    source = write(tmp_path)
    with pytest.raises(DataError, match=said) as caught:
        sources.take(source, tmp_path / "out", how=HowRead(format))
    at_fault = source.with_name("requests.jsonl") if "'request'" in said or "'params'" in said else source
    assert str(at_fault) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_archive_is_one_line(tmp_path: Path) -> None:
    source = inspect_zstandard(tmp_path)
    content = bytearray(source.read_bytes())
    content[60:90] = bytes(30)
    source.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"field 'samples/s0_epoch_1.json': is damaged"):
        completions(source)


# Two sides


def test_items_meet_by_prompt_where_only_one_file_names_them(tmp_path: Path) -> None:
    named = lines(
        tmp_path / "a.jsonl",
        [
            {"uid": f"u{n}", "prompt": asked, "text": said}
            for n, (asked, said) in enumerate(zip(ASKED, SAID, strict=True))
        ],
    )
    bare = lines(tmp_path / "b.jsonl", [{"prompt": asked, "text": "other"} for asked in reversed(ASKED)])
    told: list[str] = []
    first, second = completions_in([named, bare], tmp_path / "out", say=told.append)
    sides = [{one.prompt: one.item for one in run_folder.read(side, Completion)} for side in (first, second)]
    assert sides[0] == sides[1]
    assert "items are told by their prompts" in told[0]
    both: list[str] = []
    completions_in([named, named], tmp_path / "same", say=both.append)
    assert not any("by their prompts" in line for line in both)
    assert {one.item for one in run_folder.read(tmp_path / "same" / "inputs" / "a", Completion)} == {"u0", "u1"}


# The verb


def test_the_verb_tells_kinds_apart_and_lists_formats(tmp_path: Path) -> None:
    runner = CliRunner()
    listed = runner.invoke(app, ["import", "--formats"])
    assert listed.exit_code == 0
    assert {"openai-batch", "inspect-scores", "label-studio", "outcomes"} <= {
        line.split()[0] for line in listed.output.splitlines()
    }
    files = {
        "completions.parquet": promptfoo(tmp_path / "1"),
        "judgements.parquet": lines(tmp_path / "2.jsonl", [arena_row("A>B", "A>B")]),
        "labels.parquet": lines(tmp_path / "3.jsonl", [{"a": "x", "b": "y", "label": "win", "text": "why"}]),
    }
    for name, source in files.items():
        out = tmp_path / f"out {name}"
        done = runner.invoke(app, ["import", str(source), "--out", str(out)])
        assert done.exit_code == 0, done.output
        assert (out / name).is_file()
    old = runner.invoke(
        app, ["import", str(files["labels.parquet"]), "--form", "table", "--out", str(tmp_path / "old")]
    )
    assert old.exit_code == 0
    graded = [inspect_sample(0, scores={"graded": {"value": "C"}})]
    log = document(tmp_path / "graded.json", {"eval": ABOUT, "plan": {}, "samples": graded})
    scores = ["import", str(log), "--format", "inspect-scores", "--out", str(tmp_path / "scores")]
    assert runner.invoke(app, scores).exit_code == 0


@pytest.mark.parametrize(
    ("format", "write", "said"),
    [
        ("inspect-scores", inspect_json, "2 samples without a score"),
        ("promptfoo-scores", promptfoo_lines, "2 answers that nothing checks"),
        ("deepeval-scores", deepeval, "2 answers that no metric looked at"),
    ],
)
def test_a_file_without_any_judgement_is_refused(
    tmp_path: Path, format: str, write: Callable[[Path], Path], said: str
) -> None:
    source = write(tmp_path)
    with pytest.raises(DataError, match=rf"gives no judgements \(left out: {said}\)"):
        sources.take(source, tmp_path / "out", how=HowRead(format))


def test_the_page_on_formats_lists_them_all() -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text("utf-8")
    assert [one.name for one in FORMATS if f"| `{one.name}` |" not in page] == []


# The tools' own writers, where they are installed


def inspect_logs(folder: Path) -> list[Path]:
    """Let Inspect itself write logs: text, turns, reasoning and tool calls, several epochs and scorers, a failure."""
    from inspect_ai import Task, eval
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import (
        ChatMessageAssistant,
        ChatMessageSystem,
        ChatMessageUser,
        ContentReasoning,
        ContentText,
        ModelOutput,
        ModelUsage,
        get_model,
    )
    from inspect_ai.scorer import Score, includes, match, mean, scorer
    from inspect_ai.solver import generate
    from inspect_ai.tool import ToolCall

    @scorer(metrics=[mean()])
    def length() -> Any:
        async def score(state: Any, target: Any) -> Score:
            del target
            return Score(value=float("nan") if "prime" in state.input_text else len(state.output.completion))

        return score

    thought = [ContentReasoning(reasoning="hm"), ContentText(text=SAID[0])]
    call = [ToolCall(id="c", function="look", arguments={"at": "x"})]
    first = ModelOutput.from_message(ChatMessageAssistant(content=thought))
    outputs = [first, *(ModelOutput.from_content("mockllm/model", said) for said in (*SAID, "x" * 200) * 3)]
    for one in outputs:
        one.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    turns = [
        ChatMessageSystem(content="Be brief. " * 40),
        ChatMessageUser(content="Look."),
        ChatMessageAssistant(content="", tool_calls=call),
        ChatMessageUser(content="y " * 200),
    ]
    asked: list[Any] = [*ASKED, turns]
    samples = MemoryDataset([Sample(id=n, input=one, target=SAID[0]) for n, one in enumerate(asked)])
    found = []
    for kind in ("eval", "json"):
        model = get_model("mockllm/model", custom_outputs=list(outputs), memoize=False)
        task = Task(dataset=samples, solver=[generate()], scorer=[includes(), match(), length()], epochs=2)
        eval(task, model=model, log_dir=str(folder / kind), log_format=kind, display="none", max_samples=1)
        found += (folder / kind).glob(f"*.{kind}")
    return found


def test_logs_that_inspect_itself_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("inspect_ai")
    from inspect_ai.log import read_eval_log

    for source in inspect_logs(tmp_path):
        theirs = {(str(s.id), s.epoch - 1): s.output.completion for s in read_eval_log(source).samples or []}
        by_package = sorted(completions(source), key=lambda one: one.id), judged(source)
        assert inspect_formats._read_by_inspect(opened(source)) is not None
        assert {(one.item, one.draw): one.text for one in by_package[0]} == theirs
        assert len(by_package[1]) == 3 * len(theirs) == 18
        with monkeypatch.context() as patch:
            patch.setattr(inspect_formats, "_read_by_inspect", lambda _: None)
            by_bytes = sorted(completions(source), key=lambda one: one.id), judged(source)
        assert by_bytes[0] == by_package[0]
        assert sorted(by_bytes[1], key=lambda one: one.id) == sorted(by_package[1], key=lambda one: one.id)


def test_a_sample_that_was_run_again_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings(action="ignore"):
        archive.writestr("header.json", json.dumps({"version": 2, "eval": ABOUT, "plan": {}}))
        for said in ("first", "again"):
            sample = {**inspect_sample(0), "output": {"choices": [{"stop_reason": "stop"}], "completion": said}}
            archive.writestr("samples/s0_epoch_1.json", json.dumps(sample))
    assert [one.text for one in completions(path)] == ["again"]


def test_a_run_that_deepeval_itself_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("deepeval")
    monkeypatch.setenv("DEEPEVAL_RESULTS_FOLDER", str(tmp_path))
    from deepeval import evaluate
    from deepeval.metrics import ExactMatchMetric
    from deepeval.test_case import LLMTestCase

    cases = [LLMTestCase(input=a, actual_output=s, expected_output="7") for a, s in zip(ASKED, SAID, strict=True)]
    evaluate(cases, [ExactMatchMetric()])
    source = next(tmp_path.glob("test_run*"))
    assert [one.text for one in completions(source)] == SAID
    assert [one.score for one in judged(source)] == [1.0, 0.0]
