"""Programs in processes of their own that a test may kill, as many as it likes: imports are done once for all.

The start method ``forkserver`` forks each from a clean process that has the modules of the judge's tests loaded, and
runs nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess

__all__ = ["started"]

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "pytest",  # the main module, which every process looks up
        "openai",
        "pandas",  # by pyarrow's first computation
        "rich.progress",
        "perl_eval.judging.judge",
        "perl_eval.judges.backends.chat",
        "perl_eval.judges.backends.scripted",
    ]
)


def started(program: str, arguments: Sequence[str]) -> ForkServerProcess:
    """Start a program, given by its text, with this process's environment; what it writes to stderr is lost."""
    process = _CONTEXT.Process(target=_run, args=(program, list(arguments), dict(os.environ)), daemon=True)
    process.start()
    return process


def _run(program: str, arguments: list[str], environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.argv = ["-c", *arguments]
    exec(program, {"__name__": "__main__"})
