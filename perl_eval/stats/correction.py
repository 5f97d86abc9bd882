"""Rates by an imperfect judge, corrected with a small random sample that people (or a better judge) labelled too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import Clusters, Codes, Resampling, cluster_codes, cluster_sums, merge, spread_of
from perl_eval.stats.clustered_error import cluster_growth
from perl_eval.stats.intervals import proportion, undefined

__all__ = [
    "PSEUDO",
    "SMALL_CLASS",
    "LabelledClusters",
    "Sample",
    "corrected_shares",
    "prediction_powered_mean",
    "rogan_gladen",
]

FloatArray = NDArray[np.float64]
SMALL_CLASS = 5
"""With fewer labels of a class than this, the corrected interval is not to be trusted."""
_CELLS = 4_000_000
"""Cells of the largest table of weights held at once (32 MB)."""
PSEUDO = 2.0
"""Sum of squares of the two pseudo-residuals, +1 and -1."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A random part of the items with both scores, and the rest with the judge's only; scores are in [0, 1].

    Attributes:
        truth: The trusted score of each labelled item.
        judged: The judge's score of the same items.
        rest: The judge's score of each other item.
        clusters: What shares a source, of the labelled items and then the rest; None if items are independent.
    """

    truth: Sequence[float]
    judged: Sequence[float]
    rest: Sequence[float]
    clusters: Clusters = None

    def __post_init__(self) -> None:
        if len(self.truth) != len(self.judged):
            raise ValueError(f"{len(self.truth)} trusted scores and {len(self.judged)} of the judge")
        if self.clusters is not None and len(self.clusters) != len(self.truth) + len(self.rest):
            raise ValueError("clusters are of the labelled items and the rest")


@dataclass(frozen=True, slots=True)
class LabelledClusters:
    """What it does to an interval that labelled items share clusters; nothing where they do not.

    Attributes:
        number: How many clusters are labelled.
        effect: What the variance of the pseudo-residuals is multiplied by: the design effect, 1 to a cluster's size.
        growth: What the sum of squares over clusters is multiplied by, see `cluster_growth`.
        degrees: Degrees of freedom of the t quantile.
    """

    number: int
    effect: float
    growth: float
    degrees: float

    @classmethod
    def of(
        cls, residual: FloatArray, wrong: NDArray[np.bool_], clusters: Clusters, *, share: FloatArray | None = None
    ) -> LabelledClusters:
        """Tell it.

        Args:
            residual: What the judge leaves of each label, shape (n,).
            wrong: Whether the judge differs from the label, shape (n,).
            clusters: What the items share; None if they are independent.
            share: Each label's share of the weight, shape (n,); equal if None.
        """
        n = len(residual)
        codes, number = (np.arange(n), n) if clusters is None else cluster_codes(clusters)
        if number == n or number < 2:
            return cls(number, 1.0, n / max(n - 1, 1), max(1.0, n - 1.0))
        part = np.full(n, 1 / n) if share is None else share
        growth, degrees = cluster_growth(n * part * (residual - part @ residual), codes)
        return cls(number, _design_effect(residual, wrong, codes, number), growth, degrees)


def prediction_powered_mean(name: str, sample: Sample, *, level: float = 0.95) -> Estimate:
    """Estimate the trusted mean score of all items by prediction-powered inference with a tuned weight (PPI++).

    ``w mean_rest(f) + mean_labelled(y - w f)`` with ``w = Cov(y, f) / (Var(f) (1 + n / N))`` in [0, 1]. Its variance is
    that of its influences, summed within clusters over labelled items and rest alike: ``(r - mean r) / (n + 2)`` of the
    residual ``r = y - w f`` of a labelled item, ``w (f - mean f) / N`` of another, and two pseudo-residuals of +1 and
    -1, without which a judge that was right on all of a few labels would have an interval that is far too short; where
    labelled items share clusters, theirs grow by the design effect of the residuals. Where these clusters differ in
    size the variance is as much larger as the labelled ones' own is by `clustered_error`, whose degrees of freedom the
    t interval has, see `LabelledClusters`. Unbiased however wrong the judge is.
    Where y takes two values and one of them fewer than 5 times, or there is no rest, it is the labelled items' own rate
    with Wilson's interval.

    The same estimator serves a cascade: a cheap judge on all items, a strong one on a random part as the truth.

    Args:
        name: Name of the figure.
        sample: Scores; the labelled items must be a random part.
        level: Confidence level.

    Source: Angelopoulos, Duchi and Zrnic, arXiv 2311.01453; Bonett and Price, Journal of Educational and Behavioral
        Statistics 37 (2012), 479-488, for pseudo-observations, there of paired proportions.
    """
    truth, judged, rest = (np.asarray(part, np.float64) for part in (sample.truth, sample.judged, sample.rest))
    n, unlabelled = len(truth), len(rest)
    groups = None if sample.clusters is None else sample.clusters[:n]
    if n < 2:
        return undefined(name, "fewer than two items are labelled", n=n, method="PPI++")
    binary = bool(np.isin(truth, (0.0, 1.0)).all())
    if binary and min(truth.sum(), n - truth.sum()) < SMALL_CLASS:
        return proportion(name, truth, clusters=groups, level=level)
    weight = _tuned_weight(truth, judged, rest)
    residual = truth - weight * judged
    value = float(residual.mean() + (weight * rest.mean() if unlabelled else 0.0))
    method = f"PPI++, {n} labelled, weight {weight:.2f}"
    labelled = LabelledClusters.of(residual, truth != judged, groups)
    if labelled.number < 2:
        return Estimate(name, value, None, None, n + unlabelled, 0, method, level, reason="one group is labelled")
    of_rest = weight * (rest - rest.mean()) / unlabelled if unlabelled else rest
    influence = np.concatenate([(residual - residual.mean()) / (n + 2), of_rest])
    sums = cluster_sums(influence[:, None], sample.clusters)[:, 0]
    variance = labelled.growth * (float(sums @ sums) + labelled.effect * PSEUDO / (n + 2) ** 2)
    from scipy.special import stdtrit

    half = float(stdtrit(labelled.degrees, (1 + level) / 2) * np.sqrt(variance))
    return Estimate(name, value, max(0.0, value - half), min(1.0, value + half), n + unlabelled, 0, method, level)


def _design_effect(residual: FloatArray, wrong: NDArray[np.bool_], codes: Codes, number: int) -> float:
    """Return the variance of a mean of clustered residuals over that of independent ones: 1 to a cluster's mean size.

    Of few clusters in which the judge is wrong what was seen says little: it is drawn towards the size of a cluster, as
    in `perl_eval.stats.agreement_interval`.

    Args:
        residual: Of each labelled item.
        wrong: Whether the judge differs from the truth there.
        codes: The cluster of each.
        number: How many clusters there are.
    """
    size, centred = len(residual) / number, residual - residual.mean()
    sums, apart = np.bincount(codes, weights=centred), int((np.bincount(codes, weights=wrong) > 0).sum())
    if not apart or not centred.any():
        return size
    seen = float(np.clip(sums @ sums / (centred @ centred), 1.0, size))
    doubt = min(1.0, (SMALL_CLASS / apart) ** 2)
    return (apart * seen + doubt * size) / (apart + doubt)


def _tuned_weight(truth: FloatArray, judged: FloatArray, rest: FloatArray) -> float:
    """Return the weight of the judge's scores that makes the variance least, in [0, 1]; 0 without a rest."""
    spread = np.concatenate([judged, rest]).var(ddof=1)
    if len(rest) == 0 or spread == 0:
        return 0.0
    shared = np.cov(truth, judged)[0, 1]
    return float(np.clip(shared / (spread * (1 + len(truth) / len(rest))), 0.0, 1.0))


