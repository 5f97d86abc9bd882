"""One frozen backbone in memory, with named adapters and scalar heads on it.

The prior is the backbone with its adapters off. Policy, value and reward are adapters by name; none has a copy of the
weights. Source: PE-RLHF (arXiv 2403.10704), section 3. Full tuning, the comparison, trains a backbone's own weights.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from perl_eval.errors import DataError, UserError
from perl_eval.models.adapters import (
    ALL_LINEAR,
    ALL_PROJECTIONS,
    ATTENTION,
    PACKABLE,
    LoraShape,
    add_mean,
    added,
    added_to_weights,
    bare_experts,
    config_of,
    dropout_on,
    loaded,
    method_of,
    write_adapter,
)
from perl_eval.models.allocator import give_back_large_blocks
from perl_eval.models.checkpoint_folder import (
    base_of,
    has_head,
    is_adapter,
    new_head,
    sha256_of,
    write_base,
    written,
)
from perl_eval.models.device import Placement
from perl_eval.models.families import end_ids, logit_shape, recomputing, recomputing_layers
from perl_eval.models.model_source import located
from perl_eval.models.pretrained import open_pretrained
from perl_eval.models.quantization import hush, parameter_count, quantize, refuse_full, refuse_missing, resident_bytes
from perl_eval.models.scalar_heads import ScalarHeads
from perl_eval.models.shared_prefix import can_share, obeys_masks, shared
from perl_eval.models.tied_embeddings import is_adapted, part
from perl_eval.models.tokenize import PaddedBatch, own_pad
from perl_eval.models.trainable_norms import own_name
from perl_eval.models.vision import Vision
from perl_eval.storage.progress import tell

__all__ = ["ALL_LINEAR", "ALL_PROJECTIONS", "ATTENTION", "NEVER", "Backbone", "LoraShape", "open_backbone"]

NEVER = -1e6
"""A logit whose probability is exactly 0 in float32; finite, so that no gradient turns into a number that is none."""


def open_backbone(
    path: Path, placement: Placement | None = None, *, frozen: bool = True, chat_template: Path | None = None
) -> Backbone:
    """Load a whole model as a backbone; an adapter folder loads the backbone it was trained on.

    Args:
        path: A model's folder, or an adapter's; a GGUF file; or what `perl_eval.models.model_source` takes.
        placement: Device and precision; by default float32 on the GPU if there is one, else on the CPU.
        frozen: Whether its own weights stay as they are; those of a model to be trained are held in float32.
        chat_template: File with a chat template in place of the tokenizer's own.

    Raises:
        UserError: There is no model at that path, it has no safetensors weights, or needs code of its own.
        DataError: An adapter's backbone has changed since the adapter was trained.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    hush()
    give_back_large_blocks()
    path, placement = located(path), placement or Placement()
    if placement.quantize:
        refuse_missing()
    if is_adapter(path):
        return _under_adapter(path, placement, frozen=frozen, chat_template=chat_template)
    model, reader = open_pretrained(path, chat_template=chat_template)
    return Backbone(model, reader, path, placement, frozen=frozen)


def _under_adapter(folder: Path, placement: Placement, *, frozen: bool, chat_template: Path | None) -> Backbone:
    """Load the backbone of an adapter: of the places where it may be, the first that holds the one it was trained on.

    Raises:
        UserError: There is no model at any of them.
        DataError: There are others only.
    """
    base = base_of(folder)
    for path in base.places:
        backbone = open_backbone(path, placement, frozen=frozen, chat_template=chat_template)
        if base.sha256 in ("", backbone.sha256):
            return backbone
    raise DataError("is not the backbone that the adapter was trained on", file=base.path, fix="restore it")


