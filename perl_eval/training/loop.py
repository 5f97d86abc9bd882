"""The one training loop: optimizer, schedule, curve, best checkpoint, early stopping, exact resume.

A step's randomness is a function of the run's seed and the step number, so parameters, optimizer moments and the
curve are the whole state. They are written every ``checkpoint_every_s`` seconds to a hidden folder, atomically; a run
that was killed goes on from there and ends with the same weights. What was learned stays there until the run has its
card, so that a kill while the verb saves or measures its model costs no training.
"""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from perl_eval import figure_names as named
from perl_eval.errors import PerlEvalError, UserError
from perl_eval.models.checkpoint_folder import written
from perl_eval.records import Measurement
from perl_eval.storage import parquet, run_folder
from perl_eval.storage.progress import tell, track
from perl_eval.training.distributed import Processes
from perl_eval.training.fsdp import as_share, clip, local, plain, share_of, whole
from perl_eval.training.schedule import Shape, factor
from perl_eval.training.updating import moments_of, optimizer_of

__all__ = ["Diverged", "Fit", "Learning", "LoopOptions", "begun", "optimise"]

_STATE = "state.safetensors"
_MOST_WRITING = 20.0
"""Checkpoints are as many times as long apart, at least, as one takes to be written."""
_LARGE = 2**28
"""The size from which on checkpoints are spoken of: 256 MiB."""


