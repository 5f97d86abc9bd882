"""RL policies: REINFORCE for language models with a value baseline and KL to the prior, on one backbone.

Per step: sample from the policy, score the sampled ids, take the prior's log-probabilities with the adapters off, and
make one gradient step. The samples are always the current policy's, so there is no importance ratio.
Source: PE-RLHF (arXiv 2403.10704), section 3.3.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from perl_eval import rows, runs
from perl_eval.errors import UserError
from perl_eval.models.backbone import Backbone, LoraShape, open_backbone
from perl_eval.models.encode import batch_of_step, encode_prompt, pad
from perl_eval.models.generate import Rollout, Sampling, generate, item_seed
from perl_eval.models.limits import at_least_one, not_negative, positive, prompt_room
from perl_eval.models.log_probs import token_log_probs
from perl_eval.models.scorer import RewardScorer
from perl_eval.records import Measurement
from perl_eval.rows import Row
from perl_eval.train.loop import LoopOptions, optimise
from perl_eval.train.objectives import beta_of, leave_one_out, reinforce_loss, returns_to_go, token_rewards, value_loss

__all__ = ["POLICY", "VALUE", "PolicyOptions", "run"]

POLICY, VALUE = "policy", "value"
Reward = Callable[[Sequence[Row], Sequence[Rollout]], Sequence[float]]
"""A reward is any function of prompts and rollouts; higher is better."""


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """``beta`` is KL strength in normalised reward units per nat; 0 takes the KL away.

    ``kl_weight``, if given, is PE-RLHF's b and sets ``beta = b / (1 - b)``. With ``group`` above 1 each prompt of a
    batch is sampled that often, and the mean score of its other samples is taken off each score. ``value`` is a linear
    head on the policy's own trunk without gradient into it (``head``), or an adapter and head of its own (``adapter``).
    A sample that never ended gets ``missing_end_reward`` instead of its score. ``max_tokens`` bounds prompt and sample
    together.
    """

    steps: int = 100
    batch: int = 64
    group: int = 1
    learning_rate: float = 1e-3
    beta: float = 0.05
    kl_weight: float | None = None
    temperature: float = 1.0
    max_new_tokens: int = 64
    max_tokens: int = 512
    value: Literal["head", "adapter"] = "head"
    value_coefficient: float = 1.0
    missing_end_reward: float = -3.0
    lora: LoraShape = field(default_factory=LoraShape)

    def __post_init__(self) -> None:
        at_least_one(self, "steps", "batch", "group", "max_new_tokens", "max_tokens")
        if self.batch % self.group:
            raise UserError(f"group {self.group} does not divide batch {self.batch}", "give a divisor")
        positive(self, "learning_rate", "temperature")
        not_negative(self, "beta", "value_coefficient")
        prompt_room(self.max_tokens, self.max_new_tokens)

    @property
    def kl_strength(self) -> float:
        """beta, whichever way it was given."""
        return self.beta if self.kl_weight is None else beta_of(self.kl_weight)


def run(  # the verb's inputs are four paths; folding them into one argument would hide them
    data: Path,
    prior: Path,
    reward: Path,
    out: Path,
    *,
    options: PolicyOptions | None = None,
    seed: int = 0,
) -> Path:
    """Train a LoRA policy against a reward model, both on the prior as one frozen backbone.

    Args:
        data: A folder of rows with prompts; the ``train`` split is used.
        prior: The SFT model: where the policy starts, and the KL anchor.
        reward: The output of ``train reward`` on the same prior.
        out: The run folder: the policy adapter in peft's layout, ``curve.parquet`` and the run card.
        options: See `PolicyOptions`.
        seed: Seeds adapter, order and samples.

    Raises:
        UserError: No such data, model or reward model.
        DataError: A changed input, or a reward model of another backbone.
    """
    options = options or PolicyOptions()
    inputs = {"data": Path(data), "prior": Path(prior), "reward": Path(reward)}
    with runs.start(out, verb="train policy", arguments=asdict(options), seed=seed, inputs=inputs) as going:
        if going.done:
            return going.folder
        found = rows.read(data, "train")
        backbone = open_backbone(prior)
        before = backbone.sha256
        trainer = PolicyTrainer(backbone, found, learned_reward(reward, backbone), options, seed=seed)
        curve = trainer.train(going.folder)
        if backbone.weights_sha256() != before:
            raise AssertionError("the frozen backbone changed while the policy was trained")
        backbone.save(POLICY, going.folder)
        going.write(curve, Measurement)
        going.notes |= {
            "beta": options.kl_strength,
            "backbone sha256": before,
            **{f"seconds {part}": seconds for part, seconds in trainer.seconds.items()},
            **backbone.counts(POLICY),
        }
    return going.folder


def learned_reward(folder: Path, backbone: Backbone) -> Reward:
    """Return a reward model on the backbone as a reward: normalised on the prior, read off the sampled ids."""
    scorer = RewardScorer(folder, backbone)

    def score(_: Sequence[Row], rollouts: Sequence[Rollout]) -> list[float]:
        logits = scorer.logits([rollout.encoded for rollout in rollouts])
        return [scorer.scale.normalised(logit) for logit in logits]

    return score


class PolicyTrainer:
    """The RL step and its figures.

    Args:
        backbone: The frozen prior; gains the adapter ``policy`` and the head ``value``.
        found: Rows whose prompts are answered.
        reward: What is maximised.
        options: See `PolicyOptions`.
        seed: Seeds adapter, order and samples.
    """

    def __init__(
        self, backbone: Backbone, found: Sequence[Row], reward: Reward, options: PolicyOptions, *, seed: int
    ) -> None:
        room = prompt_room(options.max_tokens, options.max_new_tokens)
        if not found:
            raise UserError("there are no prompts to learn from", "give data with rows in its train split")
        self.backbone, self.found, self.reward, self.options, self.seed = backbone, found, reward, options, seed
        self.prompts = [encode_prompt(backbone.tokenizer, row.prompt, max_tokens=room) for row in found]
        self.seconds = {"sampling": 0.0, "scoring": 0.0, "learning": 0.0}
        backbone.attach(POLICY, options.lora, seed=seed)
        if options.value == "adapter":
            backbone.attach(VALUE, options.lora, seed=seed + 1, head=True)
            torch.nn.init.zeros_(backbone.heads[VALUE].weight)
        else:
            backbone.attach_head(VALUE)
        backbone.train_only(POLICY, VALUE)

    def train(self, folder: Path) -> list[Measurement]:
        """Run all steps and return the curve."""
        options = self.options
        loop = LoopOptions(steps=options.steps, learning_rate=options.learning_rate, warmup=min(10, options.steps))
        parameters = {**self.backbone.parameters_of(POLICY), **self.backbone.parameters_of(VALUE)}
        return optimise(parameters, self.learn, loop, folder=folder, description="train policy").curve

    def sample(self, step: int) -> tuple[list[Row], list[Rollout]]:
        """Return the prompts of one step and the policy's answers."""
        lengths = [len(prompt) for prompt in self.prompts]
        group = self.options.group
        distinct = batch_of_step(lengths, step, size=self.options.batch // group, seed=self.seed)
        chosen = [row for row in distinct for _ in range(group)]
        seeds = [
            item_seed(self.seed, self.found[row].id, step * group + draw) for row in distinct for draw in range(group)
        ]
        sampling = Sampling(self.options.temperature, self.options.max_new_tokens)
        with self.backbone.adapter(POLICY):
            rollouts = generate(self.backbone, [self.prompts[row] for row in chosen], seeds, sampling)
        return [self.found[row] for row in chosen], rollouts

    def learn(self, step: int) -> dict[str, float]:
        """Take the gradient of one step and return its figures."""
        options, backbone = self.options, self.backbone
        clock_s = time.monotonic()
        prompts, rollouts = self.sample(step)
        clock_s = self._clock("sampling", clock_s)
        batch = pad([rollout.encoded for rollout in rollouts], pad_id=backbone.pad_id)
        live = batch.trained.to(backbone.device)
        scores = [
            score if rollout.finished else options.missing_end_reward
            for score, rollout in zip(self.reward(prompts, rollouts), rollouts, strict=True)
        ]
        with torch.no_grad(), backbone.adapter(None):
            prior = token_log_probs(backbone, backbone.hidden(batch), batch, options.temperature)
        clock_s = self._clock("scoring", clock_s)
        with backbone.adapter(POLICY):
            hidden = backbone.hidden(batch)
            log_probs = token_log_probs(backbone, hidden, batch, options.temperature)
        if options.value == "adapter":
            with backbone.adapter(VALUE):
                values = self._values(backbone.hidden(batch))
        else:
            values = self._values(hidden.detach())
        log_ratio = (log_probs - prior).detach() * live
        score_row = torch.tensor(scores, dtype=torch.float32, device=live.device)
        centred = leave_one_out(score_row, group=options.group)
        returns = returns_to_go(token_rewards(centred, log_ratio, live, beta=options.kl_strength))
        policy_loss = reinforce_loss(log_probs, returns - values, live)
        baseline_loss = value_loss(values, returns, live)
        (policy_loss + options.value_coefficient * baseline_loss).backward()  # type: ignore[no-untyped-call]
        self._clock("learning", clock_s)
        return {
            "reward": float(score_row.mean()),
            "KL to prior": float(log_ratio.sum(1).mean()),
            "entropy": float(-(log_probs.detach() * live).sum(1).mean()),
            "policy loss": float(policy_loss.detach()),
            "value loss": float(baseline_loss.detach()),
            "length": float(live.sum(1).float().mean()),
            "never ended": float(np.mean([not rollout.finished for rollout in rollouts])),
            "distinct samples": len({rollout.ids for rollout in rollouts}) / len(rollouts),
        }

    def _values(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return V_t, (batch, length): the value before token t is read off the hidden state at t - 1."""
        values = self.backbone.scalars(VALUE, hidden)
        return torch.cat([torch.zeros_like(values[:, :1]), values[:, :-1]], dim=1)

    def _clock(self, part: str, since_s: float) -> float:
        now_s = time.monotonic()
        self.seconds[part] += now_s - since_s
        return now_s
