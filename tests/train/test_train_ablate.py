"""The ablation: every cell of the grid, the figures of its runs, and that a killed one goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models

from perl_eval import runs
from perl_eval.errors import UserError
from perl_eval.records import Estimate
from perl_eval.rows import Row
from perl_eval.train import ablate, reward
from perl_eval.train.policy import PolicyOptions
from perl_eval.train.reward import RewardOptions


@pytest.fixture(scope="module")
def data(room: Path) -> Path:
    place = room / "ablation"
    tiny_models.write_rows(
        place / "preferences", train=tiny_models.preferences(1, 60), test=tiny_models.preferences(2, 30)
    )
    tiny_models.write_rows(place / "prompts", train=tiny_models.prompts(1, 20), test=tiny_models.prompts(2, 8))
    return place


@pytest.fixture(scope="module")
def options(prior: Path) -> ablate.AblateOptions:
    return ablate.AblateOptions(
        sizes=(str(prior),),
        ranks=(1, 4),
        seeds=2,
        prompts=6,
        draws=2,
        reward=RewardOptions(epochs=2, batch=15, learning_rate=1e-2, max_tokens=40, max_new_tokens=6, normalise_on=10),
        policy=PolicyOptions(steps=2, batch=8, learning_rate=1e-2, max_new_tokens=6, max_tokens=40),
    )


def reds(_: Row, text: str) -> float:
    return float(text.count("red"))


@pytest.fixture(scope="module")
def done(room: Path, data: Path, options: ablate.AblateOptions) -> Path:
    return ablate.run(data, room / "ablated", options=options, truth=reds)


def named(folder: Path) -> dict[tuple[str, str], Estimate]:
    return {(one.subject.partition(", ")[2], one.name): one for one in runs.read(folder, Estimate)}


def test_every_cell_has_every_figure(done: Path) -> None:
    found = named(done)
    assert {arm for arm, _ in found} == {"full", "r4", "r1", "SFT"}
    cells = sorted(path.name for path in (done / "cells" / "prior").iterdir())
    assert cells == sorted(
        f"{stage}-{arm}-{s}" for stage in ("reward", "policy") for arm in ("full", "r4", "r1") for s in (0, 1)
    )
    for arm in ("full", "r4", "r1"):
        for name in ("pair accuracy", "learned reward", "true reward", "RL seconds a step", "reward trained share"):
            assert found[arm, name].n == 2
    assert found["SFT", "true reward"].n == 2
    assert ("full", "reward peak memory bytes, of full") not in found


def test_figures_are_means_over_the_runs_of_a_cell(done: Path) -> None:
    found = named(done)
    values = []
    for seed in (0, 1):
        estimates = runs.read(done / "cells" / "prior" / f"reward-r4-{seed}", Estimate)
        values.append(next(one.value for one in estimates if (one.subject, one.name) == ("test", "pair accuracy")))
    assert found["r4", "pair accuracy"].value == pytest.approx(np.mean(values))
    assert (found["full", "RL trained share"].value or 0) > 0.99  # of the policy's model; the rest is the value head
    assert (found["r1", "RL bytes by formula, of full"].value or 1) < 0.4


def test_arms_differ_in_rank_rate_and_weights_alone(done: Path, options: ablate.AblateOptions) -> None:
    cards = {arm: runs.read_card(done / "cells" / "prior" / f"reward-{arm}-0") for arm in ("full", "r4", "r1")}
    arguments: dict[str, Any] = {arm: card.arguments for arm, card in cards.items() if card}
    assert arguments["full"]["learning_rate"] * 10 == arguments["r4"]["learning_rate"] == 1e-2
    assert [arguments[arm]["lora"]["rank"] for arm in ("r4", "r1")] == [4, 1]
    assert {**arguments["r1"], "lora": None} == {**arguments["r4"], "lora": None}
    policies = [runs.read_card(done / "cells" / "prior" / f"policy-{arm}-1") for arm in ("full", "r4", "r1")]
    rewards = {card.arguments["reward"] for card in policies if card}
    assert [Path(one).name for one in rewards] == ["reward-r4-0"]  # one fixed reward model for every policy


def test_a_killed_ablation_goes_on_at_the_run_that_was_cut(
    data: Path, tmp_path: Path, options: ablate.AblateOptions, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    real = reward.run

    def run(data: Path, prior: Path, out: Path, **named: Any) -> Path:
        if not (out / "run.json").exists():
            trained.append(out.name)
        if len(trained) == 4:
            raise KeyboardInterrupt
        return real(data, prior, out, **named)

    monkeypatch.setattr(ablate.reward, "run", run)
    with pytest.raises(KeyboardInterrupt):
        ablate.run(data, tmp_path / "out", options=options, truth=reds)
    first, trained[:] = list(trained[:3]), [*trained[3:], "", "", "", "", "", ""][1:]
    ablate.run(data, tmp_path / "out", options=options, truth=reds)
    assert not set(first) & set(trained)
    assert {name: one.value for name, one in named(tmp_path / "out").items() if name[1].split()[-1] == "reward"} == {
        name: one.value for name, one in named(done).items() if name[1].split()[-1] == "reward"
    }


def test_grids_of_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="an ablation of nothing"):
        ablate.AblateOptions(ranks=(), full=False)
    with pytest.raises(UserError, match="an ablation of nothing"):
        ablate.AblateOptions(sizes=())
    with pytest.raises(UserError, match="seeds is 0"):
        ablate.AblateOptions(seeds=0)
