"""Agreement among raters beyond chance: exact, Cohen, Scott, Fleiss, Krippendorff and Gwet.

Ratings are one mapping a unit, from rater to label; a rater who did not label a unit is not in it. Every coefficient is
a ratio of functions of sums over units, or over groups of units, and its interval is `agreement_interval`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from perl_eval import figure_names as named
from perl_eval.records import Estimate
from perl_eval.stats.agreement_interval import METHOD, agreement_interval, pseudo_units, tables_of
from perl_eval.stats.bootstrap import Clusters, Resampling, cluster_sums, select
from perl_eval.stats.intervals import mean, undefined
from perl_eval.stats.kappa import CONSTANT, TOO_FEW, Ratings, cohen_kappa

__all__ = [
    "agreements",
    "cohen_kappa",
    "credits",
    "exact_agreement",
    "fleiss_kappa",
    "gwet_ac1",
    "krippendorff_alpha",
    "label_counts",
    "mean_credit",
    "scott_pi",
]

FloatArray = NDArray[np.float64]
Ties = Literal["counted", "dropped", "half"]
Scale = Literal["nominal", "ordinal", "interval"]


def label_counts(ratings: Ratings, labels: Sequence[str]) -> FloatArray:
    """Count the labels of each unit.

    Args:
        ratings: Labels by rater, one mapping a unit.
        labels: All labels there can be, in order.

    Returns:
        Shape (units, labels).

    Raises:
        ValueError: A label is not among ``labels``.
    """
    places = {label: place for place, label in enumerate(labels)}
    strangers = {label for unit in ratings for label in unit.values()} - set(places)
    if strangers:
        raise ValueError(f"label {min(strangers)!r} is none of {', '.join(labels)}")
    flat = [row * len(labels) + places[label] for row, unit in enumerate(ratings) for label in unit.values()]
    cells = np.bincount(np.asarray(flat, np.intp), minlength=len(ratings) * len(labels))
    return cells.reshape(len(ratings), len(labels)).astype(np.float64)


def _pair_shares(counts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the share of rater pairs of each unit that agree (0 if it has no pair), and whether it has a pair."""
    raters = counts.sum(axis=1)
    pairs = raters * (raters - 1)
    agreeing = (counts * (counts - 1)).sum(axis=1)
    live = pairs > 0
    return np.where(live, agreeing / np.where(live, pairs, 1), 0.0), live.astype(np.float64)


def credits(labels: Sequence[str], ties: Ties = "counted") -> tuple[FloatArray, FloatArray]:
    """Return what two labels earn for agreeing, and which pairs of labels are looked at.

    Args:
        labels: All labels there can be.
        ties: A ``tie`` is ``counted`` as a label of its own, pairs with one are ``dropped``, or a tie against another
            label earns ``half``.

    Returns:
        Credit and whether it counts, shape (labels, labels) each.
    """
    tied = np.array([label == "tie" for label in labels])
    one, either = tied[:, None] != tied[None, :], tied[:, None] | tied[None, :]
    credit = np.eye(len(labels)) + (one / 2 if ties == "half" else 0.0)
    return credit, (~either if ties == "dropped" else np.ones_like(either)).astype(np.float64)


def exact_agreement(
    ratings: Ratings,
    labels: Sequence[str],
    *,
    name: str = named.EXACT_AGREEMENT,
    ties: Ties = "counted",
    clusters: Clusters = None,
    level: float = 0.95,
) -> Estimate:
    """Estimate the share of rater pairs with equal labels, averaged over units with at least two labels.

    Args:
        ratings: Labels by rater, one mapping a unit.
        labels: All labels there can be.
        name: Name of the figure.
        ties: What becomes of the label ``tie``, see `credits`.
        clusters: What shares a source, one a unit.
        level: Confidence level.
    """
    counts = label_counts(ratings, labels)
    pairs = counts[:, :, None] * counts[:, None, :]
    diagonal = np.arange(len(labels))
    pairs[:, diagonal, diagonal] -= counts
    return mean_credit(name, pairs, credits(labels, ties), clusters=clusters, level=level)


def mean_credit(
    name: str,
    pairs: FloatArray,
    credit: tuple[FloatArray, FloatArray],
    *,
    clusters: Clusters = None,
    level: float = 0.95,
) -> Estimate:
    """Estimate the mean over units of the credit that pairs of labels earn.

    Args:
        name: Name of the figure.
        pairs: How often each pair of labels occurs in a unit, shape (units, labels, labels).
        credit: From `credits`.
        clusters: What shares a source, one a unit.
        level: Confidence level.
    """
    earned, looked_at = ((pairs * part).sum(axis=(1, 2)) for part in (credit[0] * credit[1], credit[1]))
    live = looked_at > 0
    missing = len(pairs) - int(live.sum())
    if not live.any():
        return undefined(name, TOO_FEW, n_missing=missing, method="t")
    shares = earned[live] / looked_at[live]
    return mean(name, shares, clusters=select(clusters, live), n_missing=missing, bounds=(0.0, 1.0), level=level)


