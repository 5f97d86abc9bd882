"""A model's norms learned along with an adapter: their few weights whole, a copy for each adapter.

What LoRA adds to projections leaves the norms as they were. Full tuning moves them, and part of what it gains comes
from there (docs/training.md, "LoRA or full"). peft's ``modules_to_save`` holds, saves and merges the copies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from perl_eval.errors import UserError

__all__ = ["left_out", "mean_of", "norms_of", "own_name", "widen"]


def own_name(key: str) -> str:
    """Return what a weight of the model itself is called while no adapter wraps its module."""
    return key.replace(".base_layer.", ".").replace(".original_module.", ".")


def norms_of(model: nn.Module, within: str = "") -> list[str]:
    """Return the names of a model's norms, such as ``model.layers.0.input_layernorm``.

    Args:
        model: A plain model, or one that carries adapters.
        within: The only part that is looked through, by name; empty for all.

    Raises:
        UserError: There are none that have weights.
    """
    found = [
        own_name(f"{key}.").rstrip(".")
        for key, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        and ".modules_to_save." not in key
        and f"{key}.".startswith(f"{within}." if within else "")
        and any(True for _ in module.parameters(recurse=False))
    ]
    if not found:
        raise UserError(f"{type(model).__name__} has no norms with weights", "train the adapter without norms")
    return found


def _copies(model: nn.Module) -> dict[str, Any]:
    """Return what holds the copies of each norm, by name."""
    from peft.utils import ModulesToSaveWrapper

    return {key: module for key, module in model.named_modules() if isinstance(module, ModulesToSaveWrapper)}


def _as_given(_: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
    return out.to(given[0].dtype)


def widen(model: nn.Module, name: str) -> None:
    """Hold one adapter's norms in float32, as its other weights are: steps in bfloat16 would be lost to rounding.

    What they make is as wide as what they read, as it is of the model's own, so that a fresh copy changes nothing.
    """
    for copies in _copies(model).values():
        own = dict(copies.modules_to_save).get(name)
        if own is not None and any(parameter.dtype != torch.float32 for parameter in own.parameters()):
            own.float()
            if not isinstance(own, nn.LayerNorm):  # torch's own already does so
                own.register_forward_hook(_as_given)


@contextlib.contextmanager
def left_out(model: Any, names: Sequence[str]) -> Iterator[None]:
    """Show a model as if some of its adapters had no norms of their own: peft adds up adapters of that kind only."""
    copies, configs = _copies(model), [model.peft_config[name] for name in names]
    learned = [config.modules_to_save for config in configs]
    for key, wrapped in copies.items():
        model.set_submodule(key, wrapped.original_module)
    for config in configs:
        config.modules_to_save = None
    try:
        yield
    finally:
        for key, wrapped in copies.items():
            model.set_submodule(key, wrapped)
        for config, before in zip(configs, learned, strict=True):
            config.modules_to_save = before


@torch.no_grad()
def mean_of(model: Any, names: Sequence[str], name: str) -> None:
    """Give an adapter the mean of others' norms; the model's own stand in for those that have none."""
    learned = sorted({norm for one in names for norm in model.peft_config[one].modules_to_save or ()})
    if not learned:
        return
    every = [copies for copies in _copies(model).values() if any(one in copies.modules_to_save for one in names)]
    for copies in every:
        copies.update(name)
    widen(model, name)
    for copies in every:
        own = dict(copies.modules_to_save)
        members = [own.get(one, copies.original_module) for one in names]
        for key, parameter in own[name].named_parameters():
            parameter.copy_(torch.stack([dict(member.named_parameters())[key].float() for member in members]).mean(0))
    model.peft_config[name].modules_to_save = learned
