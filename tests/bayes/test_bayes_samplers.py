"""Samplers against laws that are known by enumeration: whom they draw, what they cost, what they say of themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_language import SEQUENCES, SmallLanguage, SmallWorld, chi_square, kl, places

from perl_eval.bayes import best_of_n, rejection
from perl_eval.bayes.best_of_n import (
    SamplerResult,
    best_of_n_bound,
    best_of_n_kl,
    best_of_n_law,
    best_of_n_means,
    best_of_n_tilts,
)
from perl_eval.bayes.language_model import Draws
from perl_eval.bayes.smc import Filtering, sequential, systematic
from perl_eval.bayes.target import Target, constrained

BOTH = np.array([0, 1])
LEAST_P = 1e-3
"""Seeded, so a test either always passes or never; a biased sampler gives some 1e-20."""


@pytest.fixture(scope="module")
def world() -> SmallWorld:
    return SmallWorld(seed=3, beta=1.0, contexts=2)


@pytest.fixture(scope="module")
def policy(world: SmallWorld) -> SmallLanguage:
    noise = np.random.default_rng(1).normal(size=world.prior.table.shape)
    return SmallLanguage(world.prior.table + 0.3 * noise, seed=17)


def kept(found: SamplerResult, context: int) -> np.ndarray:
    mine = found.kept.draws.contexts == context
    return places([s for s, own in zip(found.kept.draws.sequences, mine, strict=True) if own])


def fits(found: SamplerResult, log_law: np.ndarray) -> bool:
    return all(chi_square(kept(found, context), np.exp(log_law[context])) > LEAST_P for context in BOTH)


# ---------------------------------------------------------------------------------------- rejection


def test_the_chi_square_sees_a_wrong_law(world: SmallWorld) -> None:
    found = rejection.rejected(world.target, world.prior, BOTH, count=2000, log_bound=np.inf, most=10)
    assert len(found.kept.log_prior) == 0
    everything = rejection.rejected(world.target, world.prior, BOTH, count=2000, log_bound=-50.0, most=9000)
    assert fits(everything, world.prior.exact)
    assert not fits(everything, world.log_target)


@pytest.mark.parametrize("by_policy", [False, True])
def test_rejection_draws_the_target(world: SmallWorld, policy: SmallLanguage, by_policy: bool) -> None:
    proposal = policy if by_policy else world.prior
    bound = (world.prior.exact + world.log_evidence - proposal.exact).max(-1)
    found = rejection.rejected(world.target, proposal, BOTH, count=4000, log_bound=bound, most=200_000)
    assert (found.exceeded, found.missing) == (0, 0)
    assert fits(found, world.log_target)
    assert not fits(found, world.prior.exact)
    # A draw is kept with chance Z / b; the last block is drawn whole.
    expected = float((4000 * np.exp(bound - world.log_z)).sum())
    assert expected * 0.95 < found.scored < expected * 1.15
    assert found.kept.log_weights == pytest.approx(
        np.concatenate([(world.prior.exact + world.log_evidence - proposal.exact)[c, kept(found, c)] for c in BOTH])
    )


@pytest.mark.parametrize("quantile", [0.5, 0.9])
def test_quasi_rejection_draws_the_truncated_target(world: SmallWorld, quantile: float) -> None:
    bound = np.quantile(world.log_evidence, quantile, axis=1)
    found = rejection.rejected(world.target, world.prior, BOTH, count=4000, log_bound=bound, most=200_000)
    truncated = world.prior.exact + np.minimum(world.log_evidence, bound[:, None])
    law = truncated - np.log(np.exp(truncated).sum(-1, keepdims=True))
    assert found.exceeded > 0
    assert fits(found, law)
    assert not fits(found, world.log_target)
    draws = world.prior.draw(np.repeat(BOTH, 20_000), np.tile(np.arange(20_000), 2))
    weights = world.target.weigh(draws, world.prior).log_weights.reshape(2, -1)
    exact_rate = np.exp(truncated - bound[:, None]).sum(-1)
    assert rejection.acceptance(weights, bound) == pytest.approx(exact_rate, rel=0.03)
    distance = np.abs(np.exp(law) - np.exp(world.log_target)).sum(-1) / 2
    assert rejection.truncated_total_variation(weights, bound) == pytest.approx(distance, abs=0.01)
    to_target = [kl(law[c], world.log_target[c]) for c in BOTH]
    from_target = [kl(world.log_target[c], law[c]) for c in BOTH]
    assert rejection.truncated_kl(weights, bound) == pytest.approx(to_target, abs=0.02)
    assert rejection.truncated_forward_kl(weights, bound) == pytest.approx(from_target, abs=0.02)
    above = (np.exp(world.log_target) * (world.log_evidence > bound[:, None])).sum(-1)
    assert rejection.exceedance(weights, bound) == pytest.approx(above, abs=0.02)


def test_a_larger_bound_is_nearer_and_slower(world: SmallWorld) -> None:
    draws = world.prior.draw(np.zeros(5000, np.int64), np.arange(5000))
    weights = world.target.weigh(draws, world.prior).log_weights
    bounds = np.linspace(weights.min(), weights.max(), 8)
    rates = [float(rejection.acceptance(weights, b)) for b in bounds]
    distances = [float(rejection.truncated_total_variation(weights, b)) for b in bounds]
    assert rates == sorted(rates, reverse=True)
    assert distances == sorted(distances, reverse=True)
    assert (rates[0], distances[-1]) == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-12))
    assert float(rejection.truncated_kl(weights, bounds[-1])) == pytest.approx(0.0, abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-8, 8), min_size=2, max_size=30), st.floats(0.02, 0.98))
def test_the_bound_gives_the_acceptance_asked_for(values: list[float], rate: float) -> None:
    bound = rejection.bound_for(values, rate)
    assert float(rejection.acceptance(values, bound)) == pytest.approx(rate, abs=1e-6)


def test_a_budget_ends_the_search_and_is_said(world: SmallWorld) -> None:
    hard = np.array([[False] * len(SEQUENCES), [s[0] == 1 for s in SEQUENCES]])
    target = Target(world.prior, lambda c, s: constrained(hard[c, places(s)]))
    found = rejection.rejected(target, world.prior, BOTH, count=5, log_bound=0.0, most=100)
    assert found.missing == 5
    assert set(found.kept.draws.contexts.tolist()) == {1}
    assert all(sequence[0] == 1 for sequence in found.kept.draws.sequences)
    assert 100 < found.scored <= 200


def test_no_draw_is_tried_twice(world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[int, int]] = []
    plain = SmallLanguage.draw

    def recorded(self: SmallLanguage, contexts: np.ndarray, numbers: np.ndarray) -> Draws:
        tried.extend(zip(contexts.tolist(), numbers.tolist(), strict=True))
        return plain(self, contexts, numbers)

    monkeypatch.setattr(SmallLanguage, "draw", recorded)
    bound = world.log_evidence.max(-1)
    found = rejection.rejected(world.target, world.prior, BOTH, count=20, log_bound=bound, most=9000)
    assert len(tried) == len(set(tried)) == found.scored
    for context in BOTH.tolist():
        mine = sorted(number for own, number in tried if own == context)
        assert mine == list(range(len(mine)))


def test_what_a_context_gets_does_not_depend_on_the_others(world: SmallWorld) -> None:
    bound = world.log_evidence.max(-1)
    both = rejection.rejected(world.target, world.prior, BOTH, count=50, log_bound=bound, most=9000)
    alone = rejection.rejected(world.target, world.prior, BOTH[1:], count=50, log_bound=bound[1:], most=9000)
    assert kept(both, 1).tolist() == kept(alone, 1).tolist()


# ---------------------------------------------------------------------------------------- best of n, SIR


@pytest.mark.parametrize("n", [1, 2, 5])
def test_best_of_n_follows_its_law(world: SmallWorld, n: int) -> None:
    found = best_of_n.best_of_n(world.target, world.prior, BOTH, count=4000, n=n)
    law = np.stack([best_of_n_law(world.prior.exact[c], world.rewards[c], n) for c in BOTH])
    assert np.exp(law).sum(-1) == pytest.approx([1.0, 1.0], abs=1e-12)
    assert fits(found, law)
    assert found.scored == 8000 * n
    assert fits(found, world.prior.exact) == (n == 1)


def test_best_of_n_with_ties_keeps_the_priors_odds(world: SmallWorld) -> None:
    tied = np.round(world.rewards)
    target = Target(world.prior, lambda c, s: tied[c, places(s)])
    found = best_of_n.best_of_n(target, world.prior, BOTH, count=4000, n=3)
    law = np.stack([best_of_n_law(world.prior.exact[c], tied[c], 3) for c in BOTH])
    assert fits(found, law)
    best = tied[0] == tied[0].max()
    assert np.ptp((law[0] - world.prior.exact[0])[best]) < 1e-9


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n", [2, 4, 16, 64])
def test_best_of_n_kl_is_below_its_bound(seed: int, n: int) -> None:
    """KL(best-of-n || prior) <= log n - (n - 1) / n (arXiv 2401.01879, theorem 1), strictly if the prior has atoms."""
    world = SmallWorld(seed=seed)
    exact = kl(best_of_n_law(world.prior.exact[0], world.rewards[0], n), world.prior.exact[0])
    assert 0 < exact < best_of_n_bound(n)
    tied = kl(best_of_n_law(world.prior.exact[0], np.round(world.rewards[0]), n), world.prior.exact[0])
    assert tied < exact


def test_the_bound_is_reached_without_atoms() -> None:
    # A thousand equal answers are nearly a continuum; by hand the bound at n = 2 is log 2 - 1 / 2.
    flat = np.full(1000, -math.log(1000))
    assert best_of_n_bound(2) == pytest.approx(0.1931471806)
    assert kl(best_of_n_law(flat, np.arange(1000.0), 2), flat) == pytest.approx(best_of_n_bound(2), abs=1e-3)
    assert best_of_n_bound(1) == 0.0


@pytest.mark.parametrize("n", [2, 4, 8])
def test_best_of_n_kl_from_draws_nears_the_exact_one(world: SmallWorld, n: int) -> None:
    """The error falls with the number of draws, and beats the bound's as a guess."""
    exact = np.array([kl(best_of_n_law(world.prior.exact[c], world.rewards[c], n), world.prior.exact[c]) for c in BOTH])

    def error(size: int) -> float:
        reps = 60
        drawn = world.prior.draw(np.repeat(BOTH, reps * size), np.tile(np.arange(reps * size), 2))
        index = places(drawn.sequences).reshape(2, reps, size)
        found = np.stack([best_of_n_kl(world.rewards[c][index[c]], world.prior.exact[c][index[c]], n) for c in BOTH])
        return float(np.abs(found.mean(1) - exact).max())

    assert error(256) < 0.02
    assert error(256) < error(16)
    assert error(64) < 0.5 * (best_of_n_bound(n) - exact).max()


