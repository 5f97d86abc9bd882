"""REINFORCE for language models with a value baseline and KL to the prior: the options and the step.

Per step: sample from the policy, score the sampled ids, take the prior's log-probabilities with the adapters off, and
make one gradient step. The samples are always the current policy's, so there is no importance ratio.
Source: PE-RLHF (arXiv 2403.10704), section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from perl_eval import figure_names as named
from perl_eval.checks import at_least_one, between, finite, not_negative, positive
from perl_eval.errors import OptionError, UserError
from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import Backbone
from perl_eval.models.batching import batch_of_step
from perl_eval.models.ensemble import EnsembleRule
from perl_eval.models.generate import Rollout, Sampling, generate, item_seed
from perl_eval.models.prompt_room import prompt_room
from perl_eval.models.tokenize import PaddedBatch, encode_prompt, pad
from perl_eval.sources.rows import Row
from perl_eval.training.actor_critic import Roles, adapter_roles, full_roles
from perl_eval.training.distributed import Processes
from perl_eval.training.f_divergence import NEED_Z, OBJECTIVES, Aim, Objective, gap_below, sample_rewards
from perl_eval.training.loop import Fit, Learning, LoopOptions, optimise
from perl_eval.training.objectives import beta_of, kl_loss, reinforce_loss, returns_to_go, token_rewards, value_loss
from perl_eval.training.profiling import Meter
from perl_eval.training.resources import Resources, pieces, tracked
from perl_eval.training.reward_function import Reward
from perl_eval.training.schedule import Schedule

__all__ = ["Losses", "Piece", "PolicyOptions", "PolicyTrainer", "cast", "reinforce"]


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """``beta`` is KL strength in normalised reward units per nat; 0 takes the KL away.

    ``kl_weight``, if given, is PE-RLHF's b and sets ``beta = b / (1 - b)``. ``kl`` says where the KL enters: token by
    token in the ``reward``, where the value baseline predicts it too, or as a ``loss`` term of its own; both have the
    same gradient in expectation. ``objective`` is what the policy is trained towards, see
    `perl_eval.training.f_divergence`; ``reinforce`` takes the KL away and leaves beta for the figures. With ``group``
    above 1 each prompt of a batch is sampled that often, and the mean reward of its other samples is taken off each
    reward. ``value`` is a linear head on the policy's own trunk without gradient into it (``head``), or an adapter and
    head of its own (``adapter``). A sample that never ended gets ``missing_end_reward`` instead of its score.
    ``max_tokens`` bounds prompt and sample together.

    With ``full`` all weights of a copy of the prior are trained, the value function has another if it is no ``head``,
    and the prior stays in memory beside them. ``learning_rate`` by default is 1e-3, or a tenth of it with ``full``.
    ``limit`` prompts are learned from, 0 for all.
    """

    steps: int = 100
    batch: int = 64
    group: int = 1
    learning_rate: float | None = None
    beta: float = 0.05
    kl_weight: float | None = None
    kl: Literal["reward", "loss"] = "reward"
    objective: Objective = "kl_rl"
    temperature: float = 1.0
    max_new_tokens: int = 64
    max_tokens: int = 512
    value: Literal["head", "adapter"] = "head"
    value_coefficient: float = 1.0
    missing_end_reward: float = -3.0
    lora: LoraShape = field(default_factory=LoraShape)
    full: bool = False
    ensemble: EnsembleRule = field(default_factory=EnsembleRule)
    limit: int = 0
    schedule: Schedule = field(default_factory=Schedule)
    resources: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        at_least_one(self, "steps", "batch", "group", "max_new_tokens", "max_tokens")
        if self.batch % self.group:
            raise OptionError("group", self.group, f"give a divisor of `batch`, {self.batch}")
        positive(self, "temperature", "learning_rate")
        not_negative(self, "beta", "value_coefficient", "limit")
        between(0, 1, self, "kl_weight", ends="[)", such_as=0.05)
        finite(self, "missing_end_reward")
        prompt_room(self.max_tokens, self.max_new_tokens)
        if self.kl not in ("reward", "loss"):
            raise UserError(f"kl {self.kl!r} is not known", "choose from reward, loss")
        if self.objective not in OBJECTIVES:
            raise UserError(f"objective {self.objective!r} is not known", f"choose from {', '.join(OBJECTIVES)}")
        if self.kl == "loss" and self.objective != "kl_rl":
            raise UserError(f"objective {self.objective} has no KL loss", "leave kl out, or take objective kl_rl")
        self.ensemble.at(self.kl_strength)
        try:
            _ = self.aim
        except ValueError as error:
            raise UserError(str(error), "raise beta or group, or take objective kl_rl") from None
        if self.lora.dropout:
            raise UserError(f"dropout is {self.lora.dropout}", "train a policy without: it must be what it samples as")

    @property
    def kl_strength(self) -> float:
        """beta, whichever way it was given."""
        return self.beta if self.kl_weight is None else beta_of(self.kl_weight)

    @property
    def aim(self) -> Aim:
        """What is aimed at."""
        return Aim(self.objective, self.kl_strength, self.group)

    @property
    def rate(self) -> float:
        """The learning rate, given or by default."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 1e-4 if self.full else 1e-3


