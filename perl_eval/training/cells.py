"""The runs of one size in an ablation: models by arm, seed and beta, and their figures on held-out prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from perl_eval import figure_names as named
from perl_eval.checks import at_least_one, positive
from perl_eval.errors import UserError
from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.models.checkpoint_folder import is_adapter
from perl_eval.models.generate import Rollout, Sampling, generate, item_seed
from perl_eval.models.log_probs import token_log_probs
from perl_eval.models.model_source import located
from perl_eval.models.pretrained import is_gguf
from perl_eval.models.prompt_room import most_tokens, prompt_room
from perl_eval.models.reward_model import RewardScorer
from perl_eval.models.tokenize import encode_prompt, pad
from perl_eval.records import Estimate, Measurement, RunCard
from perl_eval.sources import rows
from perl_eval.sources.rows import Row
from perl_eval.storage import run_folder
from perl_eval.training import policy, reward, sft
from perl_eval.training.loop import Diverged
from perl_eval.training.policy import PolicyOptions
from perl_eval.training.reward import RewardOptions
from perl_eval.training.sft import SftOptions

__all__ = [
    "FULL",
    "PEAK_BYTES",
    "STEP_SECONDS",
    "TENSOR_BYTES",
    "TEST_ROWS",
    "AblateOptions",
    "Cells",
    "Figures",
    "Stage",
    "Truth",
]

FULL = "full"
PEAK_BYTES = "peak bytes of the process"
STEP_SECONDS = "seconds a step"
TENSOR_BYTES = "tensor bytes by formula"
TEST_ROWS = "test rows of the reward model"
"""Names of figures, the first three after the name of a stage."""
Truth = Callable[[Row, str], float]
"""The reward that a text is really worth, where the world is known."""
Figures = Mapping[str, Sequence[float]]
"""Figures of one arm by name, one value a seed."""
_CHUNK = 64
Stage = Literal["reward", "policy"]
Template = TypeVar("Template", RewardOptions, PolicyOptions)


@dataclass(frozen=True, slots=True)
class AblateOptions:
    """``sizes`` are names of from-scratch models or folders of trained ones; ``ranks`` of adapters; ``full`` adds that.

    Options of the stages are templates: rank, arm, learning rate and beta are set by cell. ``full_rate`` is what the
    full arm's learning rate is divided by against the adapters'; PE-RLHF found 10 to 20 best. Each arm and stage is run
    with its rate times each of ``tried`` on a seed of its own, and the best is taken: of reward models the one with the
    lowest validation loss, of policies the one with the most reward less beta x KL over the last tenth of its steps.
    With ``betas`` each arm has a policy at every one of them, held against that at the first, where rates are tried
    too. All policies are trained on the first seed's reward model, or with ``own_reward`` on their seed's. ``prompts``
    of the test split are answered ``draws`` times by every policy.
    """

    sizes: tuple[str, ...] = ("tiny",)
    ranks: tuple[int, ...] = (1, 4, 8, 16)
    full: bool = True
    seeds: int = 3
    prompts: int = 100
    draws: int = 2
    full_rate: float = 10.0
    tried: tuple[float, ...] = (1.0,)
    betas: tuple[float, ...] = ()
    own_reward: bool = False
    sft: SftOptions = field(default_factory=SftOptions)
    reward: RewardOptions = field(default_factory=RewardOptions)
    policy: PolicyOptions = field(default_factory=PolicyOptions)

    def __post_init__(self) -> None:
        at_least_one(self, "seeds", "prompts", "draws")
        positive(self, "full_rate")
        if not self.sizes or not (self.ranks or self.full):
            raise UserError("an ablation needs something to compare", "give sizes, and ranks or full")
        if not self.tried or min(self.tried) <= 0:
            raise UserError(f"tried is {self.tried}", "give factors above 0")
        for rank in self.ranks:
            LoraShape(rank)  # refuses what is no rank
        for beta in self.betas:
            replace(self.policy, beta=beta, kl_weight=None)  # refuses what is no beta

    @property
    def arms(self) -> dict[str, int]:
        """Name of each arm, and its rank; 0 is full tuning."""
        return {**({FULL: 0} if self.full else {}), **{f"r{rank}": rank for rank in sorted(self.ranks, reverse=True)}}

    @property
    def strengths(self) -> tuple[float | None, ...]:
        """The betas of the sweep; None alone is the policies' own."""
        return tuple(dict.fromkeys(self.betas)) or (None,)


