"""What a trained folder holds: a whole model or an adapter, a scalar head, and which model it was trained from."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from perl_eval.errors import DataError
from perl_eval.storage import remote

__all__ = [
    "BASE",
    "HEAD",
    "base_of",
    "has_base",
    "has_head",
    "hold_bias",
    "is_adapter",
    "new_head",
    "read_head",
    "sha256_of",
    "write_head",
]

HEAD = "head.safetensors"
"""A reward model's scalar head: ``weight`` (1, width) and ``bias`` (1,)."""
BASE = "base.json"
"""Path and sha256 of the model that an adapter, or a fully tuned model, was trained from."""


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter rather than a whole model."""
    return (Path(folder) / "adapter_config.json").is_file()


def has_base(folder: Path) -> bool:
    """Return whether a folder names the model it was trained from."""
    return (Path(folder) / BASE).is_file()


def has_head(folder: Path) -> bool:
    """Return whether a folder holds a scalar head, as reward models do."""
    return (Path(folder) / HEAD).is_file()


def base_of(folder: Path) -> Mapping[str, str]:
    """Return path and sha256 of the model that an adapter, or a fully tuned model, was trained from.

    A model at an address is fetched.

    Raises:
        UserError: There is nothing at its address.
        DataError: The folder does not name it.
    """
    file = Path(folder) / BASE
    try:
        saved = json.loads(file.read_text("utf-8"))
        path, sha256 = str(saved["path"]), str(saved["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"does not name the adapter's backbone ({error})", file=file) from None
    return {"path": str(remote.local(path)), "sha256": sha256}


def new_head(width: int) -> nn.Linear:
    """Return a head, (width -> 1), with weights from N(0, 1 / (width + 1)) and bias 0."""
    head = nn.Linear(width, 1)
    nn.init.normal_(head.weight, std=1.0 / math.sqrt(width + 1))
    nn.init.zeros_(head.bias)
    return head


def hold_bias(head: nn.Linear) -> None:
    """Keep a head's bias as it is: it stays in the head's state, and is no parameter any more.

    For losses of differences of scores, in which it cancels: its gradient is rounding, whose sign and size depend on
    the processor and on how rows are put together, and of which Adam makes steps as long as of any other.
    """
    bias = head.bias.detach()
    del head.bias
    head.register_buffer("bias", bias)


def read_head(folder: Path, width: int) -> nn.Linear:
    """Read a saved head, which reads one state of this width or several side by side.

    Raises:
        DataError: The folder has none of this width.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(folder / HEAD)
        states = max(1, round(weights["weight"].shape[-1] / width)) if "weight" in weights else 1
        head = nn.Linear(states * width, 1)
        head.load_state_dict(weights)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"is no scalar head of this model ({reason})", file=folder / HEAD) from None
    return head


def write_head(head: nn.Linear, folder: Path) -> None:
    """Write a head."""
    from safetensors.torch import save_file

    save_file({key: value.cpu() for key, value in head.state_dict().items()}, folder / HEAD)


def sha256_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the sha256 over names and values, in name order; whatever floats lie in, they are read as float32.

    So a bfloat16 checkpoint has the same sum in either precision: widening is exact.
    """
    state = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        own = tensor.detach().cpu()
        own = own.float() if own.is_floating_point() else own
        state.update(name.encode())
        state.update(own.contiguous().view(torch.uint8).numpy().tobytes())
    return state.hexdigest()
