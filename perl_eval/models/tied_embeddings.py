"""Embeddings that are the output layer too, while an adapter changes one of the two.

An adapter on the embeddings changes what is read, not what is said: the output layer stays the base's. Added to weights
that both share, it would change both, and the model that is saved would be another than the one that was trained.
"""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["is_adapted", "part"]


def is_adapted(layer: nn.Module | None) -> bool:
    """Return whether an adapter wraps a layer, or holds a copy of it."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    return isinstance(layer, BaseTunerLayer | AuxiliaryTrainingWrapper)


def part(model: Any) -> None:
    """Give a model whose embeddings are its output layer too a copy of them for that; it is saved so.

    Args:
        model: A ``transformers`` model, an adapter on its embeddings not yet added to them.
    """
    layer = model.get_output_embeddings()
    layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=layer.weight.requires_grad)
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False
    for module in model.modules():
        for name in ("_tied_weights_keys", "all_tied_weights_keys"):
            if kept := getattr(module, name, None):
                setattr(module, name, type(kept)())
