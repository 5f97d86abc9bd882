"""A model in shares over the processes (FSDP2), as ``accelerate launch`` asks for with ``distributed_type: FSDP``.

Each process holds a share of every layer's weights, gradients and moments, and has a layer whole only while it computes
it. Embeddings, last norm, output layer and heads stay whole in every process. torch adds up the gradients of what is
shared, `Processes.sum_gradients` the others, so that a step is the one that a single process would take.

What this does not spare: every process opens the whole model before it gives up all but its share, and the first one
gathers what was learned in the machine's memory, for checkpoints, and opens a whole model at the end, which it saves,
scales and calibrates as ever. So the weights alone must fit on one device; gradients, moments and, with
``--checkpointing``, activations are what shares make room for. Tested on the CPU (gloo) in float32, with two processes
of one machine; not on GPUs, not in bfloat16, and not on several machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from perl_eval.errors import UserError
from perl_eval.training.distributed import Processes

if TYPE_CHECKING:
    from perl_eval.models.backbone import Backbone

__all__ = ["as_share", "clip", "groups", "local", "made_whole", "plain", "share_of", "share_out", "whole"]


def share_out(backbone: Backbone, *trained: str | None, processes: Processes) -> None:
    """Leave each process its share of every layer; of one process, or of whole copies, nothing changes.

    Args:
        backbone: A model with its adapters attached, the same in every process.
        trained: What takes gradients, see `Backbone.train_only`.
        processes: Who shares.

    Raises:
        UserError: The model's layers are not told apart, or packed in 4 bits.
    """
    if not processes.sharded:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from transformers.modeling_layers import GradientCheckpointingLayer

    if backbone.placement.quantize:
        raise UserError("FSDP cannot divide the weights that --quantize packs", "leave one of them out")
    decoder = backbone.causal.get_decoder()
    layers = [module for module in decoder.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise UserError(f"{type(backbone.causal).__name__} has no layers to divide", "launch without FSDP")
    mesh = init_device_mesh(backbone.device.type, (processes.count,))
    shared = [fully_shard(layer, mesh=mesh, reshard_after_forward=True) for layer in layers]
    within = {id(parameter) for layer in layers for parameter in layer.parameters()}
    outside = {parameter for parameter in decoder.parameters() if id(parameter) not in within}
    # the root has no share of its own; it lets a layer's weights come while the one before computes
    for module in (*shared, fully_shard(decoder, mesh=mesh, ignored_params=outside)):
        module.set_gradient_divide_factor(1.0)  # losses are divided by counts over all processes
        module.set_force_sum_reduction_for_comms(True)  # gloo has no scaled sum
    backbone.train_only(*trained)  # the parameters are other objects now


def plain(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Return the parameters that every process holds whole."""
    return [parameter for parameter in parameters if not isinstance(parameter, DTensor)]


def groups(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Return parameters by kind, shared ones apart: torch computes with many of one kind at once."""
    parameters = list(parameters)
    shared: list[nn.Parameter] = [parameter for parameter in parameters if isinstance(parameter, DTensor)]
    return [group for group in (plain(parameters), shared) if group]


def whole(tensor: torch.Tensor, processes: Processes) -> torch.Tensor:
    """Return a tensor with all its shares, in the main process's memory; in others nothing. Every process must ask."""
    if not isinstance(tensor, DTensor):
        return tensor
    full: torch.Tensor = tensor.full_tensor().detach()
    return full.cpu() if processes.is_main else full.new_empty(0)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's share of a tensor, in its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def share_of(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return of a whole tensor what this process holds of one like it."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def as_share(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return what `local` gave as the share that it is of a tensor like another."""
    if not isinstance(like, DTensor):
        return tensor
    placed = tensor.to(like.device)
    return DTensor.from_local(placed, like.device_mesh, like.placements, shape=like.shape, stride=like.stride())


@torch.no_grad()
def clip(parameters: Iterable[nn.Parameter], clip_norm: float, processes: Processes) -> float:
    """Clip the gradient of parameters to a norm over all shares, and return what it was."""
    parameters = list(parameters)
    if len(plain(parameters)) == len(parameters):
        return float(nn.utils.clip_grad_norm_(parameters, clip_norm))
    squares = {True: 0.0, False: 0.0}
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for gradient in gradients:
        squares[isinstance(gradient, DTensor)] += float(local(gradient).double().square().sum())
    norm = (squares[False] + processes.totals({"square": squares[True]})["square"]) ** 0.5
    for gradient in gradients:
        local(gradient).mul_(min(1.0, clip_norm / (norm + 1e-6)))  # as torch does
    return float(norm)


class Trainer(Protocol):
    """What learns, and by name the parameters that it moves."""

    processes: Processes

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Return what is trained, by name."""


Kind = TypeVar("Kind", bound=Trainer)


def made_whole(trainer: Kind, fresh: Callable[[], Kind]) -> Kind:
    """Return in the main process a trainer whose model is whole and has learned what this one has; elsewhere this one.

    Every process must ask. torch can gather a shared model in place, but shares it out again when its state is read.

    Args:
        trainer: One that has learned; if its model is whole it is what is returned.
        fresh: Makes one like it, whole, that has not.
    """
    if not trainer.processes.sharded:
        return trainer
    learned = {name: whole(parameter, trainer.processes) for name, parameter in trainer.parameters().items()}
    if not trainer.processes.is_main:
        return trainer
    made = fresh()
    with torch.no_grad():
        for name, parameter in made.parameters().items():
            parameter.copy_(learned[name])
    return made