def rogan_gladen(name: str, sample: Sample, *, level: float = 0.95) -> Estimate:
    """Estimate a rate by undoing the judge's errors: ``(q + specificity - 1) / (sensitivity + specificity - 1)``.

    q is the judge's rate on the rest, sensitivity and specificity are from the labelled items. The interval is Lang and
    Reiczigel's: with ``z^2 / 2`` added to the judge's yes and no, and one hit and one miss to each class of labels, the
    estimate p' of these, moved by ``2 z^2 (p' Se' (1 - Se') / n_Se' - (1 - p') Sp' (1 - Sp') / n_Sp')``, plus or minus
    z times the error of the delta method. Where clusters repeat, the error grows by what clusters do to it in the delta
    method, and the quantile is t with the number of labelled clusters less one.

    Args:
        name: Name of the figure.
        sample: Scores that are all 0 or 1.
        level: Confidence level.

    Source: Rogan and Gladen, American Journal of Epidemiology 107 (1978), 71-76; Lang and Reiczigel, Preventive
        Veterinary Medicine 113 (2014), 13-22.
    """
    truth, judged, rest = (np.asarray(part, np.float64) for part in (sample.truth, sample.judged, sample.rest))
    if not all(np.isin(part, (0.0, 1.0)).all() for part in (truth, judged, rest)):
        raise ValueError("Rogan-Gladen is for scores of 0 or 1; use prediction_powered_mean")
    n, method = len(truth) + len(rest), f"Rogan-Gladen, {len(truth)} labelled"
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not len(rest):
        return undefined(name, "every item is labelled; take their own rate", n=n, method=method)
    if min(positives, negatives) < SMALL_CLASS:
        reason = f"fewer than {SMALL_CLASS} labels of a kind: {positives} of yes, {negatives} of no"
        return undefined(name, reason, n=n, method=method)
    sensitivity, specificity = float(judged[truth == 1].mean()), float(1 - judged[truth == 0].mean())
    gain, q = sensitivity + specificity - 1, float(rest.mean())
    if gain <= 0:
        return undefined(name, "the judge is no better than chance", n=n, method=method)
    value = float(np.clip((q + specificity - 1) / gain, 0.0, 1.0))
    from scipy.special import ndtri, stdtrit

    critical, growth = float(ndtri((1 + level) / 2)), 1.0
    if sample.clusters is not None and cluster_codes(sample.clusters)[1] < n:
        labelled = cluster_codes(sample.clusters[: len(truth)])[1]
        if labelled < 2:
            return Estimate(name, value, None, None, n, 0, method, level, reason="one group is labelled")
        critical = float(stdtrit(labelled - 1, (1 + level) / 2))
        growth = _clustered_growth(sample, value, sensitivity, specificity)
        method += f", {labelled} labelled clusters"
    middle, error = _lang_reiczigel((q, len(rest)), (sensitivity, positives), (specificity, negatives), critical)
    half = critical * error * growth
    low, high = (float(np.clip(part, 0.0, 1.0)) for part in (middle - half, middle + half))
    return Estimate(name, value, min(low, value), max(high, value), n, 0, method, level)


