"""The README's examples run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perl_eval.cli import app

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.split("\n")[0])
def test_python_blocks_run(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    shown = capsys.readouterr().out
    assert shown
    if "win rate" in block:
        value = re.match(r"(\d\.\d\d) \((\d\.\d\d) to (\d\.\d\d)\), n = 20", shown)
        assert value is not None, shown
        low, high = float(value[2]), float(value[3])
        assert 0 <= low <= float(value[1]) <= high <= 1


def commands() -> list[list[str]]:
    """Return every perl-eval command of the README and the examples, words split as a shell would."""
    text = "\n".join([*blocks("bash"), *(path.read_text("utf-8") for path in (ROOT / "examples").glob("*.sh"))])
    lines = text.replace("\\\n", " ").splitlines()
    found = [re.search(r"(?:^|/bin/)perl-eval (.*)$", line.strip()) for line in lines]
    return [shlex.split(match[1], comments=True) for match in found if match]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_use_options_that_exist(words: list[str]) -> None:
    """Every option named in a shell block is one that the verb's help lists."""
    verb = words[:2] if words[0] in ("train", "ledger") else words[:1]
    shown = CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0
    for word in words:
        if word.startswith("--"):
            assert word in shown.output, word


def test_the_two_commands_are_one_line_each() -> None:
    for marker, ending in (("demo", "perl-eval demo"), ("tests", "pytest -n 2")):
        block = re.search(rf"<!-- {marker} -->\n```bash\n(.*?)```", README, re.S)
        assert block is not None
        assert block[1].strip().endswith(ending)
        assert block[1].strip().count("\n") == 0
