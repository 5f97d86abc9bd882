"""Best-of-Poisson against its law by enumeration, and known answers of its KL."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import poisson
from small_language import SmallWorld, chi_square, kl, places

from perl_eval.bayes.best_of_n import best_of_n_law, importance_resampled
from perl_eval.bayes.best_of_poisson import (
    best_of_poisson,
    best_of_poisson_bound,
    best_of_poisson_kl,
    best_of_poisson_law,
    best_of_poisson_means,
    best_of_poisson_tilts,
    drawn_counts,
)

BOTH = np.array([0, 1])


@pytest.fixture(scope="module")
def world() -> SmallWorld:
    return SmallWorld(seed=3, beta=1.0, contexts=2)


@pytest.mark.parametrize("mean", [0.0, 0.7, 3.5])
def test_the_sampler_draws_its_law(world: SmallWorld, mean: float) -> None:
    found = best_of_poisson(world.target, world.prior, BOTH, count=3000, mean=mean)
    assert found.scored / 6000 == pytest.approx(1 + mean, abs=4 * (mean / 6000) ** 0.5 + 1e-12)
    for context in BOTH:
        law = best_of_poisson_law(world.prior.exact[context], world.rewards[context], mean)
        mine = found.kept.draws.contexts == context
        kept = places([s for s, own in zip(found.kept.draws.sequences, mine, strict=True) if own])
        assert chi_square(kept, np.exp(law)) > 1e-3
        if mean:
            assert chi_square(kept, np.exp(world.prior.exact[context])) < 1e-6


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("mean", [0.3, 4.0])
def test_the_law_is_best_of_n_in_expectation(world: SmallWorld, mean: float, ties: bool) -> None:
    prior, rewards = world.prior.exact[0], world.rewards[0]
    rewards = np.round(rewards) if ties else rewards
    whole = sum(poisson.pmf(n - 1, mean) * np.exp(best_of_n_law(prior, rewards, n)) for n in range(1, 80))
    assert np.exp(best_of_poisson_law(prior, rewards, mean)) == pytest.approx(whole, rel=1e-9)


def test_a_mean_of_nothing_is_the_prior(world: SmallWorld) -> None:
    prior = world.prior.exact[0]
    assert best_of_poisson_law(prior, world.rewards[0], 0.0) == pytest.approx(prior)
    assert best_of_poisson_bound(0.0) == 0


@pytest.mark.parametrize("mean", [5e-5, 2e-4, 0.5, 3.0, 40.0, 590.0, 700.0])
def test_the_bound_is_the_integral(mean: float) -> None:
    def density(u: float) -> float:
        q = (1 + mean * u) * math.exp(mean * (u - 1))
        return q * math.log(q) if q > 0 else 0.0

    edge = max(0.0, 1 - 60 / mean)
    wanted = quad(density, edge, 1, epsabs=1e-14, epsrel=1e-11, limit=400)[0]
    assert best_of_poisson_bound(mean) == pytest.approx(wanted, rel=2e-3 if mean < 1e-3 else 1e-6)


@pytest.mark.parametrize("mean", [0.5, 2.0, 8.0])
def test_atoms_stay_below_the_bound(world: SmallWorld, mean: float) -> None:
    prior = world.prior.exact[0]
    found = kl(best_of_poisson_law(prior, world.rewards[0], mean), prior)
    assert 0.5 * best_of_poisson_bound(mean) < found <= best_of_poisson_bound(mean)


@pytest.mark.parametrize("mean", [0.5, 2.0, 3.0, 10.0])
def test_it_is_near_the_exponential_tilt(mean: float) -> None:
    """What the paper proposes it for: the KL to the tilt of the same mean quantile is below 7e-4 nats."""
    size = 4000
    prior, quantile = np.full(size, -math.log(size)), (np.arange(size) + 0.5) / size
    law = best_of_poisson_law(prior, quantile, mean)
    wanted = float(np.exp(law) @ quantile)

    def tilted(strength: float) -> np.ndarray:
        logs = strength * (quantile - 1)
        return np.asarray(logs - np.log(np.exp(logs).sum()))

    strength = brentq(lambda one: float(np.exp(tilted(one)) @ quantile) - wanted, 1e-6, 200)
    assert kl(law, tilted(strength)) < 7e-4
    same_size = best_of_n_law(prior, quantile, round(1 + mean))
    assert kl(law, tilted(strength)) < kl(same_size, tilted(strength))


def test_soft_best_of_n_draws_its_law(world: SmallWorld) -> None:
    """Soft best of 2: an answer y is kept against each other one x with chance w(y) / (w(x) + w(y))."""
    prior, weights = np.exp(world.prior.exact), np.exp(world.log_evidence)
    found = importance_resampled(world.target, world.prior, BOTH, count=4000, n=2)
    for context in BOTH:
        share = weights[context] / (weights[context] + weights[context][:, None])
        law = 2 * prior[context] * (prior[context] @ share)
        mine = found.kept.draws.contexts == context
        kept = places([s for s, own in zip(found.kept.draws.sequences, mine, strict=True) if own])
        assert law.sum() == pytest.approx(1)
        assert chi_square(kept, law) > 1e-3
        assert chi_square(kept, prior[context]) < 1e-6


def test_counts_are_drawn_anew_for_every_answer(world: SmallWorld) -> None:
    counts = drawn_counts(world.prior, BOTH, count=4000, mean=2.5)
    assert counts.min() == 1
    assert counts.mean() == pytest.approx(3.5, abs=0.1)
    assert counts.var() == pytest.approx(2.5, abs=0.2)
    assert (counts[0] != counts[1]).any()
    for wrong in (-1.0, math.inf):
        with pytest.raises(ValueError, match="a number of draws beyond the first"):
            drawn_counts(world.prior, BOTH, count=1, mean=wrong)


@pytest.mark.parametrize("mean", [0.0, 1.5, 6.0])
def test_figures_from_draws_are_those_of_the_list(world: SmallWorld, mean: float) -> None:
    """Mean reward without bias, KL and tilts near, from 400 draws of the prior."""
    prior, rewards = world.prior.exact[0], world.rewards[0]
    law = best_of_poisson_law(prior, rewards, mean)
    drawn = places(world.prior.draw(np.zeros(80_000, np.int64), np.arange(80_000)).sequences).reshape(200, 400)
    means = best_of_poisson_means(rewards[drawn], rewards[drawn], mean)
    assert means.mean() == pytest.approx(float(np.exp(law) @ rewards), abs=4 * means.std() / 200**0.5 + 1e-12)
    kls = best_of_poisson_kl(rewards[drawn], prior[drawn], mean)
    assert kls.mean() == pytest.approx(kl(law, prior), abs=0.02)
    tilts = best_of_poisson_tilts(rewards[drawn], prior[drawn], mean)
    assert np.abs(tilts - (law - prior)[drawn]).mean() < 0.1


def test_more_draws_than_there_are_count_as_all() -> None:
    rewards = np.arange(5.0)[None]
    assert best_of_poisson_means(rewards, rewards, 500.0) == pytest.approx([4.0])