def test_best_of_n_tilts_are_the_laws(world: SmallWorld) -> None:
    """With many draws, log best-of-n - log prior of each answer; tiny masses lose no digits."""
    drawn = world.prior.draw(np.zeros(20_000, np.int64), np.arange(20_000))
    index = places(drawn.sequences)
    found = best_of_n_tilts(world.rewards[:1, index], world.prior.exact[:1, index], 4)[0]
    exact = (best_of_n_law(world.prior.exact[0], world.rewards[0], 4) - world.prior.exact[0])[index]
    assert np.average(np.abs(found - exact)) < 0.02
    tiny = best_of_n_tilts(np.arange(10.0)[None], np.full((1, 10), -60.0), 3)
    # Without mass the tilt is n F^(n - 1): 3 (9.5 / 10)^2 for the best of ten.
    assert tiny[0, -1] == pytest.approx(math.log(3 * 0.95**2), abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 4), min_size=4, max_size=6), st.integers(1, 4))
def test_means_over_the_best_of_n_are_those_over_all_subsets(rewards: list[int], n: int) -> None:
    """Every subset of n draws, the best of it, equal rewards averaged: by listing the subsets."""
    from itertools import combinations

    values = [0.3 * place**2 - place for place in range(len(rewards))]
    total = []
    shared = {r: np.mean([v for v, own in zip(values, rewards, strict=True) if own == r]) for r in rewards}
    for subset in combinations(range(len(rewards)), n):
        total.append(shared[max(rewards[place] for place in subset)])
    found = best_of_n_means(np.array([rewards]), np.array([values]), n)
    assert float(found[0]) == pytest.approx(float(np.mean(total)), abs=1e-9)


