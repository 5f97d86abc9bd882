"""Progress bars: nothing is lost on the way through them, and they say what they are told to."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from perl_eval.storage import progress


def test_items_come_through_and_the_bar_tells_of_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    seen: list[int] = []
    for item in progress.track(iter(range(7)), "counting [red]", total=7, note=lambda: f"{len(seen)} seen, [0.25 USD]"):
        seen.append(item)
    assert seen == list(range(7))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "counting [red]" in shown.err
    assert "7/7" in shown.err
    assert "7 seen, [0.25 USD]" in shown.err


def test_without_a_note_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.track([1, 2, 3], "x")) == [1, 2, 3]
    assert "3/3" in capsys.readouterr().err


def test_track_yields_everything_in_order_and_writes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.track([3, 1, 2], "judge")) == [3, 1, 2]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "judge" in shown.err
    assert "3/3" in shown.err


def test_track_takes_what_has_no_length(capsys: pytest.CaptureFixture[str]) -> None:
    def numbers() -> Iterator[int]:
        yield from (1, 2)

    assert list(progress.track(numbers(), "sample", total=2)) == [1, 2]
    assert "2/2" in capsys.readouterr().err
    assert list(progress.track(numbers(), "sample")) == [1, 2]
    assert list(progress.track([], "none")) == []


def test_track_takes_names_that_look_like_markup(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.track([1], "sample [/bold] [red]x")) == [1]
    assert "sample [/bold] [red]x" in capsys.readouterr().err


def test_track_lets_errors_through() -> None:
    def fail() -> None:
        for item in progress.track([1, 2], "judge"):
            raise ValueError(item)

    with pytest.raises(ValueError, match="1"):
        fail()
    # The bar is gone: another one can start.
    assert list(progress.track([1], "judge")) == [1]


def test_a_rate_is_that_of_the_work_done() -> None:
    """1,000 of 2,000 were at hand; 500 more took 100 seconds, however many of them came at once in the end."""
    now, asked = [50.0], [0]
    speed = progress.Speed(lambda: asked[0] / (asked[0] + 1000), clock=lambda: now[0])
    assert (speed.rate(0), speed.left_s(0, 2000)) == (None, None)
    now[0] = 60.0
    assert (speed.rate(1000), speed.left_s(1000, 2000)) == (None, None)
    now[0], asked[0] = 160.0, 500
    assert speed.rate(1500) == pytest.approx(5.0)
    assert speed.left_s(1500, 2000) == pytest.approx(100.0)
    assert speed.left_s(1500, None) is None


def test_a_burst_at_the_end_is_no_speed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    def burst() -> Iterator[int]:
        time.sleep(0.5)
        yield from range(100)

    list(progress.track(burst(), "x", total=100))
    shown = re.findall(r"([\d,.]+)/s", capsys.readouterr().err)
    assert 100 < float(shown[-1].replace(",", "")) < 201


def test_what_was_at_hand_has_no_rate(capsys: pytest.CaptureFixture[str]) -> None:
    list(progress.track(range(100), "x", fresh=lambda: 0.0))
    assert "/s" not in capsys.readouterr().err
