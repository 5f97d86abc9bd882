"""Files of other tools that are broken are refused with file, row and field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tool_files import (
    ABOUT,
    Row,
    anthropic_requests,
    anthropic_row,
    arena_row,
    batch_row,
    blocks,
    chat_body,
    deepeval_case,
    document,
    gemini_requests,
    gemini_response,
    gemini_rows,
    inspect_sample,
    inspect_zstandard,
    lines,
    lm_eval_row,
    promptfoo_row,
    requests,
    single_row,
)

from perl_eval import sources
from perl_eval.errors import DataError
from perl_eval.sources.brought import HowRead
from perl_eval.sources.completions import completions


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
