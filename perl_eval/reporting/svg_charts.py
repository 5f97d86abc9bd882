"""Figures as points with intervals: calibration and frontiers, for the page and for papers alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from perl_eval import figure_names as named
from perl_eval.figure_names import BEST_OF_LINE, TARGET_LINE
from perl_eval.records import About, Estimate
from perl_eval.reporting.inputs import Figure, Folder
from perl_eval.reporting.svg_curves import ticks

__all__ = ["HEIGHT", "WIDTH", "Chart", "Drawn", "Point", "Series", "charts", "laid_out"]

WIDTH, HEIGHT = 420, 300
"""Size of a chart on the page, in user units."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 40
_DISTANCES = (named.KL_TO_PRIOR, named.KL_METHOD_PRIOR)
_WORTHS = (named.TRUE_REWARD, "reward", "learned reward")
_LINES = {TARGET_LINE: "target, by beta", BEST_OF_LINE: "best of n, by n"}
_RATES = (named.WIN_RATE, named.WIN_RATE_UNDECIDED_HALF)


@dataclass(frozen=True, slots=True)
class Point:
    """A figure against another: both with the bounds of their intervals, or with the value for bounds."""

    x: tuple[float, float, float]
    y: tuple[float, float, float]
    label: str


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one kind; ``joined`` ones are a line."""

    label: str
    points: tuple[Point, ...]
    joined: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn.

    Attributes:
        id: Names it within the page, and its file.
        title: Its heading.
        x: What the horizontal axis is.
        y: What the vertical one is.
        series: The points.
        diagonal: Whether x = y is drawn, where the two ought to be equal.
        simulated: Whether all of it rests on simulated judges or people.
    """

    id: str
    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    diagonal: bool = False
    simulated: bool = False


def charts(figures: Sequence[Figure], found: Sequence[Folder]) -> list[Chart]:
    """Return the charts for which there are figures."""
    return [*_calibration(figures, found), *_frontiers(figures)]


def _bounds(estimate: Estimate) -> tuple[float, float, float] | None:
    if estimate.value is None:
        return None
    low = estimate.value if estimate.low is None else estimate.low
    return estimate.value, low, estimate.value if estimate.high is None else estimate.high


def _calibration(figures: Sequence[Figure], found: Sequence[Folder]) -> list[Chart]:
    """Draw the observed share of yes against the mean prediction of each bin, one line a run and subject."""
    lines: dict[tuple[int, About], list[Point]] = {}
    simulated = []
    for figure in figures:
        mean, bounds = figure.estimate.about.bin_mean, _bounds(figure.estimate)
        if figure.estimate.name != named.OBSERVED_SHARE or mean is None or bounds is None:
            continue
        whole = replace(figure.estimate.about, bin=None, bin_low=None, bin_high=None, bin_mean=None)
        point = Point((mean, mean, mean), bounds, f"n = {figure.estimate.n}")
        lines.setdefault((figure.folder, whole), []).append(point)
        simulated.append(figure.estimate.simulated)
    series = tuple(
        Series(
            ", ".join(part for part in (found[folder].label, whole.sentence) if part),
            tuple(sorted(points, key=lambda point: point.x)),
            joined=True,
        )
        for (folder, whole), points in lines.items()
    )
    title, y = "Calibration of reward models", "observed share of yes"
    chart = Chart("calibration", title, "predicted probability of yes", y, series, True, all(simulated))
    return [chart] if series else []


def _frontiers(figures: Sequence[Figure]) -> list[Chart]:
    """Draw each measure of worth against KL to the prior; nothing but luck stands above the target's line.

    Figures of older files do not say in fields which line they belong to, and are left out.
    """
    by_subject: dict[tuple[int, About], dict[str, Estimate]] = {}
    for figure in figures:
        about = figure.estimate.about
        if figure.estimate.name in (*_DISTANCES, *_WORTHS) and not about.text:
            by_subject.setdefault((figure.folder, about), {})[figure.estimate.name] = figure.estimate
    made = []
    for worth in _WORTHS:
        points: dict[About, list[Point]] = {}
        simulated = []
        for (_, about), own in by_subject.items():
            distance = next((own[name] for name in _DISTANCES if name in own), None)
            x = None if distance is None else _bounds(distance)
            y = _bounds(own[worth]) if worth in own else None
            if x is None or y is None:
                continue
            line = replace(about, at=None) if about.slice in _LINES else about
            points.setdefault(line, []).append(Point(x, y, about.sentence))
            simulated.append(own[worth].simulated)
        series = tuple(
            Series(
                _LINES.get(line.slice, line.sentence),
                tuple(sorted(own_points, key=lambda point: point.x)),
                line.slice in _LINES,
            )
            for line, own_points in points.items()
        )
        if sum(len(one.points) for one in series) > 1:
            id, title = f"frontier-{worth.replace(' ', '-')}", f"Frontier: {worth} against KL"
            made.append(Chart(id, title, "KL to the prior, nats", worth, series, False, all(simulated)))
    return made


Place = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A chart as geometry on the page, in user units.

    Attributes:
        chart: What is drawn.
        x_ticks: Places with their labels.
        y_ticks: The same.
        lines: A path for each series, empty where its points are not joined.
        points: For each series, centres with the ends of the horizontal and the vertical interval.
        diagonal: The path of x = y, or empty.
    """

    chart: Chart
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    lines: tuple[str, ...]
    points: tuple[tuple[tuple[Place, Place, Place], ...], ...]
    diagonal: str


def laid_out(chart: Chart) -> Drawn:
    """Place a chart's points on the page."""
    every = [point for series in chart.series for point in series.points]
    xs = _span(value for point in every for value in point.x)
    ys = _span(value for point in every for value in point.y)
    if chart.diagonal:
        xs = ys = (0.0, 1.0)

    def across(value: float) -> float:
        return round(_LEFT + (value - xs[0]) / (xs[1] - xs[0]) * (WIDTH - _LEFT - _RIGHT), 1)

    def down(value: float) -> float:
        return round(HEIGHT - _BOTTOM - (value - ys[0]) / (ys[1] - ys[0]) * (HEIGHT - _TOP - _BOTTOM), 1)

    def place(point: Point) -> tuple[Place, Place, Place]:
        (x, left, right), (y, low, high) = point.x, point.y
        return (across(x), down(y)), (across(left), across(right)), (down(low), down(high))

    placed = tuple(tuple(map(place, series.points)) for series in chart.series)
    lines = tuple(
        "M" + "L".join(f"{x:g} {y:g}" for (x, y), _, _ in points) if series.joined and len(points) > 1 else ""
        for series, points in zip(chart.series, placed, strict=True)
    )
    return Drawn(
        chart,
        tuple((across(x), f"{x:,g}") for x in ticks(*xs)),
        tuple((down(y), f"{y:,g}") for y in ticks(*ys)),
        lines,
        placed,
        f"M{across(0)} {down(0)}L{across(1)} {down(1)}" if chart.diagonal else "",
    )


def _span(values: Iterable[float]) -> tuple[float, float]:
    """Return the range of some values with a margin, so that no point lies on the frame."""
    every = list(values)
    low, high = min(every, default=0.0), max(every, default=1.0)
    margin = 0.06 * (high - low) or abs(low) / 2 or 1.0
    return low - margin, high + margin
