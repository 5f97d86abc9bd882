"""Progress bars with rate and time left, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

__all__ = ["tell", "track"]

Item = TypeVar("Item")


def tell(line: str) -> None:
    """Show a line beside the bars; an empty one is not shown."""
    from rich.console import Console

    if line:
        Console(stderr=True).print(line, markup=False, highlight=False, soft_wrap=True)


def track(
    items: Iterable[Item], description: str, *, total: int | None = None, note: Callable[[], str] | None = None
) -> Iterator[Item]:
    """Yield items while a bar shows count, rate and time left.

    Args:
        items: What to go through.
        description: What is being done, a few words.
        total: How many items there are, if ``len(items)`` does not tell.
        note: Says what else there is to know by now.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.1f}/s" if task.speed else "", style="dim")

    class Note(ProgressColumn):
        def render(self, task: Task) -> Text:  # noqa: ARG002
            return Text(note() if note else "")

    if total is None and isinstance(items, Sized):
        total = len(items)
    columns = (
        TextColumn("{task.description}", markup=False),  # names of policies are the user's
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        Note(Column(no_wrap=True)),
    )
    progress = Progress(*columns, console=Console(stderr=True))
    task = progress.add_task(description, total=total)
    if progress.console.is_terminal:  # elsewhere, what fails before its first item leaves its error and no bar
        progress.start()
    try:
        for item in items:
            progress.start()
            yield item
            progress.advance(task)
    finally:
        if progress.live.is_started:
            progress.stop()
