"""One forward of mixed adapters against one a role: ``OMP_NUM_THREADS=2 python benchmarks/mixed.py``.

What RL scores samples with, the prior and some adapters, can go through the model in one forward pass, the rows
once for each role (peft's ``adapter_names``), or in one pass a role. Both are timed in turn on the same rows and random
weights; memory is what a pass adds to the resident set.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from train_case import Case, prepare

from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import open_backbone
from perl_eval.models.device import Placement
from perl_eval.training.profiling import Meter

MIB = 2**20


@torch.no_grad()
def measured(work: Callable[[], Any]) -> tuple[float, float]:
    """Return seconds and the memory that was added, in MiB."""
    with Meter(torch.device("cpu")) as meter:
        begun_s = time.monotonic()
        work()
        seconds = time.monotonic() - begun_s
    return seconds, meter.peak_bytes / MIB


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="88m")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    case = Case("rl", "lora", "ours", given.size, 1, 8, given.tokens, 24, 8, "fp32")
    with tempfile.TemporaryDirectory() as place:
        prepare(Path(place), case)
        backbone = open_backbone(Path(place) / "model", Placement("cpu"))
        names = [None, "reward", "value"]
        for seed, name in enumerate(names[1:]):
            backbone.attach(str(name), LoraShape(8), seed=seed)
        decoder = backbone.causal.get_decoder()
        print("| roles | rows | s, one a role (span) | s, mixed (span) | mixed is | MiB, one a role | MiB, mixed |")
        print("|---|---|---|---|---|---|---|")
        for count in (2, 3):
            for batch in given.batch:
                report(backbone, decoder, names[:count], torch.randint(5, 400, (batch, given.tokens)), given.repeats)


def report(backbone: Any, decoder: Any, names: list[str | None], ids: torch.Tensor, repeats: int) -> None:
    """Time both ways in turn, and print a row; their states must agree."""

    def apart() -> list[torch.Tensor]:
        found = []
        for name in names:
            with backbone.adapter(name):
                found.append(decoder(input_ids=ids, use_cache=False).last_hidden_state)
        return found

    def mixed() -> list[torch.Tensor]:
        labels = [name or "__base__" for name in names for _ in ids]
        with backbone._peft._enable_peft_forward_hooks(adapter_names=labels):
            states = decoder(input_ids=ids.repeat(len(names), 1), use_cache=False).last_hidden_state
        return list(states.chunk(len(names)))

    with torch.no_grad():
        worst = max(float((one - other).abs().max()) for one, other in zip(apart(), mixed(), strict=True))
    if worst > 1e-4:
        raise AssertionError(f"the two ways differ by {worst}")
    measures = [(measured(apart), measured(mixed)) for _ in range(repeats)]
    seconds = [[one[way][0] for one in measures] for way in (0, 1)]
    spans = [f"{median(found):.3f} ({min(found):.3f} to {max(found):.3f})" for found in seconds]
    faster = median(seconds[0]) / median(seconds[1])
    added = [median(one[way][1] for one in measures) for way in (0, 1)]
    print(
        f"| {len(names)} | {len(ids)} | {spans[0]} | {spans[1]} | {faster:.2f}x | {added[0]:,.0f} | {added[1]:,.0f} |"
    )


if __name__ == "__main__":
    main()
