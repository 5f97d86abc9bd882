"""The one training loop: optimizer, schedule, curve, best checkpoint, exact resume.

A step's randomness is a function of the run's seed and the step number, so parameters, optimizer moments and the
curve are the whole state. They are written every ``checkpoint_every_s`` seconds to a hidden folder, atomically; a run
that was killed goes on from there and ends with the same weights.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from perl_eval import tables
from perl_eval.errors import PerlEvalError
from perl_eval.progress import track
from perl_eval.records import Measurement

__all__ = ["Diverged", "Fit", "LoopOptions", "optimise"]

_FOLDER = ".checkpoint"


class Diverged(PerlEvalError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """How long and how fast to learn.

    ``learning_rate`` rises linearly over ``warmup`` steps, then falls linearly to a tenth. ``evaluate_every`` steps the
    validation figure is taken; 0 never.
    """

    steps: int
    learning_rate: float
    warmup: int = 10
    clip_norm: float = 1.0
    weight_decay: float = 0.0
    evaluate_every: int = 0
    checkpoint_every_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Fit:
    """What training gave: the curve, the step whose weights are in place, and seconds spent learning."""

    curve: list[Measurement]
    best_step: int
    seconds: float


def _rate(options: LoopOptions, step: int) -> float:
    if step < options.warmup:
        return (step + 1) / options.warmup
    progress = (step - options.warmup) / max(1, options.steps - options.warmup)
    return 1.0 - 0.9 * progress


def optimise(
    parameters: Mapping[str, nn.Parameter],
    learn: Callable[[int], Mapping[str, float]],
    options: LoopOptions,
    *,
    folder: Path,
    description: str,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
) -> Fit:
    """Run ``learn`` step by step and move the parameters down its gradient.

    Args:
        parameters: What to train, by name; fixed for the whole run.
        learn: Given the step, computes a loss, calls ``backward`` and returns figures for the curve.
        options: Steps and rates.
        folder: The run folder; checkpoints go to a hidden folder in it.
        description: For the progress bar.
        evaluate: Returns validation figures; the first is a loss, and the weights with the lowest stay.

    Raises:
        Diverged: A figure whose name ends in ``loss``, or the gradient, is not finite.
    """
    optimizer = torch.optim.AdamW(
        list(parameters.values()), lr=options.learning_rate, eps=1e-8, weight_decay=options.weight_decay
    )
    state = _State(folder / _FOLDER, parameters, optimizer)
    first = state.load()
    begun_s = saved_s = time.monotonic()
    for step in track(range(first, options.steps), description):
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * _rate(options, step)
        optimizer.zero_grad(set_to_none=True)
        figures = learn(step)
        if not all(torch.isfinite(torch.tensor(value)) for name, value in figures.items() if name.endswith("loss")):
            raise Diverged(f"{description}: the loss is not finite at step {step}; use a smaller learning rate")
        norm = nn.utils.clip_grad_norm_(list(parameters.values()), options.clip_norm)
        if not torch.isfinite(norm):
            raise Diverged(f"{description}: the gradient is not finite at step {step}; use a smaller learning rate")
        optimizer.step()
        state.curve += [Measurement(step, name, float(value)) for name, value in figures.items()]
        state.curve.append(Measurement(step, "gradient norm", float(norm)))
        last = step + 1 == options.steps
        if evaluate is not None and options.evaluate_every and ((step + 1) % options.evaluate_every == 0 or last):
            state.keep_best(step, evaluate())
        if not last and time.monotonic() - saved_s > options.checkpoint_every_s:
            state.seconds += time.monotonic() - begun_s
            state.save(step + 1)
            begun_s = saved_s = time.monotonic()
    state.seconds += time.monotonic() - begun_s
    best_step = state.restore_best(options.steps - 1)
    shutil.rmtree(folder / _FOLDER, ignore_errors=True)
    return Fit(state.curve, best_step, state.seconds)


class _State:
    """Everything that a resumed run needs, and how it lies on disk (safetensors and JSON)."""

    def __init__(self, folder: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        self.folder = folder
        self.parameters = parameters
        self.optimizer = optimizer
        self.curve: list[Measurement] = []
        self.seconds = 0.0
        self.best: dict[str, torch.Tensor] = {}
        self.best_step = -1
        self.best_loss = float("inf")

    def keep_best(self, step: int, figures: Mapping[str, float]) -> None:
        self.curve += [Measurement(step, name, float(value)) for name, value in figures.items()]
        loss = next(iter(figures.values()))
        if loss < self.best_loss:
            self.best_loss, self.best_step = loss, step
            self.best = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    def restore_best(self, last_step: int) -> int:
        if not self.best:
            return last_step
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self.best[name])
        return self.best_step

    def save(self, step: int) -> None:
        from safetensors.torch import save_file

        tensors = {f"parameter/{name}": parameter.detach() for name, parameter in self.parameters.items()}
        tensors |= {f"best/{name}": tensor for name, tensor in self.best.items()}
        for name, parameter in self.parameters.items():
            moments: dict[str, Any] = self.optimizer.state[parameter]
            tensors |= {f"moment/{key}/{name}": torch.as_tensor(value) for key, value in moments.items()}
        header = {
            "step": step,
            "seconds": self.seconds,
            "best_step": self.best_step,
            "best_loss": self.best_loss if self.best else None,
            "curve": [asdict(point) for point in self.curve],
        }
        # The header rides in the weights file: one rename makes both current at once.
        metadata = {"state": json.dumps(header)}
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        tables.replace_file(
            self.folder / "state.safetensors", lambda path: save_file(contiguous, path, metadata=metadata)
        )

    def load(self) -> int:
        path = self.folder / "state.safetensors"
        if not path.is_file():
            return 0
        from safetensors import safe_open

        with safe_open(path, framework="pt") as saved:
            header = json.loads(saved.metadata()["state"])
            names = set(saved.keys())
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(saved.get_tensor(f"parameter/{name}"))
                    if f"best/{name}" in names:
                        self.best[name] = saved.get_tensor(f"best/{name}")
                    self.optimizer.state[parameter] = {
                        key.split("/", 2)[1]: saved.get_tensor(key)
                        for key in names
                        if key.startswith("moment/") and key.split("/", 2)[2] == name
                    }
        self.curve = [Measurement(**point) for point in header["curve"]]
        self.seconds, self.best_step = header["seconds"], header["best_step"]
        if header["best_loss"] is not None:
            self.best_loss = header["best_loss"]
        return int(header["step"])
