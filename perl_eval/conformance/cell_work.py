"""The parts of a run that are measured alone, and how several processes share them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from perl_eval.conformance import our_estimators
from perl_eval.conformance.adapter_files import read_adapter
from perl_eval.conformance.batch import Estimator
from perl_eval.conformance.diagnosis import diagnose
from perl_eval.conformance.kept_cells import DIAGNOSIS, TRAINING, KeptCells
from perl_eval.conformance.listed_language import WorldShape
from perl_eval.conformance.measured_bias import measure
from perl_eval.conformance.training_end import train_to_the_end
from perl_eval.storage.executor import Executor
from perl_eval.storage.progress import track

__all__ = ["Cell", "fill", "make_cell", "named_estimators"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A part of a run that is measured alone.

    Attributes:
        name: Of the estimator.
        part: A world, `DIAGNOSIS` or `TRAINING`.
    """

    name: str
    part: WorldShape | str


def named_estimators(adapters: Sequence[Path]) -> list[Estimator]:
    """Return the estimators of this package and of adapter files.

    Args:
        adapters: Python files; they are run.
    """
    found = [*our_estimators.estimators()]
    for path in adapters:
        found += read_adapter(path)
    return found


def make_cell(cells: KeptCells, estimator: Estimator, part: WorldShape | str) -> None:
    """Measure a part, and keep it, unless it is kept already."""
    if isinstance(part, WorldShape):
        cells.world(estimator, f"{part}", lambda: measure(estimator, part))
    elif part == DIAGNOSIS:
        cells.diagnosis(estimator, lambda: diagnose(estimator))
    else:
        cells.end(estimator, lambda: train_to_the_end(estimator))


def _open_worker(folder: Path, adapters: tuple[Path, ...]) -> Callable[[Cell], None]:
    """Return what measures a cell, in a process of its own."""
    torch.set_num_threads(1)
    cells = KeptCells(folder)
    by_name = {one.name: one for one in named_estimators(adapters)}
    return lambda cell: make_cell(cells, by_name[cell.name], cell.part)


def fill(
    folder: Path,
    chosen: Sequence[Estimator],
    worlds: Sequence[WorldShape],
    *,
    adapters: tuple[Path, ...],
    trained: bool,
    executor: Executor,
) -> None:
    """Measure all parts that are not kept yet.

    Args:
        folder: Where parts are kept.
        chosen: The estimators.
        worlds: The worlds.
        adapters: The files that the estimators come from; every process runs them.
        trained: Whether the end of training is a part.
        executor: Who does the work.
    """
    cells = KeptCells(folder)
    parts: list[WorldShape | str] = [*worlds, DIAGNOSIS, *([TRAINING] if trained else [])]
    missing = [Cell(one.name, part) for one in chosen for part in parts if not cells.has(one, f"{part}")]
    opened = functools.partial(_open_worker, folder, adapters)
    for _ in track(executor(opened, missing), "parts", total=len(missing)):
        pass
