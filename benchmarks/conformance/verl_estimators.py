"""verl's losses as estimators of the conformance suite.

Each is computed by the functions that verl's trainer calls, in its order: ``apply_kl_penalty`` where the KL enters the
reward and ``compute_advantage`` (verl.trainer.ppo.ray_trainer), as in ``_compute_advantage`` of
verl.trainer.ppo.v1.trainer_base, then ``ppo_loss`` (verl.workers.utils.losses) on nested tensors without padding, which
calls the registered policy loss, ``kl_penalty`` and ``agg_loss``. One process, one micro batch a step
(``dp_size`` 1, ``batch_num_tokens`` and ``global_batch_size`` those of the batch). Settings are fields of verl's own
``AlgoConfig`` and ``ActorConfig``; what is not named has verl's default.

``perl-eval conformance --adapter benchmarks/conformance/verl_estimators.py``
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

import torch

from perl_eval.conformance.batch import Batch, Estimator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from tensordict import TensorDict
    from verl import DataProto
    from verl.trainer.config import AlgoConfig
    from verl.trainer.ppo.core_algos import FixedKLController
    from verl.trainer.ppo.ray_trainer import apply_kl_penalty, compute_advantage
    from verl.utils import tensordict_utils
    from verl.workers.config import ActorConfig, PolicyLossConfig
    from verl.workers.utils.losses import ppo_loss
    from verl.workers.utils.padding import response_to_nested

__all__ = ["estimators"]

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class _Settings:
    """How a run of verl is configured, in its own names.

    Attributes:
        advantage: ``algorithm.adv_estimator``.
        algorithm: Other fields of ``algorithm``.
        actor: Fields of ``actor_rollout_ref.actor``.
        policy_loss: Fields of ``actor.policy_loss``.
        kl_in_reward: ``algorithm.kl_penalty`` where ``algorithm.use_kl_in_reward`` is true; None where it is not.
        kl_loss: ``actor.kl_loss_type`` where ``actor.use_kl_loss`` is true; None where it is not.
        scaled_by_longest: Whether ``actor.loss_scale_factor`` is the longest response; verl's default is None.
    """

    advantage: str
    algorithm: Mapping[str, Any] = field(default_factory=dict)
    actor: Mapping[str, Any] = field(default_factory=dict)
    policy_loss: Mapping[str, Any] = field(default_factory=dict)
    kl_in_reward: str | None = None
    kl_loss: str | None = None
    scaled_by_longest: bool = False

    @functools.cached_property
    def algo_config(self) -> Any:
        """Verl's configuration of the algorithm."""
        return AlgoConfig(adv_estimator=self.advantage, **self.algorithm)

    @functools.lru_cache(maxsize=64)  # noqa: B019 - settings live as long as the estimators
    def actor_config(self, rows: int, group: int, longest: int, beta: float) -> Any:
        """Return verl's configuration of the actor for batches of some size."""
        return ActorConfig(
            strategy="fsdp",
            rollout_n=group,
            ppo_micro_batch_size_per_gpu=rows,
            ppo_mini_batch_size=rows,
            policy_loss=PolicyLossConfig(**self.policy_loss),
            use_kl_loss=self.kl_loss is not None,
            kl_loss_type=self.kl_loss or "low_var_kl",
            kl_loss_coef=beta,
            loss_scale_factor=longest if self.scaled_by_longest else None,
            **self.actor,
        )


def _advantages(batch: Batch, settings: _Settings) -> torch.Tensor:
    """Return the advantage of each token, (B, T)."""
    mask = batch.mask.long()
    scores = torch.zeros_like(batch.old)
    scores.scatter_(1, mask.sum(1, keepdim=True) - 1, batch.rewards[:, None])
    tensors = {
        "response_mask": mask,
        "token_level_scores": scores,
        "old_log_probs": batch.old,
        "ref_log_prob": batch.prior,
    }
    data = DataProto.from_dict(tensors, non_tensors={"uid": batch.groups.numpy().astype(object)})
    if settings.kl_in_reward is None:
        data.batch["token_level_rewards"] = data.batch["token_level_scores"]
    else:
        data, _ = apply_kl_penalty(data, FixedKLController(batch.beta), kl_penalty=settings.kl_in_reward)
    config = settings.algo_config
    data = compute_advantage(
        data,
        adv_estimator=settings.advantage,
        gamma=config.gamma,
        lam=config.lam,
        num_repeat=batch.group_size,
        norm_adv_by_std_in_grpo=config.norm_adv_by_std_in_grpo,
        config=config,
    )
    found: torch.Tensor = data.batch["advantages"]
    return found


