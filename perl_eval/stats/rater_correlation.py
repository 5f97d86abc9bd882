"""How alike several judges are, and how many different ones they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval.records import About, Estimate
from perl_eval.stats.bootstrap import Clusters, Resampling, cluster_sums
from perl_eval.stats.intervals import resampled, undefined

__all__ = ["CORRELATION", "EIGENVALUE", "KISH", "likeness"]

FloatArray = NDArray[np.float64]
CORRELATION = "correlation"
KISH = "effective number of judges, equal correlations"
EIGENVALUE = "effective number of judges, eigenvalues"
_STILL = 1e-12
"""A variance up to this is that of a judge who does not vary in a draw."""
_ONE_ONLY = "without one of the items a judge gives the same for all; there is no interval"
_NORMAL = 1e4
"""From this noncentrality on a chi-square is taken as normal; its skewness is below 0.011."""


def likeness(
    values: ArrayLike,
    names: Sequence[str],
    *,
    of: str,
    clusters: Clusters = None,
    resampling: Resampling | None = None,
) -> list[Estimate]:
    """Estimate how far judges err, or speak, alike, and the effective number of them.

    With the correlations r_ij of n judges and rho the mean of those of different judges: ``n / (1 + (n - 1) rho)``, the
    number of uncorrelated judges whose mean has the variance of theirs if all correlations are equal; and
    ``(sum lambda)^2 / sum lambda^2 = n^2 / sum_ij r_ij^2``, with lambda the eigenvalues of the correlations. Both are n
    for judges without correlation and 1 for judges that are the same. Neither has a bootstrap interval: that of the
    second lies below n for independent judges always, since squared correlations of a sample are too large.

    Args:
        values: What each judge gave each item, or how far it was off, shape (items, judges).
        names: Of the judges.
        of: What the values are, such as ``errors``: goes into the names of the figures.
        clusters: What shares a source, one an item.
        resampling: Draws, seed and level of the bootstrap over clusters.

    Returns:
        The correlation of each two judges, the mean of them, and both effective numbers. Undefined where a judge gives
        the same for all items.

    Source:
        Kish, Survey Sampling (1965), chapter 5 (the design effect 1 + (n - 1) rho); Bretherton et al., Journal of
        Climate 12 (1999), 1990-2009 (eigenvalues).
    """
    data = np.asarray(values, np.float64)
    if data.ndim != 2 or data.shape[1] != len(names):
        raise ValueError(f"the values have shape {data.shape}, for {len(names)} judges")
    pairs = list(combinations(range(len(names)), 2))
    figures = [(f"{CORRELATION} of {of}", About(judge=names[i], other_judge=names[j]), [(i, j)]) for i, j in pairs]
    figures.append((f"mean {CORRELATION} of {of}", About(), pairs))
    rows = _sums(data, clusters)
    still = [name for name, column in zip(names, data.T, strict=True) if len(data) == 0 or np.ptp(column) == 0]

    def estimate(name: str, subject: About, made_of: _Figure) -> Estimate:
        if still:
            return replace(undefined(name, f"{still[0]} gives the same for all items"), n=len(data), about=subject)
        found = resampled(name, rows, made_of, n=len(data), resampling=resampling)
        return replace(found, about=subject)

    count = len(names)
    found = [estimate(name, subject, _Figure(count, chosen)) for name, subject, chosen in figures]
    if still or len(rows) < 2:
        return [*found, *(estimate(f"{name}, {of}", About(), _Figure(count, pairs)) for name in (KISH, EIGENVALUE))]
    known = _Correlations.of(rows, count, pairs)
    level = (resampling or Resampling()).level
    return [*found, _by_the_mean(f"{KISH}, {of}", known, level), _by_eigenvalues(f"{EIGENVALUE}, {of}", known, level)]


@dataclass(frozen=True, slots=True)
class _Correlations:
    """Correlations of every two judges.

    Attributes:
        judges: How many judges there are.
        items: How many items.
        clusters: How many clusters the items are of.
        values: The correlations, shape (pairs,).
        covariance: Of the correlations on Fisher's scale, by the jackknife over clusters, shape (pairs, pairs).
        freedom: Degrees of freedom of the jackknife's variances, from how their parts vary from cluster to cluster.
    """

    judges: int
    items: int
    clusters: int
    values: FloatArray
    covariance: FloatArray
    freedom: float

    @classmethod
    def of(cls, sums: FloatArray, count: int, pairs: Sequence[tuple[int, int]]) -> _Correlations:
        """Make them of what `_sums` returns for so many judges."""
        r = _pairs(sums.sum(axis=0, keepdims=True), count, pairs)[0]
        without = np.arctanh(np.clip(_pairs(sums.sum(axis=0) - sums, count, pairs), _STILL - 1, 1 - _STILL))
        off = without - without.mean(axis=0)
        parts = np.square(off).sum(axis=1)
        uneven = float(np.square(parts).mean() / max(float(parts.mean()) ** 2, _STILL**2)) - 1
        n = len(sums)
        return cls(count, round(float(sums[:, 0].sum())), n, r, (n - 1) / n * off.T @ off, 2 * n / max(uneven, _STILL))

    def covariance_at(self, values: FloatArray) -> FloatArray:
        """Return the covariance of the correlations themselves, were these the true ones."""
        slope = 1 - np.square(values)
        return self.covariance * np.outer(slope, slope)


def _by_the_mean(name: str, known: _Correlations, level: float) -> Estimate:
    """Return the number of judges by the mean correlation, whose interval is t on Fisher's scale."""
    from scipy.special import stdtrit

    mean, count = float(known.values.mean()), known.judges

    def number(correlation: float) -> float | None:
        spread = 1 + (count - 1) * correlation
        return count / spread if spread > 0 else None

    method = f"t on Fisher's scale, {known.clusters} clusters"
    estimate = Estimate(name, number(mean), None, None, known.items, 0, method, level)
    if not np.isfinite(known.covariance).all():
        return replace(estimate, reason=_ONE_ONLY)
    error = float(np.sqrt(known.covariance_at(known.values).mean()))
    if error < _STILL or abs(mean) > 1 - _STILL:
        return replace(estimate, reason="the correlations do not vary; they have no interval")
    half = float(stdtrit(known.clusters - 1, (1 + level) / 2)) * error / (1 - mean**2)
    low, high = (number(float(np.tanh(np.arctanh(mean) + part))) for part in (half, -half))
    if low is None or high is None or estimate.value is None:
        return replace(estimate, reason="judges that contradict each other are worth any number")
    return replace(estimate, low=low, high=high)


