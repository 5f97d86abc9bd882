"""Short runs at several learning rates: the best is found where one is known to be too low, and a run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models

from perl_eval.models.backbone import LoraShape
from perl_eval.models.generate import Rollout
from perl_eval.records import Estimate, Measurement
from perl_eval.sources.rows import Row
from perl_eval.storage import run_folder
from perl_eval.training import dpo, rate_sweep, sft
from perl_eval.training.dpo import DpoOptions
from perl_eval.training.policy import PolicyOptions
from perl_eval.training.reward import RewardOptions
from perl_eval.training.schedule import Schedule
from perl_eval.training.sft import SftOptions

SFT = SftOptions("none", batch=8, max_tokens=32, learning_rate=1e-3, lora=LoraShape(4))


def reached(folder: Path) -> list[float | None]:
    return [one.value for one in run_folder.read(folder, Estimate)]


@pytest.fixture(scope="module")
def swept(blank: Path, demonstrations: Path, room: Path) -> Path:
    options = rate_sweep.SweepOptions(replace(SFT, model=str(blank)), steps=8, factors=(0.001, 1.0, 10.0))
    return rate_sweep.run(demonstrations, None, room / "rates swept", options=options)


def test_the_lowest_held_out_loss_is_the_best(swept: Path) -> None:
    low, middle, high = reached(swept)
    assert low is not None
    assert middle is not None
    assert high is not None
    assert high < middle < low  # a model that knows nothing takes the highest
    card = run_folder.read_card(swept)
    assert card is not None
    assert card.notes["best learning rate"] == 0.01
    assert rate_sweep.advice(swept).startswith(
        "--learning-rate 0.01 is the best of 3 after 8 steps each; it is the highest"
    )
    assert {"rates.svg", "rates.png", "estimates.parquet", "curve.parquet"} <= card.outputs.keys()
    assert not list(swept.glob(".rate-*"))


def test_each_loss_is_that_of_a_run_at_its_rate(swept: Path, blank: Path, demonstrations: Path, tmp_path: Path) -> None:
    options = replace(SFT, model=str(blank), learning_rate=0.01, evaluations=1, schedule=sft.Schedule(max_steps=8))
    alone = sft.run(demonstrations, tmp_path / "alone", options=options)
    points = [point.value for point in run_folder.read(alone, sft.Measurement) if point.metric == "validation loss"]
    assert reached(swept)[-1] == pytest.approx(points[-1], abs=1e-6)


def test_a_killed_sweep_goes_on_at_the_next_rate(
    blank: Path, demonstrations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = rate_sweep.SweepOptions(replace(SFT, model=str(blank)), steps=1, factors=(0.1, 1.0))
    made: list[float | None] = []
    train = sft.run

    def counted(data: Path, place: Path, *, options: SftOptions, seed: int) -> Path:
        made.append(options.learning_rate)
        if len(made) == 2:
            raise KeyboardInterrupt
        return train(data, place, options=options, seed=seed)

    monkeypatch.setattr(rate_sweep.sft, "run", counted)
    with pytest.raises(KeyboardInterrupt):
        rate_sweep.run(demonstrations, None, tmp_path / "out", options=options)
    rate_sweep.run(demonstrations, None, tmp_path / "out", options=options)
    assert made == [1e-4, 1e-3, 1e-3]


def test_rewards_and_policies_have_rates_too(prior: Path, tmp_path: Path) -> None:
    pairs = tiny_models.write_rows(
        tmp_path / "pairs", train=tiny_models.preferences(3, 40), validation=tiny_models.preferences(4, 20)
    )
    how = RewardOptions(batch=8, max_tokens=48, lora=LoraShape(4))
    options = rate_sweep.SweepOptions(how, steps=4, factors=(0.01, 1.0))
    low, high = reached(rate_sweep.run(pairs, prior, tmp_path / "reward", options=options))
    assert low is not None
    assert high is not None
    assert high < low
    asked = tiny_models.write_rows(tmp_path / "asked", train=tiny_models.prompts(1, 20))
    aim = PolicyOptions(batch=8, beta=0.0, max_tokens=40, max_new_tokens=8, lora=LoraShape(4))
    sweep = rate_sweep.SweepOptions(aim, steps=2, factors=(0.01, 1.0))

    def long(_: Sequence[Row], rollouts: Sequence[Rollout]) -> list[float]:
        return [float(len(rollout.ids)) for rollout in rollouts]

    folder = rate_sweep.run(asked, prior, tmp_path / "policy", options=sweep, given=long)
    assert {one.name for one in run_folder.read(folder, Estimate)} == {"reward less beta x KL"}


@pytest.mark.parametrize(("loss", "made"), [("sigmoid", tiny_models.preferences), ("kto", tiny_models.ratings)])
def test_dpo_and_kto_have_rates_too(prior: Path, tmp_path: Path, loss: Any, made: Any) -> None:
    data = tiny_models.write_rows(tmp_path / "rows", train=made(3, 40), validation=made(4, 20))
    how = DpoOptions(loss=loss, batch=8, max_tokens=48, learning_rate=1e-2, lora=LoraShape(4))
    options = rate_sweep.SweepOptions(how, steps=4, factors=(0.01, 1.0))
    folder = rate_sweep.run(data, prior, tmp_path / "rates", options=options)
    low, high = run_folder.read(folder, Estimate)
    assert low.name == high.name == "validation loss"
    assert low.value is not None
    assert high.value is not None
    assert high.value < low.value
    last = replace(how, evaluations=1, schedule=Schedule(max_steps=4))
    alone = dpo.run(data, prior, tmp_path / "alone", options=last)
    points = [point.value for point in run_folder.read(alone, Measurement) if point.metric == "validation loss"]
    assert high.value == pytest.approx(points[-1], abs=1e-6)


def test_a_run_that_diverges_is_told_apart(blank: Path, demonstrations: Path, tmp_path: Path) -> None:
    options = rate_sweep.SweepOptions(replace(SFT, model=str(blank)), steps=6, factors=(1.0, 1e40))
    folder = rate_sweep.run(demonstrations, None, tmp_path / "out", options=options)
    first, last = run_folder.read(folder, Estimate)
    assert first.value is not None
    assert (last.value, last.reason) == (None, "diverged")
