"""The step of `train dpo`: log-ratios of answers that are there, and a loss on them; nothing is sampled.

The prior of an adapter is the backbone with the adapter off, read in the same padded batch as the policy, so that a
fresh policy's log-ratios are exactly 0 and rounding cancels. All weights of a copy leave no prior in memory: its
log-probabilities are taken once, before the first step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import nn

from perl_eval import figure_names as named
from perl_eval.checks import at_least_one, between, not_negative, positive
from perl_eval.errors import OptionError, UserError
from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import Backbone
from perl_eval.models.batching import batch_of_step
from perl_eval.models.cutting import Cuts
from perl_eval.models.prompt_room import most_tokens
from perl_eval.models.quantization import refuse_full
from perl_eval.models.tokenize import Encoded, PaddedBatch, pad
from perl_eval.records import Score
from perl_eval.sources.rows import Row
from perl_eval.storage.progress import tell
from perl_eval.training.actor_critic import POLICY, Role
from perl_eval.training.direct_losses import PairLoss, direct_pair_loss, kto_loss
from perl_eval.training.distributed import Processes
from perl_eval.training.loop import Fit, Learning, LoopOptions, optimise
from perl_eval.training.profiling import Meter
from perl_eval.training.resources import Resources, pieces, tracked
from perl_eval.training.reward_examples import Example, encoded
from perl_eval.training.schedule import Schedule
from perl_eval.training.updating import Updating

__all__ = ["DIRECT_LOSSES", "DirectLoss", "DirectTrainer", "DpoOptions"]

DirectLoss = PairLoss | Literal["kto"]
DIRECT_LOSSES: tuple[str, ...] = (*get_args(PairLoss), "kto")


@dataclass(frozen=True, slots=True)
class DpoOptions:
    """``beta`` is KL strength, in units of the implicit reward per nat, as `train policy` has it.

    ``loss`` follows from the rows if not given: ``sigmoid``, which is DPO, for preferences, ``kto`` for ratings. Of
    preferences there are ``robust`` too, for labels of which a share of ``smoothing`` is flipped, ``hinge`` (SLiC) and
    ``ipo``. ``liked`` and ``disliked`` weigh the two kinds of ratings: with few of one kind raise its weight, so that
    weight times number is about the same for both.

    An adapter is trained, or with ``full`` all weights of a copy of the prior; ``learning_rate`` is 2e-4 or a tenth of
    it by default. With validation rows the weights of the lowest loss stay, looked at ``evaluations`` times; with
    ``patience`` the run stops after that many without a lower one. ``limit`` rows are learned from, 0 for all.
    Dialogues longer than ``max_tokens`` are cut at turns, which is counted and said; 0 takes what the model was made
    for.
    """

    loss: Literal["", DirectLoss] = ""
    beta: float = 0.1
    epochs: float = 1.0
    batch: int = 64
    learning_rate: float | None = None
    smoothing: float = 0.0
    liked: float = 1.0
    disliked: float = 1.0
    max_tokens: int = 512
    evaluations: int = 4
    patience: int = 0
    lora: LoraShape = field(default_factory=LoraShape)
    full: bool = False
    limit: int = 0
    schedule: Schedule = field(default_factory=Schedule)
    updating: Updating = field(default_factory=Updating)
    resources: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        at_least_one(self, "batch")
        positive(self, "beta", "epochs", "learning_rate", "liked", "disliked")
        not_negative(self, "patience", "evaluations", "limit", "max_tokens")
        between(0, 0.5, self, "smoothing", ends="[)", such_as=0.1)
        refuse_full(self.resources.placement, full=self.full)
        if self.loss and self.loss not in DIRECT_LOSSES:
            raise UserError(f"loss {self.loss!r} is not known", f"choose from {', '.join(DIRECT_LOSSES)}")
        if self.smoothing and self.loss != "robust":
            raise OptionError("smoothing", self.smoothing, "take the loss robust with it")
        if self.lora.dropout:
            raise UserError(f"dropout is {self.lora.dropout}", "train a policy without: it must be what it samples as")

    @property
    def rate(self) -> float:
        """The learning rate, given or by default."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 2e-5 if self.full else 2e-4


@dataclass(frozen=True, slots=True)
class Direct:
    """One example: the sequences whose log-ratios its loss reads, and how it is labelled.

    Of a pair those are the chosen and the rejected answer; of a rating its answer, and to the same prompt the answer of
    another row, which only the estimate of the KL reads. ``prior`` is the prior's log-probability of each answer, where
    the prior is not there to be asked in the step.
    """

    row: Row
    sequences: tuple[Encoded, ...]
    label: float
    prior: tuple[float, ...] = ()

    @property
    def length(self) -> int:
        """Tokens of the longest sequence."""
        return max(len(sequence.ids) for sequence in self.sequences)


def mismatched(own: Encoded, other: Encoded, *, max_tokens: int) -> Encoded:
    """Return the prompt of one dialogue with the answer of another; the oldest tokens are cut if that is too long."""
    start, begun = own.trained.index(True), other.trained.index(True)
    ids = (own.ids[:start] + other.ids[begun:])[-max_tokens:]
    return Encoded(ids, ((False,) * start + other.trained[begun:])[-max_tokens:], own.pictures)


