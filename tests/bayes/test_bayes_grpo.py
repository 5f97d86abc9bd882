"""Where GRPO ends, on a language that can be listed, by where its KL enters and how its loss is averaged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_language import STATES, TOKENS, SmallWorld, kl

from perl_eval.training.clipped_policy_gradient import Clipping, group_advantages
from perl_eval.training.policy_step import Piece
from perl_eval.training.reinforce import PolicyOptions, grpo

torch.set_num_threads(1)
LIVE = torch.tensor(STATES >= 0)
PLACES, SYMBOLS = torch.tensor(np.maximum(STATES, 0)), torch.tensor(TOKENS)
BATCH = 256


@pytest.fixture(scope="module")
def world() -> SmallWorld:
    return SmallWorld(seed=4, beta=0.5)


def options_of(enters: Any, **clipping: Any) -> PolicyOptions:
    return PolicyOptions(
        objective="grpo",
        beta=0.5,
        batch=BATCH,
        group=BATCH,
        kl=enters,
        max_new_tokens=STATES.shape[1],
        max_tokens=STATES.shape[1] + 1,
        clipping=Clipping(**clipping),
    )


def trained(world: SmallWorld, options: PolicyOptions, *, batches: int) -> np.ndarray:
    """Return the law of a tabular policy after so many batches of samples."""
    prior, scores = torch.tensor(world.prior.table[0]), torch.tensor(world.rewards[0])
    logits = prior.clone().requires_grad_()
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    updates = options.clipping.updates

    def of(table: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return table[PLACES[rows], SYMBOLS[rows]] * LIVE[rows]

    def law() -> torch.Tensor:
        return of(torch.log_softmax(logits, -1), torch.arange(len(LIVE))).sum(1).detach()

    for number in range(batches):
        rows = torch.multinomial(law().exp(), BATCH, replacement=True, generator=generator)
        live, anchor = LIVE[rows], of(prior, rows)
        old = of(torch.log_softmax(logits, -1), rows).detach()
        paid = options.kl_strength * (old - anchor).sum(1) if options.kl == "reward" else 0.0
        advantages = group_advantages(scores[rows] - paid, group=BATCH, scale=options.clipping.scale)
        for update in range(updates):
            optimizer.param_groups[0]["lr"] = 0.1 * (1 - 0.99 * (number * updates + update) / (batches * updates))
            own = of(torch.log_softmax(logits, -1), rows)
            nothing, count = torch.zeros_like(own), int(live.sum())
            piece = Piece(own, nothing, (own - anchor).detach(), advantages, live, BATCH, count, anchor, old)
            optimizer.zero_grad()
            torch.stack(list(grpo(piece, options).policy.values())).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return law().numpy()


@pytest.mark.parametrize(
    "clipping",
    [
        {"form": "dr_grpo", "scale": "none"},
        {"form": "grpo", "scale": "group"},
        {"form": "dapo", "scale": "none", "updates": 4},
        {"form": "grpo", "scale": "none", "ratio": "sequence", "updates": 4},
    ],
)
def test_with_the_kl_in_the_score_grpo_ends_at_the_target(world: SmallWorld, clipping: dict[str, Any]) -> None:
    """At the target all advantages are 0, whatever tokens are averaged by and rewards divided by."""
    law = trained(world, options_of("reward", **clipping), batches=400 // clipping.get("updates", 1))
    assert kl(law, world.log_target[0]) < 0.02
    assert kl(world.log_target[0], law) < 0.02


@pytest.mark.parametrize("form", ["dr_grpo", "grpo"])
def test_with_k3_in_the_loss_it_ends_elsewhere(world: SmallWorld, form: Any) -> None:
    """The gradient of k3 is that of the KL of the prior to the policy, by the token: 0.33 nats from the target here."""
    law = trained(world, options_of("k3", form=form, scale="none"), batches=400)
    assert kl(law, world.log_target[0]) > 0.2
    assert kl(world.log_target[0], law) > 0.2
    assert kl(world.prior.exact[0], world.log_target[0]) > 0.9
