"""The report's figures as PDF, SVG and PNG files, for papers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from perl_eval import figure_names as named
from perl_eval.outcomes import word
from perl_eval.records import Estimate, Measurement
from perl_eval.reporting.counts import OutcomeCounts, survey
from perl_eval.reporting.decision_lines import Conclusion, TwoPolicies
from perl_eval.reporting.inputs import Figure, Folder, records
from perl_eval.reporting.svg_charts import Chart, charts
from perl_eval.reporting.tables import Matrix, matrices
from perl_eval.storage import parquet

__all__ = ["save"]

# Okabe and Ito's colours, which every common colour vision tells apart, with a marker and a dash each.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#77808a")
_SHADES: dict[str, tuple[str, str]] = {
    **{"win": ("#0072b2", ""), "yes": ("#0072b2", ""), "scored": ("#0072b2", "")},
    **{"split": ("#8f99a3", ""), "tie": ("#b4bcc4", ""), "mixed": ("#d9dee3", "")},
    **{"loss": ("#d55e00", ""), "no": ("#d55e00", ""), "unjudged": ("#f5f7f9", "////")},
}
"""Colour and hatching of each outcome, in the order of the bar."""
_MARKERS = ("o", "s", "^", "D", "v", "X", "P", "_")
_DASHES = ("-", "--", ":", "-.")
_STYLE: dict[Any, Any] = {
    "font.family": ["STIXGeneral", "DejaVu Sans"],  # as Times, which papers are set in; the second has other scripts
    "font.size": 9,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "pdf.fonttype": 42,  # TrueType, as publishers ask for
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "perl-eval",  # ids in the file do not change from run to run
    "svg.fonttype": "none",
    "text.parse_math": False,  # names are the user's, and a dollar sign is a dollar sign
}
_RATES = (
    named.WIN_RATE,
    named.WIN_RATE_UNDECIDED_HALF,
    named.WIN_RATE_AT_EQUAL_LENGTH,
    named.YES_RATE,
    named.NO_RATE,
    named.MEAN_SCORE,
)
_RATES_ENDINGS = (", corrected by PPI++", ", corrected by Rogan-Gladen")
_LARGEST = 1e100
_FORMATS: dict[str, dict[str, None]] = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None},
    "png": {"Software": None},
}
"""What files are written, and what would differ in them from day to day."""
Draw = Callable[[Any], None]


def save(
    shown: Sequence[Figure], found: Sequence[Folder], folder: Path, decided: Sequence[TwoPolicies] = ()
) -> list[Path]:
    """Write what the page draws as one PDF, one SVG and one PNG file each, sized for a column or the width of a paper.

    What is decided (``decisions``), outcomes of each comparison (``outcomes``), rates with their intervals (``rates``),
    calibration and frontiers, matrices of agreement, and training curves (``curve-VERB-METRIC``). The values are those
    of the estimates and records, and the same input gives the same bytes.

    Args:
        shown: The figures.
        found: The folders.
        folder: Where to; made if it is not there.
        decided: What is decided of the policies in them.

    Returns:
        The files, none if there is nothing to draw.

    Raises:
        UserError: The folder cannot be written.
    """
    drawings: list[tuple[str, tuple[float, float], Draw]] = []
    tallies, _ = survey(found, seed=0, limit=0)
    said = [one for comparison in decided for one in comparison.conclusions if one.difference.value is not None]
    if said:
        drawings.append(("decisions", (7.0, 0.9 + 0.36 * len(said)), partial(_decisions, said)))
    if tallies:
        drawings.append(("outcomes", (7.0, 1.4 + 0.4 * len(tallies)), partial(_outcomes, tallies)))
    rates = [one for one in shown if one.estimate.value is not None and _is_rate(one.estimate.name)]
    if rates:
        drawings.append(("rates", (7.0, 0.9 + 0.32 * len(rates)), partial(_rates, rates)))
    drawings += [(chart.id, (4.6, 3.6), partial(_chart, chart)) for chart in charts(shown, found)]
    for number, matrix in enumerate(matrices(shown), start=1):
        size = (2.4 + 0.8 * len(matrix.people), 1.4 + 0.45 * len(matrix.rows))
        drawings.append((f"agreement-{number}", size, partial(_matrix, matrix)))
    drawings += [
        (f"curve-{_file_name(verb)}-{_file_name(metric)}", (4.6, 3.2), partial(_curve, metric, lines))
        for verb, metric, lines in _curves(found)
    ]
    return [path for name, size, draw in drawings for path in _write(folder, name, size, draw)]


def _decisions(said: Sequence[Conclusion], axes: Any) -> None:
    """Draw the difference of each two policies, as each judge and people's labels say; filled is decided."""
    for place, one in zip(range(len(said), 0, -1), said, strict=True):
        estimate = one.difference
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [place, place], color=_COLOURS[0], lw=1.5)
        filled = _COLOURS[0] if one.verdict != "not decided" else "white"
        axes.plot(estimate.value, place, "o", color=_COLOURS[0], markerfacecolor=filled, ms=4.5)
    axes.axvline(0.0, color="#77808a", lw=0.8, ls=":")
    axes.set_yticks(range(len(said), 0, -1), [_of(one) for one in said])
    axes.set(xlim=(-1, 1), ylim=(0.3, len(said) + 0.7), xlabel="share preferred less share not preferred")


