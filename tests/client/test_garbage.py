"""Looking for cyclic garbage less often."""

from __future__ import annotations

import gc

import pytest

from perl_eval.client.garbage import seldom_collected


def test_garbage_is_looked_for_less_often_and_then_as_before() -> None:
    before, during = gc.get_threshold(), list[tuple[int, int, int]]()

    def fail() -> None:
        with seldom_collected():
            during.append(gc.get_threshold())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert during[0][0] >= 50 * before[0]
    assert during[0][1:] == before[1:]
    assert gc.get_threshold() == before


def test_who_does_not_want_it_looked_for_is_left_alone() -> None:
    before = gc.get_threshold()
    gc.set_threshold(0)
    try:
        with seldom_collected():
            assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)
