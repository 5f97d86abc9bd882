"""Norms that are learned with an adapter: which they are, how they are held, and whose they stay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import SIZE, logits, save_blank_vision, stir
from torch import nn

from perl_eval.errors import UserError
from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.models.device import Placement
from perl_eval.models.tokenize import PaddedBatch
from perl_eval.models.trainable_norms import norms_of

PLAIN = LoraShape(2)
NORMED = replace(PLAIN, norms=True)
NAMES = [
    *(f"model.layers.{layer}.{norm}_layernorm" for layer in range(SIZE.layers) for norm in ("input", "post_attention")),
    "model.norm",
]
BF16 = Placement(device="cpu", dtype="bf16")


def test_norms_by_name_whatever_wraps_them(backbone: Backbone) -> None:
    assert norms_of(backbone.causal) == NAMES
    backbone.attach("policy", NORMED, seed=0)
    backbone.attach("value", NORMED, seed=1)
    assert norms_of(backbone.causal) == NAMES
    for name in ("policy", "value"):
        assert sorted(backbone._peft.peft_config[name].modules_to_save) == sorted(NAMES)


def test_norms_add_their_own_weights_and_no_others(backbone: Backbone) -> None:
    backbone.attach("reward", PLAIN, seed=0)
    backbone.attach("policy", NORMED, seed=0)
    sizes = {name: sum(p.numel() for p in backbone.parameters_of(name).values()) for name in ("reward", "policy", None)}
    assert sizes["policy"] == sizes["reward"] + len(NAMES) * SIZE.width
    alone = sum(parameter.numel() for parameter in open_backbone(backbone.path).causal.parameters())
    assert sizes[None] == alone
    assert backbone.counts("policy")["parameters"] == alone + sizes["policy"] + sizes["reward"]


def test_norms_are_those_of_the_adapter_that_is_on(blank: Path, batch: PaddedBatch) -> None:
    """One adapter with norms, one with others, one without, and none: each computes as it would alone."""
    shapes = {"policy": NORMED, "value": NORMED, "reward": PLAIN}
    backbone = open_backbone(blank)
    for seed, (name, shape) in enumerate(shapes.items()):
        backbone.attach(name, shape, seed=seed)
        stir(backbone, name, seed=seed)
    assert backbone.weights_sha256() == backbone.sha256
    together = {name: logits(backbone, batch, name) for name in ("policy", None, "reward", "value")}
    for seed, (name, shape) in enumerate(shapes.items()):
        alone = open_backbone(blank)
        alone.attach(name, shape, seed=seed)
        stir(alone, name, seed=seed)
        assert torch.equal(logits(alone, batch, name), together[name])
    assert torch.equal(logits(open_backbone(blank), batch, None), together[None])
    assert torch.equal(logits(backbone, batch, "policy"), together["policy"])
    with torch.no_grad():
        backbone.causal.model.norm.original_module.weight[0] += 1e-6
    assert backbone.weights_sha256() != backbone.sha256


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft's own
def test_an_adapter_is_merged_with_its_own_norms(blank: Path, batch: PaddedBatch) -> None:
    backbone = open_backbone(blank)
    backbone.attach("policy", NORMED, seed=0)
    backbone.attach("value", NORMED, seed=1)
    stir(backbone, "policy", "value")
    expected = logits(backbone, batch, "policy")
    logits(backbone, batch, "value")  # the last that was on
    plain = backbone.merge("policy")
    given = {"input_ids": batch.ids, "attention_mask": batch.live.long(), "position_ids": batch.positions}
    with torch.no_grad():
        assert torch.allclose(plain(**given).logits, expected, atol=1e-4)
    assert plain.state_dict().keys() == open_backbone(blank).causal.state_dict().keys()


def test_norms_are_held_and_kept_in_float32_on_a_backbone_that_is_not(
    blank: Path, tmp_path: Path, batch: PaddedBatch
) -> None:
    """Bfloat16's numbers above 1 lie 2 ** -7 apart: steps of a learning rate would be lost."""
    backbone = open_backbone(blank, BF16)
    prior = logits(backbone, batch, None)
    backbone.attach("policy", NORMED, seed=0)
    assert torch.equal(logits(backbone, batch, "policy"), prior)
    own = {name: p for name, p in backbone.parameters_of("policy").items() if "modules_to_save" in name}
    assert len(own) == len(NAMES)
    stir(backbone, "policy", size=0.1)
    assert all(p.dtype == torch.float32 for p in backbone.parameters_of("policy").values())
    assert {p.dtype for p in backbone.parameters_of(None).values()} == {torch.bfloat16}
    backbone.save("policy", tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / "adapter_model.safetensors").values()} == {torch.float32}
    again = open_backbone(blank, BF16)
    again.attach_saved("policy", tmp_path)
    for name, parameter in again.parameters_of("policy").items():
        assert torch.equal(parameter, backbone.parameters_of("policy")[name]), name
    assert torch.equal(logits(again, batch, "policy"), logits(backbone, batch, "policy"))


def test_of_a_vision_language_model_the_language_models_norms(tmp_path: Path) -> None:
    folder = save_blank_vision(tmp_path / "llava")
    found = {}
    for vision in (False, True):
        backbone = open_backbone(folder)
        backbone.attach("policy", replace(NORMED, vision=vision), seed=0)
        found[vision] = set(backbone._peft.peft_config["policy"].modules_to_save)
    assert found[False] == {name.replace("model.", "model.language_model.", 1) for name in NAMES}
    assert found[False] < found[True]
    assert all("vision" in name for name in found[True] - found[False])


def test_an_average_has_the_norms_of_its_members_only(tmp_path: Path) -> None:
    backbone = open_backbone(save_blank_vision(tmp_path / "llava"))
    backbone.attach("policy", replace(NORMED, vision=True), seed=0)
    for seed, name in enumerate(("first", "second")):
        backbone.attach(name, NORMED, seed=seed, head=1)
        stir(backbone, name, seed=seed)
    backbone.average(["first", "second"], "mean")
    own = {name.replace(".first.", ".") for name in backbone.parameters_of("first") if "modules_to_save" in name}
    found = backbone.parameters_of("mean")
    assert {name.replace(".mean.", ".") for name in found if "modules_to_save" in name} == own
    assert own
    name = "model.language_model.norm.modules_to_save.{}.weight"
    parts = [backbone.parameters_of(one)[name.format(one)] for one in ("first", "second")]
    assert torch.allclose(found[name.format("mean")], (parts[0] + parts[1]) / 2)


def test_a_model_without_norms_is_refused(blank: Path) -> None:
    backbone = open_backbone(blank)
    for name in NAMES:
        backbone.causal.set_submodule(name, nn.LayerNorm(SIZE.width, elementwise_affine=False))
    with pytest.raises(UserError, match="LlamaForCausalLM has no norms with weights; train the adapter without norms"):
        backbone.attach("policy", NORMED, seed=0)
