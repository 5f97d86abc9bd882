"""Targets: what evidence does to a prior, by enumeration and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_language import SEQUENCES, SmallLanguage, SmallWorld, kl

from perl_eval.bayes.target import composed, constrained, exponentiated, pessimistic, soft_minimum

numbers = st.floats(-20, 20)


def test_exponentiated_reward_by_hand() -> None:
    assert exponentiated([1.0, -0.5], beta=0.25).tolist() == [4.0, -2.0]


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan])
def test_no_target_without_kl(beta: float) -> None:
    with pytest.raises(ValueError, match="there is no target"):
        exponentiated([1.0], beta=beta)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rewards_must_be_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        exponentiated([0.0, bad], beta=1.0)


def test_a_binary_constraint_is_the_prior_given_that_it_holds() -> None:
    """KL(target || prior) = -log P(success), and odds among successes are the prior's (arXiv 2205.11275, section 2)."""
    world = SmallWorld(seed=1)
    allowed = np.array([[sequence.count(1) >= 1 for sequence in SEQUENCES]])
    world.set_evidence(constrained(allowed))
    success = float(np.exp(world.prior.exact[allowed]).sum())
    assert 0.1 < success < 0.9
    assert world.log_z[0] == pytest.approx(math.log(success), abs=1e-12)
    assert kl(world.log_target[0], world.prior.exact[0]) == pytest.approx(-math.log(success), abs=1e-12)
    odds = world.log_target[allowed] - world.prior.exact[allowed]
    assert np.ptp(odds) < 1e-12
    assert np.exp(world.log_target[~allowed]).sum() == 0.0


@settings(deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8), st.floats(0.05, 5))
def test_log_evidences_add_up(pairs: list[tuple[float, float]], beta: float) -> None:
    one, two = np.array(pairs).T
    both = composed(exponentiated(one, beta=beta), exponentiated(two, beta=beta))
    assert both == pytest.approx((one + two) / beta, abs=1e-9)
    allowed = one > 0
    mixed = composed(constrained(allowed), exponentiated(two, beta=beta))
    assert np.isneginf(mixed[~allowed]).all()
    assert mixed[allowed] == pytest.approx(two[allowed] / beta)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_composed_refuses_what_is_no_log_evidence(bad: float) -> None:
    with pytest.raises(ValueError, match="below infinity"):
        composed([0.0, bad], [0.0, 0.0])


def test_pessimistic_reward_by_hand() -> None:
    # Second answer: mean 2, deviations -1 and 1, so a standard deviation of 1.
    rewards = [[1.0, 1.0], [1.0, 3.0]]
    assert pessimistic(rewards, spread=0.5) == pytest.approx([1.0, 1.5])
    assert pessimistic(rewards, spread=0.0).tolist() == [1.0, 2.0]


@settings(deadline=None)
@given(st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=2, max_size=5), st.floats(0, 3))
def test_pessimism_is_never_above_the_mean(rewards: list[list[float]], spread: float) -> None:
    found = pessimistic(rewards, spread=spread)
    assert (found <= np.mean(rewards, axis=0) + 1e-12).all()
    assert pessimistic([rewards[0]] * 3, spread=spread) == pytest.approx(np.array(rewards[0]), abs=1e-9)


def test_pessimism_needs_an_ensemble() -> None:
    with pytest.raises(ValueError, match="one reward model has no spread"):
        pessimistic([[1.0, 2.0]], spread=1.0)
    with pytest.raises(ValueError, match="below 0"):
        pessimistic([[1.0], [2.0]], spread=-0.1)


members = st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=2, max_size=5)


@settings(deadline=None)
@given(members, st.floats(0.01, 100), st.floats(1.1, 10))
def test_a_soft_minimum_lies_from_the_minimum_to_the_mean_and_rises_with_beta(
    rewards: list[list[float]], beta: float, factor: float
) -> None:
    found = soft_minimum(rewards, beta=beta)
    assert (found >= np.min(rewards, axis=0) - 1e-9).all()
    assert (found <= np.mean(rewards, axis=0) + 1e-9).all()
    assert (soft_minimum(rewards, beta=factor * beta) >= found - 1e-9).all()
    assert soft_minimum(np.add(rewards, 3.0), beta=beta) == pytest.approx(found + 3.0, abs=1e-9)
    assert soft_minimum(np.multiply(rewards, 2.0), beta=2 * beta) == pytest.approx(2 * found, abs=1e-8)


