"""The KL of the whole softmax: against the sum over the vocabulary, and beside k1: the same mean, less variance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models
import torch

from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import open_backbone
from perl_eval.models.generate import Rollout
from perl_eval.models.log_probs import full_kl
from perl_eval.models.tokenize import PaddedBatch, pad
from perl_eval.sources import rows
from perl_eval.training.policy import POLICY, PolicyOptions, PolicyTrainer
from perl_eval.training.reinforce import cast

OPTIONS = PolicyOptions(
    batch=256, max_new_tokens=6, max_tokens=40, missing_end_reward=0.0, temperature=1.3, lora=LoraShape(8), full_kl=True
)


@pytest.fixture(scope="module")
def made(room: Path, prior: Path) -> PolicyTrainer:
    place = tiny_models.write_rows(room / "kl-prompts", train=tiny_models.prompts(1, 8))
    backbone = open_backbone(prior)
    found = list(rows.read(place, "train"))
    trainer = PolicyTrainer(
        cast(backbone, OPTIONS, seed=1), found, lambda _, given: [float(len(one.ids)) for one in given], OPTIONS, seed=1
    )
    tiny_models.stir(backbone, POLICY, size=0.2)
    return trainer


@torch.no_grad()
def both(made: PolicyTrainer, rollouts: list[Rollout], most: int = 0) -> tuple[PaddedBatch, torch.Tensor, torch.Tensor]:
    """Return the samples, k1 and the full KL of each token."""
    batch = pad([one.encoded for one in rollouts], pad_id=made.backbone.pad_id)
    with made.roles.prior.on():
        anchor, anchored = made.roles.prior.log_probs(batch, OPTIONS.temperature)
    with made.roles.policy.on():
        own, hidden = made.roles.policy.log_probs(batch, OPTIONS.temperature)
    whole = full_kl((made.backbone, hidden), (made.backbone, anchored), batch, OPTIONS.temperature, most_logits=most)
    return batch, own - anchor, whole


def test_it_is_the_sum_over_the_vocabulary(made: PolicyTrainer) -> None:
    _, rollouts = made.sample(0)
    batch, _, found = both(made, rollouts[:8])
    layer = made.backbone.output_layer
    with torch.no_grad():
        tables = []
        for role in (made.roles.policy, made.roles.prior):
            with role.on():
                logits = torch.nn.functional.linear(role.backbone.hidden(batch), layer.weight, layer.bias)
            tables.append(torch.log_softmax(logits / OPTIONS.temperature, -1))
    wanted = (tables[0].exp() * (tables[0] - tables[1])).sum(-1)
    for row, column in batch.trained.nonzero().tolist():
        assert found[row, column] == pytest.approx(float(wanted[row, column - 1]), abs=1e-5)
    assert not found[~batch.trained].any()
    assert float(found.max()) > 0.01


def test_chunks_change_nothing(made: PolicyTrainer) -> None:
    _, rollouts = made.sample(0)
    assert torch.allclose(both(made, rollouts[:8])[2], both(made, rollouts[:8], most=1)[2], atol=1e-6)


def test_it_has_the_mean_of_k1_and_less_variance(made: PolicyTrainer) -> None:
    """2,048 samples of the policy: the difference of the means is within 4 of its standard errors."""
    totals = []
    for step in range(8):
        _, rollouts = made.sample(step)
        _, k1, whole = both(made, rollouts)
        totals.append(torch.stack([k1.sum(1), whole.sum(1)]))
    single, full = torch.cat(totals, 1)
    gap = single - full
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / len(gap) ** 0.5
    assert float(full.mean()) > 0.02
    assert float(full.var()) < 0.7 * float(single.var())


def test_a_step_logs_it_beside_k1_and_learns_the_same(made: PolicyTrainer, prior: Path) -> None:
    curve = made.learn(0)
    _, rollouts = made.sample(0)
    assert curve["KL to prior, full softmax"] == pytest.approx(float(both(made, rollouts)[2].sum(1).mean()), rel=1e-3)
    assert "KL to prior" in curve
    bare = PolicyTrainer(
        cast(open_backbone(prior), OPTIONS, seed=1), made.found, made.reward, replace(OPTIONS, full_kl=False), seed=1
    )
    tiny_models.stir(bare.backbone, POLICY, size=0.2)
    assert "KL to prior, full softmax" not in bare.learn(0)
    ours, theirs = (one.backbone.parameters_of(POLICY) for one in (made, bare))
    for name, parameter in ours.items():
        assert torch.equal(parameter.grad, theirs[name].grad), name  # type: ignore[arg-type]
