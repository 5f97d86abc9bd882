"""Davidson's model against direct maximisation of its likelihood."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.ranking import Comparison, fit_davidson, rank


def drawn(strengths: dict[str, float], log_tie: float, items: int, seed: int) -> tuple[list[Comparison], list[int]]:
    """Judge every pair of policies once on each item."""
    rng, names = np.random.default_rng(seed), list(strengths)
    pairs, clusters = [], []
    for item in range(items):
        for place, a in enumerate(names):
            for b in names[place + 1 :]:
                s, t = np.exp(strengths[a]), np.exp(strengths[b])
                odds = np.array([s, t, np.exp(log_tie) * np.sqrt(s * t)])
                pairs.append(Comparison(a, b, (1.0, 0.0, 0.5)[rng.choice(3, p=odds / odds.sum())]))
                clusters.append(item)
    return pairs, clusters


TRUTH = {"x": 0.6, "y": 0.1, "z": -0.7}


def test_the_fit_maximises_the_likelihood() -> None:
    pairs, _ = drawn(TRUTH, -0.5, 80, 0)

    def loss(free: np.ndarray) -> float:
        logs = {"x": free[0], "y": free[1], "z": -free[0] - free[1]}
        total = 0.0
        for pair in pairs:
            logits = np.array([logs[pair.a], logs[pair.b], free[2] + (logs[pair.a] + logs[pair.b]) / 2])
            chosen = {1.0: 0, 0.0: 1, 0.5: 2}[pair.score]
            total -= logits[chosen] - np.log(np.exp(logits).sum())
        return total

    best = minimize(loss, np.zeros(3), tol=1e-10).x
    fit = fit_davidson(pairs)
    assert fit is not None
    assert fit.strengths["x"] == pytest.approx(best[0], abs=1e-4)
    assert fit.strengths["y"] == pytest.approx(best[1], abs=1e-4)
    assert fit.log_tie == pytest.approx(best[2], abs=1e-4)
    assert sum(fit.strengths.values()) == pytest.approx(0)


def test_two_policies_without_ties_are_log_odds() -> None:
    fit = fit_davidson([Comparison("a", "b", 1.0)] * 30 + [Comparison("b", "a", 1.0)] * 10)
    assert fit is not None
    # s_a / s_b = 30 / 10, and the logs sum to zero.
    assert fit.strengths["a"] == pytest.approx(np.log(3) / 2)
    assert fit.log_tie is None


def test_without_a_path_there_is_no_ranking() -> None:
    never = [Comparison("a", "b", 1.0)] * 5 + [Comparison("b", "c", 1.0), Comparison("c", "b", 1.0)]
    assert fit_davidson(never) is None
    assert {estimate.reason for estimate in rank(never).values()} == {"some policies never win or tie against the rest"}
    assert fit_davidson([*never, Comparison("c", "a", 0.5)]) is not None
    assert rank([]) == {}


def test_order_and_orientation_change_nothing() -> None:
    pairs, clusters = drawn(TRUTH, -0.5, 30, 1)
    turned = [Comparison(pair.b, pair.a, 1 - pair.score) for pair in reversed(pairs)]
    how = Resampling(draws=50)
    one, other = rank(pairs, clusters=clusters, resampling=how), rank(turned, clusters=clusters[::-1], resampling=how)
    assert list(one) == list(other)
    for name, estimate in one.items():
        assert (other[name].value, other[name].low) == pytest.approx((estimate.value, estimate.low))


def test_intervals_cover() -> None:
    runs, held = 300, 0
    for seed in range(runs):
        pairs, clusters = drawn(TRUTH, -0.5, 80, seed)
        found = rank(pairs, clusters=clusters, resampling=Resampling(draws=150))
        held += sum(found[name].low <= value <= found[name].high for name, value in TRUTH.items())
    assert 0.93 <= held / (3 * runs) <= 0.97
