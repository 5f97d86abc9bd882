"""An adapter added to its backbone's weights, for use without peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perl_eval.models.backbone import open_backbone
from perl_eval.models.device import Placement

__all__ = ["merged"]

_NAME = "merging"


def merged(folder: Path) -> Any:
    """Return the plain ``transformers`` model that an adapter folder's backbone and adapter make together.

    The sum is taken in float32 on the CPU, into weights loaded for it: adding and taking off again in bfloat16 would
    change weights that others compute with.

    Args:
        folder: An adapter as ``train`` writes it.

    Raises:
        UserError: The folder has no adapter.
        DataError: Its backbone has changed.
    """
    backbone = open_backbone(folder, Placement(device="cpu"))
    backbone.attach_saved(_NAME, folder)
    return backbone.merge(_NAME)
