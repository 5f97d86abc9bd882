"""Freed memory goes back to the system, seen in fresh processes; and adapters' inputs are not held twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models
import torch

from perl_eval.models.adapters import METHODS
from perl_eval.models.backbone import LoraShape, open_backbone
from perl_eval.models.device import Placement
from perl_eval.models.tokenize import PaddedBatch

_CHILD = """
import sys
import numpy as np
from perl_eval.models.allocator import give_back_large_blocks
print(give_back_large_blocks() if sys.argv[1] == "mended" else False)
first = np.ones(2**24, np.uint8)  # freed, it raises the threshold of a C library that is left alone to 16 MiB
del first
kept, freed = [], []
for _ in range(20):
    freed.append(np.ones(2**23, np.uint8))
    kept.append(np.ones(2**17, np.uint8))  # lies above it
freed.clear()
with open("/proc/self/statm") as file:
    print(int(file.read().split()[1]) * 4096 // 2**20)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads memory from Linux")
def test_large_blocks_go_back_when_they_are_freed() -> None:
    def resident(how: str, **environment: str) -> tuple[str, int]:
        plain = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC", "GLIBC", "LD_PRE"))}
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, how],
            capture_output=True,
            text=True,
            check=True,
            env={**plain, **environment},
        )
        took, megabytes = done.stdout.split()
        return took, int(megabytes)

    took, mended = resident("mended")
    if took == "False":
        pytest.skip("another C library than glibc")
    _, left = resident("left")
    assert left - mended > 120  # of 160 MiB that nobody uses
    assert resident("mended", MALLOC_MMAP_THRESHOLD_="1000000")[0] == "False"  # who sets it has chosen


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_adapters_hold_their_inputs_once_and_say_the_same_bits(
    blank: Path, batch: PaddedBatch, method: str, checkpointing: bool
) -> None:
    def learned(*, casts: bool) -> tuple[torch.Tensor, list[torch.Tensor], int]:
        backbone = open_backbone(blank, Placement("cpu", "bf16", checkpointing))
        backbone.attach("policy", LoraShape(4, 8.0, method=method), seed=0)
        tiny_models.stir(backbone, "policy", size=0.05)
        for module in backbone.causal.modules():
            if casts and hasattr(module, "cast_input_dtype_enabled"):
                module.cast_input_dtype_enabled = True  # as peft leaves it
        backbone.train_only("policy")
        held: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with backbone.adapter("policy"), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            states = backbone.hidden(batch)
            total = sum(held.values())
            states.float().square().mean().backward()
        gradients = [one.grad for one in backbone.parameters_of("policy").values() if one.grad is not None]
        return states.detach(), gradients, total

    theirs, own = learned(casts=True), learned(casts=False)
    assert torch.equal(own[0], theirs[0])
    assert len(own[1]) == len(theirs[1]) > 0
    assert all(torch.equal(one, other) for one, other in zip(own[1], theirs[1], strict=True))
    assert own[2] <= theirs[2] or method == "dora"  # which keeps its casts
    if method == "lora" and not checkpointing:
        assert own[2] < 0.95 * theirs[2]