def _of(one: Conclusion) -> str:
    by = "labels" if one.by_labels else "judge alone"
    simulated = ", simulated" if one.difference.simulated else ""
    return f"{one.one} less {one.other}, {one.judge} ({by}{simulated})"


def _is_rate(name: str) -> bool:
    return name in _RATES or name.endswith(_RATES_ENDINGS)


def _file_name(text: str) -> str:
    """Return a text as part of a file's name: metrics are named by whoever logs them."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "unnamed"


def _write(folder: Path, name: str, size: tuple[float, float], draw: Draw) -> list[Path]:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context(_STYLE):
        canvas = Canvas(figsize=size, layout="constrained")
        FigureCanvasAgg(canvas)
        draw(canvas.add_subplot())
        paths = []
        for suffix, dated in _FORMATS.items():
            path = folder / f"{name}.{suffix}"
            parquet.replace_file(path, partial(canvas.savefig, format=suffix, dpi=200, metadata=dated))
            paths.append(path)
    return paths


def _outcomes(tallies: Sequence[OutcomeCounts], axes: Any) -> None:
    """Draw the share of each outcome of each comparison, the unjudged among them, as a stacked bar."""
    kinds = [name for name in _SHADES if any(tally.outcomes[name] for tally in tallies)]
    places = list(range(len(tallies), 0, -1))
    starts = [0.0] * len(tallies)
    for name in kinds:
        shares = [tally.outcomes[name] / tally.n for tally in tallies]
        colour, hatch = _SHADES[name]
        edge = "#5b6570" if hatch else "white"
        axes.barh(places, shares, left=starts, color=colour, hatch=hatch, edgecolor=edge, height=0.7, label=word(name))
        starts = [start + share for start, share in zip(starts, shares, strict=True)]
    axes.set_yticks(places, [_about(tally) for tally in tallies])
    axes.set(xlim=(0, 1), xlabel="share of judgements")
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0.0, 1.0))


def _about(tally: OutcomeCounts) -> str:
    simulated = " (simulated)" if tally.simulated else ""
    return f"{tally.pair}, {tally.judge}{simulated}, n = {tally.n}"


def _rates(rates: Sequence[Figure], axes: Any) -> None:
    places = range(len(rates), 0, -1)
    for place, figure in zip(places, rates, strict=True):
        estimate = figure.estimate
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [place, place], color="black", lw=1.5)
        axes.plot(estimate.value, place, "o", color="black", ms=4.5)
    axes.set_yticks(list(places), [_named(one.estimate) for one in rates])
    if all(0 <= (one.estimate.value or 0.0) <= 1 for one in rates):
        axes.set_xlim(0, 1)
        axes.axvline(0.5, color="#77808a", lw=0.8, ls=":")
    axes.set_ylim(0.3, len(rates) + 0.7)


def _named(estimate: Estimate) -> str:
    return f"{estimate.subject}: {estimate.name}" + (" (simulated)" if estimate.simulated else "")


def _chart(chart: Chart, axes: Any) -> None:
    if chart.diagonal:
        axes.axline((0, 0), (1, 1), color="#77808a", lw=0.8, ls=":")
        axes.set(xlim=(0, 1), ylim=(0, 1))
    for style, series in enumerate(chart.series):
        x, y = ([getattr(point, axis) for point in series.points] for axis in "xy")
        errors = [[[abs(v - low) for v, low, _ in part], [abs(high - v) for v, _, high in part]] for part in (x, y)]
        axes.errorbar(
            [value for value, _, _ in x],
            [value for value, _, _ in y],
            xerr=errors[0],
            yerr=errors[1],
            color=_COLOURS[style % 8],
            marker=_MARKERS[style % 8],
            ls=_DASHES[style % 4] if series.joined else "none",
            ms=5,
            lw=1.2,
            elinewidth=0.8,
            label=series.label,
        )
    title = chart.title + (" (simulated)" if chart.simulated else "")
    axes.set(xlabel=chart.x, ylabel=chart.y, title=title)
    axes.legend(frameon=False, fontsize=8)


def _matrix(matrix: Matrix, axes: Any) -> None:
    for place, row in enumerate(matrix.rows):
        for column, figure in enumerate(row.figures):
            value = None if figure is None else figure.estimate.value
            if value is not None:
                shade = 0.97 - 0.4 * value
                axes.add_patch(_square(column, place, (shade, shade, min(1.0, shade + 0.12))))
                axes.text(column, place, f"{value:.2f}", ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(matrix.people)), list(matrix.people), rotation=30, ha="right")
    axes.set_yticks(range(len(matrix.rows)), [row.about[0] for row in matrix.rows])
    axes.set(xlim=(-0.5, len(matrix.people) - 0.5), ylim=(len(matrix.rows) - 0.5, -0.5))
    ceilings = [one.estimate.value for one in matrix.ceiling if one.estimate.value is not None]
    axes.set_title("Exact agreement" + (f", human ceiling {ceilings[0]:.2f}" if ceilings else ""))


def _square(x: float, y: float, colour: tuple[float, float, float]) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, color=colour)


Line = tuple[str, list[tuple[int, float]]]


def _curves(found: Sequence[Folder]) -> list[tuple[str, str, list[Line]]]:
    """Return every logged metric of each verb with the points of each run."""
    points: dict[tuple[str, str], dict[int, list[tuple[int, float]]]] = {}
    for place, measurement in records(found, Measurement):
        key = (found[place].card.verb, measurement.metric)
        value = measurement.value if abs(measurement.value) < _LARGEST else float("nan")
        points.setdefault(key, {}).setdefault(place, []).append((measurement.step, value))
    return [
        (verb, metric, [(found[place].label, sorted(own)) for place, own in sorted(lines.items())])
        for (verb, metric), lines in points.items()
    ]


def _curve(metric: str, lines: Sequence[Line], axes: Any) -> None:
    for style, (label, points) in enumerate(lines):
        axes.plot(
            [step for step, _ in points],
            [value for _, value in points],
            color=_COLOURS[style % 8],
            ls=_DASHES[style % 4],
            lw=1.3,
            label=label,
        )
    axes.set(xlabel="step", ylabel=metric)
    axes.legend(frameon=False, fontsize=8)
