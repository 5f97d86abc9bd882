"""What may be set of training a policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from perl_eval.checks import at_least_one, between, finite, not_negative, positive
from perl_eval.errors import OptionError, UserError
from perl_eval.models.adapters import LoraShape
from perl_eval.models.ensemble import EnsembleRule
from perl_eval.models.prompt_room import prompt_room
from perl_eval.models.quantization import refuse_full
from perl_eval.training.alarms import AlarmOptions
from perl_eval.training.clipped_policy_gradient import (
    Clipping,
)
from perl_eval.training.f_divergence import NEED_Z, OBJECTIVES, Aim, Objective
from perl_eval.training.objectives import beta_of
from perl_eval.training.resources import Resources
from perl_eval.training.schedule import Schedule
from perl_eval.training.server_rollouts import ServerRollouts
from perl_eval.training.updating import Updating

__all__ = ["PolicyOptions"]


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """``beta`` is KL strength in normalised reward units per nat; 0 takes the KL away.

    ``kl_weight``, if given, is PE-RLHF's b and sets ``beta = b / (1 - b)``. ``kl`` says where the KL enters: token by
    token in the ``reward``, where the value baseline predicts it too, or as a ``loss`` term of its own; both have the
    same gradient in expectation. ``grpo`` takes the KL of a whole sample off its score, or with ``k3`` adds the loss of
    its authors, whose gradient is of another KL. ``objective`` is what the policy is trained towards, see
    `perl_eval.training.f_divergence`; ``reinforce`` takes the KL away and leaves beta for the figures; ``grpo`` learns
    from standardised rewards, without a value function, and may make several updates a batch, see ``clipping``. With
    ``group`` above 1 each prompt of a batch is sampled that often, and the mean reward of its other samples is taken
    off each reward. ``value`` is a linear head on the policy's own trunk without gradient into it (``head``), or an
    adapter and head of its own (``adapter``). A sample that never ended gets ``missing_end_reward`` instead of its
    score. ``max_tokens`` bounds prompt and sample together: longer prompts are cut at turns
    (`perl_eval.models.tokenize.encode_prompt`), which is counted and said; with 0 the model's own limit bounds them.

    Under bf16 the log-ratio of one sequence can be off by some tenths of a nat. With ``fp32_kl`` policy and prior are
    read once more in float32 for it, whose weights are then held in it; samples and gradients stay in bf16.
    With ``full_kl`` the KL of the whole softmax at each sampled token is logged beside that of the token alone (k1):
    the same mean, less variance, for one more pass of the prior; nothing is learned from it.
    With ``mended`` an unfinished run goes on though the source of its reward function has changed; its card says so.

    With ``full`` all weights of a copy of the prior are trained, the value function has another if it is no ``head``,
    and the prior stays in memory beside them. ``learning_rate`` by default is 1e-3, or a tenth of it with ``full``, and
    less for models wider than 825 (`perl_eval.training.updating.rate_by_width`).
    ``limit`` prompts are learned from, 0 for all. With ``rollouts`` a server samples
    (`perl_eval.training.server_rollouts`).

    Reward models in ``watch``, of other seeds than the one that rewards, score the samples too, for alarms
    (`perl_eval.training.alarms`). With ``stop_on_alarm`` the run ends there, and the weights of its highest point stay.
    """

    steps: int = 100
    batch: int = 64
    group: int = 1
    learning_rate: float | None = None
    beta: float = 0.05
    kl_weight: float | None = None
    kl: Literal["reward", "loss", "k3"] = "reward"
    objective: Objective = "kl_rl"
    clipping: Clipping = field(default_factory=Clipping)
    temperature: float = 1.0
    max_new_tokens: int = 64
    max_tokens: int = 512
    fp32_kl: bool = False
    full_kl: bool = False
    mended: bool = False
    value: Literal["head", "adapter"] = "head"
    value_coefficient: float = 1.0
    missing_end_reward: float = -3.0
    lora: LoraShape = field(default_factory=LoraShape)
    full: bool = False
    ensemble: EnsembleRule = field(default_factory=EnsembleRule)
    limit: int = 0
    rollouts: ServerRollouts | None = None
    watch: tuple[Path, ...] = ()
    stop_on_alarm: bool = False
    alarms: AlarmOptions = field(default_factory=AlarmOptions)
    schedule: Schedule = field(default_factory=Schedule)
    updating: Updating = field(default_factory=Updating)
    resources: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        at_least_one(self, "steps", "batch", "group", "max_new_tokens")
        if self.batch % self.group:
            raise OptionError("group", self.group, f"give a divisor of `batch`, {self.batch}")
        positive(self, "temperature", "learning_rate")
        not_negative(self, "beta", "value_coefficient", "limit", "max_tokens")
        between(0, 1, self, "kl_weight", ends="[)", such_as=0.05)
        finite(self, "missing_end_reward")
        refuse_full(self.resources.placement, full=self.full)
        if self.max_tokens:
            prompt_room(self.max_tokens, self.max_new_tokens)
        if self.kl not in ("reward", "loss", "k3"):
            raise UserError(f"kl {self.kl!r} is not known", "choose from reward, loss, k3")
        if self.objective not in OBJECTIVES:
            raise UserError(f"objective {self.objective!r} is not known", f"choose from {', '.join(OBJECTIVES)}")
        if self.kl == "loss" and self.objective != "kl_rl":
            raise UserError(f"objective {self.objective} has no KL loss", "leave kl out, or take objective kl_rl")
        if self.kl == "k3" and self.objective != "grpo":
            raise UserError(f"objective {self.objective} has no KL by k3", "leave kl out, or take objective grpo")
        if self.clipping != Clipping() and self.objective != "grpo":
            raise UserError(f"objective {self.objective} makes one update a batch, unclipped", "take objective grpo")
        if self.rollouts is not None and self.temperature != 1:
            fix = "leave it at 1 with rollouts: servers tell probabilities before the temperature"
            raise OptionError("temperature", self.temperature, fix)
        if self.rollouts is not None and self.kl == "loss":
            raise UserError("a KL loss has no weights for what a server samples", "leave kl out with rollouts")
        if self.stop_on_alarm and not self.watch:
            raise UserError("there is nothing to stop on", "give reward models of other seeds to watch")
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
    def needs_ratios(self) -> bool:
        """Whether the reward of a sample depends on its log-ratio, so that all are needed before the first loss."""
        in_score = self.objective == "grpo" and self.kl == "reward" and self.kl_strength > 0
        return in_score or self.objective in NEED_Z

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
