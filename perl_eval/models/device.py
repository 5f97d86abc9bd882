"""Where a model computes, and in what precision."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import torch

from perl_eval.errors import UserError

__all__ = ["Placement"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Device, precision and whether activations are computed twice to spare memory.

    ``device`` is torch's name of it; ``auto`` is the GPU of this process if there is one, else the CPU. With ``bf16``
    matrix products are in bfloat16 and a frozen backbone lies in it, with ``wide`` in float32 all the same, for what is
    computed so now and then; what is trained, heads, log-probabilities and losses stay in float32. With
    ``checkpointing`` a layer's activations are computed anew on the way back. With ``packing`` short sequences of a
    batch share a row, where a model takes masks (`perl_eval.models.shared_prefix`), so that less is padding. With
    ``quantize`` ``nf4`` the linear layers of a frozen backbone lie in 4 bits (`perl_eval.models.quantization`).
    """

    device: str = "auto"
    dtype: Literal["fp32", "bf16"] = "fp32"
    checkpointing: bool = False
    wide: bool = False
    packing: bool = False
    quantize: Literal["", "nf4"] = ""

    def __post_init__(self) -> None:
        if self.dtype not in ("fp32", "bf16"):
            raise UserError(f"dtype {self.dtype!r} is not known", "choose from fp32, bf16")
        if self.quantize not in ("", "nf4"):
            raise UserError(f"quantize {self.quantize!r} is not known", "take nf4, or leave it out")

    @property
    def storage(self) -> torch.dtype:
        """What a frozen backbone is held in."""
        return torch.bfloat16 if self.dtype == "bf16" and not self.wide else torch.float32

    def resolve(self) -> torch.device:
        """Return the device.

        Raises:
            UserError: This machine has no such device.
        """
        if self.device == "auto":
            # accelerate and torchrun number the processes of one machine so
            local = int(os.environ.get("LOCAL_RANK", "0"))
            return torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"no device {self.device!r} here ({reason})", "give cpu, or auto") from None
        return device