def _lang_reiczigel(
    rate: tuple[float, int], sensitivity: tuple[float, int], specificity: tuple[float, int], critical: float
) -> tuple[float, float]:
    """Return the middle of Lang and Reiczigel's interval and its error, of shares and the counts they are from."""
    square = critical**2
    n = rate[1] + square
    q = (rate[0] * rate[1] + square / 2) / n
    (positives, sens), (negatives, spec) = (
        (number + 2, (share * number + 1) / (number + 2)) for share, number in (sensitivity, specificity)
    )
    gain = sens + spec - 1
    value = (q + spec - 1) / gain
    of_sens, of_spec = sens * (1 - sens) / positives, spec * (1 - spec) / negatives
    moved = 2 * square * (value * of_sens - (1 - value) * of_spec)
    error = np.sqrt(q * (1 - q) / n + value**2 * of_sens + (1 - value) ** 2 * of_spec) / gain
    return value + moved, float(error)


def _clustered_growth(sample: Sample, value: float, sensitivity: float, specificity: float) -> float:
    """Return what clusters do to the error of the delta method, at least 1."""
    truth, judged, rest = (np.asarray(part, np.float64) for part in (sample.truth, sample.judged, sample.rest))
    positives, q = truth.sum(), rest.mean()
    residuals = np.where(truth == 1, -value * (judged - sensitivity) / positives, 0.0)
    residuals += np.where(truth == 0, (1 - value) * (1 - judged - specificity) / (len(truth) - positives), 0.0)
    whole = np.concatenate([residuals, (rest - q) / len(rest)])
    codes, number = cluster_codes(sample.clusters if sample.clusters is not None else range(len(whole)))
    sums = np.bincount(codes, weights=whole)
    alone = float(whole @ whole)
    return float(np.sqrt(max(1.0, number / max(number - 1, 1) * float(sums @ sums) / alone))) if alone > 0 else 1.0


