"""One frozen backbone in memory, with named adapters and scalar heads on it.

The prior is the backbone with its adapters off. Policy, value and reward are adapters by name; none has a copy of the
weights. Source: PE-RLHF (arXiv 2403.10704), section 3. Full tuning, the comparison, trains a backbone's own weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from perl_eval import remote
from perl_eval.errors import DataError, UserError
from perl_eval.models.adapters import ALL_PROJECTIONS, ATTENTION, METHODS, LoraShape, config_of
from perl_eval.models.encode import PaddedBatch, end_of_turn
from perl_eval.models.families import end_ids, logit_shape, recomputing_layers
from perl_eval.models.folders import BASE, HEAD, base_of, is_adapter
from perl_eval.models.placement import Placement
from perl_eval.models.vision import Vision, is_vision, open_vision

__all__ = ["ALL_PROJECTIONS", "ATTENTION", "NEVER", "Backbone", "LoraShape", "open_backbone"]

NEVER = -1e6
"""A logit whose probability is exactly 0 in float32; finite, so that no gradient turns into a number that is none."""


def open_backbone(path: Path, placement: Placement | None = None, *, frozen: bool = True) -> Backbone:
    """Load a whole model as a backbone; an adapter folder loads the backbone it was trained on.

    Args:
        path: A model's folder, or an adapter's.
        placement: Device and precision; by default float32 on the GPU if there is one, else on the CPU.
        frozen: Whether its own weights stay as they are; those of a model to be trained are held in float32.

    Raises:
        UserError: There is no model at that path, or it has no safetensors weights.
        DataError: An adapter's backbone has changed since the adapter was trained.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    path, placement = Path(path), placement or Placement()
    if is_adapter(path):
        saved = base_of(path)
        backbone = open_backbone(Path(saved["path"]), placement, frozen=frozen)
        if backbone.sha256 != saved["sha256"]:
            raise DataError("is not the backbone that the adapter was trained on", file=saved["path"], fix="restore it")
        return backbone
    if not (path / "config.json").is_file():
        raise UserError(f"no model at {path}", "give a folder with config.json, or an adapter's folder")
    if not list(path.glob("*.safetensors")):
        raise UserError(f"the model at {path} has no safetensors weights", "finish training it, or convert its weights")
    if is_vision(AutoConfig.from_pretrained(path)):
        model, processor = open_vision(path)
        return Backbone(model, processor, path, placement, frozen=frozen)
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype="auto")
    return Backbone(model, tokenizer, path, placement, frozen=frozen)


