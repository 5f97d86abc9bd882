"""The loop: its schedule, its best weights, and that a killed run ends where an unbroken one does, to the last bit."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from perl_eval.errors import UserError
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
    assert 1 < again.seen[0] < 13
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

    options = LoopOptions(steps=1, learning_rate=0.1, warmup=1, weight_decay=0.5, decay_all=True)
    optimise(one(weight, learn), options, folder=tmp_path)
    assert float(weight.detach()) == pytest.approx(1 - 0.1 * 0.5)


def test_writing_takes_a_twentieth_of_the_time_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which every step takes a second and every checkpoint two: one in forty seconds."""
    from perl_eval.training import loop

    now, saves = [0.0], []
    save = loop._State.save

    def slow(state: object) -> None:
        save(state)
        now[0] += 2.0
        state.write_s = 2.0
        saves.append(now[0])

    task = Regression()

    def learn(step: int) -> Mapping[str, float]:
        now[0] += 1.0
        return task.learn(step)

    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(loop._State, "save", slow)
    options = LoopOptions(steps=100, learning_rate=0.01, checkpoint_every_s=4.5)
    optimise(Learning("fit", {"all": task.parameters}, learn), options, folder=tmp_path)
    assert saves[0] == 7.0
    assert all(later - before > 40 for before, later in itertools.pairwise(saves[:-1]))
    assert len(saves) == 4  # at 7, 50 and 93 seconds, and the end


def test_what_fails_by_the_users_fault_costs_no_step(tmp_path: Path) -> None:
    whole = Regression()
    expected = whole.fit(tmp_path / "whole")
    broken, mended = Regression(), Regression(start=9.0)

    def learn(step: int) -> Mapping[str, float]:
        if step == 13:
            raise UserError("the reward is not finite")
        return broken.learn(step)

    task = Learning("fit", {"all": broken.parameters}, learn, broken.evaluate)
    options = LoopOptions(steps=20, learning_rate=0.05, warmup=3, weight_decay=0.01, evaluate_every=2)
    with pytest.raises(UserError, match="not finite"):
        optimise(task, options, folder=tmp_path / "broken")
    found = mended.fit(tmp_path / "broken")
    assert mended.seen == list(range(13, 20))
    assert found.curve == expected.curve


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch
    from safetensors import SafetensorError

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(UserError, match=r"cannot write weights to .*No space left on device.*GB are free there; make"):
        Regression().fit(tmp_path)


@pytest.mark.parametrize("kind", ["sgd", "adafactor"])
def test_other_optimizers_learn_and_go_on_to_the_same_bits(tmp_path: Path, kind: str) -> None:
    whole = Regression()
    expected = whole.fit(tmp_path / "whole", optimizer=kind)
    losses = [point.value for point in expected.curve if point.metric == "loss"]
    assert losses[-1] < losses[0]
    broken = Regression(killed_at=7)
    with pytest.raises(Killed):
        broken.fit(tmp_path / "broken", optimizer=kind, checkpoint_every_s=-1)
    again = Regression(start=9.0)
    assert again.fit(tmp_path / "broken", optimizer=kind).curve == expected.curve
    assert all(torch.equal(again.parameters[name], whole.parameters[name]) for name in whole.parameters)


def test_vectors_decay_only_where_all_do(tmp_path: Path) -> None:
    def moved(*, decay_all: bool) -> tuple[float, float]:
        matrix, vector = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))

        def learn(_: int) -> Mapping[str, float]:
            (0.0 * (matrix.sum() + vector.sum())).backward()
            return {"loss": 0.0}

        options = LoopOptions(steps=1, learning_rate=0.1, warmup=1, weight_decay=0.5, decay_all=decay_all)
        task = Learning("fit", {"all": {"m": matrix, "v": vector}}, learn)
        optimise(task, options, folder=tmp_path / str(decay_all))
        return float(matrix.detach()[0, 0]), float(vector.detach()[0])

    assert moved(decay_all=False) == pytest.approx((0.95, 1.0))
    assert moved(decay_all=True) == pytest.approx((0.95, 0.95))


def test_large_checkpoints_are_spoken_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weight = nn.Parameter(torch.zeros(2**23 * 3))

    def learn(_: int) -> Mapping[str, float]:
        weight.grad = torch.zeros_like(weight)
        return {"loss": 0.0}

    optimise(one(weight, learn), LoopOptions(steps=1, learning_rate=0.1), folder=tmp_path)
    assert "a checkpoint of up to 0.3 GB is written to" in capsys.readouterr().err
