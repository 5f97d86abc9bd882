"""What pursuing a learned reward does: learned and true reward against KL to the prior, as a picture.

Where beta is too small the learned reward still rises and the true one falls: over-optimisation.
Source: Gao, Schulman and Hilton, arXiv 2210.10760, figures 1 and 2, whose axis is the root of the KL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from perl_eval import figure_names as named
from perl_eval.records import About, Estimate
from perl_eval.storage import parquet

__all__ = ["draw", "subject"]

_BETA = "beta"
_DISTANCE = named.KL_TO_PRIOR
_WORTHS = ("learned reward", named.TRUE_REWARD)
_MARKERS, _DASHES = "osD^vPX", ("-", "--", ":", "-.")
_STYLE: dict[Any, Any] = {
    **{"font.size": 9, "axes.spines.top": False, "axes.spines.right": False},
    **{"svg.hashsalt": "overoptimisation", "svg.fonttype": "none"},
    "text.parse_math": False,  # names are the user's, and a dollar sign is a dollar sign
}
Point = tuple[str, Estimate, Estimate]
"""What stands beside it, KL to the prior, and what the policy is worth."""


def subject(arm: str, beta: float | None) -> About:
    """Return what figures of an arm, at one strength of KL if there are several, are about."""
    return About(policy=arm) if beta is None else About(policy=arm, slice=_BETA, at=beta)


def draw(found: Sequence[Estimate], folder: Path) -> None:
    """Write ``overoptimisation.svg`` and ``overoptimisation.png`` into a folder: a panel a reward, a line an arm.

    Args:
        found: Figures, those of a sweep about what `subject` says.
        folder: Where to.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    by_subject: dict[About, dict[str, Estimate]] = {}
    for one in found:
        by_subject.setdefault(one.about, {})[one.name] = one
    worths = [name for name in _WORTHS if any(name in figures for figures in by_subject.values())]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.4 * len(worths), 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        for place, worth in enumerate(worths):
            _panel(figure.add_subplot(1, len(worths), place + 1), by_subject, worth)
        for suffix, dated in (("svg", {"Date": None}), ("png", {"Software": None})):
            write = partial(figure.savefig, format=suffix, dpi=150, metadata=dated)
            parquet.replace_file(folder / f"overoptimisation.{suffix}", write)


def _panel(axes: Any, by_subject: dict[About, dict[str, Estimate]], worth: str) -> None:
    lines: dict[About, list[Point]] = {}
    for about, figures in by_subject.items():
        arm = replace(about, slice="", at=None) if about.slice == _BETA else about
        if _DISTANCE in figures and worth in figures:
            beta = "" if about.at is None else f"{about.at:g}"
            lines.setdefault(arm, []).append((beta, figures[_DISTANCE], figures[worth]))
    for style, (line, points) in enumerate(lines.items()):
        points.sort(key=lambda point: point[1].value or 0.0)
        x, y = [one.value or 0.0 for _, one, _ in points], [one.value or 0.0 for _, _, one in points]
        across, up = np.transpose([_error(one) for _, one, _ in points]), [_error(one) for _, _, one in points]
        across[0] = np.minimum(across[0], np.maximum(x, 0.0))  # the axis has no place for a KL below 0
        axes.errorbar(
            x,
            y,
            xerr=across,
            yerr=np.transpose(up),
            marker=_MARKERS[style % len(_MARKERS)],
            ls=_DASHES[style % len(_DASHES)],
            ms=4,
            lw=1.2,
            elinewidth=0.8,
            clip_on=False,  # the prior stands on the frame
            label=line.sentence,
        )
        for (beta, _, _), place in zip(points, zip(x, y, strict=True), strict=True):
            axes.annotate(beta, place, xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.set_xscale("function", functions=(lambda value: np.sqrt(np.maximum(value, 0.0)), np.square))
    axes.set_xlim(left=0.0)
    axes.set(xlabel="KL to the prior, nats, on a root scale; numbers are beta", ylabel=worth)
    axes.legend(frameon=False, fontsize=8)


def _error(one: Estimate) -> tuple[float, float]:
    """Return the distances to both ends of an interval."""
    if one.value is None or one.low is None or one.high is None:
        return 0.0, 0.0
    return one.value - one.low, one.high - one.value
