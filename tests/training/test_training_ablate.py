"""The ablation: every cell of the grid, the figures of its runs, and that a killed one goes on."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models

from perl_eval.errors import UserError
from perl_eval.records import About, Estimate, Measurement
from perl_eval.sources.rows import Row
from perl_eval.storage import run_folder
from perl_eval.training import ablate, cells, policy, reward
from perl_eval.training.ablation_words import sentences, too_few_rows
from perl_eval.training.loop import Diverged
from perl_eval.training.policy import PolicyOptions
from perl_eval.training.reward import RewardOptions


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
    return {(one.subject.partition(", ")[2], one.name): one for one in run_folder.read(folder, Estimate)}


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
    assert found["SFT", "KL to prior"].value == 0
    assert abs(found["full", "KL to prior"].value or 0) > 1e-3
    assert ("full", "reward peak bytes of the process, of full") not in found


def test_figures_are_means_over_the_runs_of_a_cell(done: Path) -> None:
    found = named(done)
    values = []
    for seed in (0, 1):
        estimates = run_folder.read(done / "cells" / "prior" / f"reward-r4-{seed}", Estimate)
        values.append(next(one.value for one in estimates if (one.subject, one.name) == ("test", "pair accuracy")))
    assert found["r4", "pair accuracy"].value == pytest.approx(np.mean(values))
    assert (found["full", "RL trained share"].value or 0) > 0.99  # of the policy's model; the rest is the value head
    assert (found["r1", "RL tensor bytes by formula, of full"].value or 1) < 0.4


def test_costs_have_no_interval_below_nothing(done: Path) -> None:
    """Two seeds give a t interval that reaches far below zero; more have one that ends there."""
    found = named(done)
    for name in ("reward seconds a step", "RL peak bytes of the process", "reward steps a second, of full"):
        assert found["r4", name].low is None
    assert "2 seeds only" in (found["r4", "RL seconds a step"].reason or "")
    assert ablate._over_seeds("RL seconds a step", [0.1, 0.1, 3.0]).low == 0.0
    # The mean 0.922 with Student's t of two degrees of freedom: 4.3027 x 0.04849 / sqrt(3) = 0.1205 to either side.
    accuracy = ablate._over_seeds("pair accuracy", [0.87, 0.93, 0.966], 1.0)
    assert (accuracy.low, accuracy.high) == (pytest.approx(0.922 - 0.1205, abs=1e-4), 1.0)
    seconds = [found[arm, "RL seconds a step"].value or 0 for arm in ("full", "r4")]
    assert found["r4", "RL steps a second, of full"].value == pytest.approx(seconds[0] / seconds[1])
    above = found["r4", "pair accuracy, above full"]
    assert -1 <= (above.low or 0) <= (above.high or 0) <= 1


def test_each_adapter_is_held_against_full_tuning_in_a_sentence(done: Path) -> None:
    table, found = run_folder.read(done, Estimate), named(done)
    said = sentences(table)
    assert [one.partition(" against")[0] for one in said] == ["prior: LoRA r4", "prior: LoRA r1"]
    assert "on 30 test rows, 2 seeds; " in said[0]
    bytes_of = [found[arm, "reward tensor bytes by formula"].value or 0 for arm in ("r4", "full")]
    assert f"{bytes_of[0] / bytes_of[1]:.0%} of the bytes of weights, gradients and moments" in said[0]
    assert too_few_rows(table) == ""


def difference(
    value: float, low: float | None, high: float | None, rows: int, *, accuracy: float | None = None
) -> list[str]:
    def figure(name: str, value: float, arm: str = "r4", ends: tuple[float | None, float | None] = (None, None)) -> Any:
        return Estimate(name, value, *ends, 3, 0, "", about=About(scope="tiny", policy=arm))

    table = [
        figure("pair accuracy", 0.7, "full"),
        figure("reward seconds a step", 2.0, "full"),
        figure("reward seconds a step", 1.0),
        figure("pair accuracy, above full", value, ends=(low, high)),
        figure("test rows of the reward model", rows),
    ]
    table += [] if accuracy is None else [figure("pair accuracy", accuracy)]
    return [*sentences(table), too_few_rows(table)]


def test_sentences_say_which_way_and_whether_it_is_found() -> None:
    assert difference(0.02, -0.05, 0.09, 3)[0] == (
        "tiny: LoRA r4 against full: pair accuracy +0.02 (-0.05 to +0.09), no difference found on 3 test rows, "
        "3 seeds; 50% of the time of a step of the reward model."
    )
    assert (
        "pair accuracy the same, no difference found on 1 test row, 3 seeds (no interval)"
        in (difference(0, None, None, 1)[0])
    )
    # Wilson's lower bounds at 95 %, of 56 of 56 1 / (1 + 3.8415 / 56) = 0.936, and of 55 of 56
    # (55 / 56 + 1.9207 / 56 - 1.96 sqrt(0.01754 / 56 + 0.9604 / 56 ** 2)) / (1 + 3.8415 / 56) = 0.906.
    for right, told in ((56, "1.000 for each; with 56 rows the true one may be 0.936"), (55, "0.906")):
        assert f"{told} to " in difference(0, None, None, 56, accuracy=right / 56)[0]
    assert "-0.10 (-0.16 to -0.04), a difference on 40" in difference(-0.1, -0.16, -0.04, 40)[0]
    assert "only 3 test rows for the reward models: one row more or less is 0.33" in difference(0.02, -0.05, 0.09, 3)[1]
    assert difference(0.02, -0.05, 0.09, 30)[1] == ""


def test_differences_are_taken_seed_by_seed(done: Path) -> None:
    found = named(done)
    for other in ("full", "SFT"):
        above, own, theirs = (
            found[arm, name].value or 0.0
            for arm, name in (("r4", f"true reward, above {other}"), ("r4", "true reward"), (other, "true reward"))
        )
        assert above == pytest.approx(own - theirs)
    assert ("r4", "pair accuracy, above full") in found
    assert ("full", "true reward, above full") not in found


def test_arms_differ_in_rank_rate_and_weights_alone(done: Path, options: ablate.AblateOptions) -> None:
    cards = {arm: run_folder.read_card(done / "cells" / "prior" / f"reward-{arm}-0") for arm in ("full", "r4", "r1")}
    arguments: dict[str, Any] = {arm: card.arguments for arm, card in cards.items() if card}
    assert arguments["full"]["learning_rate"] * 10 == arguments["r4"]["learning_rate"] == 1e-2
    assert [arguments[arm]["lora"]["rank"] for arm in ("r4", "r1")] == [4, 1]
    assert {**arguments["r1"], "lora": None} == {**arguments["r4"], "lora": None}
    policies = [run_folder.read_card(done / "cells" / "prior" / f"policy-{arm}-1") for arm in ("full", "r4", "r1")]
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

    monkeypatch.setattr(cells.reward, "run", run)
    with pytest.raises(KeyboardInterrupt):
        ablate.run(data, tmp_path / "out", options=options, truth=reds)
    first, trained[:] = list(trained[:3]), [*trained[3:], "", "", "", "", "", ""][1:]
    ablate.run(data, tmp_path / "out", options=options, truth=reds)
    assert not set(first) & set(trained)
    assert {name: one.value for name, one in named(tmp_path / "out").items() if name[1].split()[-1] == "reward"} == {
        name: one.value for name, one in named(done).items() if name[1].split()[-1] == "reward"
    }


def test_each_arm_takes_its_best_rate(
    data: Path, tmp_path: Path, options: ablate.AblateOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Made-up curves. Reward models: the lowest validation loss is at 2e-2 for adapters, at 1e-3 for full tuning. Of
    # policies that at 3e-2 diverges; at 2e-2 reward less beta x KL ends at 3 - 0.5 x 5 = 0.5, at 1e-2 at 2 - 0.5 x 1 =
    # 1.5. Full tuning's rates are a tenth: 0.5 and 0.4 without KL, then 2 - 0.5 x 1 at 3e-3.
    losses = {1e-2: 0.6, 2e-2: 0.5, 3e-2: 0.7, 1e-3: 0.4, 2e-3: 0.5, 3e-3: 0.6}
    ends = {1e-2: (2.0, 1.0), 2e-2: (3.0, 5.0), 1e-3: (0.5, 0.0), 2e-3: (0.4, 0.0), 3e-3: (2.0, 1.0)}
    seeds: set[int] = set()

    def finished(out: Path, curve: list[Measurement], seed: int, **notes: float) -> Path:
        seeds.add(seed)
        with run_folder.start(out, verb="made up", arguments={}, seed=seed) as going:
            if not going.done:
                going.write(curve, Measurement)
                going.notes |= notes
        return out

    def rewarded(data: Path, prior: Path, out: Path, *, options: RewardOptions, seed: int) -> Path:
        values = (9.0, losses[round(options.rate, 6)], 8.0)
        return finished(out, [Measurement(step, "validation loss", one) for step, one in enumerate(values)], seed)

    def tuned(data: Path, prior: Path, fixed: Path, out: Path, *, options: PolicyOptions, seed: int) -> Path:
        if round(options.rate, 6) == 3e-2:
            raise Diverged("the policy loss is not finite")
        both = zip(("reward", "KL to prior"), ends[round(options.rate, 6)], strict=True)
        curve = [Measurement(step, name, end if step == 9 else -50.0) for name, end in both for step in range(10)]
        return finished(out, curve, seed, beta=options.beta)

    monkeypatch.setattr(reward, "run", rewarded)
    monkeypatch.setattr(policy, "run", tuned)
    grid = replace(options, ranks=(4,), tried=(1.0, 2.0, 3.0), policy=replace(options.policy, beta=0.5))
    found = cells.Cells(data, tmp_path / "cells" / "prior", grid, 5)
    assert [found.rate("reward", arm) for arm in ("r4", "full")] == pytest.approx([2e-2, 1e-3])
    assert [found.rate("policy", arm) for arm in ("r4", "full")] == pytest.approx([1e-2, 3e-3])
    assert found.trials["policy r4 at 0.03"] == -math.inf
    assert found.trials["policy r4 at 0.02"] == pytest.approx(0.5)
    assert seeds == {5, 7}  # seeds 5 and 6 are those of the table; rates are chosen on the next


def test_each_seed_has_its_own_reward_model_if_asked(
    data: Path, tmp_path: Path, options: ablate.AblateOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(data: Path, prior: Path, out: Path, **named: Any) -> Path:
        return out

    monkeypatch.setattr(reward, "run", run)
    for own, names in ((False, ["reward-r4-3", "reward-r4-3"]), (True, ["reward-r4-3", "reward-r4-4"])):
        found = cells.Cells(data, tmp_path / "cells" / "prior", replace(options, own_reward=own), 3)
        assert [found.fixed(seed).name for seed in (3, 4)] == names


def test_a_rate_that_was_given_is_not_tried(data: Path, tmp_path: Path, options: ablate.AblateOptions) -> None:
    found = cells.Cells(data, tmp_path / "cells" / "prior", options, 0)
    assert [found.rate("reward", arm) for arm in ("r4", "full")] == pytest.approx([1e-2, 1e-3])
    assert not list(tmp_path.iterdir())


def test_grids_of_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="an ablation needs something to compare"):
        ablate.AblateOptions(ranks=(), full=False)
    with pytest.raises(UserError, match="an ablation needs something to compare"):
        ablate.AblateOptions(sizes=())
    with pytest.raises(UserError, match="seeds is 0"):
        ablate.AblateOptions(seeds=0)
    with pytest.raises(UserError, match="tried is"):
        ablate.AblateOptions(tried=(1.0, 0.0))
    with pytest.raises(UserError, match="beta is -1"):
        ablate.AblateOptions(betas=(0.3, -1.0))