def _by_eigenvalues(name: str, known: _Correlations, level: float) -> Estimate:
    """Return the number of judges by eigenvalues, with an interval of the sum S of squared correlations.

    The interval holds every S that the sample's sum s does not speak against; S is at least 0, so that the number is at
    most n. Were the true correlations r' = r sqrt(S / s), with covariance C' (jackknife over clusters on Fisher's
    scale, so that it is narrower the larger they are), s would be about a scaled noncentral chi-square with mean ``S +
    tr C' - b`` and variance ``2 tr C'^2 + 4 r' C' r'``, ``b`` the bias of the sample's correlations towards 0. Tails
    are those of t, since C' is an estimate.

    Source: Andrews, Econometrica 68 (2000), 399-405, for why a bootstrap fails at the edge; Olkin and Finn,
        Psychological Bulletin 118 (1995), 155-164, for correlations of one sample; Satterthwaite, Biometrics Bulletin 2
        (1946), 110-114, for matching moments.
    """
    r, count = known.values, known.judges
    squares, method = float(r @ r), f"test inversion, {known.clusters} clusters"
    estimate = Estimate(name, count**2 / (count + 2 * squares), None, None, known.items, 0, method, level)
    if not np.isfinite(known.covariance).all():
        return replace(estimate, reason=_ONE_ONLY)
    if np.trace(known.covariance_at(r)) < _STILL or squares < _STILL:
        return replace(estimate, reason="the correlations do not vary; they have no interval")
    least, most = _sums_not_refused(known, level)
    return replace(estimate, low=count**2 / (count + 2 * most), high=count**2 / (count + 2 * least))


