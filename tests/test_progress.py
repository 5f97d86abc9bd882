"""Progress bars: nothing is lost on the way through them, and they say what they are told to."""

from __future__ import annotations

import pytest

from perl_eval import progress


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
