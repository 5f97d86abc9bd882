"""Adapters on embeddings that are the output layer too: what is saved is what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from perl_eval.errors import UserError
from perl_eval.models.backbone import Backbone, LoraShape, open_backbone
from perl_eval.models.merge import merged
from perl_eval.models.tokenize import Encoded, pad

pytestmark = [  # plain peft's, where it makes what is read here
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`:UserWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
SHAPE = LoraShape(4, 8.0, ("embed_tokens", "q_proj", "v_proj"))
ROWS = [
    Encoded((3, 20, 21, 22, 1), (False, True, True, True, True)),
    Encoded((3, 40, 41, 1), (False, True, True, True)),
]


def plain_logits(model: Any, batch: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=batch.ids, attention_mask=batch.live.long()).logits
    return logits[batch.live]


def tuned(backbone: Backbone, folder: Path, name: str = "policy", seed: int = 7) -> torch.Tensor:
    """Train nothing, but move an adapter, save it, and return its logits."""
    backbone.attach(name, SHAPE, seed=0)
    tiny_models.stir(backbone, name, seed=seed)
    backbone.save(name, folder)
    batch = pad(ROWS, pad_id=backbone.pad_id)
    return tiny_models.logits(backbone, batch, name)[batch.live]


def test_the_blank_model_ties_its_embeddings(backbone: Backbone) -> None:
    assert backbone.causal.get_input_embeddings().weight is backbone.output_layer.weight


def test_a_merged_adapter_says_what_it_said_before(backbone: Backbone, blank: Path, tmp_path: Path) -> None:
    expected, batch = tuned(backbone, tmp_path / "adapter"), pad(ROWS, pad_id=backbone.pad_id)
    merged(tmp_path / "adapter").save_pretrained(tmp_path / "whole")
    backbone.processor.save_pretrained(tmp_path / "whole")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole").eval()
    assert torch.allclose(plain_logits(whole, batch), expected, atol=1e-4)
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(blank), str(tmp_path / "adapter")).eval()
    assert torch.allclose(plain_logits(theirs, batch), expected, atol=1e-4)
    again = open_backbone(tmp_path / "whole")  # and every verb reads the same
    assert torch.allclose(tiny_models.logits(again, batch, None)[batch.live], expected, atol=1e-4)
    assert again.causal.get_input_embeddings().weight is not again.output_layer.weight


def test_an_adapter_without_embeddings_leaves_them_tied(backbone: Backbone, tmp_path: Path) -> None:
    backbone.attach("policy", LoraShape(4), seed=0)
    tiny_models.stir(backbone, "policy")
    backbone.save("policy", tmp_path / "adapter")
    merged(tmp_path / "adapter").save_pretrained(tmp_path / "whole")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    assert whole.get_input_embeddings().weight is whole.get_output_embeddings().weight


@pytest.mark.parametrize("tied", [False, True])
def test_a_copy_of_the_embeddings_is_merged_as_it_was_trained(
    blank: Path, tmp_path: Path, backbone: Backbone, tied: bool
) -> None:
    """Plain peft's ``modules_to_save``, with its own way of tying or without."""
    config = LoraConfig(target_modules=["q_proj"], modules_to_save=["embed_tokens"], ensure_weight_tying=tied)
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(blank), config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "modules_to_save" in key:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    batch = pad(ROWS, pad_id=backbone.pad_id)
    expected = plain_logits(model.eval(), batch)
    model.save_pretrained(tmp_path / "adapter")
    if tied:
        with pytest.raises(UserError, match="changes the output layer; merge it"):
            backbone.attach_saved("theirs", tmp_path / "adapter")
        return
    backbone.attach_saved("theirs", tmp_path / "adapter")
    assert torch.allclose(tiny_models.logits(backbone, batch, "theirs")[batch.live], expected, atol=1e-4)
    backbone.merge("theirs").save_pretrained(tmp_path / "whole")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole").eval()
    assert torch.allclose(plain_logits(whole, batch), expected, atol=1e-4)


def test_an_adapter_on_the_output_layer_is_refused(blank: Path, tmp_path: Path, backbone: Backbone) -> None:
    config = LoraConfig(target_modules=["lm_head", "q_proj"])
    get_peft_model(AutoModelForCausalLM.from_pretrained(blank), config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(UserError, match="changes the output layer"):
        backbone.attach_saved("theirs", tmp_path / "adapter")


def test_the_average_of_adapters_on_embeddings_adds_the_mean(backbone: Backbone, tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("two", 2)):
        backbone.attach(name, SHAPE, seed=seed, head=1)
        tiny_models.stir(backbone, name, seed=seed, size=0.05)
    backbone.average(["one", "two"], "mean")
    layer: Any = backbone.causal.get_input_embeddings()
    deltas = {name: layer.get_delta_weight(name) for name in ("one", "two", "mean")}
    assert torch.allclose(deltas["mean"], (deltas["one"] + deltas["two"]) / 2, atol=1e-5)
