"""Which adapter a backbone gets: peft's methods by name, and their size."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perl_eval.errors import UserError

__all__ = ["ALL_PROJECTIONS", "ATTENTION", "METHODS", "LoraShape", "config_of"]

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
"""The projections that PE-RLHF puts adapters on."""
ALL_PROJECTIONS = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
"""Attention and feed-forward projections of Llama-shaped models."""
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "lora": ("LORA", {}),
    "dora": ("LORA", {"use_dora": True}),
    "rslora": ("LORA", {"use_rslora": True}),
    "delora": ("DELORA", {}),
    "gralora": ("GRALORA", {}),
    "hira": ("HIRA", {}),
    "ia3": ("IA3", {}),
    "loha": ("LOHA", {}),
    "lokr": ("LOKR", {}),
    "miss": ("MISS", {}),
    "vera": ("VERA", {}),
}
"""Methods by name: peft's type and what else its config needs.

Only methods of which a fresh adapter changes nothing, bit for bit: the policy must start as the prior.
"""
_INPUT_SCALED = ("down_proj", "fc2", "c_proj", "dense_4h_to_h")


@dataclass(frozen=True, slots=True)
class LoraShape:
    """Rank, scale (LoRA multiplies its update by ``alpha / rank``) and the projections that carry an adapter.

    ``method`` is one of `METHODS`; those without a rank or a scale leave it out. ``dropout`` is on what the adapters
    read while a reward model is trained, and off everywhere else. Of a vision-language model the language model carries
    adapters; with ``vision`` the rest, which looks at pictures, does too, where its projections have the same names.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ATTENTION
    method: str = "lora"
    dropout: float = 0.0
    vision: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UserError(f"method {self.method!r} is not known", f"choose from {', '.join(METHODS)}")
        if self.rank < 1:
            raise UserError(f"rank is {self.rank}", "give 1 or more")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout is {self.dropout}", "give a share in [0, 1)")


def _targets(shape: LoraShape, within: str) -> list[str] | str:
    """Return names for peft to match the ends of modules' names with, or a pattern for whole names."""
    if not within or shape.vision:
        return list(shape.targets)
    return rf"{re.escape(within)}\.(.*\.)?({'|'.join(map(re.escape, shape.targets))})"


def config_of(shape: LoraShape, path: Path, within: str = "") -> Any:
    """Return peft's own config of an adapter.

    Args:
        shape: Method, size and targets.
        path: Where its backbone lies.
        within: The only part of the model that is to carry it, by name; empty for all.
    """
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType

    peft_type, extra = METHODS[shape.method]
    kind: Any = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType[peft_type]]
    offered = {
        "r": shape.rank,
        "lora_alpha": shape.alpha,
        "alpha": shape.alpha,
        "lora_dropout": shape.dropout,
        "target_modules": _targets(shape, within),
        "feedforward_modules": [name for name in shape.targets if name in _INPUT_SCALED],
        "base_model_name_or_path": str(path),
    }
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in offered.items() if name in known}, **extra)
