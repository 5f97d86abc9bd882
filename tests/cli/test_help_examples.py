"""The examples that help ends with: every one runs, in order, on the files that they name."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Command
from documents import ROOT
from fake_server import Body, FakeServer, serving
from guide_files import compare_prompts, leak_check, lora_against_full, mostly_right
from typer.testing import CliRunner

from perl_eval.cli import whole_program
from perl_eval.cli.examples import EXAMPLES, shown

WITH_MODELS = ("train ", "sample", "posterior", "ablate", "conformance")
PARSED_ONLY = ("demo",)
"""What takes minutes, whose options are looked at."""
ENDS_WITH = {"doctor ours.jsonl theirs.jsonl people.csv": 3}
"""Exit codes other than 0: the doctor has found that nothing is judged yet."""


def leaves() -> set[str]:
    """Return the path of every verb, as it is typed."""
    groups = {group.name: group.typer_instance for group in whole_program().registered_groups}
    alone = {one.name for one in whole_program().registered_commands}
    return alone | {f"{name} {one.name}" for name, group in groups.items() for one in group.registered_commands}


def lines(*, with_models: bool) -> list[tuple[str, str]]:
    """Return verbs and their examples that are run, in order."""
    chosen = [path for path in EXAMPLES if path not in PARSED_ONLY and path.startswith(WITH_MODELS) is with_models]
    return [(path, line) for path in chosen for line in EXAMPLES[path]]


def answer(body: Body) -> str:
    """Judge where a pair is shown, and say something else otherwise."""
    return mostly_right(body) if "=== answer A" in body["messages"][-1]["content"] else "Step 1: look."


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Go to a folder with the files that examples name, beside a server for their judge."""
    compare_prompts(tmp_path)
    leak_check(tmp_path)
    lora_against_full(tmp_path)
    for name, was in (("ours", "v2"), ("theirs", "v1")):
        (tmp_path / f"{was}.jsonl").rename(tmp_path / f"{name}.jsonl")
    people = tmp_path / "people.csv"
    people.write_text(people.read_text("utf-8").replace("v1", "theirs").replace("v2", "ours"), "utf-8")
    prompts = tmp_path / "my-prompts"
    prompts.mkdir()
    shutil.copy(ROOT / "prompts" / "preference.jinja2", prompts / "mine.jinja2")
    monkeypatch.chdir(tmp_path)
    with serving(FakeServer(answer=answer)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "0f1e2d3c" * 4)
        yield tmp_path


def serve(line: str) -> None:
    """Run what serves until it is interrupted, on a free port."""
    program = [sys.executable, "-m", "perl_eval.cli", *shlex.split(line), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stderr is not None
        said = []
        for one in run.stderr:
            said.append(one)
            if one.startswith("stop with"):
                urllib.request.urlopen(re.findall(r"http://[^#]*", "".join(said))[0], timeout=30).close()
                run.send_signal(signal.SIGINT)
        run.wait(timeout=30)
    assert run.returncode == 0, "".join(said)


def run_all(command: Command, examples: list[tuple[str, str]]) -> None:
    for path, line in examples:
        if path == "annotate":
            serve(line)
            continue
        done = command(line)
        assert (done.code or 0) == ENDS_WITH.get(line, 0), f"{line}\n{done.out}\n{done.err}"


def test_examples_of_judging_run(folder: Path, command: Command) -> None:
    again = "judge ours.jsonl theirs.jsonl --judge openai:gpt-5-mini"
    own = "judge ours.jsonl theirs.jsonl --judge scripted:length"
    run_all(
        command,
        [
            ("", f"{again} --ledger again.sqlite --out runs/again"),
            ("", f"{again} --ledger now.sqlite --out runs/now"),
            ("", f"{own} --prompts my-prompts --prompt mine --out runs/own"),
            *lines(with_models=False),
        ],
    )
    assert "is better than theirs" in (folder / "runs" / "decided" / "decision.md").read_text("utf-8")
    asking = json.loads((folder / "runs" / "judged" / "run.json").read_text("utf-8"))["notes"]["asking"]
    assert len((folder / "replies.jsonl").read_text("utf-8").splitlines()) == asking["requests"] > 0


@pytest.mark.slow
def test_examples_of_training_run(folder: Path, command: Command) -> None:
    found = lines(with_models=True)
    reward = "train reward --data preferences.jsonl --prior runs/sft --epochs 1"
    before = [("", f"{reward} --seed {n} --out runs/reward-{n}") for n in (1, 2)]
    cut = next(n for n, (path, _) in enumerate(found) if path == "train average")
    run_all(command, found[:cut] + before + found[cut:])
    cards = {card.parent.name for card in (folder / "runs").glob("*/run.json")}
    assert {Path(shlex.split(line)[-1]).name for _, line in found} <= cards
    assert json.loads((folder / "runs" / "reward-full" / "run.json").read_text("utf-8"))["verb"] == "train reward"


def test_every_verb_has_two_examples_and_shows_them() -> None:
    assert set(EXAMPLES) == leaves()
    for path, both in EXAMPLES.items():
        assert len(set(both)) == 2
        assert all(line == path or line.startswith(f"{path} ") for line in both)
        said = (
            CliRunner().invoke(whole_program(), [*path.split(), "--help"], env={"COLUMNS": "80", "TERM": "dumb"}).output
        )
        tail = said[said.index("Examples:") :]
        read = re.sub(r"\s*\\\s*\n\s*", " ", tail)
        assert [one.strip() for one in read.splitlines() if "perl-eval" in one] == [f"perl-eval {one}" for one in both]
        assert all(len(one) <= 77 for one in shown(path).splitlines())


@pytest.mark.parametrize("path", EXAMPLES)
def test_options_of_examples_exist(path: str) -> None:
    said = CliRunner().invoke(whole_program(), [*path.split(), "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    options = said[: said.index("Examples:")]
    for line in EXAMPLES[path]:
        for word in shlex.split(line):
            assert not word.startswith("--") or word in options, word
