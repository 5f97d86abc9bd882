"""The example that makes ratings without a rater: a person's turn is up, a model's own in its place down."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import tiny_models

from perl_eval import rows, tables
from perl_eval.records import Completion, Message

SCRIPT = Path(__file__).resolve().parent.parent / "examples" / "human_or_model.py"
SAID = [("user", "a latte"), ("assistant", "hot or iced?"), ("user", "hot"), ("assistant", "done")]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("human_or_model", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answered(row: rows.Row, text: str) -> Completion:
    return Completion(row.id, row.id, row.group, row.dataset, "sft", row.prompt, text, "stop", 0)


def test_turns_stand_after_their_context_and_only_what_differs_is_down(script: ModuleType, tmp_path: Path) -> None:
    said = [{"role": role, "content": content} for role, content in SAID]
    dialog = {"id": "d", "group": "g", "dataset": "coffee", "prompt": said[:1], "completion": said[1:]}
    script.turns(tiny_models.write_rows(tmp_path / "dialogs", train=[dialog]), tmp_path / "turns")
    found = {row.id: row for row in rows.read(tmp_path / "turns", "train")}
    assert {name: (len(row.prompt), row.completion) for name, row in found.items()} == {
        "d:1": (1, (Message("assistant", "hot or iced?"),)),
        "d:3": (3, (Message("assistant", "done"),)),
    }
    samples = tmp_path / "samples"
    samples.mkdir()
    tables.write(
        samples / "completions.parquet", [answered(found["d:1"], " size?"), answered(found["d:3"], "done ")], Completion
    )
    script.rate(tmp_path / "turns", samples, tmp_path / "rated")
    rated = [row for split in rows.splits(tmp_path / "rated") for row in rows.read(tmp_path / "rated", split)]
    # the second sample says what the person said, so neither of the two is rated
    assert [(row.id, row.completion[0].content if row.completion else "", row.label) for row in rated] == [
        ("d:1:True", "hot or iced?", True),
        ("d:1:False", "size?", False),
    ]
