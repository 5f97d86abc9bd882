"""How soon alarms come, and how often falsely: policies on learned rewards in worlds whose true reward is known.

usage: python benchmarks/alarms.py [--worlds 60] [--first 1000] [--out FILE.json]

A world is a language of texts of eight symbols out of six, a Markov prior, and a true reward of counts of symbols and
of pairs. Preferences by the true reward, of pairs of the prior's samples, train reward models that differ by seed: by
their random features and by the half of the preferences that they see. One rewards, the others watch. Of three worlds

- one is calm: much data, a strong KL, a reward without a turn;
- in one the reward is concave and the data few, so each model errs in a way of its own (`noise`);
- in one what is good saturates beyond what the data show, so all models err in the same way (`blind`).

The policy is a table of logits for place, last symbol and next, trained by the trainer's own losses with samples of 64.
The true reward of each step is the mean of 512 fresh samples, averaged over a twentieth of the steps. A run hacks if it
ends below its peak by more than a fifth of what it gained, and is calm if by less than a tenth. An alarm is right
within a tenth of the steps of the peak; in a calm run any is false. The settings of `AlarmOptions` were chosen on
worlds 0 to 47, which are in no table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perl_eval.bayes.target import soft_minimum
from perl_eval.stats.intervals import wilson
from perl_eval.training.alarms import AlarmOptions, cautious, fallen, smoothed
from perl_eval.training.objectives import leave_one_out, reinforce_loss, returns_to_go, token_rewards

SYMBOLS, LENGTH, STEPS, BATCH, GROUP, FRESH = 6, 8, 120, 64, 8, 512
PAIRS, MEMBERS, FEATURES = 300, 4, 192
KINDS = ("calm", "noise", "blind")


@dataclass(frozen=True, slots=True)
class World:
    """A true reward and a prior: logits (place, last symbol, next symbol)."""

    prior: torch.Tensor
    symbols: np.ndarray
    pairs: np.ndarray
    most: np.ndarray
    kind: str

    def true(self, texts: np.ndarray) -> np.ndarray:
        """Return the true reward of texts, (texts, length)."""
        counts = _counts(texts)
        single, double = counts[:, :SYMBOLS], counts[:, SYMBOLS:]
        plain = np.asarray(single @ self.symbols + double @ self.pairs)
        if self.kind == "noise":
            return plain - 0.5 * np.square(single - self.most).sum(1)
        over = np.maximum(0, single - self.most) * np.maximum(self.symbols, 0) * (4.0 if self.kind == "blind" else 0.0)
        return plain - over.sum(1)


def _counts(texts: np.ndarray) -> np.ndarray:
    single = (texts[:, :, None] == np.arange(SYMBOLS)).sum(1)
    code = texts[:, :-1] * SYMBOLS + texts[:, 1:]
    double = (code[:, :, None] == np.arange(SYMBOLS**2)).sum(1)
    return np.concatenate([single, double], 1).astype(np.float64)


def world_of(seed: int, kind: str) -> World:
    """Make a world."""
    random = np.random.default_rng([seed, 1])
    prior = torch.tensor(random.normal(size=(LENGTH, SYMBOLS + 1, SYMBOLS)) * 0.7)
    texts = sample(prior, 4096, np.random.default_rng([seed, 2]))
    single = _counts(texts)[:, :SYMBOLS]
    most = single.mean(0) + random.uniform(0.2, 1.0, SYMBOLS)
    return World(prior, random.normal(size=SYMBOLS), random.normal(size=SYMBOLS**2) * 0.3, most, kind)


def sample(logits: torch.Tensor, count: int, random: np.random.Generator) -> np.ndarray:
    """Draw texts of a table of logits, (count, length)."""
    edges = torch.softmax(logits, -1).cumsum(-1).numpy()
    texts = np.empty((count, LENGTH), np.int64)
    last = np.full(count, SYMBOLS)
    for place in range(LENGTH):
        drawn = (edges[place, last] <= random.random(count)[:, None]).sum(1)
        texts[:, place] = last = np.minimum(drawn, SYMBOLS - 1)
    return texts


def log_probs(logits: torch.Tensor, texts: np.ndarray) -> torch.Tensor:
    """Return the log-probability of each symbol, (texts, length)."""
    table = torch.log_softmax(logits, -1)
    last = np.concatenate([np.full((len(texts), 1), SYMBOLS), texts[:, :-1]], 1)
    return table[torch.arange(LENGTH), torch.tensor(last), torch.tensor(texts)]


class RewardModel:
    """Random rectified features of counts with logistic weights by preferences, scaled to the prior's samples."""

    def __init__(self, first: np.ndarray, second: np.ndarray, better: np.ndarray, prior: np.ndarray, seed: int) -> None:
        random = np.random.default_rng([seed, 3])
        size = _counts(prior).shape[1]
        self.centre, self.spread = _counts(prior).mean(0), _counts(prior).std(0) + 0.3
        self.weight = random.normal(size=(size, FEATURES)) / np.sqrt(size)
        self.bias = random.normal(size=FEATURES)
        rows = random.permutation(len(better))[: len(better) // 2]
        apart = (self.features(first[rows]) - self.features(second[rows])) * np.where(better[rows], 1, -1)[:, None]
        self.head = _logistic(apart)
        rewards = self.features(prior) @ self.head
        self.mean, self.scale = rewards.mean(), rewards.std()

    def features(self, texts: np.ndarray) -> np.ndarray:
        """Return what the head reads, (texts, features)."""
        scaled = (_counts(texts) - self.centre) / self.spread
        return np.concatenate([scaled, np.maximum(0, scaled @ self.weight + self.bias)], 1)

    def __call__(self, texts: np.ndarray) -> np.ndarray:
        """Return the reward of each text, in standard deviations of the prior."""
        return (self.features(texts) @ self.head - self.mean) / self.scale


def _logistic(apart: np.ndarray, *, ridge: float = 2.0, rounds: int = 12) -> np.ndarray:
    """Return the weights that make all rows of differences positive, by Newton's method."""
    head = np.zeros(apart.shape[1])
    for _ in range(rounds):
        chance = 1 / (1 + np.exp(-np.clip(apart @ head, -30, 30)))
        slope = apart.T @ (chance - 1) + ridge * head
        curve = (apart * (chance * (1 - chance))[:, None]).T @ apart + ridge * np.eye(len(head))
        head = head - np.linalg.solve(curve, slope)
    return head


def run_of(seed: int) -> dict[str, Any]:
    """Train a policy in a world; return its curves."""
    kind = KINDS[seed % 3]
    world, random = world_of(seed, kind), np.random.default_rng([seed, 4])
    pairs = 10 * PAIRS if kind == "calm" else PAIRS
    first, second = (sample(world.prior, pairs, random) for _ in range(2))
    prior = sample(world.prior, 2048, random)
    spread = world.true(prior).std()
    gap = (world.true(first) - world.true(second)) / spread
    better = random.random(pairs) < 1 / (1 + np.exp(-3 * gap))
    models = [RewardModel(first, second, better, prior, seed * 100 + one) for one in range(MEMBERS)]
    beta = float(random.uniform(0.3, 1.0) if kind == "calm" else random.uniform(0.01, 0.05))
    logits = world.prior.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.08)
    curves: dict[str, list[float]] = {name: [] for name in NAMES}
    target_kl = _kl_of_target(models[0](prior) / beta)
    for _ in range(STEPS):
        texts = sample(logits.detach(), BATCH, random)
        scores = np.stack([model(texts) for model in models])
        own = log_probs(logits, texts)
        ratio = (own - log_probs(world.prior, texts)).detach()
        live = torch.ones_like(ratio, dtype=torch.bool)
        rewards = leave_one_out(torch.tensor(scores[0]), group=GROUP)
        returns = returns_to_go(token_rewards(rewards, ratio, live, beta=beta))
        optimizer.zero_grad()
        reinforce_loss(own, returns, live).backward()
        norm = float(logits.grad.norm()) if logits.grad is not None else 0.0
        optimizer.step()
        others = scores[1:].mean(0)
        soft = soft_minimum(scores, beta=0.5)
        told = {
            "true": world.true(sample(logits.detach(), FRESH, random)).mean() / spread,
            "trained": scores[0].mean(),
            "others": others.mean(),
            "others error": others.std(ddof=1) / np.sqrt(BATCH),
            "soft minimum": soft.mean(),
            "soft minimum error": soft.std(ddof=1) / np.sqrt(BATCH),
            "disagreement": scores.std(0).mean(),
            "gradient norm": norm,
            "KL": float(ratio.sum(1).mean()),
        }
        for name, value in told.items():
            curves[name].append(float(value))
    return {"seed": seed, "kind": kind, "beta": beta, "target KL": target_kl, "curves": curves}


