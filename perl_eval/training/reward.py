"""Reward models: Preference or Rating rows to a scalar head, on an adapter of the frozen prior or on a tuned copy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from perl_eval import figure_names as named
from perl_eval.checks import at_least_one, between, not_negative, positive, valid_seed
from perl_eval.errors import UserError
from perl_eval.metrics.glossary import curve_glossary
from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.models.batching import batch_of_step
from perl_eval.models.checkpoint_folder import hold_bias
from perl_eval.models.cutting import Cuts
from perl_eval.models.generate import item_seed
from perl_eval.models.model_card import model_card
from perl_eval.models.model_source import located
from perl_eval.models.prompt_room import most_tokens, prompt_room
from perl_eval.models.quantization import refuse_full
from perl_eval.models.reward_model import (
    REWARD,
    STATES,
    Pooling,
    RewardScale,
    RewardScorer,
    prior_scale,
    read_states,
    rewards,
)
from perl_eval.records import Estimate, Measurement, Score
from perl_eval.sources import rows
from perl_eval.sources.rows import Row
from perl_eval.storage.progress import tell
from perl_eval.training.distributed import Processes
from perl_eval.training.fsdp import made_whole, share_out
from perl_eval.training.linear_probe import MOST, fit_probe
from perl_eval.training.loop import Fit, Learning, LoopOptions, begun, optimise
from perl_eval.training.objectives import pairwise_loss, pointwise_loss
from perl_eval.training.platt import held_out_quality, platt
from perl_eval.training.profiling import Meter, byte_account
from perl_eval.training.resources import Resources, shared_pieces, tracked
from perl_eval.training.reward_examples import NEED, Example, encoded, held_out_scores, kind_of
from perl_eval.training.schedule import Schedule
from perl_eval.training.updating import Updating, rate_by_width

__all__ = ["RewardOptions", "RewardTrainer", "fit_reward", "run"]

_length = attrgetter("length")


@dataclass(frozen=True, slots=True)
class RewardOptions:
    """``loss`` follows from the rows if not given: ``pointwise`` for ratings, ``pairwise`` for preferences.

    An adapter is trained, or with ``full`` all weights of a copy of the prior; ``learning_rate`` is 2e-3 or a tenth of
    it by default, less for models wider than 340 (`perl_eval.training.updating.rate_by_width`; the paper's best, for
    much larger models, are 2e-4 and 1e-5). The head reads the state of the last
    token, or with ``pooling`` ``mean`` the mean of the answer's, or with ``mean+all`` that beside the mean of the whole
    input's. ``dropout`` is on what the head reads and, with LoRA, on what the adapters read. With ``probe`` the head
    starts where logistic regression on the untrained states puts it, `perl_eval.training.linear_probe`, and not at
    random. With ``patience`` the run stops after that many evaluations without a lower validation loss.
    ``normalise_on`` prompts are sampled from the prior once to set the scale of the reward.

    Reward models over-fit in a second epoch, most where several rows have one prompt. With validation rows the weights
    of the lowest loss stay, so that a second epoch costs time only; without them, or with ``evaluations`` of 0, which
    keeps the last weights, train for one. ``limit`` rows are learned from, 0 for all.

    Dialogues longer than ``max_tokens`` are cut at turns (`perl_eval.models.tokenize.encode_dialogue`), which is
    counted and said; 0 takes what the longest of them has, and the model was made for.
    """

    loss: Literal["", "pointwise", "pairwise"] = ""
    epochs: float = 2.0
    batch: int = 64
    learning_rate: float | None = None
    max_tokens: int = 512
    evaluations: int = 8
    normalise_on: int = 256
    max_new_tokens: int = 64
    lora: LoraShape = field(default_factory=LoraShape)
    full: bool = False
    pooling: Pooling = "last"
    probe: bool = False
    weight_decay: float = 0.0
    dropout: float = 0.0
    patience: int = 0
    limit: int = 0
    schedule: Schedule = field(default_factory=Schedule)
    updating: Updating = field(default_factory=Updating)
    resources: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        at_least_one(self, "batch", "normalise_on", "max_new_tokens")
        positive(self, "epochs", "learning_rate")
        not_negative(self, "weight_decay", "patience", "evaluations", "limit", "max_tokens")
        if self.pooling not in get_args(Pooling):
            raise UserError(f"pooling {self.pooling!r} is not known", f"choose from {', '.join(get_args(Pooling))}")
        between(0, 1, self, "dropout", ends="[)")
        refuse_full(self.resources.placement, full=self.full)

    @property
    def rate(self) -> float:
        """The learning rate, given or by default."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 2e-4 if self.full else 2e-3


