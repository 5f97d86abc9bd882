"""What a command line shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shown:
    """Exit code, standard output and standard error."""

    code: int | None
    out: str
    err: str


Command = Callable[[str], Shown]
