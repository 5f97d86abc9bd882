"""The meter against allocations and sleeps of known size."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import open_backbone
from perl_eval.models.device import Placement
from perl_eval.training.profiling import Meter, byte_account

MIB = 2**20


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads memory from Linux")
def test_peak_memory_is_over_what_was_there_before() -> None:
    kept = np.ones(64 * MIB, np.uint8)
    with Meter(torch.device("cpu")) as meter:
        block = np.ones(200 * MIB, np.uint8)
        time.sleep(0.05)
        del block
    assert 190 * MIB < meter.peak_bytes < 260 * MIB
    assert kept.nbytes == 64 * MIB


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads memory from Linux")
def test_a_peak_below_an_earlier_one_is_seen_too() -> None:
    """The system's high-water mark would stay where the first block put it; samples tell."""
    first = np.ones(300 * MIB, np.uint8)
    del first
    with Meter(torch.device("cpu")) as meter:
        block = np.ones(100 * MIB, np.uint8)
        time.sleep(0.05)
        del block
    assert 90 * MIB < meter.peak_bytes < 200 * MIB


def test_seconds_add_up_by_part() -> None:
    meter = Meter(torch.device("cpu"))
    for _ in range(2):
        with meter.part("sampling"):
            time.sleep(0.02)
    with meter.part("learning"):
        time.sleep(0.01)
    meter.tokens = 100
    notes = meter.notes()
    assert notes["seconds sampling"] >= 0.04
    assert notes["seconds learning"] >= 0.01
    total = notes["seconds sampling"] + notes["seconds learning"]
    assert notes["tokens a second"] == pytest.approx(100 / total, rel=0.05)
    assert "tokens a second" not in Meter(torch.device("cpu")).notes()


def test_the_byte_account_is_sixteen_a_trained_parameter_and_less_where_frozen(prior: Path) -> None:
    backbone = open_backbone(prior)
    size = sum(parameter.numel() for parameter in backbone.causal.parameters())
    whole = byte_account([backbone], backbone.parameters_of(None).values())
    assert sum(whole.values()) == 16 * size
    narrow = open_backbone(prior, Placement(dtype="bf16"))
    narrow.attach("policy", LoraShape(4), seed=0)
    own = narrow.parameters_of("policy").values()
    adapter = sum(parameter.numel() for parameter in own)
    # the adapter lies in float32 over a bfloat16 backbone: 16 bytes a parameter of it, 2 of the backbone's
    assert sum(byte_account([narrow], own).values()) == 2 * size + 16 * adapter
