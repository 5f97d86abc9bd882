"""Targets: what evidence does to a prior, by enumeration and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_language import SEQUENCES, SmallLanguage, SmallWorld, kl

from perl_eval.bayes.target import composed, constrained, exponentiated, pessimistic

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
