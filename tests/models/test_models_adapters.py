"""Every method by name obeys the laws that RL on one backbone rests on, and plain peft and transformers read it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import logits, stir

from perl_eval.errors import UserError
from perl_eval.models.adapters import METHODS, LoraShape
from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.models.merge import merged
from perl_eval.models.tokenize import PaddedBatch

SHAPE = LoraShape(4, 8.0, ("q_proj", "v_proj", "down_proj"))
quiet = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft's own


@pytest.mark.parametrize("norms", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_by_name(blank: Path, tmp_path: Path, batch: PaddedBatch, method: str, norms: bool) -> None:
    shape = replace(SHAPE, method=method, norms=norms)
    backbone = open_backbone(blank)
    before = backbone.weights_sha256()
    prior = logits(backbone, batch, None)
    backbone.attach("policy", shape, seed=0)
    assert torch.equal(logits(backbone, batch, "policy"), prior)  # fresh: the prior, bit for bit
    backbone.attach("reward", shape, seed=1, head=1)
    backbone.train_only("policy")
    own = backbone.parameters_of("policy")
    assert own
    assert own.keys() & backbone.parameters_of("reward").keys() == set()
    alive = {id(parameter) for parameter in backbone.causal.parameters() if parameter.requires_grad}
    assert alive == {id(parameter) for parameter in own.values()}
    with backbone.adapter("policy"):
        backbone.logits(backbone.hidden(batch)).square().sum().backward()
    assert any(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in own.values())
    stir(backbone, "policy", size=0.05)
    tuned = logits(backbone, batch, "policy")
    assert not torch.allclose(tuned, prior, atol=1e-4)
    assert torch.equal(logits(backbone, batch, None), prior)  # off: the prior, bit for bit
    assert torch.equal(logits(backbone, batch, "reward"), prior)  # the other adapter is still fresh
    assert backbone.weights_sha256() == before
    backbone.save("policy", tmp_path / "policy")
    again = open_backbone(blank)
    again.attach_saved("policy", tmp_path / "policy")
    assert torch.allclose(logits(again, batch, "policy"), tuned, atol=1e-6)


@quiet
@pytest.mark.parametrize("norms", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_plain_peft_loads_a_method_and_plain_transformers_the_sum(
    blank: Path, tmp_path: Path, batch: PaddedBatch, method: str, norms: bool
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    backbone = open_backbone(blank)
    backbone.attach("policy", replace(SHAPE, method=method, norms=norms), seed=0)
    stir(backbone, "policy", size=0.05)
    tuned = logits(backbone, batch, "policy")
    backbone.save("policy", tmp_path / "policy")
    given = {"input_ids": batch.ids, "attention_mask": batch.live.long(), "position_ids": batch.positions}
    with torch.no_grad():
        plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(blank), tmp_path / "policy").eval()
        assert torch.allclose(plain(**given).logits, tuned, atol=1e-5)
        merged(tmp_path / "policy").save_pretrained(tmp_path / "whole")
        whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole").eval()
        assert torch.allclose(whole(**given).logits, tuned, atol=1e-4)
    assert not [name for name in whole.state_dict() if "lora" in name or "base_layer" in name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "lorra"}, "method 'lorra' is not known; choose from lora, dora"),
        ({"rank": 0}, "rank is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_impossible_shapes(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LoraShape(**options)  # type: ignore[arg-type]


def test_one_backbone_carries_one_kind(backbone: Backbone) -> None:
    backbone.attach("policy", SHAPE, seed=0)
    with pytest.raises(UserError, match="cannot put an adapter on"):
        backbone.attach("reward", replace(SHAPE, method="loha"), seed=0)


def test_dropout_is_on_where_asked_and_drawn_from_the_seed(backbone: Backbone, batch: PaddedBatch) -> None:
    backbone.attach("reward", replace(SHAPE, dropout=0.5), seed=0)
    stir(backbone, "reward")
    plain = logits(backbone, batch, "reward")
    found = []
    for seed in (1, 1, 2):
        with backbone.dropping(seed):
            found.append(logits(backbone, batch, "reward"))
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2], atol=1e-4)
    assert not torch.allclose(found[0], plain, atol=1e-4)
    assert torch.equal(logits(backbone, batch, "reward"), plain)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    with backbone.dropping(9):
        torch.rand(3)
    assert torch.equal(torch.random.get_rng_state(), state)
