"""Whatever a verb raises is one line, and the installed program behaves as programs do."""

from __future__ import annotations

import errno
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from command_line import Command, Shown

from datasets_builders import DataError as UpstreamError
from datasets_builders import SourceError
from perl_eval import cli
from perl_eval.cli.program import program as built_for
from perl_eval.errors import DataError, TimedOut, UserError
from perl_eval.worlds import coffee

PROGRAM = [sys.executable, "-c", "from perl_eval.cli import main; main()"]
TRAIN = "train policy --data data --prior none --reward none --out out"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("limit\nis 0", "give 1"), "error: limit is 0; give 1 (see `perl-eval docs data-sets`)"),
        (
            DataError("is empty", file="a.parquet", row=3, field="text"),
            "error: a.parquet, row 3, field 'text': is empty (see `perl-eval docs formats`)",
        ),
        (TimedOut("no reply in 60 s"), "error: no reply in 60 s (see `perl-eval docs judging#providers`)"),
        (
            SourceError("rated.json is missing", "download it"),
            "error: rated.json is missing; download it (see `perl-eval docs data-sets`)",
        ),
        (
            UpstreamError("is not a score", "rated.json", 3, "score"),
            "error: rated.json, row 3, field 'score': is not a score (see `perl-eval docs data-sets`)",
        ),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/disk/x"), "error: /disk/x: No space left on device"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/x"), "error: /x: Permission denied"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "error: Too many open files"),
        (OSError("the network\nis down"), "error: the network is down"),
        (
            UserError("file \x1b[31mred\x1b[0m \u202e \ud83d é", page=""),
            r"error: file \x1b[31mred\x1b[0m \u202e \ud83d é",
        ),
    ],
)
def test_what_a_verb_raises_is_one_line(
    error: Exception, line: str, fails: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: Any, **__: Any) -> Path:
        raise error

    monkeypatch.setattr(coffee, "build", build)
    assert fails("build coffee-world --out out") == f"{line}\n"


def test_an_interrupt_is_130_and_says_that_nothing_is_lost(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: Any, **__: Any) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(coffee, "build", build)
    assert command("build coffee-world --out x") == Shown(130, "", "stopped; the same command continues from here\n")


@pytest.mark.parametrize("bug", [KeyError("x"), ValueError("x"), AssertionError("x")])
def test_a_bug_is_not_dressed_up_as_a_mistake(bug: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: Any, **__: Any) -> Path:
        raise bug

    monkeypatch.setattr(coffee, "build", build)
    monkeypatch.setattr(sys, "argv", ["perl-eval", "build", "coffee-world", "--out", "x"])
    with pytest.raises(type(bug)):
        cli.main()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch"], "error: No such command 'nosuch'. (see `perl-eval --help`)"),
        (["score", "nothing", "--out", "out"], "error: no such file or folder: nothing; check the path"),
        (
            shlex.split(f"{TRAIN} --steps 0"),
            "error: --steps is 0; give at least 1 (see `perl-eval train policy --help`)",
        ),
        (
            ["sample", "--model", "no", "--data", "no", "--out", "out"],
            "error: no such file or folder: no; check the path",
        ),
    ],
)
def test_a_mistake_is_one_line_of_the_program(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{said}\n")


SLOW = """
import signal, time
from perl_eval import cli
from perl_eval.worlds import coffee
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in a shell's background inherit to ignore it
coffee.build = lambda *_, **__: (print("begun", flush=True), time.sleep(60))
cli.main()
"""


def test_control_c_stops_the_program_with_130(tmp_path: Path) -> None:
    program = [sys.executable, "-c", SLOW, "build", "coffee-world", "--out", "out"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(program, cwd=tmp_path, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "stopped; the same command continues from here\n")


def test_a_reader_that_leaves_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*PROGRAM, "--help"], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_the_script_is_installed() -> None:
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="perl-eval")
    assert script.load() is cli.main
    assert re.fullmatch(r"perl_eval\.cli:main", script.value)


def test_the_version_is_shown_without_loading_anything_heavy() -> None:
    heavy = ("torch", "transformers", "datasets", "pandas", "numpy", "scipy", "sklearn", "openai", "matplotlib")
    program = (
        "import sys\nfrom perl_eval.cli import main\nsys.argv = ['perl-eval', '--version']\n"
        f"try:\n    main()\nfinally:\n    print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    written = tomllib.loads((Path(__file__).resolve().parent.parent.parent / "pyproject.toml").read_text("utf-8"))
    assert done.stdout.splitlines() == [f"perl-eval {written['project']['version']}", "[]"]


WAITS = """
import signal, sys, time
from perl_eval.cli import program
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and stays so
if sys.argv[1] == "ignored":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
try:
    with program._as_interrupts():
        print("waits", flush=True)
        time.sleep(30)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("interrupts", ["heard", "ignored"])
def test_other_ends_are_interrupts_also_in_the_background(number: signal.Signals, interrupts: str) -> None:
    """A shell lets its background jobs ignore SIGINT; SIGTERM and SIGHUP are heard nevertheless."""
    with subprocess.Popen([sys.executable, "-c", WAITS, interrupts], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "waits\n"
        running.send_signal(number)
        assert running.wait(20) == 130


def test_a_command_builds_its_own_verb_or_group_and_any_other_word_all() -> None:
    """All verbs take a fifth of a second to build; a word that is none has to be told from all of them."""

    def offered(words: list[str]) -> set[str]:
        built = typer.main.get_command(built_for(words))
        assert isinstance(built, typer.core.TyperGroup)
        return set(built.commands)

    assert offered(["judge", "a", "b"]) == {"judge"}
    assert offered(["train", "sft"]) == {"train"}
    everything = offered([])
    assert {"judge", "train", "ledger", "docs"} < everything
    assert offered(["jugde"]) == offered(["--help"]) == everything
