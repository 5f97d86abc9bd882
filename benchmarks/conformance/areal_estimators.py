"""AReaL's losses as estimators of the conformance suite.

Each is computed by the two methods of AReaL's own ``PPOActor`` that a trainer calls: ``compute_advantages`` (reward
normalisation, KL in the reward, generalised advantages without a critic) and ``ppo_update``, which hands
``grpo_loss_fn`` to the engine. Only the engine is replaced: its forward pass returns the log-probabilities of the
batch, and its training step keeps the loss, of one micro batch. Settings are fields of AReaL's own ``PPOActorConfig``
and ``NormConfig``; what is not named has AReaL's default.

AReaL imports much that serves rollouts; its losses use none of it, so where a package is not installed an empty
module stands in for it, and goes away with the last import here.

``perl-eval conformance --adapter benchmarks/conformance/areal_estimators.py``
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

import torch
from empty_modules import absent_as_empty

from perl_eval.conformance.batch import Batch, Estimator

UNUSED_BY_LOSSES = (
    "aiofiles",
    "einops",
    "flask",
    "lark",
    "numba",
    "pybase64",
    "swanlab",
    "tensorboardX",
    "trackio",
    "uvloop",
    "wandb",
)

with warnings.catch_warnings(), absent_as_empty(*UNUSED_BY_LOSSES):
    warnings.simplefilter("ignore")
    from areal.api.cli_args import NormConfig, PPOActorConfig
    from areal.trainer.ppo import actor

__all__ = ["estimators"]


class _NoStatistics:
    """Stands for AReaL's tracker of statistics, which keeps every tensor that it is told until it is exported."""

    @contextmanager
    def scope(self, _: str) -> Iterator[None]:
        """Name nothing."""
        yield

    def denominator(self, **_: Any) -> None:
        """Keep nothing."""

    stat = scalar = denominator


class _Engine:
    """Stands for a training engine with a model.

    Args:
        batch: What its forward pass returns the log-probabilities of.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.loss: torch.Tensor | None = None

    def train(self) -> None:
        """Set no mode."""

    def get_version(self) -> int:
        """Return the version of the weights."""
        return 0

    def train_batch(self, given: Mapping[str, Any], loss_fn: Callable[..., torch.Tensor], **_: Any) -> dict[str, float]:
        """Keep the loss; places hold the log-probability of the token after them."""
        rows = given["row"].long()
        log_probs = _before_token(self.batch.log_probs)[rows]
        self.loss = loss_fn(log_probs, torch.zeros_like(log_probs), given)
        return {}


def _before_token(each: torch.Tensor) -> torch.Tensor:
    """Return numbers of the tokens at the place before each, in rows with a prompt of one token, (B, 1 + T)."""
    return torch.cat([each, torch.zeros_like(each[:, :1])], dim=1)


def _at_token(each: torch.Tensor, first: float = 0.0) -> torch.Tensor:
    """Return numbers of the tokens at their own place, in rows with a prompt of one token, (B, 1 + T)."""
    return torch.cat([torch.full_like(each[:, :1], first), each], dim=1)


def _data(batch: Batch) -> dict[str, Any]:
    """Return a batch as AReaL's rollouts and its reference model hand it on, with a prompt of one token."""
    mask = batch.mask.long()
    return {
        "input_ids": _at_token(batch.tokens),
        "attention_mask": _at_token(mask, 1),
        "loss_mask": _at_token(mask),
        "logprobs": _at_token(batch.old),
        "ref_logp": _before_token(batch.prior),
        "rewards": batch.rewards.clone(),
        "row": torch.arange(len(batch.rewards)),
    }


def _loss(
    fields: Mapping[str, Any], norm: Mapping[str, Any] | None, *, has_kl: bool
) -> Callable[[Batch], torch.Tensor]:
    """Return the loss of a configuration as a function of a batch."""

    def loss(batch: Batch) -> torch.Tensor:
        config = PPOActorConfig(
            experiment_name="conformance",
            trial_name="conformance",
            ppo_n_minibatches=1,
            max_new_tokens=batch.longest,
            kl_ctl=batch.beta if has_kl else 0.0,
            reward_norm=None if norm is None else NormConfig(group_size=batch.group_size, **norm),
            **fields,
        )
        engine = _Engine(batch)
        trained = actor.PPOActor(config, engine)
        trained._ppo_update(trained._compute_advantages(_data(batch)))
        if engine.loss is None:
            raise RuntimeError("AReaL's ppo_update trained no batch")
        return engine.loss

    return loss


