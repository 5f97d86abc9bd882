"""Frozen linear layers in 4 bits (NF4), which adapters learn on: what the weights of a large model shrink to.

A weight is kept as one of 16 levels, the quantiles of a normal distribution, times the largest of its 64 neighbours;
those scales are kept in 8 bits themselves: 4.13 bits a weight in all. Products are taken with the weights widened
again, on the way back too, so that a pass with gradients and one without give the same to the last bit. Source:
Dettmers and others, "QLoRA" (arXiv 2305.14314), section 3; bitsandbytes quantizes and widens.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from typing import Any

import torch
from torch import nn

from perl_eval.errors import UserError
from perl_eval.models.device import Placement

__all__ = [
    "QuantizedLinear",
    "hush",
    "parameter_count",
    "quantize",
    "refuse_full",
    "refuse_missing",
    "resident_bytes",
]

_PACKAGE = "bitsandbytes"


def refuse_missing() -> None:
    """Refuse to quantize where bitsandbytes is not installed.

    Raises:
        UserError: It is not.
    """
    if importlib.util.find_spec(_PACKAGE) is None:
        raise UserError(f"--quantize nf4 needs the package {_PACKAGE}", "pip install 'perl-eval[quantize]'")


def refuse_full(placement: Placement, *, full: bool) -> None:
    """Refuse to train all weights of a model that is to lie in 4 bits.

    Args:
        placement: Where the model computes.
        full: Whether all weights are trained.

    Raises:
        UserError: They are.
    """
    if full and placement.quantize:
        what = f"--quantize {placement.quantize} packs weights that stay as they are, and all are to be trained"
        raise UserError(what, "train an adapter (sft: --lora; else without --full), or leave --quantize out")


def hush() -> None:
    """Let bitsandbytes not say on some processors that a kernel, unused here, is missing; peft loads it if it can."""
    logging.getLogger(_PACKAGE).setLevel(logging.ERROR)


def _functions() -> Any:
    """Return bitsandbytes' functions."""
    hush()
    return importlib.import_module(f"{_PACKAGE}.functional")


class QuantizedLinear(nn.Linear):
    """A frozen linear layer in NF4, (..., inputs) -> (..., outputs); ``weight`` is packed, two weights a byte.

    Args:
        layer: The layer as it was, which stays as it is.
        device: Where the packed weights go.
        dtype: What they are read from and widened to.
    """

    def __init__(self, layer: nn.Linear, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        wide = layer.weight.detach().to(device=device, dtype=dtype)
        packed, self.state = _functions().quantize_4bit(wide, quant_type="nf4", compress_statistics=True)
        self.weight = nn.Parameter(packed, requires_grad=False)
        if layer.bias is not None:
            self.bias = nn.Parameter(layer.bias.detach().to(device=device, dtype=dtype), requires_grad=False)

    def widened(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the weights, (outputs, inputs)."""
        wide: torch.Tensor = _functions().dequantize_4bit(self.weight.data, self.state).to(dtype)
        return wide

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return the product, in what autocast computes in where it is on, else in what the states lie in."""
        kind = states.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
        product: torch.Tensor = _Product.apply(states.to(dtype), self)  # type: ignore[no-untyped-call]
        return product if self.bias is None else product + self.bias.to(dtype)

    def extra_bytes(self) -> int:
        """Return the bytes of the scales, which are no parameters."""
        state, total = self.state, 0
        while state is not None:
            total += sum(
                one.numel() * one.element_size() for one in vars(state).values() if isinstance(one, torch.Tensor)
            )
            state = state.state2
        return total


class _Product(torch.autograd.Function):
    """States times widened weights; the weights are widened anew on the way back, not held until then."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, layer: QuantizedLinear) -> torch.Tensor:
        ctx.layer = layer
        return nn.functional.linear(states, layer.widened(states.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = gradients
        return gradient @ ctx.layer.widened(gradient.dtype), None


def quantize(model: Any, device: torch.device, dtype: torch.dtype) -> int:
    """Put every linear layer of a language model's decoder into NF4, in place, one after another.

    Embeddings, norms, the output layer, what looks at pictures, and experts that are stacked into one tensor stay as
    they are.

    Args:
        model: A ``transformers`` causal language model, anywhere.
        device: Where the packed weights go.
        dtype: What they are read from and widened to.

    Returns:
        How many layers there were.

    Raises:
        UserError: The model has none, or bitsandbytes is missing.
    """
    refuse_missing()
    decoder, output = model.get_decoder(), model.get_output_embeddings()
    found = [
        (name, module) for name, module in decoder.named_modules() if type(module) is nn.Linear and module is not output
    ]
    if not found:
        raise UserError(f"{type(model).__name__} has no linear layers to quantize", "leave --quantize out")
    for name, layer in found:
        parent, _, last = name.rpartition(".")
        setattr(decoder.get_submodule(parent), last, QuantizedLinear(layer, device, dtype))
        del layer.weight  # the last place that holds it
    return len(found)


def parameter_count(model: nn.Module) -> int:
    """Return how many parameters a model has, packed ones counted as what they stand for."""
    packed = [one for one in model.modules() if isinstance(one, QuantizedLinear)]
    more = sum(one.in_features * one.out_features - one.weight.numel() for one in packed)
    return sum(one.numel() for one in model.parameters()) + more


def resident_bytes(model: nn.Module) -> int:
    """Return the bytes of a model's parameters in memory, with the scales of packed ones."""
    held = sum(one.numel() * one.element_size() for one in model.parameters())
    return held + sum(one.extra_bytes() for one in model.modules() if isinstance(one, QuantizedLinear))
