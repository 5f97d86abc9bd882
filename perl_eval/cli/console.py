"""What a verb prints when it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

_BREAKS = "\n\t"


def printable(text: str, *, lines: bool = False) -> str:
    """Return text in which what cannot be seen is written out: text of the user's files must not steer the terminal.

    Args:
        text: Any text.
        lines: Line feeds and tabs stay.
    """
    kept = _BREAKS if lines else ""
    return "".join(
        char if char.isprintable() or char in kept else char.encode("unicode_escape").decode() for char in text
    )


def say(text: str, *, err: bool = False, lines: bool = False) -> None:
    """Print a line as `printable` gives it, on standard output or standard error."""
    typer.echo(printable(text, lines=lines), err=err)


def counted(count: int, one: str, several: str = "") -> str:
    """Return how many there are of something: 1 request, 2 requests."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def show_noted(noted: Mapping[str, Any]) -> None:
    """Print what a server did not take, and what it did otherwise than asked, a line each, on standard error."""
    if given_up := noted.get("not_taken"):
        say(f"the server does not take {', '.join(given_up)}: not sent", err=True)
    for line in noted.get("server", []):
        say(line, err=True)


def show(folder: Path) -> None:
    """Print the estimates of a run folder."""
    from perl_eval.records import Estimate
    from perl_eval.storage import run_folder

    table(folder.name, run_folder.read(folder, Estimate))


def table(title: str, estimates: Sequence[Any]) -> None:
    """Print estimates, one a line."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    def seen(text: str) -> str:
        return escape(printable(text))

    table = Table(title=seen(title), header_style="bold")
    for column in ("subject", "figure", "value", "interval", "n"):
        table.add_column(column, justify="left" if column in ("subject", "figure") else "right")
    subject = None
    for estimate in estimates:
        interval = "" if estimate.low is None else f"{estimate.low:.3f} to {estimate.high:.3f}"
        places = 0 if estimate.kind == "count" or _is_whole(estimate.value) else 3
        value = seen(f"none: {estimate.reason}") if estimate.value is None else f"{estimate.value:,.{places}f}"
        shown = "" if estimate.subject == subject else seen(estimate.subject)
        table.add_row(shown, seen(estimate.name), value, interval, str(estimate.n), end_section=False)
        subject = estimate.subject
    Console().print(table)


def _is_whole(value: float | None) -> bool:
    return value is not None and abs(value) >= 10 and value.is_integer()


UNFINISHED = 3
"""The exit code of a run that stopped before its end; the same command goes on."""


def done(path: Path) -> None:
    """Print where the result is: the last line of every verb."""
    say(str(path))


def _show_estimates(folder: Path) -> None:
    show(folder)
    done(folder)