@functools.lru_cache(maxsize=64)
def _prompts(rows: int) -> torch.Tensor:
    """Return a prompt of one token a row, nested."""
    return torch.nested.nested_tensor_from_jagged(torch.zeros(rows, dtype=torch.long), torch.arange(rows + 1))


def _model_output(batch: Batch) -> torch.Tensor:
    """Return the log-probabilities as a forward pass without padding lays them out.

    Each row holds its prompt of one token and its response, and each place the log-probability of the token after
    it; the last has none.
    """
    rows = torch.cat([batch.log_probs, torch.zeros_like(batch.log_probs[:, :1])], dim=1)
    kept = torch.cat([torch.ones_like(batch.mask[:, :1]), batch.mask], dim=1)
    return rows[kept]


def _nested(batch: Batch, advantages: torch.Tensor) -> Any:
    """Return what the actor is given of a batch, as verl's trainer hands it on: nested tensors without padding."""
    mask = torch.nested.as_nested_tensor([row[row].long() for row in batch.mask], layout=torch.jagged)
    made = {
        "prompts": _prompts(len(batch.rewards)),
        "responses": response_to_nested(batch.tokens, mask),
        "response_mask": mask,
        "old_log_probs": response_to_nested(batch.old, mask),
        "ref_log_prob": response_to_nested(batch.prior, mask),
        "advantages": response_to_nested(advantages, mask),
    }
    data = TensorDict(made, batch_size=len(batch.rewards))
    tensordict_utils.assign_non_tensor(
        data, dp_size=1, batch_num_tokens=int(batch.mask.sum()), global_batch_size=len(batch.rewards)
    )
    return data


def _loss(settings: _Settings) -> Callable[[Batch], torch.Tensor]:
    """Return the loss of a configuration as a function of a batch."""

    def loss(batch: Batch) -> torch.Tensor:
        data = _nested(batch, _advantages(batch, settings))
        config = settings.actor_config(len(batch.rewards), batch.group_size, batch.longest, batch.beta)
        found, _ = ppo_loss(config, {"log_probs": _model_output(batch)}, data)
        return torch.as_tensor(found)

    return loss


def _estimator(name: str, objective: str, formula: str, settings: _Settings) -> Estimator:
    """Return an estimator by verl."""
    return Estimator(f"verl {name}", "verl", version("verl"), objective, formula, _loss(settings))


# What the lines of formulas share. rho_t = pi/old of a token, q = prior, k1_t = log pi/q, k3_t = q/pi - 1 - log q/pi.
SCALED = "A = (r - mean_group r) / (std_group r + 1e-6)"
CENTRED = "A = r - mean_group r"
LEAVE_ONE_OUT = "A = R_i - mean_{j != i} R_j"
CLIPPED = "l_t = -min(rho_t A, clip(rho_t) A), at most -3 A where A < 0"
BY_TOKEN = "sum_i,t l_t / sum_i |y_i|"
BY_ROW = "mean_i of 1/|y_i| sum_t l_t"
BY_SUM = "mean_i of sum_t l_t"
K1_REWARD = "R = r - beta sum_t (log old_t - log q_t)"
PLAIN = MappingProxyType({"norm_adv_by_std_in_grpo": False})
SUMMED = MappingProxyType({"loss_agg_mode": "seq-mean-token-sum"})

