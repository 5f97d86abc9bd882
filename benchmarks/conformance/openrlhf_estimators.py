"""OpenRLHF's losses as estimators of the conformance suite.

Each is computed by the two objects of OpenRLHF's own PPO trainer: ``RemoteExperienceMaker.make_experience`` and
``compute_advantages_and_returns`` (KL, baselines, returns, normalisation), then ``ActorPPOTrainer.training_step``
(``PolicyLoss``, ``compute_approx_kl``, ``aggregate_loss``), normalised by ``iter_grad_accum_global_norm`` over one
micro batch a step. Only what needs a model is replaced: a forward pass returns the log-probabilities of the batch,
and the backward pass keeps the loss. Settings have the names and defaults of ``openrlhf.cli.train_ppo_ray``.

OpenRLHF imports deepspeed, flash_attn, ring_flash_attn and vllm at import time; its losses use none of them, so where
one is not installed an empty module stands in for it, and goes away with the last import here.

``perl-eval conformance --adapter benchmarks/conformance/openrlhf_estimators.py``
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import torch
from empty_modules import absent_as_empty

from perl_eval.conformance.batch import Batch, Estimator

with warnings.catch_warnings(), absent_as_empty("deepspeed", "flash_attn", "ring_flash_attn", "vllm"):
    warnings.simplefilter("ignore")
    from openrlhf.models import PolicyLoss
    from openrlhf.trainer.ppo_utils import experience_maker, length_penalty
    from openrlhf.trainer.ppo_utils.experience import Experience
    from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer
    from openrlhf.utils.loss_utils import iter_grad_accum_global_norm

__all__ = ["estimators"]

# The options of openrlhf.cli.train_ppo_ray that the losses read, at their defaults.
DEFAULTS: Mapping[str, Any] = {
    "actor.aux_loss_coef": 0.0,
    "actor.dual_clip": None,
    "actor.entropy_coef": None,
    "actor.eps_clip_low_high": (0.2, 0.2),
    "actor.loss_agg_mode": "token-mean",
    "actor.policy_loss_type": "ppo",
    "algo.advantage.estimator": "gae",
    "algo.advantage.gamma": 1.0,
    "algo.advantage.is_correction_gating": "ratio",
    "algo.advantage.is_correction_level": "off",
    "algo.advantage.is_correction_mode": "mask",
    "algo.advantage.is_correction_threshold": [0.5, 5.0],
    "algo.advantage.no_std_norm": False,
    "algo.kl.estimator": "k1",
    "algo.kl.unbiased_gradient": False,
    "algo.kl.use_loss": False,
    "ds.ring_attn_size": 1,
    "ds.tensor_parallel_size": 1,
    "reward.clip_range": (-10, 10),
    "reward.overlong_buffer_len": None,
    "reward.stop_properly_penalty_coef": None,
    "train.colocate_actor_ref": False,
    "train.colocate_all": False,
    "train.dynamic_batch_enable": False,
}


def _nested(options: Mapping[str, Any]) -> SimpleNamespace:
    """Return options with dots in their names as OpenRLHF reads them, ``args.algo.kl.estimator``."""
    top = SimpleNamespace()
    for name, value in options.items():
        *parts, last = name.split(".")
        at = top
        for part in parts:
            if not hasattr(at, part):
                setattr(at, part, SimpleNamespace())
            at = getattr(at, part)
        setattr(at, last, value)
    return top


class _Forward:
    """Stands for a group of workers with a model: its forward pass returns what it was given.

    Args:
        log_probs: (B, T).
    """

    def __init__(self, log_probs: torch.Tensor) -> None:
        self.log_probs = log_probs

    def async_run_method_batch(self, **_: Any) -> list[list[torch.Tensor]]:
        """Return the log-probabilities of the one experience there is."""
        return [[self.log_probs]]


class _Actor:
    """Stands for the policy in training.

    Args:
        log_probs: (B, T), with gradient.
    """

    def __init__(self, log_probs: torch.Tensor) -> None:
        self.log_probs = log_probs

    def train(self) -> None:
        """Set no mode."""

    def __call__(self, *_: Any, **__: Any) -> tuple[torch.Tensor, None]:
        return self.log_probs, None


class _Strategy:
    """Stands for DeepSpeed: keeps the loss that a step descends on.

    Args:
        args: The options.
    """

    ring_attn_group = None

    def __init__(self, args: SimpleNamespace) -> None:
        self.args = args
        self.loss: torch.Tensor | None = None

    def backward(self, loss: torch.Tensor, *_: Any) -> None:
        """Keep the loss."""
        self.loss = loss

    def optimizer_step(self, *_: Any, **__: Any) -> None:
        """Take no step."""

    def get_grad_norm(self, _: Any) -> float:
        """Return no norm."""
        return 0.0


class _Trainer(ActorPPOTrainer):  # type: ignore[misc]
    """OpenRLHF's trainer of the actor on one batch.

    Args:
        strategy: Keeps the loss.
        actor: Returns the log-probabilities of the batch.
    """

    def __init__(self, strategy: _Strategy, actor: _Actor) -> None:
        self.strategy, self.args, self.actor = strategy, strategy.args, actor
        self.actor_optim = self.ema_model = self.replay_buffer = None
        self.actor_scheduler = SimpleNamespace(get_last_lr=lambda: [0.0])
        self.aux_loss = False
        options = self.args.actor
        correction = self.args.algo.advantage
        self.actor_loss_fn = PolicyLoss(
            clip_eps_low=options.eps_clip_low_high[0],
            clip_eps_high=options.eps_clip_low_high[1],
            dual_clip=options.dual_clip,
            token_level_loss=options.loss_agg_mode == "token-mean",
            policy_loss_type=options.policy_loss_type,
            is_correction_level=correction.is_correction_level,
            is_correction_mode=correction.is_correction_mode,
            is_correction_gating=correction.is_correction_gating,
            is_correction_threshold=correction.is_correction_threshold,
        )


def _experience(batch: Batch) -> Any:
    """Return what OpenRLHF's sample generator makes of a batch, with rewards of a reward function."""
    return Experience(
        sequences=batch.tokens,
        attention_mask=batch.mask.long(),
        action_mask=batch.mask,
        rollout_log_probs=batch.old,
        rewards=batch.rewards.clone(),
        response_length=batch.mask.sum(1),
        truncated=~batch.ended,
        total_length=batch.mask.sum(1),
        index=list(range(len(batch.rewards))),
    )


