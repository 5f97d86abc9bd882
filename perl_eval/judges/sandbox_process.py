"""Templates of the user's own, compiled and rendered in a process that may take so much memory and so much time.

``{{ 'a' * 10**11 }}`` is valid jinja2, folded as soon as it is compiled; so is a loop within a loop within a loop. The
process is this module run as a program: it answers one JSON object a line with another, and ends with its input.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Mapping
from typing import IO, Any

from perl_eval.judges.sandbox import Sandboxed, TemplateFailure

__all__ = ["LIMIT_BYTES", "LIMIT_S", "Confined"]

LIMIT_S = 10.0
"""Longest that one rendering may take."""
LIMIT_BYTES = 256 * 2**20
"""What the process may take beyond what it starts with."""
_LONGEST = 16 * 2**20
"""Characters of the longest text that a template may make."""
_KEPT = ("PATH", "PYTHONHOME", "SYSTEMROOT", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
"""What the process sees of the environment: no keys."""
_PAGE = 4096


class Confined:
    """A template compiled in a process of its own, which is started anew when it was ended.

    Args:
        text: The template.

    Raises:
        TemplateFailure: It is none, or takes too much time or memory.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._child: subprocess.Popen[str] | None = None
        self._owner = 0
        self._lock = threading.Lock()
        found = self._asked({})
        self.blocks: Collection[str] = frozenset(found["blocks"])
        self.uses, self.places = frozenset[str](found["uses"]), bool(found["places"])

    def render(self, block: str, values: Mapping[str, object]) -> str:
        """Render a block; see `perl_eval.judges.sandbox.Compiled`."""
        return str(self._asked({"block": block, "values": dict(values)})["text"])

    def _asked(self, request: Mapping[str, object]) -> dict[str, Any]:
        with self._lock:
            if self._child is None or self._owner != os.getpid():
                self._child, self._owner = _started(), os.getpid()
                self._exchange({"template": self._text})
            return self._exchange(request)

    def _exchange(self, request: Mapping[str, object]) -> dict[str, Any]:
        child = self._child
        assert child is not None
        assert child.stdin is not None
        assert child.stdout is not None
        with _watched(child):
            try:
                child.stdin.write(json.dumps(request) + "\n")
                child.stdin.flush()
                line = child.stdout.readline()
            except BrokenPipeError:
                line = ""
        if not line:
            self._end()
            raise TemplateFailure(f"it takes longer than {LIMIT_S:g} seconds, or more memory than a prompt may")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise TemplateFailure(answer["error"], answer["line"])
        return answer

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def __del__(self) -> None:
        child = getattr(self, "_child", None)
        if child is not None and self._owner == os.getpid():
            with contextlib.suppress(OSError):
                child.stdin.close()
                child.stdout.close()
            child.wait()


def _started() -> subprocess.Popen[str]:
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
        encoding="ascii",
    )


@contextlib.contextmanager
def _watched(child: subprocess.Popen[str]) -> Iterator[None]:
    """End the process after some time where it cannot do so itself."""
    if hasattr(signal, "setitimer"):
        yield
        return
    timer = threading.Timer(LIMIT_S, child.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _confine() -> None:
    """Bound this process's memory, where the system can."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as found:
            most = int(found.read().split()[0]) * _PAGE + LIMIT_BYTES
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    except (ImportError, OSError, ValueError):
        return


@contextlib.contextmanager
def _timed() -> Iterator[None]:
    """Let the system end this process if what is inside takes too long; no handler runs, so no loop can outlast it."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer requests until there are none: a template to compile, what it is, or one of its blocks to render."""
    compiled: Sandboxed | None = None
    failure: TemplateFailure | None = None
    for line in requests:
        answer: dict[str, object] = {}
        try:
            request = json.loads(line)
            with _timed():
                if "template" in request:
                    compiled = Sandboxed(request["template"])
                elif failure is not None or compiled is None:
                    raise failure or TemplateFailure("there is none")
                elif "block" in request:
                    answer["text"] = _bounded(compiled.render(request["block"], request["values"]))
                else:
                    answer = {"blocks": [*compiled.blocks], "uses": [*compiled.uses], "places": compiled.places}
                said = json.dumps(answer)
        except TemplateFailure as error:
            failure = error if compiled is None else None
            said = json.dumps({"error": error.message, "line": error.line})
        except MemoryError:
            said = json.dumps({"error": "it takes more memory than a prompt may", "line": None})
        answers.write(said + "\n")
        answers.flush()


def _bounded(text: str) -> str:
    if len(text) > _LONGEST:
        raise TemplateFailure(f"it makes {len(text):,} characters, and a prompt may have {_LONGEST:,}")
    return text


if __name__ == "__main__":
    _confine()
    _serve(sys.stdin, sys.stdout)
