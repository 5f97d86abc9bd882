"""Files that the tools themselves wrote, where they are installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tool_files import ASKED, SAID, judged

from perl_eval.sources.completions import completions
from perl_eval.sources.containers import opened
from perl_eval.sources.formats import inspect_logs as inspect_formats


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