def _sums_not_refused(known: _Correlations, level: float) -> tuple[float, float]:
    """Return the least and largest sum of squared correlations that are not refused."""
    from scipy.optimize import brentq
    from scipy.special import chndtr, ndtr, stdtrit

    squares, most = float(known.values @ known.values), float(len(known.values))
    tail = float(ndtr(stdtrit(known.freedom, (1 - level) / 2)))

    def below(true: float) -> float:
        """Return the chance of a sum up to that of the sample."""
        r = np.clip(known.values * np.sqrt(true / squares), _STILL - 1, 1 - _STILL)
        covariance = known.covariance_at(r)
        bias = float((np.diag(known.covariance) * np.square(r) * (1 - np.square(r))).sum())
        middle, spread = max(true - bias, 0.0), float(np.trace(covariance))
        variance = 2 * float(np.square(covariance).sum()) + 4 * float(r @ covariance @ r)
        if spread + middle <= 0 or variance <= 0:
            return 1.0
        scale = variance / (2 * spread + 4 * middle)
        if middle > _NORMAL * scale:
            return float(ndtr((squares - spread - middle) / np.sqrt(variance)))
        return float(chndtr(squares / scale, spread / scale, middle / scale))

    low = 0.0 if below(0.0) <= 1 - tail else float(brentq(lambda true: below(true) - 1 + tail, 0.0, squares))
    if below(squares) <= tail:
        return low, squares
    high = most if below(most) > tail else float(brentq(lambda true: below(true) - tail, squares, most))
    return low, high


def _sums(data: FloatArray, clusters: Clusters) -> FloatArray:
    """Return the sums that correlations are made of, by cluster: count, values, products; centred to keep digits."""
    centred = data - (data.mean(axis=0) if len(data) else 0.0)
    products = centred[:, :, None] * centred[:, None, :]
    ones = np.ones((len(data), 1))
    flat = products.reshape(len(data), data.shape[1] ** 2)
    return cluster_sums(np.concatenate([ones, centred, flat], axis=1), clusters)


class _Figure:
    """A mean of correlations, as the numerator and denominator that a bootstrap of ratios takes."""

    def __init__(self, count: int, pairs: Sequence[tuple[int, int]]) -> None:
        self._count, self._chosen = count, pairs

    def __call__(self, sums: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return numerators and denominators, shape (draws,); a denominator of 0 where a judge does not vary."""
        chosen = _pairs(sums, self._count, self._chosen)
        live = np.asarray(np.isfinite(chosen).all(axis=1), np.float64)
        return np.asarray(np.where(live > 0, chosen.mean(axis=1), 0.0), np.float64), live


def _pairs(sums: FloatArray, count: int, chosen: Sequence[tuple[int, int]]) -> FloatArray:
    """Return the correlations of the pairs chosen, shape (draws, pairs), from sums over all items of a draw.

    All are nan in a draw in which a judge does not vary.
    """
    first, second = np.array(chosen).T
    n = sums[:, :1]
    means = sums[:, 1 : 1 + count] / n
    products = sums[:, 1 + count :].reshape(len(sums), count, count) / n[:, :, None]
    covariances = products - means[:, :, None] * means[:, None, :]
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    live = (variances > _STILL).all(axis=1, keepdims=True)
    spread = np.sqrt(np.where(live, variances, 1.0))
    found = covariances[:, first, second] / (spread[:, first] * spread[:, second])
    return np.asarray(np.where(live, found, np.nan), np.float64)
