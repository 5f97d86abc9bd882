"""Rows in TRL's shapes, as files, folders and objects, become what verbs train on; what was derived is said."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import perl_eval as pe
from perl_eval.errors import DataError, OptionError, UserError
from perl_eval.records import Message
from perl_eval.sources import rows
from perl_eval.sources.brought import HowRead, rows_in
from perl_eval.sources.imported_rows import is_built, take_rows
from perl_eval.storage import run_folder


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


ASKED, GOOD, BAD = turn("user", "What colour is the sky?"), turn("assistant", "Blue."), turn("assistant", "Green.")
CALL = {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "look", "arguments": {"x": 1}}}]}
# The examples of TRL's page on dataset formats, in own words: standard, then conversational.
SHAPES: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Sequence[tuple[str, str]] | bool]]] = {
    "language modelling": (
        {"text": "The sky is blue."},
        {"prompt": [], "completion": [("assistant", "The sky is blue.")]},
    ),
    "language modelling, turns": (
        {"messages": [turn("system", "Be short."), ASKED, GOOD, turn("user", "Sure?"), turn("assistant", "Yes.")]},
        {
            "prompt": [("system", "Be short."), ("user", "What colour is the sky?")],
            "completion": [("assistant", "Blue."), ("user", "Sure?"), ("assistant", "Yes.")],
        },
    ),
    "prompt-only": ({"prompt": "The sky is"}, {"prompt": [("user", "The sky is")]}),
    "prompt-only, turns": ({"prompt": [ASKED]}, {"prompt": [("user", "What colour is the sky?")]}),
    "prompt-completion": (
        {"prompt": "The sky is", "completion": " blue."},
        {"prompt": [("user", "The sky is")], "completion": [("assistant", " blue.")]},
    ),
    "prompt-completion, turns": (
        {"prompt": [ASKED], "completion": [GOOD]},
        {"prompt": [("user", "What colour is the sky?")], "completion": [("assistant", "Blue.")]},
    ),
    "tools": (
        {"prompt": [ASKED], "completion": [CALL], "tools": [{"type": "function", "function": {"name": "look"}}]},
        {
            "prompt": [("user", "What colour is the sky?")],
            "completion": [("assistant", '{"arguments": {"x": 1}, "name": "look"}')],
        },
    ),
    "preference": (
        {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
        {
            "prompt": [("user", "The sky is")],
            "chosen": [("assistant", " blue.")],
            "rejected": [("assistant", " green.")],
        },
    ),
    "preference, turns": (
        {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]},
        {
            "prompt": [("user", "What colour is the sky?")],
            "chosen": [("assistant", "Blue.")],
            "rejected": [("assistant", "Green.")],
        },
    ),
    "preference, OpenAI's fine-tuning": (
        {
            "input": {"messages": [ASKED], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [GOOD],
            "non_preferred_output": [BAD],
        },
        {
            "prompt": [("user", "What colour is the sky?")],
            "chosen": [("assistant", "Blue.")],
            "rejected": [("assistant", "Green.")],
        },
    ),
    "preference, implicit": (
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
        {
            "prompt": [("user", "The sky is")],
            "chosen": [("assistant", "blue.")],
            "rejected": [("assistant", "green.")],
        },
    ),
    "preference, implicit, turns": (
        {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {
            "prompt": [("user", "What colour is the sky?")],
            "chosen": [("assistant", "Blue.")],
            "rejected": [("assistant", "Green.")],
        },
    ),
    "preference, transcripts": (
        {
            "chosen": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Sky?\n\nAssistant: Blue.",
            "rejected": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Sky?\n\nAssistant: Go away.",
        },
        {
            "prompt": [("user", "Hi"), ("assistant", "Hello"), ("user", "Sky?")],
            "chosen": [("assistant", "Blue.")],
            "rejected": [("assistant", "Go away.")],
        },
    ),
    "unpaired preference": (
        {"prompt": "The sky is", "completion": " green.", "label": False},
        {"prompt": [("user", "The sky is")], "completion": [("assistant", " green.")], "label": False},
    ),
    "unpaired preference, turns": (
        {"prompt": [ASKED], "completion": [GOOD], "label": True},
        {"prompt": [("user", "What colour is the sky?")], "completion": [("assistant", "Blue.")], "label": True},
    ),
}


def jsonl(path: Path, content: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in content), "utf-8")
    return path


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", ["objects", "dataset", "jsonl", "parquet", "folder"])
def test_every_shape_in_every_form(tmp_path: Path, shape: str, form: str) -> None:
    given, wanted = SHAPES[shape]
    if form == "objects":
        (found,) = pe.rows([given])
    elif form == "dataset":
        (found,) = pe.rows(datasets.Dataset.from_list([dict(given)]))
    else:
        path = jsonl(tmp_path / "data" / "train.jsonl", [given])
        if form == "parquet":
            path = tmp_path / "x.parquet"
            datasets.Dataset.from_list([dict(given)]).to_parquet(path)
        if form == "folder":
            path = path.parent
        (found,) = rows.read(take_rows(path, tmp_path / "out"), "train")
    for name, value in wanted.items():
        got = getattr(found, name)
        assert got == (value if isinstance(value, bool) else tuple(Message(*one) for one in value)), name
    assert found.id
    assert found.group


def preferences(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"q{n // 2}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(count)]


def test_ids_and_splits_do_not_depend_on_the_order(tmp_path: Path) -> None:
    given = preferences(400)
    mixed = random.Random(1).sample(given, len(given))
    parts = []
    for name, content in (("1", given), ("2", mixed)):
        folder = take_rows(
            jsonl(tmp_path / name / "p.jsonl", content), tmp_path / f"out{name}", make=("validation", "test")
        )
        parts.append({split: {row.id: row.group for row in rows.read(folder, split)} for split in rows.splits(folder)})
    assert parts[0] == parts[1]
    groups = [set(part.values()) for part in parts[0].values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 200
    assert 0.05 < len(parts[0]["test"]) / 400 < 0.15


def test_splits_that_are_there_stay_and_only_what_is_missing_is_made(tmp_path: Path) -> None:
    jsonl(tmp_path / "data" / "train.jsonl", preferences(300))
    jsonl(tmp_path / "data" / "test-00000-of-00001.jsonl", [{"prompt": "z", "chosen": "a", "rejected": "b"}])
    said: list[str] = []
    folder = rows_in(tmp_path / "data", tmp_path / "out", make=("validation", "test"), say=said.append)
    assert len(rows.read(folder, "test")) == 1
    assert rows.splits(folder) == ["test", "train", "validation"]
    assert "by group: validation" in said[0]
    assert "derived: group, id" in said[0]
    assert rows_in(tmp_path / "data", tmp_path / "out", make=("validation", "test")) == folder


def test_prompts_that_rows_for_training_and_held_out_ones_share_are_said(tmp_path: Path) -> None:
    def row(prompt: str, better: str) -> dict[str, str]:
        return {"prompt": prompt, "chosen": better, "rejected": "no"}

    jsonl(tmp_path / "data" / "test.jsonl", [row("p1", "x"), row("p1", "y"), row("other", "x")])
    jsonl(tmp_path / "data" / "train.jsonl", [row(f"p{place}", "z") for place in range(5)])
    jsonl(tmp_path / "data" / "validation.jsonl", [row("another", "x")])
    said: list[str] = []
    rows_in(tmp_path / "data", tmp_path / "out", say=said.append)
    assert "2 of 3 rows of test have a prompt that train has too: no test of other prompts" in said[0]
    assert "of validation" not in said[0]
    for split in ("train", "test"):  # without prompts nothing is shared
        jsonl(tmp_path / "texts" / f"{split}.jsonl", [{"text": f"{split} goes on"}])
    rows_in(tmp_path / "texts", tmp_path / "texts-out", say=said.append)
    assert "have a prompt" not in said[1]


@pytest.mark.parametrize("conversational", [True, False])
def test_a_prompt_that_answers_repeat_is_taken_off_and_said(tmp_path: Path, conversational: bool) -> None:
    given: list[dict[str, Any]]
    if conversational:
        given = [{"prompt": [ASKED], "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}]
    else:
        given = [{"prompt": "Sky?", "chosen": "Sky? Blue.", "rejected": "Sky? Green."}]
    said: list[str] = []
    folder = rows_in(jsonl(tmp_path / "p.jsonl", given), tmp_path / "out", say=said.append)
    (row,) = rows.read(folder, "train")
    assert row.chosen == (Message("assistant", "Blue."),)
    assert row.rejected == (Message("assistant", "Green."),)
    assert "answers without the prompt that they repeated" in said[0]


def test_a_built_folder_that_repeats_prompts_is_read_anew(tmp_path: Path) -> None:
    built = take_rows(
        jsonl(tmp_path / "p.jsonl", [{"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]}]), tmp_path / "b"
    )
    assert rows_in(built, tmp_path / "out") == built
    doubled = datasets.Dataset.from_list(
        [{"id": "1", "group": "g", "prompt": [ASKED], "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}]
    )
    (tmp_path / "d").mkdir()
    doubled.to_parquet(tmp_path / "d" / "train.parquet")
    said: list[str] = []
    (row,) = rows.read(rows_in(tmp_path / "d", tmp_path / "out2", say=said.append), "train")
    assert row.chosen == (Message("assistant", "Blue."),)
    assert (row.id, row.group) == ("1", "g")
    assert "repeated" in said[0]


def test_an_answer_that_happens_to_begin_like_its_prompt_stays(tmp_path: Path) -> None:
    given = [{"prompt": "Say A", "completion": "Say A again"}, {"prompt": "Say B", "completion": "B"}]
    found = pe.rows(given)
    assert [row.completion for row in found] == [
        (Message("assistant", "Say A again"),),
        (Message("assistant", "B"),),
    ]


def test_preferences_without_a_common_prompt_are_left_out_and_counted(tmp_path: Path) -> None:
    given = [
        {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {"chosen": [ASKED, GOOD], "rejected": [turn("user", "Other?"), BAD]},
    ]
    said: list[str] = []
    folder = rows_in(jsonl(tmp_path / "p.jsonl", given), tmp_path / "out", say=said.append)
    assert len(rows.read(folder, "train")) == 1
    assert "left out: 1 row whose sides part" in said[0]
    card = run_folder.read_card(folder)
    assert card is not None
    assert sum(card.notes["left_out"].values()) == 1
    with pytest.raises(UserError, match=r"there are no rows \(left out: 1"):
        take_rows(jsonl(tmp_path / "q.jsonl", given[1:]), tmp_path / "out2")


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"question": "q"}, r"row 1, field 'prompt'.*has neither prompt, messages.*present are question"),
        ({"prompt": 3}, r"row 1, field 'prompt'.*is neither text nor a list of turns"),
        ({"prompt": "q", "completion": [{"content": "x"}]}, r"row 1, field 'completion'.*neither text nor"),
        ({"prompt": "q", "completion": "a", "label": "maybe"}, r"row 1, field 'label'.*'maybe' is not a label"),
        ({"messages": [ASKED]}, r"row 1, field 'messages'.*has no assistant's turn"),
        ({"messages": "text"}, r"row 1, field 'messages'.*has no assistant's turn"),
        ({"prompt": "q", "chosen": "a", "rejected": ["b"]}, r"row 1, field 'rejected'"),
        ({"prompt": "q", "completions": ["a"], "labels": [True]}, r"row 1, field 'completions'.*stepwise"),
    ],
)
def test_what_is_no_row_is_said_with_file_row_and_field(tmp_path: Path, row: Mapping[str, Any], line: str) -> None:
    path = jsonl(tmp_path / "p.jsonl", [{"prompt": "ok"}, row])
    with pytest.raises(DataError, match=line) as caught:
        take_rows(path, tmp_path / "out")
    assert str(path) in str(caught.value)


def test_columns_of_any_name(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "p.jsonl", [{"question": "q", "good": "a", "bad": "b"}])
    how = HowRead(columns={"prompt": "question", "chosen": "good", "rejected": "bad"})
    (row,) = rows.read(rows_in(path, tmp_path / "out", how=how), "train")
    assert row.chosen == (Message("assistant", "a"),)
    with pytest.raises(OptionError, match="no row has"):
        rows_in(path, tmp_path / "out2", how=HowRead(columns={"better": "good"}))


def test_rows_for_one_split_when_they_come_without_any(tmp_path: Path) -> None:
    folder = rows_in(jsonl(tmp_path / "prompts.jsonl", preferences(5)), tmp_path / "out", whole="test")
    assert rows.splits(folder) == ["test"]


def in_any_order(tmp_path: Path, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the written rows by id, after a check that the reverse order gives the same ones and columns."""
    found = []
    for name, content in (("1", given), ("2", given[::-1])):
        folder = take_rows(jsonl(tmp_path / name / "p.jsonl", content), tmp_path / f"out{name}")
        table = pq.read_table(folder / "train.parquet")
        found.append((table.schema, sorted(table.to_pylist(), key=lambda row: str(row["prompt"]))))
    assert found[0] == found[1]
    return found[0][1]


