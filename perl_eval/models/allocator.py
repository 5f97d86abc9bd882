"""Memory that is freed and goes back to the system at once, where the C library would keep it for later.

glibc serves a large block by a mapping of its own, which goes when the block is freed, from a threshold on; but it
raises the threshold to the largest block freed so far, and keeps what lies below. A model's activations differ in size
from batch to batch, so that blocks kept of one do not fit the next. Source: mallopt(3), M_MMAP_THRESHOLD.
"""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["THRESHOLD_BYTES", "give_back_large_blocks"]

THRESHOLD_BYTES = 2**20
"""Blocks from here on are mapped each on their own: 1 MiB, as large as activations are, not what they are made of."""
_M_MMAP_THRESHOLD = -3
_CHOSEN = ("MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")
"""Whoever sets one of these has chosen an allocator, or how it works."""


def give_back_large_blocks() -> bool:
    """Fix the threshold of the C library at `THRESHOLD_BYTES`; return whether it took it.

    It does where it is glibc's, and nobody has chosen another in the environment. It holds for this process.
    """
    if not sys.platform.startswith("linux") or any(os.environ.get(name) for name in _CHOSEN):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_M_MMAP_THRESHOLD, THRESHOLD_BYTES) == 1
