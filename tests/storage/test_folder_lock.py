"""One process at a time writes in an output folder; a killed one holds nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perl_eval.errors import UserError
from perl_eval.records import Score
from perl_eval.storage import run_folder

SCORE = Score("c", "i", "g", "p", "m", 1.0)
HOLDS = """
import sys, time
from pathlib import Path
from perl_eval.storage import run_folder
with run_folder.start(Path(sys.argv[1]), verb="test", arguments={}):
    print("held", flush=True)
    time.sleep(60)
"""


def test_another_process_is_named_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, str(out)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=f"is being written by process {holder.pid} on .*; wait for it") as caught,
            run_folder.start(out, verb="test", arguments={}),
        ):
            raise AssertionError
        assert str(out) in str(caught.value)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with run_folder.start(out, verb="test", arguments={}) as going:
        going.write([SCORE], Score)
    assert sorted(os.listdir(out)) == ["run.json", "scores.parquet"]


def test_a_run_that_fails_lets_its_folder_go(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"), run_folder.start(tmp_path / "out", verb="test", arguments={}):
            raise ValueError("broken")
    with run_folder.start(tmp_path / "out", verb="test", arguments={}) as going:
        going.write([SCORE], Score)
    with run_folder.start(tmp_path / "out", verb="test", arguments={}) as again:
        assert again.done
