"""Which adapter a backbone gets, peft's methods by name and their size; and putting adapters on models and in files."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from perl_eval.checks import at_least_one, between, positive
from perl_eval.errors import UserError
from perl_eval.models.trainable_norms import left_out, mean_of, norms_of, own_name, widen
from perl_eval.storage.hub_snapshot import name_of

__all__ = [
    "ALL_LINEAR",
    "ALL_PROJECTIONS",
    "ATTENTION",
    "METHODS",
    "PACKABLE",
    "LoraShape",
    "add_mean",
    "added",
    "added_to_weights",
    "bare_experts",
    "config_of",
    "dropout_on",
    "loaded",
    "method_of",
    "write_adapter",
]

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
"""The projections that PE-RLHF puts adapters on."""
ALL_PROJECTIONS = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
"""Attention and feed-forward projections of Llama-shaped models."""
ALL_LINEAR = ("all-linear",)
"""Every linear layer of the language model but its output layer, whatever its family calls them.

Experts that a family stacks into one tensor are no linear layers, and carry no adapter. Where peft takes names of dense
layers for such experts (``gate_proj``, ``up_proj`` and ``down_proj`` of DeepSeek-V3), those layers carry none either.
"""
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
PACKABLE = ("lora", "rslora")
"""Methods that read no weight of the backbone's, which may therefore be packed (`perl_eval.models.quantization`)."""
_WEIGHTS = "adapter_model.safetensors"
_OWN_PARTS = ("lora_", "vera_", "hira_", "delora_", "gralora_", "miss_", "modules_to_save")
_INPUT_SCALED = ("down_proj", "fc2", "c_proj", "dense_4h_to_h")


@dataclass(frozen=True, slots=True)
class LoraShape:
    """Rank, scale (LoRA multiplies its update by ``alpha / rank``) and the projections that carry an adapter.

    By default every linear layer has one, of rank 16 and alpha 32: attention alone learns less at any rank. Source:
    Schulman and others, "LoRA Without Regret" (2025).

    ``method`` is one of `METHODS`; those without a rank or a scale leave it out. ``dropout`` is on what the adapters
    read while a reward model is trained, and off everywhere else. With ``norms`` the model's norms are learned too, a
    copy for this adapter. Of a vision-language model the language model carries adapters; with ``vision`` the rest,
    which looks at pictures, does too, where its projections have the same names.
    """

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = ALL_LINEAR
    method: str = "lora"
    dropout: float = 0.0
    norms: bool = False
    vision: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UserError(f"method {self.method!r} is not known", f"choose from {', '.join(METHODS)}")
        at_least_one(self, "rank")
        positive(self, "alpha")
        between(0, 1, self, "dropout", ends="[)")


def named_targets(shape: LoraShape, model: Any, within: str = "") -> tuple[str, ...]:
    """Return the last parts of the names of the modules that carry an adapter.

    Args:
        shape: Its targets; `ALL_LINEAR` stands for the names of all linear layers of the language model.
        model: The backbone, plain or with other adapters.
        within: The part of it that is looked through, by name; empty for all.

    """
    if shape.targets != ALL_LINEAR:
        return shape.targets
    from transformers.pytorch_utils import Conv1D

    output = model.get_output_embeddings()
    if isinstance(base := getattr(output, "base_layer", None), nn.Module):
        output = base
    found, last = set(), ""
    for key, module in model.named_modules():
        name = own_name(f"{key}.").rstrip(".")
        if module is output:
            last = name.rpartition(".")[2]
        elif isinstance(module, nn.Linear | Conv1D) and not _of_adapter(key) and _lies_in(name, within):
            found.add(name.rpartition(".")[2])
    return tuple(sorted(_kept_by_peft(found - {last}, model)))


def _kept_by_peft(names: set[str], model: Any) -> set[str]:
    """Return the names that peft does not take for parts of stacked experts, whose rank it then sets by itself."""
    from peft import LoraConfig
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    config = LoraConfig(target_modules=sorted(names))
    convert_peft_config_for_transformers(config, model, None)
    return set(config.target_modules or ())


def bare_experts(model: Any) -> str:
    """Return in one line that a model's experts carry no adapter; empty if it has no stacked ones.

    Args:
        model: The backbone, plain or with adapters.
    """
    stacked = [one for key, one in model.named_parameters() if ".experts." in key and one.dim() == 3]
    if not stacked:
        return ""
    share = sum(one.numel() for one in stacked) / sum(one.numel() for one in model.parameters())
    return (
        f"the experts' {len(stacked)} stacked tensors, {share:.0%} of the weights, carry no adapter: "
        "adapters go on linear layers; full tuning trains all"
    )


def _lies_in(name: str, within: str) -> bool:
    return not within or f"{name}.".startswith(f"{within}.")


def _of_adapter(key: str) -> bool:
    """Return whether a module is an adapter's own, which lies under a name that its method gives it."""
    return any(part.startswith(_OWN_PARTS) for part in key.split("."))


def _targets(names: Sequence[str], within: str, *, everywhere: bool) -> list[str] | str:
    """Return names for peft to match the ends of modules' names with, or a pattern for whole names."""
    if not within or everywhere:
        return list(names)
    return rf"{re.escape(within)}\.(.*\.)?({'|'.join(map(re.escape, names))})"