@settings(deadline=None)
@given(members)
def test_the_limits_of_a_soft_minimum(rewards: list[list[float]]) -> None:
    """Mean and minimum at the ends, at most beta log n above the minimum; near the mean variance / (2 beta) below."""
    values = np.array(rewards)
    assert soft_minimum(values, beta=1e9) == pytest.approx(values.mean(0), abs=1e-5)
    for beta in (1e-6, 0.1):
        found = soft_minimum(values, beta=beta)
        assert (found - values.min(0) <= beta * math.log(len(values)) + 1e-12).all()
    beta = 1e3
    second = values.mean(0) - values.var(0) / (2 * beta)
    third = np.abs(values - values.mean(0)).max(0) ** 3 / (6 * beta**2)
    assert (np.abs(soft_minimum(values, beta=beta) - second) <= 1.1 * third + 1e-10).all()


@pytest.mark.parametrize("caution", [0.01, 0.1, 0.5])
def test_mean_less_c_std_is_a_soft_minimum_whose_beta_goes_with_the_spread(caution: float) -> None:
    """Of normal members, exactly: -beta log E exp(-r / beta) is mean - variance / (2 beta); here by quadrature."""
    from scipy.stats import norm

    spread, mean = 1.7, 0.4
    grid = norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    rewards = mean + spread * grid[:, None]
    found = soft_minimum(rewards, beta=spread / (2 * caution))
    assert found == pytest.approx(pessimistic(rewards, spread=caution), abs=2e-3 * spread)


def test_a_soft_minimum_makes_the_target_of_the_worst_case() -> None:
    """The reward of min over q of E_q[r] + beta KL(q || uniform over members), which a fine search finds."""
    rewards, beta = np.array([0.3, 1.1, 2.0]), 0.7
    grid = np.linspace(0.001, 0.998, 400)
    first, second = np.meshgrid(grid, grid)
    third = 1 - first - second
    inside = third > 1e-6
    shares = np.stack([first[inside], second[inside], third[inside]])
    worst = (shares * rewards[:, None]).sum(0) + beta * (shares * np.log(3 * shares)).sum(0)
    assert float(soft_minimum(rewards[:, None], beta=beta)[0]) == pytest.approx(worst.min(), abs=1e-4)


def test_a_soft_minimum_needs_a_beta() -> None:
    with pytest.raises(ValueError, match="the limit at 0 is the minimum"):
        soft_minimum([[1.0], [2.0]], beta=0.0)


def test_weights_of_the_prior_are_the_evidence_and_of_another_proposal_hold_the_ratio() -> None:
    world = SmallWorld(seed=2, contexts=2)
    other = SmallLanguage.random(contexts=2, seed=77)
    contexts, numbers_ = np.array([0, 1, 1]), np.array([0, 0, 5])
    own = world.target.weigh(world.prior.draw(contexts, numbers_), world.prior)
    assert own.log_weights == pytest.approx(own.log_evidence, abs=1e-12)
    drawn = other.draw(contexts, numbers_)
    weighed = world.target.weigh(drawn, other)
    for row, context in enumerate(contexts):
        place = SEQUENCES.index(drawn.sequences[row])
        expected = world.prior.exact[context, place] + world.log_evidence[context, place] - other.exact[context, place]
        assert weighed.log_weights[row] == pytest.approx(expected, abs=1e-12)


def test_a_target_that_asks_the_same_of_each_context_differs_where_priors_do() -> None:
    """Z is each prompt's own: the same evidence on two priors gives two normalisers."""
    world = SmallWorld(seed=4, contexts=2)
    world.set_evidence(np.repeat(world.rewards[:1], 2, 0))
    assert abs(world.log_z[0] - world.log_z[1]) > 0.01
    assert np.exp(world.log_target).sum(-1) == pytest.approx([1.0, 1.0], abs=1e-12)
