"""Reward models: Preference or Rating rows to a LoRA adapter with a scalar head on the frozen prior."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from perl_eval import rows, runs
from perl_eval.errors import UserError
from perl_eval.models.backbone import Backbone, LoraShape, open_backbone
from perl_eval.models.encode import Encoded, batch_of_step, encode_dialogue, encode_prompt
from perl_eval.models.generate import Sampling, generate, item_seed
from perl_eval.models.limits import at_least_one, positive, prompt_room
from perl_eval.models.scorer import REWARD, RewardScorer, Scale, rewards
from perl_eval.records import Measurement, Score
from perl_eval.rows import Row
from perl_eval.train.loop import Fit, LoopOptions, optimise
from perl_eval.train.objectives import pairwise_loss, pointwise_loss

__all__ = ["RewardOptions", "fit_reward", "run"]


@dataclass(frozen=True, slots=True)
class RewardOptions:
    """``loss`` follows from the rows if not given: ``pointwise`` for ratings, ``pairwise`` for preferences.

    ``normalise_on`` prompts are sampled from the prior once to set the scale of the reward.
    """

    loss: Literal["", "pointwise", "pairwise"] = ""
    epochs: float = 2.0
    batch: int = 64
    learning_rate: float = 2e-3
    max_tokens: int = 512
    evaluations: int = 8
    normalise_on: int = 256
    max_new_tokens: int = 64
    lora: LoraShape = field(default_factory=LoraShape)

    def __post_init__(self) -> None:
        at_least_one(self, "batch", "max_tokens", "evaluations", "normalise_on", "max_new_tokens")
        positive(self, "epochs", "learning_rate")


@dataclass(frozen=True, slots=True)
class _Example:
    """One training example: the sequences whose rewards enter its loss, and the label (ratings only)."""

    row: Row
    sequences: tuple[Encoded, ...]
    label: float

    @property
    def length(self) -> int:
        return max(len(sequence.ids) for sequence in self.sequences)


def _kind(found: Sequence[Row], options: RewardOptions) -> str:
    if options.loss:
        return options.loss
    if found and found[0].label is not None:
        return "pointwise"
    if found and found[0].chosen is not None:
        return "pairwise"
    raise UserError("the rows are neither ratings nor preferences", "give a config with label, or chosen and rejected")


def _examples(backbone: Backbone, found: Sequence[Row], kind: str, max_tokens: int) -> list[_Example]:
    def encode(row: Row, answer: Any) -> Encoded:
        return encode_dialogue(backbone.tokenizer, row.prompt, answer, max_tokens=max_tokens)

    if kind == "pointwise":
        if any(row.completion is None or row.label is None for row in found):
            raise UserError("a pointwise reward model needs rows with completion and label", "give a ratings config")
        return [_Example(row, (encode(row, row.completion),), float(bool(row.label))) for row in found]
    if any(row.chosen is None or row.rejected is None for row in found):
        raise UserError("a pairwise reward model needs rows with chosen and rejected", "give a preference config")
    return [_Example(row, (encode(row, row.chosen), encode(row, row.rejected)), 1.0) for row in found]


def _batch_loss(backbone: Backbone, batch: Sequence[_Example], kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss and the rewards, (B,) pointwise or (2, B) pairwise (chosen, rejected)."""
    scores = rewards(backbone, [sequence for example in batch for sequence in example.sequences])
    if kind == "pointwise":
        labels = torch.tensor([example.label for example in batch], device=scores.device)
        return pointwise_loss(scores, labels), scores
    pairs = scores.view(len(batch), 2).T
    return pairwise_loss(pairs[0], pairs[1]), pairs


