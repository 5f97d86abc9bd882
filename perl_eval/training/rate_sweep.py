"""Which learning rate: short runs at several, held against each other on held-out loss or on reward less its KL.

The commonest reason why a LoRA run learns nothing is a rate taken from full tuning, ten times too low. Source: Schulman
and others, "LoRA Without Regret" (2025).
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from perl_eval import figure_names as named
from perl_eval.checks import at_least_one, valid_seed
from perl_eval.errors import OptionError
from perl_eval.records import About, Estimate, Measurement
from perl_eval.storage import parquet, run_folder
from perl_eval.training import dpo, policy, reward, sft
from perl_eval.training.dpo import DpoOptions
from perl_eval.training.loop import Diverged
from perl_eval.training.policy import PolicyOptions
from perl_eval.training.reward import RewardOptions
from perl_eval.training.reward_function import Reward, signature
from perl_eval.training.sft import SftOptions

__all__ = ["FACTORS", "SweepOptions", "advice", "run"]

FACTORS = (1 / 32, 1 / 8, 1 / 2, 1.0, 2.0, 8.0)
"""What the rate is multiplied by: from a full model's rate, and below, to where LoRA breaks."""
_STYLE: dict[Any, Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
Options = SftOptions | RewardOptions | DpoOptions | PolicyOptions


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """``stage`` is how the runs are made, apart from their rate; each is of so many ``steps``.

    The rates are the stage's own times ``factors``.
    """

    stage: Options
    steps: int = 30
    factors: tuple[float, ...] = field(default=FACTORS)

    def __post_init__(self) -> None:
        at_least_one(self, "steps")
        if len(self.factors) < 2 or min(self.factors) <= 0:
            raise OptionError("factors", self.factors, "give two or more above 0")

    @property
    def figure(self) -> str:
        """What the rates are compared by."""
        return "reward less beta x KL" if isinstance(self.stage, PolicyOptions) else named.VALIDATION_LOSS


def run(
    data: Path,
    prior: Path | None,
    out: Path,
    *,
    options: SweepOptions,
    given: Path | Sequence[Path] | Reward | None = None,
    seed: int = 0,
) -> Path:
    """Train at each rate for a few steps, and tell what came of it; a killed run goes on at the next rate.

    Args:
        data: The rows, as the verb of the stage takes them; a policy's reward is taken on training prompts.
        prior: The SFT model; None for imitation, whose options name one.
        out: The run folder; gets ``estimates.parquet`` (what each rate reached), ``curve.parquet`` (how), and
            ``rates.svg``.
        options: See `SweepOptions`.
        given: A policy's reward.
        seed: Of all runs.

    Raises:
        UserError: As the verb of the stage.
    """
    inputs = {"data": Path(data)} | ({} if prior is None else {"prior": Path(prior)})
    arguments = {**asdict(options), "kind": type(options.stage).__name__}
    if callable(given):
        arguments |= {"reward": signature(given)}
    elif given is not None:
        arguments |= {"reward": [str(one) for one in ([given] if isinstance(given, str | Path) else given)]}
    with run_folder.start(out, verb="train rate", arguments=arguments, seed=valid_seed(seed), inputs=inputs) as going:
        if going.done:
            return going.folder
        tried: dict[float, Mapping[str, list[tuple[int, float]]]] = {}
        for rate in _rates(options.stage, options.factors):
            tried[rate] = _tried(data, prior, going.folder, _at(options, rate), given, seed)
        reached = {rate: _worth(curve, options) for rate, curve in tried.items()}
        going.write(_estimates(reached, options), Estimate)
        going.write(
            [
                Measurement(step, f"{name} at {rate:.3g}", value)
                for rate, curve in tried.items()
                for name, points in curve.items()
                for step, value in points
            ],
            Measurement,
        )
        best = _best(reached, options)
        going.notes |= {"best learning rate": best, "steps a rate": options.steps, "rates": len(reached)}
        _draw(reached, options, going.folder)
        for work in going.folder.glob(".rate-*"):
            shutil.rmtree(work) if work.is_dir() else work.unlink()
    return going.folder


def _at(options: SweepOptions, rate: float) -> Options:
    """Return a stage's options at one rate: few steps, one validation figure, and no more work than that takes."""
    stage = options.stage
    schedule = replace(stage.schedule, max_steps=options.steps, evaluate_every=0)
    if isinstance(stage, PolicyOptions):
        return replace(stage, learning_rate=rate, schedule=schedule, steps=options.steps)
    short: dict[str, Any] = {"learning_rate": rate, "schedule": schedule, "evaluations": 1, "patience": 0}
    if isinstance(stage, RewardOptions):
        short |= {"normalise_on": 1, "max_new_tokens": 1}
    return replace(stage, **short)


def _rates(stage: Options, factors: Sequence[float]) -> list[float]:
    return sorted({float(f"{stage.rate * factor:.3g}") for factor in factors})


def _tried(
    data: Path, prior: Path | None, folder: Path, stage: Options, given: Any, seed: int
) -> Mapping[str, list[tuple[int, float]]]:
    """Return the curve of one short run by figure, from disk if it has been; nothing of one that diverged."""
    saved = folder / f".rate-{stage.learning_rate:.3g}.json"
    if saved.is_file():
        kept: dict[str, list[tuple[int, float]]] = json.loads(saved.read_text("utf-8"))
        return kept
    place = saved.with_suffix("")
    curve: dict[str, list[tuple[int, float]]] = {}
    try:
        if isinstance(stage, SftOptions):
            sft.run(data, place, options=stage, seed=seed)
        elif isinstance(stage, RewardOptions):
            reward.run(data, _named(prior), place, options=stage, seed=seed)
        elif isinstance(stage, DpoOptions):
            dpo.run(data, _named(prior), place, options=stage, seed=seed)
        else:
            policy.run(data, _named(prior), given, place, options=stage, seed=seed)
        for point in run_folder.read(place, Measurement):
            curve.setdefault(point.metric, []).append((point.step, point.value))
    except Diverged:
        curve = {}
    text = json.dumps(curve)
    parquet.replace_file(saved, lambda partial: partial.write_text(text, "utf-8"))
    shutil.rmtree(place, ignore_errors=True)
    return curve


def _named(prior: Path | None) -> Path:
    if prior is None:
        raise ValueError("a reward model and a policy are trained on a prior")
    return prior


def _worth(curve: Mapping[str, list[tuple[int, float]]], options: SweepOptions) -> float | None:
    """Return what a run reached; None if it diverged.

    A loss is the last on held-out rows, or where there are none the mean of the last third of the steps, as the reward
    is, which answers training prompts.
    """
    if not curve:
        return None
    if isinstance(options.stage, PolicyOptions):
        worth = _late(curve["reward"]) - options.stage.kl_strength * _late(curve[named.KL_TO_PRIOR])
        return worth if math.isfinite(worth) else None
    if named.VALIDATION_LOSS in curve:
        return curve[named.VALIDATION_LOSS][-1][1]
    return _late(curve["loss"])


def _late(points: Sequence[tuple[int, float]]) -> float:
    return float(np.mean([value for _, value in points[-max(1, len(points) // 3) :]]))


def _best(reached: Mapping[float, float | None], options: SweepOptions) -> float:
    """Return the best rate; the lowest where all diverged."""
    sign = -1.0 if isinstance(options.stage, PolicyOptions) else 1.0
    known = {rate: sign * worth for rate, worth in reached.items() if worth is not None}
    return min(known, key=lambda rate: known[rate]) if known else min(reached)


def _estimates(reached: Mapping[float, float | None], options: SweepOptions) -> list[Estimate]:
    how = f"{options.steps} steps"
    return [
        Estimate(
            options.figure,
            worth,
            None,
            None,
            options.steps,
            0,
            how,
            reason=None if worth is not None else "diverged",
            about=About(text=f"learning rate {rate:.3g}"),
        )
        for rate, worth in reached.items()
    ]


def advice(folder: Path) -> str:
    """Return in one line which rate a sweep found best, and whether to look further."""
    card = run_folder.read_card(folder)
    if card is None:
        raise ValueError(f"{folder} is not finished")
    best, found = float(card.notes["best learning rate"]), run_folder.read(folder, Estimate)
    rates = [float(one.about.text.rpartition(" ")[2]) for one in found]
    line = f"--learning-rate {best:.3g} is the best of {len(rates)} after {card.notes['steps a rate']} steps each"
    if best in (min(rates), max(rates)):
        end, way = ("lowest", "lower") if best == min(rates) else ("highest", "higher")
        return f"{line}; it is the {end} tried: look {way} too, by the same command with this rate"
    return line


def _draw(reached: Mapping[float, float | None], options: SweepOptions, folder: Path) -> None:
    """Write ``rates.svg`` and ``rates.png``: what each rate reached."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    known = {rate: worth for rate, worth in reached.items() if worth is not None}
    with mpl.rc_context({**_STYLE, "svg.hashsalt": "rates", "svg.fonttype": "none"}):
        figure = Figure(figsize=(4.4, 3.2), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.plot(list(known), list(known.values()), marker="o", ms=4, lw=1.2, color="black")
        for rate in reached.keys() - known.keys():
            axes.axvline(rate, ls=":", color="black", lw=0.8)
        axes.set(xscale="log", xlabel="learning rate; a dotted line diverged", ylabel=options.figure)
        for suffix, dated in (("svg", {"Date": None}), ("png", {"Software": None})):
            write = partial(figure.savefig, format=suffix, dpi=150, metadata=dated)
            parquet.replace_file(folder / f"rates.{suffix}", write)
