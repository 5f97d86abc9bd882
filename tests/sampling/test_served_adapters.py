"""Adapters as vLLM wants them: what `train policy` writes can be served by name.

vLLM needs a GPU and is not installed here. What it refuses is known from its source (vllm/lora/peft_helper.py and
vllm/lora/utils.py): ``modules_to_save``, DoRA, a bias, a rank above ``--max-lora-rank``, a tensor that is
neither ``lora_A.weight`` nor ``lora_B.weight`` of a linear layer, and layers that ``target_modules`` does not name.
It reads one rank and one scale for all layers: patterns of them would be left out without a word.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import tiny_models
import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import open_backbone
from perl_eval.models.generate import Rollout
from perl_eval.sources.rows import Row
from perl_eval.training import policy

torch.set_num_threads(1)


def by_length(_: Sequence[Row], rollouts: Sequence[Rollout]) -> list[float]:
    return [float(len(rollout.ids)) for rollout in rollouts]


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_blank(tmp_path_factory.mktemp("adapters") / "prior")


@pytest.fixture(scope="module", params=["head", "adapter"])
def trained(request: pytest.FixtureRequest, prior: Path) -> Path:
    folder = prior.parent / request.param
    data = tiny_models.write_rows(folder / "data", train=tiny_models.prompts(1, 8))
    options = policy.PolicyOptions(
        steps=2, batch=4, value=request.param, max_new_tokens=4, max_tokens=40, lora=LoraShape(4)
    )
    return policy.run(data, prior, by_length, folder / "out", options=options)


def test_the_folder_is_one_that_vllm_loads(trained: Path) -> None:
    config = json.loads((trained / "adapter_config.json").read_text("utf-8"))
    assert config["peft_type"] == "LORA"
    assert not config["modules_to_save"]
    assert not config["use_dora"]
    assert config["bias"] == "none"
    assert config["r"] == 4
    assert not config["rank_pattern"]
    assert not config["alpha_pattern"]
    assert not config["layer_replication"]
    assert isinstance(config["target_modules"], list)  # a pattern is text
    with safe_open(trained / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
        shapes = {name: file.get_slice(name).get_shape() for name in names}
    # two layers, seven projections, two factors each
    assert len(names) == 2 * 7 * 2
    for name in names:
        *_, layer, factor, weight = name.split(".")
        assert name.startswith("base_model.model.")
        assert factor in ("lora_A", "lora_B")
        assert weight == "weight"
        assert layer in config["target_modules"]
        assert shapes[name][0 if factor == "lora_A" else 1] == config["r"]


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # of peft, with this transformers
def test_plain_peft_loads_it_and_says_the_same(trained: Path, prior: Path) -> None:
    ids = torch.tensor([[5, 9, 17, 40]])
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(prior), trained)
    backbone = open_backbone(prior)
    backbone.attach_saved("policy", trained)
    with torch.no_grad(), backbone.adapter("policy"):
        ours = backbone.causal(input_ids=ids).logits
    with torch.no_grad():
        theirs = plain(input_ids=ids).logits
        before = AutoModelForCausalLM.from_pretrained(prior)(input_ids=ids).logits
    torch.testing.assert_close(ours, theirs)
    assert float((theirs - before).abs().max()) > 0
