"""Estimates of log Z, the KLs and the gap against enumeration: identities, bias, coverage, and what cannot be known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.special import logsumexp
from scipy.stats import norm
from small_language import SmallLanguage, SmallWorld, kl, places

from perl_eval.bayes import divergences, weighted_figures
from perl_eval.bayes.importance_weights import (
    effective_size,
    log_mean_exp,
    most_pareto_k,
    normalised,
    pareto_k,
    relative_variance,
    upper_spread,
)
from perl_eval.training.objectives import beta_of

logs = st.floats(-300, 300)


# ---------------------------------------------------------------------------------------- weights


@settings(deadline=None)
@given(st.lists(logs, min_size=1, max_size=20), logs)
def test_log_mean_exp_is_scipys(values: list[float], shift: float) -> None:
    expected = logsumexp(values) - math.log(len(values))
    assert float(log_mean_exp(values)) == pytest.approx(expected, abs=1e-9)
    assert float(log_mean_exp(np.array(values) + shift)) == pytest.approx(expected + shift, abs=1e-9)
    assert float(effective_size(np.array(values) + shift)) == pytest.approx(float(effective_size(values)), rel=1e-9)


def test_weights_that_no_float_holds() -> None:
    """Weights e^5000 times 1, 1, 2 and over it: the mean, the shares and the effective size stay as they are."""
    for shift in (-5000.0, 5000.0):
        rows = np.log([[1.0, 1.0, 2.0]]) + shift
        assert log_mean_exp(rows) - shift == pytest.approx([math.log(4 / 3)])
        assert normalised(rows)[0] == pytest.approx([0.25, 0.25, 0.5])
        assert effective_size(rows) == pytest.approx([16 / 6])
        # log(4/3), and half of 1 / ESS - 1 / n = 6/16 - 1/3 as the first-order bias
        assert divergences.log_normalisers(rows) - shift == pytest.approx([math.log(4 / 3) + (6 / 16 - 1 / 3) / 2])


def test_effective_size_by_hand() -> None:
    # Weights 1, 1, 2: (1 + 1 + 2)^2 / (1 + 1 + 4) = 16 / 6.
    assert float(effective_size(np.log([1.0, 1.0, 2.0]))) == pytest.approx(16 / 6)
    assert float(effective_size([5.0] * 7)) == pytest.approx(7.0)
    assert float(effective_size([-np.inf, 0.0, -np.inf])) == 1.0
    assert float(effective_size([-np.inf, -np.inf])) == 0.0


def test_relative_variance_is_that_of_the_mean_weight() -> None:
    weights = np.array([0.5, 1.5, 4.0, 0.1])
    expected = weights.var() / len(weights) / weights.mean() ** 2
    assert float(relative_variance(np.log(weights))) == pytest.approx(expected)


def test_no_weight_at_all() -> None:
    assert float(log_mean_exp([-np.inf, -np.inf])) == -math.inf
    with pytest.raises(ValueError, match="every weight is zero"):
        normalised([-np.inf])
    with pytest.raises(ValueError, match="every weight is zero"):
        relative_variance([[-np.inf], [0.0]])
    with pytest.raises(ValueError, match="no weights"):
        log_mean_exp([])
    with pytest.raises(ValueError, match="below infinity"):
        log_mean_exp([math.nan])


# ---------------------------------------------------------------------------------------- identities


def policy_of(world: SmallWorld, seed: int, size: float = 0.5) -> SmallLanguage:
    noise = np.random.default_rng(seed).normal(size=world.prior.table.shape) * size
    return SmallLanguage(world.prior.table + noise, seed=seed)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("beta", [0.2, 1.0, 3.0])
def test_the_objective_is_the_gap_to_log_z(seed: int, beta: float) -> None:
    """J = -beta KL(pi || target) + beta log Z, by enumeration (arXiv 2205.11275, equation 8)."""
    world = SmallWorld(seed=seed, beta=beta)
    policy = policy_of(world, seed + 50)
    own, prior = policy.exact[0], world.prior.exact[0]
    j = float(np.exp(own) @ world.rewards[0]) - beta * kl(own, prior)
    assert j == pytest.approx(-beta * kl(own, world.log_target[0]) + beta * world.log_z[0], abs=1e-8)


@pytest.mark.parametrize("kl_weight", [0.05, 0.3, 0.5, 0.9])
def test_mixing_weight_b_and_beta_have_one_target(kl_weight: float) -> None:
    """(1 - b) E[r] - b KL is highest at prior exp(r / beta) / Z, beta = b / (1 - b): no policy nearby does better."""
    world = SmallWorld(seed=8, beta=beta_of(kl_weight))
    prior, rewards = world.prior.exact[0], world.rewards[0]

    def mixed(log_policy: np.ndarray) -> float:
        return (1 - kl_weight) * float(np.exp(log_policy) @ rewards) - kl_weight * kl(log_policy, prior)

    best = mixed(world.log_target[0])
    assert best == pytest.approx(kl_weight * world.log_z[0], abs=1e-9)
    random = np.random.default_rng(0)
    for size in (1e-3, 0.1, 1.0):
        moved = world.log_target[0] + random.normal(size=len(prior)) * size
        assert mixed(moved - logsumexp(moved)) < best


class Listed:
    """A policy whose chances are multiples of 1 / 512, so that a list of draws holds it exactly."""

    def __init__(self, world: SmallWorld, seed: int) -> None:
        random = np.random.default_rng(seed)
        chosen = random.choice(world.prior.exact.shape[1], 40, replace=False)
        self.drawn = np.concatenate([chosen, random.choice(chosen, 512 - 40)])
        counts = np.bincount(self.drawn, minlength=world.prior.exact.shape[1])
        with np.errstate(divide="ignore"):
            self.log_probs = np.log(counts / 512)
        self.log_ratio = self.log_probs[self.drawn] - world.prior.exact[0, self.drawn]
        self.log_weights = world.log_evidence[0, self.drawn] - self.log_ratio


@pytest.mark.parametrize("seed", range(3))
def test_estimates_of_a_listed_policy_are_exact(seed: int) -> None:
    """Draws that hold a policy exactly, and draws of the target for log Z, leave nothing to chance."""
    world, beta = SmallWorld(seed=seed, beta=0.7), 0.7
    listed = Listed(world, seed)
    reference = np.full(64, world.log_z[0])  # log-weights of the target itself are all log Z
    expected = kl(listed.log_probs, world.log_target[0])
    found = divergences.reverse_kl(listed.log_weights, reference)
    assert found.value == pytest.approx(expected, abs=1e-8)
    assert divergences.gap(listed.log_weights, reference, beta=beta).value == pytest.approx(beta * expected, abs=1e-8)
    j = divergences.objective(world.rewards[0, listed.drawn], listed.log_ratio, beta=beta)
    assert j.value == pytest.approx(beta * world.log_z[0] - beta * expected, abs=1e-8)
    assert divergences.kl_to_prior(listed.log_ratio).value == pytest.approx(
        kl(listed.log_probs, world.prior.exact[0]), abs=1e-8
    )


# ---------------------------------------------------------------------------------------- bias and coverage


def weights_of(world: SmallWorld, proposal: SmallLanguage, reps: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return log-weights and places of many independent draws, shape (reps, n)."""
    context = np.zeros(reps * n, np.int64)
    drawn = places(proposal.draw(context, np.arange(reps * n)).sequences)
    table = world.prior.exact[0] + world.log_evidence[0] - proposal.exact[0]
    return table[drawn].reshape(reps, n), drawn.reshape(reps, n)