def test_resampling_nears_the_target_at_the_stated_rate(world: SmallWorld) -> None:
    """KL(kept || target) <= log Z - E[log mean w], near chi-square / 2n (arXiv 1808.09034)."""
    few = best_of_n.importance_resampled(world.target, world.prior, BOTH, count=4000, n=3)
    many = best_of_n.importance_resampled(world.target, world.prior, BOTH, count=2000, n=128)
    assert not fits(few, world.log_target)
    assert fits(many, world.log_target)
    assert few.log_z is not None
    for context in BOTH:
        mine = few.kept.draws.contexts == context
        counts = np.bincount(kept(few, context), minlength=len(SEQUENCES)) / 4000
        with np.errstate(divide="ignore"):
            observed = kl(np.log(counts), world.log_target[context])
        slack = (np.count_nonzero(counts) - 1) / (2 * 4000)  # the upward bias of a plug-in KL (Miller-Madow)
        assert observed - slack < world.log_z[context] - few.log_z[mine].mean() + 0.01
        ratio = np.exp(few.log_z[mine] - world.log_z[context])
        assert abs(ratio.mean() - 1) < 4 * ratio.std() / math.sqrt(len(ratio))


def test_resampling_a_pool_without_weight_gives_no_answer(world: SmallWorld) -> None:
    never = Target(world.prior, lambda c, _: np.where(c == 0, -np.inf, 0.0))
    found = best_of_n.importance_resampled(never, world.prior, BOTH, count=3, n=4)
    assert found.missing == 3
    assert found.kept.draws.contexts.tolist() == [1, 1, 1]


