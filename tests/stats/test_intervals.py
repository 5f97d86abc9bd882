"""Intervals against statsmodels and scipy, and by coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.proportion import proportion_confint

from perl_eval.records import About
from perl_eval.stats.bootstrap import Resampling, merge, resample
from perl_eval.stats.clustered_error import clustered_error
from perl_eval.stats.intervals import about, mean, proportion, resampled_mean, wilson


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (5, 12), (37, 50), (773, 1000)])
def test_wilson_is_that_of_statsmodels(hits: int, n: int) -> None:
    estimate = proportion("rate", [True] * hits + [False] * (n - hits))
    assert estimate.value == pytest.approx(hits / n)
    assert (estimate.low, estimate.high) == pytest.approx(proportion_confint(hits, n, method="wilson"), abs=1e-9)


@pytest.mark.parametrize(("hits", "n"), [(1, 7), (2, 50), (48, 50), (4, 400), (9, 10)])
def test_near_none_and_all_it_is_the_mid_p_interval_where_that_is_wider(hits: int, n: int) -> None:
    low, high = wilson(hits, n, stats.norm.ppf(0.975))
    by_wilson = proportion_confint(hits, n, method="wilson")
    # Mid-p bounds by a fine grid of the binomial's own tails.
    rates = np.linspace(0, 1, 200_001)
    above = stats.binom.sf(hits, n, rates) + stats.binom.pmf(hits, n, rates) / 2
    held = rates[(above >= 0.025) & (above <= 0.975)]
    assert low == pytest.approx(min(by_wilson[0], held.min()), abs=1e-5)
    assert high == pytest.approx(max(by_wilson[1], held.max()), abs=1e-5)
    assert (low, high) != pytest.approx(by_wilson, abs=1e-4)


@pytest.mark.parametrize("n", [5, 10, 20, 50, 100])
def test_a_rate_is_held_nearly_as_often_as_promised_whatever_it_is(n: int) -> None:
    bounds = np.array([wilson(hits, n, 1.959964) for hits in range(n + 1)])
    worst = 1.0
    for rate in np.linspace(0.005, 0.995, 199):
        chances = stats.binom.pmf(np.arange(n + 1), n, rate)
        worst = min(worst, chances[(bounds[:, 0] <= rate) & (rate <= bounds[:, 1])].sum())
    assert worst >= 0.92


def test_the_level_moves_the_interval() -> None:
    estimate = proportion("rate", [True] * 30 + [False] * 70, level=0.99)
    assert (estimate.low, estimate.high) == pytest.approx(proportion_confint(30, 100, alpha=0.01, method="wilson"))


def test_the_papers_agreement_on_fifty_items() -> None:
    # 77.2 % of 50 is not a whole number; 39 of 50 (78 %) and 45 of 50 (90 %) are near. Wilson by hand for 45 of 50:
    # z^2 = 3.8415, centre (0.9 + 0.038415) / 1.07683 = 0.87146, half 1.95996 / 1.07683 *
    # sqrt(0.9 * 0.1 / 50 + 3.8415 / 10000) = 1.82012 * 0.0467349 = 0.0850633.
    estimate = proportion("agreement", [True] * 45 + [False] * 5)
    assert (estimate.low, estimate.high) == pytest.approx((0.78640, 0.95653), abs=1e-4)


def test_t_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).normal(2, 3, 40)
    estimate = mean("mean", values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))


def test_with_groups_of_one_size_the_clustered_interval_is_that_of_statsmodels() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(12), 15)
    values = rng.normal(size=180) + rng.normal(size=12)[groups]
    # statsmodels' correction is C / (C - 1) * (n - 1) / (n - k) with k = 1.
    fit = OLS(values, np.ones(180)).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    estimate = mean("mean", values, clusters=groups.tolist())
    assert (estimate.low, estimate.high) == pytest.approx(tuple(fit.conf_int()[0]))


def test_bootstrap_interval_of_a_mean_is_that_of_scipy_up_to_its_noise() -> None:
    values = np.random.default_rng(2).gamma(2, size=80)
    ours = resampled_mean("mean", values, resampling=Resampling(draws=20_000))
    bca = resampled_mean("mean", values, resampling=Resampling(draws=20_000, kind="bca"))
    for method, estimate in (("percentile", ours), ("BCa", bca)):
        theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method=method, rng=np.random.default_rng(3))
        assert estimate.low == pytest.approx(theirs.confidence_interval.low, abs=0.015)
        assert estimate.high == pytest.approx(theirs.confidence_interval.high, abs=0.015)


def test_resampling_takes_whole_clusters() -> None:
    # Ten clusters of 20 equal values: all spread is between clusters, as if there were ten values.
    heights = np.random.default_rng(4).normal(size=10)
    values, groups = np.repeat(heights, 20), np.repeat(np.arange(10), 20).tolist()
    how = Resampling(draws=20_000)
    whole = resampled_mean("mean", values, clusters=groups, resampling=how)
    ten = resampled_mean("mean", heights, resampling=how)
    assert (whole.low, whole.high) == pytest.approx((ten.low, ten.high))


def test_what_has_no_value_or_interval_says_why() -> None:
    assert mean("mean", []).value is None
    assert proportion("rate", []).reason == "there are no items"
    assert resampled_mean("mean", []).reason == "there are no items"
    one = mean("mean", [0.3])
    assert (one.value, one.low) == (0.3, None)
    assert "one item" in str(one.reason)
    assert "one group" in str(proportion("rate", [True, False], clusters=["a", "a"]).reason)
    assert "do not differ" in str(mean("mean", [2.0, 2.0, 2.0]).reason)
    with pytest.raises(ValueError, match="finite"):
        mean("mean", [0.1, float("nan")])


def test_clustered_wilson_by_hand() -> None:
    # Clusters of three that hit all are copies of ten hits: 10 / (10 + z^2).
    sure = proportion("rate", [True] * 30, clusters=[place // 3 for place in range(30)])
    assert (sure.low, sure.high, sure.n) == (pytest.approx(10 / (10 + 1.959964**2), abs=1e-6), 1.0, 30)
    # Of unequal clusters of hits, five of two and five of four items, 30^2 / 100 count, at eight degrees of freedom.
    sure = proportion("rate", [True] * 30, clusters=np.arange(10).repeat([2, 4] * 5).tolist())
    assert (sure.low, sure.high) == (pytest.approx(9 / (9 + 2.306004**2), abs=1e-6), 1.0)
    # Ten clusters of two equal items, five of them hits; shuffled, so that copies need not stand side by side.
    order = np.random.default_rng(3).permutation(20)
    mixed = proportion("rate", np.repeat([1.0, 0.0], 10)[order], clusters=(np.arange(20) // 2)[order].tolist())
    assert (mixed.low, mixed.high) == pytest.approx(proportion_confint(5, 10, method="wilson"), abs=1e-9)
    # One more item in one of them, and they are no copies: t at about nine degrees of freedom.
    other = proportion("rate", np.repeat([1.0, 0.0], [10, 11]), clusters=[*(np.arange(20) // 2).tolist(), 9])
    assert other.high - other.low > 1.05 * (mixed.high - mixed.low)
    # Opposite items in a cluster cannot make more of them than there are; ten clusters hold both outcomes, so that the
    # design effect of 1 is drawn towards 2 with a weight of (5 / 10)^2: 10.5 / 10.25.
    size = 20 / (10.5 / 10.25)
    even = proportion("rate", [True, False] * 10, clusters=[place // 2 for place in range(20)])
    assert (even.low, even.high) == pytest.approx(wilson(size / 2, size, 2.262157), abs=1e-6)


def test_of_few_clusters_with_the_rarer_outcome_little_is_known_of_the_others() -> None:
    # Twenty clusters of ten with two misses in two clusters: the design effect seen is about 1, the largest is 10, and
    # as if a third cluster had missed whole it is (2 * 1 + 10) / 3 = 4.
    hits = np.ones(200)
    hits[[3, 57]] = 0
    groups = np.arange(20).repeat(10).tolist()
    estimate = proportion("rate", hits, clusters=groups)
    low, _ = wilson(0.99 * 50, 50, stats.t.ppf(0.975, 19))
    assert estimate.low == pytest.approx(low, abs=0.01)
    # Of clusters that all hold both, what was seen counts.
    even = np.tile([1.0, 0.0], 100)
    many = proportion("rate", even, clusters=groups)
    assert many.high - many.low < 1.3 * (proportion("rate", even).high - proportion("rate", even).low)


def test_a_bounded_mean_stays_within_its_bounds() -> None:
    estimate = mean("rate", [1.0] * 9 + [0.4], bounds=(0.0, 1.0))
    assert 0.99 < estimate.high <= 1.0
    assert mean("rate", [1.0] * 9 + [0.4]).high > 1.0


def test_a_bounded_mean_has_wilsons_interval_at_its_effective_size() -> None:
    values = np.array([1.0] * 45 + [0.5] * 20 + [0.0] * 15)
    # By hand: mean 0.6875, squares about it 12.1875, and 1 + 0.859375 * 5 / 35 times 0.6875 * 0.3125 for pseudo-values.
    variance = (12.1875 + (1 + 0.859375 * 5 / 35) * 0.6875 * 0.3125) / (80 * 79)
    size = 0.6875 * 0.3125 / variance
    low, high = wilson(0.6875 * size, size, stats.t.ppf(0.975, 79))
    estimate = mean("half", values, bounds=(0.0, 1.0))
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=2e-5)
    on_another_scale = mean("net", 2 * values - 1, bounds=(-1.0, 1.0))
    assert (on_another_scale.low, on_another_scale.high) == pytest.approx((2 * low - 1, 2 * high - 1), abs=4e-5)
    # Of many values it is the t interval.
    many = np.tile(values, 100)
    by_t = stats.ttest_1samp(many, 0).confidence_interval(0.95)
    found = mean("half", many, bounds=(0.0, 1.0))
    assert (found.low, found.high) == pytest.approx((by_t.low, by_t.high), abs=1e-4)


def test_one_number_has_one_interval() -> None:
    hits = [1.0] * 7 + [0.0] * 13
    by_mean, by_share = mean("rate", hits, bounds=(0.0, 1.0)), proportion("rate", hits)
    assert (by_mean.value, by_mean.low, by_mean.high) == (by_share.value, by_share.low, by_share.high)
    groups = [place // 2 for place in range(20)]
    by_mean, by_share = (
        mean("rate", hits, clusters=groups, bounds=(0.0, 1.0)),
        proportion("rate", hits, clusters=groups),
    )
    assert (by_mean.low, by_mean.high) == (by_share.low, by_share.high)


def test_values_that_do_not_differ_leave_a_doubt() -> None:
    ties = mean("half", [0.5] * 20, bounds=(0.0, 1.0))
    assert (ties.low, ties.high) == pytest.approx((0.42, 0.58), abs=0.01)
    gap = mean("gap", [0.0] * 10, bounds=(-1.0, 1.0))
    assert gap.low < -0.2
    assert gap.high > 0.2
    assert mean("score", [3.0] * 10).reason == "the values do not differ; they have no interval"


def test_draws_that_do_not_vary_do_not_end_the_matter() -> None:
    all_hits = resampled_mean("rate", [1.0] * 12, bounds=(0.0, 1.0), resampling=Resampling(draws=200))
    assert (all_hits.low, all_hits.high) == pytest.approx(wilson(12, 12, 1.959964), abs=1e-6)
    assert all_hits.method == "percentile bootstrap, 200 draws of 12, widened to Wilson"
    middling = resampled_mean("rate", [1.0, 0.0] * 12, bounds=(0.0, 1.0), resampling=Resampling(draws=200))
    assert middling.method == "percentile bootstrap, 200 draws of 24"


def test_rows_summed_in_another_order_are_the_same_row() -> None:
    distinct, counts = merge(np.array([[0.1 + 0.2 + 0.3], [0.3 + 0.2 + 0.1], [-0.0], [0.0]]))
    assert distinct.tolist() == [[0.0], [0.6]]
    assert counts.tolist() == [2, 2]


def test_an_interval_that_most_draws_cannot_have_is_none() -> None:
    # Defined only where one of twenty items is drawn: in 1 - (19 / 20)^20 = 64 % of draws.
    rows = np.array([[1.0, 1.0]] + [[0.0, 0.0]] * 19)
    spread = resample(rows, lambda sums: (sums[:, 0], sums[:, 1]), Resampling(draws=500))
    assert (spread.value, spread.low) == (1.0, None)
    assert "of 500 bootstrap draws" in str(spread.reason)


def test_values_that_do_not_differ_still_have_width() -> None:
    estimate = mean("rate", [1.0] * 20, bounds=(0.0, 1.0))
    assert (estimate.low, estimate.high) == pytest.approx(wilson(20, 20, 1.959964), abs=1e-6)
    net = mean("net", [-1.0] * 20, bounds=(-1.0, 1.0))
    assert net.low == -1.0
    assert net.high == pytest.approx(2 * wilson(0, 20, 1.959964)[1] - 1, abs=1e-6)


def test_fields_join_those_there_are_and_overwrite_none() -> None:
    inner = about([proportion("rate", [True])], About(slice="bin", value="1"))
    (outer,) = about(inner, About(judge="x"), simulated=True)
    assert outer.subject == "judge x, bin 1"
    assert about([outer], About(judge="x", policy="y"))[0].simulated
    with pytest.raises(ValueError, match="judge 'x'"):
        about([outer], About(judge="z"))


# Coverage: 4,000 samples; the share of intervals that hold the truth must lie in [93, 97] %.

RUNS = 4000


def _within(held: float) -> None:
    assert 0.93 <= held <= 0.97, held


def test_wilson_covers() -> None:
    rng = np.random.default_rng(10)
    for p in (0.1, 0.4, 0.77):
        hits = rng.binomial(120, p, RUNS)
        bounds = np.array([wilson(hit, 120, 1.959964) for hit in hits])
        _within(((bounds[:, 0] <= p) & (p <= bounds[:, 1])).mean())


def test_t_on_pair_scores_covers() -> None:
    rng = np.random.default_rng(11)
    held = 0
    for _ in range(RUNS):
        estimate = mean("rate", rng.choice([1.0, 0.5, 0.0], 80, p=[0.5, 0.3, 0.2]), bounds=(0.0, 1.0))
        held += estimate.low <= 0.65 <= estimate.high
    _within(held / RUNS)


@pytest.mark.parametrize("kind", ["t", "wilson", "bootstrap"])
def test_clustered_intervals_cover(kind: str) -> None:
    # 60 clusters of 1 to 8 items; a cluster's rate is Beta(3, 2), so the mean is 0.6 and items are correlated.
    rng = np.random.default_rng(12)
    runs, held = 1500, 0
    for _ in range(runs):
        sizes = rng.integers(1, 9, 60)
        groups = np.repeat(np.arange(60), sizes)
        hits = rng.random(len(groups)) < rng.beta(3, 2, 60)[groups]
        names = groups.tolist()
        if kind == "t":
            estimate = mean("rate", hits, clusters=names, bounds=(0.0, 1.0))
        elif kind == "wilson":
            estimate = proportion("rate", hits, clusters=names)
        else:
            estimate = resampled_mean("rate", hits, clusters=names, resampling=Resampling(draws=600))
        held += estimate.low <= 0.6 <= estimate.high
    _within(held / runs)


def test_large_groups_of_the_commoner_outcome_do_not_make_a_rate_certain() -> None:
    """The large groups happen to hold no miss; the pairs tell how alike items of a group are."""
    groups = np.concatenate([np.repeat(np.arange(6), 12), np.repeat(np.arange(6, 206), 2)])
    hits = np.isin(groups, np.arange(6, 26), invert=True).astype(float)
    found = proportion("rate", hits, clusters=groups.tolist())
    sizes = np.bincount(groups).astype(float)
    n, number, means = len(hits), len(sizes), np.bincount(groups, hits) / sizes
    between = float(sizes @ (means - hits.mean()) ** 2) / (number - 1)
    within = float(((hits - means[groups]) ** 2).sum()) / (n - number)
    typical = (n - (sizes**2).sum() / n) / (number - 1)
    alike = (between - within) / (between + (typical - 1) * within)
    assert alike == 1.0  # pairs are alike, and so is the large group
    worth = n**2 / (sizes**2).sum()  # a correlation of 1: a cluster is worth one item
    wanted = wilson(hits.mean() * worth, worth, stats.t.ppf(0.975, number - 1))
    assert (found.low, found.high) == pytest.approx(wanted)
    seen = clustered_error(hits, groups)
    assert seen.error**2 * n / hits.var(ddof=1) < 0.65 * n / worth  # what was seen takes them for half as many again


@pytest.mark.parametrize("rate", [0.95, 0.98])
def test_a_rate_near_one_holds_in_groups_with_a_long_tail(rate: float) -> None:
    """By what was seen alone it is 0.93 and 0.89 of the runs."""
    sizes = np.ceil(2 * np.exp(1.2 * stats.norm.ppf((np.arange(500) + 0.5) / 500))).astype(int)
    groups, rng, held = np.repeat(np.arange(500), sizes), np.random.default_rng(31), 0
    firsts = np.searchsorted(groups, groups)
    for _ in range(500):
        drawn = rng.random(len(groups)) < rate
        alike = np.where(rng.random(len(groups)) < 0.6, firsts, np.arange(len(groups)))
        found = proportion("rate", drawn[alike], clusters=groups)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= rate <= found.high
    assert held / 500 >= 0.945
