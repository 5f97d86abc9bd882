"""Reward-model quality against scikit-learn, and intervals by coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm, t
from sklearn import metrics

from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.classification import (
    balanced_accuracy,
    calibration_error,
    label_quality,
    pair_accuracy,
    probabilities_of,
    reliability_curve,
    within_context_accuracy,
)
from perl_eval.stats.ranking_quality import area_under_curve, average_precision

QUICK = Resampling(draws=50)


def named(estimates: list[Estimate]) -> dict[str, Estimate]:
    return {estimate.name: estimate for estimate in estimates}


@pytest.fixture
def sample() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.random(300) < 0.8
    return np.round(rng.normal(labels * 1.2, 1.5), 1), labels  # rounded, so that scores tie


def test_figures_are_those_of_sklearn(sample: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = sample
    found = named(label_quality(scores, labels, resampling=QUICK))
    chances = expit(scores)
    guesses = chances > 0.5
    assert found["accuracy"].value == pytest.approx(metrics.accuracy_score(labels, guesses))
    assert found["majority share"].value == pytest.approx(labels.mean())
    assert found["balanced accuracy"].value == pytest.approx(metrics.balanced_accuracy_score(labels, guesses))
    assert found["AUC"].value == pytest.approx(metrics.roc_auc_score(labels, scores))
    assert found["average precision"].value == pytest.approx(metrics.average_precision_score(labels, scores))
    assert found["Brier score"].value == pytest.approx(metrics.brier_score_loss(labels, chances))


def test_draws_of_auc_follow_sklearn(sample: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = sample
    rng = np.random.default_rng(1)
    takes = [rng.integers(0, 300, 300) for _ in range(600)]
    drawn = [metrics.roc_auc_score(labels[take], scores[take]) for take in takes]
    estimate = area_under_curve(scores, labels)
    assert estimate.low == pytest.approx(np.quantile(drawn, 0.025), abs=0.012)
    assert estimate.high == pytest.approx(np.quantile(drawn, 0.975), abs=0.012)


def test_the_error_of_average_precision_is_sklearns_jackknife(sample: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = sample
    left = [metrics.average_precision_score(np.delete(labels, i), np.delete(scores, i)) for i in range(300)]
    error = np.sqrt(299 / 300 * np.sum((left - np.mean(left)) ** 2))
    estimate = average_precision(scores, labels)
    ours = (logit(estimate.high) - logit(estimate.low)) / 2 * estimate.value * (1 - estimate.value)
    assert ours == pytest.approx(t.ppf(0.975, 299) * error)
    # Blocks of clusters, where there are many, say the same up to their noise.
    many = average_precision(np.tile(scores, 10), np.tile(labels, 10), clusters=list(range(3000)))
    few = average_precision(np.tile(scores, 10), np.tile(labels, 10), clusters=[i // 2 for i in range(3000)])
    assert many.high - many.low == pytest.approx((estimate.high - estimate.low) / np.sqrt(10), rel=0.15)
    assert few.high - few.low == pytest.approx(many.high - many.low, rel=0.15)


def test_calibration_by_hand() -> None:
    # Bin 0: 0.05, 0.05 with one yes: |0.5 - 0.05| * 2 / 4. Bin 9: 0.95, 1.0 both yes: |1 - 0.975| * 2 / 4.
    chances, labels = [0.05, 0.05, 0.95, 1.0], [True, False, True, True]
    assert calibration_error(chances, labels, resampling=QUICK).value == pytest.approx(0.225 + 0.0125)
    low, high = reliability_curve(chances, labels)
    assert (low.low, low.high, low.predicted, low.observed.value) == (0.0, 0.1, pytest.approx(0.05), 0.5)
    assert (high.low, high.high, high.predicted, high.observed.value) == (0.9, 1.0, pytest.approx(0.975), 1.0)


def test_pairs_with_equal_rewards_count_half() -> None:
    accuracy, ties = pair_accuracy([1.0, 0.2, 0.0, -3.0], n_missing=2)
    assert accuracy.value == pytest.approx(2.5 / 4)
    assert (accuracy.n, accuracy.n_missing, ties.value) == (4, 2, 1)
    assert pair_accuracy([1.0, -1.0])[0].method == "Wilson"
    assert pair_accuracy([])[0].value is None


def test_one_class_has_no_auc() -> None:
    found = named(label_quality([0.3, 1.0, -2.0], [True, True, True], resampling=QUICK))
    for name in ("balanced accuracy", "AUC", "average precision"):
        assert found[name].value is None
        assert found[name].reason == "all labels are the same"
    assert found["accuracy"].value == pytest.approx(2 / 3)
    empty = named(label_quality([], [], resampling=QUICK))
    assert {estimate.value for estimate in empty.values()} == {None}


def test_a_score_off_its_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="logits"):
        probabilities_of([0.2, 1.4], "probability")
    with pytest.raises(ValueError, match="not finite"):
        probabilities_of([float("nan")], "logit")
    assert probabilities_of([0.0], "logit")[0] == pytest.approx(0.5)


def test_order_of_rows_changes_nothing(sample: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = sample
    groups = np.array([f"g{i // 3}" for i in range(300)])
    order = np.random.default_rng(2).permutation(300)
    before = label_quality(scores, labels, clusters=groups.tolist(), resampling=QUICK)
    after = label_quality(scores[order], labels[order], clusters=groups[order].tolist(), resampling=QUICK)
    for one, other in zip(before, after, strict=True):
        assert (other.value, other.low, other.high) == pytest.approx((one.value, one.low, one.high), abs=1e-9)


def test_intervals_cover() -> None:
    # Scores N(1, 1) for yes and N(0, 1) for no, in 80 groups of 2 with one shared shift per group and class-free noise:
    # AUC = Phi(1 / sqrt(2 * (1 + 0.25))) with shift variance 0.25 (two random groups).
    rng, runs = np.random.default_rng(3), 500
    auc = norm.cdf(1 / np.sqrt(2 * 1.25))
    threshold = norm.cdf(1 / np.sqrt(1.25) - 0.5 / np.sqrt(1.25))
    held = {"AUC": 0, "balanced accuracy": 0}
    for _ in range(runs):
        groups = np.repeat(np.arange(80), 2)
        labels = rng.random(160) < 0.6
        scores = rng.normal(labels, 1) + rng.normal(0, 0.5, 80)[groups] - 0.5
        how = Resampling(draws=400)
        found = named(label_quality(scores, labels, clusters=groups.tolist(), resampling=how))
        held["AUC"] += found["AUC"].low <= auc <= found["AUC"].high
        held["balanced accuracy"] += found["balanced accuracy"].low <= threshold <= found["balanced accuracy"].high
    for name, times in held.items():
        assert 0.93 <= times / runs <= 0.97, (name, times / runs)


def test_within_context_accuracy_by_hand() -> None:
    """Context a: liked 2 against disliked 1 and 3; b: a tie; c has one label only. (1 + 0 + 0.5) / 3."""
    found = within_context_accuracy([2.0, 1.0, 3.0, 5.0, 5.0, 9.0], [1, 0, 0, 1, 0, 1], ["a", "a", "a", "b", "b", "c"])
    assert (found.name, found.n) == ("within-context pair accuracy", 3)
    assert found.value == pytest.approx(0.5)


def test_telling_contexts_apart_is_not_telling_answers_apart() -> None:
    """Scores that know the context only: AUC is high, within contexts it is chance."""
    contexts = [str(place // 4) for place in range(40)]
    labels = [place % 4 < (3 if place < 20 else 1) for place in range(40)]
    scores = [float(place < 20) for place in range(40)]
    assert area_under_curve(scores, labels, resampling=QUICK).value == pytest.approx(0.75)
    assert within_context_accuracy(scores, labels, contexts).value == 0.5
    assert within_context_accuracy(scores[:3], [1, 1, 1], contexts[:3]).value is None


@pytest.mark.slow
@pytest.mark.parametrize(("area", "yes", "no"), [(0.95, 10, 90), (0.95, 10, 10), (0.99, 25, 25), (0.90, 10, 90)])
def test_areas_near_one_have_honest_intervals(area: float, yes: int, no: int) -> None:
    """The percentile bootstrap held .72 to .89 of these, a fifth of them without any width."""
    rng, runs, held = np.random.default_rng(2), 400, 0
    shift = np.sqrt(2) * norm.ppf(area)
    labels = np.repeat([True, False], [yes, no])
    for _ in range(runs):
        found = area_under_curve(rng.normal(size=yes + no) + shift * labels, labels)
        assert found.low is not None
        assert found.high is not None
        assert found.high > found.low
        held += found.low <= area <= found.high
    assert held / runs >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "yes", "no"), [(0.90, 10, 90), (0.98, 10, 90), (0.98, 50, 50)])
def test_balanced_accuracy_near_one_has_honest_intervals(rate: float, yes: int, no: int) -> None:
    """The percentile bootstrap held .655 to .873 of these."""
    rng, runs, held = np.random.default_rng(3), 600, 0
    labels = np.repeat([True, False], [yes, no])
    for _ in range(runs):
        found = balanced_accuracy(np.where(rng.random(yes + no) < rate, labels, ~labels) - 0.5, labels)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= rate <= found.high
    assert held / runs >= 0.92


def test_equal_rewards_count_half_or_wrong_and_the_method_says_so() -> None:
    margins = [1.0, 0.0, 0.0, -1.0, 2.0]
    half, wrong = (pair_accuracy(margins, ties=ties)[0] for ties in ("half", "wrong"))  # type: ignore[arg-type]
    assert (half.value, wrong.value) == (0.6, 0.4)
    assert half.method.endswith("; ties half")
    assert wrong.method.endswith("; ties wrong")


def test_few_groups_are_worth_less_than_their_items_though_these_look_independent() -> None:
    """Six groups of ten items that have nothing in common: a group more of ten copies makes the effect 15/6 or so."""
    rng = np.random.default_rng(5)
    truth = np.arange(60) % 2 == 0
    scores = rng.normal(size=60) + np.where(truth, 1.5, 0.0)
    alone = area_under_curve(scores, truth)
    grouped = area_under_curve(scores, truth, clusters=np.repeat(np.arange(6), 10).tolist())
    wider = (grouped.high - grouped.low) / (alone.high - alone.low)
    by_t = 2.571 / 1.960  # quantiles of t with 5 degrees of freedom and of the normal law
    assert 1.2 < wider / by_t < np.sqrt(10)