def _loss(given: Mapping[str, Any], *, has_kl: bool) -> Callable[[Batch], torch.Tensor]:
    """Return the loss of a run's options as a function of a batch."""

    def loss(batch: Batch) -> torch.Tensor:
        coefficient = batch.beta if has_kl else 0.0
        args = _nested(
            {
                **DEFAULTS,
                "rollout.n_samples_per_prompt": batch.group_size,
                "rollout.max_new_tokens": batch.longest,
                "algo.kl.init_coef": coefficient,
                **given,
            }
        )
        strategy = _Strategy(args)
        maker = experience_maker.RemoteExperienceMaker(
            _Forward(batch.old),
            None,
            None,
            _Forward(batch.prior) if has_kl else None,
            SimpleNamespace(value=coefficient),
            strategy,
            None,
        )
        made = maker.compute_advantages_and_returns(maker.make_experience([_experience(batch)]))
        trainer = _Trainer(strategy, _Actor(batch.log_probs))
        for step, (one, sizes) in enumerate(
            iter_grad_accum_global_norm(made, strategy, 1, lambda one: one.action_mask)
        ):
            trainer.training_step(one, coefficient, step, sizes)
        if strategy.loss is None:
            raise RuntimeError("OpenRLHF's training_step called no backward pass")
        return strategy.loss

    return loss


def _put(one: Any) -> Any:
    """Return an object as it is, in place of Ray's store."""
    return one


def _estimator(name: str, objective: str, formula: str, *, has_kl: bool = True, **given: Any) -> Estimator:
    """Return an estimator by OpenRLHF; options have two underscores where their names have a dot."""
    options = {key.replace("__", "."): value for key, value in given.items()}
    made = f"openrlhf {name}"
    return Estimator(made, "openrlhf", version("openrlhf"), objective, formula, _loss(options, has_kl=has_kl))


# What the lines of formulas share. rho_t = pi/old of a token, q = prior, k1_t = log pi/q, k3_t = q/pi - 1 - log q/pi.
CLIPPED = "l_t = -min(rho_t A_t, clip(rho_t) A_t)"
BY_TOKEN = "sum_i,t l_t / sum_i |y_i|"
BY_ROW = "mean_i of 1/|y_i| sum_t l_t"
TO_GO = "A_t = A - beta sum_{s >= t} k1_s"
LEAVE_ONE_OUT = "A = r_i - mean_{j != i} r_j"
CENTRED = "A = r - mean_group r"
SCALED = "A = (r - mean_group r) / (std_group r + 1e-9)"
WHITENED = "A_t then whitened over the batch's tokens"

KL_LOSSES = {
    "k1": "+ beta k1_t: on policy E d k1_t = E d log pi_t = 0",
    "k2": "+ beta k1_t^2 / 2: on policy E d = d KL(pi || prior) of each token, of no later one",
    "k3": "+ beta k3_t: on policy E d k3_t = d KL(prior || pi) of each token, of no later one",
}
UNBIASED = "+ beta (k3_t, with the gradient of sg[min(rho_t, 10)] k1_t^2 / 2): d KL(pi || prior) of each token alone"


