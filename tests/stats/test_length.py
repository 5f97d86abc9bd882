"""Length control against scikit-learn, and its intervals by coverage."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
import statsmodels.api as sm
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import make_scorer
from sklearn.model_selection import GroupKFold

from perl_eval.stats import length
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.length import Gamed, alpaca_win_rate, equal_length_win_rate, longer_preferred_rate


def judged(seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs where a is longer by a fifth and the judge likes length: outcome, length of a, length of b."""
    rng = np.random.default_rng(seed)
    ratio, b = rng.lognormal(0.2, 0.4, n), rng.integers(50, 200, n).astype(float)
    won = rng.random(n) < expit(-0.3 + 1.5 * np.log(ratio))
    return won.astype(float), ratio * b, b


def test_equal_length_is_the_logistic_fit_at_one() -> None:
    scores, a, b = judged(0)
    scores[:60] = 0.5
    estimate = equal_length_win_rate(scores, a, b)
    doubled = np.log(np.concatenate([a / b, a / b]))[:, None]
    fit = LogisticRegression(C=1e9, tol=1e-10, max_iter=1000).fit(
        doubled, [1] * 400 + [0] * 400, sample_weight=np.concatenate([scores, 1 - scores])
    )
    assert estimate.value == pytest.approx(expit(fit.intercept_[0]), abs=1e-5)
    assert estimate.value < scores.mean()  # a's wins came from its length


def test_equal_length_has_no_unit_and_is_the_rest_of_one_when_swapped() -> None:
    scores, a, b = judged(1)
    one, other = equal_length_win_rate(scores, a, b), equal_length_win_rate(scores, 7 * a, 7 * b)
    assert other.value == pytest.approx(one.value)
    swapped = equal_length_win_rate(1 - scores, b, a)
    assert (swapped.low, swapped.value, swapped.high) == pytest.approx((1 - one.high, 1 - one.value, 1 - one.low))


