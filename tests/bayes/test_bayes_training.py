"""Training objectives on a tabular policy: the gradient by enumeration, and where each of them ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small_language import SEQUENCES, STATES, TOKENS, SmallWorld, kl

from perl_eval.training.f_divergence import (
    Aim,
    Objective,
    divergence_rewards,
    gap_below,
    log_inverse_ratio,
    sample_rewards,
)
from perl_eval.training.objectives import beta_of
from perl_eval.training.reinforce import Piece, PolicyOptions, reinforce

torch.set_num_threads(1)
LIVE = torch.tensor(STATES >= 0)
PLACES = torch.tensor(np.maximum(STATES, 0))
SYMBOLS = torch.tensor(TOKENS)


def options_of(aim: Aim, batch: int) -> PolicyOptions:
    return PolicyOptions(objective=aim.objective, beta=aim.beta, group=aim.group, batch=batch)


def loss_of(own: torch.Tensor, ratio: torch.Tensor, live: torch.Tensor, scores: torch.Tensor, aim: Aim) -> torch.Tensor:
    """Return the policy's loss as `train policy` takes it, with values of zero."""
    rewards = sample_rewards(scores, ratio.sum(1), aim)
    piece = Piece(own, torch.zeros_like(own), ratio, rewards, live, len(own), int(live.sum()))
    return torch.stack(list(reinforce(piece, options_of(aim, len(own))).policy.values())).sum()


