"""Reading verdicts by a regular expression of the user's own, in bounded time.

Python's `re` cannot be interrupted, and some expressions take longer than a life on a few hundred characters. So the
user's expression runs in a process of its own, which is ended when it takes too long.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import IO

from perl_eval.errors import UserError

__all__ = ["LIMIT_S", "TooSlow", "checked", "last_match"]

LIMIT_S = 2.0
"""Longest that an expression may take on one reply, in seconds."""
_LONGEST = 200_000
_STARTING_S = 30.0
_MATCHER = """
import json, re, sys
sys.stdout.write("\\n"); sys.stdout.flush()
compiled = {}
for line in sys.stdin:
    pattern, text = json.loads(line)
    if pattern not in compiled:
        compiled[pattern] = re.compile(pattern)
    found = None
    for match in compiled[pattern].finditer(text):
        found = {"": match[1] if compiled[pattern].groups else match[0], **match.groupdict()}
    sys.stdout.write(json.dumps(found) + "\\n"); sys.stdout.flush()
"""


class TooSlow(Exception):
    """An expression took too long on a text."""


@lru_cache(maxsize=64)
def checked(pattern: str) -> str:
    """Return an expression that can be used.

    It has one group, whose text is a verdict, or groups named after verdicts, such as ``(?P<a>...)|(?P<b>...)``.

    Raises:
        UserError: It is none, or has other groups.
    """
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"--verdict-pattern {pattern!r} is not a regular expression: {error}", "correct it") from None
    if not compiled.groupindex and compiled.groups != 1:
        raise UserError(
            f"--verdict-pattern {pattern!r} has {compiled.groups} groups",
            r"give it one, around the verdict, as in 'Choice: (A|B|tie)', or name them a, b and tie",
        )
    return pattern


def last_match(pattern: str, text: str) -> Mapping[str, str | None] | None:
    """Return the groups of an expression's last match by name, the first group under ``""``; None without a match.

    Args:
        pattern: The expression, `checked`.
        text: What to search; of a very long one only the end is.

    Raises:
        TooSlow: It took longer than `LIMIT_S`.
    """
    return _PROCESS.search(pattern, text[-_LONGEST:])


class _Process:
    """The process that searches, started when it is first needed and after each that was ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: subprocess.Popen[str] | None = None

    def search(self, pattern: str, text: str) -> Mapping[str, str | None] | None:
        with self._lock:
            running = self._running or self._started()
            line = self._answer(running, json.dumps([pattern, text]), LIMIT_S)
            found: Mapping[str, str | None] | None = json.loads(line)
            return found

    def close(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        running.kill()
        for pipe in (running.stdin, running.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        running.wait()

    def _started(self) -> subprocess.Popen[str]:
        self._running = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _MATCHER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="ascii",
        )
        self._answer(self._running, None, _STARTING_S)
        return self._running

    def _answer(self, running: subprocess.Popen[str], asked: str | None, limit_s: float) -> str:
        """Return the process's next line; end the process if none comes in time."""
        ended = threading.Timer(limit_s, running.kill)
        ended.daemon = True
        ended.start()
        try:
            if asked is not None:
                _write(running.stdin, asked + "\n")
            assert running.stdout is not None
            line = running.stdout.readline()
        finally:
            ended.cancel()
        if not line:
            self.close()
            raise TooSlow(f"the verdict pattern took longer than {limit_s:g} s on this reply")
        return line


def _write(pipe: IO[str] | None, line: str) -> None:
    assert pipe is not None
    with contextlib.suppress(OSError):  # it was ended; no answer will come
        pipe.write(line)
        pipe.flush()


_PROCESS = _Process()
atexit.register(_PROCESS.close)
