"""Models of the Hugging Face hub as they lie in the hub's own cache: which files of them count, and their names.

The hub's client keeps a repository under ``models--ORG--NAME/snapshots/COMMIT``, whose files are links. Other programs
write there too, so that only the files that are asked for here are part of a model's fingerprint.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import PurePath

__all__ = ["LEFT", "WANTED", "counts", "label", "name_of"]

WANTED = (
    "*.safetensors",
    "*.safetensors.index.json",
    *("config.json", "generation_config.json", "adapter_config.json", "base.json", "reward.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("tokenizer.model", "vocab.json", "vocab.txt", "merges.txt"),
    *("chat_template.jinja", "chat_template.json"),
    *("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"),
)
"""Files of a repository that are taken: weights as safetensors, and texts that say how to use them; never code."""
LEFT = ("*/*", "consolidated*")
"""Files that are not taken all the same: those in folders, and the weights once more under another layout's name."""
_REPOSITORY = re.compile(r"models--(?P<org>[^/]+?)--(?P<name>[^/]+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def counts(name: str) -> bool:
    """Return whether a file of a repository is taken, by its name in it."""
    return any(fnmatchcase(name, one) for one in WANTED) and not any(fnmatchcase(name, one) for one in LEFT)


def _parts(path: PurePath) -> tuple[str, str, str] | None:
    """Return organisation, name and commit of a snapshot's folder; None of any other path."""
    if len(path.parts) < 3:
        return None
    repository = _REPOSITORY.fullmatch(path.parts[-3])
    if repository is None or path.parts[-2] != "snapshots" or not _COMMIT.fullmatch(path.parts[-1]):
        return None
    return repository["org"], repository["name"], path.parts[-1]


def name_of(path: PurePath) -> str:
    """Return ``ORG/NAME@COMMIT`` of a snapshot's folder; "" of any other path."""
    parts = _parts(path)
    return f"{parts[0]}/{parts[1]}@{parts[2]}" if parts else ""


def label(path: PurePath) -> str:
    """Return what a model is called for short: the last part of its path, or the name of its repository."""
    parts = _parts(path)
    return parts[1] if parts else path.name
