"""REINFORCE for language models with a value baseline and KL to the prior: the step.

Per step: sample from the policy, score the sampled ids, take the prior's log-probabilities with the adapters off, and
make one gradient step. The samples are always the current policy's, so there is no importance ratio; with objective
``grpo`` several updates are made on a batch, by a clipped one (`perl_eval.training.clipped_policy_gradient`).
Source: PE-RLHF (arXiv 2403.10704), section 3.3.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from perl_eval import figure_names as named
from perl_eval.errors import UserError
from perl_eval.models.backbone import Backbone
from perl_eval.models.batching import batch_of_step
from perl_eval.models.cutting import Cuts
from perl_eval.models.generate import Rollout, Sampling, generate, item_seed
from perl_eval.models.log_probs import full_kl
from perl_eval.models.prompt_room import most_tokens, prompt_room
from perl_eval.models.tokenize import PaddedBatch, encode_prompt, pad
from perl_eval.records import Measurement
from perl_eval.sources.rows import Row
from perl_eval.storage.progress import tell
from perl_eval.training.actor_critic import POLICY, Roles, adapter_roles, full_roles
from perl_eval.training.alarms import alarm_in, worth_now
from perl_eval.training.clipped_policy_gradient import (
    group_advantages,
    truncated_weights,
)
from perl_eval.training.distributed import Processes
from perl_eval.training.f_divergence import sample_rewards
from perl_eval.training.loop import Fit, Learning, LoopOptions, optimise
from perl_eval.training.policy_losses import grpo, reinforce
from perl_eval.training.policy_options import PolicyOptions
from perl_eval.training.policy_step import (
    AGAIN,
    Losses,
    Piece,
    Sampled,
    convergence,
    gap_sums,
    piece_sums,
    step_figures,
)
from perl_eval.training.profiling import Meter
from perl_eval.training.resources import pieces, tracked
from perl_eval.training.reward_function import Reward
from perl_eval.training.server_rollouts import ServerSampler
from perl_eval.training.updating import rate_by_width

__all__ = ["ROLLOUTS", "Losses", "Piece", "PolicyOptions", "PolicyTrainer", "cast", "grpo", "reinforce"]

ROLLOUTS = ".rollouts"
"""The folder in a run's where a server finds the policy; it is gone with the run."""


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
        if not found:
            raise UserError("there are no prompts to learn from", "give data with rows in its train split")
        self.roles, self.found, self.reward, self.options, self.seed = roles, found, reward, options, seed
        self.backbone = roles.policy.backbone
        self.processes = processes or Processes()
        most = most_tokens(options.max_tokens, self.backbone.causal, self.backbone.tokenizer)
        self.room, self.cuts = prompt_room(most, options.max_new_tokens), Cuts()
        self.prompts = [
            encode_prompt(
                self.backbone.processor, row.prompt, max_tokens=self.room, pictures=row.images, cuts=self.cuts
            )
            for row in found
        ]
        self.meter = Meter(self.backbone.device)
        self.endless = False
        self.held: _Held | None = None
        self.server: ServerSampler | None = None
        self.watched: Reward | None = None
        """What watches; set by the verb."""

    def parts(self) -> dict[str, dict[str, torch.nn.Parameter]]:
        """Return what is trained: the policy, and the value function of objectives that have one."""
        found = self.roles.parts()
        return {POLICY: found[POLICY]} if self.options.objective == "grpo" else found

    def train(self, folder: Path, meter: Meter | None = None) -> Fit:
        """Run all steps."""
        options = self.options
        self.meter = meter or self.meter
        if self.processes.is_main:
            tell(self.cuts.line("prompts", self.room))
        steps, schedule = options.schedule.steps(options.steps), options.schedule
        updates, warmup = options.clipping.updates, schedule.warm(steps)
        told = {"warmup": warmup * updates, "shape": schedule.shape, **options.updating.for_loop()}
        loop = LoopOptions(steps=steps * updates, learning_rate=self.rate, checkpoint_multiple=updates, **told)
        if options.rollouts is not None:
            place = folder / ROLLOUTS / str(self.processes.index)
            self.server = ServerSampler(options.rollouts, self.backbone, self.roles.policy.name, place)
        with tracked(options.resources.tracker, folder, main=self.processes.is_main) as log:
            watch = functools.partial(self._watch, steps) if options.stop_on_alarm else None
            task = Learning("train policy", self.parts(), self.learn, log=log, watch=watch)
            return optimise(task, loop, folder=folder, processes=self.processes)

    def _watch(self, steps: int, curve: Sequence[Measurement]) -> tuple[float, bool]:
        """Return what the weights are worth by those who watch, less being better, and whether there is an alarm."""
        alarms = self.options.alarms
        return -worth_now(curve, steps, alarms), alarm_in(curve, steps, alarms) is not None

    @property
    def rate(self) -> float:
        """The learning rate: as given, or by the model's width."""
        if self.options.learning_rate is not None:
            return self.options.learning_rate
        return rate_by_width(self.options.rate, self.backbone.width, full=self.options.full)

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
        prompts, asked = [self.prompts[row] for row in chosen], [self.found[row] for row in chosen]
        if self.server is not None:
            return asked, self.server.sample(prompts, seeds, sampling, step)
        with self.roles.policy.on():
            shown = [row.images for row in asked]
            rollouts = generate(self.backbone, prompts, seeds, sampling, pictures=shown)
        return asked, rollouts

    def learn(self, step: int) -> dict[str, float]:
        """Take the gradient of one update and return its figures; samples are drawn at the first update on a batch."""
        number, update = divmod(step, self.options.clipping.updates)
        if update == 0:
            self.held = self._collected(number)
        held = self.held
        if held is None or held.number != number:
            raise AssertionError("the samples of an unfinished batch are not there")
        sums: dict[str, float] = {}
        with self.meter.part("learning"):
            for place, batch in enumerate(held.batches):
                found, ratios = self._descend(held, place, update)
                for name, value in found.items():
                    sums[name] = sums.get(name, 0.0) + value
                for one, ratio in zip(batch, ratios, strict=True):
                    held.ratios[one.place] = ratio
        figures = step_figures(self.processes.totals(sums), **held.counts)
        if update:
            return {name: figures[name] for name in AGAIN if name in figures}
        self.meter.tokens += sum(len(one.rollout.encoded.ids) for one in held.sampled)
        ids = self.processes.gather([one.rollout.ids for one in held.sampled])
        gap = convergence(self.processes.totals(gap_sums(held.sampled, held.ratios, self.options.aim)))
        return {**figures, **held.watched, **gap, named.DISTINCT_SAMPLES: len(set(ids)) / len(ids)}

    def _collected(self, number: int) -> _Held:
        """Draw, score and reward the samples of a batch."""
        meter, options = self.meter, self.options
        with meter.part("sampling"):
            prompts, rollouts = self.sample(number)
        with meter.part("scoring"):
            sampled = self._scored(number, prompts, rollouts)
            batches = pieces(sampled, lambda one: len(one.rollout.encoded.ids), options.resources.micro_batch)
            fill = self.backbone.pad_id
            padded = [pad([one.rollout.encoded for one in batch], pad_id=fill) for batch in batches]
            priors, exact = self._anchored(padded)
            ratios = [0.0] * len(sampled)
            if options.needs_ratios:
                ratios = self._ratios(batches, padded, priors, exact)
            rewards = self._rewards(sampled, ratios)
        own = {"sequences": len(rollouts), "tokens": sum(len(rollout.ids) for rollout in rollouts)}
        counts = {name: int(total) for name, total in self.processes.totals(own).items()}
        rewarded = [[replace(one, centred=rewards[one.place]) for one in batch] for batch in batches]
        watched = {} if self.watched is None else self._watched_reward(prompts, rollouts)
        return _Held(number, sampled, rewarded, padded, priors, exact, ratios, counts, watched)

    def _watched_reward(self, prompts: Sequence[Row], rollouts: Sequence[Rollout]) -> dict[str, float]:
        """Return the mean reward by those who watch, over the samples of all processes, and its standard error."""
        given = self.watched(prompts, rollouts) if self.watched is not None and rollouts else []
        missing = self.options.missing_end_reward
        scores = [float(one) if drawn.finished else missing for one, drawn in zip(given, rollouts, strict=True)]
        sums = {"n": float(len(scores)), "sum": sum(scores), "squares": sum(one**2 for one in scores)}
        n, total, squares = self.processes.totals(sums).values()
        variance = max(0.0, squares / n - (total / n) ** 2)
        return {named.WATCHED_REWARD: total / n, named.WATCHED_ERROR: math.sqrt(variance / max(1.0, n - 1))}

    @torch.no_grad()
    def _anchored(self, padded: Sequence[PaddedBatch]) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
        """Return the prior's log-probabilities of each batch, and where it is wanted the exact log-ratios to it."""
        wide, prior, policy = self.options.fp32_kl, self.roles.prior, self.roles.policy
        temperature = self.options.temperature
        with prior.backbone.widely(wanted=wide), prior.on():
            priors = [prior.log_probs(batch, temperature)[0] for batch in padded]
        if not wide:
            return priors, [None] * len(padded)
        with policy.backbone.widely(wanted=wide), policy.on():
            owns = [policy.log_probs(batch, temperature)[0] for batch in padded]
        return priors, [own - anchor for own, anchor in zip(owns, priors, strict=True)]

    @torch.no_grad()
    def _ratios(
        self,
        batches: Sequence[Sequence[Sampled]],
        padded: Sequence[PaddedBatch],
        priors: Sequence[torch.Tensor],
        exact: Sequence[torch.Tensor | None],
    ) -> list[float]:
        """Return log pi - log prior of every sample; Z of a prompt needs them all before any is learned from."""
        found = [0.0] * sum(map(len, batches))
        with self.roles.policy.on():
            for batch, whole, prior, known in zip(batches, padded, priors, exact, strict=True):
                ratio = known
                if ratio is None:
                    ratio = self.roles.policy.log_probs(whole, self.options.temperature)[0] - prior
                for one, total in zip(batch, ratio.sum(1).tolist(), strict=True):
                    found[one.place] = total
        return found

    def _scored(self, step: int, prompts: Sequence[Row], rollouts: Sequence[Rollout]) -> list[Sampled]:
        """Return the samples with their scores.

        Raises:
            UserError: The reward gave another number of scores, or one that is not finite.
        """
        given = self.reward(prompts, rollouts) if rollouts else []
        scores = [
            float(score) if rollout.finished else self.options.missing_end_reward
            for score, rollout in zip(given, rollouts, strict=True)
        ]
        for place, score in enumerate(scores):
            if not math.isfinite(score):
                row = prompts[place].id
                sample = sum(one.id == row for one in prompts[:place])
                what = (
                    f"step {step}: the reward of row {row}, sample {sample}, is {score}: {rollouts[place].text[:200]!r}"
                )
                raise UserError(what, "correct the reward function, and continue from the checkpoint with --mended")
        if rollouts and not any(rollout.finished for rollout in rollouts) and not self.endless:
            self.endless = True
            tell(
                f"step {step}: none of {len(rollouts)} samples ended within {self.options.max_new_tokens}"
                " tokens, so that all have one reward, and nothing is learned of it; raise --max-new-tokens"
            )
        return [Sampled(*one) for one in zip(rollouts, range(len(rollouts)), scores, strict=True)]

    def _descend(self, held: _Held, place: int, update: int) -> tuple[dict[str, float], list[float]]:
        """Add a micro-batch's gradient; return its share of the step's sums, and log pi - log prior of its samples.

        Each role's way back runs while its adapter is on: with checkpointing the layers are computed anew there.
        """
        options, roles = self.options, self.roles
        batch, padded, prior = held.batches[place], held.padded[place], held.priors[place]
        live = padded.trained.to(self.backbone.device)
        with roles.policy.on():
            log_probs, hidden = roles.policy.log_probs(padded, options.temperature)
        if update == 0:
            held.old.append(log_probs.detach())
            held.weights.append(self._weights(batch, log_probs, live))
        scores = torch.tensor([one.centred for one in batch], dtype=torch.float32, device=live.device)
        values = torch.zeros_like(log_probs) if options.objective == "grpo" else self._values(padded, hidden)
        exact = held.exact[place] if update == 0 else None
        ratio = ((log_probs - prior).detach() if exact is None else exact) * live
        sequences, tokens = held.counts["sequences"], held.counts["tokens"]
        piece = Piece(log_probs, values, ratio, scores, live, sequences, tokens, prior, *held.at(place))
        losses = grpo(piece, options) if options.objective == "grpo" else reinforce(piece, options)
        if losses.value is not None:
            weighted = options.value_coefficient * losses.value
            with (roles.value or roles.policy).on():
                weighted.backward()  # type: ignore[no-untyped-call]
        with roles.policy.on():
            torch.stack(list(losses.policy.values())).sum().backward()  # type: ignore[no-untyped-call]
        sums = piece_sums(batch, piece, losses)
        if options.full_kl and update == 0:
            sums[named.KL_FULL] = float(self._full_kl(padded, hidden).sum())
        return sums, ratio.sum(1).tolist()

    @torch.no_grad()
    def _full_kl(self, padded: PaddedBatch, hidden: torch.Tensor) -> torch.Tensor:
        """Return KL(policy || prior) of the whole softmax at each sampled token, (B, T), from the policy's states."""
        policy, prior = self.roles.policy.backbone, self.roles.prior.backbone
        with self.roles.prior.on():
            anchor = prior.hidden(padded)
        return full_kl((policy, hidden.detach()), (prior, anchor), padded, self.options.temperature)

    def _weights(self, batch: Sequence[Sampled], old: torch.Tensor, live: torch.Tensor) -> torch.Tensor | None:
        """Return how much likelier the trainer has what a server sampled, at most the cap; None where none sampled."""
        how = self.options.rollouts
        if how is None or not any(one.rollout.log_probs for one in batch):
            return None
        told = [one.rollout.log_probs or [math.nan] * len(one.rollout.ids) for one in batch]
        flat = torch.tensor([value for row in told for value in row], dtype=old.dtype, device=old.device)
        sampled = torch.zeros_like(old.detach()).masked_scatter(live, flat)
        return truncated_weights(old, sampled, live, most=how.weight_cap, level=how.level)

    def _values(self, padded: PaddedBatch, hidden: torch.Tensor) -> torch.Tensor:
        """Return V_t, (B, T), with gradient for the value function alone."""
        roles = self.roles
        if roles.value is None:
            return roles.values(hidden.detach())
        with roles.value.on():
            return roles.values(roles.value.backbone.hidden(padded))

    def _rewards(self, sampled: Sequence[Sampled], ratios: Sequence[float]) -> list[float]:
        """Return the reward of each sample less a baseline of its prompt; of ``grpo`` its advantage."""
        options, aim = self.options, self.options.aim
        scores, paid = (torch.tensor(one) for one in ([one.score for one in sampled], list(ratios)))
        if aim.objective != "grpo":
            return sample_rewards(scores, paid, aim).tolist() if sampled else []
        rewards = scores - aim.beta * paid if options.kl == "reward" else scores
        spread = None
        if options.clipping.scale == "batch":
            sums = {"n": len(sampled), "sum": float(rewards.sum()), "squares": float(rewards.double().square().sum())}
            n, total, squares = self.processes.totals(sums).values()
            spread = math.sqrt(max(0.0, squares - total**2 / n) / (n - 1))
        scale = options.clipping.scale
        return group_advantages(rewards, group=aim.group, scale=scale, spread=spread).tolist() if sampled else []


@dataclass(frozen=True, slots=True)
class _Held:
    """The samples of a batch while updates are made on it, by micro-batch, and as each place in the step has them."""

    number: int
    sampled: list[Sampled]
    batches: list[list[Sampled]]
    padded: list[PaddedBatch]
    priors: list[torch.Tensor]
    exact: list[torch.Tensor | None]
    ratios: list[float]
    counts: dict[str, int]
    watched: dict[str, float]
    old: list[torch.Tensor] = field(default_factory=list)
    weights: list[torch.Tensor | None] = field(default_factory=list)

    def at(self, place: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return what a micro-batch was before the first update, and its weights."""
        return self.old[place], self.weights[place]
