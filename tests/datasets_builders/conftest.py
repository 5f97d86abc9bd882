"""Small upstream files, made by hand in upstream's exact layout."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

Write = Callable[[str, Iterable[Any]], Path]


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """Return an empty folder for upstream files."""
    folder = tmp_path / "upstream"
    folder.mkdir()
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return a folder for caches."""
    return tmp_path / "cache"


@pytest.fixture
def write_lines(upstream: Path) -> Write:
    """Return a function that writes JSON lines, gzip if the name says so, and returns the path."""

    def write(name: str, records: Iterable[Any]) -> Path:
        path = upstream / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(record) + "\n" for record in records)
        with gzip.open(path, "wt") if name.endswith(".gz") else path.open("w") as handle:
            handle.write(text)
        return path

    return write


@pytest.fixture
def write_array(upstream: Path) -> Write:
    """Return a function that writes one JSON array and returns the path."""

    def write(name: str, records: Iterable[Any]) -> Path:
        path = upstream / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(list(records)))
        return path

    return write


@pytest.fixture
def harmless_pair() -> Callable[[str], dict[str, str]]:
    """Return a function that makes one upstream row of HH-RLHF from a word."""

    def make(word: str) -> dict[str, str]:
        shared = f"\n\nHuman: {word}?\n\nAssistant: What about {word}?\n\nHuman: Go on"
        return {"chosen": f"{shared}\n\nAssistant: No {word}.", "rejected": f"{shared}\n\nAssistant: Yes {word}!"}

    return make


@pytest.fixture
def rated_turn() -> Callable[..., dict[str, Any]]:
    """Return a function that makes one upstream row of the Taskmaster reward files."""

    def make(id_: str, context: list[Any], generation: Any, reward: float) -> dict[str, Any]:
        return {
            "conversation_id": id_,
            "context": json.dumps(context),
            "generation": json.dumps(generation),
            "reward": reward,
        }

    return make


@pytest.fixture
def coffee(write_array: Write, rated_turn: Callable[..., dict[str, Any]]) -> Callable[..., None]:
    """Return a function that writes the seven reward files of Coffee, the given rows in the first."""

    def write(rows: Iterable[dict[str, Any]]) -> None:
        for number in range(7):
            write_array(f"TM-4-2024/reward/reward_{number:02}.json", rows if number == 0 else [])

    return write
