"""What a run may use: device and precision, sequences a forward pass, and where its curve is shown meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from perl_eval.checks import not_negative
from perl_eval.errors import UserError
from perl_eval.models.device import Placement
from perl_eval.training.distributed import Processes

__all__ = ["Resources", "pieces", "shared_pieces", "tracked"]

Item = TypeVar("Item")
Log = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True, slots=True)
class Resources:
    """``micro_batch`` sequences go through the model at once, 0 for the whole batch; the step stays the same.

    ``tracker`` is a name that accelerate knows (tensorboard, trackio, wandb, ...), or empty for none; its files, if it
    has any, go to the run folder.
    """

    placement: Placement = field(default_factory=Placement)
    micro_batch: int = 0
    tracker: str = ""

    def __post_init__(self) -> None:
        not_negative(self, "micro_batch")


def pieces(items: Sequence[Item], length: Callable[[Item], int], size: int) -> list[list[Item]]:
    """Return items in micro-batches of at most ``size`` (0: one of all), like lengths together, so padding is short."""
    ordered = sorted(items, key=length)
    step = size or max(1, len(ordered))
    return [ordered[start : start + step] for start in range(0, len(ordered), step)]


def shared_pieces(
    processes: Processes, items: Sequence[Item], length: Callable[[Item], int], size: int
) -> Iterator[tuple[list[Item], float]]:
    """Yield this process's `pieces` of a step's items, with a weight for their loss: 1.

    A model in shares is computed with by all processes at once, so equally often: who has fewer pieces, or none, gets
    one more, of any items, that weighs 0.
    """
    own = pieces(processes.share(items), length, size)
    yield from ((piece, 1.0) for piece in own)
    if processes.sharded:
        most = len(pieces(items[:: processes.count], length, size))  # the first process has most
        spare = own[-1] if own else [min(items, key=length)]
        yield from [(spare, 0.0)] * (most - len(own))


@contextmanager
def tracked(name: str, folder: Path, *, main: bool) -> Iterator[Log | None]:
    """Yield what sends a step's figures to a tracker, or None without one.

    Raises:
        UserError: There is no such tracker, or its package is not installed.
    """
    if not name or not main:
        yield None
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known = {str(key): kind for key, kind in LOGGER_TYPE_TO_CLASS.items()}
    if name not in known:
        raise UserError(f"no tracker {name!r}", f"choose from {', '.join(sorted(known))}")
    if name not in {str(one.value) for one in get_available_trackers()}:
        what = "'perl-eval[tensorboard]'" if name == "tensorboard" else name
        raise UserError(f"the tracker {name} is not installed", f"pip install {what}")
    kind: Any = known[name]
    where = {"logging_dir": folder / name} if kind.requires_logging_directory else {}
    tracker = kind(run_name=folder.name, **where)
    tracker.start()
    try:
        yield lambda step, figures: tracker.log(dict(figures), step=step)
    finally:
        tracker.finish()