class Backbone:
    """A causal language model with adapters and heads by name; None names the backbone's own weights.

    Args:
        model: A ``transformers`` causal language model, or a vision-language model.
        tokenizer: Its tokenizer, with distinct pad and end tokens; of a vision-language model its processor.
        path: Where it was loaded from; adapters remember it.
        placement: Device and precision.
        frozen: Whether its own weights may lie in a narrower type than float32.

    Attributes:
        heads: Scalar heads by adapter name, each (width -> 1) in float32.
        sha256: Of the weights as loaded, whatever they are held in now.
        end_ids: Every id that ends a sample; the first is the tokenizer's, which ends a turn in training.
        logit_factor: What the model multiplies its logits by.
        logit_cap: The bound of a soft cap on the logits; 0 for none.
        vision: What pictures go through; None if the model reads text only.
        processor: What dialogues are encoded with: ``vision``, or the tokenizer.
        unsaid: Ids that are never sampled, and have no probability: those that stand for pictures.
    """

    def __init__(
        self, model: Any, tokenizer: Any, path: Path, placement: Placement | None = None, *, frozen: bool = True
    ) -> None:
        self.vision = None
        if hasattr(tokenizer, "image_processor"):
            self.vision = Vision(tokenizer, getattr(model.config, "image_token_id", None))
        self.tokenizer = self.vision.tokenizer if self.vision else tokenizer
        self.processor: Any = self.vision or tokenizer
        self.unsaid = self.vision.unsaid if self.vision else ()
        end_of_turn(self.tokenizer)
        self.placement = placement or Placement(device="cpu")
        self.path = Path(path)
        self.heads: dict[str, nn.Linear] = {}
        self.causal = model
        self._own = frozenset(model.state_dict())
        self._peft: Any = None
        self._trained: list[nn.Parameter] = []
        self.sha256 = self.weights_sha256()
        model.to(device=self.placement.resolve(), dtype=self.placement.storage if frozen else torch.float32)
        model.requires_grad_(False)
        model.eval()
        self.end_ids = end_ids(model, self.tokenizer)
        self.logit_factor, self.logit_cap = logit_shape(model.config.get_text_config())
        self._layers = recomputing_layers(model) if self.placement.checkpointing else []

    @property
    def width(self) -> int:
        """Hidden size."""
        return int(self.causal.config.get_text_config().hidden_size)

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
        return self.end_ids[0]

    @property
    def output_layer(self) -> nn.Linear:
        """The layer from hidden states to logits."""
        layer: nn.Linear = self.causal.get_output_embeddings()
        return layer

    def weights_sha256(self) -> str:
        """Return the sha256 over the backbone's own weights as float32, adapters left out, in name order.

        A bfloat16 checkpoint has the same sum in either precision: widening is exact.
        """
        state = hashlib.sha256()
        for name, tensor in sorted(self.causal.state_dict().items()):
            plain = name.replace(".base_layer.", ".")
            if plain in self._own:
                own = tensor.detach().cpu()
                own = own.float() if own.is_floating_point() else own
                state.update(plain.encode())
                state.update(own.contiguous().view(torch.uint8).numpy().tobytes())
        return state.hexdigest()

    def attach(self, name: str, shape: LoraShape, *, seed: int, head: bool = False) -> None:
        """Put a fresh adapter on the backbone; it changes nothing until trained (LoRA's B starts at zero).

        Args:
            name: The adapter's name.
            shape: Method, rank, scale and targets.
            seed: Seeds A and the head.
            head: Also make a scalar head, initialised N(0, 1 / (width + 1)).

        Raises:
            UserError: The backbone has none of the target projections, one is its output layer, which log-probabilities
                are read through, or it carries adapters of another kind.
        """
        from peft import get_peft_model

        output = next(key for key, module in self.causal.named_modules() if module is self.output_layer)
        if output.rpartition(".")[2] in shape.targets:
            raise UserError(f"{output} of {self.path} is the output layer", "leave it out of the targets")
        config = config_of(shape, self.path, self._language_part() if self.vision else "")
        with torch.random.fork_rng(devices=[]), _quiet_peft():
            torch.manual_seed(seed)
            try:
                if self._peft is None:
                    self._peft = get_peft_model(self.causal, config, adapter_name=name)
                else:
                    self._peft.add_adapter(name, config)
            except ValueError as error:
                raise UserError(f"cannot put an adapter on {self.path}: {error}", "name projections it has") from None
            self.causal.eval()  # a new adapter's dropout comes switched on
            if head:
                self._add_head(name, _new_head(self.width))
        self._freeze()

    def attach_head(self, name: str, *, seed: int | None = None) -> None:
        """Make a scalar head without an adapter of its own: at zero, or with a seed as `attach` makes it."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed or 0)
            head = _new_head(self.width)
        if seed is None:
            nn.init.zeros_(head.weight)
        self._add_head(name, head)

    def _add_head(self, name: str, head: nn.Linear) -> None:
        self.heads[name] = head.to(self.device).requires_grad_(False)

    def load_head(self, name: str, folder: Path) -> None:
        """Read a saved head.

        Raises:
            DataError: The folder has none of this width.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        head = _new_head(self.width)
        try:
            head.load_state_dict(load_file(folder / HEAD))
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"is no scalar head of this model ({reason})", file=folder / HEAD) from None
        self._add_head(name, head)

    def attach_saved(self, name: str, folder: Path) -> None:
        """Load a saved adapter, with its head if it has one, under a name.

        Raises:
            UserError: The folder has no adapter, or one of another kind than those that are there.
            DataError: The adapter was trained on another backbone.
        """
        if not is_adapter(folder):
            raise UserError(f"no adapter at {folder}", "give the output folder of `train reward` or `train policy`")
        if base_of(folder)["sha256"] != self.sha256:
            raise DataError(
                f"was trained on another backbone than {self.path}",
                file=folder,
                fix="train it on this one: policy, reward and prior share one backbone",
            )
        device = str(self.device)
        with _quiet_peft():
            try:
                if self._peft is None:
                    from peft import PeftModel

                    self._peft = PeftModel.from_pretrained(self.causal, folder, adapter_name=name, torch_device=device)
                else:
                    self._peft.load_adapter(folder, adapter_name=name, torch_device=device)
            except ValueError as error:
                raise UserError(f"cannot put {folder} on {self.path}: {error}", "use one method for all") from None
        self.causal.eval()
        if (folder / HEAD).is_file():
            self.load_head(name, folder)
        self._freeze()

    def save(self, name: str | None, folder: Path) -> None:
        """Write an adapter in the layout that plain peft loads, its head, and which backbone it belongs to.

        For None the whole model is written, as plain transformers loads it, and what it was trained from.
        """
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        if name is None:
            self.causal.save_pretrained(folder, safe_serialization=True)
            self.processor.save_pretrained(folder)
        else:
            state = get_peft_model_state_dict(self._peft, adapter_name=name)
            save_file(
                {key: tensor.contiguous().cpu() for key, tensor in state.items()}, folder / "adapter_model.safetensors"
            )
            config = self._peft.peft_config[name]
            config.base_model_name_or_path = str(self.path)
            config.save_pretrained(folder)
            self.save_head(name, folder)
        base = {"path": remote.shown(self.path), "sha256": self.sha256}
        (folder / BASE).write_text(json.dumps(base, indent=1) + "\n", "utf-8")

    def merge(self, name: str) -> Any:
        """Add an adapter to the weights and return the plain model; the backbone is used up."""
        return self._peft.merge_and_unload(adapter_names=[name])

    def average(self, names: Sequence[str], name: str) -> None:
        """Make an adapter that adds the mean of what others add, with a head at zero.

        Raises:
            UserError: One of them is not plain LoRA.
        """
        if any(_method(self._peft.peft_config[one]) not in ("lora", "rslora") for one in names):
            raise UserError("only plain LoRA adapters can be averaged", "train the members with method lora")
        with _quiet_peft():
            self._peft.add_weighted_adapter(list(names), [1 / len(names)] * len(names), name, combination_type="cat")
        self.attach_head(name)
        self._freeze()

    def save_head(self, name: str, folder: Path) -> None:
        """Write a head, if there is one of that name."""
        from safetensors.torch import save_file

        if name in self.heads:
            save_file({key: value.cpu() for key, value in self.heads[name].state_dict().items()}, folder / HEAD)

    def _freeze(self) -> None:
        """Undo what peft switched on by loading or switching: only what `train_only` named takes gradients."""
        for parameter in self.causal.parameters():
            parameter.requires_grad_(False)
        for parameter in self._trained:
            parameter.requires_grad_(True)

    def train_only(self, *names: str | None) -> None:
        """Let the named adapters and heads, and nothing else, take gradients; None is the backbone's own weights."""
        for head in self.heads.values():
            head.requires_grad_(False)
        self._trained = [parameter for name in names for parameter in self.parameters_of(name).values()]
        self._freeze()

    def parameters_of(self, name: str | None) -> dict[str, nn.Parameter]:
        """Return the parameters that training this adapter moves, its own and its head's, by name.

        For None these are the backbone's own weights.
        """
        named = {key.replace(".base_layer.", "."): parameter for key, parameter in self.causal.named_parameters()}
        if name is None:
            return {key: parameter for key, parameter in named.items() if key in self._own}
        # peft ends a parameter's name with the adapter's, or puts it before the last part
        found = {
            key: parameter for key, parameter in named.items() if key not in self._own and name in key.split(".")[-2:]
        }
        if name in self.heads:
            found |= {f"head.{name}.{key}": parameter for key, parameter in self.heads[name].named_parameters()}
        return found

    @contextlib.contextmanager
    def adapter(self, name: str | None) -> Iterator[None]:
        """Compute with one adapter on, or with none (None: the prior). Contexts do not nest.

        With checkpointing the way back belongs into the same context: layers are computed anew there.
        """
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

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Compute products in bfloat16 if the placement says so."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.placement.dtype == "bf16")

    @contextlib.contextmanager
    def dropping(self, seed: int) -> Iterator[None]:
        """Switch the adapters' dropout on, drawn from a seed; everything else stays as it is."""
        layers = [
            layer
            for name, module in self.causal.named_modules()
            if name.endswith("lora_dropout")
            for layer in module.modules()
            if isinstance(layer, nn.Dropout)
        ]
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            for layer in layers:
                layer.train()
            try:
                yield
            finally:
                for layer in layers:
                    layer.eval()

    def hidden(self, batch: PaddedBatch) -> torch.Tensor:
        """Return the last hidden states, (batch, length, width), with whatever adapter is on."""
        learns = torch.is_grad_enabled()
        for layer in self._layers:
            layer.training = learns  # the layer's own flag asks for recomputing; dropout inside looks at its own
        seen, positions = self.seen(batch)
        with self.autocast():
            states: torch.Tensor = (self.causal.base_model if self.vision else self.causal.get_decoder())(
                input_ids=batch.ids.to(self.device),
                attention_mask=batch.live.long().to(self.device),
                position_ids=positions,
                use_cache=False,
                **seen,
            ).last_hidden_state
        return states

    def seen(self, batch: PaddedBatch) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Return what the model takes for the pictures of a batch, and position ids.

        Positions are (batch, length), or (axes, batch, length) where the model gives pictures positions in space.
        """
        if self.vision is None or not batch.pictures:
            return {}, batch.positions.to(self.device)
        tensors, positions = self.vision.inputs(self.causal, batch.ids, batch.live, batch.pictures)
        placed = {name: tensor.to(self.device) for name, tensor in tensors.items()}
        return placed, (batch.positions if positions is None else positions).to(self.device)

    def silenced(self, logits: torch.Tensor) -> torch.Tensor:
        """Return logits, (..., vocabulary), in which what is never said is impossible; they are changed in place."""
        if self.unsaid:
            logits[..., self.unsaid] = NEVER
        return logits

    def _language_part(self) -> str:
        """Return the name of the language model within a vision-language model."""
        decoder = self.causal.get_decoder()
        return next(str(name) for name, module in self.causal.named_modules() if module is decoder)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return next-token logits in float32, (..., vocabulary)."""
        with self.autocast():
            logits: torch.Tensor = self.output_layer(hidden).float() * self.logit_factor
        return self.silenced(torch.tanh(logits / self.logit_cap) * self.logit_cap if self.logit_cap else logits)

    def scalars(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        """Return the named head's output in float32, one scalar a position."""
        result: torch.Tensor = self.heads[name](hidden.float()).squeeze(-1)
        return result

    def counts(self, *names: str | None) -> dict[str, int | float]:
        """Return how many parameters are resident, how many training the named ones moves, and the share."""
        total = sum(parameter.numel() for parameter in self.causal.parameters())
        total += sum(parameter.numel() for head in self.heads.values() for parameter in head.parameters())
        trained = sum(parameter.numel() for name in names for parameter in self.parameters_of(name).values())
        return {"parameters": total, "trained": trained, "trained share": trained / total}

    def resident_bytes(self) -> int:
        """Return the bytes of all weights in memory: own, adapters and heads."""
        parameters = [*self.causal.parameters(), *(p for head in self.heads.values() for p in head.parameters())]
        return sum(parameter.numel() * parameter.element_size() for parameter in parameters)


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
    """Keep quiet about what no user can do anything about: peft's use of a renamed attribute, and its own advice."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def _new_head(width: int) -> nn.Linear:
    head = nn.Linear(width, 1)
    nn.init.normal_(head.weight, std=1.0 / math.sqrt(width + 1))
    nn.init.zeros_(head.bias)
    return head
