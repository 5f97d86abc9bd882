"""Families of language models, made on the spot: the same laws, whatever their layers, norms and positions are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import tiny_models
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from transformers import AutoConfig, AutoModelForCausalLM

from perl_eval.models.adapters import LoraShape, added, config_of
from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.models.device import Placement
from perl_eval.models.families import cache_argument
from perl_eval.models.from_scratch import make_tokenizer
from perl_eval.models.generate import Sampling, generate
from perl_eval.models.log_probs import token_log_probs
from perl_eval.models.merge import merged
from perl_eval.models.tokenize import Encoded, PaddedBatch, pad

SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZE |= {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128}
DROPOUT = {"attention_dropout": 0.5, "hidden_dropout": 0.5, "dropout": 0.5, "resid_pdrop": 0.5, "attn_pdrop": 0.5}
QV = ("q_proj", "v_proj")
SLIDING = {"sliding_window": 4}  # fewer tokens than a row has
FAMILIES: dict[str, tuple[tuple[str, ...], dict[str, int]]] = {
    "cohere2": (QV, SLIDING),
    "gemma2": (QV, SLIDING),
    "gemma3_text": (QV, SLIDING),
    "gpt2": (("c_attn",), {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 128}),
    "gpt_neox": (("query_key_value",), {}),
    "granite": (QV, {}),
    "mistral": (QV, SLIDING),
    "olmo2": (QV, {}),
    "opt": (QV, {"word_embed_proj_dim": 32, "ffn_dim": 64}),
    "phi3": (("qkv_proj",), SLIDING),
    "qwen2": (QV, {}),
    "qwen3": (QV, {}),
    "qwen3_moe": (QV, {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}),
}
"""Projections that carry adapters, and what a config of this size needs beside the rest."""
ROWS = [
    Encoded((3, 20, 21, 22, 1), (False,) * 3 + (True,) * 2),
    Encoded((3, 20, 21, 40, 41, 1), (False,) * 3 + (True,) * 3),
    Encoded((50, 51, 52, 53, 54, 55, 56, 1), (False,) * 2 + (True,) * 6),
]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model folder of random weights; its config asks for dropout wherever its family knows it."""
    place = tmp_path_factory.mktemp("families") / family
    tokenizer = make_tokenizer([" ".join(tiny_models.COLOURS), "paint it", "12 34 56 78 90"] * 30, 300)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    config = AutoConfig.for_model(family, vocab_size=64, **SIZE, **ids, **DROPOUT, **FAMILIES[family][1])
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.fixture
def batch() -> PaddedBatch:
    return pad(ROWS, pad_id=0)


def shape(family: str, *, norms: bool = True) -> LoraShape:
    return LoraShape(2, 4.0, FAMILIES[family][0], norms=norms)


def log_probs(backbone: Backbone, batch: PaddedBatch, name: str | None) -> torch.Tensor:
    with backbone.adapter(name):
        return token_log_probs(backbone, backbone.hidden(batch), batch, 1.0)


