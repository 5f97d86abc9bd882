"""Twelve preference and demonstration data sets as Hugging Face builders.

``load("taskmaster_coffee", "ratings", data_dir=...)`` returns a `datasets.DatasetDict` with TRL's column names. The
builder classes can be used on their own too; they are ordinary `datasets` builders. Importing this package loads
nothing heavy.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_builders.errors import BuilderError, DataError, SourceError

if TYPE_CHECKING:
    from datasets_builders.builder import Builder

__all__ = ["NAMES", "BuilderError", "DataError", "SourceError", "builder_class", "load", "open_builder"]

_CLASSES: Mapping[str, str] = {
    "taskmaster_coffee": "taskmaster.TaskmasterCoffee",
    "taskmaster_ticketing": "taskmaster.TaskmasterTicketing",
    "tldr": "tldr.Tldr",
    "bolt": "bolt.Bolt",
    "harmless": "harmless.Harmless",
    "shp": "shp.Shp",
    "android_control": "android_control.AndroidControl",
    "vqav2": "vqav2.Vqav2",
    "llmbar": "llmbar.LlmBar",
    "judgebench": "judgebench.JudgeBench",
    "reward_bench_2": "reward_bench_2.RewardBench2",
    "mt_bench": "mt_bench.MtBench",
}
NAMES: tuple[str, ...] = tuple(_CLASSES)
"""The data sets; hyphens may stand for underscores."""


def builder_class(name: str) -> type[Builder]:
    """Return the builder class of a data set.

    Raises:
        BuilderError: There is no such data set.
    """
    known = _CLASSES.get(name.replace("-", "_"))
    if known is None:
        raise BuilderError(f"no data set {name!r}", f"choose from {', '.join(NAMES)}")
    module, attribute = known.split(".")
    found: type[Builder] = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    return found


def _read(option: str, value: Any, kind: type) -> Any:
    """Return an option's value, which may be text, as its type."""
    try:
        if kind is bool and isinstance(value, str):
            return {"true": True, "false": False}[value.lower()]
        return kind(value)
    except (ValueError, TypeError, KeyError):
        kinds = {bool: "true or false", int: "a whole number", float: "a number"}
        raise BuilderError(
            f"{option}={value!r} is not {kinds.get(kind, kind.__name__)}", "give another value"
        ) from None


def open_builder(
    name: str,
    config: str | None = None,
    *,
    data_dir: Path | str | None = None,
    cache_dir: Path | str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Builder:
    """Return the builder of one configuration of a data set.

    Args:
        name: The data set, one of `NAMES`.
        config: The configuration; the data set's main one if None.
        data_dir: Folder that holds the upstream files; they are downloaded if None.
        cache_dir: Folder for downloads and built rows; default that of `datasets`.
        options: Fields of the data set's `Config`, such as ``splits`` and ``checksums``; values may come as text.

    Raises:
        BuilderError: There is no such data set, configuration or option.
        SourceError: The folder or a file in it is missing.
    """
    from datasets_builders.builder import NOT_OPTIONS

    found = builder_class(name)
    known = [one.name for one in found.BUILDER_CONFIGS]
    if config is not None and config not in known:
        raise BuilderError(f"{name} has no configuration {config!r}", f"choose from {', '.join(known)}")
    fields = {
        field: about.default
        for field, about in found.BUILDER_CONFIG_CLASS.__dataclass_fields__.items()
        if field not in NOT_OPTIONS
    }
    chosen = {}
    for option, value in (options or {}).items():
        if option not in fields:
            raise BuilderError(f"{name} has no option {option!r}", f"choose from {', '.join(fields)}")
        chosen[option] = _read(option, value, type(fields[option]))
    return found(
        cache_dir=None if cache_dir is None else str(cache_dir),
        config_name=config,
        data_dir=None if data_dir is None else str(data_dir),
        **chosen,
    )


def load(  # noqa: PLR0913  # the parameters of datasets.load_dataset
    name: str,
    config: str | None = None,
    *,
    split: Any = None,
    data_dir: Path | str | None = None,
    cache_dir: Path | str | None = None,
    streaming: bool = False,
    num_proc: int | None = None,
    **options: Any,
) -> Any:
    """Build a configuration of a data set, or take it from the cache, as `datasets.load_dataset` does.

    Args:
        name: The data set, one of `NAMES`.
        config: The configuration; the data set's main one if None.
        split: A split, or what `datasets.load_dataset` takes for one, such as ``"train[:10%]"``; all if None.
        data_dir: Folder that holds the upstream files; they are downloaded if None.
        cache_dir: Folder for downloads and built rows; default that of `datasets`.
        streaming: Make rows as they are asked for, from files that are downloaded and verified first; keep no rows.
        num_proc: Processes to build with; no more than there are upstream files.
        options: Fields of the data set's `Config`, such as ``checksums="record"``.

    Returns:
        A `datasets.DatasetDict`, or a `datasets.IterableDatasetDict` when streaming; of one split a `datasets.Dataset`
        or a `datasets.IterableDataset`.

    Raises:
        BuilderError: There is no such data set, configuration, split or option.
        SourceError: An upstream file is missing or is not the pinned one.
        DataError: An upstream file holds what it should not.
    """
    chosen = open_builder(name, config, data_dir=data_dir, cache_dir=cache_dir, options=options)
    return chosen.load(split, streaming=streaming, num_proc=num_proc)
