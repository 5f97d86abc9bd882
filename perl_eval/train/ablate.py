"""Rank by size by arm by seed: the tables of PE-RLHF (arXiv 2403.10704, tables 1 to 4), each cell with its interval.

Every cell is a run folder of its own, so a killed ablation goes on at the run that was cut short, and a wider one uses
what is there. Within a size all reward models start from one SFT model, and all policies are trained on one reward
model, the first seed's LoRA of the highest rank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from perl_eval import rows, runs
from perl_eval.errors import UserError
from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.models.encode import encode_prompt
from perl_eval.models.folders import is_adapter
from perl_eval.models.generate import Rollout, Sampling, generate, item_seed
from perl_eval.models.limits import at_least_one, prompt_room, valid_seed
from perl_eval.models.scorer import RewardScorer
from perl_eval.records import Estimate
from perl_eval.rows import Row
from perl_eval.stats import intervals
from perl_eval.train import policy, reward, sft
from perl_eval.train.policy import PolicyOptions
from perl_eval.train.reward import RewardOptions
from perl_eval.train.sft import SftOptions

__all__ = ["FULL", "AblateOptions", "run"]

FULL = "full"
Truth = Callable[[Row, str], float]
"""The reward that a text is really worth, where the world is known."""


@dataclass(frozen=True, slots=True)
class AblateOptions:
    """``sizes`` are names of from-scratch models or folders of trained ones; ``ranks`` of adapters; ``full`` adds that.

    Options of the stages are templates: rank, arm and learning rate are set by cell. ``full_rate`` is what the full
    arm's learning rate is divided by against the adapters'; PE-RLHF found 10 to 20 best. ``prompts`` of the test split
    are answered ``draws`` times by every policy.
    """

    sizes: tuple[str, ...] = ("tiny",)
    ranks: tuple[int, ...] = (1, 4, 8, 16)
    full: bool = True
    seeds: int = 3
    prompts: int = 100
    draws: int = 2
    full_rate: float = 10.0
    sft: SftOptions = field(default_factory=SftOptions)
    reward: RewardOptions = field(default_factory=RewardOptions)
    policy: PolicyOptions = field(default_factory=PolicyOptions)

    def __post_init__(self) -> None:
        at_least_one(self, "seeds", "prompts", "draws")
        if not self.sizes or not (self.ranks or self.full):
            raise UserError("an ablation of nothing", "give sizes, and ranks or full")
        for rank in self.ranks:
            LoraShape(rank)  # refuses what is no rank

    @property
    def arms(self) -> dict[str, int]:
        """Name of each arm, and its rank; 0 is full tuning."""
        return {**({FULL: 0} if self.full else {}), **{f"r{rank}": rank for rank in sorted(self.ranks, reverse=True)}}


def run(
    data: Path, out: Path, *, options: AblateOptions | None = None, truth: Truth | None = None, seed: int = 0
) -> Path:
    """Train every cell and write one table.

    Args:
        data: A folder with the configs ``demonstrations``, ``preferences`` (or ``ratings``) and ``prompts``.
        out: The run folder; cells lie under ``cells``, the table in ``estimates.parquet``: of each size and arm reward
            accuracy, learned reward and KL of the policy, what the policy is truly worth, bytes, seconds, shares.
        options: See `AblateOptions`.
        truth: What a text is really worth, if that is known.
        seed: The first seed.

    Raises:
        UserError: No such data, or a size that is neither a name nor a folder.
        DataError: A changed input.
    """
    options = options or AblateOptions()
    data = Path(data)
    arguments = asdict(options) | {"truth": truth is not None}
    inputs = {"data": data}
    out = Path(out)
    with runs.start(out, verb="ablate", arguments=arguments, seed=valid_seed(seed), inputs=inputs) as going:
        if going.done:
            return going.folder
        estimates: list[Estimate] = []
        for size in options.sizes:
            place = going.folder / "cells" / Path(size).name
            cells = _Cells(data, place, options, seed)
            figures = {arm: cells.figures(arm, truth) for arm in options.arms}
            figures["SFT"] = cells.of_prior(truth)
            for arm, found in figures.items():
                estimates += intervals.about(_table(found, figures.get(FULL)), f"{Path(size).name}, {arm}")
        going.write(estimates, Estimate)
        going.notes |= {"cells": len(options.sizes) * len(options.arms) * options.seeds}
    return going.folder


Figures = Mapping[str, Sequence[float]]
"""Figures of one arm by name, one value a seed."""


class _Cells:
    """The runs of one size."""

    def __init__(self, data: Path, place: Path, options: AblateOptions, seed: int) -> None:
        self.data, self.place, self.options = data, place, options
        self.seeds = range(seed, seed + options.seeds)
        self.rated = "preferences" if (data / "preferences").is_dir() else "ratings"
        self.prior = self._prior(place.name, seed)
        self.fixed = self.reward(next((arm for arm in options.arms if arm != FULL), FULL), seed)

    def _prior(self, name: str, seed: int) -> Path:
        given = next(size for size in self.options.sizes if Path(size).name == name)
        if (Path(given) / "config.json").is_file():
            return Path(given)
        chosen = replace(self.options.sft, model=f"scratch:{given}")
        return sft.run(self.data / "demonstrations", self.place / "sft", options=chosen, seed=seed)

    def reward(self, arm: str, seed: int) -> Path:
        """Return the reward model of one cell, trained if it is not."""
        template, rank = self.options.reward, self.options.arms[arm]
        if rank:
            chosen = replace(template, full=False, lora=replace(template.lora, rank=rank, alpha=2.0 * rank))
        else:
            chosen = replace(template, full=True, learning_rate=template.rate / self.options.full_rate)
        place = self.place / f"reward-{arm}-{seed}"
        return reward.run(self.data / self.rated, self.prior, place, options=chosen, seed=seed)

    def policy(self, arm: str, seed: int) -> Path:
        """Return the policy of one cell, trained if it is not."""
        template, rank = self.options.policy, self.options.arms[arm]
        if rank:
            chosen = replace(template, full=False, lora=replace(template.lora, rank=rank, alpha=2.0 * rank))
        else:
            chosen = replace(template, full=True, learning_rate=template.rate / self.options.full_rate)
        place = self.place / f"policy-{arm}-{seed}"
        return policy.run(self.data / "prompts", self.prior, self.fixed, place, options=chosen, seed=seed)

    def figures(self, arm: str, truth: Truth | None) -> dict[str, list[float]]:
        """Return the figures of one arm, a value a seed."""
        found: dict[str, list[float]] = {}
        for seed in self.seeds:
            rewarded, tuned = self.reward(arm, seed), self.policy(arm, seed)
            for name, value in {
                **_reward_figures(rewarded),
                **self._answers(tuned, truth, seed),
                **_costs(rewarded, "reward"),
                **_costs(tuned, "RL"),
            }.items():
                found.setdefault(name, []).append(value)
        return found

    def of_prior(self, truth: Truth | None) -> dict[str, list[float]]:
        """Return the figures of the SFT model's own answers, a value a seed."""
        found: dict[str, list[float]] = {}
        for seed in self.seeds:
            for name, value in self._answers(self.prior, truth, seed).items():
                found.setdefault(name, []).append(value)
        return found

    def _answers(self, model: Path, truth: Truth | None, seed: int) -> dict[str, float]:
        """Return what a model's answers to held-out prompts are worth, to the fixed reward model and in truth."""
        options = self.options
        found = rows.read(self.data / "prompts", "test")[: options.prompts]
        prior = open_backbone(self.prior, options.policy.resources.placement)
        backbone, adapter = prior, None
        if is_adapter(model):
            prior.attach_saved("policy", model)
            adapter = "policy"
        elif model != self.prior:
            backbone = open_backbone(model, options.policy.resources.placement)
        asked = [row for row in found for _ in range(options.draws)]
        answers = _sampled(backbone, adapter, asked, options, seed)
        scorer = RewardScorer(self.fixed, prior)
        worth = {"learned reward": float(np.mean(scorer.normalised([one.encoded for one in answers])))}
        if truth is not None:
            worth["true reward"] = float(
                np.mean([truth(row, one.text) for row, one in zip(asked, answers, strict=True)])
            )
        return worth


