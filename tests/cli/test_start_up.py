"""What a command loads is what it uses: nothing is timed, the heavy modules are counted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from perl_eval.records import Completion, Message
from perl_eval.storage import parquet

HEAVY = (
    *("aiohttp", "datasets", "huggingface_hub", "jinja2", "matplotlib", "numpy", "openai", "peft", "pyarrow"),
    *(
        "pyarrow.dataset",
        "rich.console",
        "scipy",
        "scipy.stats",
        "sklearn",
        "sqlite3",
        "statsmodels",
        "torch",
        "transformers",
    ),
)
"""Not pandas, which pyarrow loads by itself for any list of Python's, nor pydantic, which typer does."""
PROGRAM = f"""
import sys
from perl_eval.cli import main
sys.argv[0] = "perl-eval"
try:
    main()
finally:
    print("loaded:", *(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the answers of two policies to two questions."""
    for policy in ("a", "b"):
        turns = (Message("user", "Say something."),)
        made = [Completion(f"{policy}{n}", f"q{n}", f"q{n}", "d", policy, turns, "x" * n, "stop", 0) for n in (1, 2)]
        parquet.write(tmp_path / policy / "completions.parquet", made, Completion)
    return tmp_path


def loaded(folder: Path, line: str, code: int = 0) -> set[str]:
    """Run a command in a process of its own and return which heavy modules it loaded."""
    command = [sys.executable, "-c", PROGRAM, *line.split()]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done.stderr
    return set(done.stderr.rpartition("loaded:")[2].split())


@pytest.mark.parametrize("line", ["--help", "judge --help", "score --help", "agree --help", "train policy --help"])
def test_help_loads_what_prints_it(folder: Path, line: str) -> None:
    assert loaded(folder, line) <= {"rich.console"}


@pytest.mark.parametrize(
    ("line", "needed"),
    [
        ("score", set()),
        ("score a --draws 0 --out out", set()),
        ("judge a --judge scripted:length --out out", set()),
        ("score a --level 2 --out out", {"numpy"}),
        ("score nowhere --out out", {"numpy", "pyarrow"}),
        ("agree nowhere nowhere --out out", {"numpy", "pyarrow"}),
    ],
)
def test_a_mistake_loads_no_more_than_what_finds_it(folder: Path, line: str, needed: set[str]) -> None:
    assert loaded(folder, line, code=2) <= needed


def test_judging_and_scoring_small_files(folder: Path) -> None:
    judged = loaded(folder, "judge a b --judge scripted:length --prompt helpful --out judged")
    assert judged == {"jinja2", "numpy", "pyarrow", "rich.console", "sqlite3"}
    assert loaded(folder, "score judged --out scored") == {"numpy", "pyarrow", "rich.console"}
