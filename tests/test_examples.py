"""Scripts of examples/: ratings without a rater, and the first layers of a model."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import tiny_models
import torch

from perl_eval import rows, tables
from perl_eval.models.backbone import open_backbone
from perl_eval.records import Completion, Message

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answered(row: rows.Row, text: str) -> Completion:
    return Completion(row.id, row.id, row.group, row.dataset, "sft", row.prompt, text, "stop", 0)


def test_a_persons_turn_is_up_and_what_else_could_stand_there_down(tmp_path: Path) -> None:
    human_or_model = script("human_or_model")
    call = '{"arguments": {"query": "%s"}, "name": "get_menu_items"}'
    said = {
        "d": [("user", "a latte"), ("assistant", "hot or iced?"), ("user", "hot"), ("assistant", call % "latte")],
        "e": [("user", "tea"), ("assistant", call % "tea"), ("tool", "{}"), ("assistant", "anything else?")],
    }
    turns = {name: [{"role": role, "content": content} for role, content in said[name]] for name in said}
    dialogs = [
        {"id": name, "group": name, "dataset": "coffee", "prompt": turns[name][:1], "completion": turns[name][1:]}
        for name in turns
    ]
    human_or_model.turns(tiny_models.write_rows(tmp_path / "dialogs", train=dialogs), tmp_path / "turns")
    found = {row.id: row for row in rows.read(tmp_path / "turns", "train")}
    assert {name: (len(row.prompt), *(row.completion or ())) for name, row in found.items()} == {
        "d:1": (1, Message("assistant", "hot or iced?")),
        "d:3": (3, Message("assistant", call % "latte")),
        "e:1": (1, Message("assistant", call % "tea")),
        "e:3": (3, Message("assistant", "anything else?")),
    }
    samples = tmp_path / "samples"
    samples.mkdir()
    model = {"d:1": " size?", "d:3": f"{call % 'latte'} ", "e:1": call % "mocha"}
    tables.write(
        samples / "completions.parquet", [answered(found[name], text) for name, text in model.items()], Completion
    )
    human_or_model.rate(tmp_path / "turns", samples, tmp_path / "rated")
    rated = [row for split in rows.splits(tmp_path / "rated") for row in rows.read(tmp_path / "rated", split)]
    # in d:3 the model says what the person said, and in e:3 it said nothing, so neither is rated
    assert {row.id: (row.completion[0].content if row.completion else "", row.label) for row in rated} == {
        "d:1:person": ("hot or iced?", True),
        "d:1:model": ("size?", False),
        "d:1:elsewhere": ("anything else?", False),
        "e:1:person": (call % "tea", True),
        "e:1:model": (call % "mocha", False),
        "e:1:elsewhere": (call % "latte", False),
    }


def test_a_cut_model_has_the_states_that_the_whole_one_has_there(tmp_path: Path) -> None:
    blank = tiny_models.save_blank(tmp_path / "blank")
    script("first_layers").cut(str(blank), 1, tmp_path / "cut")
    whole = open_backbone(blank)
    cut = open_backbone(tmp_path / "cut")
    assert len(whole.causal.model.layers) > len(cut.causal.model.layers) == 1
    ids = torch.tensor([[3, 20, 21, 1]])
    with torch.no_grad():
        inside = whole.causal.model(ids, output_hidden_states=True).hidden_states[1]
        found = cut.causal.model(ids).last_hidden_state
        assert torch.allclose(found, whole.causal.model.norm(inside), atol=0.02)  # bfloat16 has 8 bits
    with pytest.raises(SystemExit, match="has 2 layers, not 3"):
        script("first_layers").cut(str(blank), 3, tmp_path / "none")
