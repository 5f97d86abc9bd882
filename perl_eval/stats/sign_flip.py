"""An exact test of whether two sides are favoured alike, over items or over groups of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval.stats.bootstrap import Clusters, cluster_sums

__all__ = ["more_often_p", "sign_flip_p"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_LEAST = float(np.finfo(np.float64).tiny)
"""What no p-value is below: the smallest number that keeps its digits, for a chance is not 0."""


def sign_flip_p(signs: ArrayLike, *, clusters: Clusters = None, mid: bool = False) -> float:
    """Return the two-sided p-value of the hypothesis that both sides are favoured alike.

    With S_c the sum of the signs in group c: under the hypothesis each S_c is as likely as -S_c, whatever the items of
    a group have in common. The p-value is the probability that ``|sum_c e_c S_c|``, e_c = +1 or -1 by even chance, is
    at least as large as it was, computed exactly. Where no group has more than one item it is the sign test. It is 1
    where there is nothing to test.

    Args:
        signs: +1, -1 or 0 for each item; shape (n,).
        clusters: What shares a source, one an item.
        mid: Whether sums as large as the one seen count half (mid-p), as in McNemar's test.

    Source: Good, Permutation, Parametric and Bootstrap Tests of Hypotheses (2005), section 3.2.1 (sign flips); its
        exchangeable unit here is the group, as in Datta and Satten, Biometrics 64 (2008), 501-507.
    """
    sums = cluster_sums(np.asarray(signs, np.float64)[:, None], clusters)[:, 0]
    sizes, counts = np.unique(np.abs(np.rint(sums)).astype(np.int64), return_counts=True)
    sizes, counts = sizes[sizes > 0], counts[sizes > 0]
    seen = abs(round(float(sums.sum())))
    if not seen:
        return 1.0
    if seen == sizes @ counts:
        above, equal = -np.inf, -int(counts.sum()) * np.log(2)
    else:
        above, equal = _log_tail(sizes, counts, seen)
    found = float(np.exp(np.logaddexp(above, equal - (np.log(2) if mid else 0.0)) + np.log(2)))
    return min(1.0, max(found, _LEAST))


def _log_tail(sizes: IntArray, counts: IntArray, seen: int) -> tuple[float, float]:
    """Return the logs of the chances that the sum is above what was seen, and that it is that.

    Products of transforms are right to 1e-16 of the largest chance, which is no digit of a small one. So the chances
    are those of a sum whose mean is what was seen, each sign drawn with weight ``exp(tilt x sum)``, and the weight is
    taken off at the end.
    """
    from scipy.optimize import brentq
    from scipy.special import logsumexp

    def excess(tilt: float) -> float:
        return float((counts * sizes) @ np.tanh(tilt * sizes)) - seen

    tilt = float(brentq(excess, 0.0, 40.0))  # tanh(40) is 1 to the last digit, and the sum is below its largest
    chances = np.ones(1)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        chances = _convolved(chances, _binomial(count, size, 1 / (1 + np.exp(-2 * tilt * size))))
    steps = np.arange(len(chances) - len(chances) // 2 - seen)  # above what was seen
    weight = float(counts @ (np.logaddexp(tilt * sizes, -tilt * sizes) - np.log(2)))
    with np.errstate(divide="ignore"):
        logs = np.log(chances[len(chances) // 2 + seen :]) - tilt * (steps + seen) + weight
    return float(logsumexp(logs[1:])), float(logs[0])


def more_often_p(signs: ArrayLike, *, clusters: Clusters = None) -> float:
    """Return the one-sided p-value against +1 being no more frequent than -1, otherwise as `sign_flip_p`.

    Args:
        signs: +1, -1 or 0 for each item; shape (n,).
        clusters: What shares a source, one an item.
    """
    values = np.asarray(signs, np.float64)
    two_sided = sign_flip_p(values, clusters=clusters)
    return two_sided / 2 if values.sum() > 0 else 1.0


def _binomial(count: int, size: int, up: float) -> FloatArray:
    """Return the chances of the sum of so many +size, by a chance of its own, or -size; from the lowest sum up."""
    from scipy.stats import binom

    chances = np.zeros(2 * count * size + 1)
    chances[:: 2 * size] = binom.pmf(np.arange(count + 1), count, up)
    return chances


def _convolved(one: FloatArray, other: FloatArray) -> FloatArray:
    from scipy.signal import fftconvolve

    if min(len(one), len(other)) < 64:
        return np.convolve(one, other)
    return np.clip(fftconvolve(one, other), 0.0, None)
