"""Files of other tools in their published layouts, in our own words, for tests."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from perl_eval import sources
from perl_eval.records import Judgement
from perl_eval.sources.brought import HowRead
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


def left_out(source: Path, out: Path, how: HowRead | None = None) -> Mapping[str, int]:
    card = run_folder.read_card(sources.take(source, out, how=how))
    assert card is not None
    found: Mapping[str, int] = card.notes["left_out"]
    return found


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