@torch.no_grad()
def test_log_probs_and_samples_are_those_of_the_plain_model(folder: Path, batch: PaddedBatch) -> None:
    """Row by row, unpadded, without a cache."""
    backbone = open_backbone(folder)
    plain: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    found = log_probs(backbone, batch, None)
    for place, row in enumerate(ROWS):
        table = plain(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        wanted = [table[at - 1, token] * row.trained[at] for at, token in enumerate(row.ids) if at]
        assert found[place, 1 : len(row.ids)].tolist() == pytest.approx([float(one) for one in wanted], abs=1e-4)
    prompts = [(3, 20, 21), (3, 20, 21), (50, 51, 52, 53, 54, 55)]
    for prompt, rollout in zip(prompts, generate(backbone, prompts, [0, 1, 2], Sampling(0.0, 5)), strict=True):
        said: list[int] = []
        while len(said) < 5 and (not said or said[-1] not in backbone.end_ids):
            said.append(int(plain(torch.tensor([[*prompt, *said]])).logits[0, -1].argmax()))
        assert list(rollout.ids) == said


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_fresh_adapter_changes_nothing_and_the_prior_stays(
    folder: Path, family: str, batch: PaddedBatch, dtype: Literal["fp32", "bf16"]
) -> None:
    backbone = open_backbone(folder, Placement("cpu", dtype))
    before = backbone.weights_sha256()
    with torch.no_grad():
        prior = log_probs(backbone, batch, None)
    backbone.attach("policy", shape(family), seed=0)
    backbone.attach("reward", shape(family, norms=False), seed=1, head=1)
    backbone.train_only("policy")
    fresh = log_probs(backbone, batch, "policy")
    assert torch.equal(fresh.detach(), prior)
    fresh.sum().backward()
    own = backbone.parameters_of("policy")
    still = {name for name, one in own.items() if one.grad is None or not one.grad.abs().sum() > 0}
    assert all(".lora_A." in name for name in still)  # their gradients wait for B to leave zero
    tiny_models.stir(backbone, "policy", size=0.2)
    with torch.no_grad():
        assert not torch.allclose(log_probs(backbone, batch, "policy"), prior, atol=1e-3)
        for name in ("reward", None):
            assert torch.equal(log_probs(backbone, batch, name), prior)
    assert backbone.weights_sha256() == before


def test_activations_computed_anew_give_the_same_gradient(folder: Path, family: str, batch: PaddedBatch) -> None:
    """Without the dropout that the config asks for: what is learned from is what sampled."""
    taken = []
    for checkpointing in (False, True):
        backbone = open_backbone(folder, Placement("cpu", checkpointing=checkpointing))
        backbone.attach("policy", shape(family), seed=0)
        tiny_models.stir(backbone, "policy", size=0.1)
        backbone.train_only("policy")
        with backbone.adapter("policy"):
            token_log_probs(backbone, backbone.hidden(batch), batch, 1.0).sum().backward()
        own = backbone.parameters_of("policy")
        taken.append({name: parameter.grad for name, parameter in own.items()})
    for name, gradient in taken[0].items():
        assert gradient is not None
        assert torch.allclose(taken[1][name], gradient, atol=1e-5 * float(gradient.abs().max())), name


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft's own
def test_merged_is_unmerged(folder: Path, family: str, batch: PaddedBatch, tmp_path: Path) -> None:
    backbone = open_backbone(folder)
    backbone.attach("policy", shape(family), seed=0)
    tiny_models.stir(backbone, "policy", size=0.1)
    backbone.save("policy", tmp_path / "policy")
    merged(tmp_path / "policy").save_pretrained(tmp_path / "whole")
    backbone.tokenizer.save_pretrained(tmp_path / "whole")
    found = log_probs(open_backbone(tmp_path / "whole"), batch, None)
    assert torch.allclose(found, log_probs(backbone, batch, "policy"), atol=1e-4)


class _Old(torch.nn.Module):
    def forward(self, input_ids: Any, past_key_values: Any = None) -> None: ...


class _New(torch.nn.Module):
    def forward(self, input_ids: Any, cache: Any = None, past_key_values: Any = None) -> None: ...


@pytest.mark.parametrize(("model", "name"), [(_Old(), "past_key_values"), (_New(), "cache")])
def test_the_cache_is_called_as_the_model_calls_it(model: torch.nn.Module, name: str) -> None:
    assert cache_argument(model) == name


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft's own
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to:UserWarning")
@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning")  # of peft, for experts
def test_all_linear_layers_are_those_that_peft_finds(folder: Path) -> None:
    """Also for a second adapter, whose layers lie in the first one's by then."""
    plain: Any = AutoModelForCausalLM.from_pretrained(folder)
    wrapped: Any = get_peft_model(plain, LoraConfig(target_modules="all-linear"))
    wanted = {
        key.removeprefix("base_model.model.")
        for key, one in wrapped.named_modules()
        if isinstance(one, LoraLayer) and not isinstance(one, ParamWrapper)  # a router or stacked experts
    }
    backbone = open_backbone(folder)
    for name in ("policy", "reward"):
        backbone.attach(name, LoraShape(2, 4.0), seed=0)
        found = {
            key for key, one in backbone.causal.named_modules() if isinstance(one, LoraLayer) and name in one.lora_A
        }
        assert found == wanted


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft's own
def test_that_stacked_experts_carry_none_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = make_tokenizer([" ".join(tiny_models.COLOURS)] * 30, 300)
    for kind, more in (("qwen3_moe", FAMILIES["qwen3_moe"][1]), ("llama", {})):
        config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **SIZE, **more)
        model: Any = AutoModelForCausalLM.from_config(config)
        model.name_or_path = str(tmp_path / kind)
        backbone = Backbone(model, tokenizer, tmp_path / kind)
        for name in ("policy", "reward"):
            backbone.attach(name, LoraShape(2, 4.0), seed=0)
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("the experts' 4 stacked tensors, ")
    assert said.endswith("% of the weights, carry no adapter: adapters go on linear layers; full tuning trains all")


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft's own
def test_names_that_dense_layers_share_with_experts_carry_no_adapter() -> None:
    """Peft would take them for the experts' stacked tensor, at a rank of its own, and leave the dense layer out."""
    mixed = {**FAMILIES["qwen3_moe"][1], "mlp_only_layers": [0]}
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3_moe", vocab_size=64, **SIZE, **mixed))
    assert isinstance(model.model.layers[0].mlp.up_proj, torch.nn.Linear)
    model.name_or_path = "model"
    for name in ("policy", "reward"):
        model = added(model, name, config_of(LoraShape(2, 4.0), model, Path("model")))
    carrying = {key.rpartition(".")[2]: one for key, one in model.named_modules() if isinstance(one, LoraLayer)}
    assert carrying.keys() == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert all(list(one.lora_A) == ["policy", "reward"] for one in carrying.values())
