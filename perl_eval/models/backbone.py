"""One frozen backbone in memory, with named LoRA adapters and scalar heads on it.

The prior is the backbone with its adapters off. Policy, value and reward are adapters by name; none has a copy of the
weights. Source: PE-RLHF (arXiv 2403.10704), section 3.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from perl_eval.errors import DataError, UserError
from perl_eval.models.encode import PaddedBatch, end_of_turn

__all__ = ["ALL_PROJECTIONS", "ATTENTION", "Backbone", "LoraShape", "is_adapter", "open_backbone"]

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
"""The projections that PE-RLHF puts adapters on."""
ALL_PROJECTIONS = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
"""Attention and feed-forward projections of Llama-shaped models."""
_HEAD = "head.safetensors"
_BASE = "base.json"


@dataclass(frozen=True, slots=True)
class LoraShape:
    """Rank, scale (``alpha / rank`` multiplies the update) and the projections that carry an adapter."""

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ATTENTION


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter rather than a whole model."""
    return (Path(folder) / "adapter_config.json").is_file()


def open_backbone(path: Path) -> Backbone:
    """Load a whole model as a frozen backbone; an adapter folder loads the backbone it was trained on.

    Raises:
        UserError: There is no model at that path, or it has no safetensors weights.
        DataError: An adapter's backbone has changed since the adapter was trained.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    path = Path(path)
    if is_adapter(path):
        saved = _base_of(path)
        backbone = open_backbone(Path(saved["path"]))
        if backbone.sha256 != saved["sha256"]:
            raise DataError("is not the backbone that the adapter was trained on", file=saved["path"], fix="restore it")
        return backbone
    if not (path / "config.json").is_file():
        raise UserError(f"no model at {path}", "give a folder with config.json, or an adapter's folder")
    if not list(path.glob("*.safetensors")):
        raise UserError(f"the model at {path} has no safetensors weights", "finish training it, or convert its weights")
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    return Backbone(model, tokenizer, path)


def _base_of(folder: Path) -> Mapping[str, str]:
    try:
        saved = json.loads((folder / _BASE).read_text("utf-8"))
        return {"path": str(saved["path"]), "sha256": str(saved["sha256"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"does not name the adapter's backbone ({error})", file=folder / _BASE) from None


class Backbone:
    """A causal language model whose own weights are frozen, with adapters and heads by name.

    Args:
        model: A ``transformers`` causal language model.
        tokenizer: Its tokenizer, with distinct pad and end tokens.
        path: Where it was loaded from; adapters remember it.

    Attributes:
        heads: Scalar heads by adapter name, each (width -> 1) in float32.
    """

    def __init__(self, model: Any, tokenizer: Any, path: Path) -> None:
        end_of_turn(tokenizer)
        model.requires_grad_(False)
        model.eval()
        self.tokenizer = tokenizer
        self.path = Path(path)
        self.heads: dict[str, nn.Linear] = {}
        self.causal = model
        self.sha256 = self.weights_sha256()
        self._peft: Any = None
        self._trained: list[nn.Parameter] = []

    @property
    def width(self) -> int:
        """Hidden size."""
        return int(self.causal.config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.causal.device
        return device

    @property
    def pad_id(self) -> int:
        """Padding token id."""
        return int(self.tokenizer.pad_token_id)

    @property
    def end_id(self) -> int:
        """Id that ends a turn."""
        return int(self.tokenizer.eos_token_id)

    def weights_sha256(self) -> str:
        """Return the sha256 over the backbone's own weights, adapters left out, in name order."""
        state = hashlib.sha256()
        for name, tensor in sorted(self.causal.state_dict().items()):
            if "lora_" not in name:
                state.update(name.replace(".base_layer.", ".").encode())
                state.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return state.hexdigest()

    def attach(self, name: str, shape: LoraShape, *, seed: int, head: bool = False) -> None:
        """Put a fresh adapter on the backbone; it changes nothing until trained (B starts at zero).

        Args:
            name: The adapter's name.
            shape: Rank, scale and targets.
            seed: Seeds A and the head.
            head: Also make a scalar head, initialised N(0, 1 / (width + 1)).

        Raises:
            UserError: The backbone has none of the target projections.
        """
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=shape.rank,
            lora_alpha=shape.alpha,  # type: ignore[arg-type]  # peft says int, and takes any number
            target_modules=list(shape.targets),
            lora_dropout=0.0,
            base_model_name_or_path=str(self.path),
        )
        with torch.random.fork_rng(devices=[]), _quiet_peft():
            torch.manual_seed(seed)
            try:
                if self._peft is None:
                    self._peft = get_peft_model(self.causal, config, adapter_name=name)
                else:
                    self._peft.add_adapter(name, config)
            except ValueError as error:
                raise UserError(f"cannot put an adapter on {self.path}: {error}", "name projections it has") from None
            if head:
                self.heads[name] = _new_head(self.width)
        self._freeze()

    def attach_head(self, name: str) -> None:
        """Make a scalar head that starts at zero, without an adapter of its own."""
        head = _new_head(self.width)
        nn.init.zeros_(head.weight)
        self.heads[name] = head

    def attach_saved(self, name: str, folder: Path) -> None:
        """Load a saved adapter, with its head if it has one, under a name.

        Raises:
            UserError: The folder has no adapter.
            DataError: The adapter was trained on another backbone.
        """
        from safetensors.torch import load_file

        if not is_adapter(folder):
            raise UserError(f"no adapter at {folder}", "give the output folder of `train reward` or `train policy`")
        if _base_of(folder)["sha256"] != self.sha256:
            raise DataError(
                f"was trained on another backbone than {self.path}",
                file=folder,
                fix="train it on this one: policy, reward and prior share one backbone",
            )
        with _quiet_peft():
            if self._peft is None:
                from peft import PeftModel

                self._peft = PeftModel.from_pretrained(self.causal, folder, adapter_name=name)
            else:
                self._peft.load_adapter(folder, adapter_name=name)
        if (folder / _HEAD).is_file():
            head = _new_head(self.width)
            head.load_state_dict(load_file(folder / _HEAD))
            self.heads[name] = head
        self._freeze()

    def save(self, name: str, folder: Path) -> None:
        """Write an adapter in the layout that plain peft loads, its head, and which backbone it belongs to."""
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        state = get_peft_model_state_dict(self._peft, adapter_name=name)
        save_file(
            {key: tensor.contiguous().cpu() for key, tensor in state.items()}, folder / "adapter_model.safetensors"
        )
        config = self._peft.peft_config[name]
        config.base_model_name_or_path = str(self.path)
        config.save_pretrained(folder)
        if name in self.heads:
            save_file(self.heads[name].state_dict(), folder / _HEAD)
        base = {"path": str(self.path), "sha256": self.sha256}
        (folder / _BASE).write_text(json.dumps(base, indent=1) + "\n", "utf-8")

    def _freeze(self) -> None:
        """Undo what peft switched on by loading or switching: only what `train_only` named takes gradients."""
        for parameter in self._peft.parameters():
            parameter.requires_grad_(False)
        for parameter in self._trained:
            parameter.requires_grad_(True)

    def train_only(self, *names: str) -> None:
        """Let the named adapters and heads, and nothing else, take gradients."""
        for head in self.heads.values():
            head.requires_grad_(False)
        self._trained = [parameter for name in names for parameter in self.parameters_of(name).values()]
        self._freeze()

    def parameters_of(self, name: str) -> dict[str, nn.Parameter]:
        """Return the parameters that training this adapter moves: its own and its head's, by name."""
        found = {
            key: parameter
            for key, parameter in (self._peft.named_parameters() if self._peft is not None else ())
            if f".{name}." in key and "lora_" in key
        }
        if name in self.heads:
            found |= {f"head.{name}.{key}": parameter for key, parameter in self.heads[name].named_parameters()}
        return found

    @contextlib.contextmanager
    def adapter(self, name: str | None) -> Iterator[None]:
        """Compute with one adapter on, or with none (None: the prior). Contexts do not nest."""
        if self._peft is None:
            if name is not None:
                raise KeyError(name)
            yield
            return
        tuner = self._peft.base_model
        if name is not None:
            tuner.set_adapter(name)
            self._freeze()
            yield
            return
        tuner.disable_adapter_layers()
        try:
            yield
        finally:
            tuner.enable_adapter_layers()
            self._freeze()

    def hidden(self, batch: PaddedBatch) -> torch.Tensor:
        """Return the last hidden states, (batch, length, width), with whatever adapter is on."""
        states: torch.Tensor = self.causal.get_decoder()(
            input_ids=batch.ids.to(self.device),
            attention_mask=batch.live.long().to(self.device),
            position_ids=batch.positions.to(self.device),
            use_cache=False,
        ).last_hidden_state
        return states

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return next-token logits in float32, (..., vocabulary)."""
        logits: torch.Tensor = self.causal.get_output_embeddings()(hidden)
        return logits.float()

    def scalars(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        """Return the named head's output in float32, one scalar a position."""
        result: torch.Tensor = self.heads[name](hidden.float()).squeeze(-1)
        return result

    def counts(self, name: str) -> dict[str, int | float]:
        """Return how many parameters are resident, how many the named adapter trains, and the share."""
        total = sum(parameter.numel() for parameter in self.causal.parameters())
        total += sum(parameter.numel() for head in self.heads.values() for parameter in head.parameters())
        trained = sum(parameter.numel() for parameter in self.parameters_of(name).values())
        return {"parameters": total, "trained": trained, "trained share": trained / total}


@contextlib.contextmanager
def _quiet_peft() -> Iterator[None]:
    """Keep quiet that peft reads an attribute which transformers has renamed: no user can do anything about it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def _new_head(width: int) -> nn.Linear:
    head = nn.Linear(width, 1)
    nn.init.normal_(head.weight, std=1.0 / math.sqrt(width + 1))
    nn.init.zeros_(head.bias)
    return head
