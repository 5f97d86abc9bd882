"""The weights of a model as a sum."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch

__all__ = ["sha256_of"]


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