class Backbone:
    """A causal language model with adapters and heads by name; None names the backbone's own weights.

    Args:
        model: A ``transformers`` causal language model, or a vision-language model.
        tokenizer: Its tokenizer, which gets a pad token of its own; of a vision-language model its processor.
        path: Where it was loaded from; adapters remember it.
        placement: Device and precision.
        frozen: Whether its own weights may lie in a narrower type than float32, or in 4 bits.

    Attributes:
        heads: Scalar heads by adapter name.
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
        own_pad(self.tokenizer, model.config.get_text_config())
        self.placement = placement or Placement(device="cpu")
        self.path = Path(path)
        self.causal = model
        self._own = frozenset(model.state_dict())
        self._peft: Any = None
        self._wide = False
        self._trained: list[nn.Parameter] = []
        self.sha256 = self.weights_sha256()
        if self.placement.quantize:
            refuse_full(self.placement, full=not frozen)
            quantize(model, self.placement.resolve(), self.placement.storage)
            self._own = frozenset(model.state_dict())
        model.to(device=self.placement.resolve(), dtype=self.placement.storage if frozen else torch.float32)
        model.requires_grad_(False)
        model.eval()
        self.heads = ScalarHeads(self.width, self.device)
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
        named = {own_name(key): tensor for key, tensor in self.causal.state_dict().items()}
        return sha256_of({key: tensor for key, tensor in named.items() if key in self._own})

    def attach(self, name: str, shape: LoraShape, *, seed: int, head: int = 0) -> None:
        """Put a fresh adapter on the backbone; it changes nothing until trained (LoRA's B starts at zero).

        Args:
            name: The adapter's name.
            shape: Method, rank, scale and targets.
            seed: Seeds A and the head.
            head: How many states a scalar head reads side by side, made by `new_head`; 0 for no head.

        Raises:
            UserError: The backbone has none of the targets, one is its output layer, which log-probabilities are read
                through, or it carries adapters of another kind.
        """
        output = self._name_of(self.output_layer)
        if output.rpartition(".")[2] in shape.targets:
            raise UserError(f"{output} of {self.path} is the output layer", "leave it out of the targets")
        if self.placement.quantize and shape.method not in PACKABLE:
            what = f"method {shape.method} reads the weights that --quantize nf4 packs"
            raise UserError(what, f"choose from {', '.join(PACKABLE)}")
        within = self._name_of(self.causal.get_decoder()) if self.vision else ""
        if self._peft is None:
            tell(bare_experts(self.causal))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._peft = added(self._peft or self.causal, name, config_of(shape, self.causal, self.path, within))
            self._cast_once()
            if head:
                self.heads.put(name, new_head(head * self.width))
        self._freeze()

    def _cast_once(self) -> None:
        """Leave the inputs of adapters to autocast, where it is on: peft would hold a wider copy of each beside them.

        The products are the same to the last bit, but for DoRA, which keeps its casts. The flag is what peft's
        ``disable_input_dtype_casting`` sets; it has to hold on the way back too, where layers may be computed anew.
        """
        from peft.tuners.tuners_utils import BaseTunerLayer

        layers: list[Any] = [one for one in self.causal.modules() if isinstance(one, BaseTunerLayer)]
        for layer in layers:
            scaled = any(getattr(layer, "use_dora", {}).values())
            layer.cast_input_dtype_enabled = scaled or self.placement.dtype != "bf16"

    def attach_saved(self, name: str, folder: Path) -> None:
        """Load a saved adapter, with its head if it has one, under a name.

        Raises:
            UserError: The folder has no adapter, one of another kind than those that are there, or one that changes the
                output layer, which log-probabilities are read through.
            DataError: The adapter was trained on another backbone.
        """
        if not is_adapter(folder):
            raise UserError(f"no adapter at {folder}", "give the output folder of `train reward` or `train policy`")
        if base_of(folder).sha256 not in ("", self.sha256):
            raise DataError(
                f"was trained on another backbone than {self.path}",
                file=folder,
                fix="train it on this one: policy, reward and prior share one backbone",
            )
        if self.placement.quantize and (method := method_of(folder)) not in PACKABLE:
            what = f"the adapter at {folder}, by the method {method}, reads the weights that --quantize nf4 packs"
            raise UserError(what, "leave --quantize out")
        self._peft = loaded(self._peft or self.causal, name, folder)
        if is_adapted(self.output_layer):
            fix = "merge it into its base with peft, and give the whole model"
            raise UserError(f"the adapter at {folder} changes the output layer", fix)
        self._cast_once()
        if has_head(folder):
            self.heads.load(name, folder)
        self._freeze()

    def save(self, name: str | None, folder: Path) -> None:
        """Write an adapter in the layout that plain peft loads, its head, and which backbone it belongs to.

        For None the whole model is written, as plain transformers loads it, and what it was trained from.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with written(folder):
            if name is None:
                self.causal.save_pretrained(folder, safe_serialization=True)
                self.processor.save_pretrained(folder)
            else:
                write_adapter(self._peft, name, folder, self.path)
                self.heads.save(name, folder)
        write_base(folder, self.path, self.sha256, quantized=self.placement.quantize)

    def merge(self, name: str) -> Any:
        """Add an adapter to the weights and return the plain model; the backbone is used up.

        Where it changed embeddings that are the output layer too, the plain model has both apart.
        """
        if is_adapted(self.causal.get_input_embeddings()):
            part(self.causal)
        return added_to_weights(self._peft, name)

    def average(self, names: Sequence[str], name: str) -> None:
        """Make an adapter that adds the mean of what others add, with a head at zero.

        Raises:
            UserError: One of them is not plain LoRA.
        """
        add_mean(self._peft, names, name)
        self.heads.like(names[0], name)
        self._freeze()

    def _freeze(self) -> None:
        """Undo what peft switched on by loading or switching: only what `train_only` named takes gradients."""
        self.causal.requires_grad_(False)
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
        named = {own_name(key): parameter for key, parameter in self.causal.named_parameters()}
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

    @contextlib.contextmanager
    def widely(self, *, wanted: bool) -> Iterator[None]:
        """Compute in float32 whatever the placement says, if that is wanted; its weights must be held so."""
        before, self._wide = self._wide, self._wide or wanted
        try:
            yield
        finally:
            self._wide = before

    @property
    def narrow(self) -> bool:
        """Whether products are in bfloat16."""
        return self.placement.dtype == "bf16" and not self._wide

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Compute products in bfloat16 if the placement says so."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.narrow)

    @contextlib.contextmanager
    def dropping(self, seed: int) -> Iterator[None]:
        """Switch the adapters' dropout on, drawn from a seed; everything else stays as it is."""
        _ = self.shares  # asked while nothing is random yet
        with dropout_on(self.causal, seed, self.device):
            yield

    def hidden(self, batch: PaddedBatch) -> torch.Tensor:
        """Return the last hidden states, (batch, length, width), with whatever adapter is on.

        Padding's mean nothing. Prompts in common are read once where the model allows it, see
        `perl_eval.models.shared_prefix`.
        """
        together = shared(batch, pack=self.placement.packing) if self.shares else None
        if together is None:
            seen, positions = self.seen(batch)
            return self._states(batch.ids, batch.live.long(), positions, **seen)
        return together.apart(self._states(together.ids, together.sees, together.positions))

    @functools.cached_property
    def shares(self) -> bool:
        """Whether sequences may share the reading of their prompt: asked of the config, then of the model itself."""
        if self.vision or not can_share(self.causal.config.get_text_config()):
            return False
        with torch.no_grad():
            return obeys_masks(self._states)

    def _states(self, ids: torch.Tensor, sees: torch.Tensor, positions: torch.Tensor, **seen: Any) -> torch.Tensor:
        with self.autocast(), recomputing(self._layers, wanted=torch.is_grad_enabled()):
            states: torch.Tensor = (self.causal.base_model if self.vision else self.causal.get_decoder())(
                input_ids=ids.to(self.device),
                attention_mask=sees.to(self.device),
                position_ids=positions.to(self.device),
                use_cache=False,
                **seen,
            ).last_hidden_state
        return states

    def seen(self, batch: PaddedBatch) -> tuple[dict[str, Any], torch.Tensor]:
        """Return what the model takes for the pictures of a batch, and position ids.

        Positions are (batch, length), or (axes, batch, length) where the model gives pictures positions in space.
        """
        if self.vision is None or not batch.pictures:
            return {}, batch.positions.to(self.device)
        with self.autocast():
            given, positions = self.vision.inputs(self.causal, batch.ids, batch.live, batch.pictures)
        placed = {name: one.to(self.device) if isinstance(one, torch.Tensor) else one for name, one in given.items()}
        return placed, (batch.positions if positions is None else positions).to(self.device)

    def silenced(self, logits: torch.Tensor) -> torch.Tensor:
        """Return logits, (..., vocabulary), in which what is never said is impossible; they are changed in place."""
        if self.unsaid:
            logits[..., self.unsaid] = NEVER
        return logits

    def _name_of(self, part: nn.Module) -> str:
        return next(str(name) for name, module in self.causal.named_modules() if module is part)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return next-token logits in float32, (..., vocabulary)."""
        with self.autocast():
            logits: torch.Tensor = self.output_layer(hidden).float() * self.logit_factor
        return self.silenced(torch.tanh(logits / self.logit_cap) * self.logit_cap if self.logit_cap else logits)

    def counts(self, *names: str | None) -> dict[str, int | float]:
        """Return how many parameters are resident, how many training the named ones moves, and the share."""
        total = parameter_count(self.causal)
        total += sum(parameter.numel() for head in self.heads.values() for parameter in head.parameters())
        trained = sum(parameter.numel() for name in names for parameter in self.parameters_of(name).values())
        return {"parameters": total, "trained": trained, "trained share": trained / total}

    def resident_bytes(self) -> int:
        """Return the bytes of all weights in memory: own, adapters and heads."""
        return resident_bytes(self.causal) + sum(resident_bytes(head) for head in self.heads.values())
