"""Policies from labels without a reward model: DPO and its kin on Preference rows, KTO on Rating rows.

The reward is implicit, ``beta log policy / prior``, and what is aimed at is the target of RL with that beta,
``prior exp(reward / beta) / Z``; see `perl_eval.training.direct_losses`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from perl_eval.checks import valid_seed
from perl_eval.errors import UserError
from perl_eval.metrics.glossary import curve_glossary
from perl_eval.models.backbone import open_backbone
from perl_eval.models.model_card import model_card
from perl_eval.models.model_source import located
from perl_eval.records import Estimate, Measurement, Score
from perl_eval.sources import rows
from perl_eval.sources.rows import Row
from perl_eval.training.direct_losses import PAIR_LOSSES
from perl_eval.training.direct_tuning import DirectLoss, DirectTrainer, DpoOptions
from perl_eval.training.distributed import Processes
from perl_eval.training.loop import Fit
from perl_eval.training.platt import held_out_quality
from perl_eval.training.profiling import Meter, byte_account
from perl_eval.training.reward_examples import NEED, kind_of

__all__ = ["DpoOptions", "run"]


def _loss_of(data: Path, options: DpoOptions) -> DirectLoss:
    """Return the loss that was asked for, or that fits the rows.

    Raises:
        UserError: It does not fit the rows.
    """
    kind = kind_of(data, "train")
    if not options.loss:
        return "sigmoid" if kind == "pairwise" else "kto"
    if (options.loss == "kto") != (kind == "pointwise"):
        have = "preferences" if kind == "pairwise" else "ratings"
        fix = f"take one of {', '.join(PAIR_LOSSES)}" if kind == "pairwise" else "take kto"
        raise UserError(f"loss {options.loss} does not read {have}, which the rows are", fix)
    return options.loss


def run(data: Path, prior: Path, out: Path, *, options: DpoOptions | None = None, seed: int = 0) -> Path:
    """Train a policy on the ``train`` split, from the prior: an adapter of it, or a tuned copy.

    Args:
        data: A folder of Preference rows, or of Rating rows.
        prior: The SFT model: where the policy starts, and the KL anchor.
        out: The run folder: the policy adapter in peft's layout (with ``full`` the whole model), ``curve.parquet`` and,
            for the held-out splits, ``scores.parquet`` with the implicit reward of every answer (metric ``reward``, or
            ``reward chosen`` and ``reward rejected``) and ``estimates.parquet`` with how well it tells good from bad.
        options: See `DpoOptions`.
        seed: Seeds adapter and order.

    Raises:
        UserError: No such data or model, or rows of another shape.
        DataError: A broken row or a changed input.
    """
    options = options or DpoOptions()
    prior = located(prior)
    inputs = {"data": Path(data), "prior": prior}
    placement = options.resources.placement
    processes = Processes.current(placement.resolve())
    plan = {"verb": "train dpo", "arguments": asdict(options), "seed": valid_seed(seed), "inputs": inputs}
    with processes.start(out, **plan) as going:
        if going.done:
            return going.folder
        loss = _loss_of(data, options)
        kind = "pointwise" if loss == "kto" else "pairwise"
        split = {name: rows.read(data, name, need=NEED[kind]) for name in rows.splits(data)}
        if not split.get("train"):
            raise UserError(f"{data} has no rows in its train split", "build a config with some")
        split["train"] = rows.limited(split["train"], options.limit)
        with Meter(placement.resolve()) as meter:
            backbone = open_backbone(prior, placement, frozen=not options.full)
            before = backbone.weights_sha256()
            trainer = DirectTrainer(backbone, split, options, loss=loss, seed=seed, processes=processes)
            fit = trainer.train(going.folder, meter)
        if not options.full and backbone.weights_sha256() != before:
            raise AssertionError("the frozen backbone changed while the policy was trained")
        if processes.is_main:
            scores = trainer.scores()
            backbone.save(trainer.name, going.folder)
            going.notes |= {**_notes(trainer, fit), **meter.notes()}
            _write(going, split, scores, kind)
            going.write(fit.curve, Measurement)
            model_card(going.folder, "train dpo", prior, going.notes, curve_glossary("train dpo"))
        processes.wait()
    return going.folder


def _write(going: Any, split: dict[str, list[Row]], scores: Sequence[Score], kind: str) -> None:
    """Write the implicit rewards of the held-out rows and what they are worth; nothing where there are none."""
    going.write(scores, Score)
    if scores:
        going.write(held_out_quality(split, scores, kind), Estimate)


def _notes(trainer: DirectTrainer, fit: Fit) -> dict[str, Any]:
    """Return the figures for the run card."""
    backbone, options = trainer.backbone, trainer.options
    return {
        **backbone.counts(trainer.name),
        **byte_account([backbone], trainer.parameters().values(), options.updating.optimizer),
        **trainer.cuts.notes(),
        "beta": options.beta,
        "loss": trainer.loss,
        "learning rate": options.rate,
        "rows": len(trainer.examples),
        "steps": fit.steps,
        "best step": fit.best_step,
        "seconds a step": fit.seconds / fit.steps,
        "backbone sha256": backbone.sha256,
        "processes": trainer.processes.count,
    }