OTHERS_MEAN: Mapping[str, Any] = MappingProxyType({"mean_level": "group", "mean_leave1out": True, "std_level": None})
GROUP_MEAN: Mapping[str, Any] = MappingProxyType({"mean_level": "group", "std_level": None})
GROUP_STD: Mapping[str, Any] = MappingProxyType({"mean_level": "group", "std_level": "group"})

# What the lines of formulas share. rho_t = pi/old of a token, q = prior, k1_t = log pi/q, k3_t = q/pi - 1 - log q/pi.
TOKENS = "l_t = -min(rho_t A_t, clip(rho_t) A_t); sum_i,t l_t / sum_i |y_i|"
LEAVE_ONE_OUT = "A = r_i - mean_{j != i} r_j"
TO_GO = "A_t = A - beta sum_{s >= t} "


def _estimator(
    name: str, objective: str, formula: str, norm: Mapping[str, Any] | None, has_kl: bool = False, **fields: Any
) -> Estimator:
    """Return an estimator by AReaL."""
    made = _loss(MappingProxyType(fields), norm, has_kl=has_kl)
    return Estimator(f"areal {name}", "areal", version("areal"), objective, formula, made)


def _with_kl() -> list[Estimator]:
    """Return each estimate of the KL, in the return of each token; AReaL has none in the loss."""
    lines = {"k1": "k1_s", "k2": "k1_s^2 / 2, without its own derivative", "k3": "k3_s, without its own derivative"}
    found = [
        _estimator(
            f"group mean leave-one-out, kl_ctl, {kind}",
            "kl",
            f"{LEAVE_ONE_OUT}; {TO_GO}{line}; {TOKENS}",
            OTHERS_MEAN,
            has_kl=True,
            kl_estimator=kind,
        )
        for kind, line in lines.items()
    ]
    found += [
        _estimator(
            "no reward_norm, kl_ctl",
            "kl",
            f"A = r; {TO_GO}k1_s; {TOKENS}",
            None,
            has_kl=True,
        ),
        _estimator(
            "group mean and std, kl_ctl",
            "group-normalised kl",
            f"A = (r - mean_group r) / (std_group r + 1e-5); {TO_GO}k1_s; {TOKENS}",
            GROUP_STD,
            has_kl=True,
        ),
    ]
    return found


def _without_kl() -> list[Estimator]:
    """Return what claims the reward alone."""
    by_row = "s = exp(1/|y| sum_t log rho_t); l_t = -min(s A, clip(s) A); sum_i |y_i| l_i / sum_i |y_i|"
    gate = "l_t = -(4/tau) sigmoid(tau (rho_t - 1)) A, tau 1 where A > 0, 1.05 elsewhere; sum_i,t l_t / sum_i |y_i|"
    whitened = NormConfig(mean_level="batch", std_level="batch")
    return [
        _estimator(
            "group mean leave-one-out",
            "reward",
            f"{LEAVE_ONE_OUT}; {TOKENS}",
            OTHERS_MEAN,
        ),
        _estimator(
            "group mean and std, adv_norm batch",
            "group-normalised",
            f"A = (r - mean_group r) / (std_group r + 1e-5), then whitened over the batch's tokens; {TOKENS}",
            GROUP_STD,
            adv_norm=whitened,
        ),
        _estimator(
            "group mean, importance_sampling_level=sequence",
            "reward",
            f"A = r - mean_group r; {by_row}",
            GROUP_MEAN,
            importance_sampling_level="sequence",
        ),
        _estimator(
            "group mean, use_sapo_loss",
            "reward",
            f"A = r - mean_group r; {gate}",
            GROUP_MEAN,
            use_sapo_loss=True,
        ),
        _estimator(
            "group mean, c_clip=3",
            "reward",
            "A = r - mean_group r; l_t = -min(rho_t A, clip(rho_t) A), at most 3 |A|; sum_i,t l_t / sum_i |y_i|",
            GROUP_MEAN,
            c_clip=3.0,
        ),
        _estimator(
            "group mean, mask_no_eos_with_zero",
            "reward",
            f"A = r - mean_group r, 0 in rows as long as the longest of the batch, ended or not; {TOKENS}",
            GROUP_MEAN,
            mask_no_eos_with_zero=True,
        ),
    ]


def estimators() -> list[Estimator]:
    """Return every estimator of AReaL that the suite measures.

    Returns:
        Eleven; ``kl_ctl`` claims E[r] - beta KL(pi || prior), the others E[r], but for those that divide rewards by the
        standard deviation of their group.
    """
    actor.stats_tracker = _NoStatistics()
    actor.logger.setLevel(logging.WARNING)
    return [*_with_kl(), *_without_kl()]
