"""Files of two strangers, judged in one command; what cannot be judged is said before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perl_eval.records import Judgement
from perl_eval.storage import run_folder

ASKED = [f"Name {n} colours." for n in range(1, 9)]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outputs = [{"instruction": asked, "output": "red, green, blue", "generator": "one"} for asked in ASKED]
    Path("one.json").write_text(json.dumps(outputs), "utf-8")
    turns = [[{"role": "user", "content": asked}, {"role": "assistant", "content": "No."}] for asked in ASKED]
    Path("two.jsonl").write_text("".join(json.dumps({"messages": one}) + "\n" for one in turns), "utf-8")


def test_from_two_files_to_a_win_rate(command: Callable[[str], Any]) -> None:
    shown = command("judge one.json two.jsonl --judge scripted:length --prompt helpful --out judged")
    assert shown.code is None
    assert "one.json: table, 8 answers of one; derived: dataset, group, id, item" in shown.err
    judged = run_folder.read(Path("judged"), Judgement)
    assert {(one.policy_a, one.policy_b, one.outcome) for one in judged} == {("one", "two", "win")}


def test_a_prompt_of_another_kind_is_said_before_weights_are_loaded(fails: Callable[[str], str]) -> None:
    said = fails("judge one.json two.jsonl --judge local:no-such-model --prompt harmful --out judged")
    assert "prompt 'harmful' asks a yes_no question" in said
    assert not Path("judged").exists()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--column prompt", "--column is 'prompt'; give NAME=COLUMN"),
        ("--column asked=instruction", "--column is 'asked', which no completion has; choose from prompt"),
        ("--format alpaca", "--format is 'alpaca'"),
        ("--column text=reply", "one.json, row 0, field 'reply': no such column; present are instruction"),
    ],
)
def test_mistakes_about_files_are_told_as_typed(fails: Callable[[str], str], typed: str, said: str) -> None:
    assert said in fails(f"judge one.json two.jsonl --judge scripted:length --prompt helpful --out judged {typed}")