@pytest.mark.parametrize("count", [3, 5000])
def test_columns_that_first_rows_lack_are_kept(tmp_path: Path, count: int) -> None:
    plain = [{"prompt": f"p{place:05}", "completion": None, "x": 1, "y": {"a": []}, "e": {}} for place in range(count)]
    last = {"prompt": "z", "completion": "c", "label": True, "x": 1.5, "topic": "late", "y": {"a": ["s"], "b": 2}}
    written = in_any_order(tmp_path, [*plain, last])
    assert len(written) == count + 1
    end = written[-1]
    assert (end["label"], end["x"], end["topic"], end["y"]) == (True, 1.5, "late", {"a": ["s"], "b": 2})
    assert end["completion"] == [turn("assistant", "c")]
    assert (written[0]["completion"], written[0]["x"], written[0]["y"]) == (None, 1.0, {"a": [], "b": None})


@pytest.mark.parametrize(
    ("last", "line"),
    [
        (
            {"prompt": "z", "chosen": "a", "rejected": "b"},
            "has chosen and rejected, and rows before it have completion",
        ),
        ({"prompt": "z", "chosen": "a"}, "field 'rejected': is missing, and chosen is there"),
        ({"prompt": "z", "completion": "c", "x": "s"}, "field 'x': differs in type from cells"),
        ({"prompt": "z", "completion": "c", "x": 2**70}, "field 'x': holds a whole number of more than 64 bits"),
        ({"prompt": "z", "completion": "c", "y": "\ud800"}, "field 'y': holds half a character"),
        ({"prompt": "z", "completion": "c\ud800"}, "field 'completion': holds half a character"),
        ({"prompt": "z", "completion": "c", "\ud800": 1}, "with half a character"),
    ],
)
@pytest.mark.parametrize("count", [3, 4096])
def test_a_row_that_does_not_go_with_the_others_is_named(
    tmp_path: Path, last: Mapping[str, Any], line: str, count: int
) -> None:
    path = jsonl(tmp_path / "p.jsonl", [*({"prompt": f"p{n}", "completion": "c", "x": 1} for n in range(count)), last])
    with pytest.raises(DataError, match=rf"p\.jsonl, row {count}\b.*{line}"):
        take_rows(path, tmp_path / "out")


