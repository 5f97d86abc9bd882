"""The best of k draws: what a policy's variety is worth to someone who may try again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval.records import Estimate
from perl_eval.stats.intervals import mean, undefined

__all__ = ["best_at", "best_of_draws"]

FloatArray = NDArray[np.float64]


def best_of_draws(values: ArrayLike, k: int) -> float:
    """Return the expected best of k of some draws, taken without putting any back: unbiased for the best of k draws.

    ``sum_i v_(i) C(i - 1, k - 1) / C(n, k)`` over the values in ascending order. Of values 0 and 1, c of them 1, it is
    pass@k, ``1 - C(n - c, k) / C(n, k)``.

    Args:
        values: Shape (n,).
        k: In [1, n].

    Raises:
        ValueError: There are fewer values than k.

    Source: Chen et al., arXiv 2107.03374, equation 1, for pass@k.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    n = len(ordered)
    if not 1 <= k <= n:
        raise ValueError(f"the best of {k} of {n} draws")
    # The chance that the i-th is the best of the k: from the last down, each is the one before times (i - k) / (i - 1).
    places = np.arange(n, 1, -1)
    chances = np.cumprod(np.concatenate([[k / n], (places - k) / (places - 1)]))
    return float(ordered[::-1] @ chances)


def best_at(
    name: str,
    values: Sequence[float],
    items: Sequence[str],
    k: int,
    *,
    bounds: tuple[float, float] | None = None,
    level: float = 0.95,
) -> Estimate:
    """Estimate the mean over prompts of the best of k draws.

    Args:
        name: Name of the figure.
        values: What each draw is worth.
        items: The prompt of each draw; prompts with fewer than k draws are missing.
        k: How many draws there are to choose from.
        bounds: What values can be.
        level: Confidence level of the interval over prompts.
    """
    prompts: dict[str, list[float]] = {}
    for value, item in zip(values, items, strict=True):
        prompts.setdefault(item, []).append(value)
    known = [best_of_draws(drawn, k) for drawn in prompts.values() if len(drawn) >= k]
    missing = len(prompts) - len(known)
    if not known:
        return undefined(name, f"no prompt has {k} draws", n_missing=missing, method="t over prompts")
    return mean(name, known, n_missing=missing, bounds=bounds, level=level)
