"""Command lines of earlier versions still run: every option of 0.1, and every name since, is there or is told of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import Command
from typer.main import get_command

from perl_eval.cli import whole_program
from perl_eval.cli.old_names import OLD_NAMES, renamed

FIRST = (Path(__file__).parent / "options_of_0_1.txt").read_text("utf-8").splitlines()
"""What 0.1 took, a line a verb."""


def options(path: str) -> set[str]:
    """Return the options of a verb by their present names."""
    found: Any = get_command(whole_program())
    for word in path.split():
        found = found.commands[word]
    return {name for one in found.params for name in (*one.opts, *one.secondary_opts)}


@pytest.mark.parametrize("line", FIRST, ids=lambda line: line.partition(":")[0])
def test_every_option_of_the_first_version_is_taken(line: str) -> None:
    path, _, known = line.partition(":")
    old = {name for verb, name in OLD_NAMES if verb == path}
    assert set(known.split()) - options(path) - old == set()


@pytest.mark.parametrize(("path", "old"), OLD_NAMES)
def test_an_old_name_becomes_the_new_one_and_is_told(path: str, old: str, capsys: pytest.CaptureFixture[str]) -> None:
    now = OLD_NAMES[path, old]
    assert now in options(path)
    assert old not in options(path)
    assert renamed([*path.split(), old, "x", f"{old}=y"]) == [*path.split(), now, "x", f"{now}=y"]
    assert capsys.readouterr().err.count(f"{old} is now called {now};") == 2
    assert renamed(["nosuch", old]) == ["nosuch", old]
    assert capsys.readouterr().err == ""


def test_the_program_takes_an_old_name(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{n % 2},{(n + 1) % 2}\n" for n in range(30)) + "0,0\n" * 4
    Path("scores.csv").write_text(f"chosen,rejected\n{rows}", "utf-8")
    line = "score scores.csv --column chosen=chosen --column rejected=rejected --draws 50"
    old = command(f"{line} --ties wrong --out old")
    assert (old.code, old.err.splitlines()[0]) == (
        None,
        "--ties is now called --pair-ties; the old name will be removed in the next version",
    )
    assert command(f"{line} --pair-ties wrong --out new").code is None
    pairs = [(Path(name) / "estimates.parquet").read_bytes() for name in ("old", "new")]
    assert pairs[0] == pairs[1]


def test_an_older_name_of_format_is_told(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("people.csv").write_text("prompt,policy_a,policy_b,winner,annotator\nq,a,b,a,ann\n", "utf-8")
    shown = command("import people.csv --form table --column label=winner --out people")
    assert "--form is an older name of --format" in shown.err
