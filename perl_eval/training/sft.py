"""Supervised fine-tuning: Demonstration rows to a model that imitates the assistant's turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from perl_eval import figure_names as named
from perl_eval.checks import at_least_one, not_negative, positive, valid_seed
from perl_eval.errors import UserError
from perl_eval.metrics.glossary import curve_glossary
from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.models.batching import batch_of_step
from perl_eval.models.checkpoint_folder import is_adapter, written
from perl_eval.models.cutting import Cuts
from perl_eval.models.from_scratch import make_model, make_tokenizer, size_of
from perl_eval.models.from_scratch_vision import make_vision_model, make_vision_processor
from perl_eval.models.log_probs import token_log_probs
from perl_eval.models.merge import merged
from perl_eval.models.model_card import model_card
from perl_eval.models.model_source import SCRATCH, located
from perl_eval.models.prompt_room import most_tokens
from perl_eval.models.quantization import refuse_full
from perl_eval.models.tokenize import Encoded, encode_turns, pad
from perl_eval.records import Measurement
from perl_eval.sources import rows
from perl_eval.sources.rows import Row
from perl_eval.storage.progress import tell
from perl_eval.training.distributed import Processes
from perl_eval.training.fsdp import made_whole, share_out
from perl_eval.training.loop import Fit, Learning, LoopOptions, optimise
from perl_eval.training.objectives import language_modelling_loss
from perl_eval.training.profiling import Meter, byte_account
from perl_eval.training.resources import Resources, shared_pieces, tracked
from perl_eval.training.schedule import Schedule
from perl_eval.training.updating import Updating, rate_by_width

__all__ = ["SftOptions", "SftTrainer", "run"]

_ADAPTER = "sft"


@dataclass(frozen=True, slots=True)
class SftOptions:
    """``model`` is a folder, a GGUF file, or ``ORG/NAME[@REVISION]`` of the hub; ``epochs`` over the rows.

    ``scratch:tiny|small|medium`` is one made from nothing. ``chat_template`` is a file with the template that dialogues
    are written with, in place of the tokenizer's own; the trained model keeps it.

    Made from nothing for rows with pictures, it is a vision-language model.

    All weights are trained; with ``lora`` only an adapter of that shape, which is added to the weights at the end.
    ``learning_rate`` by default is 2e-3 for an adapter or a model made from nothing, and a tenth of it for tuning all
    of a trained one, less for models wider than 340 (`perl_eval.training.updating.rate_by_width`); ``weight_decay`` is
    0.01 for whole models and 0 for adapters. With ``patience`` the run stops
    after that many evaluations without a lower validation loss. ``limit`` rows are read, 0 for all.

    Dialogues longer than ``max_tokens`` are cut at turns (`perl_eval.models.tokenize.encode_dialogue`), which is
    counted and said; 0 takes what the longest of them has, and the model was made for. Rows without an answer are left
    out.
    """

    model: str = "scratch:tiny"
    epochs: float = 3.0
    batch: int = 64
    learning_rate: float | None = None
    max_tokens: int = 512
    evaluations: int = 4
    lora: LoraShape | None = None
    weight_decay: float | None = None
    patience: int = 0
    limit: int = 0
    schedule: Schedule = field(default_factory=Schedule)
    updating: Updating = field(default_factory=Updating)
    chat_template: Path | None = None
    resources: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        at_least_one(self, "batch", "evaluations")
        positive(self, "epochs", "learning_rate")
        not_negative(self, "patience", "weight_decay", "limit", "max_tokens")
        refuse_full(self.resources.placement, full=self.lora is None)
        if self.lora is not None and self.start is None:
            raise UserError(
                f"model {self.model} is new, and an adapter trains only a model that has learned", "leave lora out"
            )
        if self.chat_template is not None and self.start is None:
            raise UserError(f"model {self.model} has a chat template of its own", "leave out chat_template")

    @property
    def start(self) -> Path | None:
        """The folder of the model to start from, or None if one is made from nothing."""
        return None if self.model.startswith(SCRATCH) else Path(self.model)

    @property
    def rate(self) -> float:
        """The learning rate, given or by default."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 2e-3 if self.lora is not None or self.start is None else 2e-4

    @property
    def decay(self) -> float:
        """The weight decay, given or by default."""
        if self.weight_decay is not None:
            return self.weight_decay
        return 0.01 if self.lora is None else 0.0


def _texts(found: Sequence[Row]) -> list[str]:
    return [turn.content for row in found for turn in (*row.prompt, *(row.completion or ()))]


