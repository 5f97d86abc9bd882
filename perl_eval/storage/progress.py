"""Progress bars with rate and time left, on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from typing import TypeVar

__all__ = ["Speed", "tell", "track"]

Item = TypeVar("Item")


@dataclass(slots=True)
class Speed:
    """Items a second that took work, since the first of them was waited for; bursts and what was at hand do not count.

    Args:
        fresh: The share of the items so far that took work, 0 to 1; the rest were at hand.
        clock: Seconds.
    """

    fresh: Callable[[], float] = lambda: 1.0
    clock: Callable[[], float] = time.monotonic
    _begun_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._begun_s = self.clock()

    def rate(self, done: float) -> float | None:
        """Return items a second, or None if none took work yet."""
        work, now_s = done * self.fresh(), self.clock()
        if done and not work:  # all so far was at hand: work begins now
            self._begun_s = now_s
        passed_s = now_s - self._begun_s
        return work / passed_s if work > 0 and passed_s > 0 else None

    def left_s(self, done: float, total: float | None) -> float | None:
        """Return the seconds that the rest takes if all of it takes work; None if nobody can tell."""
        rate = self.rate(done)
        return (total - done) / rate if rate and total is not None and total >= done else None


def tell(line: str) -> None:
    """Show a line beside the bars; an empty one is not shown."""
    from rich.console import Console

    if line:
        Console(stderr=True, force_jupyter=False).print(line, markup=False, highlight=False, soft_wrap=True)


def track(
    items: Iterable[Item],
    description: str,
    *,
    total: int | None = None,
    note: Callable[[], str] | None = None,
    fresh: Callable[[], float] = lambda: 1.0,
) -> Iterator[Item]:
    """Yield items while a bar shows count, rate and time left.

    Args:
        items: What to go through.
        description: What is being done, a few words.
        total: How many items there are, if ``len(items)`` does not tell.
        note: Says what else there is to know by now.
        fresh: The share of the items so far that took work; rate and time left go by those alone.
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
    )
    from rich.table import Column
    from rich.text import Text

    speed = Speed(fresh)

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            rate = speed.rate(task.completed)
            return Text(f"{rate:,.1f}/s" if rate else "", style="dim")

    class Left(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(_clock(speed.left_s(task.completed, task.total)), style="cyan")

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
        Left(),
        Note(Column(no_wrap=True)),
    )
    progress = Progress(*columns, console=Console(stderr=True, force_jupyter=False))
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


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "-:--:--"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
