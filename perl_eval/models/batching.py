"""Which rows a step takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["batch_of_step"]


def batch_of_step(lengths: Sequence[int], step: int, *, size: int, seed: int) -> list[int]:
    """Return the rows of one step's batch, a function of the step alone, so that a resumed run sees the same rows.

    Each epoch is a seeded permutation; within blocks of 16 batches rows of like length stand together, which spares
    padding, and the batches of a block come in random order. The last batch of an epoch may be smaller.
    """
    per_epoch = -(-len(lengths) // size)
    epoch, index = divmod(step, per_epoch)
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    block = 16 * size
    blocks = [order[start : start + block] for start in range(0, len(order), block)]
    ordered = np.concatenate([part[np.argsort(np.asarray(lengths)[part], kind="stable")] for part in blocks])
    batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    shuffled = random.permutation(per_epoch)
    return [int(row) for row in batches[shuffled[index]]]
