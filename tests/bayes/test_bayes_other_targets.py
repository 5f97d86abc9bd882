"""Targets beside that of KL-regularised RL: alpha-divergences and mode-anchored rewards, by the list of all answers."""

from __future__ import annotations

import numpy as np
import pytest
from small_language import SmallWorld, kl, places

from perl_eval.bayes import divergences
from perl_eval.bayes.target import alpha_multiplier, alpha_regularised, exponentiated, mode_anchored

BETA = 0.7


@pytest.fixture(scope="module")
def world() -> SmallWorld:
    return SmallWorld(seed=4, beta=BETA)


def alpha_divergence(p: np.ndarray, q: np.ndarray, alpha: float) -> float:
    """D_alpha by its definition, KLs at 0 and 1."""
    if alpha == 1:
        return kl(np.log(p), np.log(q))
    if alpha == 0:
        return kl(np.log(q), np.log(p))
    return float(((p**alpha * q ** (1 - alpha)).sum() - 1) / (alpha * (alpha - 1)))


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
def test_the_target_maximises_its_objective(world: SmallWorld, alpha: float) -> None:
    """No step to another distribution raises E[r] - beta D_alpha: neither towards a random one nor a point."""
    prior, rewards = np.exp(world.prior.exact[0]), world.rewards[0]
    target = prior * np.exp(alpha_regularised(rewards, beta=BETA, alpha=alpha, log_mass=world.prior.exact[0]))
    assert target.sum() == pytest.approx(1, abs=1e-9)

    def objective(policy: np.ndarray) -> float:
        return float(policy @ rewards) - BETA * alpha_divergence(policy, prior, alpha)

    random, best = np.random.default_rng(0), objective(target / target.sum())
    for _ in range(50):
        other = random.dirichlet(np.full(len(prior), 0.3)) + 1e-12
        for step in (1e-3, 0.1):
            moved = (1 - step) * target + step * other / other.sum()
            assert objective(moved / moved.sum()) < best


def test_alpha_one_is_the_exponential_target(world: SmallWorld) -> None:
    found = alpha_regularised(world.rewards[0], beta=BETA, alpha=1, log_mass=world.prior.exact[0])
    assert found == pytest.approx(world.rewards[0] / BETA - world.log_z[0])
    near = alpha_regularised(world.rewards[0], beta=BETA, alpha=1 + 1e-5, log_mass=world.prior.exact[0])
    assert near == pytest.approx(found, abs=1e-3)


def test_alpha_zero_is_the_target_of_the_forward_kl(world: SmallWorld) -> None:
    """prior beta / (L - r), L = beta + lambda above the largest reward."""
    rewards, mass = world.rewards[0], world.prior.exact[0]
    level = alpha_multiplier(rewards, beta=BETA, alpha=0, log_mass=mass)
    assert BETA + level > rewards.max()
    found = alpha_regularised(rewards, beta=BETA, alpha=0, log_mass=mass)
    assert np.exp(found) == pytest.approx(BETA / (BETA + level - rewards))


def test_two_answers_by_hand() -> None:
    """Alpha 2, even prior: tilts 1 +- gap / (2 beta) around the mean reward; a wide gap forbids the worse."""
    found = np.exp(alpha_regularised([1.0, 1.4], beta=0.5, alpha=2, log_mass=np.log([0.5, 0.5])))
    assert found == pytest.approx([0.6, 1.4])
    far = alpha_regularised([0.0, 5.0], beta=0.5, alpha=2)
    assert np.exp(far) == pytest.approx([0, 2])
    assert far[0] == -np.inf
    assert alpha_regularised([2.0, 2.0], beta=0.5, alpha=0.5) == pytest.approx([0, 0])


def test_draws_stand_for_the_list(world: SmallWorld) -> None:
    drawn = places(world.prior.draw(np.zeros(40_000, np.int64), np.arange(40_000)).sequences)
    by_draws = alpha_multiplier(world.rewards[0, drawn], beta=BETA, alpha=0.5)
    exact = alpha_multiplier(world.rewards[0], beta=BETA, alpha=0.5, log_mass=world.prior.exact[0])
    assert by_draws == pytest.approx(exact, abs=0.02)


