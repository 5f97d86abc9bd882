"""Verbs that are killed at random moments come to what undisturbed ones do; `scripts/kills` has more verbs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "kills"


@pytest.mark.slow
def test_what_was_killed_goes_on_to_the_same_end() -> None:
    """Training has its own tests of this; here each verb is killed once by each signal."""
    verbs = ("judge", "build", "annotate")
    command = [sys.executable, SCRIPT, "--times", "1", "--pairs", "80", *verbs]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    rows = [line.split() for line in run.stdout.splitlines()[1:]]
    assert [row[:3] for row in rows] == [[verb, signal, "1"] for verb in verbs for signal in ("KILL", "TERM")]
    assert all(row[-2:] == ["the", "same"] for row in rows)
