"""Davidson's model against direct maximisation of its likelihood."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.optimize import minimize

from perl_eval.stats.ranking import Comparison, Styles, Votes, fit_davidson, rank, rank_votes


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
    one, other = rank(pairs, clusters=clusters), rank(turned, clusters=clusters[::-1])
    assert list(one) == list(other)
    for name, estimate in one.items():
        assert (other[name].value, other[name].low) == pytest.approx((estimate.value, estimate.low))


def test_intervals_cover() -> None:
    runs, held = 300, 0
    for seed in range(runs):
        pairs, clusters = drawn(TRUTH, -0.5, 80, seed)
        found = rank(pairs, clusters=clusters)
        held += sum(found[name].low <= value <= found[name].high for name, value in TRUTH.items())
    assert 0.93 <= held / (3 * runs) <= 0.97


def styled(seed: int, n: int = 3000) -> tuple[Votes, np.ndarray, np.ndarray]:
    """Votes without ties whose answers differ in two styles, the first of which counts; ten votes a cluster."""
    rng = np.random.default_rng(seed)
    strengths = np.array([0.6, 0.1, -0.2, -0.5])
    first = rng.integers(0, 4, n)
    second = (first + rng.integers(1, 4, n)) % 4
    gaps, clusters = rng.normal(0, 1, (n, 2)), np.arange(n) // 10
    logit = strengths[first] - strengths[second] + gaps @ [0.7, 0.0] + rng.normal(0, 0.5, n // 10)[clusters]
    score = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float)
    return Votes(["p", "q", "r", "s"], first, second, score, Styles(("length", "bold"), gaps)), clusters, strengths


def test_strengths_at_equal_style_are_those_of_a_logit_with_clustered_errors() -> None:
    votes, clusters, _ = styled(0)
    found = {one.about.policy or one.about.slice: one for one in rank_votes(votes, clusters=clusters)}
    design = np.zeros((len(votes.score), 4))
    np.add.at(design, (np.arange(len(design)), votes.first), 1.0)
    np.add.at(design, (np.arange(len(design)), votes.second), -1.0)
    free = np.hstack([design[:, 1:], votes.style.gaps])  # the first policy's strength is 0
    fit = sm.Logit(votes.score, free).fit(disp=0, cov_type="cluster", cov_kwds={"groups": clusters})
    turn = np.zeros((6, 5))  # to strengths that sum to zero
    turn[1:4, :3] = np.eye(3)
    turn[:4, :3] -= 0.25
    turn[4:, 3:] = np.eye(2)
    errors = np.sqrt(np.diag(turn @ fit.cov_params() @ turn.T))
    for name, value, error in zip(("p", "q", "r", "s", "length", "bold"), turn @ fit.params, errors, strict=True):
        assert found[name].value == pytest.approx(value, abs=1e-5)
        assert found[name].high - found[name].value == pytest.approx(1.968 * error, rel=0.01)
    assert found["length"].low > 0.5
    assert found["bold"].low < 0 < found["bold"].high


def test_style_that_is_not_held_equal_counts_as_strength() -> None:
    """A policy that writes longer answers, which the judge likes, is not better at equal length."""
    rng, n = np.random.default_rng(1), 6000
    first = rng.integers(0, 2, n)
    gap = np.where(first == 0, 1.0, -1.0) + rng.normal(0, 1, n)
    score = (rng.random(n) < 1 / (1 + np.exp(-gap))).astype(float)
    votes = Votes(["long", "short"], first, 1 - first, score)
    plain = {one.about.policy: one for one in rank_votes(votes)}
    equal = {one.about.policy: one for one in rank_votes(replace(votes, style=Styles(("length",), gap[:, None])))}
    assert plain["long"].low > 0.2
    assert equal["long"].low < 0 < equal["long"].high


def test_probabilities_of_a_model_give_its_strengths() -> None:
    strengths = np.array([0.8, 0.0, -0.8])
    first, second = (np.array(side) for side in zip(*[(0, 1), (0, 2), (1, 2), (2, 0)], strict=True))
    chances = 1 / (1 + np.exp(-(strengths[first] - strengths[second])))
    votes = Votes(["a", "b", "c"], first, second, chances, soft=True)
    found = {one.about.policy: one.value for one in rank_votes(votes)}
    assert [found[name] for name in "abc"] == pytest.approx(strengths.tolist(), abs=1e-6)


def test_a_hundred_policies_are_ranked_in_seconds() -> None:
    rng, n = np.random.default_rng(2), 50_000
    strengths = rng.normal(0, 0.7, 100)
    first = rng.integers(0, 100, n)
    second = (first + rng.integers(1, 100, n)) % 100
    score = (rng.random(n) < 1 / (1 + np.exp(strengths[second] - strengths[first]))).astype(float)
    begun = time.process_time()
    found = rank_votes(Votes([f"p{place}" for place in range(100)], first, second, score), clusters=np.arange(n) // 50)
    assert time.process_time() - begun < 5
    place = [int(one.about.policy[1:]) for one in found]
    assert np.corrcoef(strengths[place], [one.value for one in found])[0, 1] > 0.98
