"""RL policies: prompts, a prior and a reward to a policy; the step itself is in `perl_eval.training.reinforce`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from perl_eval.checks import valid_seed
from perl_eval.metrics.glossary import curve_glossary
from perl_eval.models.backbone import open_backbone
from perl_eval.models.model_card import model_card
from perl_eval.models.model_source import located
from perl_eval.records import Measurement
from perl_eval.sources import rows
from perl_eval.storage import run_folder
from perl_eval.training.actor_critic import POLICY, VALUE, Roles
from perl_eval.training.alarms import alarm_in
from perl_eval.training.distributed import Processes
from perl_eval.training.loop import Fit
from perl_eval.training.profiling import Meter, byte_account
from perl_eval.training.reinforce import ROLLOUTS, PolicyOptions, PolicyTrainer, cast
from perl_eval.training.reward_function import Reward, learned_reward, signature

__all__ = ["POLICY", "VALUE", "PolicyOptions", "PolicyTrainer", "Reward", "run"]


def run(  # the verb's inputs are four paths; folding them into one argument would hide them
    data: Path,
    prior: Path,
    reward: Path | Sequence[Path] | Reward,
    out: Path,
    *,
    options: PolicyOptions | None = None,
    seed: int = 0,
) -> Path:
    """Train a policy against a reward, on the prior as one frozen backbone, or as a tuned copy of it.

    Args:
        data: A folder of rows with prompts; the ``train`` split is used.
        prior: The SFT model: where the policy starts, and the KL anchor.
        reward: The output of ``train reward`` on the same prior; several, which make an ensemble; or any function of
            rows and rollouts.
        out: The run folder: the policy adapter in peft's layout (with ``full`` the whole model), ``curve.parquet`` and
            the run card.
        options: See `PolicyOptions`.
        seed: Seeds adapter, order and samples.

    Raises:
        UserError: No such data, model or reward model.
        DataError: A changed input, or a reward model of another backbone.
    """
    options = options or PolicyOptions()
    if options.fp32_kl:  # weights must be there in float32 to be computed with
        placement = replace(options.resources.placement, wide=True)
        options = replace(options, resources=replace(options.resources, placement=placement))
    prior = located(prior)
    inputs, extra = {"data": Path(data), "prior": prior}, {}
    if callable(reward):
        extra = {"reward": signature(reward)}
    else:
        members = [located(one) for one in ([reward] if isinstance(reward, str | Path) else reward)]
        inputs |= {"reward" if len(members) == 1 else f"reward {n}": one for n, one in enumerate(members)}
    watch = [located(one) for one in options.watch]
    inputs |= {f"watch {number}": one for number, one in enumerate(watch)}
    processes = Processes.current(options.resources.placement.resolve())
    arguments = {**asdict(options), **extra}
    if options.rollouts is not None:  # where the server is, and how it is asked, changes no sample
        arguments["rollouts"] = {"weight_cap": options.rollouts.weight_cap, "level": options.rollouts.level}
    del arguments["watch"]  # they are inputs
    del arguments["mended"]  # how a run goes on is no part of what it is
    plan = {"verb": "train policy", "arguments": arguments, "seed": valid_seed(seed), "inputs": inputs}
    before = (
        run_folder.agree(out, "reward", extra["reward"]) if options.mended and extra and processes.is_main else None
    )
    with processes.start(out, **plan) as going:
        if going.done:
            return going.folder
        if before is not None:
            going.notes["reward before it was mended"] = before["source sha256"]
        found = rows.limited(rows.read(data, "train"), options.limit)
        with Meter(options.resources.placement.resolve()) as meter:
            backbone = open_backbone(prior, options.resources.placement)
            untouched = backbone.weights_sha256()
            size, rule = options.resources.micro_batch or 64, options.ensemble.at(options.kl_strength)
            given = reward if callable(reward) else learned_reward(members, backbone, rule, batch=size)
            roles = cast(backbone, options, seed=seed)
            trainer = PolicyTrainer(roles, found, given, options, seed=seed, processes=processes)
            if watch:
                trainer.watched = learned_reward(watch, backbone, batch=size, name="watch")
            fit = trainer.train(going.folder, meter)
        if backbone.weights_sha256() != untouched:
            raise AssertionError("the frozen backbone changed while the policy was trained")
        if processes.is_main:
            shutil.rmtree(going.folder / ROLLOUTS, ignore_errors=True)
            roles.policy.backbone.save(roles.policy.name, going.folder)
            going.notes |= {
                **_notes(roles, options, fit),
                "learning rate": trainer.rate,
                **trainer.cuts.notes(),
                **meter.notes(),
                **_told(trainer, fit),
                "processes": processes.count,
            }
            going.write(fit.curve, Measurement)
            model_card(going.folder, "train policy", prior, going.notes, curve_glossary("train policy"))
        processes.wait()
    return going.folder


def _told(trainer: PolicyTrainer, fit: Fit) -> dict[str, Any]:
    """Return what a server's samples lost, and where those who watch raised an alarm."""
    notes, options = {}, trainer.options
    if trainer.server is not None and not trainer.server.takes_ids:
        notes["samples tokenized otherwise"] = trainer.server.otherwise
    alarm = alarm_in(fit.curve, options.schedule.steps(options.steps), options.alarms)
    if alarm is not None:
        notes |= {"alarm at step": alarm.step, "watched reward highest at step": alarm.peak}
    return notes


def _notes(roles: Roles, options: PolicyOptions, fit: Fit) -> dict[str, Any]:
    """Return the figures for the run card; the trained share is of the policy alone."""
    trained = [one for part in roles.parts().values() for one in part.values()]
    resident = sum(int(backbone.counts()["parameters"]) for backbone in roles.backbones)
    return {
        **roles.policy.backbone.counts(roles.policy.name),
        "parameters": resident,
        "models in memory": len(roles.backbones),
        **byte_account(roles.backbones, trained, options.updating.optimizer),
        "beta": options.kl_strength,
        "backbone sha256": roles.prior.backbone.sha256,
        "steps": fit.steps,
        "best step": fit.best_step,
        "seconds a step": fit.seconds / fit.steps,
    }
