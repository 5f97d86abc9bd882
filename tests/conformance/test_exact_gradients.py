"""Exact gradients against finite differences and formulas done by hand; listed languages against what they must be."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from perl_eval.bayes.target import alpha_regularised
from perl_eval.conformance.all_groups import multisets, ordered
from perl_eval.conformance.listed_language import (
    ListedLanguage,
    WorldShape,
    list_sequences,
    listed,
    summed_log_probs,
    target_log_probs,
)
from perl_eval.conformance.objective_list import (
    OBJECTIVE_VALUES,
    anchored_rewards,
    exact_gradient,
    known_objective,
)
from perl_eval.conformance.suite_worlds import WORLDS
from perl_eval.errors import OptionError, UserError

FUNCTIONS = [name for name in OBJECTIVE_VALUES if not name.startswith("group-normalised")]
SMALL = WorldShape("small", temperature=1.3, seed=5)


def differences(language: ListedLanguage, objective: str, step: float = 1e-5) -> torch.Tensor:
    """Central differences of the objective, computed word by word and without autograd."""
    found = torch.zeros_like(language.theta)
    for place in itertools.product(*map(range, language.theta.shape)):
        moved = [language.theta.clone() for _ in range(2)]
        moved[0][place] += step
        moved[1][place] -= step
        values = [float(OBJECTIVE_VALUES[objective](language, one)) for one in moved]
        found[place] = (values[0] - values[1]) / (2 * step)
    return found


@pytest.mark.parametrize("objective", FUNCTIONS)
@pytest.mark.parametrize("shape", [SMALL, WorldShape("no end", 4, 2, end_rate=0.0, reward="binary", seed=3)])
def test_gradients_are_those_of_finite_differences(objective: str, shape: WorldShape) -> None:
    language = listed(shape)
    found = exact_gradient(language, objective)
    assert float(found.norm()) > 1e-3
    torch.testing.assert_close(found, differences(language, objective), atol=1e-8, rtol=1e-5)


def test_the_kl_objective_by_hand() -> None:
    """One token, two words: J = p r1 + (1 - p) r0 - beta KL, dJ/dlogit = p (1 - p) (r1 - r0 - beta (logit gap))."""
    language = listed(WorldShape("coin", 2, 1, end_rate=0.0, beta=0.4, seed=9))
    p = math.exp(float(torch.log_softmax(language.theta[0], 0)[1]))
    gap = float((language.theta[0, 1] - language.theta[0, 0]) - (language.prior[0, 1] - language.prior[0, 0]))
    wanted = p * (1 - p) * (float(language.rewards[1] - language.rewards[0]) - 0.4 * gap)
    assert float(exact_gradient(language, "kl")[0, 1]) == pytest.approx(wanted, rel=1e-12)


def test_group_normalised_rewards_by_hand() -> None:
    """Binary rewards, groups of 2: A is +-1/sqrt(2) where one of two succeeds, so the gradient is sqrt(2) (1/2) dp."""
    language = listed(WorldShape("binary", 3, 2, reward="binary", seed=4))
    found, of_reward = (exact_gradient(language, name) for name in ("group-normalised", "reward"))
    # E[(A1 g1 + A2 g2) / 2] = 2 p (1 - p) (1/2) (1/sqrt 2) (grad p / p + grad p / (1 - p)) = grad p / sqrt 2
    torch.testing.assert_close(found, of_reward / math.sqrt(2))


@pytest.mark.parametrize("objective", ["kl", "target to policy", "jensen-shannon"])
def test_the_target_is_where_the_gradient_is_zero(objective: str) -> None:
    """The policy of the target: at each prefix, words in proportion to the target mass of what goes on with them."""
    language = listed(WorldShape("target", 3, 2, seed=6))
    mass = target_log_probs(language).exp()
    theta = torch.zeros_like(language.theta)
    for row, prefix in enumerate(language.prefixes):
        for word in range(language.shape.vocabulary):
            begins = [
                bool(language.mask[place, len(prefix)]) and tuple(tokens[: len(prefix) + 1]) == (*prefix, word)
                for place, tokens in enumerate(language.tokens.tolist())
            ]
            theta[row, word] = mass[torch.tensor(begins)].sum().log()
    torch.testing.assert_close(summed_log_probs(language, theta), target_log_probs(language))
    assert float(exact_gradient(language, objective, theta).abs().max()) < 1e-12
    assert float(exact_gradient(language, objective).abs().max()) > 1e-2


@pytest.mark.parametrize("shape", WORLDS, ids=lambda shape: shape.name)
def test_the_list_is_complete(shape: WorldShape) -> None:
    language = listed(shape)
    assert float(summed_log_probs(language, language.theta).exp().sum()) == pytest.approx(1, abs=1e-12)
    assert len({tuple(row) for row in language.tokens.tolist() if row}) <= len(language.tokens)
    whole = (
        shape.vocabulary**shape.longest
        if not shape.end_rate
        else sum((shape.vocabulary - 1) ** length for length in range(shape.longest + 1))
    )
    assert len(language.tokens) == whole
    assert bool(language.ended.all()) == (shape.end_rate == 0)


def test_sequences_end_once_and_last() -> None:
    assert list_sequences(3, 2, ends=True) == [(0,), (1, 0), (2, 0), (1, 1), (1, 2), (2, 1), (2, 2)]
    assert list_sequences(2, 2, ends=False) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_multisets_stand_for_all_orders() -> None:
    some, times = multisets(5, 3)
    every, _ = ordered(5, 3)
    assert (len(some), float(times.sum()), len(every)) == (35, 125.0, 125)


def test_worlds_differ_in_all_that_a_loss_can_depend_on() -> None:
    for name in ("vocabulary", "longest", "end_rate", "temperature", "group_size", "groups", "reward", "beta", "draws"):
        assert len({getattr(shape, name) for shape in WORLDS}) > 1, name


def test_rewards_are_as_named() -> None:
    lengths = listed(WorldShape("length", 3, 2, reward="length"))
    assert lengths.rewards.tolist() == (lengths.mask.sum(1) / 2).tolist()
    assert set(listed(WorldShape("binary", 3, 2, reward="binary")).rewards.tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    "wrong", [{"vocabulary": 1}, {"group_size": 1}, {"longest": 0}, {"beta": 0.0}, {"end_rate": 1.0}, {"groups": 0}]
)
def test_a_world_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        WorldShape("wrong", **wrong)  # type: ignore[arg-type]


def test_an_objective_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UserError, match="objective 'kll' of 'mine' is not known"):
        known_objective("kll", "mine")


def logits_of(language: ListedLanguage, chances: torch.Tensor) -> torch.Tensor:
    """Return theta whose policy is a distribution over all sequences, (P, V)."""
    counts = torch.zeros_like(language.theta)
    for row in range(len(chances)):
        for step in range(int(language.mask[row].sum())):
            counts[language.places[row, step], language.tokens[row, step]] += chances[row]
    return counts.clamp(min=1e-300).log() * language.shape.temperature


@pytest.mark.parametrize(("objective", "alpha"), [("1/2", 0.5), ("2", 2.0), ("kl", 1.0), ("mode-anchored kl", 1.0)])
def test_the_gradient_vanishes_at_the_target(objective: str, alpha: float) -> None:
    """Each regularised objective is at its maximum where `perl_eval.bayes.target` says that its target is."""
    language = listed(WorldShape("target", temperature=1.3, beta=0.9, seed=5))
    anchored = objective == "mode-anchored kl"
    rewards = anchored_rewards(language) if anchored else language.rewards
    prior = summed_log_probs(language, language.prior)
    evidence = alpha_regularised(rewards.numpy(), beta=0.9, alpha=alpha, log_mass=prior.numpy())
    target = (prior + torch.from_numpy(evidence)).exp()
    theta = logits_of(language, target)
    torch.testing.assert_close(summed_log_probs(language, theta).exp(), target, atol=1e-9, rtol=1e-9)
    name = objective if objective.endswith("kl") else f"reward less alpha-divergence {objective}"
    assert float(exact_gradient(language, name, theta).abs().max()) < 1e-9
    assert float(exact_gradient(language, name, language.prior).abs().max()) > 1e-2


def test_the_alpha_divergence_is_least_at_the_target() -> None:
    language = listed(SMALL)
    theta = logits_of(language, target_log_probs(language).exp())
    assert float(OBJECTIVE_VALUES["alpha-divergence 1/2"](language, theta)) == pytest.approx(0, abs=1e-12)
    assert float(exact_gradient(language, "alpha-divergence 1/2", theta).abs().max()) < 1e-9