class Cells:
    """The runs of one size.

    Args:
        data: See `perl_eval.training.ablate.run`.
        place: The folder they lie in, called by the size.
        options: See `AblateOptions`.
        seed: The first seed.
    """

    def __init__(self, data: Path, place: Path, options: AblateOptions, seed: int) -> None:
        self.data, self.place, self.options = data, place, options
        self.seeds = range(seed, seed + options.seeds)
        self.rated = self.part("preferences" if (data / "preferences").is_dir() else "ratings")
        self.chosen: dict[tuple[Stage, str], float] = {}
        self.trials: dict[str, float] = {}
        self.prior = self._prior(place.name, seed)

    def part(self, config: str) -> Path:
        """Return the folder of a config; rows that come without configs serve as each of them."""
        return self.data / config if (self.data / config).is_dir() else self.data

    def _prior(self, name: str, seed: int) -> Path:
        given = next(size for size in self.options.sizes if Path(size).name == name)
        path = located(given)
        if (path / "config.json").is_file() or is_gguf(path):
            return path
        chosen = replace(self.options.sft, model=f"scratch:{given}")
        return sft.run(self.part("demonstrations"), self.place / "sft", options=chosen, seed=seed)

    def fixed(self, seed: int) -> Path:
        """Return the reward model that the policies of a seed are trained on and scored by."""
        arm = next((arm for arm in self.options.arms if arm != FULL), FULL)
        return self.reward(arm, seed if self.options.own_reward else self.seeds[0])

    def reward(self, arm: str, seed: int) -> Path:
        """Return the reward model of one cell, trained if it is not."""
        chosen = self._shaped(self.options.reward, arm, self.rate("reward", arm))
        return reward.run(self.rated, self.prior, self.place / f"reward-{arm}-{seed}", options=chosen, seed=seed)

    def policy(self, arm: str, seed: int, beta: float | None = None) -> Path:
        """Return the policy of one cell, trained if it is not."""
        name = f"policy-{arm}-{seed}" if beta is None else f"policy-{arm}-beta-{beta:g}-{seed}"
        chosen = _at(self._shaped(self.options.policy, arm, self.rate("policy", arm)), beta)
        return policy.run(
            self.part("prompts"), self.prior, self.fixed(seed), self.place / name, options=chosen, seed=seed
        )

    def rate(self, stage: Stage, arm: str) -> float:
        """Return the learning rate of an arm in a stage: the best of those tried."""
        if (stage, arm) not in self.chosen:
            given = self.options.reward.rate if stage == "reward" else self.options.policy.rate
            base = given if self.options.arms[arm] else given / self.options.full_rate
            rates = [base * factor for factor in dict.fromkeys(self.options.tried)]
            worth = [self._trial(stage, arm, rate) for rate in rates] if len(rates) > 1 else [0.0]
            self.trials |= {f"{stage} {arm} at {rate:.3g}": one for rate, one in zip(rates, worth, strict=True)}
            self.chosen[stage, arm] = rates[int(np.argmax(worth))]
        return self.chosen[stage, arm]

    def _trial(self, stage: Stage, arm: str, rate: float) -> float:
        """Train at one rate, on the seed after the last, and return what that is worth."""
        place, seed = self.place / "tried" / f"{stage}-{arm}-{rate:.3g}", self.seeds[-1] + 1
        try:
            if stage == "reward":
                options = self._shaped(self.options.reward, arm, rate)
                return _validated(reward.run(self.rated, self.prior, place, options=options, seed=seed))
            how = _at(self._shaped(self.options.policy, arm, rate), self.options.strengths[0])
            fixed = self.fixed(self.seeds[0])
            return _reached(policy.run(self.part("prompts"), self.prior, fixed, place, options=how, seed=seed))
        except Diverged:
            return -math.inf

    def _shaped(self, template: Template, arm: str, rate: float) -> Template:
        """Return a stage's options as an arm has them."""
        rank = self.options.arms[arm]
        lora = replace(template.lora, rank=rank, alpha=2.0 * rank) if rank else template.lora
        return replace(template, full=not rank, lora=lora, learning_rate=rate)

    def figures(self, arm: str, truth: Truth | None, beta: float | None = None) -> Figures:
        """Return the figures of one arm at one strength of KL, a value a seed."""
        found: dict[str, list[float]] = {}
        for seed in self.seeds:
            rewarded, tuned = self.reward(arm, seed), self.policy(arm, seed, beta)
            for name, value in {
                **_reward_figures(rewarded),
                **self._answers(tuned, truth, seed),
                **_costs(rewarded, "reward"),
                **_costs(tuned, "RL"),
            }.items():
                found.setdefault(name, []).append(value)
        return found

    def test_rows(self, arm: str) -> int:
        """Return how many held-out rows a reward model's accuracy rests on; 0 if none does."""
        return max((one.n for one in _tested(self.reward(arm, self.seeds[0]))), default=0)

    def of_prior(self, truth: Truth | None) -> Figures:
        """Return the figures of the SFT model's own answers, a value a seed."""
        found: dict[str, list[float]] = {}
        for seed in self.seeds:
            for name, value in self._answers(self.prior, truth, seed).items():
                found.setdefault(name, []).append(value)
        return found

    def _answers(self, model: Path, truth: Truth | None, seed: int) -> dict[str, float]:
        """Return what a model's answers to held-out prompts are worth, to the reward model and in truth, and its KL."""
        options = self.options
        found = rows.read(self.part("prompts"), "test")[: options.prompts]
        prior = open_backbone(self.prior, options.policy.resources.placement)
        backbone, adapter = prior, None
        if is_adapter(model):
            prior.attach_saved("policy", model)
            adapter = "policy"
        elif model != self.prior:
            backbone = open_backbone(model, options.policy.resources.placement)
        asked = [row for row in found for _ in range(options.draws)]
        answers = _sampled(backbone, adapter, asked, options, seed)
        temperature = options.policy.temperature
        own = _log_probs(backbone, adapter, answers, temperature)
        anchor = _log_probs(prior, None, answers, temperature)
        scorer = RewardScorer(self.fixed(seed), prior)
        worth = {
            "learned reward": float(np.mean(scorer.normalised([one.encoded for one in answers]))),
            named.KL_TO_PRIOR: float(np.mean(own - anchor)),
        }
        if truth is not None:
            true = [truth(row, one.text) for row, one in zip(asked, answers, strict=True)]
            worth[named.TRUE_REWARD] = float(np.mean(true))
        return worth


