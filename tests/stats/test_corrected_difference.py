"""A corrected difference holds however the judge favours a policy; more proxies narrow it; p-values are adjusted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from perl_eval.stats.clustered_error import clustered_error
from perl_eval.stats.corrected_difference import Differences, corrected_difference
from perl_eval.stats.label_plans import cheapest_split, labels_to_decide


def kinder_judge(rng: np.random.Generator, n: int, labels: int, truth: float = -0.05) -> Differences:
    """Two policies that succeed on .55 + truth and .55 of the items; the judge is kinder to the first.

    Its sensitivity and specificity are .92 and .70 of the first, .85 and .88 of the second.
    """
    one, other = rng.random(n) < 0.55 + truth, rng.random(n) < 0.55
    said = [
        np.where(right, rng.random(n) < sensitivity, rng.random(n) > specificity).astype(float)
        for right, sensitivity, specificity in ((one, 0.92, 0.70), (other, 0.85, 0.88))
    ]
    places = rng.choice(n, labels, replace=False)
    return Differences(
        (said[0] - said[1])[:, None], places, one[places].astype(float) - other[places], np.ones(labels), np.arange(n)
    )


def test_a_judge_that_is_kinder_to_one_policy_does_not_turn_the_decision() -> None:
    """By the judge alone the interval leaves out 0 on the wrong side in 99.3 % of such runs."""
    rng, runs, held, wrong = np.random.default_rng(0), 600, 0, 0
    for _ in range(runs):
        found = corrected_difference(kinder_judge(rng, 1000, 200))
        assert found is not None
        low, high = found.interval(0.95)
        held += low <= -0.05 <= high
        wrong += low > 0
    assert 0.93 <= held / runs <= 0.975
    assert wrong / runs <= 0.025


@pytest.mark.parametrize("proxies", [1, 3])
@pytest.mark.parametrize("clusters", [1, 4])
def test_where_all_is_labelled_people_alone_say_it(proxies: int, clusters: int) -> None:
    """Nothing is left to predict: the mean of the labels, with their own error, whatever the judge said."""
    rng = np.random.default_rng(7)
    truth = rng.choice([-1.0, 0.0, 1.0], 800, p=[0.2, 0.3, 0.5])
    said = np.stack([np.where(rng.random(800) < 0.7, truth, 0.1), *rng.random((proxies - 1, 800))], axis=1)
    places = rng.permutation(800)
    found = corrected_difference(Differences(said, places, truth[places], np.ones(800), np.arange(800) // clusters))
    assert found is not None
    assert found.value == pytest.approx(truth.mean(), abs=1e-12)
    sums = (truth - truth.mean()).reshape(-1, clusters).sum(axis=1)
    assert found.error == pytest.approx(np.sqrt(np.sum(sums**2)) / 800, rel=0.02)


def test_weights_and_groups_are_taken_in() -> None:
    rng, runs, held = np.random.default_rng(1), 400, 0
    for _ in range(runs):
        sample = kinder_judge(rng, 1200, 1)
        one = rng.random(1200) < 0.3 + 0.4 * (np.arange(1200) % 2)
        truth = one.astype(float) - (rng.random(1200) < 0.5)
        groups = np.arange(1200) // 4
        chance = np.where(np.arange(1200) % 2 == 1, 0.3, 0.1)
        places = np.flatnonzero(rng.random(1200) < chance)
        proxies = np.clip(truth + rng.choice([0, 0, 1, -1], 1200), -1, 1)[:, None]
        sample = Differences(proxies, places, truth[places], 1 / chance[places], groups)
        found = corrected_difference(sample)
        assert found is not None
        low, high = found.interval(0.95)
        held += low <= 0.0 <= high
    assert 0.93 <= held / runs <= 0.985


def tail(number: int) -> np.ndarray:
    """Return the groups of items, of lognormal sizes."""
    return np.repeat(
        np.arange(number), np.ceil(2 * np.exp(1.2 * norm.ppf((np.arange(number) + 0.5) / number))).astype(int)
    )


def test_a_judge_that_says_nothing_leaves_the_clustered_mean_of_the_labels() -> None:
    rng, groups = np.random.default_rng(5), tail(60)
    truth = rng.choice([-1.0, 0.0, 1.0], 60)[groups]
    truth = np.where(rng.random(len(groups)) < 0.7, truth, rng.choice([-1.0, 0.0, 1.0], len(groups)))
    places = np.flatnonzero(groups % 2 == 0)
    sample = Differences(np.zeros((len(groups), 1)), places, truth[places], np.ones(len(places)), groups)
    found, alone = corrected_difference(sample), clustered_error(truth[places], groups[places])
    assert found is not None
    assert found.value == pytest.approx(truth[places].mean())
    assert found.degrees == pytest.approx(alone.degrees)
    assert alone.error < found.error < 1.1 * alone.error  # pseudo-residuals, as many as a cluster is worth


@pytest.mark.parametrize("whole", [True, False])
def test_labels_of_whole_groups_of_unequal_size_hold(whole: bool) -> None:
    """With the number of groups less one degrees of freedom it is 0.88 of the runs."""
    rng, groups, runs, held = np.random.default_rng(6), tail(200), 400, 0
    sizes = np.bincount(groups)
    for _ in range(runs):
        one, other = ((rng.random(200) < rate)[groups] ^ (rng.random(len(groups)) < 0.2) for rate in (0.6, 0.7))
        said = [np.where(rng.random(len(groups)) < right, part, ~part) for part, right in ((one, 0.9), (other, 0.75))]
        order = rng.permutation(200)
        taken = order[: int(np.searchsorted(np.cumsum(sizes[order]), 100)) + 1]
        places = np.flatnonzero(np.isin(groups, taken)) if whole else rng.permutation(len(groups))[:100]
        judged = said[0].astype(float) - said[1]
        truth = one.astype(float) - other
        found = corrected_difference(Differences(judged[:, None], places, truth[places], np.ones(len(places)), groups))
        if found is None:
            runs -= 1
            continue
        low, high = found.interval(0.95)
        held += low <= -0.06 <= high
    assert runs > 390
    assert held / runs >= 0.93


def test_more_proxies_that_know_more_narrow_the_interval_and_it_still_holds() -> None:
    rng, runs, held, widths = np.random.default_rng(2), 400, 0, ([], [])
    for _ in range(runs):
        lean = rng.normal(size=4000)
        truth = np.sign(lean + rng.normal(0, 0.8, 4000))
        judge = np.sign(lean + rng.normal(0, 1.5, 4000))
        soft = np.tanh(lean + rng.normal(0, 0.2, 4000))
        places = rng.choice(4000, 200, replace=False)
        for place, proxies in enumerate((judge[:, None], np.stack([judge, soft], axis=1))):
            found = corrected_difference(Differences(proxies, places, truth[places], np.ones(200), np.arange(4000)))
            assert found is not None
            low, high = found.interval(0.95)
            widths[place].append(high - low)
        held += low <= 0 <= high
    assert np.mean(widths[1]) < 0.85 * np.mean(widths[0])
    assert 0.93 <= held / runs <= 0.975


def test_the_labels_it_asks_for_decide_with_the_power_it_says() -> None:
    rng = np.random.default_rng(3)
    first = [corrected_difference(kinder_judge(rng, 20_000, 300, 0.08)) for _ in range(60)]
    # of what is seen on average, for a single run's difference is noisy
    asked = []
    for found in first:
        assert found is not None
        more = labels_to_decide(
            type(found)(0.08, found.error, found.degrees, 300, found.effective, 1, found.share_of_labels),
            level=0.95,
            power=0.8,
        )
        assert more is not None
        asked.append(more)
    labels = 300 + round(float(np.mean(asked)))
    decided = 0
    for _ in range(200):
        found = corrected_difference(kinder_judge(rng, 20_000, labels, 0.08))
        assert found is not None
        decided += found.interval(0.95)[0] > 0
    assert 0.72 <= decided / 200 <= 0.88


def test_too_few_labels_say_nothing() -> None:
    assert corrected_difference(kinder_judge(np.random.default_rng(0), 50, 2)) is None


def two_sides(rng: np.random.Generator, n: int) -> tuple[Differences, Differences, Differences, float]:
    """Two policies whose answers were labelled apart: 15 % of each one's, on items of their own."""
    hard = rng.random(n) < 0.5
    one, other = rng.random(n) < np.where(hard, 0.3, 0.8), rng.random(n) < np.where(hard, 0.4, 0.8)
    said = [np.where(rng.random(n) < 0.85, truth, ~truth).astype(float) for truth in (one, other)]
    labelled = [np.flatnonzero(rng.random(n) < 0.15) for _ in range(2)]
    clusters = np.arange(n)
    sides = [
        Differences(judged[:, None], places, truth[places].astype(float), np.ones(len(places)), clusters)
        for judged, places, truth in zip(said, labelled, (one, other), strict=True)
    ]
    both = np.intersect1d(*labelled)
    gap = one[both].astype(float) - other[both]
    paired = Differences((said[0] - said[1])[:, None], both, gap, np.ones(len(both)), clusters)
    return sides[0], sides[1], paired, -0.05