@dataclass(frozen=True, slots=True)
class Sampled:
    """One sample of a step, its place in it, its score, and its reward less the baseline of its group."""

    rollout: Rollout
    place: int
    score: float
    centred: float = 0.0


@dataclass(frozen=True, slots=True)
class Piece:
    """A micro-batch of one step, as a loss reads it. B sequences, T tokens.

    Attributes:
        log_probs: (B, T), of the policy, with gradient.
        values: (B, T), with gradient, which must not reach the policy's parameters.
        log_ratio: (B, T), log pi - log prior, no gradient.
        scores: (B,), what was rewarded, less the group's baseline.
        live: (B, T), True at sampled tokens.
        sequences: Sequences of the whole step.
        tokens: Sampled tokens of the whole step.
    """

    log_probs: torch.Tensor
    values: torch.Tensor
    log_ratio: torch.Tensor
    scores: torch.Tensor
    live: torch.Tensor
    sequences: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Losses:
    """What a step descends on: ``policy`` terms by name (their sum moves the policy), and the value function's loss.

    ``returns``, (B, T), are what the values were held against.
    """

    policy: dict[str, torch.Tensor]
    value: torch.Tensor
    returns: torch.Tensor


def reinforce(piece: Piece, options: PolicyOptions) -> Losses:
    """Return the losses of REINFORCE with a value baseline and KL to the prior.

    Advantages are not whitened, nor log-ratios clamped: beta would depend on the batch, and the KL be biased.

    Source: arXiv 2403.10704, section 3.3.
    """
    in_reward = options.kl == "reward"
    beta = options.kl_strength if options.objective == "kl_rl" else 0.0
    rewarded = token_rewards(piece.scores, piece.log_ratio, piece.live, beta=beta if in_reward else 0.0)
    returns = returns_to_go(rewarded)
    advantages = returns - piece.values
    policy = {named.POLICY_LOSS: reinforce_loss(piece.log_probs, advantages, piece.live, count=piece.sequences)}
    if not in_reward:
        policy[named.KL_LOSS] = beta * kl_loss(piece.log_probs, piece.log_ratio, piece.live, count=piece.sequences)
    return Losses(policy, value_loss(piece.values, returns, piece.live, count=piece.tokens), returns)


def cast(backbone: Backbone, options: PolicyOptions, *, seed: int) -> Roles:
    """Return the models of a run on a frozen prior, see `perl_eval.training.actor_critic`."""
    own_value = options.value == "adapter"
    if options.full:
        return full_roles(backbone, own_value=own_value)
    return adapter_roles(backbone, options.lora, own_value=own_value, seed=seed)