def fit_reward(
    backbone: Backbone,
    train: Sequence[Row],
    held_out: Sequence[Row],
    options: RewardOptions,
    *,
    folder: Path,
    seed: int,
) -> Fit:
    """Train a fresh reward adapter on a backbone and leave the weights with the lowest held-out loss in place.

    Args:
        backbone: The frozen prior; gains the adapter ``reward`` and its head.
        train: Rows to learn from.
        held_out: Rows for the validation loss; empty to keep the last weights.
        options: See `RewardOptions`.
        folder: Where checkpoints lie meanwhile.
        seed: Seeds adapter, head and order.
    """
    kind = _kind(train, options)
    examples = _examples(backbone, train, kind, options.max_tokens)
    checks = _examples(backbone, held_out, kind, options.max_tokens)
    backbone.attach(REWARD, options.lora, seed=seed, head=True)
    if kind == "pointwise":
        up = min(max(float(np.mean([example.label for example in examples])), 0.01), 0.99)
        backbone.heads[REWARD].bias.data.fill_(math.log(up / (1 - up)))
    lengths = [example.length for example in examples]
    steps = max(1, round(options.epochs * len(examples) / options.batch))

    def learn(step: int) -> dict[str, float]:
        chosen = [examples[row] for row in batch_of_step(lengths, step, size=options.batch, seed=seed)]
        with backbone.adapter(REWARD):
            loss, scores = _batch_loss(backbone, chosen, kind)
            loss.backward()  # type: ignore[no-untyped-call]
        figures = {"loss": float(loss.detach())}
        if kind == "pairwise":
            figures["pair accuracy"] = float((scores[0] > scores[1]).float().mean())
        return figures

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        total = 0.0
        with backbone.adapter(REWARD):
            for start in range(0, len(checks), options.batch):
                chunk = checks[start : start + options.batch]
                total += float(_batch_loss(backbone, chunk, kind)[0]) * len(chunk)
        return {"validation loss": total / len(checks)}

    backbone.train_only(REWARD)
    loop = LoopOptions(
        steps=steps,
        learning_rate=options.learning_rate,
        evaluate_every=max(1, steps // options.evaluations) if checks else 0,
    )
    return optimise(
        backbone.parameters_of(REWARD),
        learn,
        loop,
        folder=folder,
        description="train reward",
        evaluate=evaluate if checks else None,
    )


def _prior_scale(
    backbone: Backbone,
    found: Sequence[Row],
    options: RewardOptions,
    score: Callable[[list[Encoded]], list[float]],
    *,
    seed: int,
) -> tuple[float, float]:
    """Return mean and standard deviation of the reward on samples of the prior."""
    chosen = np.random.default_rng(seed).permutation(len(found))[: options.normalise_on]
    room = prompt_room(options.max_tokens, options.max_new_tokens)
    prompts = [encode_prompt(backbone.tokenizer, found[row].prompt, max_tokens=room) for row in chosen]
    seeds = [item_seed(seed, found[row].id, 0) for row in chosen]
    sampling = Sampling(max_new_tokens=options.max_new_tokens)
    rollouts = []
    with backbone.adapter(None):
        for start in range(0, len(prompts), options.batch):
            span = slice(start, start + options.batch)
            rollouts += generate(backbone, prompts[span], seeds[span], sampling)
    logits = score([rollout.encoded for rollout in rollouts])
    return float(np.mean(logits)), max(float(np.std(logits)), 1e-6)


def run(data: Path, prior: Path, out: Path, *, options: RewardOptions | None = None, seed: int = 0) -> Path:
    """Train a reward model on the ``train`` split, on the frozen prior as backbone.

    Args:
        data: A folder of Rating rows (pointwise loss) or Preference rows (pairwise loss).
        prior: The SFT model.
        out: The run folder: adapter, head, scale, ``curve.parquet`` and, for the held-out splits, ``scores.parquet``
            with the raw reward of every answer (metric ``reward``, or ``reward chosen`` and ``reward rejected``).
        options: See `RewardOptions`.
        seed: Seeds adapter, head, order and the prior's samples.

    Raises:
        UserError: No such data or model, rows of another shape, or no room for a prompt.
        DataError: A broken row or a changed input.
    """
    options = options or RewardOptions()
    prompt_room(options.max_tokens, options.max_new_tokens)
    inputs = {"data": Path(data), "prior": Path(prior)}
    with runs.start(out, verb="train reward", arguments=asdict(options), seed=seed, inputs=inputs) as going:
        if going.done:
            return going.folder
        train = rows.read(data, "train")
        kind = _kind(train, options)
        held_out = rows.read(data, "validation") if "validation" in rows.splits(data) else []
        backbone = open_backbone(prior)
        fit = fit_reward(backbone, train, held_out, options, folder=going.folder, seed=seed)
        backbone.save(REWARD, going.folder)
        Scale(kind, 0.0, 1.0, options.max_tokens).save(going.folder)
        scorer = RewardScorer(going.folder, backbone)
        mean, std = _prior_scale(backbone, train, options, scorer.logits, seed=seed)
        Scale(kind, mean, std, options.max_tokens).save(going.folder)
        test = rows.read(data, "test") if "test" in rows.splits(data) else []
        going.write(_scores(scorer, [*held_out, *test], kind, options), Score)
        going.write(fit.curve, Measurement)
        going.notes |= {
            "loss": kind,
            "rows": len(train),
            "best step": fit.best_step,
            "prior reward mean": mean,
            "prior reward std": std,
            "backbone sha256": backbone.sha256,
            "seconds learning": fit.seconds,
            **backbone.counts(REWARD),
        }
    return going.folder


def _scores(scorer: RewardScorer, found: Sequence[Row], kind: str, options: RewardOptions) -> list[Score]:
    metrics = ("reward",) if kind == "pointwise" else ("reward chosen", "reward rejected")
    examples = _examples(scorer.backbone, found, kind, options.max_tokens)
    flat = scorer.logits([sequence for example in examples for sequence in example.sequences])
    result = []
    for index, example in enumerate(examples):
        for offset, metric in enumerate(metrics):
            value = flat[index * len(metrics) + offset]
            row = example.row
            result.append(Score(row.id, row.id, row.group, "", metric, value))
    return result