def test_labels_of_other_items_on_each_side_are_used_and_the_interval_holds() -> None:
    rng, runs, held, narrower = np.random.default_rng(5), 500, 0, []
    for _ in range(runs):
        one, other, paired, truth = two_sides(rng, 1500)
        found, less = corrected_difference(one, other), corrected_difference(paired)
        assert found is not None
        assert less is not None
        low, high = found.interval(0.95)
        held += low <= truth <= high
        narrower.append(found.error / less.error)
    assert 0.93 <= held / runs <= 0.975
    assert np.mean(narrower) < 0.6


def cascade(rng: np.random.Generator, n: int, strong: int, labels: int, *, biased: bool) -> tuple[Differences, float]:
    """A cheap judge of all items, a strong one of a random part, people of a part of that; the strong one is biased."""
    lean = rng.normal(0.1, 1, n)
    truth = np.sign(lean + rng.normal(0, 0.3, n))
    cheap = np.sign(lean + rng.normal(0, 1.5, n))
    better = np.sign(lean + rng.normal(0, 0.4, n) + 0.3 * biased)
    part = rng.permutation(n)[:strong]
    known = np.full(n, np.nan)
    known[part] = better[part]
    places = part[:labels]
    expected = 2 * float(norm.cdf(0.1 / np.hypot(1, 0.3))) - 1
    sample = Differences(np.stack([cheap, known], axis=1), places, truth[places], np.ones(labels), np.arange(n))
    return sample, expected