@dataclass(frozen=True, slots=True)
class _Coefficient:
    """A coefficient of agreement as a ratio of functions of sums.

    Attributes:
        name: Name of the figure.
        rows: Features of the units, from their counts of labels, shape (units, labels) to (units, features).
        ratio: From sums of features to numerator and denominator.
        weighs: Which features say together how much a unit weighs.
    """

    name: str
    rows: Callable[[FloatArray], FloatArray]
    ratio: Callable[[FloatArray], tuple[FloatArray, FloatArray]]
    weighs: slice

    def estimate(self, counts: FloatArray, clusters: Clusters, resampling: Resampling | None) -> Estimate:
        """Estimate it; units that cannot enter are counted as missing.

        Args:
            counts: How often each unit has each label, shape (units, labels).
            clusters: What shares a source, one a unit.
            resampling: Draws, seed and level.
        """
        how, live = resampling or Resampling(), counts.sum(axis=1) >= 2
        n, missing = int(live.sum()), len(counts) - int(live.sum())
        if n == 0:
            return undefined(self.name, TOO_FEW, n_missing=missing)
        rows = self.rows(counts)
        groups = tables_of(cluster_sums(rows, clusters))
        units = None if clusters is None else tables_of(rows)
        found = agreement_interval(groups, units, self._pseudo(rows[live], counts.shape[1]), self.ratio, how)
        return Estimate(
            self.name,
            found.value,
            found.low,
            found.high,
            n=n,
            n_missing=missing,
            method=f"{METHOD}, {how.draws} draws of {groups.number}",
            level=how.level,
            reason=CONSTANT if found.value is None else found.reason,
        )

    def _pseudo(self, rows: FloatArray, size: int) -> tuple[FloatArray, FloatArray]:
        """Return the features of the pseudo-units, as heavy as a unit is in the mean, and their weights."""
        units = list(pseudo_units(size))
        counts = np.zeros((len(units), size))
        for row, (one, other, _, _) in enumerate(units):
            counts[row, one] += 1
            counts[row, other] += 1
        made = self.rows(counts)
        heavy = rows[:, self.weighs].sum() / len(rows) / made[:, self.weighs].sum(axis=1, keepdims=True)
        return made * heavy, np.array([unit[2:] for unit in units]).T


