"""Rank by size by arm by seed: the tables of PE-RLHF (arXiv 2403.10704, tables 1 to 4), each cell with its interval.

Every cell is a run folder of its own, so a killed ablation goes on at the run that was cut short. Within a size all
reward models start from one SFT model, and all policies are trained on one reward model, the first seed's LoRA of the
highest rank, unless each seed is to have its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from perl_eval import figure_names as named
from perl_eval.checks import valid_seed
from perl_eval.models.model_source import located
from perl_eval.records import About, Estimate
from perl_eval.stats import intervals
from perl_eval.storage import hub_snapshot, run_folder
from perl_eval.training import overoptimisation_plot
from perl_eval.training.cells import (
    FULL,
    PEAK_BYTES,
    STEP_SECONDS,
    TENSOR_BYTES,
    TEST_ROWS,
    AblateOptions,
    Cells,
    Figures,
    Stage,
    Truth,
)

__all__ = ["FULL", "AblateOptions", "run"]

SFT = "SFT"


def run(
    data: Path, out: Path, *, options: AblateOptions | None = None, truth: Truth | None = None, seed: int = 0
) -> Path:
    """Train every cell and write one table.

    Args:
        data: A folder with the configs ``demonstrations``, ``preferences`` (or ``ratings``) and ``prompts``; or one of
            splits of Preference rows, whose chosen answers and prompts are taken for the others.
        out: The run folder; cells lie under ``cells``, the table in ``estimates.parquet``: of each size and arm reward
            accuracy, learned reward and KL of the policy, what the policy is truly worth, bytes, seconds, shares, and
            the differences to full tuning and to the SFT model, seed by seed. With ``betas`` also
            ``overoptimisation.svg`` and ``.png``: learned and true reward against KL.
        options: See `AblateOptions`.
        truth: What a text is really worth, if that is known.
        seed: The first seed.

    Raises:
        UserError: No such data, or a size that is neither a name nor a folder.
        DataError: A changed input.
    """
    options = options or AblateOptions()
    data, out = Path(data), Path(out)
    arguments = asdict(options) | {"truth": truth is not None}
    sources = {size: located(size) for size in options.sizes}
    inputs = {"data": data} | {size: path for size, path in sources.items() if hub_snapshot.name_of(path)}
    with run_folder.start(out, verb="ablate", arguments=arguments, seed=valid_seed(seed), inputs=inputs) as going:
        if going.done:
            return going.folder
        estimates: list[Estimate] = []
        trials: dict[str, float] = {}
        for size in options.sizes:
            name = Path(size).name
            cells = Cells(data, going.folder / "cells" / name, options, seed)
            estimates += intervals.about(_of_size(cells, truth), About(scope=name), simulated=going.simulated)
            trials |= {f"{name}, {trial}": worth for trial, worth in cells.trials.items()}
        going.write(estimates, Estimate)
        if options.betas:
            overoptimisation_plot.draw(estimates, going.folder)
        going.notes |= {"cells": len(options.sizes) * len(options.arms) * len(options.strengths) * options.seeds}
        going.notes |= {"tried": trials}
    return going.folder


def _of_size(cells: Cells, truth: Truth | None) -> list[Estimate]:
    """Return the table of one size; cells that differ in nothing but beta share their reward models."""
    prior, estimates = cells.of_prior(truth), []
    first: dict[str, Figures] = {}
    for beta in cells.options.strengths:
        full: Figures | None = None
        for arm in cells.options.arms:
            found = cells.figures(arm, truth, beta)
            others = {name: one for name, one in ((FULL, full), (SFT, prior)) if one is not None}
            if arm in first:
                others[f"beta {cells.options.strengths[0]:g}"] = first[arm]
            table = [*_table(found, full), *_differences(found, others), *_rates(cells, arm), _rows(cells, arm)]
            estimates += intervals.about(table, overoptimisation_plot.subject(arm, beta))
            full = found if arm == FULL else full
            first.setdefault(arm, found)
    return [*estimates, *intervals.about(_table(prior, None), About(policy=SFT))]


_WORTHS = {
    named.PAIR_ACCURACY: 1.0,
    named.AUC: 1.0,
    named.BALANCED_ACCURACY: 1.0,
    "learned reward": None,
    named.TRUE_REWARD: None,
}
"""Figures whose differences are told, and the most they can be."""
_ANY = float("inf")
_COSTS = (TENSOR_BYTES, PEAK_BYTES, STEP_SECONDS)
_TOO_FEW = 2
"""Values whose interval, by Student's t of one degree of freedom, is wider than what it is of."""


def _differences(found: Figures, others: Mapping[str, Figures]) -> list[Estimate]:
    """Return how far an arm is above others, seed by seed: both answer the same prompts and judge the same pairs."""
    return [
        _within(intervals.mean(f"{name}, above {other}", np.subtract(found[name], theirs[name])), -(most or _ANY), most)
        for other, theirs in others.items()
        for name, most in _WORTHS.items()
        if name in found and name in theirs
    ]


def _within(estimate: Estimate, least: float, most: float | None) -> Estimate:
    """Return an estimate whose interval holds nothing that the figure cannot be."""
    if estimate.low is None or estimate.high is None:
        return estimate
    high = estimate.high if most is None else min(estimate.high, most)
    return replace(estimate, low=max(estimate.low, least), high=high)


def _over_seeds(name: str, values: Any, most: float | None = None) -> Estimate:
    """Return the mean over seeds of what is not negative, and ``most`` at most.

    Two values have no interval worth telling. An accuracy is not one yes or no a seed but a mean of many: Student's t.
    """
    found = _within(intervals.mean(name, values), 0.0, most)
    if found.n > _TOO_FEW or found.low is None:
        return found
    return replace(found, low=None, high=None, reason=f"{found.n} seeds only; they give no interval")


def _rows(cells: Cells, arm: str) -> Estimate:
    """Return how many rows the accuracies rest on."""
    return Estimate(TEST_ROWS, float(cells.test_rows(arm)), None, None, cells.options.seeds, 0, "counted", kind="count")


def _rates(cells: Cells, arm: str) -> list[Estimate]:
    """Return the learning rates of an arm, and how they were come by."""
    told = []
    stages: Mapping[Stage, str] = {"reward": "reward learning rate", "policy": "RL learning rate"}
    for stage, name in stages.items():
        tried = len(dict.fromkeys(cells.options.tried))
        how = f"best of {tried}, on seed {cells.seeds[-1] + 1}" if tried > 1 else "given"
        told.append(Estimate(name, cells.rate(stage, arm), None, None, tried, 0, how))
    return told


def _table(found: Figures, full: Figures | None) -> list[Estimate]:
    """Return each figure's mean over seeds with its interval, and costs as shares of full tuning's."""
    most = {name: most for name, most in _WORTHS.items() if most}
    result = [
        _over_seeds(name, values, most.get(name))
        if name.endswith(_COSTS) or name in most
        else intervals.mean(name, values)
        for name, values in found.items()
    ]
    if full is None:
        return result
    for name, values in found.items():
        if "bytes" in name and name in full:
            result.append(_over_seeds(f"{name}, of full", np.array(values) / np.mean(full[name])))
        if name.endswith(STEP_SECONDS) and name in full:
            speed = name.replace(STEP_SECONDS, "steps a second, of full")
            # A mean of ratios would be that of the seed with the shortest time.
            speed_of_full = float(np.mean(full[name]) / np.mean(values))
            result.append(Estimate(speed, speed_of_full, None, None, len(values), 0, "ratio of mean seconds"))
    return result
