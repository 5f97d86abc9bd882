"""The verb ``plan``: hours and money for a thousand to a hundred million judgements, and of an RL step, as measured.

Rates come from run cards of ``judge``, ``sample`` and ``train policy``, or from the command line; nothing is assumed
about a model or a machine. A worker is whatever made the measured run. The figures for workers assume that the work
divides evenly and that the server, or the shared disk, keeps up: they are the least that so many workers need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perl_eval import runs
from perl_eval.errors import DataError, UserError
from perl_eval.records import Estimate, RunCard

__all__ = ["SIZES", "STEP_S", "Given", "run"]

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
"""Numbers of judgements that are planned for."""
STEP_S = "seconds a step"
"""The note of a training run that says what a step took."""
_HOUR_S = 3600.0
_UNITS = {"judge": "judgement", "sample": "completion"}


@dataclass(frozen=True, slots=True)
class Given:
    """What is not on a run card, or is to be taken instead.

    Attributes:
        judgements_per_hour: Of one worker.
        usd_per_judgement: What an API charges for one; a judge's run card has it where prices were stated.
        usd_per_hour: Price of an hour of one worker: a machine, or the GPUs of it that one worker takes.
        seconds_per_rl_step: Of an RL run.
        gpus: GPUs that one worker, or the RL run, has.
        patience_h: Hours that a run may take; how many workers that needs is planned.
    """

    judgements_per_hour: float | None = None
    usd_per_judgement: float | None = None
    usd_per_hour: float | None = None
    seconds_per_rl_step: float | None = None
    gpus: float = 0.0
    patience_h: float = 24.0

    def __post_init__(self) -> None:
        for name in ("judgements_per_hour", "seconds_per_rl_step", "patience_h"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"{name} is {value}", "give a number above 0")
        for name in ("usd_per_judgement", "usd_per_hour", "gpus"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UserError(f"{name} is {value}", "give a number of at least 0")


@dataclass(frozen=True, slots=True)
class _Rate:
    """What one worker does of something: seconds to start, seconds and dollars for each, and how that is known."""

    subject: str
    unit: str
    fixed_s: float
    each_s: float
    each_usd: float | None
    tokens: float | None
    n: int
    method: str

    def hours(self, count: float) -> float:
        return (self.fixed_s + count * self.each_s) / _HOUR_S


def run(sources: Sequence[Path], out: Path, *, given: Given | None = None) -> Path:
    """Plan from runs that were measured.

    Two runs or more of one judge, or one policy, of different sizes tell what starting takes from what each one takes;
    a single run counts its start as part of the work.

    Args:
        sources: Run folders of ``judge``, ``sample`` and ``train policy``.
        out: Output folder.
        given: What is known otherwise.

    Returns:
        The output folder, with ``estimates.parquet``.

    Raises:
        UserError: There is nothing to plan from, or a run measures nothing: its answers came from a ledger.
        DataError: A run card lacks what its verb writes.
    """
    given = given or Given()
    folders = [Path(source) for source in sources]
    inputs = {f"run {place + 1}": folder for place, folder in enumerate(folders)}
    with runs.start(out, verb="plan", arguments=asdict(given), inputs=inputs) as going:
        if going.done:
            return going.folder
        cards = [(folder, _card(folder)) for folder in folders]
        rates = [*_given_rates(given), *_measured_rates([one for one in cards if one[1].verb in _UNITS])]
        found = [estimate for rate in rates for estimate in _of_rate(rate, given)]
        found += [
            estimate for folder, card in cards if card.verb == "train policy" for estimate in _step(folder, card, given)
        ]
        if given.seconds_per_rl_step is not None:
            found += _of_step("RL step", given.seconds_per_rl_step, 1, "given", given)
        if not found:
            raise UserError("there is nothing to plan from", "give runs of judge, sample or train policy, or figures")
        going.write(found, Estimate)
    return going.folder


def _card(folder: Path) -> RunCard:
    card = runs.read_card(folder)
    if card is None:
        raise UserError(f"{folder} is no finished run", "give the output folder of a verb")
    if card.verb not in (*_UNITS, "train policy"):
        raise UserError(f"{folder} is a run of `{card.verb}`", "give runs of judge, sample or train policy")
    return card


def _given_rates(given: Given) -> list[_Rate]:
    if given.judgements_per_hour is None:
        return []
    each_s = _HOUR_S / given.judgements_per_hour
    return [_Rate("judge as given", "judgement", 0.0, each_s, given.usd_per_judgement, None, 1, "given")]


def _measured_rates(cards: Sequence[tuple[Path, RunCard]]) -> list[_Rate]:
    """Return one rate for each judge and each policy."""
    measured: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for folder, card in cards:
        point = _point(folder, card)
        measured.setdefault((card.verb, point["subject"]), []).append(point)
    return [_fitted(verb, subject, points) for (verb, subject), points in measured.items()]


def _point(folder: Path, card: RunCard) -> dict[str, Any]:
    """Return what one run did, how long it took, and what it paid."""
    notes, asking = card.notes, card.notes.get("asking", {})
    try:
        if card.verb == "judge":
            judge = card.arguments["judge"]
            subject, done = (
                f"judge {judge['door']}:{judge['model']}, prompt {card.arguments['prompt']}",
                notes["judged"],
            )
        else:
            subject, done = f"policy {notes['policy']}", notes["completions"]
        if asking:
            # Answers that were kept cost no time: only the share that was asked for was measured.
            all_of_it = asking["asked"] + asking["from_ledger"] + asking["shared"] + asking["failed"]
            done = done * (asking["asked"] + asking["failed"]) / all_of_it if all_of_it else 0
        tokens = asking["tokens_in"] + asking["tokens_out"] if asking else 0
        paid = asking["cost_usd"] if asking else 0.0
    except (KeyError, TypeError) as error:
        raise DataError(f"the card lacks {error}", file=folder / runs.CARD, fix=f"run `{card.verb}` again") from None
    if not done or card.seconds <= 0:
        raise UserError(f"{folder} asked for nothing: its answers were kept before", "give the run that asked")
    return {"subject": subject, "done": done, "seconds": card.seconds, "paid": paid, "tokens": tokens}


def _fitted(verb: str, subject: str, points: Sequence[dict[str, Any]]) -> _Rate:
    """Return the line of seconds over what was done, by least squares; through 0 where the sizes do not differ."""
    done = np.array([point["done"] for point in points], dtype=float)
    seconds = np.array([point["seconds"] for point in points], dtype=float)
    total, unit = float(done.sum()), _UNITS[verb]
    fixed_s, each_s, method = 0.0, float(seconds.sum()) / total, f"measured, {len(points)} run(s), start included"
    if np.ptp(done) > 0:
        slope, intercept = np.polyfit(done, seconds, 1)
        if slope > 0 and intercept >= 0:
            fixed_s, each_s, method = float(intercept), float(slope), f"measured, line through {len(points)} runs"
    paid, tokens = sum(point["paid"] for point in points), sum(point["tokens"] for point in points)
    return _Rate(
        subject,
        unit,
        fixed_s,
        each_s,
        paid / total if paid else None,
        tokens / total if tokens else None,
        round(total),
        method,
    )


def _of_rate(rate: _Rate, given: Given) -> list[Estimate]:
    """Return what one worker does an hour and for a dollar, and what each of the `SIZES` takes."""
    units = f"{rate.unit}s"
    per_hour = _HOUR_S / rate.each_s
    found = [_estimate(f"{units} an hour, one worker", per_hour, rate)]
    if rate.tokens is not None:
        found.append(_estimate(f"tokens a {rate.unit}", rate.tokens, rate))
    charged = rate.each_usd if given.usd_per_judgement is None or rate.unit != "judgement" else given.usd_per_judgement
    priced = charged is not None or given.usd_per_hour is not None
    each_usd = (charged or 0.0) + (given.usd_per_hour or 0.0) / per_hour
    if priced:
        found.append(_estimate(f"{units} a dollar", 1 / each_usd if each_usd else None, rate, "it costs nothing"))
    for size in SIZES:
        hours = rate.hours(size)
        workers = math.ceil(round(hours / given.patience_h, 9))
        found.append(_estimate(f"hours for {size:,} {units}, one worker", hours, rate))
        found.append(_estimate(f"workers for {size:,} {units} in {given.patience_h:g} h", float(max(1, workers)), rate))
        if priced:
            paid = size * (charged or 0.0) + hours * (given.usd_per_hour or 0.0)
            found.append(_estimate(f"dollars for {size:,} {units}", paid, rate))
    return found


def _estimate(name: str, value: float | None, rate: _Rate, reason: str = "") -> Estimate:
    return Estimate(
        name, value, None, None, rate.n, 0, rate.method, subject=rate.subject, reason=reason if value is None else None
    )


def _step(folder: Path, card: RunCard, given: Given) -> list[Estimate]:
    """Return what an RL step of a run took: as its card says, or else a share of the whole run."""
    try:
        steps = int(card.arguments["steps"])
    except (KeyError, TypeError, ValueError):
        raise DataError("the card names no number of steps", file=folder / runs.CARD, fix="train again") from None
    step_s = card.notes.get(STEP_S)
    method = f"measured, {steps} steps" + ("" if step_s else ", start included")
    seconds = float(step_s or card.seconds / steps)
    processes = int(card.notes.get("processes", 1))
    name = f"RL step, {folder.name}"
    return _of_step(name, seconds, steps, method, given, processes=processes)


def _of_step(subject: str, seconds: float, n: int, method: str, given: Given, *, processes: int = 1) -> list[Estimate]:
    def figure(name: str, value: float) -> Estimate:
        return Estimate(name, value, None, None, n, 0, method, subject=subject)

    found = [figure("seconds an RL step", seconds)]
    hours = seconds / _HOUR_S
    if given.gpus:
        found.append(figure("GPU-hours an RL step", hours * given.gpus * processes))
    if given.usd_per_hour is not None:
        found.append(figure("dollars an RL step", hours * given.usd_per_hour * processes))
    return found