def fleiss_kappa(
    ratings: Ratings,
    labels: Sequence[str],
    *,
    name: str = named.FLEISS_KAPPA,
    clusters: Clusters = None,
    resampling: Resampling | None = None,
) -> Estimate:
    """Estimate Fleiss' kappa over units with at least two labels.

    ``P_i`` is the share of rater pairs of unit i that agree and ``p_k`` the mean share of label k; kappa is
    ``(mean P_i - sum_k p_k^2) / (1 - sum_k p_k^2)``. Units may differ in their number of raters. With two raters it is
    Scott's pi.

    Source: Fleiss, Psychological Bulletin 76 (1971), 378-382; Scott (1955).
    """

    def rows(counts: FloatArray) -> FloatArray:
        shares, live = _pair_shares(counts)
        raters = np.maximum(counts.sum(axis=1, keepdims=True), 1)
        return np.column_stack([shares, live, counts / raters * live[:, None]])

    def ratio(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
        agreeing, n, labelled = sums[:, 0], sums[:, 1], sums[:, 2:]
        # Times n, and zero exactly when every label is the same: n - n^2 / n.
        expected = (labelled**2).sum(axis=1) / np.maximum(n, 1)
        return agreeing - expected, n - expected

    return _Coefficient(name, rows, ratio, slice(1, 2)).estimate(label_counts(ratings, labels), clusters, resampling)


def scott_pi(
    ratings: Ratings,
    labels: Sequence[str],
    *,
    name: str = "Scott pi",
    clusters: Clusters = None,
    resampling: Resampling | None = None,
) -> Estimate:
    """Estimate Scott's pi of two raters: as Cohen's kappa, with chance agreement from the pooled label shares.

    Raises:
        ValueError: A unit has more than two labels; `fleiss_kappa` is the form for that.
    """
    if any(len(unit) > 2 for unit in ratings):
        raise ValueError("Scott's pi is for two raters a unit; use fleiss_kappa")
    return fleiss_kappa(ratings, labels, name=name, clusters=clusters, resampling=resampling)


def gwet_ac1(
    ratings: Ratings,
    labels: Sequence[str],
    *,
    name: str = named.GWET_AC1,
    clusters: Clusters = None,
    resampling: Resampling | None = None,
) -> Estimate:
    """Estimate Gwet's AC1: ``(pa - pe) / (1 - pe)`` with ``pe = sum_k pi_k (1 - pi_k) / (K - 1)``.

    ``pa`` is the mean share of agreeing rater pairs over units with two labels or more, ``pi_k`` the mean share of
    label k over all labelled units, K the number of labels there can be (at least 2). It stays sensible where one label
    dominates.

    Source: Gwet, British Journal of Mathematical and Statistical Psychology 61 (2008), 29-48; Handbook of Inter-Rater
    Reliability (4th ed. 2014), chapter 5.
    """

    def rows(counts: FloatArray) -> FloatArray:
        shares, live = _pair_shares(counts)
        raters = counts.sum(axis=1, keepdims=True)
        return np.column_stack([shares, live, (raters > 0).astype(np.float64), counts / np.maximum(raters, 1)])

    def ratio(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
        observed = sums[:, 0] / np.maximum(sums[:, 1], 1)
        pi = sums[:, 3:] / np.maximum(sums[:, 2:3], 1)
        expected = (pi * (1 - pi)).sum(axis=1) / (len(labels) - 1)
        return observed - expected, np.where(sums[:, 1] > 0, 1 - expected, 0.0)

    return _Coefficient(name, rows, ratio, slice(1, 2)).estimate(label_counts(ratings, labels), clusters, resampling)


def krippendorff_alpha(
    ratings: Ratings,
    labels: Sequence[str],
    *,
    name: str = named.KRIPPENDORFF_ALPHA,
    scale: Scale = "nominal",
    clusters: Clusters = None,
    resampling: Resampling | None = None,
) -> Estimate:
    """Estimate Krippendorff's alpha, ``1 - Do / De``; any number of raters, any labels missing.

    The value is that of the krippendorff package; the draws use the same formula on sums of coincidences.

    Args:
        ratings: Labels by rater, one mapping a unit.
        labels: All labels there can be, in order; for ``interval`` they are the numbers that they spell, ascending, or
            0, 1, 2, ... if they spell none.
        name: Name of the figure.
        scale: ``nominal``, ``ordinal`` or ``interval``.
        clusters: What shares a source, one a unit.
        resampling: Draws, seed, level and kind.

    Source: Krippendorff, Content Analysis (3rd ed. 2013), section 12.3.
    """
    counts = label_counts(ratings, labels)
    size, places = len(labels), _places(labels)

    def rows(counts: FloatArray) -> FloatArray:
        raters = counts.sum(axis=1)
        products = counts[:, :, None] * counts[:, None, :]
        products[:, np.arange(size), np.arange(size)] -= counts
        each = (raters >= 2) / np.maximum(raters - 1, 1)
        return np.asarray((products * each[:, None, None]).reshape(len(counts), size * size), np.float64)

    def ratio(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
        coincidences = sums.reshape(len(sums), size, size)
        shares = coincidences.sum(axis=2)
        distance = _distances(shares, scale, places)
        total = np.maximum(shares.sum(axis=1) - 1, 0)
        expected = (shares[:, :, None] * shares[:, None, :] * distance).sum(axis=(1, 2))
        observed = (coincidences * distance).sum(axis=(1, 2)) * total
        return expected - observed, expected

    found = _Coefficient(name, rows, ratio, slice(None)).estimate(counts, clusters, resampling)
    if found.value is None:
        return found
    import krippendorff

    value = krippendorff.alpha(
        value_counts=counts[counts.sum(axis=1) >= 2].astype(int),
        value_domain=places.tolist(),
        level_of_measurement=scale,
    )
    return replace(found, value=float(value))


def _places(labels: Sequence[str]) -> FloatArray:
    try:
        spelt = np.array([float(label) for label in labels])
    except ValueError:
        return np.arange(len(labels), dtype=np.float64)
    return spelt if np.isfinite(spelt).all() and (np.diff(spelt) > 0).all() else np.arange(len(labels), dtype=float)


def _distances(shares: FloatArray, scale: Scale, places: FloatArray) -> FloatArray:
    """Return squared distances between labels, shape (draws or 1, labels, labels)."""
    if scale == "nominal":
        return 1 - np.eye(len(places))[None]
    middle = places[None, :] if scale == "interval" else np.cumsum(shares, axis=1) - shares / 2
    return np.square(middle[:, :, None] - middle[:, None, :])


def agreements(
    ratings: Ratings, labels: Sequence[str], *, clusters: Clusters = None, resampling: Resampling | None = None
) -> list[Estimate]:
    """Estimate exact agreement, Cohen's and Fleiss' kappa, Krippendorff's alpha and Gwet's AC1 of the same ratings."""
    how = resampling or Resampling()
    return [
        exact_agreement(ratings, labels, clusters=clusters, level=how.level),
        cohen_kappa(ratings, labels, clusters=clusters, resampling=how),
        fleiss_kappa(ratings, labels, clusters=clusters, resampling=how),
        krippendorff_alpha(ratings, labels, clusters=clusters, resampling=how),
        gwet_ac1(ratings, labels, clusters=clusters, resampling=how),
    ]
