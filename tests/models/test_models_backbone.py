"""One frozen backbone, named adapters: nothing of it changes, nothing is copied, and what is saved comes back."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from tiny_models import SIZE, stir

from perl_eval.errors import DataError, UserError
from perl_eval.models.backbone import ALL_PROJECTIONS, ATTENTION, Backbone, LoraShape, open_backbone
from perl_eval.models.checkpoint_folder import is_adapter
from perl_eval.models.reward_model import rewards
from perl_eval.models.tokenize import Encoded, PaddedBatch

SHAPE = LoraShape(rank=4, alpha=8.0, targets=ALL_PROJECTIONS)
ROWS = [Encoded((3, 20, 21, 1), (False,) * 4), Encoded((3, 40, 41, 42, 43, 1), (False,) * 6)]


@torch.no_grad()
def hidden(backbone: Backbone, batch: PaddedBatch, name: str | None) -> torch.Tensor:
    with backbone.adapter(name):
        return backbone.hidden(batch)


def test_the_prior_is_the_backbone_bit_for_bit(blank: Path, batch: PaddedBatch) -> None:
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(blank)
    backbone = open_backbone(blank)
    backbone.attach("policy", SHAPE, seed=0)
    backbone.attach("reward", SHAPE, seed=1, head=1)
    stir(backbone, "policy", "reward")
    with torch.no_grad():
        expected = plain(
            input_ids=batch.ids, attention_mask=batch.live.long(), position_ids=batch.positions
        ).logits.float()
    assert torch.equal(backbone.logits(hidden(backbone, batch, None)), expected)
    states = [hidden(backbone, batch, name) for name in (None, "policy", "reward", None, "policy")]
    assert torch.equal(states[0], states[3])
    assert torch.equal(states[1], states[4])
    assert not torch.allclose(states[0], states[1], atol=1e-3)
    assert not torch.allclose(states[1], states[2], atol=1e-3)


def test_an_adapter_adds_scaled_b_times_a(backbone: Backbone) -> None:
    """The update is alpha / rank x B A, applied by hand to one projection."""
    backbone.attach("policy", LoraShape(4, 12.0, ("q_proj",)), seed=0)
    stir(backbone, "policy")
    layer = backbone.causal.model.layers[0].self_attn.q_proj
    a, b = layer.lora_A["policy"].weight, layer.lora_B["policy"].weight
    x = torch.randn(5, SIZE.width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), backbone.adapter("policy"):
        expected = x @ (layer.base_layer.weight + 12.0 / 4 * b @ a).T
        assert torch.allclose(layer(x), expected, atol=1e-5)


def test_the_hash_is_of_the_backbones_own_weights(blank: Path) -> None:
    backbone = open_backbone(blank)
    before = backbone.sha256
    assert open_backbone(blank).sha256 == before
    backbone.attach("policy", SHAPE, seed=0)
    stir(backbone, "policy")
    assert backbone.weights_sha256() == before
    with torch.no_grad():
        backbone.causal.model.layers[1].self_attn.k_proj.base_layer.weight[0, 0] += 1e-6
    assert backbone.weights_sha256() != before


def test_the_backbone_is_frozen_while_an_adapter_learns(backbone: Backbone, batch: PaddedBatch) -> None:
    backbone.attach("policy", SHAPE, seed=0)
    backbone.attach("reward", SHAPE, seed=1, head=1)
    before = backbone.weights_sha256()
    other = {name: parameter.clone() for name, parameter in backbone.parameters_of("policy").items()}
    backbone.train_only("reward")
    with backbone.adapter("policy"), torch.no_grad():
        backbone.hidden(batch)
    for adapter in (None, "policy", "reward"):
        with backbone.adapter(adapter):
            alive = {name for name, parameter in backbone.causal.named_parameters() if parameter.requires_grad}
        assert all(".reward." in name and "lora_" in name for name in alive)
        assert bool(alive) == (adapter is not None)
    with backbone.adapter("reward"):
        rewards(backbone, ROWS).square().sum().backward()
    torch.optim.AdamW(backbone.parameters_of("reward").values(), lr=0.01).step()
    moved = {name: parameter for name, parameter in backbone.parameters_of("reward").items() if "lora_B" in name}
    assert len(moved) == 2 * len(ALL_PROJECTIONS)
    assert all(parameter.abs().max() > 0 for parameter in moved.values())
    assert all(torch.equal(parameter, other[name]) for name, parameter in backbone.parameters_of("policy").items())
    assert not [name for name, p in backbone.causal.named_parameters() if p.grad is not None and ".reward." not in name]
    assert backbone.weights_sha256() == before


def test_parameters_of_an_adapter_are_its_own(backbone: Backbone) -> None:
    backbone.attach("policy", LoraShape(4, targets=ATTENTION), seed=0)
    backbone.attach("reward", LoraShape(2, targets=ATTENTION), seed=0, head=1)
    # four attention projections a layer, each (width x rank) twice
    sizes = {name: sum(p.numel() for p in backbone.parameters_of(name).values()) for name in ("policy", "reward")}
    assert sizes == {
        "policy": SIZE.layers * 4 * 2 * SIZE.width * 4,
        "reward": SIZE.layers * 4 * 2 * SIZE.width * 2 + 33,
    }
    backbone.heads.fresh("value")
    assert [tuple(p.shape) for p in backbone.parameters_of("value").values()] == [(1, SIZE.width), (1,)]
    assert not backbone.heads["value"].weight.any()


def test_weights_are_in_memory_once(backbone: Backbone) -> None:
    own = {tensor.data_ptr(): tensor.numel() for tensor in backbone.causal.parameters()}
    backbone.attach("policy", LoraShape(4, targets=ATTENTION), seed=0)
    backbone.attach("reward", LoraShape(4, targets=ATTENTION), seed=0, head=1)
    base = {t.data_ptr(): t.numel() for name, t in backbone.causal.named_parameters() if "lora_" not in name}
    assert base == own
    counts = backbone.counts("reward")
    lora = SIZE.layers * 4 * 2 * SIZE.width * 4
    assert counts["parameters"] == sum(own.values()) + 2 * lora + 33
    assert counts["trained"] == lora + 33
    assert counts["trained share"] == counts["trained"] / counts["parameters"]


def test_a_fresh_adapter_is_a_function_of_its_seed(blank: Path) -> None:
    def fresh(seed: int) -> list[torch.Tensor]:
        backbone = open_backbone(blank)
        torch.manual_seed(99)
        state = torch.random.get_rng_state()
        backbone.attach("reward", SHAPE, seed=seed, head=1)
        assert torch.equal(torch.random.get_rng_state(), state)
        return list(backbone.parameters_of("reward").values())

    first, again, other = fresh(0), fresh(0), fresh(1)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not all(torch.equal(one, two) for one, two in zip(first, other, strict=True))


def test_head_weights_have_the_stated_spread(backbone: Backbone) -> None:
    weights = []
    for seed in range(60):
        backbone.attach(f"a{seed}", LoraShape(1, targets=("q_proj",)), seed=seed, head=1)
        weights.append(backbone.heads[f"a{seed}"].weight.detach().flatten())
        assert float(backbone.heads[f"a{seed}"].bias.detach()) == 0.0
    # 1920 draws: the standard error of the spread is 1.6 %
    assert float(torch.cat(weights).std()) == pytest.approx((SIZE.width + 1) ** -0.5, rel=0.06)


def test_save_and_load_give_the_same_rewards(blank: Path, tmp_path: Path) -> None:
    backbone = open_backbone(blank)
    backbone.attach("policy", SHAPE, seed=5)
    backbone.attach("reward", SHAPE, seed=0, head=1)
    stir(backbone, "policy", "reward")
    backbone.save("reward", tmp_path / "reward")
    with torch.no_grad(), backbone.adapter("reward"):
        expected = rewards(backbone, ROWS)
    loaded = open_backbone(tmp_path / "reward")
    loaded.attach("policy", SHAPE, seed=6)
    loaded.attach_saved("reward", tmp_path / "reward")
    with torch.no_grad(), loaded.adapter("reward"):
        assert torch.allclose(rewards(loaded, ROWS), expected, atol=1e-6)
    first = open_backbone(blank)
    first.attach_saved("judge", tmp_path / "reward")
    with torch.no_grad(), first.adapter("judge"):
        assert torch.allclose(rewards(first, ROWS, name="judge"), expected, atol=1e-6)
    assert not [parameter for parameter in first.causal.parameters() if parameter.requires_grad]


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft's own
def test_plain_peft_loads_what_is_saved(blank: Path, tmp_path: Path, batch: PaddedBatch) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    backbone = open_backbone(blank)
    backbone.attach("reward", SHAPE, seed=0, head=1)
    backbone.attach("policy", SHAPE, seed=0)
    stir(backbone, "reward", "policy")
    backbone.save("policy", tmp_path / "policy")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(blank), tmp_path / "policy")
    with torch.no_grad():
        logits = model(input_ids=batch.ids, attention_mask=batch.live.long(), position_ids=batch.positions).logits
    assert torch.allclose(logits, backbone.logits(hidden(backbone, batch, "policy")), atol=1e-6)
    merged = model.merge_and_unload()
    with torch.no_grad():
        again = merged(input_ids=batch.ids, attention_mask=batch.live.long(), position_ids=batch.positions).logits
    assert torch.allclose(again, logits, atol=1e-4)


def test_only_safetensors_and_text_are_written(blank: Path, tmp_path: Path) -> None:
    backbone = open_backbone(blank)
    backbone.attach("reward", SHAPE, seed=0, head=1)
    backbone.save("reward", tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "head.safetensors", "base.json"} <= names
    assert {path.suffix for path in tmp_path.iterdir()} <= {".safetensors", ".json", ".md"}
    saved = json.loads((tmp_path / "base.json").read_text())
    beside = os.path.relpath(blank, tmp_path)
    assert saved == {"path": str(blank), "beside": beside, "sha256": backbone.sha256}
    assert is_adapter(tmp_path)
    assert not is_adapter(blank)


def test_the_wrong_backbone_is_refused(blank: Path, tmp_path: Path) -> None:
    from perl_eval.models.from_scratch import make_model

    backbone = open_backbone(blank)
    backbone.attach("policy", SHAPE, seed=0)
    backbone.save("policy", tmp_path / "policy")
    other = Backbone(make_model(SIZE, backbone.tokenizer, seed=1), backbone.tokenizer, tmp_path / "other")
    with pytest.raises(DataError, match=r"was trained on another backbone than .*other"):
        other.attach_saved("policy", tmp_path / "policy")


def test_a_backbone_that_changed_under_its_adapter_is_refused(tmp_path: Path) -> None:
    import tiny_models

    folder = tiny_models.save_blank(tmp_path / "model")
    backbone = open_backbone(folder)
    backbone.attach("policy", SHAPE, seed=0)
    backbone.save("policy", tmp_path / "policy")
    with torch.no_grad():
        backbone.causal.model.norm.weight[0] = 3.0
    plain = backbone._peft.unload()
    plain.save_pretrained(folder)
    with pytest.raises(DataError, match="is not the backbone that the adapter was trained on"):
        open_backbone(tmp_path / "policy")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"path": "x"}'])
def test_an_adapter_that_does_not_name_its_backbone(tmp_path: Path, content: str) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "base.json").write_text(content)
    with pytest.raises(DataError, match="does not name the adapter's backbone"):
        open_backbone(tmp_path)


def test_missing_models_are_named(blank: Path, tmp_path: Path, backbone: Backbone) -> None:
    with pytest.raises(UserError, match=f"no model at {tmp_path}/none"):
        open_backbone(tmp_path / "none")
    (tmp_path / "config.json").write_text((blank / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match="has no safetensors weights"):
        open_backbone(tmp_path)
    with pytest.raises(UserError, match="no adapter at"):
        backbone.attach_saved("policy", tmp_path)


def test_projections_that_the_model_lacks_are_refused(backbone: Backbone) -> None:
    with pytest.raises(UserError, match="name projections it has"):
        backbone.attach("policy", LoraShape(targets=("c_attn",)), seed=0)


def test_only_known_adapters_can_be_switched_on(backbone: Backbone) -> None:
    with pytest.raises(KeyError), backbone.adapter("policy"):
        pass
    with backbone.adapter(None):
        pass


def test_scratch_models_are_a_function_of_their_seed(backbone: Backbone) -> None:
    from perl_eval.models.from_scratch import make_model

    def sha256(seed: int) -> str:
        state = make_model(SIZE, backbone.tokenizer, seed=seed).state_dict()
        return hashlib.sha256(b"".join(state[name].numpy().tobytes() for name in sorted(state))).hexdigest()

    assert sha256(0) == sha256(0) != sha256(1)