class PolicyTrainer:
    """The RL step and its figures.

    Args:
        roles: Policy, prior and value function, see `cast`.
        found: Rows whose prompts are answered.
        reward: What is maximised.
        options: See `PolicyOptions`.
        seed: Seeds order and samples.
        processes: Who shares the work.
    """

    def __init__(
        self,
        roles: Roles,
        found: Sequence[Row],
        reward: Reward,
        options: PolicyOptions,
        *,
        seed: int,
        processes: Processes | None = None,
    ) -> None:
        room = prompt_room(options.max_tokens, options.max_new_tokens)
        if not found:
            raise UserError("there are no prompts to learn from", "give data with rows in its train split")
        self.roles, self.found, self.reward, self.options, self.seed = roles, found, reward, options, seed
        self.backbone = roles.policy.backbone
        self.processes = processes or Processes()
        self.prompts = [
            encode_prompt(self.backbone.processor, row.prompt, max_tokens=room, pictures=row.images) for row in found
        ]
        self.meter = Meter(self.backbone.device)

    def train(self, folder: Path, meter: Meter | None = None) -> Fit:
        """Run all steps."""
        options = self.options
        self.meter = meter or self.meter
        steps, schedule = options.schedule.steps(options.steps), options.schedule
        warmup = schedule.warm(min(10, steps))
        loop = LoopOptions(steps=steps, learning_rate=options.rate, warmup=warmup, shape=schedule.shape)
        with tracked(options.resources.tracker, folder, main=self.processes.is_main) as log:
            task = Learning("train policy", self.roles.parts(), self.learn, log=log)
            return optimise(task, loop, folder=folder, processes=self.processes)

    def sample(self, step: int) -> tuple[list[Row], list[Rollout]]:
        """Return this process's prompts of one step and the policy's answers."""
        lengths = [len(prompt) for prompt in self.prompts]
        group = self.options.group
        distinct = self.processes.share(batch_of_step(lengths, step, size=self.options.batch // group, seed=self.seed))
        chosen = [row for row in distinct for _ in range(group)]
        seeds = [
            item_seed(self.seed, self.found[row].id, step * group + draw) for row in distinct for draw in range(group)
        ]
        if not chosen:
            return [], []
        sampling = Sampling(self.options.temperature, self.options.max_new_tokens)
        with self.roles.policy.on():
            prompts, asked = [self.prompts[row] for row in chosen], [self.found[row] for row in chosen]
            shown = [row.images for row in asked]
            rollouts = generate(self.backbone, prompts, seeds, sampling, pictures=shown)
        return asked, rollouts

    def learn(self, step: int) -> dict[str, float]:
        """Take the gradient of one step and return its figures."""
        meter, options = self.meter, self.options
        with meter.part("sampling"):
            prompts, rollouts = self.sample(step)
        with meter.part("scoring"):
            sampled = self._scored(prompts, rollouts)
            batches = pieces(sampled, lambda one: len(one.rollout.encoded.ids), options.resources.micro_batch)
            fill = self.backbone.pad_id
            padded = [pad([one.rollout.encoded for one in batch], pad_id=fill) for batch in batches]
            with torch.no_grad(), self.roles.prior.on():
                priors = [self.roles.prior.log_probs(batch, options.temperature)[0] for batch in padded]
            ratios = self._ratios(batches, padded, priors) if options.objective in NEED_Z else [0.0] * len(sampled)
            rewards = _rewards(sampled, ratios, options.aim)
        own = {"sequences": len(rollouts), "tokens": sum(len(rollout.ids) for rollout in rollouts)}
        counts = {name: int(total) for name, total in self.processes.totals(own).items()}
        sums: dict[str, float] = {}
        with meter.part("learning"):
            for batch, whole, prior in zip(batches, padded, priors, strict=True):
                rewarded = [replace(one, centred=rewards[one.place]) for one in batch]
                found, summed = self._descend(rewarded, whole, prior, counts)
                for name, value in found.items():
                    sums[name] = sums.get(name, 0.0) + value
                for one, ratio in zip(batch, summed, strict=True):
                    ratios[one.place] = ratio
        meter.tokens += sum(len(rollout.encoded.ids) for rollout in rollouts)
        ids = self.processes.gather([rollout.ids for rollout in rollouts])
        gap = _convergence(self.processes.totals(_gap_sums(sampled, ratios, options.aim)))
        return {
            **_figures(self.processes.totals(sums), **counts),
            **gap,
            named.DISTINCT_SAMPLES: len(set(ids)) / len(ids),
        }

    @torch.no_grad()
    def _ratios(
        self, batches: Sequence[Sequence[Sampled]], padded: Sequence[PaddedBatch], priors: Sequence[torch.Tensor]
    ) -> list[float]:
        """Return log pi - log prior of every sample; Z of a prompt needs them all before any is learned from."""
        found = [0.0] * sum(map(len, batches))
        with self.roles.policy.on():
            for batch, whole, prior in zip(batches, padded, priors, strict=True):
                own = self.roles.policy.log_probs(whole, self.options.temperature)[0]
                for one, ratio in zip(batch, (own - prior).sum(1).tolist(), strict=True):
                    found[one.place] = ratio
        return found

    def _scored(self, prompts: Sequence[Row], rollouts: Sequence[Rollout]) -> list[Sampled]:
        """Return the samples with their scores."""
        given = self.reward(prompts, rollouts) if rollouts else []
        scores = [
            float(score) if rollout.finished else self.options.missing_end_reward
            for score, rollout in zip(given, rollouts, strict=True)
        ]
        if not all(math.isfinite(score) for score in scores):
            raise UserError("the reward gave a number that is not finite", "mend the reward")
        return [Sampled(*one) for one in zip(rollouts, range(len(rollouts)), scores, strict=True)]

    def _descend(
        self, batch: Sequence[Sampled], padded: PaddedBatch, prior: torch.Tensor, counts: dict[str, int]
    ) -> tuple[dict[str, float], list[float]]:
        """Add a micro-batch's gradient; return its share of the step's sums, and log pi - log prior of its samples.

        Each role's way back runs while its adapter is on: with checkpointing the layers are computed anew there.
        """
        options, roles = self.options, self.roles
        live = padded.trained.to(self.backbone.device)
        with roles.policy.on():
            log_probs, hidden = roles.policy.log_probs(padded, options.temperature)
        if roles.value is None:
            values = roles.values(hidden.detach())
        else:
            with roles.value.on():
                values = roles.values(roles.value.backbone.hidden(padded))
        scores = torch.tensor([one.centred for one in batch], dtype=torch.float32, device=live.device)
        piece = Piece(log_probs, values, (log_probs - prior).detach() * live, scores, live, **counts)
        losses = reinforce(piece, options)
        weighted = options.value_coefficient * losses.value
        with (roles.value or roles.policy).on():
            weighted.backward()  # type: ignore[no-untyped-call]
        with roles.policy.on():
            torch.stack(list(losses.policy.values())).sum().backward()  # type: ignore[no-untyped-call]
        sums = {
            **{name: float(loss.detach()) for name, loss in losses.policy.items()},
            named.VALUE_LOSS: float(losses.value.detach()),
            **_sums(batch, piece, losses),
        }
        return sums, piece.log_ratio.sum(1).tolist()


def _rewards(sampled: Sequence[Sampled], ratios: Sequence[float], aim: Aim) -> list[float]:
    """Return the reward of each sample less the mean of the others of its prompt."""
    if not sampled:
        return []
    scores = torch.tensor([one.score for one in sampled])
    rewards: list[float] = sample_rewards(scores, torch.tensor(ratios), aim).tolist()
    return rewards


def _gap_sums(sampled: Sequence[Sampled], ratios: Sequence[float], aim: Aim) -> dict[str, float]:
    """Return the sums over prompts that `_convergence` reads; of no prompts where no gap can be told."""
    prompts = len(sampled) // aim.group
    if not (aim.beta > 0 and aim.group > 1 and prompts):
        return {"prompts": 0.0, "gap": 0.0, "effective": 0.0}
    gap, effective = gap_below(torch.tensor([one.score for one in sampled]), torch.tensor(ratios), aim)
    return {"prompts": float(prompts), "gap": gap * prompts, "effective": effective * prompts}


def _convergence(sums: dict[str, float]) -> dict[str, float]:
    """Return how far the policy is from its target at least, where several samples a prompt can tell."""
    if not sums["prompts"]:
        return {}
    return {
        named.GAP_AT_LEAST: sums["gap"] / sums["prompts"],
        named.EFFECTIVE_SAMPLES: sums["effective"] / sums["prompts"],
    }


def _sums(batch: Sequence[Sampled], piece: Piece, losses: Losses) -> dict[str, float]:
    """Return what a step's figures are made of, summed over a micro-batch."""
    live = piece.live
    returns = losses.returns[live].double()
    missed = returns - piece.values.detach()[live].double()
    return {
        "score": sum(one.score for one in batch),
        "score squared": sum(one.score**2 for one in batch),
        "KL": float(piece.log_ratio.sum()),
        "surprise": -float((piece.log_probs.detach() * live).sum()),
        "return": float(returns.sum()),
        "return squared": float(returns.square().sum()),
        "missed": float(missed.sum()),
        "missed squared": float(missed.square().sum()),
        named.NEVER_ENDED: float(sum(not one.rollout.finished for one in batch)),
    }


def _variance(total: float, squares: float, count: int) -> float:
    return max(0.0, squares / count - (total / count) ** 2)


def _figures(sums: dict[str, float], sequences: int, tokens: int) -> dict[str, float]:
    """Return a step's figures, as `perl_eval.training.metrics` explains them."""
    spread = _variance(sums["return"], sums["return squared"], tokens)
    missed = _variance(sums["missed"], sums["missed squared"], tokens)
    return {
        "reward": sums["score"] / sequences,
        named.REWARD_SPREAD: math.sqrt(_variance(sums["score"], sums["score squared"], sequences)),
        named.KL_TO_PRIOR: sums["KL"] / sequences,
        named.KL_A_TOKEN: sums["KL"] / tokens,
        named.ENTROPY: sums["surprise"] / sequences,
        **{name: value for name, value in sums.items() if name.endswith("loss")},
        named.EXPLAINED_VARIANCE: 1 - missed / spread if spread else 0.0,
        "length": tokens / sequences,
        named.NEVER_ENDED: sums[named.NEVER_ENDED] / sequences,
    }
