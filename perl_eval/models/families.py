"""What families of models do differently: ends, names of caches, shaped logits, layers that can be computed anew."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch.utils.checkpoint import checkpoint

from perl_eval.errors import UserError

__all__ = ["cache_argument", "end_ids", "logit_shape", "recomputing", "recomputing_layers"]


def end_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Return the tokenizer's end id and those that the model's generation config adds; padding ends nothing."""
    config = getattr(model, "generation_config", None)
    more = getattr(config, "eos_token_id", None)
    ends = [tokenizer.eos_token_id, *(more if isinstance(more, list | tuple) else [more])]
    return tuple(dict.fromkeys(int(end) for end in ends if end is not None and end != tokenizer.pad_token_id))


def cache_argument(model: Any) -> str:
    """Return what a model calls its cache of keys and values, as an argument and in its output.

    Releases of ``transformers`` before 5.24 say ``past_key_values``, later ones ``cache``; the model's own signature
    tells which.
    """
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def logit_shape(config: Any) -> tuple[float, float]:
    """Return what some families do to their logits: a factor (Cohere, Granite), and a soft cap (Gemma); 0 for none."""
    factor = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    return factor, float(getattr(config, "final_logit_softcapping", None) or 0.0)


def recomputing_layers(model: Any) -> list[Any]:
    """Prepare a model's layers for computing their activations anew on the way back, without reentry; return them.

    A layer does so while its own ``training`` flag is on, which is off while it computes: some ask it for dropout.

    Raises:
        UserError: The model cannot do it.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers: list[Any] = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise UserError(f"{type(model).__name__} cannot compute activations anew", "leave checkpointing out")
    for layer in layers:
        # by hand, since the model's own switch has one name in one release of transformers and another in the next
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = _forgetting(layer)
    return layers


def _forgetting(layer: Any) -> Callable[..., Any]:
    """Return what computes a layer, its ``training`` flag off, and will again on the way back."""

    def call(compute: Callable[..., Any], *given: Any) -> Any:
        def still(*again: Any) -> Any:
            wanted, layer.training = layer.training, False
            try:
                return compute(*again)
            finally:
                layer.training = wanted

        return checkpoint(still, *given, use_reentrant=False)

    return call


@contextlib.contextmanager
def recomputing(layers: Sequence[Any], *, wanted: bool) -> Iterator[None]:
    """Have layers from `recomputing_layers` forget their activations in this forward pass, and in no other.

    A layer that is left in this state uses no cache, so that what is sampled would not see what was said before.
    """
    for layer in layers:
        layer.training = wanted
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
