"""What a frozen tower makes of each picture: computed once, and kept for the forwards that see it again.

A step of RL sees each picture many times: to sample, for prior, policy, value and rewards, and with every other sample
of the prompt. Where no adapter touches what looks at pictures and its weights stay, it says the same each time. A
picture is looked at alone, so what it becomes does not depend on its company, nor on what a run did before.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Features", "Seen", "can_keep", "joined"]

_KEPT_BYTES = 2**28
"""Features kept, on the model's device: 256 MiB, or those of one batch if they are more."""
_FORM = ("pooler_output", "deepstack_features")
"""What models read of a tower's output; the second adds to their first layers."""


def can_keep(model: Any) -> bool:
    """Return whether a model's features of a picture stay as they are, and can be handed to it in place of pixels."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    inner = model.base_model
    if not hasattr(inner, "get_image_features") or "mm_encoder_outputs" not in _names(inner.forward):
        return False
    language = {*model.get_decoder().modules(), model.get_output_embeddings()}
    sight = [module for module in model.modules() if module not in language]
    if any(isinstance(module, BaseTunerLayer) for module in sight):
        return False
    return not any(one.requires_grad for module in sight for one in module.parameters(recurse=False))


@dataclass(frozen=True, slots=True)
class Seen:
    """What a picture became.

    Attributes:
        pieces: Placeholders that stand for it.
        sizes: The tensors that positions are told from, (1, ...) each; of most families none.
        kind: The class of a tower's output.
        features: Its fields that models read.
    """

    pieces: int
    sizes: Mapping[str, torch.Tensor]
    kind: type
    features: Mapping[str, Any]

    @property
    def size_bytes(self) -> int:
        """What is kept."""
        return _size_bytes(self.features)


class Features:
    """The features of pictures by name, those used longest ago dropped first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Seen] = OrderedDict()
        self._kept_bytes = 0

    def forget(self) -> None:
        """Drop all: the tower may change."""
        self._kept.clear()
        self._kept_bytes = 0

    def of(
        self,
        model: Any,
        names: Sequence[str],
        processed: Callable[[str], tuple[int, Mapping[str, torch.Tensor]]],
    ) -> list[Seen]:
        """Return what some pictures became, looking at those that have not been here lately.

        Args:
            model: One that `can_keep` holds for.
            names: Of the pictures, in order.
            processed: How many placeholders a picture has, and the model's tensors for it, (1, ...) each.
        """
        found = []
        for name in names:
            if name not in self._kept:
                self._kept[name] = _look(model, *processed(name))
                self._kept_bytes += self._kept[name].size_bytes
            self._kept.move_to_end(name)
            found.append(self._kept[name])
        while self._kept_bytes > _KEPT_BYTES and len(self._kept) > len(set(names)):
            self._kept_bytes -= self._kept.popitem(last=False)[1].size_bytes
        return found


@torch.no_grad()
def _look(model: Any, pieces: int, tensors: Mapping[str, torch.Tensor]) -> Seen:
    """Look at one picture."""
    inner = model.base_model
    taken, placed = _names(inner.get_image_features), _names(getattr(inner, "get_rope_index", None))
    output = inner.get_image_features(
        **{name: one.to(model.device) for name, one in tensors.items() if name in taken}, return_dict=True
    )
    sizes = {name: one for name, one in tensors.items() if name in placed}
    form = {name: found for name in _FORM if (found := getattr(output, name, None)) is not None}
    return Seen(pieces, sizes, type(output), form)


def joined(seen: Sequence[Seen]) -> dict[str, Any]:
    """Return what a model takes in place of the pixels of some pictures; at least one."""
    parts: dict[str, Any] = {"pooler_output": _row([one.features["pooler_output"] for one in seen])}
    if "deepstack_features" in seen[0].features:
        layers = zip(*(one.features["deepstack_features"] for one in seen), strict=True)
        parts["deepstack_features"] = [_row(layer) for layer in layers]
    return {"mm_encoder_outputs": {"image": seen[0].kind(**parts)}}


def _row(parts: Sequence[Any]) -> Any:
    """Return features one picture after another: in one tensor, or a tensor for each picture or tile."""
    return torch.cat(list(parts)) if isinstance(parts[0], torch.Tensor) else [piece for one in parts for piece in one]


def _size_bytes(features: Any) -> int:
    if isinstance(features, torch.Tensor):
        return features.numel() * features.element_size()
    if isinstance(features, Mapping):
        return sum(map(_size_bytes, features.values()))
    return sum(map(_size_bytes, features)) if isinstance(features, list | tuple) else 0


def _names(function: Callable[..., Any] | None) -> set[str]:
    return set(inspect.signature(function).parameters) if function else set()
