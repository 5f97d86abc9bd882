"""The verb ``plan``: hours and money for a thousand to a hundred million judgements, and of an RL step, as measured.

Rates come from run cards of ``judge``, ``sample`` and ``train policy``, or from the command line; nothing is assumed
about a model or a machine. A worker is whatever made the measured run. The figures for workers assume that the work
divides evenly and that the server, or the shared disk, keeps up: they are the least that so many workers need.

Intervals are of what repeated runs differ in, see `perl_eval.cluster.plan_fit`; a single run has none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perl_eval.checks import not_negative, positive
from perl_eval.cluster.plan_fit import FittedLine, Span, line_through, ratio_of
from perl_eval.errors import DataError, UserError
from perl_eval.records import About, Estimate, RunCard
from perl_eval.storage import run_folder

__all__ = ["SIZES", "STEP_S", "PlanInputs", "run"]

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
"""Numbers of judgements that are planned for."""
STEP_S = "seconds a step"
"""The note of a training run that says what a step took."""
_HOUR_S = 3600.0
_UNITS = {"judge": "judgement", "sample": "completion"}


@dataclass(frozen=True, slots=True)
class PlanInputs:
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
        positive(self, "judgements_per_hour", "seconds_per_rl_step", "patience_h")
        not_negative(self, "usd_per_judgement", "usd_per_hour", "gpus")


@dataclass(frozen=True, slots=True)
class _Rate:
    """What one worker does of something: seconds for a number of it, dollars and tokens for each, and how known."""

    about: About
    unit: str
    seconds: FittedLine
    each_usd: Span | None
    tokens: Span | None
    n: int
    method: str


def run(sources: Sequence[Path], out: Path, *, given: PlanInputs | None = None) -> Path:
    """Plan from runs that were measured.

    Two runs or more of one judge, or one policy, of different sizes tell what starting takes from what each one takes;
    a single run counts its start as part of the work. Runs of one size, or three of several, give intervals, and so do
    RL runs that differ in their seed only.

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
    given = given or PlanInputs()
    folders = [Path(source) for source in sources]
    inputs = {f"run {place + 1}": folder for place, folder in enumerate(folders)}
    with run_folder.start(out, verb="plan", arguments=asdict(given), inputs=inputs) as going:
        if going.done:
            return going.folder
        cards = [(folder, _card(folder)) for folder in folders]
        rates = [*_given_rates(given), *_measured_rates([one for one in cards if one[1].verb in _UNITS])]
        found = [estimate for rate in rates for estimate in _of_rate(rate, given)]
        found += [estimate for alike in _alike(cards) for estimate in _step(alike, given)]
        if given.seconds_per_rl_step is not None:
            found += _of_step(_Step(About(scope="RL step"), Span(given.seconds_per_rl_step), 1, "given"), given)
        if not found:
            raise UserError("there is nothing to plan from", "give runs of judge, sample or train policy, or figures")
        going.write(found, Estimate)
    return going.folder


def _card(folder: Path) -> RunCard:
    card = run_folder.read_card(folder)
    if card is None:
        raise UserError(f"{folder} is not a finished run", "give the output folder of a verb")
    if card.verb not in (*_UNITS, "train policy"):
        raise UserError(f"{folder} is a run of `{card.verb}`", "give runs of judge, sample or train policy")
    return card


def _given_rates(given: PlanInputs) -> list[_Rate]:
    if given.judgements_per_hour is None:
        return []
    seconds = FittedLine(0.0, _HOUR_S / given.judgements_per_hour)
    charged = None if given.usd_per_judgement is None else Span(given.usd_per_judgement)
    return [_Rate(About(scope="judge as given"), "judgement", seconds, charged, None, 1, "given")]


def _measured_rates(cards: Sequence[tuple[Path, RunCard]]) -> list[_Rate]:
    """Return one rate for each judge and each policy."""
    measured: dict[tuple[str, About], list[dict[str, Any]]] = {}
    for folder, card in cards:
        point = _point(folder, card)
        measured.setdefault((card.verb, point["about"]), []).append(point)
    return [_fitted(verb, about, points) for (verb, about), points in measured.items()]


def _point(folder: Path, card: RunCard) -> dict[str, Any]:
    """Return what one run did, how long it took, and what it paid."""
    notes, asking = card.notes, card.notes.get("asking", {})
    try:
        if card.verb == "judge":
            judge = card.arguments["judge"]
            about = About(judge=f"{judge['door']}:{judge['model']}", template=str(card.arguments["prompt"]))
            done = notes["judged"]
        else:
            about, done = About(label="policy", policy=str(notes["policy"])), notes["completions"]
        if asking:
            # Answers that were kept cost no time: only the share that was asked for was measured.
            all_of_it = asking["asked"] + asking["from_ledger"] + asking["shared"] + asking["failed"]
            done = done * (asking["asked"] + asking["failed"]) / all_of_it if all_of_it else 0
        tokens = asking["tokens_in"] + asking["tokens_out"] if asking else 0
        paid = asking["cost_usd"] if asking else 0.0
    except (KeyError, TypeError) as error:
        raise DataError(
            f"the card lacks {error}", file=folder / run_folder.CARD, fix=f"run `{card.verb}` again"
        ) from None
    if not done or card.seconds <= 0:
        raise UserError(f"{folder} asked for nothing: its answers were kept before", "give the run that asked")
    return {"about": about, "done": done, "seconds": card.seconds, "paid": paid, "tokens": tokens}


