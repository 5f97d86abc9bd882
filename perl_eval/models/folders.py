"""What a trained folder holds: a whole model or an adapter, a scalar head, and which model it was trained from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from perl_eval import remote
from perl_eval.errors import DataError

__all__ = ["BASE", "HEAD", "base_of", "has_base", "has_head", "is_adapter"]

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