class RewardTrainer:
    """The reward model's step.

    Args:
        backbone: The frozen prior, which gains the adapter ``reward`` and its head; with ``full`` a model of its own,
            all of which is trained.
        train: Rows to learn from.
        held_out: Rows for the validation loss; empty to keep the last weights.
        options: See `RewardOptions`; the loss follows from the first row if it is not given.
        seed: Seeds adapter, head, order and dropout.
        processes: Who shares the work.
    """

    def __init__(
        self,
        backbone: Backbone,
        train: Sequence[Row],
        held_out: Sequence[Row],
        options: RewardOptions,
        *,
        seed: int,
        processes: Processes | None = None,
    ) -> None:
        self.backbone, self.options, self.seed = backbone, options, seed
        self.processes = processes or Processes()
        self.kind = options.loss or ("pointwise" if train[0].label is not None else "pairwise")
        self.cuts, most = Cuts(), most_tokens(options.max_tokens, backbone.causal, backbone.tokenizer)
        self.examples = encoded(backbone, train, self.kind, most, self.cuts)
        self.checks = encoded(backbone, held_out, self.kind, most, self.cuts)
        self.max_tokens = most if options.max_tokens else min(most, self._longest())
        self.name = None if options.full else REWARD
        if options.full:
            backbone.heads.fresh(REWARD, states=STATES[options.pooling], seed=seed)
        else:
            backbone.attach(REWARD, options.lora, seed=seed, head=STATES[options.pooling])
        if self.kind == "pointwise":
            up = min(max(float(np.mean([example.label for example in self.examples])), 0.01), 0.99)
            backbone.heads[REWARD].bias.data.fill_(math.log(up / (1 - up)))
        else:
            hold_bias(backbone.heads[REWARD])
        backbone.train_only(*self.parts)
        share_out(backbone, *self.parts, processes=self.processes)
        self.lengths = [example.length for example in self.examples]
        self.steps = options.schedule.steps(max(1, round(options.epochs * len(self.examples) / options.batch)))

    def _longest(self) -> int:
        """Return the tokens of the longest example, or of the longest prompt with a sample of the prior after it."""
        read = [one for example in (*self.examples, *self.checks) for one in example.sequences]
        asked = max(len(one.ids) - sum(one.trained) for one in read)
        return max(*(len(one.ids) for one in read), asked + self.options.max_new_tokens)

    @property
    def parts(self) -> tuple[str | None, ...]:
        """What is trained, as the backbone names it."""
        return (None, REWARD) if self.options.full else (REWARD,)

    @property
    def rate(self) -> float:
        """The learning rate: as given, or by the model's width."""
        if self.options.learning_rate is not None:
            return self.options.learning_rate
        return rate_by_width(self.options.rate, self.backbone.width, full=self.options.full)

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Return what is trained, by name."""
        return {name: one for part in self.parts for name, one in self.backbone.parameters_of(part).items()}

    def train(self, folder: Path, meter: Meter) -> Fit:
        """Run all steps."""
        options = self.options
        if self.processes.is_main:
            tell(self.cuts.line("texts", self.max_tokens))
        loop = LoopOptions(
            steps=self.steps,
            learning_rate=self.rate,
            warmup=options.schedule.warm(self.steps),
            shape=options.schedule.shape,
            weight_decay=options.weight_decay,
            evaluate_every=options.schedule.evaluated(self.steps, options.evaluations) if self.checks else 0,
            evaluate_first=options.probe and options.evaluations > 0,
            patience=options.patience,
            **options.updating.for_loop(),
        )
        if options.probe and not begun(folder):
            with meter.part("probing"):
                self.probe()

        def learn(step: int) -> dict[str, float]:
            with meter.part("learning"):
                figures, tokens = self.learn(step)
            meter.tokens += tokens
            return figures

        def evaluate() -> dict[str, float]:
            with meter.part("validating"):
                return self.evaluate()

        with tracked(options.resources.tracker, folder, main=self.processes.is_main) as log:
            parts = {"reward": self.parameters()}
            task = Learning("train reward", parts, learn, evaluate if self.checks else None, log)
            return optimise(task, loop, folder=folder, processes=self.processes)

    @torch.no_grad()
    def probe(self) -> None:
        """Set the head by logistic regression on the states that it reads of the training rows, or of `MOST` of them.

        Raises:
            UserError: Too few groups, or rows of one label only.
        """
        order = np.random.default_rng(self.seed).permutation(len(self.examples))[:MOST].tolist()
        size = self.options.resources.micro_batch or self.options.batch
        own: dict[int, np.ndarray] = {}
        with self.backbone.adapter(self.name):
            for piece, weight in shared_pieces(self.processes, order, lambda row: self.lengths[row], size):
                sequences = [sequence for row in piece for sequence in self.examples[row].sequences]
                read = read_states(self.backbone, sequences, self.options.pooling).float()
                if self.kind == "pairwise":
                    read = read[::2] - read[1::2]
                if weight:
                    own |= zip(piece, read.cpu().numpy(), strict=True)
        states = np.stack(self.processes.gather([own[row] for row in self.processes.share(order)]))
        labels, groups = zip(*((self.examples[row].label, self.examples[row].row.group) for row in order), strict=True)
        found = fit_probe(states, labels, groups, pairs=self.kind == "pairwise", seed=self.seed)
        head = self.backbone.heads[REWARD]
        head.weight.copy_(torch.from_numpy(found.weights).unsqueeze(0))
        head.bias.fill_(found.bias)

    def learn(self, step: int) -> tuple[dict[str, float], float]:
        """Take the gradient of one step; return its figures and the tokens of its rows."""
        batch = [
            self.examples[row] for row in batch_of_step(self.lengths, step, size=self.options.batch, seed=self.seed)
        ]
        figures = {"loss": 0.0, named.ACCURACY: 0.0}
        drawn = item_seed(self.seed, f"dropout {step}", self.processes.index) % 2**32
        with self.backbone.adapter(self.name), self.backbone.dropping(drawn):
            for piece, weight in shared_pieces(self.processes, batch, _length, self.options.resources.micro_batch):
                loss, right = self._loss(piece, len(batch), weight, dropout=self.options.dropout)
                loss.backward()  # type: ignore[no-untyped-call]
                figures = {
                    "loss": figures["loss"] + float(loss.detach()),
                    named.ACCURACY: figures[named.ACCURACY] + right,
                }
        tokens = sum(len(sequence.ids) for example in batch for sequence in example.sequences)
        return self.processes.totals(figures), float(tokens)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return loss and accuracy on the held-out rows."""
        figures = {named.VALIDATION_LOSS: 0.0, named.VALIDATION_ACCURACY: 0.0}
        size = self.options.resources.micro_batch or self.options.batch
        with self.backbone.adapter(self.name):
            for piece, weight in shared_pieces(self.processes, self.checks, _length, size):
                loss, right = self._loss(piece, len(self.checks), weight)
                figures[named.VALIDATION_LOSS] += float(loss)
                figures[named.VALIDATION_ACCURACY] += right
        return self.processes.totals(figures)

    def _loss(
        self, piece: Sequence[Example], count: int, weight: float, *, dropout: float = 0.0
    ) -> tuple[torch.Tensor, float]:
        """Return the share of a step's loss, and of its accuracy, that some examples have, times a weight."""
        sequences = [sequence for example in piece for sequence in example.sequences]
        scores = rewards(self.backbone, sequences, dropout=dropout, pooling=self.options.pooling)
        if self.kind == "pointwise":
            labels = torch.tensor([example.label for example in piece], device=scores.device)
            right = float(((scores > 0) == (labels > 0.5)).sum())
            return pointwise_loss(scores, labels, count=count) * weight, right * weight / count
        chosen, rejected = scores.view(len(piece), 2).T
        right = float((chosen > rejected).sum())
        return pairwise_loss(chosen, rejected, count=count) * weight, right * weight / count

    def notes(self, fit: Fit) -> dict[str, Any]:
        """Return the figures for the run card."""
        return {
            **self.backbone.counts(*self.parts),
            **byte_account([self.backbone], self.parameters().values(), self.options.updating.optimizer),
            "learning rate": self.rate,
            "loss": self.kind,
            "rows": len(self.examples),
            "max tokens": self.max_tokens,
            **self.cuts.notes(),
            "steps": fit.steps,
            "best step": fit.best_step,
            "seconds a step": fit.seconds / fit.steps,
            "backbone sha256": self.backbone.sha256,
            "processes": self.processes.count,
        }