def _fitted(verb: str, about: About, points: Sequence[dict[str, Any]]) -> _Rate:
    """Return what the runs of one judge, or one policy, took."""
    done = [float(point["done"]) for point in points]
    line = line_through(done, [point["seconds"] for point in points])
    how = f"line through {len(points)} runs" if line.straight else f"{len(points)} run(s), start included"
    paid, tokens = (ratio_of(done, [float(point[name]) for point in points]) for name in ("paid", "tokens"))
    return _Rate(
        about,
        _UNITS[verb],
        line,
        paid if paid.value else None,
        tokens if tokens.value else None,
        round(sum(done)),
        f"measured, {how}",
    )


def _of_rate(rate: _Rate, given: PlanInputs) -> list[Estimate]:
    """Return what one worker does an hour and for a dollar, and what each of the `SIZES` takes."""
    units = f"{rate.unit}s"
    each_h = rate.seconds.each.times(1 / _HOUR_S)
    found = [_estimate(f"{units} an hour, one worker", each_h.inverse(), rate)]
    if rate.tokens is not None:
        found.append(_estimate(f"tokens a {rate.unit}", rate.tokens, rate))
    charged = rate.each_usd
    if given.usd_per_judgement is not None and rate.unit == "judgement":
        charged = Span(given.usd_per_judgement, given.usd_per_judgement, given.usd_per_judgement)
    each_usd = _dollars(charged, each_h, given)
    if each_usd is not None:
        a_dollar = each_usd.inverse() if each_usd.value else None
        found.append(_estimate(f"{units} a dollar", a_dollar, rate, "it costs nothing"))
    for size in SIZES:
        hours = rate.seconds.at(size).times(1 / _HOUR_S)
        workers = hours.each_bound(lambda time_h: float(max(1, math.ceil(round(time_h / given.patience_h, 9)))))
        found.append(_estimate(f"hours for {size:,} {units}, one worker", hours, rate))
        found.append(_estimate(f"workers for {size:,} {units} in {given.patience_h:g} h", workers, rate))
        paid = _dollars(charged and charged.times(size), hours, given)
        if paid is not None:
            found.append(_estimate(f"dollars for {size:,} {units}", paid, rate))
    return found


def _dollars(charged: Span | None, hours: Span, given: PlanInputs) -> Span | None:
    """Return what an API and an hour's price come to; None where neither is known."""
    if given.usd_per_hour is None:
        return charged
    worked = hours.times(given.usd_per_hour)
    return worked if charged is None else charged.plus(worked)


def _estimate(name: str, span: Span | None, rate: _Rate, reason: str = "") -> Estimate:
    if span is None:
        return Estimate(name, None, None, None, rate.n, 0, rate.method, about=rate.about, reason=reason)
    return Estimate(name, span.value, span.low, span.high, rate.n, 0, rate.method, about=rate.about)


@dataclass(frozen=True, slots=True)
class _Step:
    """Seconds of an RL step, over how many steps, how that is known, and processes that take it together."""

    about: About
    seconds: Span
    n: int
    method: str
    processes: int = 1


def _alike(cards: Sequence[tuple[Path, RunCard]]) -> list[list[tuple[Path, RunCard]]]:
    """Return the RL runs, those together that differ in their seed only."""
    groups: dict[str, list[tuple[Path, RunCard]]] = {}
    for folder, card in cards:
        if card.verb == "train policy":
            told = [card.arguments, sorted(card.inputs.values()), card.notes.get("processes", 1)]
            key = json.dumps(told, sort_keys=True, default=str)
            groups.setdefault(key, []).append((folder, card))
    return list(groups.values())


def _step(alike: Sequence[tuple[Path, RunCard]], given: PlanInputs) -> list[Estimate]:
    """Return what an RL step took: as the cards say, or else a share of the whole runs."""
    steps, seconds = [], []
    stated = all(card.notes.get(STEP_S) for _, card in alike)
    for folder, card in alike:
        try:
            steps.append(int(card.notes.get("steps", card.arguments["steps"])))
        except (KeyError, TypeError, ValueError):
            raise DataError(
                "the card names no number of steps", file=folder / run_folder.CARD, fix="train again"
            ) from None
        seconds.append(float(card.notes[STEP_S]) * steps[-1] if stated else card.seconds)
    method = f"measured, {sum(steps)} steps" + (f" in {len(alike)} runs" if len(alike) > 1 else "")
    return _of_step(
        _Step(
            About(scope="RL step", slice=", ".join(folder.name for folder, _ in alike)),
            ratio_of(steps, seconds),
            sum(steps),
            method if stated else f"{method}, start included",
            int(alike[0][1].notes.get("processes", 1)),
        ),
        given,
    )


def _of_step(step: _Step, given: PlanInputs) -> list[Estimate]:
    def figure(name: str, factor: float) -> Estimate:
        span = step.seconds.times(factor)
        return Estimate(name, span.value, span.low, span.high, step.n, 0, step.method, about=step.about)

    found = [figure("seconds an RL step", 1.0)]
    if given.gpus:
        found.append(figure("GPU-hours an RL step", given.gpus * step.processes / _HOUR_S))
    if given.usd_per_hour is not None:
        found.append(figure("dollars an RL step", given.usd_per_hour * step.processes / _HOUR_S))
    return found
