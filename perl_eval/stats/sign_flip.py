"""An exact test of whether two sides are favoured alike, over items or over groups of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval.stats.bootstrap import Clusters, cluster_sums

__all__ = ["more_often_p", "sign_flip_p"]

FloatArray = NDArray[np.float64]


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
    seen = abs(round(float(sums.sum())))
    chances = np.ones(1)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        if size:
            chances = _convolved(chances, _binomial(count, size))
    middle = len(chances) // 2
    above, equal = float(chances[middle + seen + 1 :].sum()), float(chances[middle + seen])
    if not seen:
        return 1.0
    return min(1.0, 2 * above + equal * (1 if mid else 2))


def more_often_p(signs: ArrayLike, *, clusters: Clusters = None) -> float:
    """Return the one-sided p-value against +1 being no more frequent than -1, otherwise as `sign_flip_p`.

    Args:
        signs: +1, -1 or 0 for each item; shape (n,).
        clusters: What shares a source, one an item.
    """
    values = np.asarray(signs, np.float64)
    two_sided = sign_flip_p(values, clusters=clusters)
    return two_sided / 2 if values.sum() > 0 else 1.0


def _binomial(count: int, size: int) -> FloatArray:
    """Return the chances of the sum of so many +size or -size, from the lowest to the highest sum."""
    from scipy.stats import binom

    chances = np.zeros(2 * count * size + 1)
    chances[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
    return chances


def _convolved(one: FloatArray, other: FloatArray) -> FloatArray:
    from scipy.signal import fftconvolve

    if min(len(one), len(other)) < 64:
        return np.convolve(one, other)
    return np.clip(fftconvolve(one, other), 0.0, None)
