"""Alarms: when a series has fallen by more than chance, and what a run does about it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perl_eval.errors import OptionError, UserError
from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import open_backbone
from perl_eval.models.generate import Rollout
from perl_eval.records import Measurement
from perl_eval.sources import rows
from perl_eval.sources.rows import Row
from perl_eval.storage import run_folder
from perl_eval.training import policy, reinforce, reward
from perl_eval.training.alarms import AlarmOptions, alarm_in, fallen, smoothed
from perl_eval.training.policy import POLICY, PolicyOptions, PolicyTrainer
from perl_eval.training.reinforce import cast

LOOSE = AlarmOptions(memory=0.0, least=1, errors=1.0, share=0.0, hold=1)


def test_the_average_counts_its_start_right() -> None:
    # weights 1, then 1/2 and 1, then 1/4, 1/2 and 1
    assert smoothed([4.0, 1.0, 0.0], 2).tolist() == [4.0, 2.0, pytest.approx(1.5 / 1.75)]
    assert smoothed([3.0] * 9, 7).tolist() == pytest.approx([3.0] * 9)


def test_an_alarm_by_hand() -> None:
    """Errors of 0.3 and 0.4 are one of 0.5: a fall of 0.6 is more, one of 0.4 is not."""
    alarm = fallen([0.0, 1.0, 2.0, 1.4], [0.3, 0.3, 0.3, 0.4], 4, LOOSE)
    assert alarm is not None
    assert (alarm.step, alarm.peak) == (3, 2)
    assert fallen([0.0, 1.0, 2.0, 1.6], [0.3, 0.3, 0.3, 0.4], 4, LOOSE) is None
    assert fallen([0.0, 1.0, 2.0, 1.4], [0.3, 0.3, 0.3, 0.4], 4, replace(LOOSE, hold=2)) is None
    assert fallen([0.0, 1.0, 2.0, 1.4], [0.3, 0.3, 0.3, 0.4], 4, replace(LOOSE, share=0.4)) is None


@settings(deadline=None)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=40))
def test_what_only_rises_never_alarms(steps: list[float]) -> None:
    values = np.cumsum(steps).tolist()
    assert fallen(values, [0.1] * len(values), len(values)) is None


def test_what_only_stays_seldom_alarms_and_what_falls_always_does() -> None:
    random = np.random.default_rng(0)
    false = right = 0
    for _ in range(100):
        noise = random.normal(size=200) * 0.1
        rise = np.minimum(np.arange(200) / 60, 1.0)
        false += fallen((rise + noise).tolist(), [0.1] * 200, 200) is not None
        turned = rise - np.maximum(0, np.arange(200) - 100) / 100
        alarm = fallen((turned + noise).tolist(), [0.1] * 200, 200)
        right += alarm is not None and 100 < alarm.step < 150
    assert false <= 2
    assert right >= 95


OPTIONS = PolicyOptions(
    steps=40,
    batch=32,
    learning_rate=3e-2,
    beta=0.05,
    max_new_tokens=6,
    max_tokens=40,
    missing_end_reward=0.0,
    lora=LoraShape(8),
    watch=(Path("others"),),
    stop_on_alarm=True,
    alarms=AlarmOptions(memory=0.0, least=3, errors=1.0, share=0.02, hold=1),
)


@pytest.fixture(scope="module")
def data(room: Path) -> Path:
    return tiny_models.write_rows(room / "alarm-prompts", train=tiny_models.prompts(5, 60))


def watched(prior: Path, data: Path, options: PolicyOptions = OPTIONS) -> PolicyTrainer:
    """Return a run that is rewarded for gold, and watched by who likes gold up to a point."""
    backbone = open_backbone(prior)

    def golds(_: Sequence[Row], rollouts: Sequence[Rollout]) -> list[float]:
        return [float(rollout.text.count("gold")) for rollout in rollouts]

    def some(_: Sequence[Row], rollouts: Sequence[Rollout]) -> list[float]:
        return [3.0 * min(count := rollout.text.count("gold"), 1) - 2.0 * max(count - 1, 0) for rollout in rollouts]

    made = PolicyTrainer(cast(backbone, options, seed=0), rows.read(data, "train"), golds, options, seed=0)
    made.watched = some
    return made


def test_a_run_stops_at_its_alarm_and_keeps_its_best_weights(
    prior: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = watched(prior, data)
    fit = made.train(tmp_path / "whole")
    alarm = alarm_in(fit.curve, 40, OPTIONS.alarms)
    assert alarm is not None
    assert fit.steps == alarm.step + 1 < 40
    assert fit.best_step == alarm.peak < alarm.step
    kept = {name: one.clone() for name, one in made.parts()[POLICY].items()}

    monkeypatch.setattr(reinforce, "LoopOptions", functools.partial(reinforce.LoopOptions, checkpoint_every_s=-1))
    broken = watched(prior, data)
    learn = broken.learn

    def killed(step: int) -> dict[str, float]:
        if step == alarm.step - 1:
            raise KeyboardInterrupt
        return learn(step)

    broken.learn = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        broken.train(tmp_path / "broken")
    again = watched(prior, data)
    assert again.train(tmp_path / "broken").curve == fit.curve
    for name, one in again.parts()[POLICY].items():
        assert torch.equal(one, kept[name])


def test_a_run_without_an_alarm_keeps_its_last_weights(prior: Path, data: Path, tmp_path: Path) -> None:
    options = replace(OPTIONS, steps=4, alarms=AlarmOptions())
    made = watched(prior, data, options)
    fit = made.train(tmp_path)
    assert (fit.steps, fit.best_step) == (4, 3)
    loose = watched(prior, data, replace(options, stop_on_alarm=False))
    loose.train(tmp_path / "loose")
    for one, two in zip(made.parts()[POLICY].values(), loose.parts()[POLICY].values(), strict=True):
        assert torch.equal(one, two)


def test_the_verb_watches_by_reward_models_of_other_seeds(room: Path, prior: Path, data: Path, tmp_path: Path) -> None:
    pairs = tiny_models.write_rows(room / "alarm-pairs", train=tiny_models.preferences(3, 60))
    learn = reward.RewardOptions(epochs=1, batch=16, max_tokens=40, max_new_tokens=6, normalise_on=32)
    made = [reward.run(pairs, prior, tmp_path / f"r{seed}", options=learn, seed=seed) for seed in range(3)]
    options = replace(OPTIONS, steps=2, watch=tuple(made[1:]))
    out = policy.run(data, prior, made[0], tmp_path / "out", options=options)
    curve = run_folder.read(out, Measurement)
    values = {name: [p.value for p in curve if p.metric == name] for name in ("reward", "watched reward")}
    assert len(values["watched reward"]) == 2
    assert values["watched reward"] != values["reward"]
    card = run_folder.read_card(out)
    assert card is not None
    assert {Path(name).name for name in card.inputs} >= {"r0", "r1", "r2"}
    assert "watch" not in card.arguments


def test_options_that_cannot_be() -> None:
    with pytest.raises(UserError, match="there is nothing to stop on"):
        PolicyOptions(stop_on_alarm=True)
    with pytest.raises(OptionError, match="hold is 0"):
        AlarmOptions(hold=0)
