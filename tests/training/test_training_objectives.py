"""Losses and returns: figures by hand, scipy's, and gradients against a language small enough to enumerate."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_expit

from perl_eval.training.objectives import (
    beta_of,
    kl_loss,
    language_modelling_loss,
    leave_one_out,
    pairwise_loss,
    pointwise_loss,
    reinforce_loss,
    returns_to_go,
    token_rewards,
    value_loss,
)

numbers = st.floats(-30, 30)


def double(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_beta_of_the_papers_weight() -> None:
    assert beta_of(0.05) == pytest.approx(1 / 19, abs=1e-15)
    assert beta_of(0.0) == 0.0
    assert beta_of(0.5) == 1.0


@pytest.mark.parametrize("weight", [-0.01, 1.0, 1.5, math.nan])
def test_beta_of_a_weight_outside_its_range(weight: float) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        beta_of(weight)


@settings(deadline=None)
@given(st.floats(0, 0.99), numbers, st.floats(0, 30))
def test_both_forms_of_the_objective_rank_alike(weight: float, reward: float, kl: float) -> None:
    mixed = (1 - weight) * reward - weight * kl
    assert mixed == pytest.approx((1 - weight) * (reward - beta_of(weight) * kl), abs=1e-9)


def test_language_modelling_loss_is_the_mean_over_live_tokens() -> None:
    # (0.5 + 1.5 + 4) / 3; the 100 is masked
    log_probs = double([[-0.5, -1.5], [-4.0, -100.0]])
    live = torch.tensor([[True, True], [True, False]])
    assert float(language_modelling_loss(log_probs, live)) == pytest.approx(2.0)


@settings(deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6))
def test_pairwise_loss_is_bradley_terry(pairs: list[tuple[float, float]]) -> None:
    chosen, rejected = np.array(pairs).T
    loss = float(pairwise_loss(double(chosen), double(rejected)))
    assert loss == pytest.approx(-np.mean(log_expit(chosen - rejected)), abs=1e-10)


def test_pairwise_loss_at_no_difference_is_log_two() -> None:
    assert float(pairwise_loss(double([3.0]), double([3.0]))) == pytest.approx(math.log(2))


def test_pointwise_loss_has_no_misprint() -> None:
    # at label 0: -log sigmoid(-r); the paper's sigmoid(1 - r) would give log(1 + e) at r = 2 and not log(1 + e^2)
    assert float(pointwise_loss(double([2.0]), double([0.0]))) == pytest.approx(math.log1p(math.exp(2.0)))
    assert float(pointwise_loss(double([2.0]), double([1.0]))) == pytest.approx(math.log1p(math.exp(-2.0)))


@settings(deadline=None)
@given(st.lists(st.tuples(numbers, st.floats(0, 1)), min_size=1, max_size=6))
def test_pointwise_loss_is_cross_entropy(examples: list[tuple[float, float]]) -> None:
    rewards, labels = np.array(examples).T
    expected = -np.mean(labels * log_expit(rewards) + (1 - labels) * log_expit(-rewards))
    assert float(pointwise_loss(double(rewards), double(labels))) == pytest.approx(expected, abs=1e-9)


def test_pointwise_gradient_is_probability_less_label() -> None:
    rewards = double([-1.0, 0.3, 4.0]).requires_grad_()
    labels = double([1.0, 0.0, 1.0])
    pointwise_loss(rewards, labels).backward()
    assert rewards.grad is not None
    assert rewards.grad.numpy() == pytest.approx((expit(rewards.detach().numpy()) - labels.numpy()) / 3)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_token_rewards_sum_to_score_less_penalty(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=4))
    width = max(before + own for before, own in lengths) + 1
    live = torch.tensor([[b <= place < b + own for place in range(width)] for b, own in lengths])
    draw = st.lists(st.lists(numbers, min_size=width, max_size=width), min_size=len(lengths), max_size=len(lengths))
    ratio, beta = double(data.draw(draw)), data.draw(st.floats(0, 3))
    scores = double(data.draw(st.lists(numbers, min_size=len(lengths), max_size=len(lengths))))
    rewards = token_rewards(scores, ratio, live, beta=beta)
    for index, (before, own) in enumerate(lengths):
        penalty = beta * float(ratio[index, before : before + own].sum())
        assert float(rewards[index].sum()) == pytest.approx(float(scores[index]) - penalty, abs=1e-9)
        last = before + own - 1
        assert float(rewards[index, last] + beta * ratio[index, last]) == pytest.approx(float(scores[index]), abs=1e-9)
    assert not rewards[~live].any()


def test_token_rewards_carry_no_gradient() -> None:
    ratio = double([[0.1, 0.2]]).requires_grad_()
    assert not token_rewards(double([1.0]), ratio, torch.tensor([[True, True]]), beta=0.5).requires_grad


@settings(deadline=None)
@given(st.lists(st.lists(numbers, min_size=5, max_size=5), min_size=1, max_size=3))
def test_returns_to_go(rewards: list[list[float]]) -> None:
    expected = [[np.sum(row[place:]) for place in range(5)] for row in rewards]
    assert returns_to_go(double(rewards)).numpy() == pytest.approx(np.array(expected), abs=1e-9)


def test_value_loss_by_hand_and_its_gradient() -> None:
    values, returns = double([[1.0, 3.0]]).requires_grad_(), double([[2.0, 9.0]]).requires_grad_()
    loss = value_loss(values, returns, torch.tensor([[True, False]]))
    loss.backward()
    assert float(loss.detach()) == 1.0
    assert returns.grad is None
    assert values.grad is not None
    assert values.grad.tolist() == [[-2.0, 0.0]]


END, VOCABULARY, LONGEST = 0, 3, 3
PREFIXES = [prefix for size in range(LONGEST) for prefix in itertools.product((1, 2), repeat=size)]
SEQUENCES = [(*prefix, END) for prefix in PREFIXES] + list(itertools.product((1, 2), repeat=LONGEST))
Baseline = Callable[[tuple[int, ...]], float]


class Language:
    """All sequences of tokens 1 and 2 that stop at token 0 or at three tokens; one row of logits a prefix."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.logits = double(random.normal(size=(len(PREFIXES), VOCABULARY))).requires_grad_()
        self.prior = torch.log_softmax(double(random.normal(size=(len(PREFIXES), VOCABULARY))), -1)
        self.reward = dict(zip(SEQUENCES, random.normal(size=len(SEQUENCES)), strict=True))

    @staticmethod
    def places(sequence: tuple[int, ...]) -> list[int]:
        return [PREFIXES.index(sequence[:place]) for place in range(len(sequence))]

    def log_probs(self, sequence: tuple[int, ...]) -> torch.Tensor:
        return torch.log_softmax(self.logits, -1)[self.places(sequence), list(sequence)]

    def prior_log_probs(self, sequence: tuple[int, ...]) -> torch.Tensor:
        return self.prior[self.places(sequence), list(sequence)]

    def objective(self, beta: float) -> torch.Tensor:
        """Return E[r] - beta KL(pi || prior), written out over all sequences."""
        total = double(0.0)
        for sequence in SEQUENCES:
            own = self.log_probs(sequence).sum()
            prior = self.prior_log_probs(sequence).sum()
            total = total + own.exp() * (self.reward[sequence] - beta * (own - prior))
        return total

    def sampled_gradient(self, sequence: tuple[int, ...], beta: float, baseline: Baseline) -> torch.Tensor:
        """Return the gradient that the trainer's functions give for one sampled sequence, padded on both sides."""
        own = self.log_probs(sequence)
        size = len(sequence)
        ratio = (own - self.prior_log_probs(sequence)).detach()
        pad = torch.nn.functional.pad
        live = pad(torch.ones(1, size, dtype=torch.bool), (1, 2))
        rewards = token_rewards(double([self.reward[sequence]]), pad(ratio[None], (1, 2), value=5.0), live, beta=beta)
        values = pad(double([[baseline(sequence[:place]) for place in range(size)]]), (1, 2), value=3.0)
        loss = reinforce_loss(pad(own[None], (1, 2)), returns_to_go(rewards) - values, live)
        (gradient,) = torch.autograd.grad(loss, self.logits)
        return gradient

    def moments(self, beta: float, baseline: Baseline) -> tuple[torch.Tensor, float]:
        """Return exact mean and total variance of the sampled gradient."""
        chances = [float(self.log_probs(sequence).sum().exp().detach()) for sequence in SEQUENCES]
        gradients = [self.sampled_gradient(sequence, beta, baseline) for sequence in SEQUENCES]
        mean = torch.stack([chance * g for chance, g in zip(chances, gradients, strict=True)]).sum(0)
        second = sum(chance * float(g.square().sum()) for chance, g in zip(chances, gradients, strict=True))
        return mean, second - float(mean.square().sum())


