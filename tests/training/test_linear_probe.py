"""A head by logistic regression: it finds a known direction, its probabilities come true, and training starts there."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from command_line import Command
from scipy.special import expit

from perl_eval.errors import UserError
from perl_eval.models.backbone import Backbone, LoraShape
from perl_eval.models.reward_model import Pooling, read_states
from perl_eval.models.tokenize import encode_dialogue
from perl_eval.records import Measurement
from perl_eval.sources import rows
from perl_eval.storage import run_folder
from perl_eval.training import reward
from perl_eval.training.linear_probe import fit_probe

OPTIONS = reward.RewardOptions(
    epochs=1,
    batch=16,
    learning_rate=1e-2,
    max_tokens=48,
    max_new_tokens=8,
    normalise_on=20,
    lora=LoraShape(8),
    probe=True,
)
TRUTH = np.array([2.0, -1.0, 0.0, 0.5])


def drawn(count: int, bias: float, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Draw states of unlike scale and centre, and labels from the logistic model of TRUTH on them."""
    rng = np.random.default_rng(seed)
    plain = rng.standard_normal((count, 4))
    labels = rng.random(count) < expit(plain @ TRUTH + bias)
    return plain * [1.0, 10.0, 0.1, 3.0] + [0.0, 5.0, -1.0, 100.0], labels, [str(row // 3) for row in range(count)]


@pytest.mark.parametrize("bias", [-2.0, 0.0, 3.0])
def test_the_probe_finds_what_labels_were_drawn_from(bias: float) -> None:
    """Against the truth itself: its logits, on new rows, and the share of ups, which a bias must carry."""
    states, labels, groups = drawn(4_000, bias, 0)
    found = fit_probe(states, labels.astype(float).tolist(), groups, pairs=False, seed=0)
    fresh, _, _ = drawn(4_000, bias, 1)
    expected = (fresh - [0.0, 5.0, -1.0, 100.0]) / [1.0, 10.0, 0.1, 3.0] @ TRUTH + bias
    logits = fresh @ found.weights + found.bias
    assert np.corrcoef(logits, expected)[0, 1] > 0.99
    assert np.polyfit(expected, logits, 1) == pytest.approx([1.0, 0.0], abs=0.25)
    assert expit(logits).mean() == pytest.approx(expit(expected).mean(), abs=0.03)


def test_of_pairs_the_order_means_nothing() -> None:
    """Differences of two answers' states, chosen less rejected: no bias, and what all pairs share does count."""
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((2, 3_000, 4))
    first = rng.random(3_000) < expit((one - other) @ TRUTH)
    chosen = np.where(first[:, None], one - other, other - one)
    groups = [str(row // 3) for row in range(3_000)]
    found = fit_probe(chosen, [1.0] * 3_000, groups, pairs=True, seed=0)
    assert found.bias == 0.0
    assert found.weights == pytest.approx(TRUTH, abs=0.2)


def test_states_that_say_nothing_give_the_base_rate() -> None:
    """A thousand features of three hundred rows tell them apart without a miss; out of fold they tell nothing."""
    rng = np.random.default_rng(0)
    labels = (rng.random(300) < 0.8).astype(float)
    found = fit_probe(
        rng.standard_normal((300, 1_000)), labels.tolist(), list(map(str, range(300))), pairs=False, seed=0
    )
    fresh = rng.standard_normal((300, 1_000)) @ found.weights + found.bias
    assert np.abs(expit(fresh) - labels.mean()).mean() < 0.1


def test_rows_of_one_group_help_each_other_in_no_fold() -> None:
    """Labels by group alone, known by a feature each: nothing carries over to another group, so little is believed."""
    groups = np.repeat(np.arange(60), 5)
    labels = (np.random.default_rng(0).random(60) < 0.5).astype(float)[groups]
    states = np.eye(60)[groups]
    found = fit_probe(states, labels.tolist(), list(map(str, groups)), pairs=False, seed=0)
    logits = states @ found.weights + found.bias
    assert np.abs(expit(logits) - labels.mean()).max() < 0.25


@pytest.mark.parametrize(("labels", "groups"), [([1.0] * 6, "abcdef"), ([1, 1, 1, 0, 0, 0], "abcddd")])
def test_rows_that_cannot_be_split_are_refused(labels: list[float], groups: str) -> None:
    with pytest.raises(UserError, match="too few groups of rows"):
        fit_probe(np.random.default_rng(0).standard_normal((6, 2)), labels, list(groups), pairs=False, seed=0)


@pytest.mark.parametrize("kind", ["pointwise", "pairwise"])
@pytest.mark.parametrize("full", [False, True])
def test_training_starts_from_the_probe(tmp_path: Path, prior: Path, kind: str, full: bool) -> None:
    """Without a step of any size, the reward is the probe's: it orders held-out rows, and the curve says how well."""
    make = tiny_models.ratings if kind == "pointwise" else tiny_models.preferences
    data = tiny_models.write_rows(tmp_path / "data", train=make(1, 200), validation=make(2, 60))
    still = replace(OPTIONS, full=full, pooling="mean", epochs=0.01, learning_rate=1e-9)
    made = reward.run(data, prior, tmp_path / "out", options=still)
    curve = run_folder.read(made, Measurement)
    first = {point.metric: point.value for point in curve if point.step == -1}
    assert first["validation accuracy"] > 0.7
    assert first["validation loss"] < math.log(2) - 0.05
    random = reward.run(data, prior, tmp_path / "random", options=replace(still, probe=False))
    (last,) = [point.value for point in run_folder.read(random, Measurement) if point.metric == "validation loss"]
    assert first["validation loss"] < last - 0.05
    assert min(point.step for point in run_folder.read(random, Measurement)) == 0


@pytest.mark.parametrize(
    ("options", "best"),
    [
        ("--probe --epochs 0.5 --learning-rate 3", {-1}),
        ("--probe --epochs 0.5 --learning-rate 1e-3", set(range(1, 7))),
        ("--epochs 0.08 --learning-rate 1e-3", {0}),
    ],
)
def test_that_no_step_was_worth_taking_is_said(
    tmp_path: Path, prior: Path, command: Command, options: str, best: set[int]
) -> None:
    data = tiny_models.write_rows(
        tmp_path / "data", train=tiny_models.ratings(1, 200), validation=tiny_models.ratings(2, 60)
    )
    options = f"{options} --batch 16 --max-tokens 48 --max-new-tokens 8"
    shown = command(f"train reward --data {data} --prior {prior} --out {tmp_path / 'out'} {options}")
    assert shown.code in (None, 0)
    card = run_folder.read_card(tmp_path / "out")
    assert card is not None
    assert card.notes["best step"] in best
    assert ("no step lowered the validation loss" in shown.err) == (best == {-1})


@pytest.mark.parametrize("pooling", ["last", "mean", "mean+all"])
def test_states_are_what_the_head_reads(tmp_path: Path, backbone: Backbone, pooling: Pooling) -> None:
    """Against the plain model, row by row, unpadded."""
    data = tiny_models.write_rows(tmp_path, train=tiny_models.preferences(1, 5))
    found = [
        encode_dialogue(backbone.processor, row.prompt, said or (), max_tokens=48)
        for row in rows.read(data, "train")
        for said in (row.chosen, row.rejected)  # whose prompt is read once
    ]
    with torch.no_grad():
        states = read_states(backbone, found, pooling)
        for state, one in zip(states, found, strict=True):
            hidden = backbone.causal.model(torch.tensor([one.ids])).last_hidden_state[0]
            of_answer = hidden[torch.tensor(one.trained)].mean(0)
            expected = {"last": hidden[-1], "mean": of_answer, "mean+all": torch.cat([of_answer, hidden.mean(0)])}
            assert torch.allclose(state, expected[pooling], atol=1e-5)


def test_a_probe_is_not_fitted_again_by_a_killed_run(
    tmp_path: Path, prior: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after a checkpoint it goes on from there, with the same weights as if unbroken."""
    from perl_eval.training import loop

    data = tiny_models.write_rows(
        tmp_path / "data", train=tiny_models.ratings(1, 80), validation=tiny_models.ratings(2, 20)
    )
    expected = reward.run(data, prior, tmp_path / "whole", options=OPTIONS)
    clock = iter(range(0, 100_000, 100))  # every step is due for a checkpoint
    with monkeypatch.context() as patched:
        patched.setattr(loop.time, "monotonic", lambda: float(next(clock)))
        learn = reward.RewardTrainer.learn

        def killed(trainer: reward.RewardTrainer, step: int) -> tuple[dict[str, float], float]:
            if step == 3:
                raise KeyboardInterrupt
            return learn(trainer, step)

        patched.setattr(reward.RewardTrainer, "learn", killed)
        with pytest.raises(KeyboardInterrupt):
            reward.run(data, prior, tmp_path / "out", options=OPTIONS)

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("fitted twice")

    monkeypatch.setattr(reward, "fit_probe", refused)
    found = reward.run(data, prior, tmp_path / "out", options=OPTIONS)
    for name in ("adapter_model.safetensors", "head.safetensors"):
        assert (found / name).read_bytes() == (expected / name).read_bytes()
    assert run_folder.read(found, Measurement) == run_folder.read(expected, Measurement)