class Tabular:
    """A softmax policy with a row of logits a prefix, trained as `train policy` trains: sample, reward, one step."""

    def __init__(self, world: SmallWorld, aim: Aim, *, seed: int = 0) -> None:
        self.world, self.aim = world, aim
        self.prior = torch.tensor(world.prior.table[0])
        self.logits = self.prior.clone().requires_grad_()
        self.generator = torch.Generator().manual_seed(seed)
        self.scores = torch.tensor(world.rewards[0])

    def token_log_probs(self, table: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return table[PLACES[rows], SYMBOLS[rows]] * LIVE[rows]

    def log_law(self) -> np.ndarray:
        with torch.no_grad():
            every = torch.arange(len(SEQUENCES))
            return self.token_log_probs(torch.log_softmax(self.logits, -1), every).sum(1).numpy()

    def loss(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the loss of some samples by the trainer's functions; a prompt's samples stand side by side."""
        own = self.token_log_probs(torch.log_softmax(self.logits, -1), rows)
        ratio = (own - self.token_log_probs(self.prior, rows)).detach()
        return loss_of(own, ratio, LIVE[rows], self.scores[rows], self.aim)

    def train(self, *, steps: int, batch: int, learning_rate: float) -> np.ndarray:
        optimizer = torch.optim.Adam([self.logits], lr=learning_rate)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = learning_rate * (1 - 0.99 * step / steps)
            chances = torch.tensor(np.exp(self.log_law()))
            rows = torch.multinomial(chances, batch, replacement=True, generator=self.generator)
            optimizer.zero_grad()
            self.loss(rows).backward()
            optimizer.step()
        return self.log_law()


def entropy(log_law: np.ndarray) -> float:
    return -float(np.exp(log_law) @ log_law)


def total_variation(log_p: np.ndarray, log_q: np.ndarray) -> float:
    return float(np.abs(np.exp(log_p) - np.exp(log_q)).sum() / 2)


@pytest.fixture(scope="module")
def world() -> SmallWorld:
    return SmallWorld(seed=4, beta=0.5)


def divergence(objective: Objective, log_policy: torch.Tensor, log_target: torch.Tensor) -> torch.Tensor:
    """Return each divergence from its definition."""
    p, q = log_policy.exp(), log_target.exp()
    if objective == "kl_rl":
        return (p * (log_policy - log_target)).sum()
    if objective == "forward_kl":
        return (q * (log_target - log_policy)).sum()
    if objective == "tv":
        return (p - q).abs().sum() / 2
    middle = ((p + q) / 2).log()
    return (p * (log_policy - middle)).sum() + (q * (log_target - middle)).sum()


@pytest.mark.parametrize("objective", ["kl_rl", "forward_kl", "js", "tv"])
def test_rewards_are_minus_the_derivative_of_the_divergence(world: SmallWorld, objective: Objective) -> None:
    """E_policy[reward grad log policy] is minus the gradient of D(policy || target), summed over all sequences."""
    log_target = torch.tensor(world.log_target[0])
    noise = np.random.default_rng(5).normal(size=world.prior.table[0].shape) / 2
    logits = torch.tensor(world.prior.table[0] + noise).requires_grad_()
    own = (torch.log_softmax(logits, -1)[PLACES, SYMBOLS] * LIVE).sum(1)
    (exact,) = torch.autograd.grad(divergence(objective, own, log_target), logits, retain_graph=True)
    rewards = divergence_rewards(log_target - own.detach(), objective)
    (found,) = torch.autograd.grad(-(own.exp().detach() * rewards * own).sum(), logits)
    assert float((found - exact).abs().max()) < 1e-12
    assert float(exact.abs().max()) > 0.01


def test_reinforce_lowers_no_divergence() -> None:
    with pytest.raises(ValueError, match="lowers no divergence"):
        divergence_rewards(torch.zeros(1), "reinforce")


def test_rewards_by_hand() -> None:
    """Two prompts of two samples at beta 1: weights 3 and 1 over their mean 2, then two alike."""
    scores = torch.tensor([math.log(3.0) + 0.2, -0.3, 5.0, 5.0], dtype=torch.float64)
    ratio = torch.tensor([0.2, -0.3, 0.0, 0.0], dtype=torch.float64)

    def rewards(objective: Objective) -> list[float]:
        return sample_rewards(scores, ratio, Aim(objective, 1.0, 2)).tolist()

    assert log_inverse_ratio(scores, ratio, Aim("js", 1.0, 2)).exp().tolist() == pytest.approx([1.5, 0.5, 1.0, 1.0])
    assert rewards("forward_kl") == pytest.approx([1.0, -1.0, 0.0, 0.0])
    gap = math.log(2.5) - math.log(1.5)
    assert rewards("js") == pytest.approx([gap, -gap, 0.0, 0.0])
    assert rewards("tv") == pytest.approx([1.0, -1.0, 0.0, 0.0])
    difference = math.log(3.0) + 0.5
    for objective in ("reinforce", "kl_rl"):
        assert rewards(objective) == pytest.approx([difference, -difference, 0.0, 0.0])


@pytest.mark.parametrize("shift", [-4000.0, 4000.0])
def test_z_of_rewards_far_from_zero(shift: float) -> None:
    """In single precision exp overflows at 89: by log-sum-exp a shift of all rewards leaves every figure."""
    scores = torch.tensor([3.0, 0.0, 0.0, 0.0]) + shift
    aim = Aim("forward_kl", 1.0, 4)
    # weights e^3, 1, 1, 1 over their mean
    mean = (math.exp(3) + 3) / 4
    expected = [3 - math.log(mean), *[-math.log(mean)] * 3]
    assert log_inverse_ratio(scores, torch.zeros(4), aim).tolist() == pytest.approx(expected, abs=1e-3)
    gap, effective = gap_below(scores, torch.zeros(4), aim)
    assert gap == pytest.approx(math.log(mean) - 0.75, abs=1e-3)
    assert effective == pytest.approx((math.exp(3) + 3) ** 2 / (math.exp(6) + 3), rel=1e-3)


def test_kl_is_paid_by_the_token_in_kl_rl_only() -> None:
    """Gradients by each token's log-probability are minus its return over the number of sequences."""
    scores, ratio = torch.tensor([1.0, 1.0]), torch.tensor([[0.5, 0.25], [0.5, 0.0]])
    live = torch.tensor([[True, True], [True, False]])

    def returns(aim: Aim) -> list[list[float]]:
        own = torch.full((2, 2), -1.0, requires_grad=True)
        (slope,) = torch.autograd.grad(loss_of(own, ratio, live, scores, aim), own)
        return (-2 * slope).tolist()

    assert returns(Aim("kl_rl", 2.0, 1)) == [[pytest.approx(-0.5), pytest.approx(0.5)], [pytest.approx(0.0), 0.0]]
    assert returns(Aim("reinforce", 2.0, 1)) == [[1.0, 1.0], [1.0, 0.0]]
    # Whole samples count: ratios 0.75 and 0.5, so weights over Z of exp(-+0.125) / cosh(0.125).
    better = pytest.approx(2 * math.tanh(0.125), abs=1e-6)
    worse = pytest.approx(-2 * math.tanh(0.125), abs=1e-6)
    assert returns(Aim("forward_kl", 2.0, 2)) == [[worse, worse], [better, 0.0]]


@pytest.mark.parametrize("objective", ["forward_kl", "js", "tv"])
def test_what_needs_a_target_or_z_is_refused_without(objective: Objective) -> None:
    with pytest.raises(ValueError, match="needs a target"):
        Aim(objective, 0.0, 4)
    with pytest.raises(ValueError, match="group is 1"):
        Aim(objective, 0.5, 1)
    Aim("kl_rl", 0.0, 1)


def test_at_the_target_no_sample_is_better_than_another(world: SmallWorld) -> None:
    """Z from a prompt's own samples biases the way there and not the end: at the target every reward is equal."""
    rows = torch.tensor([3, 17, 40, 80, 3, 5])
    ratio = torch.tensor(world.log_target[0] - world.prior.exact[0])[rows]
    scores = torch.tensor(world.rewards[0])[rows]
    for objective in ("forward_kl", "js"):
        found = sample_rewards(scores, ratio, Aim(objective, world.beta, 6))
        assert float(found.abs().max()) < 1e-9
    assert log_inverse_ratio(scores, ratio, Aim("tv", world.beta, 6)).tolist() == pytest.approx([0.0] * 6, abs=1e-9)


# ------------------------------------------------------------------------------------------ where training ends


def test_the_target_is_broad_and_far_from_the_prior(world: SmallWorld) -> None:
    assert kl(world.log_target[0], world.prior.exact[0]) > 0.9
    assert entropy(world.log_target[0]) > 3.0
    assert total_variation(world.prior.exact[0], world.log_target[0]) > 0.4


@pytest.mark.parametrize("objective", ["kl_rl", "forward_kl", "js", "tv"])
def test_training_reaches_the_target(world: SmallWorld, objective: Objective) -> None:
    law = Tabular(world, Aim(objective, world.beta, 256)).train(steps=600, batch=256, learning_rate=0.1)
    assert kl(law, world.log_target[0]) < 0.01
    assert kl(world.log_target[0], law) < 0.01
    assert total_variation(law, world.log_target[0]) < 0.03


@pytest.mark.parametrize("objective", ["forward_kl", "js", "tv"])
def test_two_samples_a_prompt_give_z_enough_to_reach_the_target(world: SmallWorld, objective: Objective) -> None:
    law = Tabular(world, Aim(objective, world.beta, 2)).train(steps=600, batch=256, learning_rate=0.1)
    assert kl(law, world.log_target[0]) < 0.01


def test_reward_alone_collapses(world: SmallWorld) -> None:
    """Without KL the end is a point mass on what is rewarded best, whatever beta is (arXiv 2205.11275, section 3)."""
    law = Tabular(world, Aim("reinforce", world.beta, 256)).train(steps=600, batch=256, learning_rate=0.2)
    assert entropy(law) < 0.05 * entropy(world.prior.exact[0])
    assert float(np.exp(law) @ world.rewards[0]) > float(np.exp(world.log_target[0]) @ world.rewards[0])
    assert kl(law, world.log_target[0]) > 1.0


def test_mixing_weight_b_trains_towards_the_target_of_its_beta() -> None:
    """PE-RLHF's b = 1/3 is beta = 1/2: what `kl_rl` reaches is prior exp(2 r) / Z."""
    world = SmallWorld(seed=6, beta=0.5)
    law = Tabular(world, Aim("kl_rl", beta_of(1 / 3), 64)).train(steps=600, batch=256, learning_rate=0.1)
    assert kl(law, world.log_target[0]) < 0.01


def test_the_gap_is_bounded_from_below_and_closes(world: SmallWorld) -> None:
    """In expectation the figure logged while training is under beta KL(policy || target), and near it with many."""
    aim = Aim("kl_rl", world.beta, 64)
    prior, target = world.prior.exact[0], world.log_target[0]
    truth = world.beta * kl(prior, target)
    random = np.random.default_rng(0)
    found = {}
    for group in (2, 64, 2048):
        rows = random.choice(len(prior), (200, group), p=np.exp(prior)).ravel()
        scores = torch.tensor(world.rewards[0][rows])
        found[group], effective = gap_below(scores, torch.zeros(len(rows)), Aim("kl_rl", world.beta, group))
        assert 1 <= effective <= group
    assert found[2] < found[64] < truth
    assert found[2048] == pytest.approx(truth, rel=0.05)
    at_target = random.choice(len(prior), 640, p=np.exp(target))
    scores, ratio = (torch.tensor(part[at_target]) for part in (world.rewards[0], target - prior))
    gap, effective = gap_below(scores, ratio, aim)
    assert gap == pytest.approx(0.0, abs=1e-9)
    assert effective == pytest.approx(64.0)
