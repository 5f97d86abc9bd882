"""The difference between two policies as people would see it: a judge's on all items, people's on some of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from perl_eval.stats.bootstrap import Codes
from perl_eval.stats.correction import PSEUDO, LabelledClusters

__all__ = [
    "CorrectedDifference",
    "Differences",
    "corrected_difference",
]

FloatArray = NDArray[np.float64]
_LABELS_A_PROXY = 20
"""Labels that each proxy beyond the first must have, or it costs more than it tells."""
_ROUNDING, _TINY = 1e-9, 1e-15
"""A difference of means below this share of their size, or this much, is none."""
_FOLDS = 10
_SEED = 0
_ALPHA, _NARROWEST = 0.05, 200
"""Where an interval that holds at every number of labels is narrowest: at this many, of this level."""


@dataclass(frozen=True, slots=True)
class Differences:
    """Differences between two policies, item by item; in [-1, 1], above 0 where the first is better.

    Attributes:
        proxies: What is known of the items, the judge's own difference first, shape (N, k): probabilities, lengths,
            another judge. The first is known of all items; another may be NaN where it is not known, if the items of
            which it is known are a random part.
        places: Items that people labelled, shape (n,).
        truth: Their difference by people, shape (n,).
        weights: The inverse of the probability with which each was drawn for labelling, up to a factor, shape (n,).
        clusters: What shares a source, codes, shape (N,).
    """

    proxies: FloatArray
    places: NDArray[np.intp]
    truth: FloatArray
    weights: FloatArray
    clusters: Codes


@dataclass(frozen=True, slots=True)
class CorrectedDifference:
    """A difference corrected by labels.

    Attributes:
        value: The difference, in [-1, 1].
        error: Its standard error.
        degrees: Degrees of freedom of its t quantile.
        labelled: Items that people labelled.
        effective: How many labels of one weight they are worth.
        proxies: How many proxies were used.
        share_of_labels: How much of the variance would go with more labels alone, in [0, 1].
        influence: What each cluster adds to ``value`` beside its mean, by the clusters' codes.
        anytime: Whether interval and p-value hold at every number of labels at once, so that labelling may stop as soon
            as they say enough.
    """

    value: float
    error: float
    degrees: float
    labelled: int
    effective: float
    proxies: int
    share_of_labels: float
    influence: FloatArray = field(default_factory=lambda: np.zeros(0), compare=False, repr=False)
    anytime: bool = False

    def critical(self, level: float) -> float:
        """Return how many standard errors half the interval is wide: Student's quantile, or that of a sequence.

        The sequence is ``sqrt(2 (t r + 1) / (t r) log(sqrt(t r + 1) / alpha))`` of t labelled clusters, in the limit of
        many; r makes it narrowest at 200 of them.

        Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Annals of Statistics 52 (2024), 2613-2640, theorem 2.2.
        """
        from scipy.special import stdtrit

        student = float(stdtrit(self.degrees, (1 + level) / 2))
        if not self.anytime:
            return student
        times = self._times()
        return max(student, float(np.sqrt(2 * (times + 1) / times * np.log(np.sqrt(times + 1) / (1 - level)))))

    def _times(self) -> float:
        """Return the number of labelled clusters by that at which the sequence is narrowest."""
        by = 2 * np.log(1 / _ALPHA)
        return float((self.degrees + 1) * (by + np.log(by) + 1) / _NARROWEST)

    def interval(self, level: float) -> tuple[float, float]:
        """Return the bounds of the confidence interval, within [-1, 1]."""
        half = self.critical(level) * self.error
        return max(-1.0, self.value - half), min(1.0, self.value + half)

    def p_value(self, margin: float = 0.0) -> float:
        """Return the two-sided p-value that the difference is the margin."""
        from scipy.special import stdtr

        shown = abs(self.value - margin) / self.error
        student = float(2 * stdtr(self.degrees, -shown))
        if not self.anytime:
            return student
        times = self._times()
        sequence = np.sqrt(times + 1) * np.exp(-(shown**2) * times / (2 * (times + 1)))
        return min(1.0, max(student, float(sequence)))


def corrected_difference(sample: Differences, minus: Differences | None = None) -> CorrectedDifference | None:
    """Estimate the mean difference over all items by prediction-powered inference with several proxies (PPI++).

    ``sum_i v_i y_i + sum_k w_k (mean F_k - sum_i v_i F_ik)``, v the labels' weights summing to 1, F_k a proxy. Each
    bracket has mean 0 whatever the proxy is worth, so the estimate is unbiased however the judge favours either policy.
    With a_c and B_c the influence of cluster c through the labels and through the brackets, w solves ``B w = -a`` in
    least squares, which makes the variance least. Proxies beyond the first are used where each has 20 labels; w is then
    fitted without the tenth of the labelled clusters that it is used on (cross-fitting), so that fitting does not make
    the interval short. A proxy that is known of a random part (a strong judge of some items, beside a cheap one of all)
    has its bracket over that part, and the first proxy another one: its mean over all less that over the part.

    The variance is ``L / (L - k) (sum_c (a_c + B_c w)^2 + 2 / (n + 2)^2)`` with L labelled clusters, k what was
    estimated (1 if w was fitted on other clusters), and two pseudo-residuals as in `prediction_powered_mean`. Where
    labelled items share clusters, what these do to the labels less the first proxy counts too, see `LabelledClusters`.

    Args:
        sample: The differences; or the first policy's worth item by item.
        minus: If given, the second policy's, subtracted: for labels that are not of the same items on both sides. The
            clusters of both have the same codes.

    Returns:
        The difference; None with fewer labelled clusters than can tell a variance.

    Source: Angelopoulos, Duchi and Zrnic, arXiv 2311.01453; several proxies as in Miao et al., arXiv 2311.14220; cross
    fitting as in Zrnic and Candes, arXiv 2309.16598.
    """
    sides = [(1.0, sample)] if minus is None else [(1.0, sample), (-1.0, minus)]
    groups = min(len(np.unique(side.clusters[side.places])) for _, side in sides)
    if groups < 3:
        return None
    number = 1 + max(int(side.clusters.max()) for _, side in sides)
    parts = [_Brackets.of(side, sign, number, groups // len(sides)) for sign, side in sides]
    of_truth = np.sum([part.of_truth for part in parts], axis=0)
    through = np.hstack([part.through for part in parts])
    fits = _fits(through, of_truth, np.any([part.labelled for part in parts], axis=0))
    if through.shape[1] == 1:
        fits = fits.clipped()
    value, influence, through_labels, start = 0.0, np.zeros(number), np.zeros(number), 0
    shared = []
    for part, (_, side) in zip(parts, sides, strict=True):
        stop = start + part.of_all.shape[1]
        found = part.with_weights(fits.weights[:, start:stop], fits.fold)
        value, influence, through_labels = value + found[0], influence + found[1], through_labels + found[2]
        shared.append(_shared(side, float(fits.weights[:, start].mean())))
        start = stop
    effective = min(part.effective for part in parts)
    fitted = through.shape[1] if len(fits.weights) == 1 else 1
    degrees = max(1.0, min(one.degrees for one in shared) + 1 - fitted)
    pseudo = sum(one.effect for one in shared) * PSEUDO / (effective + 2) ** 2
    whole = float(influence @ influence) + pseudo
    scale = max(groups / max(1, groups - fitted), *(one.growth for one in shared))
    return CorrectedDifference(
        value=float(np.clip(value, -1.0, 1.0)),
        error=float(np.sqrt(scale * whole)),
        degrees=degrees,
        labelled=min(len(side.truth) for _, side in sides),
        effective=effective,
        proxies=min(part.proxies for part in parts),
        share_of_labels=min(1.0, (float(through_labels @ through_labels) + pseudo) / whole),
        influence=np.sqrt(scale) * influence,
    )


@dataclass(frozen=True, slots=True)
class _Brackets:
    """The labels and the brackets of one side, by cluster, the sign of the side taken in.

    Attributes:
        truth: The mean of the labels.
        means: Each bracket's mean over the items of which it is known, shape (k,).
        shares: Each cluster's share of the labels' weight, by bracket, shape (C, k).
        sums: Each cluster's part of the labelled mean, by bracket, shape (C, k).
        of_truth: Each cluster's influence through the labels, shape (C,).
        of_all: Its influence through each bracket's mean over all items, shape (C, k).
        of_labels: That through each bracket's mean over the labelled ones, shape (C, k).
        labelled: Which clusters have labels, shape (C,).
        effective: How many labels of one weight there are.
        proxies: How many proxies are used.
    """

    truth: float
    means: FloatArray
    shares: FloatArray
    sums: FloatArray
    of_truth: FloatArray
    of_all: FloatArray
    of_labels: FloatArray
    labelled: NDArray[np.bool_]
    effective: float
    proxies: int

    @classmethod
    def of(cls, sample: Differences, sign: float, number: int, groups: int) -> _Brackets:
        """Sum a side up by cluster.

        Args:
            sample: The side.
            sign: 1, or -1 for the one that is subtracted.
            number: How many clusters there are.
            groups: How many labelled ones there are for this side's proxies.
        """
        share = sample.weights / sample.weights.sum()
        labelled = sample.clusters[sample.places]
        used = list(_brackets(sample, share, groups))

        def summed(values: Iterator[FloatArray], at: Codes) -> FloatArray:
            return np.stack([np.bincount(at, column, number) for column in values], axis=1)

        mean = float(share @ sample.truth)
        return cls(
            truth=sign * mean,
            means=sign * np.array([one.mean for one in used]),
            shares=summed((one.share for one in used), labelled),
            sums=sign * summed((one.share * one.given for one in used), labelled),
            of_truth=np.bincount(labelled, sign * share * (sample.truth - mean), number).astype(np.float64),
            of_all=sign * summed((one.spread for one in used), sample.clusters),
            of_labels=sign * summed((one.share * (one.given - one.share @ one.given) for one in used), labelled),
            labelled=np.bincount(labelled, minlength=number) > 0,
            effective=1.0 / float(share @ share),
            proxies=sum(one.is_proxy for one in used),
        )

    @property
    def through(self) -> FloatArray:
        """Each cluster's influence through each bracket, shape (C, k); 0 of one that is nothing but rounding.

        Where people labelled every item that is known, the two means of a bracket are the same, and fitting weights to
        what is left of their difference would make anything of it.
        """
        gap = self.of_all - self.of_labels
        return np.where(np.abs(gap).max(axis=0) > _ROUNDING * np.abs(self.of_all).max(axis=0) + _TINY, gap, 0.0)

    def with_weights(self, weights: FloatArray, fold: Codes) -> tuple[float, FloatArray, FloatArray]:
        """Return this side's part of the estimate, each cluster's influence on it, and that through its labels.

        Args:
            weights: The brackets' weights, by fold, shape (folds, k).
            fold: Fold of each cluster, shape (C,).
        """
        here = weights[fold]
        whole = (self.shares * here).sum(axis=0)  # what each bracket's mean over all items is multiplied by
        value = self.truth + float(self.means @ whole) - float((self.sums * here).sum())
        through_labels = self.of_truth - (self.of_labels * here).sum(axis=1)
        return value, through_labels + self.of_all @ whole, through_labels


def _shared(sample: Differences, weight: float) -> LabelledClusters:
    """Return what it does that labelled items share clusters, by what labels say beyond so much of the first proxy."""
    truth, judged = sample.truth, sample.proxies[sample.places, 0]
    share = sample.weights / sample.weights.sum()
    return LabelledClusters.of(truth - weight * judged, truth != judged, sample.clusters[sample.places], share=share)


@dataclass(frozen=True, slots=True)
class _Bracket:
    """One difference of means that is 0 on average: of a proxy, over the items of which it is known.

    Attributes:
        mean: Its mean over those items.
        spread: What each item adds to that mean, less the mean's share, shape (N,).
        share: The labelled items' weights, summing to 1, shape (n,).
        given: The proxy of the labelled items, 0 where it is not known, shape (n,).
        is_proxy: Whether it stands for a proxy, or only for where another one is known.
    """

    mean: float
    spread: FloatArray
    share: FloatArray
    given: FloatArray
    is_proxy: bool = True


def _brackets(sample: Differences, share: FloatArray, groups: int) -> Iterator[_Bracket]:
    """Yield the brackets of the proxies that there are labels enough for, the judge's own first."""
    most = max(1, groups // _LABELS_A_PROXY)
    first = sample.proxies[:, 0]
    yield _bracket(first, np.ones(len(first), np.bool_), sample.places, share)
    used = 1
    masks: list[NDArray[np.bool_]] = []
    for column in sample.proxies[:, 1:].T:
        known = np.isfinite(column)
        partly = not known.all()
        at_labels = known[sample.places]
        if used + 1 + partly > most or at_labels.sum() < _LABELS_A_PROXY or np.ptp(column[known]) == 0:
            continue
        yield _bracket(column, known, sample.places, share)
        used += 1
        if partly and not any(np.array_equal(known, one) for one in masks):
            masks.append(known)
            used += 1
            yield _part_of(first, known, share)


def _bracket(column: FloatArray, known: NDArray[np.bool_], places: Codes, share: FloatArray) -> _Bracket:
    mean = float(column[known].mean())
    spread = np.where(known, column - mean, 0.0) / known.sum()
    here = share * known[places]
    return _Bracket(mean, spread, here / here.sum(), np.where(known, column, 0.0)[places])


def _part_of(first: FloatArray, known: NDArray[np.bool_], share: FloatArray) -> _Bracket:
    """Return the bracket of the first proxy over the part of which another one is known: all less that part."""
    spread = (first - first.mean()) / len(first) - np.where(known, first - first[known].mean(), 0.0) / known.sum()
    mean = float(first.mean() - first[known].mean())
    return _Bracket(mean, spread, share, np.zeros(len(share)), is_proxy=False)


@dataclass(frozen=True, slots=True)
class _Fits:
    """The brackets' weights by fold, shape (folds, k), and the fold of each cluster, shape (C,)."""

    weights: FloatArray
    fold: Codes

    def clipped(self) -> _Fits:
        """Return weights in [0, 1], as of a single proxy that tells the same as people."""
        return _Fits(np.clip(self.weights, 0.0, 1.0), self.fold)


def _fits(through: FloatArray, of_truth: FloatArray, labelled: NDArray[np.bool_]) -> _Fits:
    """Fit the brackets' weights; several of them on the labelled clusters of the other folds."""
    fold = np.zeros(len(of_truth), np.intp)
    if through.shape[1] == 1:
        return _Fits(_least(through, of_truth)[None], fold)
    places = np.flatnonzero(labelled)
    fold[np.random.default_rng(_SEED).permutation(places)] = np.arange(len(places)) % _FOLDS
    rest = ~labelled
    outer = through[rest].T @ through[rest], through[rest].T @ of_truth[rest]
    weights = [_without(through[places], of_truth[places], fold[places] == one, outer) for one in range(_FOLDS)]
    return _Fits(np.stack(weights), fold)


def _least(through: FloatArray, of_truth: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.lstsq(through, -of_truth, rcond=1e-9)[0], np.float64)


def _without(
    through: FloatArray, of_truth: FloatArray, fold: NDArray[np.bool_], outer: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """Fit weights on labelled clusters without those of a fold, beside the clusters that have no labels."""
    kept = through[~fold]
    return _least(outer[0] + kept.T @ kept, outer[1] + kept.T @ of_truth[~fold])