KL_LOSSES = {
    "k1": "+ beta k1_t: on policy E d k1_t = E d log pi_t = 0",
    "k2": "+ beta k1_t^2 / 2: on policy E d = d KL(pi || prior) of each token, of no later one",
    "low_var_kl": "+ beta k3_t: on policy E d k3_t = d KL(prior || pi) of each token, of no later one",
    "k3+": "+ beta (k3_t, with the gradient of k1_t^2 / 2): d KL(pi || prior) of each token, of no later one",
    "abs": "+ beta |k1_t|: on policy E d = E sign(k1_t) d log pi_t",
}
KL_REWARDS = {
    "kl": (K1_REWARD, "every later token's k1 is in the return"),
    "k2": ("R = r - beta sum_t k1_t^2 / 2", "the score of k2, without its own derivative"),
    "low_var_kl": ("R = r - beta sum_t k3_t", "E k3 = KL, but the score of k3 lacks its own derivative"),
}


def _aggregations() -> list[Estimator]:
    """Return GRPO at each average over tokens, without KL."""
    every = {"token-mean": BY_TOKEN, "seq-mean-token-mean": BY_ROW, "seq-mean-token-sum": BY_SUM}
    found = [
        _estimator(
            f"grpo, {mode}, no std",
            "reward",
            f"{CENTRED}; {CLIPPED}; {mean}",
            _Settings("grpo", PLAIN, {"loss_agg_mode": mode}),
        )
        for mode, mean in every.items()
    ]
    found.append(_estimator("grpo", "group-normalised", f"{SCALED}; {CLIPPED}; {BY_TOKEN}", _Settings("grpo")))
    for scaled in (False, True):
        by = "longest" if scaled else "longest response of this micro batch"
        found.append(
            _estimator(
                "grpo, seq-mean-token-sum-norm, no std" + (", loss_scale_factor" if scaled else ""),
                "reward",
                f"{CENTRED}; {CLIPPED}; mean_i of sum_t l_t / {by}",
                _Settings("grpo", PLAIN, {"loss_agg_mode": "seq-mean-token-sum-norm"}, scaled_by_longest=scaled),
            )
        )
    return found


def _kl_losses() -> list[Estimator]:
    """Return each KL that is added to the loss, with an average over tokens that does not weigh by length."""
    found = [
        _estimator(
            f"grpo, seq-mean-token-sum, no std, kl_loss {kind}",
            "kl",
            f"{CENTRED}; {CLIPPED} {line}; {BY_SUM}",
            _Settings("grpo", PLAIN, SUMMED, kl_loss=kind),
        )
        for kind, line in KL_LOSSES.items()
    ]
    default = KL_LOSSES["low_var_kl"]
    made = _Settings("grpo", kl_loss="low_var_kl")
    found.append(
        _estimator(
            "grpo, kl_loss low_var_kl", "group-normalised kl", f"{SCALED}; {CLIPPED} {default}; {BY_TOKEN}", made
        )
    )
    return found


def _kl_rewards() -> list[Estimator]:
    """Return each KL that is taken off the reward, in RLOO, and averages over tokens."""
    found = [
        _estimator(
            f"rloo, seq-mean-token-sum, kl_in_reward {kind}",
            "kl",
            f"{reward}; {LEAVE_ONE_OUT}; {CLIPPED}; {BY_SUM}; {why}",
            _Settings("rloo", NOTHING, SUMMED, kl_in_reward=kind),
        )
        for kind, (reward, why) in KL_REWARDS.items()
    ]
    found += [
        _estimator(
            "rloo, token-mean, kl_in_reward kl",
            "kl",
            f"{K1_REWARD}; {LEAVE_ONE_OUT}; {CLIPPED}; {BY_TOKEN}",
            _Settings("rloo", kl_in_reward="kl"),
        ),
        _estimator(
            "rloo_vectorized, seq-mean-token-sum, kl_in_reward kl",
            "kl",
            f"{K1_REWARD}; {LEAVE_ONE_OUT}; {CLIPPED}; {BY_SUM}",
            _Settings("rloo_vectorized", NOTHING, SUMMED, kl_in_reward="kl"),
        ),
        _estimator(
            "rloo, seq-mean-token-sum",
            "reward",
            f"{LEAVE_ONE_OUT}, R = r; {CLIPPED}; {BY_SUM}",
            _Settings("rloo", NOTHING, SUMMED),
        ),
    ]
    return found


