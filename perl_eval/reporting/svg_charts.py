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
    return [*_calibration(figures, found), *_frontiers(figures), *_rate_frontiers(figures)]


def _bounds(estimate: Estimate) -> tuple[float, float, float] | None:
    if estimate.value is None:
        return None
    low = estimate.value if estimate.low is None else estimate.low
    return estimate.value, low, estimate.value if estimate.high is None else estimate.high


def _calibration(figures: Sequence[Figure], found: Sequence[Folder]) -> list[Chart]:
    """Draw the observed share against the mean prediction of each bin, one line a run and subject.

    Reward models predict a yes, judges of pairs that people prefer a: each kind has a chart.
    """
    binned = [one for one in figures if one.estimate.name == named.OBSERVED_SHARE]
    judges = [one for one in binned if one.estimate.about.judge]
    models = [one for one in binned if not one.estimate.about.judge]
    return [
        *_reliability(models, found, ("calibration", "Calibration of reward models", *_YES)),
        *_reliability(judges, found, ("reliability", "Reliability of judges' probabilities", *_PREFERRED)),
    ]


_YES = ("predicted probability of yes", "observed share of yes")
_PREFERRED = ("probability that the judge gives to a", "share of pairs in which people prefer a")


def _reliability(figures: Sequence[Figure], found: Sequence[Folder], called: tuple[str, str, str, str]) -> list[Chart]:
    lines: dict[tuple[int, About], list[Point]] = {}
    simulated = []
    for figure in figures:
        mean, bounds = figure.estimate.about.bin_mean, _bounds(figure.estimate)
        if mean is None or bounds is None:
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
    id, title, x, y = called
    return [Chart(id, title, x, y, series, True, all(simulated))] if series else []


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


def _rate_frontiers(figures: Sequence[Figure]) -> list[Chart]:
    """Draw each win rate against the policy's KL to the prior: one chart for each opponent and judge."""
    distances, costs = _own(figures, _DISTANCES), _own(figures, (named.TOKENS_DRAWN_AN_ANSWER,))
    rates: dict[tuple[str, str], dict[str, Estimate]] = {}
    for figure in figures:
        about = figure.estimate.about
        if figure.estimate.name == named.WIN_RATE and about.policy in distances and not (about.slice or about.minus):
            rates.setdefault((about.against, about.judge), {}).setdefault(about.policy, figure.estimate)
    made: list[Chart] = []
    for (against, judge), own in rates.items():
        series = []
        for policy, rate in own.items():
            x, y = _bounds(distances[policy]), _bounds(rate)
            cost = costs[policy].value if policy in costs else None
            label = policy if cost is None else f"{policy}, {cost:,.0f} tokens an answer"
            if x is not None and y is not None:
                series.append(Series(label, (Point(x, y, policy),), joined=False))
        if len(series) > 1:
            whom = " ".join(part for part in (against and f"against {against}", judge and f"by {judge}") if part)
            id, title = f"frontier-win-rate-{len(made) + 1}", f"Frontier: win rate {whom}, against KL"
            simulated = all(one.simulated for one in own.values())
            made.append(Chart(id, title, "KL to the prior, nats", named.WIN_RATE, tuple(series), False, simulated))
    return made


def _own(figures: Sequence[Figure], names: Sequence[str]) -> dict[str, Estimate]:
    """Return the first figure of some names that each policy has by itself."""
    found: dict[str, Estimate] = {}
    for figure in figures:
        about = figure.estimate.about
        if figure.estimate.name in names and about == About(label=about.label, policy=about.policy) and about.policy:
            found.setdefault(about.policy, figure.estimate)
    return found


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
