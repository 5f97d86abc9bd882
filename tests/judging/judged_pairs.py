"""The command that judges two small folders, for tests."""

from __future__ import annotations

import json
from pathlib import Path

KEY = "sk-planted-9876543210-in-a-file"


def judge(pairs: str, out: Path, more: str) -> str:
    return f"judge {pairs} --out {out} --prompt dialogue {more}"


def without_reading(run: Path) -> None:
    """Take from a run card what versions before 0.2 did not write."""
    card = json.loads((run / "run.json").read_text())
    del card["notes"]["reading"]
    (run / "run.json").write_text(json.dumps(card))