def config_of(shape: LoraShape, model: nn.Module, path: Path, within: str = "") -> Any:
    """Return peft's own config of an adapter.

    Args:
        shape: Method, size and targets.
        model: Its backbone, plain or with other adapters.
        path: Where that lies.
        within: The only part of the model that is to carry it, by name; empty for all.

    Raises:
        UserError: Norms are wanted, and the model has none.
    """
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType

    peft_type, extra = METHODS[shape.method]
    kind: Any = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType[peft_type]]
    targets = named_targets(shape, model, within)
    offered = {
        "r": shape.rank,
        "lora_alpha": shape.alpha,
        "alpha": shape.alpha,
        "lora_dropout": shape.dropout,
        "target_modules": _targets(targets, within, everywhere=shape.vision),
        "feedforward_modules": [name for name in targets if name in _INPUT_SCALED],
        "base_model_name_or_path": str(path),
        "modules_to_save": norms_of(model, "" if shape.vision else within) if shape.norms else None,
    }
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in offered.items() if name in known}, **extra)


def added(model: Any, name: str, config: Any) -> Any:
    """Put a fresh adapter on a model and return peft's model of it; it changes nothing until trained.

    Args:
        model: A plain model, or what this returned for it before.
        name: The adapter's name.
        config: See `config_of`.

    Raises:
        UserError: The model has none of the targets, or carries adapters of another kind.
    """
    from peft import PeftModel, get_peft_model

    with _quiet_peft():
        try:
            if isinstance(model, PeftModel):
                model.add_adapter(name, config)
            else:
                model = get_peft_model(model, config, adapter_name=name)
        except ValueError as error:
            place = config.base_model_name_or_path
            raise UserError(f"cannot put an adapter on {place}: {error}", "name projections it has") from None
    widen(model, name)
    model.eval()  # a new adapter's dropout comes switched on
    return model


def loaded(model: Any, name: str, folder: Path) -> Any:
    """Load a saved adapter onto a model and return peft's model of it.

    Args:
        model: A plain model, or peft's model of it.
        name: What the adapter is to be called.
        folder: Where it was saved.

    Raises:
        UserError: The model carries adapters of another kind, or the folder has no safetensors.
    """
    from peft import PeftModel, load_peft_weights, set_peft_model_state_dict

    if not (Path(folder) / _WEIGHTS).is_file():  # else peft takes a pickle
        raise UserError(f"the adapter at {folder} has no {_WEIGHTS}", "finish training it, or convert its weights")

    device = str(model.device)
    with _quiet_peft():
        try:
            if isinstance(model, PeftModel):
                model.load_adapter(folder, adapter_name=name, torch_device=device)
            else:
                model = PeftModel.from_pretrained(model, folder, adapter_name=name, torch_device=device)
        except ValueError as error:
            raise UserError(f"cannot put {folder} on the model: {error}", "use one method for all") from None
    if model.peft_config[name].modules_to_save:  # peft has read them into the model's own precision
        widen(model, name)
        set_peft_model_state_dict(model, load_peft_weights(str(folder), device=device), adapter_name=name)
    model.eval()
    return model


def write_adapter(model: Any, name: str, folder: Path, path: Path) -> None:
    """Write an adapter in the layout that plain peft loads.

    Args:
        model: Peft's model.
        name: The adapter's name.
        folder: Where to; it exists.
        path: Where the backbone lies, which the adapter remembers.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    with _quiet_peft():
        state = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    weights = {key: tensor.contiguous().cpu() for key, tensor in state.items()}
    save_file(weights, folder / _WEIGHTS)
    config = model.peft_config[name]
    name_on_hub, _, commit = name_of(path).partition("@")
    config.base_model_name_or_path = name_on_hub or str(path)
    if commit:
        config.revision = commit
    config.save_pretrained(folder)


def added_to_weights(model: Any, name: str) -> Any:
    """Add an adapter to the weights and return the plain model; peft's is used up."""
    model.base_model.set_adapter(name)  # its norms stay
    with _quiet_peft():
        return model.merge_and_unload(adapter_names=[name])


def add_mean(model: Any, names: Sequence[str], name: str) -> None:
    """Make an adapter that adds the mean of what others add.

    Raises:
        UserError: One of them is not plain LoRA.
    """
    if any(_method(model.peft_config[one]) not in ("lora", "rslora") for one in names):
        raise UserError("only plain LoRA adapters can be averaged", "train the members with method lora")
    with _quiet_peft(), left_out(model, names):
        model.add_weighted_adapter(list(names), [1 / len(names)] * len(names), name, combination_type="cat")
    mean_of(model, names, name)


@contextlib.contextmanager
def dropout_on(model: nn.Module, seed: int, device: torch.device) -> Iterator[None]:
    """Switch the adapters' dropout on, drawn from a seed; everything else stays as it is."""
    layers = [
        layer
        for name, module in model.named_modules()
        if name.endswith("lora_dropout")
        for layer in module.modules()
        if isinstance(layer, nn.Dropout)
    ]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for layer in layers:
            layer.train()
        try:
            yield
        finally:
            for layer in layers:
                layer.eval()


def method_of(folder: Path) -> str:
    """Return the name of the method of a saved adapter."""
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    return _method(SimpleNamespace(**config))


def _method(config: Any) -> str:
    """Return the name that a peft config goes by here."""
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    named = {
        name
        for name, (peft_type, extra) in METHODS.items()
        if peft_type == kind and all(getattr(config, key, None) == value for key, value in extra.items())
    }
    return max(named, key=lambda name: len(METHODS[name][1]), default=kind.lower())


@contextlib.contextmanager
def _quiet_peft() -> Iterator[None]:
    """Keep quiet about what no user can do anything about: peft's use of a renamed attribute, and what it mends."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to", UserWarning)  # GPT-2 stores its matrices turned
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        # an adapter on tied embeddings is merged into an output layer of its own, `perl_eval.models.tied_embeddings`
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True` and a tied layer", UserWarning)
        warnings.filterwarnings("ignore", "Input and output embeddings are no longer tied", UserWarning)
        # beside a GGUF file there is none; the vocabulary is never changed here
        warnings.filterwarnings("ignore", "Could not find a config file in", UserWarning)
        yield
