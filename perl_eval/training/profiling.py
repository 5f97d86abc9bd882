"""What a run costs: peak memory beside the bytes it must take, seconds by part of a step, tokens a second."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

from perl_eval.models.allocator import give_back_large_blocks
from perl_eval.models.backbone import Backbone
from perl_eval.storage.run_folder import peak_memory_bytes
from perl_eval.training.updating import moments_of

__all__ = ["Meter", "byte_account"]

_STATM = Path("/proc/self/statm")
_SAMPLE_S = 0.002


def byte_account(
    backbones: Iterable[Backbone], trained: Iterable[nn.Parameter], optimizer: str = "adamw"
) -> dict[str, int]:
    """Return the bytes that training cannot do without, by formula; activations come on top.

    Weights are counted once a backbone as they lie in memory, gradients at the trained parameters' own width, and
    Adam's two moments likewise: with everything trained in float32 that is 4 + 4 + 8 = 16 bytes a parameter.

    Args:
        backbones: Every model in memory, each once.
        trained: The parameters that move.
        optimizer: What moves them.
    """
    sizes = [parameter.numel() * parameter.element_size() for parameter in trained]
    return {
        "bytes of weights": sum(backbone.resident_bytes() for backbone in backbones),
        "bytes of gradients": sum(sizes),
        "bytes of moments": moments_of(optimizer) * sum(sizes),
    }


def _resident_bytes() -> int:
    """Return this process's resident memory in bytes; where the system does not tell, its peak so far."""
    if not _STATM.is_file():
        return peak_memory_bytes()
    return int(_STATM.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Meter:
    """Measures a block of work; use as a context manager, around loading and training.

    On a GPU peak memory is the allocator's. On the CPU it is the resident set over what it was when the block began,
    weights that are mapped from their file included: the system's high-water mark, or where the process was larger
    before the block, samples every 2 ms. Large blocks go back to the system when they are freed
    (`perl_eval.models.allocator`), so that this is what was in use.

    Attributes:
        seconds: Seconds by part, see `part`.
        tokens: Tokens that were learned from, padding left out.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.tokens = 0.0
        self._base_bytes = self._peak_bytes = self._before_bytes = 0
        self._stop = threading.Event()
        self._sampler: threading.Thread | None = None

    def __enter__(self) -> Meter:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return self
        give_back_large_blocks()
        self._base_bytes = self._peak_bytes = _resident_bytes()
        self._before_bytes = peak_memory_bytes()
        if _STATM.is_file():
            self._sampler = threading.Thread(target=self._sample, daemon=True)
            self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self._peak_bytes = torch.cuda.max_memory_allocated(self.device)
            return
        self._stop.set()
        if self._sampler is not None:
            self._sampler.join()
        highest = peak_memory_bytes()
        self._peak_bytes = max(self._peak_bytes, highest if highest > self._before_bytes else _resident_bytes())

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            self._peak_bytes = max(self._peak_bytes, _resident_bytes())

    @property
    def peak_bytes(self) -> int:
        """Peak memory of the block, over what was there before it."""
        return self._peak_bytes - self._base_bytes

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the seconds of a part of a step; a GPU is waited for."""
        begun_s = self._now_s()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self._now_s() - begun_s

    def _now_s(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.monotonic()

    def notes(self) -> Mapping[str, float]:
        """Return the figures for the run card."""
        total_s = sum(self.seconds.values())
        return {
            "peak memory bytes": self.peak_bytes,
            **{f"seconds {name}": round(seconds, 3) for name, seconds in self.seconds.items()},
            **({"tokens a second": self.tokens / total_s} if total_s else {}),
        }