def _backbone(options: SftOptions, found: Sequence[Row], folder: Path, seed: int) -> Backbone:
    """Return the model to train, opened or made from nothing."""
    placement = options.resources.placement
    if options.start is None:
        size = size_of(options.model.removeprefix(SCRATCH))
        tokenizer = make_tokenizer(_texts(found), size.vocabulary)
        if any(row.images for row in found):
            processor = make_vision_processor(tokenizer)
            model = make_vision_model(size, processor, seed=seed)
            return Backbone(model, processor, folder, placement, frozen=False)
        return Backbone(make_model(size, tokenizer, seed=seed), tokenizer, folder, placement, frozen=False)
    if is_adapter(options.start):
        raise UserError(f"{options.start} is an adapter, which has no weights of its own", "give a whole model")
    return open_backbone(options.start, placement, frozen=options.lora is not None, chat_template=options.chat_template)


def _answers(row: Row) -> bool:
    """Return whether the assistant says anything that could be imitated."""
    return any(turn.role == "assistant" and turn.content.strip() for turn in row.completion or ())


def _encode(processor: Any, found: Sequence[Row], max_tokens: int, cuts: Cuts) -> list[Encoded]:
    kept = [
        one
        for row in found
        if _answers(row)
        for one in encode_turns(
            processor, row.prompt, row.completion or (), max_tokens=max_tokens, pictures=row.images, cuts=cuts
        )
        if any(one.trained[1:])
    ]
    if not kept:
        raise UserError("no row has an assistant turn that says anything", "give rows with answers")
    return kept


def run(data: Path, out: Path, *, options: SftOptions, seed: int = 0) -> Path:
    """Train on the demonstrations' ``train`` split, completion tokens only; keep the best on ``validation``.

    Args:
        data: A folder of Demonstration rows, as ``build`` writes it; of Preference rows the chosen answers are learned.
        out: The run folder; it becomes a model folder that plain transformers loads.
        options: Model, epochs, batch and rates.
        seed: Seeds weights and order.

    Returns:
        The run folder: config, safetensors weights, tokenizer, ``curve.parquet`` and the run card; of an adapter its
        weights too, under ``adapter``, as plain peft loads them.

    Raises:
        UserError: No such data or model, or a model that is an adapter.
        DataError: A broken row or a changed input.
    """
    options = replace(options, model=str(located(options.model)))
    inputs = {"data": Path(data)} | ({"model": options.start} if options.start else {})
    arguments = asdict(options)
    if options.chat_template is None:  # as on the cards of before
        del arguments["chat_template"]
    else:
        inputs["chat_template"] = options.chat_template
    processes = Processes.current(options.resources.placement.resolve(), shards=True)
    plan = {"verb": "train sft", "arguments": arguments, "seed": valid_seed(seed), "inputs": inputs}
    with processes.start(out, **plan) as going:
        if going.done:
            return going.folder
        found = rows.limited(rows.demonstrations(data, "train"), options.limit)
        held_out = rows.demonstrations(data, "validation") if "validation" in rows.splits(data) else []
        with Meter(options.resources.placement.resolve()) as meter:
            backbone = _backbone(options, found, going.folder, seed)
            trainer = SftTrainer(backbone, found, held_out, options, seed=seed, processes=processes)
            fit = trainer.train(going.folder, meter)

        def fresh() -> SftTrainer:
            return SftTrainer(_backbone(options, found, going.folder, seed), found, held_out, options, seed=seed)

        ready = made_whole(trainer, fresh)
        if processes.is_main:
            _save(ready.backbone, options, going.folder)
            going.notes |= {**trainer.notes(fit), **meter.notes()}
            going.write(fit.curve, Measurement)
            model_card(going.folder, "train sft", Path(options.model), going.notes, curve_glossary("train sft"))
        processes.wait()
    return going.folder


def _save(backbone: Backbone, options: SftOptions, folder: Path) -> None:
    """Write a whole model; an adapter is added to weights in float32, once, whatever precision it was trained in."""
    if options.lora is None:
        with written(folder):
            backbone.causal.save_pretrained(folder, safe_serialization=True)
    else:
        backbone.save(_ADAPTER, folder / "adapter")
        with written(folder):
            merged(folder / "adapter").save_pretrained(folder, safe_serialization=True)
    backbone.processor.save_pretrained(folder)


