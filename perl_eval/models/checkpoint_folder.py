"""What a trained folder holds: a whole model or an adapter, a scalar head, and which model it was trained from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from perl_eval.errors import DataError, UserError
from perl_eval.models.model_source import located
from perl_eval.storage import remote

__all__ = [
    "BASE",
    "HEAD",
    "Base",
    "base_of",
    "has_base",
    "has_head",
    "hold_bias",
    "is_adapter",
    "new_head",
    "quantization_of",
    "read_head",
    "sha256_of",
    "write_base",
    "write_head",
    "written",
]

HEAD = "head.safetensors"
"""A reward model's scalar head: ``weight`` (1, width) and ``bias`` (1,)."""
BASE = "base.json"
"""What an adapter, or a fully tuned model, was trained from: path, path relative to the folder, sha256."""


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter rather than a whole model."""
    return (Path(folder) / "adapter_config.json").is_file()


def has_base(folder: Path) -> bool:
    """Return whether a folder names the model it was trained from."""
    return (Path(folder) / BASE).is_file()


def has_head(folder: Path) -> bool:
    """Return whether a folder holds a scalar head, as reward models do."""
    return (Path(folder) / HEAD).is_file()


@dataclass(frozen=True, slots=True)
class Base:
    """The model that an adapter, or a fully tuned model, was trained from.

    Attributes:
        places: Where it may be, at least one, the likeliest first.
        sha256: Of its weights; "" where another program wrote the adapter, which does not say.
    """

    places: tuple[Path, ...]
    sha256: str

    @property
    def path(self) -> Path:
        """Where it is, or should be."""
        return self.places[0]


def base_of(folder: Path) -> Base:
    """Return the model that an adapter, or a fully tuned model, was trained from.

    It is looked for where it lay relative to the folder, so that both may be moved together; where it was; and, if it
    was named by a relative path, below each folder above this one. A model at an address, or of the hub, is fetched.

    Raises:
        UserError: There is nothing at its address, or at any of those places.
        DataError: The folder does not name it.
    """
    folder = Path(folder)
    named, beside, sha256 = _named_base(folder)
    if remote.is_address(named):
        return Base((remote.local(named),), sha256)
    path = Path(named)
    likely = [*([folder / beside] if beside else []), path]
    if not path.is_absolute():
        likely += [above / path for above in folder.resolve().parents]
    found = {one.resolve(): one for one in likely if one.exists()}
    if path.exists():
        found[path.resolve()] = path  # of its names the one that was given
    if found:
        return Base(tuple(found.values()), sha256)
    # A path that we wrote and that is gone is not looked for on the hub, where anybody may have taken the name.
    fetched = path if sha256 and "@" not in named else located(named)
    if not fetched.exists():
        raise UserError(f"no model at {named}, which {folder} was trained from", "put it there, or beside that folder")
    return Base((fetched,), sha256)


def _named_base(folder: Path) -> tuple[str, str, str]:
    """Return a base as its folder names it: path, path relative to the folder or "", and sha256 or ""."""
    file, other = folder / BASE, folder / "adapter_config.json"
    try:
        if file.is_file() or not other.is_file():
            saved = json.loads(file.read_text("utf-8"))
            return str(saved["path"]), str(saved.get("beside", "")), str(saved["sha256"])
        saved = json.loads(other.read_text("utf-8"))
        revision = saved.get("revision")
        return str(saved["base_model_name_or_path"]) + (f"@{revision}" if revision else ""), "", ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"does not name the adapter's backbone ({error})", file=file) from None


def quantization_of(folder: Path) -> str:
    """Return how the base lay while an adapter was trained on it, `perl_eval.models.device.Placement`; "" for plain."""
    with contextlib.suppress(OSError, ValueError):
        saved = json.loads((folder / BASE).read_text("utf-8"))
        return str(saved.get("quantized", "")) if isinstance(saved, dict) else ""
    return ""


def write_base(folder: Path, path: Path, sha256: str, *, quantized: str = "") -> None:
    """Write which model a folder was trained from.

    Args:
        folder: The folder; it exists.
        path: Where the model lies.
        sha256: Of its weights, as they lie there.
        quantized: How they lay in memory, if in fewer bits than a float.
    """
    shown = remote.shown(path)
    base = {"path": shown, "sha256": sha256, **({"quantized": quantized} if quantized else {})}
    if shown == str(path) and remote.shown(folder) == str(folder):  # not in a cache, where they lie by chance
        with contextlib.suppress(ValueError):  # on another drive
            base["beside"] = os.path.relpath(path, folder)
    (folder / BASE).write_text(json.dumps(base, indent=1) + "\n", "utf-8")


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
        raise DataError(f"is not a scalar head of this model ({reason})", file=folder / HEAD) from None
    return head


@contextlib.contextmanager
def written(folder: Path) -> Iterator[None]:
    """Turn what goes wrong while weights are written, as a full disk, into one line.

    Args:
        folder: Where to.

    Raises:
        UserError: The system could not write them.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        if isinstance(error, SafetensorError) and "os error" not in reason and "I/O" not in reason:
            raise
        free = shutil.disk_usage(folder).free if folder.is_dir() else 0
        fix = f"{free / 1e9:.2f} GB are free there; make room and give the same command again"
        raise UserError(f"cannot write weights to {folder} ({reason})", fix) from None


def write_head(head: nn.Linear, folder: Path) -> None:
    """Write a head."""
    from safetensors.torch import save_file

    with written(folder):
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
