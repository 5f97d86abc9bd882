"""What LoRA leaves out, in the embedded world: ``python benchmarks/lora_gap.py DATA CELLS OUT``.

DATA and CELLS are ``data`` and ``arms/cells/tiny`` of ``examples/lora_or_full.sh``: each seed's policies learn from the
LoRA reward model of that seed. LoRA on all projections, with and without norms, stands beside full tuning of a copy, of
all its weights or all but some. Every policy answers 200 held-out prompts twice. Prints a table and writes it as JSON;
a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch

from perl_eval.models.adapters import ALL_PROJECTIONS, LoraShape
from perl_eval.models.backbone import Backbone
from perl_eval.records import Completion, Measurement
from perl_eval.sampling import in_process
from perl_eval.stats import intervals
from perl_eval.storage import run_folder
from perl_eval.training import policy
from perl_eval.training.policy import PolicyOptions
from perl_eval.worlds import coffee

EMBEDDINGS, NORMS = ("embed_tokens", "lm_head"), ("norm",)
RATE, FULL_RATE = 3e-3, 1e-3


class Arm(NamedTuple):
    """Rank, 0 for full tuning; whether LoRA has norms of its own; and what full tuning leaves as it is."""

    rank: int = 0
    norms: bool = False
    left: tuple[str, ...] = ()


ARMS = {
    "full": Arm(),
    "full but the norms": Arm(left=NORMS),
    "full but the embeddings": Arm(left=EMBEDDINGS),
    "full but both": Arm(left=(*EMBEDDINGS, *NORMS)),
    "LoRA, rank 16": Arm(16),
    "LoRA, rank 64": Arm(64),
    "LoRA, rank 16, and norms": Arm(16, norms=True),
}
BETA = 0.3
MAX_TOKENS, MAX_NEW_TOKENS = 96, 24


@contextlib.contextmanager
def frozen(parts: tuple[str, ...]) -> Iterator[None]:
    """Keep full tuning from some of the weights."""
    everything = Backbone.parameters_of

    def fewer(self: Backbone, name: str | None) -> dict[str, torch.nn.Parameter]:
        found = everything(self, name)
        return {key: one for key, one in found.items() if name is not None or not any(part in key for part in parts)}

    with mock.patch.object(Backbone, "parameters_of", fewer):
        yield


def worth(given: argparse.Namespace, arm: str, seed: int) -> dict[str, float]:
    """Train and sample one policy; return its figures."""
    rank, norms, left = ARMS[arm]
    options = PolicyOptions(
        steps=given.steps,
        batch=32,
        group=4,
        learning_rate=RATE if rank else FULL_RATE,
        beta=BETA,
        max_new_tokens=MAX_NEW_TOKENS,
        max_tokens=MAX_TOKENS,
        lora=LoraShape(max(rank, 1), 2.0 * rank, ALL_PROJECTIONS, norms=norms),
        full=not rank,
    )
    place = given.out / f"{arm.replace(' ', '-').replace(',', '')}-{seed}"
    prompts = given.data / "prompts"
    rewarded = given.cells / f"reward-r16-{seed}"
    with frozen(left):
        tuned = policy.run(prompts, given.cells / "sft", rewarded, place, options=options, seed=seed)
    asked = in_process.SampleOptions(limit=200, draws=2, max_tokens=MAX_TOKENS, max_new_tokens=MAX_NEW_TOKENS)
    sampled = in_process.run(tuned, prompts, place.with_name(f"{place.name}-answers"), options=asked, seed=seed)
    answers = run_folder.read(sampled, Completion)
    curve = run_folder.read(tuned, Measurement)
    learned, distance = ([p.value for p in curve if p.metric == name] for name in ("reward", "KL to prior"))
    last = max(1, given.steps // 5)
    found = {"learned reward": float(np.mean(learned[-last:])), "KL": float(np.mean(distance[-last:]))}
    found["reward less beta x KL"] = found["learned reward"] - BETA * found["KL"]
    return found | {"true reward": float(np.mean([coffee.true_reward_of(one) for one in answers]))}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("cells", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, dict[str, list[float]]] = {}
    for arm in ARMS:
        for seed in range(given.seeds):
            for name, value in worth(given, arm, seed).items():
                figures.setdefault(arm, {}).setdefault(name, []).append(value)
    told: dict[str, dict[str, object]] = {}
    print(f"means over {given.seeds} seeds; learned reward and KL (nats) over the last fifth of {given.steps} steps")
    for arm, found in figures.items():
        above = intervals.mean("above full", np.subtract(found["true reward"], figures["full"]["true reward"]))
        shown = "  ".join(f"{name} {np.mean(values):.3f}" for name, values in found.items())
        bounds = "" if above.low is None else f" ({above.low:.3f} to {above.high:.3f})"
        print(f"{arm:36} {shown}  true reward above full's {above.value:.3f}{bounds}")
        told[arm] = {**found, "true reward above full": [above.value, above.low, above.high]}
    (given.out / "lora_gap.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