def _sampled(
    backbone: Backbone, adapter: str | None, asked: Sequence[Row], options: AblateOptions, seed: int
) -> list[Rollout]:
    how = options.policy
    room = prompt_room(how.max_tokens, how.max_new_tokens)
    prompts = [encode_prompt(backbone.processor, row.prompt, max_tokens=room, pictures=row.images) for row in asked]
    shown = [row.images for row in asked]
    sampling = Sampling(how.temperature, how.max_new_tokens)
    seeds = [item_seed(seed, row.id, place % options.draws) for place, row in enumerate(asked)]
    answers: list[Rollout] = []
    with backbone.adapter(adapter):
        for start in range(0, len(prompts), 64):
            span = slice(start, start + 64)
            answers += generate(backbone, prompts[span], seeds[span], sampling, pictures=shown[span])
    return answers


def _reward_figures(folder: Path) -> dict[str, float]:
    """Return a reward model's accuracy on held-out rows: of pairs, or AUC and balanced accuracy of labels.

    The test rows are used where there are any; the validation rows, which chose the weights, otherwise.
    """
    wanted = ("pair accuracy", "AUC", "balanced accuracy")
    found = runs.read(folder, Estimate)
    subject = "test" if any(one.subject == "test" for one in found) else "validation"
    return {
        one.name: one.value for one in found if one.subject == subject and one.name in wanted and one.value is not None
    }


def _costs(folder: Path, stage: str) -> dict[str, float]:
    """Return what a run cost, from its card: bytes it cannot do without, peak, seconds a step, trained share."""
    card = runs.read_card(folder)
    if card is None:
        raise AssertionError(f"{folder} has just been finished and has no card")
    notes = card.notes
    account = sum(notes[f"bytes of {part}"] for part in ("weights", "gradients", "moments"))
    return {
        f"{stage} bytes by formula": float(account),
        f"{stage} peak memory bytes": float(notes["peak memory bytes"]),
        f"{stage} seconds a step": float(notes["seconds a step"]),
        f"{stage} trained share": float(notes["trained share"]),
    }


def _table(found: Figures, full: Figures | None) -> list[Estimate]:
    """Return each figure's mean over seeds with its interval, and costs as shares of full tuning's."""
    bounds = {"pair accuracy": (0.0, 1.0), "AUC": (0.0, 1.0), "balanced accuracy": (0.0, 1.0)}
    result = [intervals.mean(name, values, bounds=bounds.get(name)) for name, values in found.items()]
    if full is None or full is found:
        return result
    for name, values in found.items():
        if "bytes" in name and name in full:
            result.append(intervals.mean(f"{name}, of full", np.array(values) / np.mean(full[name])))
        if name.endswith("seconds a step") and name in full:
            speed = name.replace("seconds a step", "steps a second, of full")
            result.append(intervals.mean(speed, np.mean(full[name]) / np.array(values)))
    return result
