"""The loop: its schedule, its best weights, and that a killed run ends where an unbroken one does, to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from perl_eval.records import Measurement
from perl_eval.training.loop import Diverged, Fit, Learning, LoopOptions, optimise


class Killed(BaseException):
    """Stands for a signal."""


def one(weight: nn.Parameter, learn: Callable[[int], Mapping[str, float]]) -> Learning:
    return Learning("fit", {"all": {"w": weight}}, learn)


class Regression:
    """Least squares with noise that is a function of the step."""

    def __init__(self, *, killed_at: int = -1, start: float = 0.0) -> None:
        random = torch.Generator().manual_seed(0)
        self.parameters = {
            "weight": nn.Parameter(torch.full((4, 3), start)),
            "bias/of.it": nn.Parameter(torch.full((3,), start)),
        }
        self.truth = torch.randn(4, 3, generator=random)
        self.killed_at = killed_at
        self.seen: list[int] = []

    def error(self, step: int) -> torch.Tensor:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return (x @ self.parameters["weight"] + self.parameters["bias/of.it"] - x @ self.truth).square().mean()

    def learn(self, step: int) -> Mapping[str, float]:
        self.seen.append(step)
        loss = self.error(step)
        loss.backward()
        if step == self.killed_at:
            raise Killed
        return {"loss": float(loss.detach())}

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        # from step 12 on the loss is made worse, so that the best weights are not the last
        value = float(self.error(10_000))
        return {"validation loss": value + 5 * (self.seen[-1] > 11), "other": 1.0}

    def fit(self, folder: Path, **options: float) -> Fit:
        chosen = LoopOptions(
            **{"steps": 20, "learning_rate": 0.05, "warmup": 3, "weight_decay": 0.01, "evaluate_every": 2, **options}
        )
        task = Learning("fit", {"all": self.parameters}, self.learn, self.evaluate)
        return optimise(task, chosen, folder=folder)


@pytest.mark.parametrize("killed_at", [1, 7, 18])
@pytest.mark.parametrize("every", [0, 2])
def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path, killed_at: int, every: int) -> None:
    whole = Regression()
    expected = whole.fit(tmp_path / "whole", evaluate_every=every)
    broken = Regression(killed_at=killed_at)
    with pytest.raises(Killed):
        broken.fit(tmp_path / "broken", evaluate_every=every, checkpoint_every_s=-1)
    again = Regression(start=9.0)
    found = again.fit(tmp_path / "broken", evaluate_every=every, checkpoint_every_s=-1)
    assert again.seen == list(range(killed_at, 20))
    for name, parameter in whole.parameters.items():
        assert torch.equal(again.parameters[name], parameter)
    assert found.curve == expected.curve
    assert found.best_step == expected.best_step
    assert found.seconds > 0


def test_a_run_killed_between_checkpoints_goes_on_from_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perl_eval.training import loop

    whole = Regression()
    expected = whole.fit(tmp_path / "whole")
    clock = iter(range(10_000))
    with monkeypatch.context() as patched:
        patched.setattr(loop.time, "monotonic", lambda: float(next(clock)))
        broken = Regression(killed_at=13)
        with pytest.raises(Killed):
            broken.fit(tmp_path / "broken", checkpoint_every_s=4.5)
    again = Regression()
    found = again.fit(tmp_path / "broken")
    assert 5 < again.seen[0] < 13
    assert found.curve == expected.curve
    assert all(torch.equal(again.parameters[name], whole.parameters[name]) for name in whole.parameters)


def test_the_weights_with_the_lowest_validation_loss_stay(tmp_path: Path) -> None:
    kept: dict[int, torch.Tensor] = {}
    task = Regression()

    def evaluate() -> Mapping[str, float]:
        kept[task.seen[-1]] = task.parameters["weight"].detach().clone()
        return task.evaluate()

    options = LoopOptions(steps=20, learning_rate=0.05, evaluate_every=3)
    fit = optimise(Learning("fit", {"all": task.parameters}, task.learn, evaluate), options, folder=tmp_path)
    losses = {point.step: point.value for point in fit.curve if point.metric == "validation loss"}
    assert list(losses) == [2, 5, 8, 11, 14, 17, 19]
    assert fit.best_step == min(losses, key=lambda step: losses[step]) == 11
    assert torch.equal(task.parameters["weight"], kept[11])


@pytest.mark.parametrize("first", [False, True])
def test_the_weights_before_the_first_step_stay_if_no_step_betters_them(tmp_path: Path, first: bool) -> None:
    task = Regression()
    begun = {name: one.detach().clone() for name, one in task.parameters.items()}

    def evaluate() -> Mapping[str, float]:
        return {"validation loss": float(len(task.seen))}

    options = LoopOptions(steps=4, learning_rate=0.05, evaluate_every=2, evaluate_first=first)
    fit = optimise(Learning("fit", {"all": task.parameters}, task.learn, evaluate), options, folder=tmp_path)
    losses = [(point.step, point.value) for point in fit.curve if point.metric == "validation loss"]
    assert losses == [(-1, 0.0)] * first + [(1, 2.0), (3, 4.0)]
    assert fit.best_step == (-1 if first else 1)
    assert all(torch.equal(task.parameters[name], one) for name, one in begun.items()) == first


def test_without_evaluation_the_last_weights_stay(tmp_path: Path) -> None:
    task = Regression()
    options = LoopOptions(steps=5, learning_rate=0.05)
    fit = optimise(Learning("fit", {"all": task.parameters}, task.learn), options, folder=tmp_path)
    assert fit.best_step == 4
    assert [point.metric for point in fit.curve] == ["loss", "gradient norm"] * 5


def test_the_rate_rises_over_the_warm_up_and_falls_to_a_tenth(tmp_path: Path) -> None:
    """Under a constant gradient every Adam step is the learning rate long: m and v are its powers, corrected."""
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    places: list[float] = []

    def learn(_: int) -> Mapping[str, float]:
        places.append(float(weight.detach()))
        weight.sum().backward()
        return {"loss": 0.0}

    options = LoopOptions(steps=14, learning_rate=0.5, warmup=4)
    optimise(one(weight, learn), options, folder=tmp_path)
    lengths = -torch.tensor([*places, float(weight.detach())]).diff()
    falling = [1 - 0.9 * place / 10 for place in range(10)]
    assert lengths.numpy() == pytest.approx([0.5 * rate for rate in (0.25, 0.5, 0.75, 1.0, *falling)], rel=1e-4)


def test_the_gradient_is_clipped_and_its_norm_kept(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.zeros(4))
    clipped: list[float] = []

    def learn(_: int) -> Mapping[str, float]:
        (weight * 10).sum().backward()
        return {"loss": 0.0}

    class Watching(torch.optim.AdamW):
        def step(self, closure: Callable[[], float] | None = None) -> None:
            clipped.append(float(self.param_groups[0]["params"][0].grad.norm()))
            super().step(closure)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.optim, "AdamW", Watching)
        options = LoopOptions(steps=1, learning_rate=0.1, clip_norm=2.0)
        fit = optimise(one(weight, learn), options, folder=tmp_path)
    assert Measurement(0, "gradient norm", 20.0) in fit.curve
    assert clipped == pytest.approx([2.0], rel=1e-4)


def figures(name: str, values: Iterator[float], weight: nn.Parameter) -> Callable[[int], Mapping[str, float]]:
    def learn(_: int) -> Mapping[str, float]:
        weight.sum().backward()
        return {"reward": 1.0, name: next(values)}

    return learn


@pytest.mark.parametrize("name", ["loss", "value loss"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path, name: str, value: float) -> None:
    weight = nn.Parameter(torch.zeros(1))
    task = replace(one(weight, figures(name, iter([1.0, 1.0, value]), weight)), name="train it")
    with pytest.raises(Diverged, match=r"^train it: the loss is not finite at step 2; use a smaller .*$") as caught:
        optimise(task, LoopOptions(steps=9, learning_rate=0.1), folder=tmp_path)
    assert "\n" not in str(caught.value)
    assert torch.isfinite(weight).all()


def test_a_gradient_that_is_no_number_stops_the_run_before_it_reaches_the_weights(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.zeros(1))

    def learn(_: int) -> Mapping[str, float]:
        weight.sqrt().sum().backward()  # the slope at 0 is infinite, the value is not
        return {"loss": 0.0}

    with pytest.raises(Diverged, match="the gradient is not finite at step 0"):
        optimise(one(weight, learn), LoopOptions(steps=1, learning_rate=0.1), folder=tmp_path)
    assert weight.tolist() == [0.0]


def test_checkpoints_are_safetensors_and_whole(tmp_path: Path) -> None:
    task = Regression(killed_at=6)
    with pytest.raises(Killed):
        task.fit(tmp_path, checkpoint_every_s=-1)
    assert [path.name for path in (tmp_path / ".checkpoint").iterdir()] == ["state.safetensors"]


@pytest.mark.parametrize("killed_at", [None, 13])
def test_it_stops_after_so_many_evaluations_without_gain(tmp_path: Path, killed_at: int | None) -> None:
    """The validation loss is made worse from step 12 on, so three checks fail to gain. A kill changes nothing."""
    task = Regression(killed_at=-1 if killed_at is None else killed_at)
    if killed_at is not None:
        with pytest.raises(Killed):
            task.fit(tmp_path, patience=3, checkpoint_every_s=-1)
        task = Regression()
    fit = task.fit(tmp_path, patience=3, checkpoint_every_s=-1)
    checked = [point.step for point in fit.curve if point.metric == "validation loss"]
    assert checked == [1, 3, 5, 7, 9, 11, 13, 15, 17]
    assert (fit.best_step, fit.steps) == (11, 18)
    again = Regression()
    assert again.fit(tmp_path, patience=3, checkpoint_every_s=-1) == fit
    assert again.seen == []
    assert all(torch.equal(again.parameters[name], task.parameters[name]) for name in task.parameters)


def test_parts_are_clipped_apart_and_named(tmp_path: Path) -> None:
    small, large = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(4))
    seen: list[tuple[float, float]] = []

    def learn(_: int) -> Mapping[str, float]:
        (small * 0.25 + large * 1000).sum().backward()
        return {"loss": 0.0}

    class Watching(torch.optim.AdamW):
        def step(self, closure: Callable[[], float] | None = None) -> None:
            one, two = (parameter.grad for parameter in self.param_groups[0]["params"])
            seen.append((float(one.norm()), float(two.norm())))
            super().step(closure)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.optim, "AdamW", Watching)
        task = Learning("fit", {"policy": {"w": small}, "value": {"w": large}}, learn)
        fit = optimise(task, LoopOptions(steps=1, learning_rate=0.1), folder=tmp_path)
    assert seen == [(0.5, pytest.approx(1.0, rel=1e-4))]
    norms = {point.metric: point.value for point in fit.curve if point.metric != "loss"}
    assert norms == {"policy gradient norm": 0.5, "value gradient norm": 2000.0}


def test_weight_decay_pulls_towards_zero(tmp_path: Path) -> None:
    """Decoupled: without a gradient a weight shrinks by rate x decay a step."""
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def learn(_: int) -> Mapping[str, float]:
        (0.0 * weight).sum().backward()
        return {"loss": 0.0}

    options = LoopOptions(steps=1, learning_rate=0.1, warmup=1, weight_decay=0.5)
    optimise(one(weight, learn), options, folder=tmp_path)
    assert float(weight.detach()) == pytest.approx(1 - 0.1 * 0.5)
