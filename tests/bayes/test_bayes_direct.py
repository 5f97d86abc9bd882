"""Where learning from labels directly ends, on a language that can be listed: every pair, by its chance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small_language import SEQUENCES, STATES, TOKENS, SmallWorld, kl

from perl_eval.training.direct_losses import direct_pair_loss, kto_loss

torch.set_num_threads(1)
LIVE = torch.tensor(STATES >= 0)
PLACES, SYMBOLS = torch.tensor(np.maximum(STATES, 0)), torch.tensor(TOKENS)
ALL = len(SEQUENCES)


@pytest.fixture(scope="module")
def world() -> SmallWorld:
    return SmallWorld(seed=4, beta=0.5)


def log_law(logits: torch.Tensor) -> torch.Tensor:
    return (torch.log_softmax(logits, -1)[PLACES, SYMBOLS] * LIVE).sum(1)


def minimised(world: SmallWorld, loss_of: Callable[[torch.Tensor], torch.Tensor], *, steps: int = 400) -> np.ndarray:
    """Return the law of the tabular policy that has the least loss, by L-BFGS from the prior."""
    logits = torch.tensor(world.prior.table[0]).requires_grad_()
    prior = torch.tensor(world.prior.exact[0])
    exactly = {"tolerance_grad": 1e-10, "tolerance_change": 0.0, "line_search_fn": "strong_wolfe"}
    optimizer = torch.optim.LBFGS([logits], max_iter=steps, **exactly)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(log_law(logits) - prior)
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return log_law(logits).numpy()


def pairs(world: SmallWorld) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return first and second of every pair, and the chance that both are drawn and the first preferred."""
    first, second = (one.ravel() for one in np.meshgrid(np.arange(ALL), np.arange(ALL), indexing="ij"))
    drawn = np.exp(world.prior.exact[0])
    better = 1 / (1 + np.exp(world.rewards[0][second] - world.rewards[0][first]))
    return torch.tensor(first), torch.tensor(second), torch.tensor(drawn[first] * drawn[second] * better)


def by_pairs(world: SmallWorld, flipped: float = 0.0, **options: Any) -> np.ndarray:
    """Return where a loss of pairs ends, a share of whose labels is flipped."""
    first, second, chance = pairs(world)
    chance = (1 - flipped) * chance + flipped * chance.view(ALL, ALL).T.reshape(-1)
    each = torch.vmap(lambda a, b: direct_pair_loss(a[None], b[None], beta=world.beta, **options))

    def loss(ratios: torch.Tensor) -> torch.Tensor:
        return (chance * each(ratios[first], ratios[second])).sum()

    return minimised(world, loss)


def test_dpo_ends_at_the_target_of_rl(world: SmallWorld) -> None:
    """Preferences by Bradley-Terry of the reward, every pair by its chance: prior exp(reward / beta) / Z, both ways."""
    law = by_pairs(world)
    assert kl(law, world.log_target[0]) < 1e-6
    assert kl(world.log_target[0], law) < 1e-6
    assert kl(world.prior.exact[0], world.log_target[0]) > 0.5
    implicit = world.beta * (law - world.prior.exact[0])
    shift = implicit - world.rewards[0]
    chance = np.exp(world.prior.exact[0])
    middle = float(chance @ shift)
    assert middle == pytest.approx(-world.beta * world.log_z[0], abs=1e-4)
    assert float(chance @ (shift - middle) ** 2) < 1e-6  # the reward itself, less a constant of the prompt


def test_flipped_labels_move_dpo_and_not_its_robust_form(world: SmallWorld) -> None:
    plain, robust = by_pairs(world, flipped=0.2), by_pairs(world, flipped=0.2, loss="robust", smoothing=0.2)
    assert kl(robust, world.log_target[0]) < 1e-6
    assert kl(plain, world.log_target[0]) > 0.1


def test_a_hinge_does_not_end_at_the_target(world: SmallWorld) -> None:
    """It asks for a margin, whatever the chance of a preference is."""
    assert kl(by_pairs(world, loss="hinge"), world.log_target[0]) > 0.1


def test_kto_ends_elsewhere_and_says_which_way(world: SmallWorld) -> None:
    """Labels by sigmoid of the reward: liked answers gain, but the law is not the target.

    Each answer's loss is flat at both ends, so the best is at one of them: the answers more often liked than not take
    all, and what is left of the others' spread is gone (arXiv 2402.01306 claims no target).
    """
    drawn = torch.tensor(np.exp(world.prior.exact[0]))
    liked = torch.sigmoid(torch.tensor(world.rewards[0]))

    def loss(ratios: torch.Tensor) -> torch.Tensor:
        z = (chances(ratios) * ratios).sum().clamp(min=0).detach()
        up, down = (
            torch.vmap(lambda r, y=y: kto_loss(r[None], torch.full((1,), y), z, beta=world.beta))(ratios)
            for y in (True, False)
        )
        return (drawn * (liked * up + (1 - liked) * down)).sum()

    def chances(ratios: torch.Tensor) -> torch.Tensor:
        return (ratios + torch.tensor(world.prior.exact[0])).exp()

    law = minimised(world, loss, steps=50)
    mean = float(np.exp(law) @ world.rewards[0])
    assert mean > float(np.exp(world.prior.exact[0]) @ world.rewards[0]) + 0.3
    assert kl(law, world.log_target[0]) > 0.1
    assert math.isfinite(mean)
