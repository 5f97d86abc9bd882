"""Prompts and answers of files that somebody holds, under the names that files give them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_models

from perl_eval.errors import DataError, OptionError, UserError
from perl_eval.records import Completion
from perl_eval.sources.completions import completions
from perl_eval.sources.held_texts import HeldTexts, held_texts
from perl_eval.storage import parquet


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": "assistant" if at % 2 else "user", "content": text} for at, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("record", "held"),
    [
        ({"id": 7, "instruction": "q", "output": "a"}, HeldTexts("7", ("q",), ("a",))),
        ({"question": "q", "response_A": "a", "response_B": "b"}, HeldTexts("row 0", ("q",), ("a", "b"))),
        ({"prompt": "q", "chosen": ["a", "b"], "rejected": ["c"]}, HeldTexts("row 0", ("q",), ("a", "b", "c"))),
        ({"prompt": turns("p", "q", "r"), "completion": "a"}, HeldTexts("row 0", ("p", "q", "r"), ("a",))),
        ({"messages": turns("p", "a")}, HeldTexts("row 0", ("p",), ("a",))),
        ({"messages": turns("p", "a", "q")}, HeldTexts("row 0", ("p", "a", "q"), ())),
        (
            {"chosen": turns("p", "a"), "rejected": turns("p", "b"), "item": "i"},  # the prompt is in front of both
            HeldTexts("i", ("p",), ("a", "b")),
        ),
        ({"text": "alone"}, HeldTexts("row 0", (), ("alone",))),
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_a_record_under_the_names_it_may_have(tmp_path: Path, record: Any, held: HeldTexts, suffix: str) -> None:
    path = tmp_path / f"eval.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist([record]), path)
    else:
        path.write_text(json.dumps([record] if suffix == "json" else record))
    assert held_texts(path) == [held]


def test_csv_and_run_folders_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "eval.csv").write_text("prompt,text\nq,a\n")
    assert held_texts(tmp_path / "eval.csv") == [HeldTexts("row 0", ("q",), ("a",))]
    made = completions([{"prompt": "q", "text": "a", "model": "m"}])
    parquet.write(tmp_path / "run" / "completions.parquet", made, Completion)
    assert held_texts(tmp_path / "run") == [HeldTexts(made[0].id, ("q",), ("a",))]
    data = tiny_models.write_rows(tmp_path / "rows", test=tiny_models.preferences(0, 1))
    ((id_, (asked,), answers),) = held_texts(data / "test.parquet")
    assert (id_, asked[:5], len(answers)) == ("p0-0", "paint", 2)


def test_what_holds_no_texts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"score": 1}\n')
    with pytest.raises(DataError, match="row 0: has neither prompt nor answer; present are score"):
        held_texts(tmp_path / "x.jsonl")
    (tmp_path / "y.jsonl").write_text('{"prompt": 3}\n')
    with pytest.raises(DataError, match="field 'prompt': is neither text nor a list of turns"):
        held_texts(tmp_path / "y.jsonl")
    (tmp_path / "x.dat").write_text("x")
    with pytest.raises(UserError, match=r"is neither JSON, JSON lines"):
        held_texts(tmp_path / "x.dat")


def test_answers_of_other_tools_are_held_texts_too(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Name a prime."}]
    said = {"message": {"role": "assistant", "content": "7"}, "finish_reason": "stop"}
    requests = {"custom_id": "r", "body": {"messages": turns}}
    output = {"custom_id": "r", "response": {"status_code": 200, "body": {"model": "m", "choices": [said]}}}
    run = {"testCases": [{"name": "c", "input": "Name a prime.", "actualOutput": "7"}]}
    (tmp_path / "requests.jsonl").write_text(json.dumps(requests) + "\n", "utf-8")
    (tmp_path / "output.jsonl").write_text(json.dumps(output) + "\n", "utf-8")
    (tmp_path / "run.json").write_text(json.dumps(run), "utf-8")
    spoken = [{"from": "human", "value": "Name a prime."}, {"from": "gpt", "value": "7"}]
    (tmp_path / "sharegpt.json").write_text(json.dumps([{"conversations": spoken}]), "utf-8")
    for name in ("output.jsonl", "run.json", "sharegpt.json"):
        (found,) = held_texts(tmp_path / name)
        assert (found.prompt, found.answers) == (("Name a prime.",), ("7",)), name


def test_a_file_without_records_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("prompt,text\n", "utf-8")
    with pytest.raises(DataError, match="holds no records"):
        held_texts(tmp_path / "x.csv")


@pytest.mark.parametrize(("name", "content"), [("q.txt", "one?\n\ntwo?\n"), ("q.json", '[\n "one?", "two?"]')])
def test_a_list_of_nothing_but_texts_holds_prompts(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    places = ("line 1", "line 3") if name.endswith(".txt") else ("row 0", "row 1")  # a line as an editor numbers it
    held = [HeldTexts(place, (text,), ()) for place, text in zip(places, ("one?", "two?"), strict=True)]
    assert held_texts(tmp_path / name) == held


@pytest.mark.parametrize("content", ['["one?", 2]', '["one?"', ""])
def test_what_is_no_list_of_texts_is_refused_as_before(content: str, tmp_path: Path) -> None:
    (tmp_path / "q.json").write_text(content, "utf-8")
    with pytest.raises((DataError, UserError), match=r"q\.json"):
        held_texts(tmp_path / "q.json")


def test_records_in_a_text_file_are_records(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text('{"prompt": "one?", "id": 1}\n', "utf-8")
    assert held_texts(tmp_path / "q.txt") == [HeldTexts("1", ("one?",), ())]


OF_OURS = "case_id,user_query,expected\nc7,How long does bread keep?,three days\n"


def test_columns_of_ones_own_are_named_and_the_message_says_what_to_type(tmp_path: Path) -> None:
    path = tmp_path / "ours.csv"
    path.write_text(OF_OURS, "utf-8")
    with pytest.raises(DataError, match="type --column prompt=user_query, or give a text file with one question a l"):
        held_texts(path)
    asked = ("How long does bread keep?",)
    assert held_texts(path, {"prompt": "user_query"}) == [HeldTexts("c7", asked, ())]
    named = {"prompt": "user_query", "text": "expected", "item": "expected"}
    assert held_texts(path, named) == [HeldTexts("three days", asked, ("three days",))]


def test_a_column_that_is_not_there_or_is_none_of_a_texts_is_refused(tmp_path: Path) -> None:
    path, plain = tmp_path / "ours.csv", tmp_path / "q.txt"
    path.write_text(OF_OURS, "utf-8")
    plain.write_text("one?\n", "utf-8")
    with pytest.raises(DataError, match=r"'query': no such column; present are case_id.*type --column prompt=NAME"):
        held_texts(path, {"prompt": "query"})
    with pytest.raises(OptionError, match="'label', which no text has; choose from prompt, text, item"):
        held_texts(path, {"label": "expected"})
    with pytest.raises(UserError, match="is a list of texts, without columns; leave --column out"):
        held_texts(plain, {"prompt": "query"})


def test_a_record_of_another_tool_without_an_id_is_called_by_its_place(tmp_path: Path) -> None:
    spoken = [{"from": "human", "value": "Name a prime."}, {"from": "gpt", "value": "7"}]
    (tmp_path / "sharegpt.json").write_text(json.dumps([{"conversations": spoken}]), "utf-8")
    assert [one.id for one in held_texts(tmp_path / "sharegpt.json")] == ["row 0"]