def test_a_mode_anchored_target_is_flat_over_good_answers(world: SmallWorld) -> None:
    prior, rewards = world.prior.exact[0], world.rewards[0]
    threshold = float(np.quantile(rewards, 0.9))
    good = rewards >= threshold
    anchored = mode_anchored(rewards, prior, beta=BETA, threshold=threshold)
    joint = prior + exponentiated(anchored, beta=BETA)
    target = np.exp(joint - np.log(np.exp(joint).sum()))
    likeliest = np.flatnonzero(good)[prior[good].argmax()]
    assert target[good] == pytest.approx(target[likeliest], rel=1e-9)
    assert anchored[~good] == pytest.approx(rewards[~good])
    assert anchored[likeliest] == pytest.approx(rewards[likeliest])
    plain = np.exp(world.log_target[0])
    assert plain[good].std() > 0.1 * plain[good].mean()  # what it flattens


def test_mode_anchors_by_hand_one_a_prompt() -> None:
    """Two good answers, of prior 1/2 and 1/8: the second earns beta log 4 more than the first."""
    prior = np.log([[0.5, 0.375, 0.125], [0.2, 0.3, 0.5]])
    found = mode_anchored([[1.0, 0.0, 1.2], [0.0, 0.1, 0.2]], prior, beta=0.5, threshold=0.9)
    assert found == pytest.approx(np.array([[1.0, 0.0, 1.0 + 0.5 * np.log(4)], [0.0, 0.1, 0.2]]))


def test_entropy_and_mode_of_other_targets_are_told(world: SmallWorld) -> None:
    """The figures that `posterior` prints of a target, from draws of the prior, against the list."""
    prior, rewards = world.prior.exact[0], world.rewards[0]
    threshold = float(np.quantile(rewards, 0.4))
    drawn = places(world.prior.draw(np.zeros(20_000, np.int64), np.arange(20_000)).sequences)
    for evidence in (
        exponentiated(mode_anchored(rewards, prior, beta=2.0, threshold=threshold), beta=2.0),
        alpha_regularised(rewards, beta=2.0, alpha=0.5, log_mass=prior),
    ):
        joint = prior + evidence
        target = joint - np.log(np.exp(joint).sum())
        entropy = divergences.target_entropy(evidence[drawn], joint[drawn])
        assert entropy.value == pytest.approx(-(np.exp(target) * target).sum(), rel=0.05)
        mode = divergences.target_mode(evidence[drawn], joint[drawn])
        assert mode.value == pytest.approx(np.exp(target.max()), rel=0.25)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("alpha", [-0.5, 0.5, 1.5])
def test_alpha_divergence_from_draws(world: SmallWorld, alpha: float, own: bool) -> None:
    """Of the prior from the target, its own draws for Z or others."""
    target, prior = np.exp(world.log_target[0]), np.exp(world.prior.exact[0])
    truth = alpha_divergence(target, prior, alpha)
    inside, values = 0, []
    for number in range(100):
        numbers = np.arange(number * 800, (number + 1) * 800)
        weights = world.log_evidence[0, places(world.prior.draw(np.zeros(800, np.int64), numbers).sequences)]
        half = (weights, None) if own else (weights[:400], weights[400:])
        found = divergences.alpha_divergence(*half, alpha=alpha)
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= truth <= found.high
        values.append(found.value)
    assert inside >= 88
    assert np.mean(values) == pytest.approx(truth, abs=0.05 * truth + 4 * float(np.std(values)) / 10)


def test_what_has_no_target_is_refused() -> None:
    with pytest.raises(ValueError, match="take reverse_kl for 0"):
        divergences.alpha_divergence([0.0, 1.0], alpha=0)
    with pytest.raises(ValueError, match="not a number"):
        alpha_regularised([0.0, 1.0], beta=1, alpha=np.inf)
    with pytest.raises(ValueError, match="beta is 0"):
        mode_anchored([0.0], [0.0], beta=0, threshold=0)
    forbidden = divergences.alpha_divergence([-np.inf, 1.0], alpha=-1)
    assert forbidden.value is None