def test_half_a_pair_in_memory_is_refused() -> None:
    with pytest.raises(DataError, match="'rejected': is missing"):
        pe.rows([{"prompt": "a", "chosen": "b"}])


def test_a_column_that_is_named_goes_first_and_must_be_there() -> None:
    both = [{"question": "Q", "prompt": "P", "completion": "c"}, {"prompt": "P", "question": "Q", "completion": "c"}]
    assert [row.prompt for row in pe.rows(both, columns={"prompt": "question"})] == [(Message("user", "Q"),)] * 2
    (swapped,) = pe.rows(both[:1], columns={"prompt": "completion", "completion": "prompt"})
    assert (swapped.prompt, swapped.completion) == ((Message("user", "c"),), (Message("assistant", "P"),))
    with pytest.raises(
        OptionError, match="'completion=nope': no such column; present are question, prompt, completion"
    ):
        pe.rows(both, columns={"completion": "nope"})
    with pytest.raises(OptionError, match="'question' for both"):
        pe.rows(both, columns={"prompt": "question", "completion": "question"})


@pytest.mark.parametrize(("repeating", "taken"), [(18, True), (17, False)])
def test_whether_answers_repeat_their_prompts_is_decided_over_all_rows(
    tmp_path: Path, repeating: int, taken: bool
) -> None:
    given = [{"prompt": f"p{n:02}", "completion": f"p{n:02} more" if n < repeating else "none"} for n in range(20)]
    written = in_any_order(tmp_path, given)
    assert written[0]["completion"] == [turn("assistant", "more" if taken else "p00 more")]
    built = tmp_path / "built"
    built.mkdir()
    for order in (1, -1):
        cells = [{"id": str(n), "group": "g", **row} for n, row in enumerate(given)][::order]
        pq.write_table(pa.Table.from_pylist(cells), built / "train.parquet")
        assert is_built(built) is not taken


