"""The losses of `train policy`, called as its steps call them: the estimators of this package."""

from __future__ import annotations

import functools
from dataclasses import replace
from importlib import metadata

import torch

from perl_eval.conformance.batch import Batch, Estimator
from perl_eval.training.clipped_policy_gradient import Clipping, group_advantages
from perl_eval.training.f_divergence import NEED_Z, Aim, sample_rewards
from perl_eval.training.policy_losses import grpo, reinforce
from perl_eval.training.policy_options import PolicyOptions
from perl_eval.training.policy_step import Piece

__all__ = ["estimators", "loss_of"]


def _advantages(batch: Batch, options: PolicyOptions, paid: torch.Tensor) -> torch.Tensor:
    """Return the reward of each sample less its baseline, as a step of `train policy` has it."""
    aim = Aim(options.objective, batch.beta, batch.group_size)
    if options.objective != "grpo":
        return sample_rewards(batch.rewards, paid, aim)
    rewards = batch.rewards - batch.beta * paid if options.kl == "reward" else batch.rewards
    return group_advantages(rewards, group=batch.group_size, scale=options.clipping.scale)


def loss_of(options: PolicyOptions, batch: Batch) -> torch.Tensor:
    """Return what a step of `train policy` descends on, the value function being 0.

    Args:
        options: Of the training; ``beta``, ``group`` and ``max_new_tokens`` are those of the batch.
        batch: What it sees.
    """
    log_ratio = (batch.log_probs - batch.prior).detach() * batch.mask
    piece = Piece(
        log_probs=batch.log_probs,
        values=torch.zeros_like(batch.log_probs),
        log_ratio=log_ratio,
        scores=_advantages(batch, options, ((batch.old - batch.prior) * batch.mask).sum(1)),
        live=batch.mask,
        sequences=len(batch.tokens),
        tokens=int(batch.mask.sum()),
        prior=batch.prior,
        old=batch.old,
    )
    losses = grpo(piece, options) if options.objective == "grpo" else reinforce(piece, options)
    return torch.stack(list(losses.policy.values())).sum()


def _of(name: str, objective: str, formula: str, options: PolicyOptions) -> Estimator:
    @functools.lru_cache(maxsize=64)
    def of(beta: float, group: int, rows: int, longest: int) -> PolicyOptions:
        return replace(options, beta=beta, group=group, batch=rows, max_new_tokens=longest, max_tokens=0)

    def loss(batch: Batch) -> torch.Tensor:
        return loss_of(of(batch.beta, batch.group_size, len(batch.tokens), batch.longest), batch)

    return Estimator(f"perl-eval {name}", "perl-eval", metadata.version("perl-eval"), objective, formula, loss)


def _grpo(form: str, scale: str, kl: str) -> Estimator:
    """Return GRPO in one form, with rewards divided by one scale and one KL."""
    clipping = Clipping(form=form, scale=scale)  # type: ignore[arg-type]
    options = PolicyOptions(objective="grpo", group=2, kl=kl, clipping=clipping)  # type: ignore[arg-type]
    average = {"grpo": "1/|y|", "dr_grpo": "1/longest", "dapo": "1/(tokens of the batch)"}[form]
    centred = "(R - mean)" if scale == "none" else f"(R - mean) / std of the {scale}"
    inner = "R = r - beta sum_t log(pi/prior)" if kl == "reward" else "R = r"
    beside = "" if kl == "reward" else f" + {average} beta sum_t k3_t"
    formula = f"-{average} sum_t {centred} log pi(y_t){beside}, {inner}"
    normalised = "group-normalised reward less kl" if kl == "reward" else "group-normalised kl"
    objective = "kl" if scale == "none" else normalised
    return _of(f"grpo, form={form}, scale={scale}, kl={kl}", objective, formula, options)


def estimators() -> list[Estimator]:
    """Return every objective and KL of `train policy`."""
    to_go = "-sum_t log pi(y_t) stopgrad(r - baseline - beta sum_{s>=t} log pi(y_s)/prior(y_s))"
    found = [
        _of("reinforce", "reward", "-sum_t log pi(y_t) (r - mean of the others)", PolicyOptions(objective="reinforce")),
        _of("kl_rl, kl=reward", "kl", to_go, PolicyOptions(objective="kl_rl")),
        _of(
            "kl_rl, kl=loss",
            "kl",
            "-sum_t log pi(y_t) (r - baseline) + beta sum_t log pi(y_t) stopgrad(sum_{s>=t} log pi(y_s)/prior(y_s))",
            PolicyOptions(objective="kl_rl", kl="loss"),
        ),
    ]
    named = {"forward_kl": "target to policy", "js": "jensen-shannon", "tv": "total variation"}
    for objective in NEED_Z:
        formula = f"-sum_t log pi(y_t) (-f'(pi/target) - baseline), {objective}, with Z from the samples of the group"
        found.append(_of(objective, named[objective], formula, PolicyOptions(objective=objective, group=2)))
    found += [_grpo(form, "none", "reward") for form in ("dr_grpo", "grpo", "dapo")]
    found += [_grpo(form, "group", kl) for form in ("grpo", "dr_grpo", "dapo") for kl in ("k3", "reward")]
    found += [_grpo("dr_grpo", "none", "k3"), _grpo("grpo", "batch", "k3")]
    return found