# ---------------------------------------------------------------------------------------- SMC


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12).filter(lambda w: sum(w) > 0), st.floats(0, 0.999999))
def test_systematic_resampling_rounds_up_or_down(weights: list[float], uniform: float) -> None:
    shares = np.array(weights) / sum(weights)
    times = np.bincount(systematic(shares, uniform), minlength=len(shares))
    assert times.sum() == len(shares)
    assert (np.abs(times - len(shares) * shares) < 1 + 1e-9).all()


def test_systematic_resampling_is_unbiased() -> None:
    shares = np.array([0.05, 0.5, 0.15, 0.3])
    grid = (np.arange(4000) + 0.5) / 4000
    times = np.mean([np.bincount(systematic(shares, u), minlength=4) for u in grid], axis=0)
    assert times == pytest.approx(4 * shares, abs=1e-3)


def twisted(world: SmallWorld, base: SmallLanguage, twist: np.ndarray) -> tuple[Target, SmallLanguage]:
    """Return the target and a proposal that steers; the proposal is the prior itself where ``base`` is."""
    steering = SmallLanguage(base.table, seed=23, twist=twist)
    return (Target(steering, world.evidence) if base is world.prior else world.target), steering


@pytest.mark.parametrize("guess", ["none", "best", "wrong"])
@pytest.mark.parametrize("by_policy", [False, True])
def test_smc_draws_the_target_whatever_the_twist(
    world: SmallWorld, policy: SmallLanguage, guess: str, by_policy: bool
) -> None:
    best = world.best_twist()
    wrong = np.random.default_rng(2).normal(size=best.shape)
    twist = {"none": np.zeros_like(best), "best": best, "wrong": wrong}[guess]
    target, proposal = twisted(world, policy if by_policy else world.prior, twist)
    found = sequential(target, proposal, BOTH, count=1500, filtering=Filtering(128))
    assert found.missing == 0
    assert fits(found, world.log_target)
    assert found.log_z is not None
    for context in BOTH:
        ratio = np.exp(found.log_z[found.kept.draws.contexts == context] - world.log_z[context])
        assert abs(ratio.mean() - 1) < 4 * ratio.std() / math.sqrt(len(ratio))
    rows = kept(found, 0)
    mine = found.kept.draws.contexts == 0
    assert found.kept.log_prior[mine] == pytest.approx(world.prior.exact[0, rows], abs=1e-9)
    assert found.kept.log_evidence[mine] == pytest.approx(world.log_evidence[0, rows], abs=1e-9)
    assert found.kept.draws.log_probs[mine] == pytest.approx(proposal.exact[0, rows], abs=1e-9)