def test_files_whose_names_are_no_splits_are_left_out_or_all_are_for_training(tmp_path: Path) -> None:
    said: list[str] = []
    for name in ("TRAIN", "train_sft", "dev", "holdout", "testing", "test.final"):
        jsonl(tmp_path / "some" / f"{name}.jsonl", [{"prompt": name}])
    (tmp_path / "some" / "README.json").write_text('{"prompt": "read me"}')
    folder = rows_in(tmp_path / "some", tmp_path / "out", say=said.append)
    prompts = {name: [row.prompt[0].content for row in rows.read(folder, name)] for name in rows.splits(folder)}
    assert prompts == {"train": ["TRAIN", "train_sft"], "validation": ["dev"], "test": ["test.final"]}
    assert "left out: 3 files whose names begin with no split" in said[0]
    assert "README.json, holdout.jsonl, testing.jsonl" in said[0]
    for name in ("holdout", "more"):
        jsonl(tmp_path / "none" / f"{name}.jsonl", [{"prompt": name}, {"prompt": f"{name} 2"}])
    folder = rows_in(tmp_path / "none", tmp_path / "out2", say=said.append)
    assert (rows.splits(folder), len(rows.read(folder, "train"))) == (["train"], 4)
    assert "split train, for no file's name begins with a split's" in said[1]


