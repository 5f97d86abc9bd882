"""Scripts of examples/."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import tiny_models
import torch

from perl_eval.models.backbone import open_backbone

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
