"""The frontier as a picture: reward against KL to the prior, and true reward where it is known."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from perl_eval import figure_names as named
from perl_eval.figure_names import BEST_OF_LINE, TARGET_LINE
from perl_eval.posterior.methods import FROM_PRIOR
from perl_eval.records import About, Estimate
from perl_eval.storage import parquet

__all__ = ["draw"]

_MARKERS = "osD^vPX*<>hp"
_LABELS = {"reward": "reward the target is made of", named.TRUE_REWARD: named.TRUE_REWARD}


def draw(found: Sequence[Estimate], folder: Path) -> None:
    """Write ``frontier.svg`` and ``frontier.png`` into a folder.

    Args:
        found: The figures of a comparison.
        folder: Where to.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    by_subject: dict[About, dict[str, Estimate]] = {}
    for one in found:
        by_subject.setdefault(one.about, {})[one.name] = one
    measures = [name for name in _LABELS if any(name in figures for figures in by_subject.values())]
    with mpl.rc_context(
        {"svg.hashsalt": "frontier", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(4.6 * len(measures) + 2.0, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        for place, measure in enumerate(measures):
            axes = figure.add_subplot(1, len(measures), place + 1)
            _panel(axes, by_subject, measure)
            if place == 0:
                figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
        for suffix, dated in (("svg", {"Date": None}), ("png", {"Software": None})):
            write = partial(figure.savefig, format=suffix, dpi=150, metadata=dated)
            parquet.replace_file(folder / f"frontier.{suffix}", write)


def _panel(axes: Any, by_subject: dict[About, dict[str, Estimate]], measure: str) -> None:
    for line, style, label in ((TARGET_LINE, "k-", "target, by beta"), (BEST_OF_LINE, "k:", "best of n, by n")):
        points = [
            point
            for about, figures in by_subject.items()
            if about.slice == line and (point := _point(figures, measure))
        ]
        points.sort(key=lambda point: point[0].value or 0.0)
        axes.plot([x.value for x, _ in points], [y.value for _, y in points], style, lw=1.2, label=label, zorder=1)
    others = [about for about in by_subject if about.slice not in (TARGET_LINE, BEST_OF_LINE)]
    methods = [about for about in others if _point(by_subject[about], measure)]
    for marker, about in enumerate(methods):
        point = _point(by_subject[about], measure)
        if point is None:
            continue
        x, y = point
        bound = " (KL: upper bound)" if x.kind == "upper bound" else ""
        axes.errorbar(
            [x.value or 0.0],
            [y.value or 0.0],
            xerr=_error(x),
            yerr=_error(y),
            fmt=_MARKERS[marker % len(_MARKERS)],
            ms=6,
            elinewidth=0.8,
            label=f"{about.sentence}{bound}".replace(
                "$", r"\$"
            ),  # names are the user's, and a dollar opens mathematics
        )
    axes.set_xlabel("KL to the prior, nats")
    axes.set_ylabel(_LABELS[measure])


def _point(figures: dict[str, Estimate], measure: str) -> tuple[Estimate, Estimate] | None:
    x, y = figures.get(FROM_PRIOR), figures.get(measure)
    if x is None or y is None or x.value is None or y.value is None:
        return None
    return x, y


def _error(one: Estimate) -> list[list[float]] | None:
    """Return the distances to both ends of an interval, as matplotlib takes them."""
    if one.value is None or one.low is None or one.high is None:
        return None
    return [[max(0.0, one.value - one.low)], [max(0.0, one.high - one.value)]]
