"""Training curves as geometry: one panel a metric, one line a run folder. The template draws them as SVG."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from perl_eval.records import Measurement
from perl_eval.reporting.inputs import Folder, records

__all__ = ["HEIGHT", "WIDTH", "CurveLine", "Panel", "Section", "curves", "panel", "thin", "ticks"]

WIDTH, HEIGHT = 320, 190
"""Size of a panel, in user units."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 24
_BUCKETS = 150
_LARGEST = 1e100
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class CurveLine:
    """One metric of one run.

    Attributes:
        label: The run folder.
        style: Which of the line styles draws it; the same in every panel of a section.
        paths: One SVG path a stretch without gaps.
        dots: Centres of points that stand alone.
        first: Value at the first step.
        last: Value at the last step.
        low: Smallest value.
        high: Largest value.
        n: Points with a value.
        gaps: Points that are NaN, infinite or too large to draw.
    """

    label: str
    style: int
    paths: tuple[str, ...]
    dots: tuple[Point, ...]
    first: float
    last: float
    low: float
    high: float
    n: int
    gaps: int


@dataclass(frozen=True, slots=True)
class Panel:
    """One metric; ticks are places in user units with their labels."""

    metric: str
    lines: tuple[CurveLine, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """The curves of one verb, and the label and style of each run in it."""

    verb: str
    runs: tuple[tuple[str, int], ...]
    panels: tuple[Panel, ...]


def curves(found: Sequence[Folder]) -> list[Section]:
    """Read the measurements and lay them out."""
    points: defaultdict[str, defaultdict[str, defaultdict[int, list[Point]]]]
    points = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for place, measurement in records(found, Measurement):
        points[found[place].card.verb][measurement.metric][place].append((measurement.step, measurement.value))
    sections = []
    for verb, metrics in points.items():
        places = list(dict.fromkeys(place for runs in metrics.values() for place in runs))
        styles = {place: style for style, place in enumerate(places)}
        panels = [
            panel(metric, [(found[place].label, styles[place], sorted(runs[place])) for place in sorted(runs)])
            for metric, runs in metrics.items()
        ]
        labels = tuple((found[place].label, style) for place, style in styles.items())
        sections.append(Section(verb, labels, tuple(panels)))
    return sections


def panel(metric: str, runs: Sequence[tuple[str, int, list[Point]]]) -> Panel:
    """Lay out one metric.

    Args:
        metric: Its name.
        runs: Label, style, and sorted points of each run.
    """
    values = [point for _, _, points in runs for point in points if _drawable(point[1])]
    xs, ys = _span([x for x, _ in values]), _span([y for _, y in values])

    def place(point: Point) -> Point:
        x = _LEFT + (point[0] - xs[0]) / (xs[1] - xs[0]) * (WIDTH - _LEFT - _RIGHT)
        y = HEIGHT - _BOTTOM - (point[1] - ys[0]) / (ys[1] - ys[0]) * (HEIGHT - _TOP - _BOTTOM)
        return round(x, 1), round(y, 1)

    lines = []
    for label, style, points in runs:
        finite = [y for _, y in points if _drawable(y)]
        if not finite:
            continue
        stretches = [[place(point) for point in thin(stretch)] for stretch in _stretches(points)]
        lines.append(
            CurveLine(
                label,
                style,
                tuple("M" + "L".join(f"{x:g} {y:g}" for x, y in stretch) for stretch in stretches if len(stretch) > 1),
                tuple(stretch[0] for stretch in stretches if len(stretch) == 1),
                *(finite[0], finite[-1], min(finite), max(finite), len(finite), len(points) - len(finite)),
            )
        )
    return Panel(
        metric,
        tuple(lines),
        tuple((place((x, ys[0]))[0], f"{x:,.0f}") for x in ticks(*xs) if x == int(x)),
        tuple((place((xs[0], y))[1], f"{y:,g}") for y in ticks(*ys)),
    )


def _drawable(value: float) -> bool:
    return abs(value) < _LARGEST


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low == high:
        margin = abs(low) / 2 or 1.0
        return low - margin, high + margin
    return low, high


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Return round numbers in [low, high]: multiples of 1, 2 or 5 times a power of ten, about as many as asked."""
    rough = (high - low) / about
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def _stretches(points: Sequence[Point]) -> list[list[Point]]:
    """Split a curve where a value is not finite."""
    stretches: list[list[Point]] = [[]]
    for point in points:
        if _drawable(point[1]):
            stretches[-1].append(point)
        elif stretches[-1]:
            stretches.append([])
    return [stretch for stretch in stretches if stretch]


def thin(points: list[Point]) -> list[Point]:
    """Keep the lowest and highest point of each of 150 equal stretches, so that no peak is lost."""
    if len(points) <= 2 * _BUCKETS:
        return points
    kept = [points[0], points[-1]]
    for bucket in range(_BUCKETS):
        part = points[bucket * len(points) // _BUCKETS : (bucket + 1) * len(points) // _BUCKETS]
        kept += [min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])]
    return sorted(set(kept))
