"""What rests on the incomplete beta function, against scipy's own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats
from scipy.special import betainc

from perl_eval.stats.beta_function import beta_share, mid_p_below, t_quantile


def test_the_incomplete_beta_function_is_scipys() -> None:
    rng = np.random.default_rng(1)
    for a, b in np.exp(rng.uniform(-6, 8, (400, 2))):
        for x in (rng.beta(a, b), rng.uniform()):
            assert beta_share(a, b, x) == pytest.approx(betainc(a, b, x), rel=1e-9, abs=1e-12)
    assert [beta_share(2, 3, x) for x in (0.0, 1.0)] == [0.0, 1.0]


@pytest.mark.parametrize("degrees", [1, 1.5, 2, 4.4, 9, 30, 99, 300.7, 999, 1000, 1001, 1e4, 1e7])
def test_quantiles_of_t_are_scipys(degrees: float) -> None:
    for p in (0.55, 0.8, 0.9, 0.975, 0.995, 0.9995, 0.99999):
        assert t_quantile(degrees, p) == pytest.approx(stats.t.ppf(p, degrees), rel=1e-11)


@pytest.mark.parametrize("n", [1, 2, 5, 50, 1000, 10**6])
def test_the_mid_p_bound_leaves_its_tail_by_scipys_binomial(n: int) -> None:
    for successes in {1, 2, 4, n - 3, n - 1, n}:
        if 0 < successes <= n:
            for tail in (0.005, 0.025, 0.2):
                p = mid_p_below(successes, n, tail)
                left = stats.binom.sf(successes, n, p) + stats.binom.pmf(successes, n, p) / 2
                assert left == pytest.approx(tail, rel=1e-6)


def test_the_mid_p_bound_of_fractions_is_that_of_the_beta_tails() -> None:
    for successes, n in ((0.5, 10.5), (2.3, 7.7), (9.9, 10.2), (4.999, 812.25)):

        def left(p: float, x: float = successes, rest: float = n - successes) -> float:
            return float(betainc(x, rest + 1, p) + betainc(x + 1, rest, p)) / 2 - 0.025

        expected = optimize.brentq(left, 0, 1, xtol=1e-14)
        assert mid_p_below(successes, n, 0.025) == pytest.approx(expected, rel=1e-8)