def test_a_good_twist_lowers_the_variance_of_z() -> None:
    """Evidence that adds up token by token: unsteered, its spread multiplies; steered, each token decides at once."""
    world = SmallWorld(seed=3)
    value = np.array([[2.5 * sequence.count(1) for sequence in SEQUENCES]])
    world.set_evidence(value)
    spread = {}
    for name, twist in (("none", np.zeros((1, 40))), ("best", world.best_twist())):
        target, proposal = twisted(world, world.prior, twist)
        found = sequential(target, proposal, BOTH[:1], count=1500, filtering=Filtering(16))
        assert found.log_z is not None
        spread[name] = float(np.std(np.exp(found.log_z - world.log_z[0])))
    assert spread["best"] < 0.8 * spread["none"]


def test_smc_without_resampling_is_importance_resampling(world: SmallWorld) -> None:
    found = sequential(world.target, world.prior, BOTH, count=1500, filtering=Filtering(128, 0.0))
    assert fits(found, world.log_target)


def test_smc_counts_what_it_costs(world: SmallWorld) -> None:
    found = sequential(world.target, world.prior, BOTH, count=10, filtering=Filtering(8, 0.0))
    assert found.scored == 2 * 10 * 8
    assert len(found.kept.log_prior) == 20
    # Without resampling every particle is a plain draw: END ends it, or the fourth token.
    mean_length = np.mean(np.exp(world.prior.exact) @ [len(s) for s in SEQUENCES])
    assert found.tokens / 160 == pytest.approx(mean_length, rel=0.1)


def test_filters_are_independent_of_each_other(world: SmallWorld) -> None:
    both = sequential(world.target, world.prior, BOTH, count=5, filtering=Filtering(6))
    alone = sequential(world.target, world.prior, BOTH[1:], count=5, filtering=Filtering(6))
    assert kept(both, 1).tolist() == kept(alone, 1).tolist()


def test_how_many_particles_grow_at_once_changes_nothing(world: SmallWorld) -> None:
    whole = sequential(world.target, world.prior, BOTH, count=5, filtering=Filtering(6))
    for at_once in (1, 13, 59):
        pieces = sequential(world.target, world.prior, BOTH, count=5, filtering=Filtering(6, at_once=at_once))
        assert pieces.kept.draws.sequences == whole.kept.draws.sequences
        assert pieces.log_z == pytest.approx(whole.log_z, abs=1e-12)
        assert (pieces.tokens, pieces.scored) == (whole.tokens, whole.scored)


def test_a_filter_that_dies_gives_no_answer(world: SmallWorld) -> None:
    never = Target(world.prior, lambda c, _: np.where(c == 0, -np.inf, 0.0))
    found = sequential(never, world.prior, BOTH, count=3, filtering=Filtering(4))
    assert found.missing == 3
    assert found.kept.draws.contexts.tolist() == [1, 1, 1]