def corrected_shares(
    truth: Sequence[str],
    judged: Sequence[str],
    rest: Sequence[str],
    labels: Sequence[str],
    *,
    clusters: Clusters = None,
    resampling: Resampling | None = None,
) -> dict[str, Estimate]:
    """Estimate the true share of each of several outcomes by undoing the judge's confusion of them.

    With ``M[k, j]`` the share of labelled items of true outcome j that the judge calls k, and q the judge's shares on
    the rest, the shares are ``M^-1 q``, kept in [0, 1]: Rogan and Gladen's estimator for more than two outcomes. The
    interval is from draws in which each item, or cluster, has an exponential weight, labelled ones and the rest
    together, and each outcome has one more label that the judge gets right, one that it does not, and half a verdict on
    the rest, all with gamma weights: a judge that made no error on a few labels may still make some.

    Args:
        truth: True outcome of each labelled item.
        judged: The judge's outcome of the same items.
        rest: The judge's outcome of each other item.
        labels: All outcomes there can be.
        clusters: What shares a source, of the labelled items and then the rest.
        resampling: Draws, seed and level; the interval is by percentile, and holds the share itself.

    Source: Rubin, Annals of Statistics 9 (1981), 130-134, for the weights; the prior is Lang and Reiczigel's, of
        Preventive Veterinary Medicine 113 (2014), 13-22, for more than two outcomes.

    Returns:
        ``corrected share`` of each outcome.
    """
    how, size = resampling or Resampling(), len(labels)
    places = {label: place for place, label in enumerate(labels)}
    rows = np.zeros((len(truth) + len(rest), size * size + size))
    for row, (was, said) in enumerate(zip(truth, judged, strict=True)):
        rows[row, places[said] * size + places[was]] = 1
    for row, said in enumerate(rest, len(truth)):
        rows[row, size * size + places[said]] = 1
    n, method = len(rows), f"inverted confusion matrix, {len(truth)} labelled"
    value = _inverted(rows.sum(axis=0), size) if len(truth) and len(rest) else None
    if value is None:
        reason = "the labels do not tell how the judge errs on every outcome"
        return {label: undefined("corrected share", reason, n=n, method=method) for label in labels}
    distinct, counts = merge(cluster_sums(rows, clusters))
    number = int(counts.sum())
    rng, prior = np.random.default_rng(how.seed), np.concatenate([_prior(size), np.full(size, 0.5)])
    sums = rng.gamma(prior, size=(how.draws, len(prior)))
    for block in np.array_split(sums, max(1, how.draws * len(counts) // _CELLS)):
        np.add(block, rng.gamma(counts, size=(len(block), len(counts))) @ distinct, out=block)
    drawn = [part for one in sums if (part := _inverted(one, size)) is not None]
    found = {}
    for place, label in enumerate(labels):
        spread = spread_of(float(value[place]), np.array([part[place] for part in drawn]), how, clusters=number)
        low, high = spread.low, spread.high
        if low is not None and high is not None and spread.value is not None:
            low, high = min(low, spread.value), max(high, spread.value)
        found[label] = Estimate(
            "corrected share", spread.value, low, high, n, 0, method, how.level, reason=spread.reason
        )
    return found


def _prior(size: int) -> FloatArray:
    """Return the weights of the labels that each outcome has more: right ones and wrong ones, one of each in all."""
    wrong = 1 / max(size - 1, 1)
    return (np.full((size, size), wrong) + (1 - wrong) * np.eye(size)).ravel()


def _inverted(sums: FloatArray, size: int) -> FloatArray | None:
    """Return ``M^-1 q`` kept in [0, 1], or None if an outcome has no labels, M cannot be inverted or q is empty."""
    cells, called = sums[: size * size].reshape(size, size), sums[size * size :]
    totals = cells.sum(axis=0)
    if (totals == 0).any() or not called.sum():
        return None
    matrix = cells / totals
    if abs(np.linalg.det(matrix)) < 1e-6:
        return None
    return np.clip(np.linalg.solve(matrix, called / called.sum()), 0.0, 1.0)
