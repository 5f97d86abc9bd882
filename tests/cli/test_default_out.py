"""Without --out a command writes to runs/VERB-NAME-n, and the same command goes on in the same folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[[str], Any]


@pytest.fixture(autouse=True)
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("ours", "a long answer"), ("theirs", "short")):
        rows = [{"prompt": f"q{n}", "text": text} for n in range(4)]
        Path(f"{name}.json").write_text(json.dumps(rows), "utf-8")


def test_the_same_command_has_the_same_folder_and_another_the_next(command: Command) -> None:
    line = "judge ours.json theirs.json --judge scripted:length --prompt helpful"
    first = command(line)
    assert first.code is None
    assert first.out.splitlines()[-1] == "runs/judge-ours-1"
    judged = Path("runs/judge-ours-1/judgements.parquet").read_bytes()
    assert command(line).out.splitlines()[-1] == "runs/judge-ours-1"
    assert Path("runs/judge-ours-1/judgements.parquet").read_bytes() == judged
    assert command(f"{line} --seed 1").out.splitlines()[-1] == "runs/judge-ours-2"
    assert command("score runs/judge-ours-1").out.splitlines()[-1] == "runs/score-judge-ours-1-1"


def test_a_command_that_fails_leaves_nothing(command: Command) -> None:
    assert command("judge ours.json theirs.json --judge scripted:length --prompt helpful --votes 0").code == 2
    assert not Path("runs").exists()


def test_a_folder_of_somebody_else_is_passed_by(command: Command) -> None:
    Path("runs/judge-ours-1").mkdir(parents=True)
    shown = command("judge ours.json theirs.json --judge scripted:length --prompt helpful")
    assert shown.out.splitlines()[-1] == "runs/judge-ours-2"


def test_help_shows_the_default(command: Command) -> None:
    assert "runs/VERB-NAME-n" in command("judge --help").out