def direct_examples(examples: Sequence[Example], loss: DirectLoss, *, max_tokens: int, seed: int) -> list[Direct]:
    """Return examples as the step reads them; of ratings each with the answer of another, by a seeded cycle.

    Raises:
        UserError: A row has no answer within the token limit.
    """
    for one in examples:
        if not all(any(sequence.trained[1:]) for sequence in one.sequences):
            raise UserError(f"row {one.row.id} has no answer within {max_tokens} tokens", "raise max_tokens")
    if loss != "kto":
        return [Direct(one.row, one.sequences, one.label) for one in examples]
    cycle = np.random.default_rng([seed, 1]).permutation(len(examples)).tolist()
    after = dict(zip(cycle, [*cycle[1:], *cycle[:1]], strict=True))
    made = []
    for place, one in enumerate(examples):
        (own,), (other,) = one.sequences, examples[after[place]].sequences
        made.append(Direct(one.row, (own, mismatched(own, other, max_tokens=max_tokens)), one.label))
    return made


class DirectTrainer:
    """The step and its figures.

    Args:
        backbone: The frozen prior, which gains the adapter ``policy``; with ``full`` a model of its own, all of which
            is trained.
        split: Rows by split: those of ``train`` are learned from, those of ``validation``, if there are any, choose the
            weights, and those of ``test`` are scored at the end too.
        options: See `DpoOptions`.
        loss: What is lowered.
        seed: Seeds adapter and order.
        processes: Who shares the work.

    Raises:
        UserError: A row has no answer within the token limit.
    """

    def __init__(
        self,
        backbone: Backbone,
        split: Mapping[str, Sequence[Row]],
        options: DpoOptions,
        *,
        loss: DirectLoss,
        seed: int,
        processes: Processes | None = None,
    ) -> None:
        self.backbone, self.options, self.loss, self.seed = backbone, options, loss, seed
        self.processes = processes or Processes()
        self.kind = "pointwise" if loss == "kto" else "pairwise"
        self.name = None if options.full else POLICY
        self.policy, self.prior = Role(backbone, self.name), Role(backbone, None)
        self.cuts, self.most = Cuts(), most_tokens(options.max_tokens, backbone.causal, backbone.tokenizer)
        self.examples, self.checks, self.tests = (
            self._examples(split.get(name, ())) for name in ("train", "validation", "test")
        )
        if not options.full:
            backbone.attach(POLICY, options.lora, seed=seed)
        backbone.train_only(self.name)
        self.lengths = [one.length for one in self.examples]
        self.steps = options.schedule.steps(max(1, round(options.epochs * len(self.examples) / options.batch)))
        self.meter = Meter(backbone.device)

    @property
    def size(self) -> int:
        """Examples at once where no gradient is taken."""
        return self.options.resources.micro_batch or self.options.batch

    def _examples(self, found: Sequence[Row]) -> list[Direct]:
        """Return rows as examples; where all weights are about to move, with what the prior says now."""
        read = encoded(self.backbone, found, self.kind, self.most, self.cuts)
        made = direct_examples(read, self.loss, max_tokens=self.most, seed=self.seed)
        if not self.options.full:
            return made
        asked: dict[int, tuple[float, ...]] = {}
        with torch.no_grad():
            for piece in pieces(range(len(made)), lambda place: made[place].length, self.size):
                sequences = [sequence for place in piece for sequence in made[place].sequences]
                found_here = self._summed(self.prior, self._padded(sequences)).view(len(piece), -1).tolist()
                asked |= {place: tuple(one) for place, one in zip(piece, found_here, strict=True)}
        return [replace(one, prior=asked[place]) for place, one in enumerate(made)]

    def _padded(self, sequences: Sequence[Encoded]) -> PaddedBatch:
        return pad(sequences, pad_id=self.backbone.pad_id)

    def _summed(self, role: Role, batch: PaddedBatch) -> torch.Tensor:
        """Return the log-probability of each answer, (sequences,)."""
        with role.on():
            return role.log_probs(batch, 1.0)[0].sum(1)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return what is trained, by name."""
        return self.backbone.parameters_of(self.name)

    def train(self, folder: Path, meter: Meter | None = None) -> Fit:
        """Run all steps."""
        options, self.meter = self.options, meter or self.meter
        loop = LoopOptions(
            steps=self.steps,
            learning_rate=options.rate,
            warmup=options.schedule.warm(self.steps),
            shape=options.schedule.shape,
            evaluate_every=options.schedule.evaluated(self.steps, options.evaluations) if self.checks else 0,
            patience=options.patience,
            **options.updating.for_loop(),
        )
        if self.processes.is_main:
            tell(self.cuts.line("texts", self.most))
        with tracked(options.resources.tracker, folder, main=self.processes.is_main) as log:
            parts = {POLICY: self.parameters()}
            task = Learning("train dpo", parts, self.learn, self.evaluate if self.checks else None, log)
            return optimise(task, loop, folder=folder, processes=self.processes)

    def learn(self, step: int) -> dict[str, float]:
        """Take the gradient of one step and return its figures."""
        chosen = batch_of_step(self.lengths, step, size=self.options.batch, seed=self.seed)
        batch = [self.examples[row] for row in chosen]
        with self.meter.part("learning"):
            figures = self._figures(batch, self.options.resources.micro_batch)
        self.meter.tokens += sum(len(sequence.ids) for one in batch for sequence in one.sequences)
        return figures

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return loss and accuracy on the held-out rows."""
        with self.meter.part("validating"):
            found = self._figures(self.checks, self.size)
        return {named.VALIDATION_LOSS: found["loss"], named.VALIDATION_ACCURACY: found[named.ACCURACY]}

    def scores(self) -> list[Score]:
        """Return the implicit reward of every answer of the validation and test rows, in the units of ``beta``."""
        metrics = ("reward",) if self.kind == "pointwise" else ("reward chosen", "reward rejected")
        held = [*self.checks, *self.tests]
        rewards: dict[int, list[float]] = {}
        with torch.no_grad():
            for piece in pieces(range(len(held)), lambda place: held[place].length, self.size):
                ratios = self._ratios([held[place] for place in piece], slice(0, len(metrics)))[0]
                rewards |= zip(piece, (self.options.beta * ratios).tolist(), strict=True)
        return [
            Score(one.row.id, one.row.id, one.row.group, "", metric, value)
            for place, one in enumerate(held)
            for metric, value in zip(metrics, rewards[place], strict=True)
        ]

    def _ratios(self, piece: Sequence[Direct], which: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log-ratios of some of the sequences of each example, with gradient, and the tokens of their answers.

        Both are (examples, sequences).
        """
        batch = self._padded([sequence for one in piece for sequence in one.sequences[which]])
        own = self._summed(self.policy, batch)
        if self.options.full:
            prior = torch.tensor([value for one in piece for value in one.prior[which]], device=own.device)
        else:
            with torch.no_grad():
                prior = self._summed(self.prior, batch)
        lengths = batch.trained[:, 1:].sum(1).to(own)
        return (own - prior).view(len(piece), -1), lengths.view(len(piece), -1)

    @torch.no_grad()
    def _reference(self, batch: Sequence[Direct]) -> float:
        """Return the estimate of KL(policy || prior) that ratings are held against."""
        own = pieces(self.processes.share(batch), lambda one: one.length, self.size)
        total = sum(float(self._ratios(piece, slice(1, 2))[0].sum()) for piece in own)
        return max(0.0, self.processes.totals({"KL": total})["KL"] / len(batch))

    def _figures(self, batch: Sequence[Direct], size: int) -> dict[str, float]:
        """Return the figures of a step or of held-out rows; where gradients are taken, add that of the loss."""
        kl = self._reference(batch) if self.loss == "kto" else None
        sums = dict.fromkeys(("loss", "right", "chosen", "rejected", "liked"), 0.0)
        for piece in pieces(self.processes.share(batch), lambda one: one.length, size):
            loss, found = self._piece(piece, len(batch), kl or 0.0)
            if torch.is_grad_enabled():
                with self.policy.on():
                    loss.backward()  # type: ignore[no-untyped-call]
            for name, value in (("loss", float(loss.detach())), *found.items()):
                sums[name] += value
        totals = self.processes.totals(sums)
        count, chosen = len(batch), totals["liked"]
        rejected = count if self.kind == "pairwise" else count - chosen
        return {
            "loss": totals["loss"],
            named.ACCURACY: totals["right"] / count,
            **({named.IMPLICIT_REWARD_CHOSEN: totals["chosen"] / chosen} if chosen else {}),
            **({named.IMPLICIT_REWARD_REJECTED: totals["rejected"] / rejected} if rejected else {}),
            **({} if kl is None else {named.KL_ESTIMATE: kl}),
        }

    def _piece(self, piece: Sequence[Direct], count: int, kl: float) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the share of a step's loss that some examples have, and the sums its figures are made of."""
        options, beta = self.options, self.options.beta
        if self.loss == "kto":
            ratios = self._ratios(piece, slice(0, 1))[0][:, 0]
            labels = torch.tensor([one.label > 0.5 for one in piece], device=ratios.device)
            weights = options.liked, options.disliked
            loss = kto_loss(ratios, labels, kl, beta=beta, weights=weights, count=count)
            rewards = beta * ratios.detach()
            right = ((rewards > beta * kl) == labels).sum()
            chosen, rejected, liked = rewards[labels].sum(), rewards[~labels].sum(), labels.sum()
        else:
            found, lengths = self._ratios(piece, slice(0, 2))
            read = found / lengths if self.loss == "ipo" else found
            (first, second), smoothing = read.T, options.smoothing
            loss = direct_pair_loss(first, second, beta=beta, loss=self.loss, smoothing=smoothing, count=count)
            better, worse = found.T
            right = (better > worse).sum()
            chosen, rejected = (beta * one.detach().sum() for one in (better, worse))
            liked = torch.tensor(len(piece))
        named_sums = {"right": right, "chosen": chosen, "rejected": rejected, "liked": liked}
        return loss, {name: float(value) for name, value in named_sums.items()}
