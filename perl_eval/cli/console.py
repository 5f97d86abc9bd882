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
    """Print the estimates of a run folder, less the bins of curves, which the report draws."""
    from perl_eval.records import Estimate
    from perl_eval.storage import run_folder

    table(folder.name, [one for one in run_folder.read(folder, Estimate) if one.about.bin is None])


def table(title: str, estimates: Sequence[Any]) -> None:
    """Print estimates, one a line."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    def seen(text: str) -> str:
        return escape(printable(text))

    table = Table(title=seen(title), header_style="bold")
    for column in ("figure", "value", "interval", "n"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    subject = None
    reasons: dict[str, int] = {}
    for estimate in estimates:
        if estimate.subject != subject:
            subject = estimate.subject
            if table.row_count:
                table.add_section()
            table.add_row(f"[bold]{seen(subject)}[/bold]")
        interval = "" if estimate.low is None else f"{digits(estimate.low)} to {digits(estimate.high)}"
        note = reasons.setdefault(estimate.reason or "undefined", len(reasons) + 1) if estimate.value is None else 0
        value = f"none ({note})" if estimate.value is None else digits(estimate.value, estimate.kind)
        table.add_row(f"  {seen(estimate.name)}", value, interval, str(estimate.n))
    Console().print(table)
    for reason, note in reasons.items():
        say(f"({note}) none: {reason}")


_WHOLE = 1e5
"""From here on a figure has no decimals."""


def digits(value: float, kind: str = "value") -> str:
    """Return a figure in the digits that one reads: counts whole, small ones by their leading digits.

    Args:
        value: The figure.
        kind: What sort of figure it is, see `perl_eval.records.FigureKind`.
    """
    if kind == "p-value" and value < 0.001:
        return "< 0.001"
    if kind == "count" or abs(value) >= _WHOLE or (abs(value) >= 10 and float(value).is_integer()):
        return f"{value:,.0f}"
    return f"{value:.3g}" if 0 < abs(value) < 0.001 else f"{value:,.3f}"


UNFINISHED = 3
"""The exit code of a run that stopped before its end; the same command goes on."""


def done(path: Path) -> None:
    """Print where the result is: the last line of every verb."""
    say(str(path))


def _show_estimates(folder: Path) -> None:
    show(folder)
    done(folder)