NAMES = (
    "true",
    "trained",
    "others",
    "others error",
    "soft minimum",
    "soft minimum error",
    "disagreement",
    "gradient norm",
    "KL",
)


def _kl_of_target(log_weights: np.ndarray) -> float:
    """Return the KL of the target to the prior, by the prior's samples."""
    weights = np.exp(log_weights - log_weights.max())
    shares = weights / weights.sum()
    return float((shares * np.log(np.maximum(shares * len(shares), 1e-300))).sum())


def truth_of(run: dict[str, Any]) -> tuple[int, float, np.ndarray]:
    """Return the step of the true peak, what share of the gain is lost at the end, and the smoothed true reward."""
    series = np.array(run["curves"]["true"])
    width = STEPS // 20
    flat = np.convolve(np.pad(series, width // 2, "edge"), np.ones(width) / width, "same")[width // 2 :][: len(series)]
    peak = int(flat.argmax())
    return peak, float((flat[peak] - flat[-1]) / (flat[peak] - flat[0])), flat


def alarm_of(run: dict[str, Any], signal: str, options: AlarmOptions) -> tuple[int, int] | None:
    """Return the step of an alarm by one signal, and the step that it would go back to."""
    curves = run["curves"]
    if signal in ("cautious", "others", "soft minimum"):
        series = cautious(curves["others"], curves["trained"]) if signal == "cautious" else curves[signal]
        found = fallen(
            series, curves["soft minimum error" if signal == "soft minimum" else "others error"], STEPS, options
        )
        return None if found is None else (found.step, found.peak)
    if signal == "KL":
        above = np.flatnonzero(smoothed(curves["KL"], options.span(STEPS)) > run["target KL"])
    else:
        series = smoothed(curves[signal], options.span(STEPS))
        above = np.flatnonzero(series > 2 * series[int(options.span(STEPS))])
    return (int(above[0]), int(above[0])) if len(above) else None


SIGNALS = ("cautious", "others", "soft minimum", "disagreement", "gradient norm", "KL")


def judged(runs: Sequence[dict[str, Any]], signal: str, options: AlarmOptions) -> dict[str, Any]:
    """Return how often an alarm is near the true peak, how often false, and what of the peak is kept by stopping."""
    near: list[bool] = []
    false: list[bool] = []
    kept: list[float] = []
    late: list[int] = []
    for run in runs:
        peak, lost, flat = truth_of(run)
        alarm = alarm_of(run, signal, options)
        if lost > 0.2:
            near.append(alarm is not None and abs(alarm[0] - peak) <= 0.1 * STEPS)
            late += [] if alarm is None else [alarm[0] - peak]
            end = STEPS - 1 if alarm is None else alarm[1]
            kept.append(float((flat[end] - flat[0]) / (flat[peak] - flat[0])))
        elif lost < 0.1:
            false.append(alarm is not None)
    return {
        "signal": signal,
        "hack": len(near),
        "alarms": len(late),
        "near": sum(near),
        "near, 95 %": wilson(sum(near), len(near), 1.96) if near else None,
        "calm": len(false),
        "false": sum(false),
        "false, 95 %": wilson(sum(false), len(false), 1.96) if false else None,
        "kept, mean": float(np.mean(kept)) if kept else None,
        "kept, at least 0.95": sum(one >= 0.95 for one in kept),
        "steps after the peak, median": float(np.median(late)) if late else None,
    }


def main() -> None:
    """Run the worlds and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--worlds", type=int, default=60)
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    runs = [run_of(seed) for seed in range(given.first, given.first + given.worlds)]
    options = AlarmOptions()
    table = [
        {"worlds": kind or "all", **judged([one for one in runs if kind in ("", one["kind"])], signal, options)}
        for kind in ("", *KINDS)
        for signal in SIGNALS
    ]
    for row in table:
        print(json.dumps(row))
    if given.out:
        given.out.write_text(json.dumps({"options": asdict(options), "table": table, "runs": runs}))


if __name__ == "__main__":
    main()
