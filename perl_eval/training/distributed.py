"""Several processes at one run, one device each, as ``accelerate launch`` starts them.

Each takes its share of a step's rows; losses are divided by counts over all of them and gradients are added up, so
that two processes take the step that one would. There is no wrapper around the model: which parameters are summed is
an explicit list, and adapters that idle in a step need no special care.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
from torch import nn

from perl_eval.errors import UserError
from perl_eval.storage import run_folder

__all__ = ["Processes", "end"]

Item = TypeVar("Item")
_SHARES = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron",
}
_SETTINGS = ("FSDP_CPU_RAM_EFFICIENT_LOADING", "FSDP_OFFLOAD_PARAMS")
_WHOLE = "launch with distributed_type MULTI_GPU, as in examples/accelerate/ddp.yaml"
_BUCKET = 2**24
"""Gradient numbers sent at once: 64 MiB in float32."""


class Processes:
    """The processes of this run; of one, every method gives back what it got.

    Attributes:
        count: How many there are.
        index: Which one this is; 0 is the one that writes.
        sharded: Whether each holds a share of the model, `perl_eval.training.fsdp`, and not a copy.
    """

    def __init__(self, count: int = 1, index: int = 0, *, sharded: bool = False) -> None:
        self.count, self.index, self.sharded = count, index, sharded

    @classmethod
    def current(cls, device: torch.device, *, shards: bool = False) -> Processes:
        """Return the processes that the launcher started, joining them if there are several.

        They part when the interpreter ends; a program of one's own had better end with `end`.

        Args:
            device: Where this one computes, which decides how they talk: nccl between GPUs, gloo between CPUs.
            shards: Whether what runs can be trained in shares, if the launcher asks for FSDP.

        Raises:
            UserError: The launcher asks for a model in shares, which would be trained as whole copies, or for more
                than is done with shares.
        """
        fsdp = _is_on("ACCELERATE_USE_FSDP")
        if fsdp and not shards:
            why = "each process samples at its own pace"
            raise UserError(f"the launcher asks for FSDP, for train sft and train reward only: {why}", _WHOLE)
        for name in _SETTINGS:
            if fsdp and _is_on(name):
                raise UserError(f"the launcher asks for {name}", "set it to false, as in examples/accelerate/fsdp.yaml")
        for name, what in _SHARES.items():
            if _is_on(name):
                raise UserError(f"the launcher asks for {what}, and every process here holds the whole model", _WHOLE)
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        from accelerate import PartialState

        state = PartialState(cpu=device.type == "cpu")
        atexit.unregister(_part)  # of several verbs in one process
        atexit.register(_part)
        return cls(state.num_processes, state.process_index, sharded=fsdp)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.index == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """Return this process's items: every ``count``-th, so that lengths even out."""
        return list(items[self.index :: self.count])

    def totals(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Return the sums of figures over all processes."""
        if self.count == 1:
            return dict(figures)
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        summed = torch.tensor(list(figures.values()), dtype=torch.float64, device=device)
        torch.distributed.all_reduce(summed)
        return dict(zip(figures, summed.tolist(), strict=True))

    def agreed(self, *, due: bool) -> bool:
        """Return whether a thing is due here, or by the main process's clock if all must do it together."""
        if not self.sharded:
            return due
        return self.totals({"due": float(due and self.is_main)})["due"] > 0

    def gather(self, items: Sequence[Item]) -> list[Item]:
        """Return the items of all processes in the order that `share` took them from, in every process."""
        if self.count == 1:
            return list(items)
        shares: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(shares, list(items))
        longest = max(len(share) for share in shares)
        return [share[place] for place in range(longest) for share in shares if place < len(share)]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients over all processes, in place; who has none counts as zero."""
        if self.count == 1:
            return
        bucket: list[torch.Tensor] = []
        size = 0
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            bucket.append(parameter.grad)
            size += parameter.grad.numel()
            if size >= _BUCKET:
                _sum_together(bucket)
                bucket, size = [], 0
        if bucket:
            _sum_together(bucket)

    def start(self, out: Path, **plan: Any) -> run_folder.Run:
        """Open a run folder as `runs.start` does; only the main process writes to it."""
        if self.count == 1:
            return run_folder.start(out, **plan)
        shared: list[Any] = [None]
        run = None
        if self.is_main:
            run = run_folder.start(out, **plan)
            shared = [run.done]
        torch.distributed.broadcast_object_list(shared)
        return run or _Bystander(Path(out), done=shared[0])

    def wait(self) -> None:
        """Let all processes come to this point."""
        if self.count > 1:
            torch.distributed.barrier()


class _Bystander(run_folder.Run):
    """A run folder that another process writes."""

    def __init__(self, folder: Path, *, done: bool) -> None:
        super().__init__(folder, {}, None)
        self.done = done

    def __enter__(self) -> _Bystander:
        return self  # the process that writes has the lock

    def __exit__(self, *_: object) -> None:
        self.done = True

    def write(self, records: Iterable[Any], record: type) -> Path:
        """Write nothing."""
        del records
        return self.folder / run_folder.FILES[record]


def end(code: int = 0) -> NoReturn:
    """End a process of several: run its exit handlers, and do not take the interpreter apart.

    Where the interpreter is taken apart while one of torch's threads still asks for it, the process aborts, after its
    work: one launch of two processes in about ten did so on busy machines, whether or not they had parted before.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _is_on(name: str) -> bool:
    return os.environ.get(name, "").lower() == "true"


def _part() -> None:
    """Leave the group, if nobody has."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _sum_together(gradients: Sequence[torch.Tensor]) -> None:
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    torch.distributed.all_reduce(flat)
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
