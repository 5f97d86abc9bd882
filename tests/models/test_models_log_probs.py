"""Log-probabilities chunk by chunk: equal to the whole table, gradients too, in a fraction of the memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from tiny_models import stir
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from perl_eval.errors import UserError
from perl_eval.models.backbone import Backbone, LoraShape, open_backbone
from perl_eval.models.device import Placement
from perl_eval.models.log_probs import token_log_probs
from perl_eval.models.tokenize import Encoded, PaddedBatch, pad


def rows(count: int = 5) -> PaddedBatch:
    random = torch.Generator().manual_seed(0)
    made = []
    for number in range(count):
        ids = torch.randint(6, 260, (4 + number,), generator=random).tolist()
        made.append(Encoded(tuple(ids), tuple(place >= 2 for place in range(len(ids)))))
    return pad(made, pad_id=0)


def table(backbone: Backbone, batch: PaddedBatch, temperature: float) -> torch.Tensor:
    """Return what the chunks must add up to: transformers' own logits, all of them, in one piece."""
    logits = backbone.causal(input_ids=batch.ids, attention_mask=batch.live.long(), position_ids=batch.positions).logits
    picked = torch.log_softmax(logits[:, :-1] / temperature, -1).gather(-1, batch.ids[:, 1:, None]).squeeze(-1)
    whole = torch.cat([torch.zeros_like(picked[:, :1]), picked], dim=1)
    return torch.where(batch.trained, whole, torch.zeros_like(whole))


@pytest.mark.parametrize("most_logits", [1, 300, 700, 2**30])
@pytest.mark.parametrize("name", ["policy", None])
def test_chunks_equal_the_whole_table(backbone: Backbone, most_logits: int, name: str | None) -> None:
    """Values and gradients, with the output layer frozen (policy) and trained (None: full tuning).

    To 1e-6 in float32 for the values; in float64 for the gradients, which pass through the whole model.
    """
    backbone.attach("policy", LoraShape(4), seed=0)
    stir(backbone, "policy")
    backbone.train_only(name)
    batch = rows()
    weights = torch.randn(batch.ids.shape, generator=torch.Generator().manual_seed(1))
    parameters = list(backbone.parameters_of(name).values())
    with backbone.adapter(name):
        chunked = token_log_probs(backbone, backbone.hidden(batch), batch, 0.7, most_logits=most_logits)
        assert torch.allclose(chunked, table(backbone, batch, 0.7), atol=1e-6)
        backbone.causal.double()
        chunked = token_log_probs(backbone, backbone.hidden(batch), batch, 0.7, most_logits=most_logits)
        expected = table(backbone, batch, 0.7)
        found = torch.autograd.grad((chunked * weights).sum(), parameters)
        wanted = torch.autograd.grad((expected * weights).sum(), parameters)
    for one, two in zip(found, wanted, strict=True):
        assert torch.allclose(one, two, rtol=1e-9, atol=1e-12)
    assert max(float(gradient.abs().max()) for gradient in wanted) > 0.01


@torch.no_grad()
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_chances_of_what_may_follow_sum_to_one(blank: Path, precision: Literal["fp32", "bf16"]) -> None:
    """Softmax and logarithm are in float32 whatever the products are in: bfloat16 has errors of a hundredth there."""
    backbone = open_backbone(blank, Placement(dtype=precision))
    every = range(backbone.output_layer.weight.shape[0])
    batch = pad([Encoded((7, 30, 9, token), (False,) * 3 + (True,)) for token in every], pad_id=0)
    found = token_log_probs(backbone, backbone.hidden(batch), batch, 0.05)[:, 3]
    assert found.dtype == torch.float32
    assert float(found.double().exp().sum()) == pytest.approx(1.0, abs=1e-5)
    assert float(found.max() - found.min()) > 3


def test_no_trained_token_is_no_log_probability(backbone: Backbone) -> None:
    batch = pad([Encoded((5, 6, 7), (False,) * 3)], pad_id=0)
    found = token_log_probs(backbone, backbone.hidden(batch), batch, 1.0)
    assert found.tolist() == [[0.0, 0.0, 0.0]]


def shaped(family: str, tokenizer: Any) -> Any:
    """Return a tiny random model of a family that does something to its logits."""
    import transformers

    common = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 64,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    extra = {
        "Gemma2": {"final_logit_softcapping": 2.0, "query_pre_attn_scalar": 16, "sliding_window": 64},
        "Granite": {"logits_scaling": 3.0},
        "Cohere": {"logit_scale": 0.25},
    }[family]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**common, **extra)
    return getattr(transformers, f"{family}ForCausalLM")(config)


@pytest.mark.parametrize("family", ["Gemma2", "Granite", "Cohere"])
def test_what_a_family_does_to_its_logits_is_done(backbone: Backbone, family: str) -> None:
    with torch.random.fork_rng():
        model = shaped(family, backbone.tokenizer)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(20)
    other = Backbone(model, backbone.tokenizer, Path("tiny"))
    other.train_only(None)
    batch = rows()
    parameters = list(other.parameters_of(None).values())
    found = token_log_probs(other, other.hidden(batch), batch, 0.7, most_logits=600)
    expected = table(other, batch, 0.7)
    assert torch.allclose(found, expected, atol=1e-5)
    plain = torch.log_softmax(other.output_layer(other.hidden(batch))[:, :-1] / 0.7, -1)
    assert not torch.allclose(
        plain.gather(-1, batch.ids[:, 1:, None]).squeeze(-1)[batch.trained[:, 1:]], expected[batch.trained], atol=1e-2
    )
    with torch.no_grad():
        logits = other.logits(other.hidden(batch))
        assert torch.allclose(
            logits,
            model(input_ids=batch.ids, attention_mask=batch.live.long(), position_ids=batch.positions).logits,
            atol=1e-4,
        )
    pairs = zip(
        torch.autograd.grad(found.sum(), parameters), torch.autograd.grad(expected.sum(), parameters), strict=True
    )
    for one, two in pairs:
        assert torch.allclose(one, two, atol=1e-5 * max(1.0, float(two.abs().max())))


class Largest(TorchDispatchMode):
    """Notes the most elements that any operation's result has."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.elements = max(self.elements, leaf.numel())
        return result


@pytest.mark.parametrize("name", ["policy", None])
def test_the_logits_of_a_batch_are_never_in_memory_together(backbone: Backbone, name: str | None) -> None:
    """No result on the way there or back is larger than a chunk or a weight; the table of all logits would be."""
    backbone.attach("policy", LoraShape(4), seed=0)
    backbone.train_only(name)
    batch = pad([Encoded(tuple(range(6, 106)), (False,) + (True,) * 99) for _ in range(4)], pad_id=0)
    vocabulary = backbone.output_layer.weight.shape[0]
    with backbone.adapter(name):
        hidden = backbone.hidden(batch).detach().requires_grad_()
        with Largest() as seen:
            found = token_log_probs(backbone, hidden, batch, 1.0, most_logits=3 * vocabulary)
            torch.autograd.grad(found.sum(), [hidden, *([] if name else [backbone.output_layer.weight])])
        with Largest() as table_seen:
            torch.log_softmax(backbone.logits(hidden), -1)
    assert seen.elements <= max(hidden.numel(), backbone.output_layer.weight.numel())
    assert table_seen.elements == 4 * 100 * vocabulary > 5 * seen.elements


def test_adapters_on_the_output_layer_are_refused(backbone: Backbone) -> None:
    with pytest.raises(UserError, match=r"lm_head of .* is the output layer; leave it out"):
        backbone.attach("policy", LoraShape(2, targets=("q_proj", "lm_head")), seed=0)
