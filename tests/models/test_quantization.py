"""Frozen backbones in 4 bits: the levels of the paper, products and gradients as of dense layers, and refusals."""

from __future__ import annotations

import copy
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from torch import nn

from perl_eval.errors import UserError
from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.models.checkpoint_folder import quantization_of
from perl_eval.models.device import Placement
from perl_eval.models.log_probs import token_log_probs
from perl_eval.models.quantization import QuantizedLinear
from perl_eval.models.tokenize import Encoded, pad
from perl_eval.sampling import in_process
from perl_eval.storage import run_folder
from perl_eval.training import dpo, policy, reward, sft
from perl_eval.training.dpo import DpoOptions
from perl_eval.training.policy import PolicyOptions
from perl_eval.training.resources import Resources
from perl_eval.training.reward import RewardOptions
from perl_eval.training.sft import SftOptions

PACKED = Placement("cpu", quantize="nf4")
LEVELS = np.array(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ]
)
"""NF4's levels as printed in the QLoRA paper (arXiv 2305.14314), appendix E."""


@pytest.fixture(scope="module")
def packs() -> Any:
    return pytest.importorskip("bitsandbytes")


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_blank(tmp_path_factory.mktemp("quantized") / "blank")


def dense(backbone: Backbone) -> Backbone:
    """Return the same backbone with the widened weights in layers of torch's own."""
    twin = copy.deepcopy(backbone)
    for name, module in list(twin.causal.named_modules()):
        if isinstance(module, QuantizedLinear):
            layer = nn.Linear(module.in_features, module.out_features, bias=False)
            layer.weight = nn.Parameter(module.widened(torch.float32), requires_grad=False)
            parent, _, last = name.rpartition(".")
            setattr(twin.causal.get_submodule(parent), last, layer)
    return twin


def test_weights_are_the_papers_levels_times_the_largest_of_64(packs: Any) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(256, 64, bias=True)
    packed = QuantizedLinear(layer, torch.device("cpu"), torch.float32)
    blocks = layer.weight.detach().numpy().astype(float).reshape(-1, 64)
    largest = np.abs(blocks).max(1, keepdims=True)
    nearest = LEVELS[np.abs(blocks[..., None] / largest[..., None] - LEVELS).argmin(-1)] * largest
    found = packed.widened(torch.float32).numpy().reshape(-1, 64)
    assert np.abs(found - nearest).max() < 0.02 * largest.max()  # the scales have 8 bits
    assert np.abs(found - blocks).max() > 0.05 * largest.min()
    states = torch.randn(3, 256)
    wanted = states @ packed.widened(torch.float32).T + layer.bias.detach()
    assert torch.allclose(packed(states), wanted, atol=1e-6)
    assert 4.1 < 8 * (packed.weight.numel() + packed.extra_bytes() - 1108) / (256 * 64) < 4.3  # less two tables


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_products_and_gradients_are_those_of_dense_layers(
    packs: Any, blank: Path, dtype: Any, checkpointing: bool
) -> None:
    ids = (5, 9, 11, 30, 2, 7, 1)
    batch = pad([Encoded(ids, (False,) * 3 + (True,) * 4)], pad_id=0)
    found = []
    packed = open_backbone(blank, replace(PACKED, dtype=dtype, checkpointing=checkpointing))
    for backbone in (packed, dense(packed)):
        with torch.no_grad():  # as sampling does, before any step
            before = token_log_probs(backbone, backbone.hidden(batch), batch, 1.0)
        backbone.attach("policy", LoraShape(4), seed=0)
        for name, parameter in backbone.parameters_of("policy").items():
            if "lora_B" in name:
                nn.init.constant_(parameter, 0.05)
        backbone.train_only("policy")
        with backbone.adapter(None), torch.no_grad():
            assert torch.equal(token_log_probs(backbone, backbone.hidden(batch), batch, 1.0), before)
        with backbone.adapter("policy"):
            log_probs = token_log_probs(backbone, backbone.hidden(batch), batch, 1.0)
            log_probs.sum().backward()  # type: ignore[no-untyped-call]
        gradients = {name: one.grad for name, one in backbone.parameters_of("policy").items()}
        assert all(one is not None and one.abs().sum() > 0 for one in gradients.values())
        found.append((log_probs.detach(), gradients))
    (ours, own), (theirs, other) = found
    close = {"atol": 1e-5, "rtol": 1e-5} if dtype == "fp32" else {"atol": 2e-2, "rtol": 2e-2}
    assert torch.allclose(ours, theirs, **close)
    assert own.keys() == other.keys()
    for name, gradient in own.items():
        assert gradient is not None
        assert torch.allclose(gradient, other[name], **close), name  # type: ignore[arg-type]


