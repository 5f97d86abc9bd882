"""The same training by itself and in two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BOTH = Path(__file__).with_name("one_and_two.py")


def train_one_and_two(
    folder: Path, program: str, configuration: str, blank: Path, room: Path
) -> tuple[Path, Path, str]:
    """Run a program on one process and on two of an example configuration; see `one_and_two`.

    Args:
        folder: Where the program and what it makes lie.
        program: Its text. It is given the model, the data and the folder to write to, and ends with `distributed.end`.
        configuration: The file under ``examples/accelerate``.
        blank: The model.
        room: The data.

    Returns:
        What one process made, what two made, and what all three printed.
    """
    script = folder / "chain.py"
    script.write_text(program, "utf-8")
    words = [script, ROOT / "examples" / "accelerate" / configuration, folder / "out", blank, room]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    start = [sys.executable, str(BOTH), *map(str, words)]
    done = subprocess.run(start, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "out-1", folder / "out-2", done.stdout
