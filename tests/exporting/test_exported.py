"""The verb export: what it says, what it refuses, and that other tools read what it writes."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import perl_eval as pe
from perl_eval import exporting, sources
from perl_eval.errors import UserError
from perl_eval.exporting import EXPORTS
from perl_eval.records import Completion, HumanLabel, Judgement, Message
from perl_eval.sources.brought import rows_in
from perl_eval.sources.rows import Row
from perl_eval.storage import parquet, run_folder

OURS = pe.completions([{"prompt": f"Say {n}.", "text": "x" * n, "model": "ours"} for n in range(1, 7)])
THEIRS = pe.completions([{"prompt": f"Say {n}.", "text": "yyy", "model": "theirs"} for n in range(1, 7)])
USER, SAID = (Message("user", "Name a prime."),), (Message("assistant", "7"),)
PREFERENCE = Row("r1", "g", "d", USER, chosen=SAID, rejected=(Message("assistant", "8"),))


@pytest.fixture(scope="module")
def judged() -> Any:
    return pe.judge(OURS, THEIRS, by="scripted:length", prompt="dialogue")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_formats_are_listed_and_documented(command: Callable[[str], Any]) -> None:
    shown = command("export --formats")
    assert [line.split()[0] for line in shown.out.splitlines()] == [one.name for one in EXPORTS]
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text("utf-8").partition("## Out again")[2]
    assert [one.name for one in EXPORTS if f"| `{one.name}` |" not in page] == []


def test_what_is_not_kept_is_said(tmp_path: Path, command: Callable[[str], Any]) -> None:
    rows = [
        {"prompt": "q", "text": "x", "model": "ours"},
        {"prompt": "q", "text": "y", "model": "ours"},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "prompt": None},
    ]
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "p"}]
    rows[2] = {"prompt": turns, "text": "z", "model": "ours"}
    source = tmp_path / "answers.json"
    source.write_text(json.dumps(rows), "utf-8")
    out = tmp_path / "outputs.json"
    shown = command(f"export {source} --to alpaca-eval --out {out}")
    assert shown.code is None
    assert shown.out.splitlines()[-1] == str(out)
    assert "answers.json: table, 3 answers of ours" in shown.err
    assert f"2 records in {out}" in shown.err
    assert "not as it was: 1 further draw, left out" in shown.err
    assert "not as it was: 1 prompt of other than one user's turn, written as one text" in shown.err
    assert "not kept, for the format has no place for it: id, item, group" in shown.err
    written = json.loads(out.read_text("utf-8"))
    assert [set(row) for row in written] == [{"dataset", "instruction", "output", "generator"}] * 2
    assert written[1]["instruction"] == "system: Be brief.\n\nuser: p"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("export none.json --to chat", "no such file or folder: none.json"),
        ("export none.json", "no such file or folder: none.json"),
        ("export answers.json", "answers.json is not a session of annotate; say what to write with --to"),
        ("export answers.json --to chats", "--to is 'chats'; did you mean chat? choose from alpaca-eval"),
        ("export answers.json --to chat --out answers.json", "answers.json is what is read"),
        ("export answers.json --to chat --what verdicts", "--what 'verdicts' is not known"),
        ("export two --to alpaca-eval", "AlpacaEval keeps one policy a file, and there are ours, theirs"),
        ("export two --to chat --policy three", "there are no answers of 'three'; choose from ours, theirs"),
        ("export answers.json --to mt-bench-pairs", "is of no known format of judgements"),
        ("export run --to label-studio", "run holds completions, and label-studio is made of labels; choose one of"),
        ("export both --to csv", "both holds completions, judgements; say which with --what"),
        ("export run --to mt-bench --out answers.json", "answers.json is a file, and mt-bench is a folder of files"),
        ("export run --to chat --out both", "both is a folder; name a file, such as both/chat.jsonl"),
    ],
)
def test_mistakes_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[[str], str], judged: Any, typed: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": "q", "text": "x", "model": name} for name in ("one", "two")]
    Path("answers.json").write_text(json.dumps(rows), "utf-8")
    pe.write("run", OURS)
    pe.write("two", [*OURS, *THEIRS])
    pe.write("both", OURS)
    pe.write("both", list(judged))
    assert said in fails(typed)


def test_a_kind_is_chosen_where_a_folder_holds_several(tmp_path: Path, judged: Any) -> None:
    pe.write(tmp_path / "both", OURS)
    pe.write(tmp_path / "both", list(judged))
    for what, kind in (("completions", Completion), ("judgements", Judgement)):
        written = pe.export(tmp_path / "both", to="csv", what=what, out=tmp_path / f"{what}.csv")
        assert len(run_folder.read(sources.take(written.file, tmp_path / what), kind)) == 6


def test_a_file_of_one_tool_becomes_that_of_another(tmp_path: Path) -> None:
    source = tmp_path / "messages.jsonl"
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    source.write_text(json.dumps({"messages": turns}) + "\n", "utf-8")
    written = pe.export(source, to="alpaca-eval", out=tmp_path / "out.json")
    assert json.loads(written.file.read_text("utf-8")) == [
        {"dataset": "messages", "instruction": "q", "output": "a", "generator": "messages"}
    ]
    assert written.told[0].startswith(f"{source}: chat, 1 answer of messages")


def test_requests_ask_each_prompt_once(tmp_path: Path) -> None:
    again = replace(OURS[0], id="again", draw=1)
    found = lines(pe.export([*OURS, again], to="openai-requests", out=tmp_path / "r.jsonl").file)
    assert len({one["custom_id"] for one in found}) == len(found) == 6
    assert found[0]["body"] == {"model": "ours", "messages": [{"role": "user", "content": "Say 1."}]}
    assert (found[0]["method"], found[0]["url"]) == ("POST", "/v1/chat/completions")


def test_judged_pairs_become_preferences(judged: Any) -> None:
    """By hand: the longer answer wins; 1 and 2 letters lose to three, 3 tie, 4 to 6 win."""
    written = pe.export(judged, to="trl")
    found = lines(written.file / "train.jsonl")
    pairs = {(one["chosen"][0]["content"], one["rejected"][0]["content"]) for one in found}
    assert pairs == {("yyy", "x"), ("yyy", "xx"), ("xxxx", "yyy"), ("xxxxx", "yyy"), ("xxxxxx", "yyy")}
    assert "not as it was: 1 judgement that is tie, left out" in written.told


SHAPES = {
    "trl": [
        {
            "prompt": [{"role": "user", "content": "Name a prime."}],
            "chosen": [{"role": "assistant", "content": "7"}],
            "rejected": [{"role": "assistant", "content": "8"}],
        }
    ],
    "trl-text": [{"prompt": "Name a prime.", "chosen": "7", "rejected": "8"}],
    "trl-messages": [
        {"messages": [{"role": "user", "content": "Name a prime."}, {"role": "assistant", "content": "7"}]}
    ],
    "trl-unpaired": [
        {
            "prompt": [{"role": "user", "content": "Name a prime."}],
            "completion": [{"role": "assistant", "content": said}],
            "label": label,
        }
        for said, label in (("7", True), ("8", False))
    ],
    "trl-implicit": [
        {
            side: [{"role": "user", "content": "Name a prime."}, {"role": "assistant", "content": said}]
            for side, said in (("chosen", "7"), ("rejected", "8"))
        }
    ],
    "trl-prompts": [{"prompt": [{"role": "user", "content": "Name a prime."}]}],
}


@pytest.mark.parametrize("to", SHAPES)
def test_trl_and_datasets_read_the_shapes(tmp_path: Path, to: str) -> None:
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")
    exporting.run([PREFERENCE], tmp_path / "rows", to=to)
    assert lines(tmp_path / "rows" / "train.jsonl") == SHAPES[to]
    found = datasets.load_dataset(str(tmp_path / "rows"), cache_dir=str(tmp_path / "cache"), split="train")
    assert [{name: one[name] for name in one} for one in found] == SHAPES[to]
    assert trl.data_utils.is_conversational(found[0]) == (to != "trl-text")
    if to == "trl":
        unpaired = trl.data_utils.unpair_preference_dataset(found)
        assert [dict(one) for one in unpaired] == SHAPES["trl-unpaired"]
    if to == "trl-implicit":
        assert trl.data_utils.extract_prompt(found[0]) == SHAPES["trl"][0]


def test_rows_of_several_splits_are_a_folder_that_datasets_reads(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    built = tmp_path / "data"
    built.mkdir()
    for name in ("train", "test"):
        row = {"prompt": f"{name}?", "completion": "yes"}
        (built / f"{name}.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    pe.export(built, to="trl", out=tmp_path / "out")
    found = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {split: one[0]["prompt"][0]["content"] for split, one in found.items()} == {
        "train": "train?",
        "test": "test?",
    }


def test_fastchat_reads_answers_and_judgements(tmp_path: Path, judged: Any) -> None:
    common = pytest.importorskip("fastchat.llm_judge.common")
    pe.export([*OURS, *THEIRS], to="mt-bench", out=tmp_path)
    questions = common.load_questions(str(tmp_path / "question.jsonl"), None, None)
    answers = common.load_model_answers(str(tmp_path / "model_answer"))
    assert {name: len(found) for name, found in answers.items()} == {"ours": 6, "theirs": 6}
    for one in OURS:
        assert answers["ours"][one.item]["choices"][0]["turns"] == [one.text]
    assert {question["turns"][0] for question in questions} == {one.prompt[0].content for one in OURS}
    pairs = pe.export(judged, to="mt-bench-pairs", out=tmp_path / "pairs.jsonl").file
    (found,) = common.load_pairwise_model_judgments(str(pairs)).values()
    assert sorted(one["winners"][0] for one in found.values()) == ["model_1"] * 3 + ["model_2"] * 2 + ["tie"]


def test_alpaca_eval_comes_to_our_win_rate(tmp_path: Path, judged: Any) -> None:
    pandas = pytest.importorskip("pandas")
    metrics = pytest.importorskip("alpaca_eval.metrics")
    file = pe.export(judged, to="alpaca-eval-annotations", out=tmp_path / "annotations.json").file
    theirs = metrics.get_winrate(pandas.read_json(file))
    ours = pe.score(judged)["win rate, from probabilities"]
    assert theirs["win_rate"] / 100 == pytest.approx(ours.value)
    assert theirs["n_total"] == ours.n


def test_argilla_reads_labels(tmp_path: Path) -> None:
    argilla = pytest.importorskip("argilla")
    people = [HumanLabel("u1", "q1", "g1", name, label) for name, label in (("ann", "win"), ("bob", "tie"))]
    file = pe.export(people, to="argilla", out=tmp_path / "records.json").file
    for record in json.loads(file.read_text("utf-8")):
        made = argilla.Record.from_dict(record)
        assert [one.value for one in made.responses["label"]] == ["win", "tie"]
        assert made.metadata["unit"] == "u1"


def test_label_studio_reads_labels(tmp_path: Path) -> None:
    converter = pytest.importorskip("label_studio_sdk.converter.converter")
    people = [HumanLabel("u1", "q1", "g1", name, label) for name, label in (("ann", "win"), ("bob", "tie"))]
    file = pe.export(people, to="label-studio", out=tmp_path / "tasks.json").file
    config = (
        '<View><Text name="item" value="$item"/><Choices name="label" toName="item"><Choice value="win"/>'
        '<Choice value="tie"/></Choices><TextArea name="annotator" toName="item"/></View>'
    )
    made = converter.Converter(config=config, project_dir=None, download_resources=False)
    made.convert_to_json_min(str(file), str(tmp_path / "min"), is_dir=False)
    again = pe.labels(tmp_path / "min" / "result.json")
    assert [(one.unit, one.label) for one in again] == [("u1", "win"), ("u1", "tie")]


_MANY, _LONG = 3000, 8000
_MOST_BYTES = _MANY * _LONG // 2
"""Less than the texts of all records take, and more than those of one batch."""


def answers_stored(folder: Path) -> Path:
    made = (replace(OURS[0], id=str(n), item=str(n), text=f"{n:0{_LONG}}") for n in range(_MANY))
    parquet.write(folder / "run" / "completions.parquet", made, Completion)
    return folder / "run"


def rows_stored(folder: Path) -> Path:
    source = folder / "train.jsonl"
    rows = ({"prompt": f"Say {n}.", "completion": f"{n:0{_LONG}}"} for n in range(_MANY))
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return rows_in(source, folder / "rows")


@pytest.mark.parametrize(
    "to", ["csv", "json", "jsonl", "chat", "openai-requests", "trl", "alpaca-eval", "mt-bench", "arena-hard"]
)
def test_records_are_written_as_they_are_read(tmp_path: Path, to: str) -> None:
    source = (rows_stored if to == "trl" else answers_stored)(tmp_path)
    tracemalloc.start()
    try:
        tally = exporting.run(source, tmp_path / "out", to=to)
        assert tracemalloc.get_traced_memory()[1] < _MOST_BYTES
    finally:
        tracemalloc.stop()
    assert tally.rows == _MANY


def test_nothing_is_written_where_nothing_is_left(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("kept")
    with pytest.raises(UserError, match="nothing is left to write as chat: 1 answer without a prompt, left out"):
        exporting.run([replace(OURS[0], prompt=())], out, to="chat")
    assert out.read_text() == "kept"


def test_a_list_in_json_is_written_as_json_writes_it(tmp_path: Path) -> None:
    exporting.run(OURS[:3], tmp_path / "out.json", to="json")
    written = (tmp_path / "out.json").read_text("utf-8")
    assert written == json.dumps(json.loads(written), indent=1, ensure_ascii=False) + "\n"