def test_all_but_the_decoders_layers_stay_and_bytes_are_counted(packs: Any, blank: Path) -> None:
    plain, packed = open_backbone(blank, Placement("cpu")), open_backbone(blank, PACKED)
    assert packed.sha256 == plain.sha256  # so adapters go from one to the other
    assert type(packed.output_layer) is nn.Linear
    assert sum(isinstance(one, QuantizedLinear) for one in packed.causal.modules()) == 14
    assert packed.counts()["parameters"] == plain.counts()["parameters"]
    kept = sum(one.numel() for one in packed.causal.parameters() if one.is_floating_point())
    inside = plain.counts()["parameters"] - kept
    assert packed.resident_bytes() - 4 * kept == pytest.approx(inside * 4.13 / 8 + 14 * 1108, rel=0.02)
    before = packed.weights_sha256()
    next(one for one in packed.causal.modules() if isinstance(one, QuantizedLinear)).weight.data[0] += 1
    assert packed.weights_sha256() != before


def test_every_verb_trains_on_it_and_says_so(packs: Any, blank: Path, tmp_path: Path) -> None:
    made = {"train": (1, 24), "validation": (2, 8), "test": (3, 8)}

    def rows(name: str, maker: Any) -> Path:
        return tiny_models.write_rows(tmp_path / name, **{split: maker(*one) for split, one in made.items()})

    resources = Resources(PACKED)
    learned = rows("demonstrations", tiny_models.demonstrations)
    how = SftOptions(str(blank), epochs=1, batch=8, max_tokens=40, lora=LoraShape(4), resources=resources)
    prior = sft.run(learned, tmp_path / "sft", options=how)
    assert quantization_of(prior / "adapter") == "nf4"
    assert not quantization_of(prior)
    open_backbone(prior, Placement("cpu"))  # whole weights, as ever
    shared: Any = {"batch": 8, "max_tokens": 48, "lora": LoraShape(4), "resources": resources}
    pairs = rows("pairs", tiny_models.preferences)
    rewarded = reward.run(
        pairs, prior, tmp_path / "reward", options=RewardOptions(epochs=1, max_new_tokens=6, **shared)
    )
    direct = dpo.run(pairs, prior, tmp_path / "dpo", options=DpoOptions(**shared))
    aim = PolicyOptions(steps=2, max_new_tokens=6, **shared)
    trained = policy.run(rows("asked", tiny_models.prompts), prior, rewarded, tmp_path / "rl", options=aim)
    for folder in (rewarded, direct, trained):
        assert quantization_of(folder) == "nf4"
        assert "`, whose linear layers lay in 4 bits (nf4) meanwhile.\n" in (folder / "README.md").read_text()
        card = run_folder.read_card(folder)
        assert card is not None
        assert card.arguments["resources"]["placement"]["quantize"] == "nf4"
    first = run_folder.read(trained, dpo.Measurement)
    assert next(one.value for one in first if one.metric == "KL to prior") == 0.0  # with gradients or without
    sampled = in_process.run(direct, tmp_path / "asked", tmp_path / "samples")  # on the plain base
    assert (sampled / "completions.parquet").is_file()


def test_adapters_that_read_weights_are_refused(packs: Any, blank: Path, tmp_path: Path) -> None:
    packed = open_backbone(blank, PACKED)
    with pytest.raises(UserError, match="method dora reads the weights that --quantize nf4 packs; choose from lora"):
        packed.attach("policy", LoraShape(4, method="dora"), seed=0)
    plain = open_backbone(blank, Placement("cpu"))
    plain.attach("policy", LoraShape(4, method="dora"), seed=0)
    plain.save("policy", tmp_path / "dora")
    with pytest.raises(
        UserError, match="by the method dora, reads the weights that --quantize nf4 packs; leave --quantize out"
    ):
        packed.attach_saved("policy", tmp_path / "dora")


def test_without_the_package_it_is_one_line(blank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    wanted = r"--quantize nf4 needs the package bitsandbytes; pip install 'perl-eval\[quantize\]'"
    with pytest.raises(UserError, match=wanted):
        open_backbone(blank, PACKED)


@pytest.mark.parametrize("kind", [SftOptions, RewardOptions, DpoOptions, PolicyOptions])
def test_all_weights_of_it_cannot_be_trained(kind: Any) -> None:
    given = {} if kind is SftOptions else {"full": True}
    with pytest.raises(UserError, match="--quantize nf4 packs weights that stay as they are"):
        kind(resources=Resources(PACKED), **given)


def test_only_nf4_is_known() -> None:
    with pytest.raises(UserError, match="quantize 'int8' is not known; take nf4, or leave it out"):
        Placement("cpu", quantize="int8")  # type: ignore[arg-type]


def test_a_base_of_before_has_no_quantization(tmp_path: Path) -> None:
    (tmp_path / "base.json").write_text(json.dumps({"path": "x", "sha256": ""}))
    assert quantization_of(tmp_path) == quantization_of(tmp_path / "none") == ""