@pytest.mark.parametrize("of_policy", [False, True])
def test_z_is_unbiased_and_log_z_falls_short_at_the_stated_rate(of_policy: bool) -> None:
    world, reps = SmallWorld(seed=3, beta=1.0), 20_000
    proposal = policy_of(world, 11) if of_policy else world.prior
    second = float(np.exp(2 * (world.log_target[0] - proposal.exact[0]) + proposal.exact[0]).sum())
    for n in (25, 100):
        rows, _ = weights_of(world, proposal, reps, n)
        plain = log_mean_exp(rows)
        ratio = np.exp(plain - world.log_z[0])
        error = ratio.std() / math.sqrt(reps)
        assert abs(ratio.mean() - 1) < 4 * error
        # Delta method: log Z - E[log mean w] = (E[w^2] / Z^2 - 1) / 2n + O(1 / n^2).
        bias, rate = world.log_z[0] - plain.mean(), (second - 1) / (2 * n)
        noise = plain.std() / math.sqrt(reps)
        assert bias == pytest.approx(rate, abs=4 * noise + 2 * rate / math.sqrt(n))
        assert bias > 4 * noise
        corrected = world.log_z[0] - divergences.log_normalisers(rows).mean()
        assert abs(corrected) < 0.35 * bias + 4 * noise


