from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_story import write

from perl_eval.records import Measurement
from perl_eval.reporting.inputs import folders
from perl_eval.reporting.svg_curves import HEIGHT, WIDTH, curves, thin, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.5, 1.0]),
        (0.0, 199.0, [0.0, 50.0, 100.0, 150.0]),
        (-1.53, 0.04, [-1.5, -1.0, -0.5, 0.0]),
        (0.2, 0.29, [0.2, 0.25]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_lie_inside_and_are_few(low: float, width: float) -> None:
    found = ticks(low, low + width)
    assert all(low - 1e-6 * width <= tick <= low + width * (1 + 1e-6) for tick in found)
    assert 1 <= len(found) <= 6


def test_thinning_keeps_ends_and_peaks() -> None:
    points = [(float(step), math.sin(step / 50)) for step in range(10_000)]
    points[4321] = (4321.0, 9.0)
    points[8765] = (8765.0, -9.0)
    kept = thin(points)
    assert len(kept) <= 302
    assert {(4321.0, 9.0), (8765.0, -9.0), points[0], points[-1]} <= set(kept)
    assert kept == sorted(kept)
    assert set(kept) <= set(points)
    assert thin(points[:300]) == points[:300]


def test_lines_are_drawn_where_the_values_are(tmp_path: Path) -> None:
    values = [0.0, 1.0, math.nan, 4.0, math.inf, 2.0, 3.0]
    points = [Measurement(step, "reward", value) for step, value in enumerate(values)]
    write(tmp_path / "one", "train policy", [(Measurement, points)])
    write(tmp_path / "two", "train policy", [(Measurement, [Measurement(6, "kl", 5.0)])])
    write(tmp_path / "sft", "train sft", [(Measurement, [Measurement(0, "loss", math.nan)])])
    policy, sft = curves(folders([tmp_path]))
    assert (policy.verb, sft.verb) == ("train policy", "train sft")
    assert policy.runs == (("one", 0), ("two", 1))
    reward, kl = policy.panels
    (line,) = reward.lines
    assert (line.first, line.last, line.low, line.high, line.n, line.gaps) == (0.0, 3.0, 0.0, 4.0, 5, 2)
    # Steps 0..6 go from x 46 to 310, values 0..4 from y 166 up to 10: 44 a step, 39 a unit.
    assert line.paths == ("M46 166L90 127", "M266 88L310 49")
    assert line.dots == ((178.0, 10.0),)
    assert reward.x_ticks == ((46.0, "0"), (134.0, "2"), (222.0, "4"), (310.0, "6"))
    assert reward.y_ticks == ((166.0, "0"), (127.0, "1"), (88.0, "2"), (49.0, "3"), (10.0, "4"))
    (dot,) = kl.lines[0].dots
    assert dot[0] == pytest.approx((46 + WIDTH - 10) / 2)
    assert dot[1] == pytest.approx((10 + HEIGHT - 24) / 2)
    assert sft.panels[0].lines == ()
