"""Every group, and every batch of groups, that can be drawn from a list, with the number of orders it comes in."""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter

import torch

__all__ = ["batches_of", "multisets", "ordered"]


@functools.lru_cache(maxsize=32)
def multisets(items: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return every multiset of some size, (K, size) int64, and how many orders each comes in, (K,) float64."""
    found = list(itertools.combinations_with_replacement(range(items), size))
    times = [math.factorial(size) / math.prod(map(math.factorial, Counter(one).values())) for one in found]
    return torch.tensor(found), torch.tensor(times, dtype=torch.float64)


def ordered(items: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return every tuple of some size, (K, size), and ones, (K,)."""
    found = torch.tensor(list(itertools.product(range(items), repeat=size)))
    return found, torch.ones(len(found), dtype=torch.float64)


def batches_of(groups: torch.Tensor, times: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return every batch of ``count`` groups, (K, count x size), and how many orders each comes in, (K,)."""
    if count == 1:
        return groups, times
    chosen, orders = multisets(len(groups), count)
    return groups[chosen].flatten(1), orders * times[chosen].prod(1)