def test_a_strong_judge_of_a_part_narrows_the_interval_even_if_it_is_biased() -> None:
    rng, runs, held, widths = np.random.default_rng(6), 400, 0, ([], [])
    for _ in range(runs):
        sample, truth = cascade(rng, 5000, 1500, 150, biased=True)
        alone = Differences(sample.proxies[:, :1], sample.places, sample.truth, sample.weights, sample.clusters)
        for place, one in enumerate((alone, sample)):
            found = corrected_difference(one)
            assert found is not None
            low, high = found.interval(0.95)
            widths[place].append(high - low)
        held += low <= truth <= high
    assert 0.93 <= held / runs <= 0.975
    assert np.mean(widths[1]) < 0.85 * np.mean(widths[0])


@pytest.mark.realdata
def test_several_proxies_on_real_agreement_narrow_the_interval_to_085(real_data: Path) -> None:
    """Yes-or-no questions of VQAv2: the judge is one person, the other proxy eight people, truth a tenth."""
    path = real_data / "vqav2" / "v2_mscoco_train2014_annotations.json.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        asked = [one for one in json.load(file)["annotations"] if one["answer_type"] == "yes/no"]
    worth = {"yes": 1.0, "no": -1.0}
    said = np.array([[worth.get(answer["answer"], 0.0) for answer in one["answers"]] for one in asked])
    codes = np.unique([one["image_id"] for one in asked], return_inverse=True)[1]
    truth, judge, jury = said[:, 9], said[:, 0], said[:, 1:9].mean(axis=1)
    rng, runs, held, widths = np.random.default_rng(0), 200, 0, ([], [])
    for _ in range(runs):
        items = rng.choice(len(said), 12_000, replace=False)
        places, clusters = rng.choice(12_000, 300, replace=False), np.unique(codes[items], return_inverse=True)[1]
        for place, proxies in enumerate((judge[items][:, None], np.stack([judge[items], jury[items]], axis=1))):
            given = Differences(proxies, places, truth[items][places], np.ones(300), clusters)
            found = corrected_difference(given)
            assert found is not None
            low, high = found.interval(0.95)
            widths[place].append(high - low)
        held += low <= truth.mean() <= high
    assert np.mean(widths[1]) <= 0.85 * np.mean(widths[0])
    assert 0.93 <= held / runs <= 0.98


@pytest.mark.parametrize("prices", [(1.0, 0.01), (0.5, 0.5), (0.001, 1.0)])
def test_the_cheapest_split_is_that_of_a_numerical_search(prices: tuple[float, float]) -> None:
    found = corrected_difference(kinder_judge(np.random.default_rng(7), 2000, 200, 0.05))
    assert found is not None
    split = cheapest_split(found, 2000, level=0.95, power=0.8, prices=prices)
    assert split is not None
    wanted = (found.value / (found.critical(0.95) + norm.ppf(0.8))) ** 2
    of_labels = found.error**2 * found.share_of_labels * 200
    of_items = found.error**2 * (1 - found.share_of_labels) * 2000
    best = np.inf
    for items in np.geomspace(of_items / wanted * 1.0001, 1e8, 200_000):
        labels = of_labels / (wanted - of_items / items)
        if labels <= items:
            best = min(best, labels * prices[0] + items * prices[1])
    assert split.price == pytest.approx(best, rel=0.02)
    assert split.labels <= split.items