def fit_reward(
    backbone: Backbone,
    train: Sequence[Row],
    held_out: Sequence[Row],
    options: RewardOptions,
    *,
    folder: Path,
    seed: int,
) -> Fit:
    """Train a fresh reward model on a backbone and leave the weights with the lowest held-out loss in place.

    Args:
        backbone: See `RewardTrainer`.
        train: Rows to learn from.
        held_out: Rows for the validation loss; empty to keep the last weights.
        options: See `RewardOptions`.
        folder: Where checkpoints lie meanwhile.
        seed: Seeds adapter, head, order and dropout.
    """
    trainer = RewardTrainer(backbone, train, held_out, options, seed=seed)
    return trainer.train(folder, Meter(backbone.device))


def run(data: Path, prior: Path, out: Path, *, options: RewardOptions | None = None, seed: int = 0) -> Path:
    """Train a reward model on the ``train`` split, on the prior: an adapter of it, or a tuned copy.

    Args:
        data: A folder of Rating rows (pointwise loss) or Preference rows (pairwise loss).
        prior: The SFT model.
        out: The run folder: adapter (with ``full`` the whole model), head, scale, ``curve.parquet`` and, for the
            held-out splits, ``scores.parquet`` with the raw reward of every answer (metric ``reward``, or
            ``reward chosen`` and ``reward rejected``) and ``estimates.parquet`` with accuracy and calibration.
        options: See `RewardOptions`.
        seed: Seeds adapter, head, order and the prior's samples.

    Raises:
        UserError: No such data or model, rows of another shape, or no room for a prompt.
        DataError: A broken row or a changed input.
    """
    options = options or RewardOptions()
    if options.max_tokens:
        prompt_room(options.max_tokens, options.max_new_tokens)
    prior = located(prior)
    inputs = {"data": Path(data), "prior": prior}
    processes = Processes.current(options.resources.placement.resolve(), shards=True)
    plan = {"verb": "train reward", "arguments": asdict(options), "seed": valid_seed(seed), "inputs": inputs}
    with processes.start(out, **plan) as going:
        if going.done:
            return going.folder
        kind = kind_of(data, "train", options.loss)
        split = {name: rows.read(data, name, need=NEED[kind]) for name in rows.splits(data)}
        if not split.get("train"):
            raise UserError(f"{data} has no rows in its train split", "build a config with some")
        split["train"] = rows.limited(split["train"], options.limit)

        def fresh() -> RewardTrainer:
            again = open_backbone(prior, options.resources.placement, frozen=not options.full)
            return RewardTrainer(again, split["train"], held_out, options, seed=seed)

        held_out = split.get("validation", [])
        with Meter(options.resources.placement.resolve()) as meter:
            backbone = open_backbone(prior, options.resources.placement, frozen=not options.full)
            trainer = RewardTrainer(backbone, split["train"], held_out, options, seed=seed, processes=processes)
            fit = trainer.train(going.folder, meter)
            ready = made_whole(trainer, fresh)
            if processes.is_main:
                going.notes |= _save(ready, prior, going.folder)
        if processes.is_main:
            going.notes |= {**trainer.notes(fit), **meter.notes()}
            scorer = RewardScorer(going.folder, ready.backbone)
            both = [*held_out, *split.get("test", [])]
            examples = encoded(ready.backbone, both, ready.kind, trainer.max_tokens)
            scores = held_out_scores(scorer, examples, trainer.kind)
            going.write(scores, Score)
            line = (going.notes["calibration slope"], going.notes["calibration intercept"])
            if scores:
                going.write(held_out_quality(split, scores, trainer.kind, line), Estimate)
            going.write(fit.curve, Measurement)
            model_card(going.folder, "train reward", prior, going.notes, curve_glossary("train reward"))
        processes.wait()
    return going.folder


def _save(trainer: RewardTrainer, prior: Path, folder: Path) -> dict[str, float]:
    """Write weights, head and scale, and return what the scale was set on."""
    backbone, options = trainer.backbone, trainer.options
    backbone.save(trainer.name, folder)
    backbone.heads.save(REWARD, folder)
    RewardScale(trainer.kind, 0.0, 1.0, trainer.max_tokens, pooling=options.pooling).save(folder)
    scorer = RewardScorer(folder, backbone, batch=options.resources.micro_batch or min(options.batch, 64))
    sampled = backbone if trainer.name else open_backbone(prior, options.resources.placement)
    prompts = [example.row for example in trainer.examples]
    scale = prior_scale(sampled, scorer, prompts, options.normalise_on, options.max_new_tokens, seed=trainer.seed)
    slope, intercept = platt(scorer, [(check.sequences, check.label) for check in trainer.checks], trainer.kind)
    RewardScale(trainer.kind, *scale, trainer.max_tokens, slope, intercept, options.pooling).save(folder)
    line = {"calibration slope": slope, "calibration intercept": intercept}
    return {"prior reward mean": scale[0], "prior reward std": scale[1], **line}
