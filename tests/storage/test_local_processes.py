"""Pieces of work in several processes: every result, in order; errors and deaths are told."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from perl_eval.errors import UserError
from perl_eval.storage.local_processes import LocalProcesses, usable_cores


def doubled(by: int) -> Callable[[int], tuple[int, int]]:
    return lambda piece: (os.getpid(), by * piece)


def refusing() -> Callable[[int], int]:
    def do(piece: int) -> int:
        if piece == 2:
            raise UserError(f"piece {piece} is wrong", "mend it")
        return piece

    return do


def dying() -> Callable[[int], int]:
    return lambda piece: os._exit(9) if piece == 1 else piece


def test_every_piece_is_done_elsewhere_in_order() -> None:
    found = list(LocalProcesses(2)(functools.partial(doubled, 3), range(6)))
    assert [value for _, value in found] == [0, 3, 6, 9, 12, 15]
    assert os.getpid() not in {process for process, _ in found}
    assert list(LocalProcesses(2)(functools.partial(doubled, 3), [])) == []


def test_an_error_of_the_work_is_that_of_the_caller() -> None:
    with pytest.raises(UserError, match="piece 2 is wrong"):
        list(LocalProcesses(2)(refusing, range(4)))


def test_a_process_that_dies_is_told() -> None:
    with pytest.raises(UserError, match="one of 2 processes was killed"):
        list(LocalProcesses(2)(dying, range(3)))


def test_cores_are_at_least_one() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


def slow() -> Callable[[int], int]:
    def do(piece: int) -> int:
        time.sleep(60)
        return piece

    return do


def test_an_interruption_does_not_wait_for_the_pieces_in_hand() -> None:
    begun_s = time.monotonic()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    timer = threading.Timer(5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(LocalProcesses(2)(slow, range(4)))
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - begun_s < 40
    assert not multiprocessing.active_children()