def test_more_draws_tighten_the_lower_bound() -> None:
    """E[log mean of n weights] rises with n and stays under log Z (arXiv 1509.00519, theorem 1)."""
    world = SmallWorld(seed=5, beta=0.7)
    found = [log_mean_exp(weights_of(world, world.prior, 20_000 // n, n)[0]).mean() for n in (1, 4, 16, 64)]
    assert found == sorted(found)
    assert found[-1] < world.log_z[0] + 0.02


def test_draws_of_the_target_bound_log_z_from_above() -> None:
    world, n = SmallWorld(seed=3, beta=1.0), 10
    random = np.random.default_rng(0)
    exact = random.choice(len(world.log_target[0]), (4000, n), p=np.exp(world.log_target[0]))
    above = divergences.log_normaliser_above(world.log_evidence[0, exact])
    below = log_mean_exp(weights_of(world, world.prior, 4000, n)[0])
    assert above.value is not None
    assert above.low is not None
    assert below.mean() < world.log_z[0] < above.low
    assert above.value < world.log_z[0] + 0.1


def coverage(truth: float, found: list[divergences.Estimate]) -> float:
    return float(np.mean([one.low is not None and one.low <= truth <= (one.high or -math.inf) for one in found]))


def test_intervals_cover_log_z_and_both_kls() -> None:
    """95 % intervals of one prompt, 400 times over, at 100 effective draws: between 91 and 99 % hold the truth."""
    world, reps, n = SmallWorld(seed=3, beta=1.0), 400, 250
    policy = policy_of(world, 21, size=0.2)
    rows, drawn = weights_of(world, world.prior, reps, n)
    own, _ = weights_of(world, policy, reps, n)
    ratio = (world.prior.exact + world.log_evidence - policy.exact)[0][drawn]
    assert 60 < np.median(effective_size(rows)) < 150
    log_z = [divergences.log_normaliser(row) for row in rows]
    assert 0.91 < coverage(world.log_z[0], log_z) < 0.99
    reverse = [divergences.reverse_kl(mine, row) for mine, row in zip(own, rows, strict=True)]
    assert 0.91 < coverage(kl(policy.exact[0], world.log_target[0]), reverse) < 0.99
    forward = [divergences.forward_kl(row, d) for row, d in zip(rows, ratio, strict=True)]
    assert 0.88 < coverage(kl(world.log_target[0], policy.exact[0]), forward) < 0.99


def test_the_policys_own_draws_see_too_small_a_kl() -> None:
    """What the policy hardly says is not in its draws: the KL from them alone is low, less so with more draws."""
    world = SmallWorld(seed=3, beta=1.0)
    policy = policy_of(world, 11, size=0.8)
    truth = kl(policy.exact[0], world.log_target[0])
    short = []
    for n in (5, 50):
        own, _ = weights_of(world, policy, 1000, n)
        found = divergences.reverse_kl(own)
        assert found.value is not None
        assert "own draws" in found.method
        short.append(truth - found.value)
    assert short[0] > 0.02
    assert abs(short[1]) < 0.5 * short[0]


def test_the_forward_kl_converges_from_any_proposal() -> None:
    world = SmallWorld(seed=6, beta=1.0)
    policy = policy_of(world, 30, size=0.8)
    truth = kl(world.log_target[0], policy.exact[0])
    assert truth > 0.1
    table = (world.prior.exact + world.log_evidence - policy.exact)[0]
    for proposal in (world.prior, policy):
        rows, drawn = weights_of(world, proposal, 1, 40_000)
        found = divergences.forward_kl(rows[0], table[drawn[0]])
        assert found.value == pytest.approx(truth, abs=0.03)
        assert found.low is not None
        assert found.high is not None
        assert found.high - found.low < 0.1


def test_the_two_kls_disagree_on_a_policy_that_collapsed() -> None:
    """Half of the target in one answer, by hand: reverse log 2 - H(e), forward -log 2 - log(e (1 - e)) / 2.

    The draws hold each distribution exactly: 1000 of the policy with e = 1/500, 1000 of the target.
    """
    e = 1 / 500
    log_target, log_policy = np.log([0.5, 0.5]), np.log([1 - e, e])
    of_policy, of_target = np.repeat([0, 1], [998, 2]), np.repeat([0, 1], [500, 500])
    log_z = np.zeros(1000)  # weights of the target itself
    reverse = divergences.reverse_kl((log_target - log_policy)[of_policy], log_z)
    forward = divergences.forward_kl(log_z, (log_target - log_policy)[of_target])
    entropy = -(1 - e) * math.log(1 - e) - e * math.log(e)
    assert reverse.value == pytest.approx(math.log(2) - entropy, abs=1e-9)
    assert forward.value == pytest.approx(-math.log(2) - math.log(e * (1 - e)) / 2, abs=1e-9)
    assert (forward.value or 0) > 3 * (reverse.value or 9)
    assert (reverse.name, forward.name) == ("KL(policy || target)", "KL(target || policy)")


def test_several_prompts_get_a_t_interval_over_prompts() -> None:
    world = SmallWorld(seed=3, beta=1.0, contexts=2)
    rows = np.stack([np.full(50, world.log_z[0]), np.full(50, world.log_z[1])])
    found = divergences.log_normaliser(rows)
    # Two values: the mean, and t(1) = 12.706 times half their distance.
    half = 12.7062047 * abs(world.log_z[0] - world.log_z[1]) / 2
    assert found.value == pytest.approx(world.log_z.mean())
    assert found.high == pytest.approx(world.log_z.mean() + half, rel=1e-6)
    assert "50 effective of 50 draws" in found.method


# ---------------------------------------------------------------------------------------- what cannot be known


def test_few_effective_draws_are_said() -> None:
    weights = np.zeros(200)
    weights[0] = 12.0  # one draw outweighs all others
    for found in (
        divergences.log_normaliser(weights),
        divergences.reverse_kl(np.zeros(200), weights),
        divergences.forward_kl(weights, weights),
        divergences.gap(weights, beta=0.5),
    ):
        assert found.reason is not None
        assert "unreliable: fewer than 30 effective draws (fewest 1.0 of 200)" in found.reason
        assert found.value is not None
        assert "; unreliable" in found.method
    several = divergences.log_normaliser(np.stack([weights, np.zeros(200)]))
    assert several.reason == "unreliable: fewer than 30 effective draws in 1 of 2 prompts (fewest 1.0 of 200)"
    assert divergences.log_normaliser(np.zeros(200)).reason is None


@pytest.mark.parametrize(
    ("seed", "spread", "draws", "expected"),
    # ArviZ 0.22.0, psislw of the same draws.
    [
        (0, 1.0, 200, -0.04390373408863455),
        (1, 2.0, 1000, 0.6992832611356293),
        (2, 0.3, 500, 0.11128898920573388),
        (3, 3.0, 2000, 1.112417291730547),
    ],
)
def test_pareto_k_is_that_of_arviz(seed: int, spread: float, draws: int, expected: float) -> None:
    weights = np.random.default_rng(seed).normal(0, spread, draws)
    assert float(pareto_k(weights)) == pytest.approx(expected)
    assert float(pareto_k(weights + 700)) == pytest.approx(expected)
    assert most_pareto_k(100) == pytest.approx(0.5)
    assert most_pareto_k(10_000) == pytest.approx(0.7)
    assert (divergences.log_normaliser(weights).reason is None) == (expected < most_pareto_k(draws))


def test_the_jackknife_takes_the_bias_off_the_kl_from_the_target() -> None:
    # Weights lognormal with sd 0.5: the KL of the target from the proposal is 0.125. Few draws of many prompts.
    rows = np.random.default_rng(8).normal(0, 0.5, (4000, 40))
    found = divergences.forward_kl(rows, rows)
    assert found.value == pytest.approx(0.125, abs=0.002)
    shares = normalised(rows)
    plain = (shares * rows).sum(-1) - log_mean_exp(rows)
    assert abs(plain.mean() - 0.125) > 2 * abs(found.value - 0.125)
    # By hand on one prompt: n times the figure less n - 1 times the mean of it without each draw.
    row = rows[0]
    left = [np.delete(row, place) for place in range(40)]
    each = [float(normalised(part) @ part - log_mean_exp(part)) for part in left]
    assert divergences.forward_kl(row, row).value == pytest.approx(40 * plain[0] - 39 * np.mean(each))


def test_a_kl_that_rests_on_few_squares_is_doubted() -> None:
    weights = np.random.default_rng(9).normal(0, 1.0, 128)
    assert float(effective_size(weights)) > 30
    found = divergences.forward_kl(weights, weights)
    assert found.reason is not None
    assert found.reason.startswith("unreliable: ")
    assert divergences.log_normaliser(weights).reason is None


def without_the_largest(spread: float, draws: int) -> np.ndarray:
    """Return normal log-weights, evenly spread, of which the largest one of two hundred was not met."""
    return spread * norm.ppf((np.arange(draws) + 0.5) / draws * 0.995)


def test_the_spread_of_the_upper_half_by_hand() -> None:
    even = 1.5 * norm.ppf((np.arange(4000) + 0.5) / 4000)
    assert float(upper_spread(even)) == pytest.approx(1.5, rel=0.01)
    assert float(upper_spread(even + 300)) == pytest.approx(float(upper_spread(even)))
    assert upper_spread(np.stack([even, np.linspace(0, 4, 4000)])) == pytest.approx([1.5, 0.0], rel=0.01)
    assert float(upper_spread([*even, -np.inf])) == 0.0


@pytest.mark.parametrize("slope", [1.0, 0.4, -0.3])
@pytest.mark.parametrize("spread", [1.2, 1.4])
def test_an_interval_is_no_narrower_than_that_of_lognormal_weights(slope: float, spread: float) -> None:
    """By numerical integration of the square of what one draw adds to each figure."""
    rows = without_the_largest(spread, 256)
    s = float(upper_spread(rows))
    assert s == pytest.approx(spread, rel=0.06)
    z = np.linspace(-12, 12, 200_001)
    density, weight = norm.pdf(z), np.exp(s * z - s * s / 2)

    def error(part: np.ndarray) -> float:
        mean = trapezoid(part * density, z)
        return float(np.sqrt(trapezoid((part - mean) ** 2 * density, z) / len(rows)))

    gaps = slope * s * z
    mean = trapezoid(weight * gaps * density, z)
    figures = {
        "log Z": (divergences.log_normaliser(rows), weight),
        "from above": (divergences.log_normaliser_above(-rows), weight),
        "own draws": (divergences.reverse_kl(rows), weight - s * z),
        "entropy": (divergences.target_entropy(rows, slope * rows), weight * (gaps - mean) - weight),
        "forward": (divergences.forward_kl(rows, slope * rows), weight * (gaps - mean) - weight),
    }
    for name, (found, part) in figures.items():
        assert found.value is not None
        assert found.low is not None
        assert found.high is not None
        wanted = norm.ppf(0.975) * error(part)
        assert found.high - found.value >= wanted * 0.999, name
        assert found.low <= max(0.0, found.value - wanted * 0.999), name
    alone = divergences.log_normaliser(rows)
    assert alone.value is not None
    assert alone.low is not None
    assert alone.value - alone.low == pytest.approx(norm.ppf(0.975) * error(weight), rel=1e-3)
    assert alone.value - alone.low > 1.1 * norm.ppf(0.975) * np.sqrt(float(relative_variance(rows)))


def test_the_kl_from_the_target_holds_where_its_squares_are_worth_just_enough() -> None:
    """By the draws' own variance alone it held in 0.90: surest where the largest weights were not met."""
    rng, held, told = np.random.default_rng(8), 0, 0
    for _ in range(500):
        rows = rng.normal(0, 1.0, 2048)
        found = divergences.forward_kl(rows, rows)
        if not (found.reason or "").startswith("unreliable"):
            assert found.low is not None
            assert found.high is not None
            told, held = told + 1, held + (found.low <= 0.5 <= found.high)
    assert told > 300
    assert held / told >= 0.94


def test_weights_too_spread_for_their_number_are_doubted_however_many_draws_they_seem_to_be_worth() -> None:
    rows = without_the_largest(1.8, 256)
    assert float(effective_size(rows)) > weighted_figures.LEAST_EFFECTIVE
    found = divergences.log_normaliser(rows)
    expected = 256 * math.exp(-(float(upper_spread(rows)) ** 2))
    assert found.reason == f"unreliable: weights as spread as these are worth {expected:.1f} draws, fewer than 30"


def test_infinite_kls_have_no_value() -> None:
    weights = np.zeros(100)
    forbidden = np.where(np.arange(100) < 5, -np.inf, 0.0)
    found = divergences.reverse_kl(forbidden, weights)
    assert found.value is None
    assert found.reason == "infinite: the target forbids 5.0% of what the policy says"
    found = divergences.forward_kl(weights, np.where(np.arange(100) < 5, np.inf, 0.0))
    assert found.value is None
    assert found.reason is not None
    assert "cannot say" in found.reason
    # What the target forbids is no loss to a policy that cannot say it.
    assert divergences.forward_kl(forbidden, np.where(forbidden < 0, np.inf, 0.3)).value == pytest.approx(
        0.3 - math.log(0.95), abs=1e-3
    )


def test_a_target_that_no_draw_meets_has_no_log_z() -> None:
    found = divergences.log_normaliser([-np.inf] * 10)
    assert (found.value, found.low, found.n_missing) == (None, None, 1)
    assert found.reason == "no draw meets the target"
    mixed = divergences.log_normaliser([[-np.inf] * 40, [0.0] * 40, [0.0] * 40])
    assert (mixed.value, mixed.n, mixed.n_missing) == (0.0, 2, 1)
    assert divergences.reverse_kl(np.zeros((1, 10)), np.full((1, 10), -np.inf)).value is None
    assert divergences.forward_kl(np.full(10, -np.inf), np.zeros(10)).value is None


# ---------------------------------------------------------------------------------------- collapse


def test_perplexity_by_hand() -> None:
    # exp((2 + 4) / (1 + 2)); each token of the same answer costs the prior 2 nats.
    found = divergences.perplexity([-2.0, -4.0], [1, 2])
    assert found.value == pytest.approx(math.exp(2.0))
    assert found.low == pytest.approx(math.exp(2.0))


def test_a_collapsed_policy_shows() -> None:
    varied = [f"{one} {two} three four five" for one in "abcd" for two in "wxyz"]
    items = [f"item {number // 4}" for number in range(16)]

    def figures(texts: list[str], log_probs: np.ndarray) -> dict[str, float | None]:
        table = divergences.collapse(texts, items, log_probs=log_probs, log_prior=log_probs - 1, tokens=[6] * 16)
        return {one.name: one.value for one in table}

    wide = figures(varied, np.random.default_rng(0).normal(-3, 0.3, 16))
    narrow = figures(["a w three four five"] * 16, np.full(16, -0.01) + 1e-3 * np.arange(16))
    assert wide["entropy"] == pytest.approx(3.0, abs=0.3)
    assert narrow["entropy"] == pytest.approx(0.0, abs=0.01)
    for name in ("distinct-1", "distinct-2", "unique share", "entropy of the draws"):
        assert (narrow[name] or 0) < (wide[name] or 0), name
    assert (narrow["self-BLEU"] or 0) > (wide["self-BLEU"] or 0)
    # Four answers a prompt: all alike, or all different.
    assert (narrow["mode share"], wide["mode share"]) == (1.0, 0.25)
    assert (narrow["unique share"], wide["unique share"]) == (0.25, 1.0)
    sampler = divergences.collapse(varied, items, log_probs=None, log_prior=np.zeros(16), tokens=[6] * 16)[0]
    assert sampler.value is None
    assert sampler.reason == "a sampler at decoding time has no density to ask"