def nothing(_: tuple[int, ...]) -> float:
    return 0.0


def prefix_value(prefix: tuple[int, ...]) -> float:
    return 0.7 - 0.4 * len(prefix) + 0.3 * sum(prefix)


def test_the_language_is_complete() -> None:
    language = Language(0)
    assert len(set(SEQUENCES)) == 15
    assert sum(float(language.log_probs(sequence).sum().exp().detach()) for sequence in SEQUENCES) == pytest.approx(1.0)


@pytest.mark.parametrize("baseline", [nothing, prefix_value])
@pytest.mark.parametrize("beta", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_reinforce_is_the_gradient_of_the_anchored_objective(seed: int, beta: float, baseline: Baseline) -> None:
    language = Language(seed)
    (exact,) = torch.autograd.grad(-language.objective(beta), language.logits)
    mean, _ = language.moments(beta, baseline)
    assert float((mean - exact).abs().max()) < 1e-12
    assert float(exact.abs().max()) > 0.01


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_baseline_near_the_return_lowers_variance(seed: int) -> None:
    language = Language(seed)
    language.reward = {sequence: reward + 5.0 for sequence, reward in language.reward.items()}
    _, without = language.moments(0.3, nothing)
    _, with_mean = language.moments(0.3, lambda _: 5.0)
    assert with_mean < 0.2 * without


def test_reinforce_sums_over_tokens_and_averages_over_sequences() -> None:
    # -( (-1)(2) + (-3)(1) + (-2)(4) ) / 2
    log_probs, advantages = double([[-1.0, -3.0], [-2.0, -9.0]]), double([[2.0, 1.0], [4.0, 1.0]])
    live = torch.tensor([[True, True], [True, False]])
    assert float(reinforce_loss(log_probs, advantages, live)) == pytest.approx(6.5)
    advantages.requires_grad_()
    assert not reinforce_loss(log_probs, advantages, live).requires_grad


def test_leave_one_out_takes_off_the_mean_of_the_others() -> None:
    scores = torch.tensor([1.0, 2.0, 6.0, 5.0, 5.0, 5.0])
    # First prompt: 1 - (2+6)/2, 2 - (1+6)/2, 6 - (1+2)/2; second prompt: all alike.
    expected = torch.tensor([-3.0, -1.5, 4.5, 0.0, 0.0, 0.0])
    assert torch.equal(leave_one_out(scores, group=3), expected)
    assert leave_one_out(scores, group=1) is scores


@pytest.mark.parametrize("beta", [0.0, 0.4])
def test_leave_one_out_keeps_the_gradient(beta: float) -> None:
    """Over all pairs of sequences: the other sample's score is independent of this one's, so the mean stays exact."""
    language = Language(3)
    (exact,) = torch.autograd.grad(-language.objective(beta), language.logits)
    total = torch.zeros_like(exact)
    rewards = dict(language.reward)
    chance = {sequence: float(language.log_probs(sequence).sum().exp().detach()) for sequence in SEQUENCES}
    for one, two in itertools.product(SEQUENCES, repeat=2):
        centred = leave_one_out(double([rewards[one], rewards[two]]), group=2).tolist()
        for sequence, reward in ((one, centred[0]), (two, centred[1])):
            language.reward = {sequence: reward}
            total += chance[one] * chance[two] * language.sampled_gradient(sequence, beta, nothing) / 2
    assert float((total - exact).abs().max()) < 1e-12


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_pieces_of_a_step_add_up_to_its_loss(data: st.DataObject) -> None:
    """With the step's count as divisor the losses of any two pieces sum to the loss of the whole."""
    rows, cut = data.draw(st.integers(2, 6)), data.draw(st.integers(1, 5))
    cut = min(cut, rows - 1)
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    table, other = double(random.normal(size=(rows, 4))), double(random.normal(size=(rows, 4)))
    live = torch.tensor(random.random((rows, 4)) < 0.6)
    live[:, 0] = True
    labels = double(random.integers(0, 2, rows))
    tokens = int(live.sum())
    parts = (slice(0, cut), slice(cut, rows))

    def added(loss: Callable[..., torch.Tensor], *tensors: torch.Tensor, count: int) -> float:
        return sum(float(loss(*(tensor[part] for tensor in tensors), count=count)) for part in parts)

    for loss, tensors, count in (
        (language_modelling_loss, (table, live), tokens),
        (pairwise_loss, (table[:, 0], other[:, 0]), rows),
        (pointwise_loss, (table[:, 0], labels), rows),
        (reinforce_loss, (table, other, live), rows),
        (kl_loss, (table, other, live), rows),
        (value_loss, (table, other, live), tokens),
    ):
        assert added(loss, *tensors, count=count) == pytest.approx(float(loss(*tensors)), abs=1e-9)  # type: ignore[operator]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_kl_loss_has_the_gradient_of_the_kl(seed: int) -> None:
    """Summed over all sequences by their chance; the mean of k1 as a loss, beside it, has no gradient at all."""
    language = Language(seed)
    chance = {sequence: language.log_probs(sequence).sum().exp() for sequence in SEQUENCES}
    kl = sum(chance[one] * (language.log_probs(one) - language.prior_log_probs(one)).sum() for one in SEQUENCES)
    (exact,) = torch.autograd.grad(kl, language.logits)
    total, plain = torch.zeros_like(exact), torch.zeros_like(exact)
    for one in SEQUENCES:
        log_probs = language.log_probs(one).unsqueeze(0)
        ratio = log_probs - language.prior_log_probs(one)
        live = torch.ones_like(ratio, dtype=torch.bool)
        weight = float(chance[one].detach())
        (found,) = torch.autograd.grad(kl_loss(log_probs, ratio, live), language.logits, retain_graph=True)
        (k1,) = torch.autograd.grad(ratio.sum(), language.logits)
        total, plain = total + weight * found, plain + weight * k1
    assert float((total - exact).abs().max()) < 1e-12
    assert float(exact.abs().max()) > 0.01
    assert float(plain.abs().max()) < 1e-12


def k2(ratio: torch.Tensor) -> torch.Tensor:
    return ratio.square() / 2


def k3(ratio: torch.Tensor) -> torch.Tensor:
    """Return r - 1 - log r of r = prior / pi, whose logarithm is minus the ratio."""
    return (-ratio).exp() - 1 + ratio


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_only_the_kl_loss_has_the_gradient_of_a_sequences_kl(seed: int) -> None:
    """What k2 and k3 are as losses: right for one action, each for its own KL, and wrong by the token of sequences."""
    language = Language(seed)
    terms: dict[str, torch.Tensor] = dict.fromkeys(
        ("KL(pi || prior)", "KL(prior || pi)", "ours", "k2", "k3", "k2 of one action", "k3 of one action"), double(0.0)
    )
    for one in SEQUENCES:
        log_probs, prior = language.log_probs(one), language.prior_log_probs(one)
        ratio, chance = log_probs - prior, log_probs.sum().exp()
        live = torch.ones_like(ratio, dtype=torch.bool)
        parts = {
            "KL(pi || prior)": chance * ratio.sum(),
            "KL(prior || pi)": -prior.sum().exp() * ratio.sum(),
            "ours": chance.detach() * kl_loss(log_probs[None], ratio[None], live[None]),
            "k2": chance.detach() * k2(ratio).sum(),
            "k3": chance.detach() * k3(ratio).sum(),
            "k2 of one action": chance.detach() * k2(ratio.sum()),
            "k3 of one action": chance.detach() * k3(ratio.sum()),
        }
        terms = {name: terms[name] + part for name, part in parts.items()}
    slopes = {name: torch.autograd.grad(term, language.logits, retain_graph=True)[0] for name, term in terms.items()}
    exact, other = slopes["KL(pi || prior)"], slopes["KL(prior || pi)"]

    def error(name: str) -> float:
        return float((slopes[name] - exact).norm() / exact.norm())

    assert error("ours") < 1e-12
    assert error("k2 of one action") < 1e-12
    assert float((slopes["k3 of one action"] - other).abs().max()) < 1e-12
    assert min(error(name) for name in ("k2", "k3", "KL(prior || pi)")) > 0.2


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_logged_kl_and_k3_of_prior_over_policy_have_the_kl_as_mean(seed: int) -> None:
    """The sign: of policy over prior, as some trainers log it, k3 estimates neither KL."""
    language = Language(seed)
    means = dict.fromkeys(("k1", "k3", "k3 the wrong way round"), 0.0)
    forward = reverse = 0.0
    with torch.no_grad():
        for one in SEQUENCES:
            own, prior = float(language.log_probs(one).sum()), float(language.prior_log_probs(one).sum())
            reverse += math.exp(own) * (own - prior)
            forward += math.exp(prior) * (prior - own)
            ratio = (language.log_probs(one) - language.prior_log_probs(one))[None]
            paid = token_rewards(double([0.0]), ratio, torch.ones_like(ratio, dtype=torch.bool), beta=1.0)
            means["k1"] -= math.exp(own) * float(paid.sum())
            means["k3"] += math.exp(own) * float(k3(ratio.sum()))
            means["k3 the wrong way round"] += math.exp(own) * float(k3(-ratio.sum()))
    assert means["k1"] == pytest.approx(reverse, abs=1e-12)
    assert means["k3"] == pytest.approx(reverse, abs=1e-12)
    assert min(abs(means["k3 the wrong way round"] - kl) for kl in (reverse, forward)) > 0.1


def test_the_kl_as_a_loss_and_in_the_reward_have_one_gradient() -> None:
    """The way it enters changes the estimate of a sample only through the baseline."""
    language = Language(4)
    total = {}
    for how in ("loss", "reward"):
        total[how] = torch.zeros_like(language.logits)
        for one in SEQUENCES:
            log_probs = language.log_probs(one).unsqueeze(0)
            ratio = (log_probs - language.prior_log_probs(one)).detach()
            live = torch.ones_like(ratio, dtype=torch.bool)
            inside = 0.4 if how == "reward" else 0.0
            returns = returns_to_go(token_rewards(double([language.reward[one]]), ratio, live, beta=inside))
            loss = reinforce_loss(log_probs, returns - 0.7, live)
            if how == "loss":
                loss = loss + 0.4 * kl_loss(log_probs, ratio, live)
            weight = float(language.log_probs(one).sum().exp().detach())
            total[how] += weight * torch.autograd.grad(loss, language.logits)[0]
    assert torch.allclose(total["loss"], total["reward"], atol=1e-12)