def test_two_policies_that_are_the_same_are_not_each_worse_than_the_other() -> None:
    """On the ratio less 1 instead of its log, 845 of 1,000 such runs said that a is worse."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        a, b = rng.lognormal(5, 0.6, (2, 1000))
        estimate = equal_length_win_rate(rng.random(1000) < expit(1.5 * np.log(a / b)), a, b)
        held += estimate.low <= 0.5 <= estimate.high
    assert held / 200 >= 0.91


def test_equal_length_interval_covers() -> None:
    truth, runs, held = expit(-0.3), 500, 0
    for seed in range(runs):
        scores, a, b = judged(seed, 250)
        estimate = equal_length_win_rate(scores, a, b)
        held += estimate.low <= truth <= estimate.high
    assert 0.93 <= held / runs <= 0.97


def test_clusters_widen_the_interval() -> None:
    scores, a, b = judged(2)
    alone = equal_length_win_rate(scores, a, b)
    thrice = equal_length_win_rate(*(np.tile(part, 3) for part in (scores, a, b)), clusters=list(range(400)) * 3)
    assert (thrice.value, thrice.n) == (pytest.approx(alone.value), 1200)
    assert thrice.high - thrice.low == pytest.approx(alone.high - alone.low, rel=0.01)


def test_where_length_says_nothing_it_says_so() -> None:
    assert equal_length_win_rate([1, 0, 1], [5, 5, 5], [5, 5, 5]).reason == "the length ratio does not vary"
    empty = equal_length_win_rate([1, 0, 1, 1], [5, 6, 7, 8], [5, 5, 5, 0])
    assert empty.n_missing == 1
    apart = equal_length_win_rate([0.0] * 20 + [1.0] * 20, np.arange(1, 41), [20] * 40)
    assert (apart.value, apart.reason) == (None, "the regression has no finite solution")
    assert alpaca_win_rate([1.0, 0.0], [3, 4]).value is None
    assert longer_preferred_rate([0.5], [3], [4]).value is None


def test_longer_preferred() -> None:
    # Decided pairs of different length: a longer and wins, b longer and wins, a longer and loses.
    estimate = longer_preferred_rate([1, 0, 0, 0.5, 1], [9, 2, 9, 9, 4], [3, 8, 3, 3, 4])
    assert estimate.value == pytest.approx(2 / 3)
    assert (estimate.n, estimate.n_missing) == (3, 2)


def published(preferences: np.ndarray, columns: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Fit as the published recipe says, with scikit-learn's own cross-validation; return the coefficients."""

    def log_likelihood(y: np.ndarray, chance: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
        truth = np.where(y == 1, truth, 1 - truth)
        return float(np.mean((truth * np.log(chance) + (1 - truth) * np.log(1 - chance)) * weight))

    features = np.column_stack(columns)
    n = len(features)
    truth = np.concatenate([preferences, 1 - preferences])
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = make_scorer(log_likelihood, response_method="predict_proba")
        scorer.set_score_request(truth=True, weight=True)
        model = LogisticRegressionCV(
            Cs=10,
            cv=GroupKFold(5),
            scoring=scorer,
            l1_ratios=(1.0,),
            solver="liblinear",
            fit_intercept=False,
            random_state=123,
            use_legacy_attributes=False,
        ).set_fit_request(sample_weight=True)
        model.fit(
            np.concatenate([features, features]),
            np.repeat([1, 0], n),
            sample_weight=truth * np.tile(weights, 2),
            groups=np.tile(np.arange(n), 2),
            truth=truth,
            weight=np.tile(weights, 2),
        )
    return model.coef_.ravel()


def test_alpaca_is_the_published_recipe() -> None:
    rng = np.random.default_rng(3)
    n = 150
    gaps, hard = rng.normal(100, 300, n), rng.normal(size=n)
    preferences = rng.beta(2, 2 * np.exp(-0.5 + gaps / 600 + 0.3 * hard))
    gamed = Gamed(rng.random(2 * n).tolist(), rng.normal(size=2 * n).tolist(), np.tile(hard, 2).tolist())
    quick = Resampling(draws=20)
    shape = np.tanh(gaps / gaps.std(ddof=1))
    plain = published(preferences, [shape, np.ones(n)], np.ones(n))
    estimate = alpaca_win_rate(preferences, gaps, resampling=quick)
    assert estimate.value == pytest.approx(expit(plain[1]), abs=1e-6)
    full = published(
        np.concatenate([gamed.preferences, preferences]),
        [
            np.concatenate([np.tanh(gamed.length_gaps), shape]),
            np.concatenate([gamed.difficulties, hard]),
            np.repeat([0.0, 1.0], [2 * n, n]),
        ],
        np.repeat([0.1, 1.0], [2 * n, n]),
    )
    estimate = alpaca_win_rate(preferences, gaps, difficulties=hard, gamed=gamed, resampling=quick)
    assert estimate.value == pytest.approx(expit(full[2] + full[1] * hard).mean(), abs=1e-6)
    with pytest.raises(ValueError, match="difficulties"):
        alpaca_win_rate(preferences, gaps, gamed=gamed)


def liking_length(rng: np.random.Generator, groups: int, theta: float) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Wins of a, length gaps and groups of two pairs each that share their gap: the model that is fitted, exactly."""
    gaps = rng.normal(0, 60, groups).repeat(2)
    chances = expit(theta - np.tanh(gaps / 60))
    return (rng.random(2 * groups) < chances).astype(float), gaps, np.arange(groups).repeat(2).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("theta", [-0.3, 0.1])
def test_alpaca_interval_covers(theta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    # The interval is of the fit without the penalty, so the penalty need not be chosen anew in every run.
    monkeypatch.setattr(length, "_choose_penalty", lambda _design: 1e4)
    rng, runs, held = np.random.default_rng(5), 400, 0
    for _ in range(runs):
        won, gaps, groups = liking_length(rng, 60, theta)
        how = Resampling(draws=100, seed=int(rng.integers(2**31)))
        estimate = alpaca_win_rate(won, gaps, clusters=groups, resampling=how)
        held += estimate.low <= expit(theta) <= estimate.high
    assert 0.93 <= held / runs <= 0.97


def test_a_penalty_that_sets_the_figure_to_one_half_leaves_its_error() -> None:
    # Wins are a coin's: the strongest penalty fits best, and every refit with it would give 0.5 again.
    rng = np.random.default_rng(2)
    won = rng.permutation(np.repeat([0.0, 1.0], 50))
    estimate = alpaca_win_rate(won, rng.normal(size=100), resampling=Resampling(draws=100))
    assert estimate.value == 0.5
    # Of a share of 100 coins, 1.98 * 0.05 on either side, and a little more for the length term.
    assert 0.17 < estimate.high - estimate.low < 0.24


def test_alpaca_interval_is_that_of_statsmodels_where_the_model_is_large() -> None:
    # With 2,000 pairs the penalty and the bootstrap's noise are small; the error is that of a weighted GLM's sandwich.
    rng = np.random.default_rng(8)
    gaps, hard = rng.normal(0, 60, 2000), rng.normal(size=2000)
    won = (rng.random(2000) < expit(0.4 - np.tanh(gaps / 60) + 0.5 * hard)).astype(float)
    estimate = alpaca_win_rate(won, gaps, difficulties=hard, resampling=Resampling(draws=400))
    design = np.column_stack([np.tanh(gaps / gaps.std(ddof=1)), hard, np.ones(2000)])
    fit = sm.GLM(won, design, family=sm.families.Binomial()).fit(cov_type="HC1")
    shares = expit(fit.params[2] + fit.params[1] * hard)
    assert estimate.value == pytest.approx(shares.mean(), abs=0.003)
    slope = np.column_stack([np.zeros(2000), hard, np.ones(2000)]) * (shares * (1 - shares))[:, None]
    # Besides, the mean is over a sample of instructions, which the bootstrap resamples too.
    error = np.sqrt(slope.mean(axis=0) @ fit.cov_params() @ slope.mean(axis=0) + shares.var() / 2000)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * error, rel=0.12)


def test_alpaca_without_a_finite_fit_has_no_interval() -> None:
    rng = np.random.default_rng(0)
    estimate = alpaca_win_rate(np.ones(60), rng.normal(size=60), resampling=Resampling(draws=50))
    assert estimate.value is not None
    assert estimate.low is None
    assert estimate.reason == "no finite solution in 50 of 50 bootstrap draws, or one group only"
    one = alpaca_win_rate([1.0, 0.0] * 30, rng.normal(size=60), clusters=["g"] * 60, resampling=Resampling(draws=50))
    assert (one.low, one.high) == (None, None)


def test_texts_that_nobody_has_are_not_texts_of_one_length() -> None:
    nobody = np.zeros(4)
    found = longer_preferred_rate([1.0, 0.0, 1.0, 0.5], nobody, nobody)
    assert (found.value, found.reason) == (None, "the texts of the answers are not known")
    alike = longer_preferred_rate([1.0, 0.0, 1.0, 0.5], nobody + 3, nobody + 3)
    assert alike.reason == "no decided pair differs in length"
