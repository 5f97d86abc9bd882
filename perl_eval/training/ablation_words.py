"""What an ablation found, in words: each adapter against full tuning, and what its figures of memory are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from perl_eval import figure_names as named
from perl_eval.records import Estimate
from perl_eval.stats.intervals import proportion
from perl_eval.training.cells import FULL, PEAK_BYTES, STEP_SECONDS, TENSOR_BYTES, TEST_ROWS

__all__ = ["MEMORY", "sentences", "too_few_rows"]

MEMORY = (
    f"In the table, {TENSOR_BYTES} are those of weights, gradients and moments; {PEAK_BYTES} are measured on this "
    "machine, and without a GPU include the program itself, so that they do not compare models of a few million "
    "weights. Seconds are those that passed: two arms can be compared only where nothing else ran beside."
)
"""What the figures of memory are."""
_LEAST_ROWS = 30
_SAME = 0.005
"""Differences below it are none in two digits."""
_ACCURACIES = (named.PAIR_ACCURACY, named.BALANCED_ACCURACY)


def sentences(found: Sequence[Estimate]) -> list[str]:
    """Return a sentence for each adapter that full tuning stands beside: accuracy, memory and time of reward models.

    Args:
        found: The table of an ablation.
    """
    said: list[str] = []
    cells = _cells(found)
    for (size, arm), own in cells.items():
        full = cells.get((size, FULL))
        name = next((one for one in _ACCURACIES if f"{one}, above {FULL}" in own), None)
        if arm != FULL and full is not None and name is not None:
            parts = [_accuracy(own, name), *_costs(own, full)]
            said.append(f"{size}: LoRA {arm} against full: {'; '.join(parts)}.")
    return said


def too_few_rows(found: Sequence[Estimate]) -> str:
    """Return a warning where accuracies rest on fewer than 30 rows; "" where they do not."""
    rows = [round(one.value) for one in found if one.name == TEST_ROWS and one.value is not None]
    if not rows or min(rows) >= _LEAST_ROWS:
        return ""
    one = f"{1 / max(1, min(rows)):.2f}"
    return (
        f"only {_counted(min(rows), 'test row')} for the reward models: one row more or less is {one} of "
        f"an accuracy, which the intervals over seeds do not show; give {_LEAST_ROWS} or more, as test.jsonl beside "
        "train.jsonl in a folder"
    )


def _cells(found: Sequence[Estimate]) -> dict[tuple[str, str], dict[str, Estimate]]:
    """Return the figures of each size and arm by name; reward models are the same at every beta."""
    cells: dict[tuple[str, str], dict[str, Estimate]] = {}
    for one in found:
        cells.setdefault((one.about.scope, one.about.policy), {}).setdefault(one.name, one)
    return cells


def _accuracy(own: Mapping[str, Estimate], name: str) -> str:
    above = own[f"{name}, above {FULL}"]
    if above.value is None:
        return f"{name} not compared"
    way = "the same" if abs(above.value) < _SAME else f"{above.value:+.2f}"
    known = above.low is not None and above.high is not None
    low, high = above.low or 0.0, above.high or 0.0
    between = f" ({low:+.2f} to {high:+.2f})" if known else ""
    apart = known and not low <= 0 <= high
    rows = own.get(TEST_ROWS)
    tested = "" if rows is None or rows.value is None else f" on {_counted(rows.value, 'test row')}"
    told = "a difference" if apart else "no difference found"
    return f"{name} {way}{between}, {told}{tested}, {_counted(above.n, 'seed')}{'' if known else _alone(own, name)}"


def _alone(own: Mapping[str, Estimate], name: str) -> str:
    """Say what so many rows tell of an accuracy that is the same for every seed and so has no interval over them."""
    accuracy, rows = own.get(name), own.get(TEST_ROWS)
    if accuracy is None or accuracy.value is None or rows is None or not rows.value:
        return " (no interval)"
    tested = round(rows.value)
    one = proportion(name, np.arange(tested) < round(accuracy.value * tested))
    return f" ({accuracy.value:.3f} for each; with {tested:,} rows the true one may be {one.low:.3f} to {one.high:.3f})"


def _counted(number: float, what: str) -> str:
    return f"{number:,.0f} {what}{'' if number == 1 else 's'}"


def _costs(own: Mapping[str, Estimate], full: Mapping[str, Estimate]) -> list[str]:
    """Return the share of full tuning's bytes and time that a reward model takes, and of the time that RL takes."""
    words = (
        (f"reward {TENSOR_BYTES}", "bytes of weights, gradients and moments"),
        (f"reward {STEP_SECONDS}", "time of a step of the reward model"),
        (f"RL {STEP_SECONDS}", "time of a step of RL"),
    )
    shares = [(own[name].value, full[name].value, what) for name, what in words if name in own and name in full]
    return [f"{mine / theirs:.0%} of the {what}" for mine, theirs, what in shares if mine is not None and theirs]