class SftTrainer:
    """The imitation step.

    Args:
        backbone: The model; all its weights are trained, or with ``lora`` an adapter that it gains.
        found: Rows to learn from.
        held_out: Rows for the validation loss; may be empty.
        options: See `SftOptions`.
        seed: Seeds the adapter and the order.
        processes: Who shares the work.
    """

    def __init__(
        self,
        backbone: Backbone,
        found: Sequence[Row],
        held_out: Sequence[Row],
        options: SftOptions,
        *,
        seed: int,
        processes: Processes | None = None,
    ) -> None:
        self.backbone, self.options, self.seed = backbone, options, seed
        self.processes = processes or Processes()
        self.cuts, most = Cuts(), most_tokens(options.max_tokens, backbone.causal, backbone.tokenizer)
        self.encoded = _encode(backbone.processor, found, most, self.cuts)
        self.held_out = _encode(backbone.processor, held_out, most, self.cuts) if held_out else []
        self.unanswered = sum(not _answers(row) for row in (*found, *held_out))
        self.name = None if options.lora is None else _ADAPTER
        if options.lora is not None:
            backbone.attach(_ADAPTER, options.lora, seed=seed)
        backbone.train_only(self.name)
        share_out(backbone, self.name, processes=self.processes)
        self.lengths = [len(row.ids) for row in self.encoded]
        self.max_tokens = most if options.max_tokens else max(len(row.ids) for row in (*self.encoded, *self.held_out))
        self.steps = options.schedule.steps(max(1, round(options.epochs * len(self.encoded) / options.batch)))

    @property
    def rate(self) -> float:
        """The learning rate: as given, or by the model's width."""
        options = self.options
        if options.learning_rate is not None or options.start is None:
            return options.rate
        return rate_by_width(options.rate, self.backbone.width, full=options.lora is None)

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Return what is trained, by name."""
        return self.backbone.parameters_of(self.name)

    def train(self, folder: Path, meter: Meter) -> Fit:
        """Run all steps."""
        options, steps = self.options, self.steps
        if self.processes.is_main:
            tell(self.cuts.line("dialogues", self.max_tokens))
            tell(f"{self.unanswered:,} rows without an answer are left out" if self.unanswered else "")
        loop = LoopOptions(
            steps=steps,
            learning_rate=self.rate,
            warmup=options.schedule.warm(steps, 50),
            shape=options.schedule.shape,
            weight_decay=options.decay,
            evaluate_every=options.schedule.evaluated(steps, options.evaluations) if self.held_out else 0,
            patience=options.patience,
            **options.updating.for_loop(),
        )

        def learn(step: int) -> dict[str, float]:
            with meter.part("learning"):
                figures, tokens = self.learn(step)
            meter.tokens += tokens
            return figures

        with tracked(options.resources.tracker, folder, main=self.processes.is_main) as log:
            parts = {"model": self.parameters()}
            task = Learning("train sft", parts, learn, self.evaluate if self.held_out else None, log)
            return optimise(task, loop, folder=folder, processes=self.processes)

    def learn(self, step: int) -> tuple[dict[str, float], float]:
        """Take the gradient of one step; return its figures and the tokens of its rows."""
        chosen = batch_of_step(self.lengths, step, size=self.options.batch, seed=self.seed)
        batch = [self.encoded[row] for row in chosen]
        count = sum(_imitated(row) for row in batch)
        loss = 0.0
        with self.backbone.adapter(self.name):
            for piece, weight in shared_pieces(self.processes, batch, _length, self.options.resources.micro_batch):
                part = self._loss(piece, count) * weight
                part.backward()  # type: ignore[no-untyped-call]
                loss += float(part.detach())
        return self.processes.totals({"loss": loss}), float(sum(map(_length, batch)))

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return the loss on the held-out rows."""
        count = sum(_imitated(row) for row in self.held_out)
        size = self.options.resources.micro_batch or self.options.batch
        with self.backbone.adapter(self.name):
            own = shared_pieces(self.processes, self.held_out, _length, size)
            loss = sum(float(self._loss(piece, count)) * weight for piece, weight in own)
        return self.processes.totals({named.VALIDATION_LOSS: loss})

    def _loss(self, piece: Sequence[Encoded], count: int) -> torch.Tensor:
        batch = pad(piece, pad_id=self.backbone.pad_id)
        log_probs = token_log_probs(self.backbone, self.backbone.hidden(batch), batch, 1.0)
        live = batch.trained.clone()
        live[:, 0] = False
        return language_modelling_loss(log_probs, live.to(log_probs.device), count=count)

    def notes(self, fit: Fit) -> dict[str, Any]:
        """Return the figures for the run card."""
        counts = self.backbone.counts(self.name)
        return {
            **counts,
            **byte_account([self.backbone], self.parameters().values(), self.options.updating.optimizer),
            "learning rate": self.rate,
            "rows": len(self.encoded),
            **({"rows left out": self.unanswered} if self.unanswered else {}),
            "max tokens": self.max_tokens,
            **self.cuts.notes(),
            "tokens": sum(self.lengths),
            "steps": fit.steps,
            "best step": fit.best_step,
            "seconds a step": fit.seconds / fit.steps,
            "processes": self.processes.count,
        }


def _length(row: Encoded) -> int:
    return len(row.ids)


def _imitated(row: Encoded) -> int:
    """Return how many tokens of a row a loss is taken on; nothing stands before the first."""
    return sum(row.trained[1:])
