"""Progress bars: nothing is lost on the way through them, and they say what they are told to."""

from __future__ import annotations

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
