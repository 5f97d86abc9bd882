"""The losses of `train policy` in listed languages: unbiased where they claim to be, and otherwise as documented."""

from __future__ import annotations

import pytest
import torch

from perl_eval.conformance.batch_gradients import GradientLaw
from perl_eval.conformance.expected_gradient import expected_gradient
from perl_eval.conformance.listed_language import WorldShape, listed, summed_log_probs
from perl_eval.conformance.measured_bias import compare, measure
from perl_eval.conformance.objective_list import exact_gradient
from perl_eval.conformance.our_estimators import estimators
from perl_eval.conformance.training_end import train_to_the_end
from perl_eval.training.policy_options import PolicyOptions

OURS = {one.name.removeprefix("perl-eval "): one for one in estimators()}
WORLDS = (
    WorldShape("three words", seed=1),
    WorldShape("warm, groups of 3", 2, 3, temperature=1.5, group_size=3, seed=2),
    WorldShape("no end, binary", 3, 2, end_rate=0.0, reward="binary", seed=3),
    WorldShape("rare end, length", 3, 2, end_rate=0.1, reward="length", beta=0.1, seed=4),
)


@pytest.mark.parametrize("name", ["reinforce", "kl_rl, kl=reward", "kl_rl, kl=loss"])
@pytest.mark.parametrize("shape", WORLDS, ids=lambda shape: shape.name)
def test_what_claims_to_be_unbiased_is(name: str, shape: WorldShape) -> None:
    assert measure(OURS[name], shape).bias.largest < 1e-12


@pytest.mark.parametrize("shape", WORLDS, ids=lambda shape: shape.name)
def test_dr_grpo_without_a_scale_is_the_gradient_times_a_constant(shape: WorldShape) -> None:
    """A group's own mean takes (G - 1) / G, and dr_grpo divides by the token limit."""
    bias = measure(OURS["grpo, form=dr_grpo, scale=none, kl=reward"], shape).bias
    assert bias.left < 1e-12
    assert bias.scale == pytest.approx(shape.longest * shape.group_size / (shape.group_size - 1))


@pytest.mark.parametrize("name", ["forward_kl", "js", "tv"])
def test_divergences_are_biased_by_the_estimate_of_z_less_with_larger_groups(name: str) -> None:
    """`log_inverse_ratio` says: of order 1 / group."""
    left = []
    for group in (2, 4, 8):
        shape = WorldShape("coin", 2, 2, end_rate=0.4, group_size=group, beta=1.0, seed=2)
        language = listed(shape)
        found = expected_gradient(OURS[name], language).mean
        exact = exact_gradient(language, OURS[name].objective)
        left.append(float((found - exact).norm() / exact.norm()))
    assert left[0] > left[1] > left[2] > 0
    assert left[2] < 0.5 * left[0]


def test_k3_has_the_gradient_of_the_kl_of_the_prior_by_the_token() -> None:
    """As `k3_penalty` says: at each prefix as often as the policy gets there, that of KL(prior || pi) of the word."""
    language = listed(WorldShape("three words", seed=5))
    theta = language.theta.clone().requires_grad_()
    prior, policy = torch.log_softmax(language.prior, -1), torch.log_softmax(theta, -1)
    reached = torch.zeros(len(theta), dtype=torch.float64)
    chances = summed_log_probs(language, language.theta).exp()
    for row, chance in enumerate(chances):
        reached[language.places[row][language.mask[row]]] += chance
    local = (prior.exp() * (prior - policy)).sum(-1)
    (wanted,) = torch.autograd.grad(-language.shape.beta * (reached @ local) / language.shape.longest, theta)
    with_kl = expected_gradient(OURS["grpo, form=dr_grpo, scale=group, kl=k3"], language).mean
    no_rewards = expected_gradient(
        OURS["grpo, form=dr_grpo, scale=group, kl=k3"], listed(WorldShape("same", seed=5, beta=1e-9))
    ).mean
    torch.testing.assert_close(with_kl - no_rewards, wanted, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["grpo, form=grpo, scale=none, kl=reward", "grpo, form=dapo, scale=none, kl=reward"])
def test_an_average_over_tokens_turns_the_gradient_where_lengths_differ(name: str) -> None:
    assert measure(OURS[name], WorldShape("no end", 3, 2, end_rate=0.0, seed=3)).bias.left < 1e-9
    assert measure(OURS[name], WORLDS[0]).bias.left > 0.01


def test_training_by_an_unbiased_loss_ends_at_the_target() -> None:
    end = train_to_the_end(OURS["kl_rl, kl=reward"])
    assert end.stands
    assert max(end.kl_to_target, end.kl_from_target) < 1e-6
    assert end.entropy == pytest.approx(end.target_entropy, abs=1e-3)


def test_training_by_reward_alone_ends_away_from_the_target() -> None:
    end = train_to_the_end(OURS["reinforce"])
    assert end.stands
    assert end.kl_from_target > 0.5
    assert end.entropy < 0.2 < end.target_entropy
    assert end.reward > end.target_reward


def test_every_kl_and_form_of_train_policy_is_measured() -> None:
    """A new objective, form or KL of `PolicyOptions` has to be added to the suite."""
    hints = PolicyOptions.__annotations__
    assert hints["kl"] == 'Literal["reward", "loss", "k3"]' or "k3" in str(hints["kl"])
    said = " ".join(OURS)
    for word in ("reinforce", "kl_rl", "forward_kl", "js", "tv", "form=grpo", "form=dr_grpo", "form=dapo", "kl=k3"):
        assert word in said


def test_drawn_batches_of_an_unbiased_loss_have_the_exact_gradient() -> None:
    """A mean over groups has no noise once its control variates are taken off: what is left is rounding."""
    language = listed(WorldShape("drawn", seed=1, groups=64, draws=300))
    law = expected_gradient(OURS["kl_rl, kl=reward"], language)
    assert compare(law, exact_gradient(language, "kl")).largest < 1e-12


def test_compare_takes_the_noise_off() -> None:
    """Of an unbiased gradient with normal noise of known size, 95 % of the intervals hold all coordinates at once."""
    exact = exact_gradient(listed(WORLDS[0]), "kl")
    rng = torch.Generator().manual_seed(0)
    error = torch.full_like(exact, 0.02)
    held, squares = [], []
    for _ in range(2000):
        noise = error * torch.randn(exact.shape, generator=rng, dtype=torch.float64)
        bias = compare(GradientLaw(exact + noise, error, 1.0, 100, listed=False), exact)
        held.append(bias.largest < bias.half_width)
        squares.append(bias.norm)
    # 2,000 runs: 0.95 +- 0.005. The norm is 0 where the noise is below its mean, so it is no more than its spread.
    assert 0.935 < sum(held) / len(held) < 0.965
    assert sum(squares) / len(squares) < 0.7 * float(error.norm())
    shifted = compare(GradientLaw(2 * exact, error, 1.0, 100, listed=False), exact)
    assert shifted.scale == pytest.approx(0.5)
