"""The pictures of docs/concepts/, drawn from the package's own functions when the site is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

__all__ = ["draw_all"]

# Okabe and Ito's colours, which people with any colour vision tell apart.
_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#E69F00", "#009E73", "#8a8a8a"
_COLOURS = {"win": _BLUE, "loss": _ORANGE, "split": "#CC79A7", "tie": _GREY, "mixed": "#56B4E9"}
_WORDS = ("first", "second", "tie")


def draw_all(folder: Path) -> None:
    """Draw every picture as SVG.

    Args:
        folder: Where to; it is made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {
        "both-orders": _both_orders,
        "outcomes": _outcomes,
        "intervals": _intervals,
        "correction": _correction,
        "posterior": _posterior,
    }
    for name, draw in drawn.items():
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        draw(figure)
        FigureCanvasSVG(figure).print_svg(folder / f"{name}.svg", metadata={"Date": None})


def _axes(figure: Figure) -> Any:
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _both_orders(figure: Figure) -> None:
    """Draw what the verdicts in the two orders come to, as the rule itself says."""
    axes = figure.subplots()
    for row, ab in enumerate(_WORDS):
        for column, ba in enumerate(_WORDS):
            outcome = _outcome(ab, ba)
            axes.add_patch(_cell(column, row, _COLOURS[outcome]))
            axes.text(column, row, outcome, ha="center", va="center", color="white", weight="bold")
    names = {"first": "the first", "second": "the second", "tie": "tie"}
    axes.set_xticks(range(3), [names[word] for word in _WORDS])
    axes.set_yticks(range(3), [names[word] for word in _WORDS])
    axes.set_xlim(-0.5, 2.5)
    axes.set_ylim(2.5, -0.5)
    axes.set_xlabel("verdict when b is shown first")
    axes.set_ylabel("verdict when a is shown first")


def _outcome(ab: str, ba: str) -> str:
    """Return what the verdicts of the two orders come to."""
    from perl_eval.outcomes import decide
    from perl_eval.records import Ballot

    orders: Any = (("ab", ab), ("ba", ba))
    return str(decide([Ballot(order, verdict) for order, verdict in orders]).outcome)


def _cell(column: int, row: int, colour: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, color=colour)


def _outcomes(figure: Figure) -> None:
    """Draw how the outcomes of three judges of the same pairs differ with how much position sways them."""
    rng = np.random.default_rng(0)
    axes = _axes(figure)
    for place, swayed in enumerate((0.0, 0.2, 0.6)):
        better = rng.random(4000) < 0.6
        counts = dict.fromkeys(_COLOURS, 0)
        for is_better in better:
            said = ["first" if rng.random() < swayed else right for right in _right(bool(is_better), rng)]
            counts[_outcome(*said)] += 1
        left = 0.0
        for outcome, count in counts.items():
            share = count / len(better)
            axes.barh(place, share, left=left, color=_COLOURS[outcome], label=outcome if not place else None)
            left += share
    axes.set_yticks(range(3), ["0 %", "20 %", "60 %"])
    axes.set_ylabel("verdicts that position decides")
    axes.set_xlabel("share of pairs")
    figure.legend(loc="outside upper center", ncols=5, frameon=False)


def _right(is_better: bool, rng: np.random.Generator) -> tuple[str, str]:
    """Return the verdicts in both orders of a judge that looks at the answers only, and sees no difference at times."""
    tie = rng.random() < 0.15
    noisy = rng.random() < 0.05
    first, second = ("first", "second") if is_better else ("second", "first")
    return ("tie" if tie else first), ("tie" if tie and not noisy else second)


def _intervals(figure: Figure) -> None:
    """Draw the intervals of sixty samples of one hundred pairs, and mark those that miss the truth."""
    from perl_eval.stats.intervals import proportion

    truth, rng = 0.6, np.random.default_rng(7)
    axes = _axes(figure)
    for place in range(60):
        value, (low, high) = _interval(proportion, rng.random(100) < truth)
        colour = _BLUE if low <= truth <= high else _ORANGE
        axes.plot([place, place], [low, high], color=colour, lw=1.6)
        axes.plot(place, value, ".", color=colour, ms=4)
    axes.axhline(truth, color="black", lw=1)
    axes.set_xlabel("sample of 100 pairs")
    axes.set_ylabel("win rate, 95 % interval")


def _interval(proportion: Any, won: Any) -> tuple[float, tuple[float, float]]:
    found = proportion("win rate", won)
    return found.value, (found.low, found.high)


def _correction(figure: Figure) -> None:
    """Draw what a judge that is kinder to one policy says, what labels make of it, and the truth."""
    from perl_eval.stats.correction import Sample, prediction_powered_mean

    rng = np.random.default_rng(3)
    truth = rng.random(2000) < 0.45
    judged = np.where(truth, rng.random(2000) < 0.95, rng.random(2000) < 0.35).astype(float)
    axes = _axes(figure)
    axes.axhline(truth.mean(), color="black", lw=1, label="truth")
    raw = judged.mean()
    half = 1.96 * (raw * (1 - raw) / len(judged)) ** 0.5
    axes.errorbar([0], [raw], yerr=[half], fmt="o", color=_ORANGE, capsize=4, label="the judge alone")
    for place, count in enumerate((50, 100, 200, 400), 1):
        known = np.zeros(2000, bool)
        known[rng.choice(2000, count, replace=False)] = True
        found: Any = prediction_powered_mean(
            "win rate", Sample(truth[known].astype(float), judged[known], judged[~known])
        )
        reach = [[found.value - found.low], [found.high - found.value]]
        label = "corrected" if place == 1 else None
        axes.errorbar([place], [found.value], yerr=reach, fmt="o", color=_BLUE, capsize=4, label=label)
    axes.set_xticks(range(5), ["none", "50", "100", "200", "400"])
    axes.set_xlabel("labels of people")
    axes.set_ylabel("win rate")
    axes.legend(frameon=False)


def _posterior(figure: Figure) -> None:
    """Draw a small prior and what it becomes under a reward, for three strengths of the KL penalty."""
    prior = np.array([0.35, 0.25, 0.18, 0.12, 0.07, 0.03])
    reward = np.array([0.0, 0.4, 0.1, 0.9, 0.6, 1.0])
    axes = _axes(figure)
    for place, (label, beta, colour) in enumerate(
        [("prior", None, _GREY), ("beta 1", 1.0, _BLUE), ("beta 0.3", 0.3, _GREEN), ("beta 0.1", 0.1, _ORANGE)]
    ):
        weights = prior if beta is None else prior * np.exp(reward / beta)
        axes.bar(np.arange(6) + 0.2 * (place - 1.5), weights / weights.sum(), 0.19, color=colour, label=label)
    axes.set_xticks(range(6), [f"reward {value:g}" for value in reward], fontsize=8)
    axes.set_ylabel("probability")
    axes.legend(frameon=False)
