"""Corrected rates: unbiased where the judge is not, and their intervals by coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.correction import Sample, corrected_shares, prediction_powered_mean, rogan_gladen


def held(estimate: Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def biased(rng: np.random.Generator, n: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """The truth, and a judge with sensitivity 0.9 and specificity 0.7."""
    truth = rng.random(n) < rate
    judged = np.where(truth, rng.random(n) < 0.9, rng.random(n) < 0.3)
    return truth.astype(float), judged.astype(float)


def test_ppi_by_hand() -> None:
    truth, judged, rest = [1.0, 1, 0, 0, 1, 0] * 2, [1.0, 1, 1, 0, 1, 0] * 2, [1.0, 0.0] * 20
    estimate = prediction_powered_mean("rate", Sample(truth, judged, rest))
    y, f, u = (np.array(part) for part in (truth, judged, rest))
    weight = np.cov(y, f)[0, 1] / (np.concatenate([f, u]).var(ddof=1) * (1 + 12 / 40))
    assert estimate.value == pytest.approx(weight * u.mean() + (y - weight * f).mean())
    # 2 for the pseudo-residuals +1 and -1, which count among 14
    variance = 12 / 11 * (((y - weight * f).var() * 12 + 2) / 14**2 + weight**2 * u.var() / 40)
    # The t quantile at 0.975 with 11 degrees of freedom is 2.200985.
    assert estimate.high - estimate.value == pytest.approx(2.200985 * np.sqrt(variance), rel=1e-6)


def test_ppi_without_a_rest_or_use_is_the_labelled_mean() -> None:
    truth = [1.0, 0, 1, 0, 1, 0, 1, 1, 0, 0, 1]
    for judged, rest in ((truth, []), ([1.0] * 11, [1.0] * 30)):
        assert prediction_powered_mean("rate", Sample(truth, judged, rest)).value == pytest.approx(6 / 11)
    few = prediction_powered_mean("rate", Sample([1.0] * 28 + [0.0] * 2, [1.0] * 30, [1.0] * 90))
    assert few.method == "Wilson"
    assert prediction_powered_mean("rate", Sample([1.0], [1.0], [])).value is None


def test_ppi_covers_and_is_unbiased_and_narrower() -> None:
    rng, runs = np.random.default_rng(0), 2000
    values, widths, alone, hits = [], [], [], 0
    for _ in range(runs):
        truth, judged = biased(rng, 1200, 0.56)
        estimate = prediction_powered_mean("rate", Sample(truth[:200], judged[:200], judged[200:]))
        values.append(estimate.value)
        widths.append(estimate.high - estimate.low)
        alone.append(2 * 1.96 * truth[:200].std(ddof=1) / np.sqrt(200))
        hits += held(estimate, 0.56)
    assert 0.93 <= hits / runs <= 0.97
    assert np.mean(values) == pytest.approx(0.56, abs=0.003)  # the judge alone says 0.9 * 0.56 + 0.3 * 0.44 = 0.636
    assert np.mean(widths) < 0.9 * np.mean(alone)


def test_ppi_covers_in_clusters_and_with_ties() -> None:
    # 60 labelled and 200 other groups of 3 items; a group shares its leaning, scores are 0, 1/2 or 1.
    rng, runs, hits = np.random.default_rng(1), 1000, 0
    groups = np.repeat(np.arange(260), 3)
    for _ in range(runs):
        lean = rng.beta(4, 2, 260)[groups]
        truth = (rng.binomial(2, lean)) / 2
        judged = np.clip(truth + rng.choice([0, 0, 0.5], len(truth)), 0, 1)
        sample = Sample(truth[:180].tolist(), judged[:180].tolist(), judged[180:].tolist(), groups.tolist())
        hits += held(prediction_powered_mean("rate", sample), 4 / 6)
    assert 0.93 <= hits / runs <= 0.97


def test_rogan_gladen_by_hand() -> None:
    # Sensitivity 9 / 10, specificity 7 / 10, q = 0.54: (0.54 + 0.7 - 1) / 0.6 = 0.4.
    truth = [1.0] * 10 + [0.0] * 10
    judged = [1.0] * 9 + [0.0] + [1.0] * 3 + [0.0] * 7
    estimate = rogan_gladen("rate", Sample(truth, judged, [1.0] * 54 + [0.0] * 46))
    assert estimate.value == pytest.approx(0.4)
    # Lang and Reiczigel: 54 + z^2 / 2 of 100 + z^2, 10 of 12 and 8 of 12, z = 1.959964
    q, sens, spec = 0.5385196, 10 / 12, 8 / 12
    middle = (q + spec - 1) / (sens + spec - 1)
    parts = sens * (1 - sens) / 12, spec * (1 - spec) / 12
    moved = 2 * 3.841459 * (middle * parts[0] - (1 - middle) * parts[1])
    error = np.sqrt(q * (1 - q) / 103.841459 + middle**2 * parts[0] + (1 - middle) ** 2 * parts[1]) / 0.5
    assert estimate.low == pytest.approx(max(0.0, middle + moved - 1.959964 * error), abs=1e-5)
    assert estimate.high == pytest.approx(middle + moved + 1.959964 * error, abs=1e-5)


def test_rogan_gladen_covers() -> None:
    rng, runs, hits = np.random.default_rng(2), 3000, 0
    for _ in range(runs):
        truth, judged = biased(rng, 1300, 0.56)
        hits += held(rogan_gladen("rate", Sample(truth[:300], judged[:300], judged[300:])), 0.56)
    assert 0.93 <= hits / runs <= 0.97


def test_a_judge_without_information_cannot_be_corrected() -> None:
    truth, judged = [1.0, 0.0] * 10, [1.0, 1.0] * 10
    few = rogan_gladen("rate", Sample([1.0] * 4 + [0.0] * 30, [1.0] * 4 + [0.0] * 30, [1.0] * 5))
    assert few.reason == "fewer than 5 labels of a kind: 4 of yes, 30 of no"
    assert rogan_gladen("rate", Sample(truth, judged, [1.0] * 5)).reason == "the judge is no better than chance"
    assert rogan_gladen("rate", Sample([1.0], [1.0], [1.0])).value is None
    with pytest.raises(ValueError, match="0 or 1"):
        rogan_gladen("rate", Sample([0.5, 1.0], [1.0, 1.0], [1.0]))
    with pytest.raises(ValueError, match="2 trusted"):
        Sample([1.0, 0.0], [1.0], [])


def test_three_outcomes_by_hand() -> None:
    # Wins are called right 8 of 10 (else tie), ties 6 of 10 (else loss), losses always: a true mix of 0.5, 0.3, 0.2
    # shows as 0.4 wins, 0.1 + 0.18 ties and 0.12 + 0.2 losses.
    labels = ("win", "tie", "loss")
    truth = ["win"] * 10 + ["tie"] * 10 + ["loss"] * 10
    judged = ["win"] * 8 + ["tie"] * 2 + ["tie"] * 6 + ["loss"] * 4 + ["loss"] * 10
    rest = ["win"] * 40 + ["tie"] * 28 + ["loss"] * 32
    found = corrected_shares(truth, judged, rest, labels)
    assert [found[label].value for label in labels] == pytest.approx([0.5, 0.3, 0.2])
    assert all(found[label].low < found[label].value < found[label].high for label in labels)
    assert corrected_shares(["win"], ["win"], rest, labels)["tie"].value is None


def test_three_outcomes_cover() -> None:
    labels, confusion = (
        np.array(["win", "tie", "loss"]),
        np.array([[0.8, 0.15, 0.05], [0.2, 0.6, 0.2], [0.05, 0.1, 0.85]]),
    )
    rng, runs, hits = np.random.default_rng(3), 400, 0
    for _ in range(runs):
        truth = rng.choice(3, 900, p=[0.45, 0.25, 0.3])
        judged = (rng.random(900)[:, None] > confusion[truth].cumsum(axis=1)).sum(axis=1)
        found = corrected_shares(
            labels[truth[:300]].tolist(),
            labels[judged[:300]].tolist(),
            labels[judged[300:]].tolist(),
            labels.tolist(),
            resampling=Resampling(draws=300),
        )
        hits += held(found["win"], 0.45)
    assert 0.93 <= hits / runs <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "sensitivity", "specificity", "labels"),
    [(0.8, 0.99, 0.90, 50), (0.8, 0.98, 0.98, 50), (0.8, 0.95, 0.95, 50), (0.5, 0.99, 0.90, 20), (0.5, 0.9, 0.9, 200)],
)
def test_a_few_labels_of_a_good_judge_have_honest_intervals(
    rate: float, sensitivity: float, specificity: float, labels: int
) -> None:
    """Without pseudo-residuals PPI++ held .764 to .900 of the first three, Wald's Rogan-Gladen .788 to .912."""
    rng, runs, ppi, corrected, defined = np.random.default_rng(4), 400, 0, 0, 0
    for _ in range(runs):
        truth = rng.random(2000) < rate
        judged = np.where(truth, rng.random(2000) < sensitivity, rng.random(2000) > specificity).astype(float)
        sample = Sample(truth[:labels].astype(float).tolist(), judged[:labels].tolist(), judged[labels:].tolist())
        ppi += held(prediction_powered_mean("rate", sample), rate)
        other = rogan_gladen("rate", sample)
        defined += other.value is not None
        corrected += other.value is not None and held(other, rate)
    assert ppi / runs >= 0.93
    assert corrected / defined >= 0.92


def test_pseudo_residuals_grow_by_the_design_effect() -> None:
    """Eight groups of five copies, half of them 1, no rest: by hand, a group counts as one item.

    Residuals are +-1/2, their sums +-5/2, so the design effect is 8 (5/2)^2 / (40 / 4) = 5, and with two
    pseudo-residuals of 1 the variance is 8/7 (8 (5/2)^2 + 5 * 2) / 42^2.
    """
    groups = np.repeat(np.arange(8), 5)
    truth = (groups % 2).astype(float)
    judged = np.where(groups < 2, 1 - truth, truth)  # wrong in two groups
    found = prediction_powered_mean("rate", Sample(truth.tolist(), judged.tolist(), [], groups.tolist()))
    half = stats.t.ppf(0.975, 7) * (8 / 7 * (8 * 2.5**2 + 5 * 2)) ** 0.5 / 42
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5 - half, 0.5 + half))