def _other_advantages() -> list[Estimator]:
    """Return verl's other baselines that need no critic and no greedy completion."""
    later = "A_t = whitened over the batch's tokens of sum_{s >= t} (r 1[s last] - beta k1_s)"
    return [
        _estimator(
            "reinforce_plus_plus, kl_in_reward kl",
            "kl",
            f"{later}; {CLIPPED}; {BY_TOKEN}",
            _Settings("reinforce_plus_plus", kl_in_reward="kl"),
        ),
        _estimator(
            "reinforce_plus_plus, seq-mean-token-sum, kl_in_reward kl",
            "kl",
            f"{later}; {CLIPPED}; {BY_SUM}",
            _Settings("reinforce_plus_plus", NOTHING, SUMMED, kl_in_reward="kl"),
        ),
        _estimator(
            "reinforce_plus_plus_baseline, kl_loss k2",
            "kl",
            f"A = whitened over the batch's tokens of r - mean_group r; {CLIPPED} {KL_LOSSES['k2']}; {BY_TOKEN}",
            _Settings("reinforce_plus_plus_baseline", kl_loss="k2"),
        ),
        _estimator(
            "opo, seq-mean-token-sum",
            "reward",
            f"A = r - sum_group |y| r / sum_group |y|; {CLIPPED}; {BY_SUM}",
            _Settings("opo", NOTHING, SUMMED),
        ),
        _estimator(
            "gpg",
            "reward",
            f"A = B / #{{r != 0}} (r - mean_group r); l_t = -A log pi_t; {BY_TOKEN}",
            _Settings("gpg", policy_loss={"loss_mode": "gpg"}),
        ),
    ]


def _policy_losses() -> list[Estimator]:
    """Return verl's other policy losses, with rewards centred and not scaled."""
    ratio = "s = exp(1/|y| sum_t log rho_t)"
    every: dict[str, tuple[str, str, Mapping[str, Any]]] = {
        "gspo": ("seq-mean-token-mean", f"{ratio}; l_t = -min(s A, clip(s) A), d s = s d log pi_t", {}),
        "geo_mean": ("token-mean", f"{ratio} of clipped rho_t; mean_i -s A, d s = s/|y| sum_t d log pi_t", {}),
        "cispo": ("token-mean", "l_t = -sg[clip(rho_t)] A log pi_t", {}),
        "sapo": ("seq-mean-token-mean", "l_t = -(4/tau) sigmoid(tau (rho_t - 1)) A", {}),
        "dppo_tv": (
            "seq-mean-token-sum",
            "l_t = -sg[min(rho_t, 3)] A log pi_t where |pi - old| <= 0.2 or pulled back",
            {},
        ),
        "dro": ("seq-mean-token-sum", "l_t = -A log pi_t + 0.05 (log rho_t)^2", {"dro_beta": 0.1}),
        "bypass_mode": (
            "seq-mean-token-sum",
            "l_t = -sg[min(prod_s rho_s, 2)] A log pi_t",
            {"rollout_correction": {"loss_type": "reinforce", "rollout_is": "sequence"}},
        ),
    }
    return [
        _estimator(
            f"loss_mode {mode}, grpo, {average}, no std",
            "reward",
            f"{CENTRED}; {line}; {average}",
            _Settings("grpo", PLAIN, {"loss_agg_mode": average}, {"loss_mode": mode, **more}),
        )
        for mode, (average, line, more) in every.items()
    ]


def estimators() -> list[Estimator]:
    """Return every estimator of verl that the suite measures.

    Returns:
        Some thirty; those with a KL in their name claim E[r] - beta KL(pi || prior), the others E[r].
    """
    return [*_aggregations(), *_kl_losses(), *_kl_rewards(), *_other_advantages(), *_policy_losses()]
