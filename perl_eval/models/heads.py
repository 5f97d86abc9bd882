"""Scalar heads: one number for each hidden state, or for several side by side, fresh or from a file."""

from __future__ import annotations

import math
from pathlib import Path

from torch import nn

from perl_eval.errors import DataError
from perl_eval.models.folders import HEAD

__all__ = ["hold_bias", "new_head", "read_head", "write_head"]


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
