"""Files of other tools in their published layouts, in our own words, and what is made of them."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tool_files import (
    ABOUT,
    ASKED,
    SAID,
    anthropic_batch,
    anthropic_document,
    arena_row,
    deepeval,
    document,
    gemini_batch,
    inspect_json,
    inspect_sample,
    inspect_zip,
    inspect_zstandard,
    left_out,
    lines,
    llama_factory,
    lm_eval,
    lm_eval_row,
    openai_batch,
    parts_body,
    promptfoo,
    promptfoo_lines,
    response_body,
    saved,
    swift,
    vertex_batch,
)
from typer.testing import CliRunner

from perl_eval import sources
from perl_eval.cli import whole_program
from perl_eval.errors import DataError
from perl_eval.records import Completion, Message
from perl_eval.sources.brought import HowRead, completions_in
from perl_eval.sources.completions import completions
from perl_eval.sources.recognition import FORMATS
from perl_eval.storage import run_folder

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
    assert "items are matched by the exact text of their prompts" in told[0]
    both: list[str] = []
    completions_in([named, named], tmp_path / "same", say=both.append)
    assert not any("by their prompts" in line for line in both)
    assert {one.item for one in run_folder.read(tmp_path / "same" / "inputs" / "a", Completion)} == {"u0", "u1"}


# The verb


def test_the_verb_tells_kinds_apart_and_lists_formats(tmp_path: Path) -> None:
    runner = CliRunner()
    listed = runner.invoke(whole_program(), ["import", "--formats"])
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
        done = runner.invoke(whole_program(), ["import", str(source), "--out", str(out)])
        assert done.exit_code == 0, done.output
        assert (out / name).is_file()
    old = runner.invoke(
        whole_program(), ["import", str(files["labels.parquet"]), "--form", "table", "--out", str(tmp_path / "old")]
    )
    assert old.exit_code == 0
    graded = [inspect_sample(0, scores={"graded": {"value": "C"}})]
    log = document(tmp_path / "graded.json", {"eval": ABOUT, "plan": {}, "samples": graded})
    scores = ["import", str(log), "--format", "inspect-scores", "--out", str(tmp_path / "scores")]
    assert runner.invoke(whole_program(), scores).exit_code == 0


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


def test_a_sample_that_was_run_again_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings(action="ignore"):
        archive.writestr("header.json", json.dumps({"version": 2, "eval": ABOUT, "plan": {}}))
        for said in ("first", "again"):
            sample = {**inspect_sample(0), "output": {"choices": [{"stop_reason": "stop"}], "completion": said}}
            archive.writestr("samples/s0_epoch_1.json", json.dumps(sample))
    assert [one.text for one in completions(path)] == ["again"]
