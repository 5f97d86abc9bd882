"""Data sets on the Hugging Face Hub, by id: ``org/name[:config][@revision][#split]``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from perl_eval.errors import UserError
from perl_eval.sources.containers import Brought

__all__ = ["HubName", "hub_name", "hub_splits"]

_NAME = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[\w.-]+)(?::(?P<config>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?(?:#(?P<split>[\w.-]+))?"
)


@dataclass(frozen=True, slots=True)
class HubName:
    """A data set on the hub: repository, and what of it is meant; empty where nothing is said."""

    repo: str
    config: str = ""
    revision: str = ""
    split: str = ""


def hub_name(text: str) -> HubName | None:
    """Read a text as the id of a data set; None if it is none."""
    match = _NAME.fullmatch(text)
    return HubName(**{name: value or "" for name, value in match.groupdict().items()}) if match else None


def hub_splits(name: HubName) -> tuple[Mapping[str, Brought], str]:
    """Download a data set, without running any code of it.

    Returns:
        The rows by split, and the commit that they are of.

    Raises:
        UserError: There is no such data set, config or split, or no connection.
    """
    import datasets
    from huggingface_hub import HfApi

    from datasets_builders import network

    typed = name.repo
    try:
        commit = HfApi().dataset_info(name.repo, revision=name.revision or None).sha or ""
        found = datasets.load_dataset(name.repo, name.config or None, revision=commit or name.revision or None)
    except network.failures(ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise UserError(
            f"cannot get {typed} from the hub: {network.reason(error)}", "check the id and the network"
        ) from None
    if name.split and name.split not in found:
        raise UserError(f"{typed} has no split {name.split!r}", f"it has {', '.join(found)}")
    return {split: _brought(typed, one) for split, one in found.items() if name.split in ("", split)}, commit


def _brought(typed: str, rows: Any) -> Brought:
    def read() -> Iterator[Mapping[str, Any]]:
        for batch in rows.with_format("arrow").iter(1024):
            yield from batch.to_pylist()

    return Brought(typed, "objects", read)