def _kl_in_rewards() -> list[Estimator]:
    """Return each baseline with k1 in the return of each token, OpenRLHF's default."""
    every = {
        "rloo": f"{LEAVE_ONE_OUT}; {TO_GO}",
        "dr_grpo": f"{CENTRED}; {TO_GO}",
        "group_norm": f"{SCALED}; {TO_GO}",
        "reinforce_baseline": f"{CENTRED}; {TO_GO}; {WHITENED}",
        "reinforce": f"A = r; {TO_GO}; {WHITENED}",
        "flash_reinforce": f"A = r - mean_batch r; {TO_GO}",
    }
    found = [
        _estimator(
            kind,
            "group-normalised kl" if kind == "group_norm" else "kl",
            f"{line}; {CLIPPED}; {BY_TOKEN}",
            algo__advantage__estimator=kind,
        )
        for kind, line in every.items()
    ]
    found.append(
        _estimator(
            "reinforce_baseline, no_std_norm",
            "kl",
            f"{CENTRED}; {TO_GO}; A_t less its mean over the batch's tokens; {CLIPPED}; {BY_TOKEN}",
            algo__advantage__estimator="reinforce_baseline",
            algo__advantage__no_std_norm=True,
        )
    )
    found.append(
        _estimator(
            "rloo, seq-mean-token-mean",
            "kl",
            f"{LEAVE_ONE_OUT}; {TO_GO}; {CLIPPED}; {BY_ROW}",
            algo__advantage__estimator="rloo",
            actor__loss_agg_mode="seq-mean-token-mean",
        )
    )
    for kind, line in (("k2", "k1_s^2 / 2"), ("k3", "k3_s")):
        found.append(
            _estimator(
                f"rloo, {kind}",
                "kl",
                f"{LEAVE_ONE_OUT}; A_t = A - beta sum_{{s >= t}} {line}, without its own derivative; {CLIPPED}; "
                f"{BY_TOKEN}",
                algo__advantage__estimator="rloo",
                algo__kl__estimator=kind,
            )
        )
    return found


def _kl_losses() -> list[Estimator]:
    """Return each KL that is added to the loss; it is averaged over the batch's tokens whatever the policy loss is."""
    found = [
        _estimator(
            f"dr_grpo, use_loss {kind}",
            "kl",
            f"{CENTRED}; {CLIPPED} {line}; {BY_TOKEN}",
            algo__advantage__estimator="dr_grpo",
            algo__kl__use_loss=True,
            algo__kl__estimator=kind,
        )
        for kind, line in KL_LOSSES.items()
    ]
    shared: dict[str, Any] = {"algo__kl__use_loss": True, "algo__kl__estimator": "k3"}
    found += [
        _estimator(
            "dr_grpo, use_loss k3, unbiased_gradient",
            "kl",
            f"{CENTRED}; {CLIPPED} {UNBIASED}; {BY_TOKEN}",
            algo__advantage__estimator="dr_grpo",
            algo__kl__unbiased_gradient=True,
            **shared,
        ),
        _estimator(
            "group_norm, use_loss k3",
            "group-normalised kl",
            f"{SCALED}; {CLIPPED} {KL_LOSSES['k3']}; {BY_TOKEN}",
            algo__advantage__estimator="group_norm",
            **shared,
        ),
        _estimator(
            "group_norm, seq-mean-token-mean, use_loss k3",
            "group-normalised kl",
            f"{SCALED}; {CLIPPED}; {BY_ROW}; {KL_LOSSES['k3']}, but by sum over i, t of k3_t / sum_i |y_i|",
            algo__advantage__estimator="group_norm",
            actor__loss_agg_mode="seq-mean-token-mean",
            **shared,
        ),
    ]
    return found


def _without_kl() -> list[Estimator]:
    """Return what claims the reward alone."""
    by_row = "s = exp(1/|y| sum_t log rho_t); l = -min(s A, clip(s) A), d s = s/|y| sum_t d log pi_t; mean_i l_i"
    return [
        _estimator(
            "rloo, init_coef=0",
            "reward",
            f"{LEAVE_ONE_OUT}; {CLIPPED}; {BY_TOKEN}",
            has_kl=False,
            algo__advantage__estimator="rloo",
        ),
        _estimator(
            "group_norm, init_coef=0, policy_loss_type=gspo",
            "group-normalised",
            f"{SCALED}; {by_row}",
            has_kl=False,
            algo__advantage__estimator="group_norm",
            actor__policy_loss_type="gspo",
        ),
        _estimator(
            "rloo, init_coef=0, dual_clip=3",
            "reward",
            f"{LEAVE_ONE_OUT}; {CLIPPED}, at most -3 A where A < 0; {BY_TOKEN}",
            has_kl=False,
            algo__advantage__estimator="rloo",
            actor__dual_clip=3.0,
        ),
        _estimator(
            "rloo, init_coef=0, stop_properly_penalty_coef=0",
            "reward",
            f"r = 0 in rows without their end; {LEAVE_ONE_OUT}; {CLIPPED}; {BY_TOKEN}",
            has_kl=False,
            algo__advantage__estimator="rloo",
            reward__stop_properly_penalty_coef=0.0,
        ),
    ]


def estimators() -> list[Estimator]:
    """Return every estimator of OpenRLHF that the suite measures.

    Returns:
        Twenty; ``init_coef=0`` claims E[r], the others E[r] - beta KL(pi || prior), but for ``group_norm``, which
        divides rewards by the standard deviation of their group.
    """
    experience_maker.ray = SimpleNamespace(put=_put, get=_put)
    for module in (experience_maker, length_penalty):
        module.logger.setLevel("WARNING")
    return [*_kl_in_rewards(), *_kl_losses(), *_without_kl()]