class Diverged(PerlEvalError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """How long and how fast to learn.

    ``learning_rate`` rises linearly over ``warmup`` steps, then moves as ``shape`` says. ``evaluate_every`` steps the
    validation figure is taken; 0 never. With ``evaluate_first`` it is also taken before the first step, as that of
    step -1, whose weights may be the best. After ``patience`` evaluations without a lower loss the run stops; 0 never.
    Weight decay pulls at matrices only, with ``decay_all`` at all that is trained.

    Adam's epsilon is torch's and TRL's 1e-8, not the 1e-5 of some older RLHF code, which damps the first steps; the
    warmup does that here. Checkpoints are written after multiples of ``checkpoint_multiple`` steps only, where what a
    task holds in between can be made anew.
    """

    steps: int
    learning_rate: float
    warmup: int = 10
    shape: Shape = "linear"
    clip_norm: float = 1.0
    weight_decay: float = 0.0
    evaluate_every: int = 0
    evaluate_first: bool = False
    patience: int = 0
    checkpoint_every_s: float = 30.0
    checkpoint_multiple: int = 1
    optimizer: str = "adamw"
    decay_all: bool = False


@dataclass(frozen=True, slots=True)
class Learning:
    """What is learned.

    Attributes:
        name: For the progress bar.
        parts: What to train, by part and name; fixed for the whole run. Each part's gradient is clipped apart, so that
            a value head with large errors cannot shrink the policy's step.
        learn: Given the step, computes a loss of this process's share, calls ``backward`` and returns figures of the
            whole step for the curve.
        evaluate: Returns validation figures; the first is a loss, and the weights with the lowest stay.
        log: Gets each step's figures as they come.
        watch: Given the curve so far, says what the weights are worth, less being better, and whether to stop; of a run
            that is stopped the best weights stay.
    """

    name: str
    parts: Mapping[str, Mapping[str, nn.Parameter]]
    learn: Callable[[int], Mapping[str, float]]
    evaluate: Callable[[], Mapping[str, float]] | None = None
    log: Callable[[int, Mapping[str, float]], None] | None = None
    watch: Callable[[Sequence[Measurement]], tuple[float, bool]] | None = None

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """All parameters by part and name."""
        return {f"{part}.{name}": one for part, weights in self.parts.items() for name, one in weights.items()}


@dataclass(frozen=True, slots=True)
class Fit:
    """What training gave: the curve, the step whose weights are in place, steps taken, and seconds spent learning."""

    curve: list[Measurement]
    best_step: int
    steps: int
    seconds: float


def optimise(task: Learning, options: LoopOptions, *, folder: Path, processes: Processes | None = None) -> Fit:
    """Run a task step by step and move its parameters down their gradient.

    Args:
        task: What is learned.
        options: Steps and rates.
        folder: The run folder; checkpoints go to a hidden folder in it, which goes once the run has its card.
        processes: Who shares the work; the main one writes the checkpoints, and all read them.

    Raises:
        Diverged: A figure whose name ends in ``loss``, or a gradient, is not finite.
    """
    processes = processes or Processes()
    parameters = task.parameters
    optimizer = optimizer_of(
        options.optimizer,
        parameters.values(),
        options.learning_rate,
        options.weight_decay,
        decay_all=options.decay_all,
    )
    state = _State(folder / run_folder.CHECKPOINT, parameters, optimizer, processes)
    first = state.load()
    if state.finished:
        return state.fit()
    if processes.is_main:
        tell(_said_of_checkpoints(task, options, state))
    begun_s = saved_s = time.monotonic()
    stopped = False
    if task.evaluate and options.evaluate_first and not first:
        checked = task.evaluate()
        state.keep_best(-1, next(iter(checked.values())))
        state.curve += [Measurement(-1, name, float(value)) for name, value in checked.items()]
    ahead: Iterable[int] = range(first, options.steps)
    for step in track(ahead, task.name, total=options.steps - first) if processes.is_main else ahead:
        if options.patience and state.stale >= options.patience:
            break
        _set_rate(optimizer, options, step)
        optimizer.zero_grad(set_to_none=True)
        figures = _learned(task, step, state)
        processes.sum_gradients(plain(parameters.values()))
        figures |= _clip(task, options.clip_norm, processes)
        _refuse_if_diverged(task.name, step, figures)
        optimizer.step()
        last = step + 1 == options.steps
        state.steps = step + 1
        if task.evaluate and options.evaluate_every and ((step + 1) % options.evaluate_every == 0 or last):
            optimizer.zero_grad(set_to_none=True)
            figures |= (checked := task.evaluate())
            state.keep_best(step, next(iter(checked.values())))
        state.curve += [Measurement(step, name, float(value)) for name, value in figures.items()]
        if task.log and processes.is_main:
            task.log(step, figures)
        if task.watch and (stopped := state.watched(step, *task.watch(state.curve))):
            break
        wait_s = (
            max(options.checkpoint_every_s, _MOST_WRITING * state.write_s) if options.checkpoint_every_s > 0 else -1
        )
        whole_batch = (step + 1) % options.checkpoint_multiple == 0
        due = processes.is_main and whole_batch and time.monotonic() - saved_s > wait_s
        if not last and processes.agreed(due=due):
            state.seconds += time.monotonic() - begun_s
            state.save()
            begun_s = saved_s = time.monotonic()
    optimizer.zero_grad(set_to_none=True)
    state.seconds += time.monotonic() - begun_s
    state.finish(best=stopped or task.watch is None)
    if processes.is_main or processes.sharded:
        state.save()
    processes.wait()
    return state.fit()


def _set_rate(optimizer: torch.optim.Optimizer, options: LoopOptions, step: int) -> None:
    moved = factor(options.shape, step, steps=options.steps, warmup=options.warmup)
    for group in optimizer.param_groups:
        group["lr"] = options.learning_rate * moved


def _said_of_checkpoints(task: Learning, options: LoopOptions, state: _State) -> str:
    """Return what to say about large checkpoints; "" of small ones."""
    copies = 1 + moments_of(options.optimizer) + (task.evaluate is not None and options.evaluate_every > 0)
    size = copies * sum(one.numel() * one.element_size() for one in task.parameters.values())
    if size < _LARGE:
        return ""
    often = f"every {options.checkpoint_every_s:g} s or more" if options.checkpoint_every_s > 0 else "after every step"
    return f"{task.name}: a checkpoint of up to {size / 1e9:.1f} GB is written to {state.folder} {often}"


def begun(folder: Path) -> bool:
    """Return whether a run folder has a checkpoint, from which `optimise` goes on."""
    return (folder / run_folder.CHECKPOINT / _STATE).is_file()


def _learned(task: Learning, step: int, state: _State) -> dict[str, float]:
    """Take the gradient of a step; where something of the user's fails, which he may mend, what was learned is kept."""
    try:
        return dict(task.learn(step))
    except UserError:
        if step and state.processes.count == 1:
            state.save()
        raise


def _clip(task: Learning, clip_norm: float, processes: Processes) -> dict[str, float]:
    """Clip each part's gradient to a norm, and return the norms as they were."""
    norms = {}
    for part, weights in task.parts.items():
        name = named.GRADIENT_NORM if len(task.parts) == 1 else f"{part} gradient norm"
        norms[name] = clip(weights.values(), clip_norm, processes)
    return norms


def _refuse_if_diverged(name: str, step: int, figures: Mapping[str, float]) -> None:
    for figure, value in figures.items():
        what = "loss" if figure.endswith("loss") else "gradient" if figure.endswith(named.GRADIENT_NORM) else ""
        if what and not math.isfinite(value):
            raise Diverged(f"{name}: the {what} is not finite at step {step}; use a smaller learning rate")


class _State:
    """Everything that a resumed run needs, and how it lies on disk (safetensors and JSON)."""

    def __init__(
        self,
        folder: Path,
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        processes: Processes,
    ) -> None:
        self.folder = folder
        self.processes = processes
        self.parameters = parameters
        self.optimizer = optimizer
        self.curve: list[Measurement] = []
        self.seconds = 0.0
        self.steps = 0
        self.stale = 0
        self.best: dict[str, torch.Tensor] = {}
        self.best_step = -1
        self.best_loss = float("inf")
        self.finished = False
        self.write_s = 0.0

    def keep_best(self, step: int, loss: float) -> None:
        self.stale += 1
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.stale = loss, step, 0
            # in the machine's memory, not the GPU's, which full tuning fills
            self.best = {name: local(one.detach()).to("cpu", copy=True) for name, one in self.parameters.items()}

    def watched(self, step: int, worth: float, stop: bool) -> bool:
        """Keep the weights if they are worth most so far; return whether to stop."""
        self.keep_best(step, worth)
        return stop

    def finish(self, *, best: bool) -> None:
        """Put the best weights in place, if wanted; moments, and weights kept apart, are needed no more."""
        self.finished = True
        if not best:
            self.best.clear()
        if not self.best:
            self.best_step = self.steps - 1
        with torch.no_grad():
            for name, kept in self.best.items():
                local(self.parameters[name]).copy_(kept)
        self.best.clear()
        self.optimizer.state.clear()

    def fit(self) -> Fit:
        return Fit(self.curve, self.best_step, self.steps, self.seconds)

    def save(self) -> None:
        from safetensors.torch import save_file

        full = functools.partial(whole, processes=self.processes)  # of shares by all, in one order
        tensors = {f"parameter/{name}": full(parameter.detach()) for name, parameter in self.parameters.items()}
        for name, best in self.best.items():
            tensors[f"best/{name}"] = full(as_share(best, self.parameters[name]))
        for name, parameter in self.parameters.items():
            moments: dict[str, Any] = self.optimizer.state.get(parameter, {})
            kept = {key: moments[key] for key in sorted(moments) if moments[key] is not None}
            tensors |= {f"moment/{key}/{name}": full(torch.as_tensor(moment)) for key, moment in kept.items()}
        if not self.processes.is_main:
            return
        header = {
            "steps": self.steps,
            "seconds": self.seconds,
            "stale": self.stale,
            "best_step": self.best_step,
            "best_loss": self.best_loss if self.best else None,
            "finished": self.finished,
            "curve": [asdict(point) for point in self.curve],
        }
        # The header rides in the weights file: one rename makes both current at once.
        metadata = {"state": json.dumps(header)}
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        begun_s = time.monotonic()
        with written(self.folder):
            parquet.replace_file(self.folder / _STATE, lambda path: save_file(contiguous, path, metadata=metadata))
        self.write_s = time.monotonic() - begun_s

    def load(self) -> int:
        path = self.folder / _STATE
        if not path.is_file():
            return 0
        from safetensors import safe_open

        with safe_open(path, framework="pt") as saved:
            header = json.loads(saved.metadata()["state"])
            names = set(saved.keys())
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(share_of(saved.get_tensor(f"parameter/{name}"), parameter))
                    if f"best/{name}" in names:
                        best = share_of(saved.get_tensor(f"best/{name}"), parameter)
                        self.best[name] = local(best).cpu()
                    self.optimizer.state[parameter] = {
                        key.split("/", 2)[1]: _moment(saved.get_tensor(key), parameter)
                        for key in names
                        if key.startswith("moment/") and key.split("/", 2)[2] == name
                    }
        self.curve = [Measurement(**point) for point in header["curve"]]
        self.seconds, self.best_step, self.stale = header["seconds"], header["best_step"], header["stale"]
        if header["best_loss"] is not None:
            self.best_loss = header["best_loss"]
        self.steps, self.finished = int(header["steps"]), header["finished"]
        return self.steps


def _moment(saved: torch.Tensor, parameter: nn.Parameter) -> torch.Tensor:
    """Put a moment where its parameter is; Adam counts steps on the CPU."""
    return saved if saved.dim() == 0 else share_of(saved.to(parameter.device), parameter)
