"""GRPO: its parts by hand, its loss by TRL's own code on the same tensors, and several updates on one batch."""

from __future__ import annotations

import functools
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch

from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import open_backbone
from perl_eval.models.generate import Rollout
from perl_eval.sources import rows
from perl_eval.sources.rows import Row
from perl_eval.training import reinforce
from perl_eval.training.clipped_policy_gradient import Clipping, group_advantages, is_clipped, truncated_weights
from perl_eval.training.policy import POLICY, PolicyOptions, PolicyTrainer
from perl_eval.training.policy_step import Piece
from perl_eval.training.reinforce import cast, grpo

OPTIONS = PolicyOptions(
    steps=20,
    batch=64,
    group=8,
    objective="grpo",
    learning_rate=1e-2,
    beta=0.1,
    max_new_tokens=8,
    max_tokens=40,
    missing_end_reward=0.0,
    lora=LoraShape(8),
)


def double(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------ by hand


def test_advantages_by_hand() -> None:
    """A group of 1, 3 has mean 2 and standard deviation sqrt 2; one of 5, 5 has none."""
    rewards = double([1.0, 3.0, 5.0, 5.0])
    one = 1 / (np.sqrt(2) + 1e-4)
    assert group_advantages(rewards, group=2).tolist() == pytest.approx([-one, one, 0, 0])
    assert group_advantages(rewards, group=2, scale="none").tolist() == [-1, 1, 0, 0]
    spread = np.std([1, 3, 5, 5], ddof=1) + 1e-4
    assert group_advantages(rewards, group=2, scale="batch").tolist() == pytest.approx([-1 / spread, 1 / spread, 0, 0])


def test_only_the_side_that_the_advantage_pulls_to_is_clipped() -> None:
    ratios, pulled = double([[0.5, 1.0, 1.5]] * 2), double([1.0, -1.0])
    assert is_clipped(ratios, pulled, Clipping()).tolist() == [[False, False, True], [True, False, False]]


def test_truncated_weights_by_hand() -> None:
    old, sampled = double([[np.log(0.4), np.log(0.9), -1.0]]), double([[np.log(0.1), np.log(0.6), float("nan")]])
    live = torch.tensor([[True, True, True]])
    assert truncated_weights(old, sampled, live, most=3.0).tolist() == [pytest.approx([3.0, 1.5, 1.0])]
    assert truncated_weights(old, sampled, live, most=7.0, level="sequence").tolist() == [pytest.approx([6.0])]


# ------------------------------------------------------------------------------------------------------ TRL's


def trls_loss(piece: dict[str, torch.Tensor], how: Clipping, *, beta: float, longest: int, weighed: bool) -> Any:
    """Return the loss of TRL's own method, given the log-probabilities instead of a model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pytest.importorskip("trl.trainer.grpo_trainer").GRPOTrainer
    empty = torch.zeros_like(piece["own"])
    high = how.most + 1 if how.form == "cispo" else how.most
    made = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (piece["own"], empty, None),
        accelerator=SimpleNamespace(
            num_processes=1, gather=lambda one: one, reduce=lambda one, **_: one, sync_gradients=True
        ),
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        model=SimpleNamespace(training=True),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level=how.ratio,
        beta=beta,
        loss_type=how.form,
        epsilon_low=how.clip_low,
        epsilon_high=high,
        use_vllm=weighed,
        vllm_importance_sampling_correction=weighed,
        current_gradient_accumulation_steps=1,
        max_completion_length=longest,
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
    )
    live = piece["live"]
    inputs = {
        "prompt_ids": torch.zeros((len(live), 1), dtype=torch.long),
        "prompt_mask": torch.ones((len(live), 1), dtype=torch.long),
        "completion_ids": torch.zeros(live.shape, dtype=torch.long),
        "completion_mask": live.long(),
        "advantages": piece["advantages"],
        "old_per_token_logps": piece["old"],
        "ref_per_token_logps": piece["prior"],
        "importance_sampling_ratio": piece["weights"],
        "num_items_in_batch": live.sum(),
    }
    return trainer._compute_loss(made, None, inputs)


@pytest.mark.parametrize("form", ["grpo", "dr_grpo", "dapo", "cispo"])
@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize("kl", ["k3", "reward"])
@pytest.mark.parametrize("weighed", [False, True])
def test_loss_and_gradient_are_trls(form: Any, ratio: Any, kl: Any, weighed: bool) -> None:
    random = torch.Generator().manual_seed(3)
    shape = (6, 5)

    def drawn(size: float) -> torch.Tensor:
        return size * torch.randn(shape, generator=random, dtype=torch.float64)

    live = torch.arange(5) < torch.tensor([[5], [1], [3], [2], [4], [5]])
    own = (-drawn(1.0).abs()).requires_grad_()
    old, prior = ((own.detach() + drawn(size)) for size in (0.3, 0.6))
    advantages = group_advantages(torch.randn(6, generator=random, dtype=torch.float64), group=3)
    sampled = old + drawn(0.8)
    weights = truncated_weights(old, sampled, live, most=2.0) if weighed else None
    how = Clipping(2, 0.2, 0.28, form, ratio)
    options = replace(OPTIONS, batch=6, group=3, clipping=how, kl=kl, beta=0.3, max_new_tokens=7)
    piece = Piece(own, torch.zeros_like(own), own.detach() - prior, advantages, live, 6, int(live.sum()), prior, old)
    losses = grpo(replace(piece, weights=weights), options)
    ours = torch.stack(list(losses.policy.values())).sum()
    parts = {"own": own, "old": old, "prior": prior, "live": live, "advantages": advantages}
    given = {**parts, "weights": torch.ones_like(own) if weights is None else weights}
    theirs = trls_loss(given, how, beta=0.3 if kl == "k3" else 0.0, longest=7, weighed=weighed)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), abs=1e-12)
    (slope,), (wanted,) = (torch.autograd.grad(one, own, retain_graph=True) for one in (ours, theirs))
    assert torch.allclose(slope, wanted, atol=1e-12)
    assert float(wanted.abs().max()) > 1e-3
    assert losses.clipped is not None
    assert losses.clipped > 0


# ------------------------------------------------------------------------------------------------------ training


def golds(tokenizer: Any) -> Any:
    def score(_: Sequence[Row], rollouts: Sequence[Rollout]) -> list[float]:
        return [float(tokenizer.decode(rollout.ids).count("gold")) for rollout in rollouts]

    return score


@pytest.fixture(scope="module")
def data(room: Path) -> Path:
    return tiny_models.write_rows(room / "grpo-prompts", train=tiny_models.prompts(1, 100))


def trainer(prior: Path, data: Path, options: PolicyOptions = OPTIONS) -> PolicyTrainer:
    backbone = open_backbone(prior)
    roles = cast(backbone, options, seed=0)
    return PolicyTrainer(roles, rows.read(data, "train"), golds(backbone.tokenizer), options, seed=0)


def curve_of(made: PolicyTrainer, folder: Path) -> dict[str, list[float]]:
    curve: dict[str, list[float]] = {}
    for point in made.train(folder).curve:
        curve.setdefault(point.metric, []).append(point.value)
    return curve


@pytest.mark.parametrize("kl", ["reward", "k3"])
def test_several_updates_a_batch_raise_the_reward(prior: Path, data: Path, tmp_path: Path, kl: Any) -> None:
    options = replace(OPTIONS, clipping=Clipping(3, form="dapo"), learning_rate=5e-3, kl=kl)
    curve = curve_of(trainer(prior, data, options), tmp_path)
    assert np.mean(curve["reward"][-5:]) > np.mean(curve["reward"][:3]) + 0.3
    assert len(curve["reward"]) == len(curve["length"]) == 20  # of each batch once, and not of each update
    assert len(curve["KL to prior"]) == len(curve["clipped share"]) == 60
    assert curve["clipped share"][::3] == [0.0] * 20  # at the first update the ratio is 1
    assert max(curve["clipped share"]) > 0
    assert ("KL loss" in curve) == (kl == "k3")
    assert "value loss" not in curve


def test_micro_batches_leave_a_step_as_it_is(prior: Path, data: Path) -> None:
    found = []
    for size in (0, 5):
        options = replace(
            OPTIONS, clipping=Clipping(2, scale="batch"), resources=replace(OPTIONS.resources, micro_batch=size)
        )
        made = trainer(prior, data, options)
        tiny_models.stir(made.backbone, POLICY, size=0.05)
        for step in (0, 1):
            for parameter in made.parts()[POLICY].values():
                parameter.grad = None
            made.learn(step)
            gradient = [one.grad.clone() for one in made.parts()[POLICY].values() if one.grad is not None]
            with torch.no_grad():
                for parameter, slope in zip(made.parts()[POLICY].values(), gradient, strict=True):
                    parameter.sub_(0.05 * slope)
        found.append(gradient)
    assert max(float(one.abs().max()) for one in found[0]) > 1e-3
    for whole, parts in zip(*found, strict=True):
        assert torch.allclose(whole, parts, atol=1e-5)


def test_a_run_killed_between_updates_ends_with_the_same_bits(
    prior: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(OPTIONS, steps=3, batch=8, group=4, clipping=Clipping(3))
    whole = trainer(prior, data, options)
    expected = whole.train(tmp_path / "whole").curve
    monkeypatch.setattr(reinforce, "LoopOptions", functools.partial(reinforce.LoopOptions, checkpoint_every_s=-1))
    for killed_at in (3, 4, 5):
        broken = trainer(prior, data, options)
        learn = broken.learn

        def killed(step: int, learn: Any = learn, killed_at: int = killed_at) -> dict[str, float]:
            if step == killed_at:
                raise KeyboardInterrupt
            return learn(step)

        broken.learn = killed  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            broken.train(tmp_path / f"broken-{killed_at}")
        again = trainer(prior, data, options)
        assert again.train(tmp_path / f"broken-{killed_at}").curve == expected
        for one, two in zip(again.parts()[POLICY].values(), whole.parts()[POLICY].values(), strict=True):
            assert torch.equal(one, two)