def _at(options: PolicyOptions, beta: float | None) -> PolicyOptions:
    return options if beta is None else replace(options, beta=beta, kl_weight=None)


def _validated(folder: Path) -> float:
    """Return a reward model's lowest validation loss, negated; its last loss where there are no validation rows."""
    curve = run_folder.read(folder, Measurement)
    losses = [one.value for one in curve if one.metric == named.VALIDATION_LOSS]
    return -min(losses or [one.value for one in curve if one.metric == "loss"][-1:])


def _reached(folder: Path) -> float:
    """Return what a policy's samples were worth over the last tenth of its steps: reward less beta x KL, in training.

    They answer training prompts, so the held-out ones choose nothing.
    """
    curve, card = run_folder.read(folder, Measurement), _card(folder)
    rewards, distances = ([p.value for p in curve if p.metric == name] for name in ("reward", named.KL_TO_PRIOR))
    last = max(1, len(rewards) // 10)
    return float(np.mean(rewards[-last:]) - card.notes["beta"] * np.mean(distances[-last:]))


def _sampled(
    backbone: Backbone, adapter: str | None, asked: Sequence[Row], options: AblateOptions, seed: int
) -> list[Rollout]:
    how = options.policy
    room = prompt_room(most_tokens(how.max_tokens, backbone.causal, backbone.tokenizer), how.max_new_tokens)
    prompts = [encode_prompt(backbone.processor, row.prompt, max_tokens=room, pictures=row.images) for row in asked]
    shown = [row.images for row in asked]
    sampling = Sampling(how.temperature, how.max_new_tokens)
    seeds = [item_seed(seed, row.id, place % options.draws) for place, row in enumerate(asked)]
    answers: list[Rollout] = []
    with backbone.adapter(adapter):
        for start in range(0, len(prompts), _CHUNK):
            span = slice(start, start + _CHUNK)
            answers += generate(backbone, prompts[span], seeds[span], sampling, pictures=shown[span])
    return answers


@torch.no_grad()
def _log_probs(
    backbone: Backbone, adapter: str | None, answers: Sequence[Rollout], temperature: float
) -> NDArray[np.float64]:
    """Return the log-probability of each answer, in nats."""
    summed: list[float] = []
    with backbone.adapter(adapter):
        for start in range(0, len(answers), _CHUNK):
            batch = pad([one.encoded for one in answers[start : start + _CHUNK]], pad_id=backbone.pad_id)
            summed += token_log_probs(backbone, backbone.hidden(batch), batch, temperature).sum(1).tolist()
    return np.array(summed)


def _reward_figures(folder: Path) -> dict[str, float]:
    """Return a reward model's accuracy on held-out rows: of pairs, or AUC and balanced accuracy of labels.

    The test rows are used where there are any; the validation rows, which chose the weights, otherwise.
    """
    return {one.name: one.value for one in _tested(folder) if one.value is not None}


def _tested(folder: Path) -> list[Estimate]:
    wanted = (named.PAIR_ACCURACY, named.AUC, named.BALANCED_ACCURACY)
    found = run_folder.read(folder, Estimate)
    splits = {split: [one for one in found if one.subject == split] for split in ("test", "validation")}
    chosen = splits["test"] or splits["validation"]
    return [one for one in chosen if one.name in wanted]


def _costs(folder: Path, stage: str) -> dict[str, float]:
    """Return what a run cost, from its card: bytes it cannot do without, peak, seconds a step, trained share."""
    notes = _card(folder).notes
    account = sum(notes[f"bytes of {part}"] for part in ("weights", "gradients", "moments"))
    return {
        f"{stage} {TENSOR_BYTES}": float(account),
        f"{stage} {PEAK_BYTES}": float(notes["peak memory bytes"]),
        f"{stage} {STEP_SECONDS}": float(notes["seconds a step"]),
        f"{stage} trained share": float(notes["trained share"]),
    }


def _card(folder: Path) -> RunCard:
    card = run_folder.read_card(folder)
    if card is None:
        raise AssertionError(f"{folder} has just been finished and has no card")
    return card