def test_rows_of_several_files_are_named_by_their_own(tmp_path: Path) -> None:
    jsonl(tmp_path / "in" / "train-0.jsonl", [{"prompt": "a"}])
    jsonl(tmp_path / "in" / "train-1.jsonl", [{"prompt": "b"}, {"question": "c"}])
    with pytest.raises(DataError, match=r"train-1\.jsonl, row 1"):
        take_rows(tmp_path / "in", tmp_path / "out")


def test_an_answer_in_csv_that_is_json_stays_text(tmp_path: Path) -> None:
    turns = json.dumps([ASKED])
    table = tmp_path / "p.csv"
    pd.DataFrame([{"question": turns, "completion": '[{"a": 1}]'}, {"question": "[{}", "completion": "[{"}]).to_csv(
        table
    )
    first, second = pe.rows(table, columns={"prompt": "question"})
    assert first.prompt == (Message("user", ASKED["content"]),)
    assert first.completion == (Message("assistant", '[{"a": 1}]'),)
    assert second.prompt == (Message("user", "[{}"),)


def test_what_imitates_preferences_sees_none_of_the_rows_that_a_reward_model_is_tested_on(tmp_path: Path) -> None:
    """The same splits by SFT and reward model; answers that nobody judged are all for training."""
    if_judged = ("validation if judged", "test if judged")
    file = jsonl(tmp_path / "p.jsonl", preferences(300))
    imitated = rows_in(file, tmp_path / "sft", make=if_judged)
    rewarded = rows_in(file, tmp_path / "reward", make=("validation", "test"))
    for split in ("train", "validation", "test"):
        assert {row.id for row in rows.read(imitated, split)} == {row.id for row in rows.read(rewarded, split)}
    said = [{"prompt": f"p{place}", "completion": "x"} for place in range(300)]
    plain = rows_in(jsonl(tmp_path / "d.jsonl", said), tmp_path / "plain", make=if_judged)
    assert rows.splits(plain) == ["train"]
    liked = [{**row, "label": True} for row in said]
    assert "test" in rows.splits(rows_in(jsonl(tmp_path / "r.jsonl", liked), tmp_path / "r", make=if_judged))
