"""Scripts of examples/."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import tiny_models
import torch
import typer

from perl_eval.cli import whole_program
from perl_eval.models.backbone import open_backbone

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_cut_model_has_the_states_that_the_whole_one_has_there(tmp_path: Path) -> None:
    blank = tiny_models.save_blank(tmp_path / "blank")
    script("first_layers").cut(str(blank), 1, tmp_path / "cut")
    whole = open_backbone(blank)
    cut = open_backbone(tmp_path / "cut")
    assert len(whole.causal.model.layers) > len(cut.causal.model.layers) == 1
    ids = torch.tensor([[3, 20, 21, 1]])
    with torch.no_grad():
        inside = whole.causal.model(ids, output_hidden_states=True).hidden_states[1]
        found = cut.causal.model(ids).last_hidden_state
        assert torch.allclose(found, whole.causal.model.norm(inside), atol=0.02)  # bfloat16 has 8 bits
    with pytest.raises(SystemExit, match="has 2 layers, not 3"):
        script("first_layers").cut(str(blank), 3, tmp_path / "none")


def typed(name: str, folder: Path, *words: str, **given: str) -> list[list[str]]:
    """Run an example with a perl-eval and a python that only note what they are given; return what it typed."""
    noted = folder / "noted"
    note = f"open({str(noted)!r}, 'a').write(json.dumps(sys.argv[1:]) + chr(10))"
    for command, does in (("perl-eval", note), ("python", "print(0.25)")):
        fake = folder / command
        fake.write_text(f"#!{sys.executable}\nimport json, sys\n{does}\n")
        fake.chmod(0o755)
    having = {name: value for name, value in os.environ.items() if name != "PYTHON"}  # which an example would run
    having |= {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"} | given
    command = ["bash", str(EXAMPLES / f"{name}.sh"), *words]
    done = subprocess.run(command, env=having, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in noted.read_text("utf-8").splitlines()]


@pytest.mark.parametrize(
    ("name", "words", "size"),
    [
        ("coffee", ("data", "out"), ""),
        ("taskmaster_reward", ("data", "out", "model"), ""),
        ("lora_or_full", ("out",), ""),
        *(("coffee_smollm2", ("data", "out"), size) for size in ("whole", "small", "tiny")),
    ],
)
def test_every_command_that_an_example_types_is_known(
    name: str, words: tuple[str, ...], size: str, tmp_path: Path
) -> None:
    commands = typed(name, tmp_path, *words, **({"SIZE": size} if size else {}))
    assert len(commands) > 2
    for line in commands:
        command, rest = typer.main.get_command(whole_program()), line
        while hasattr(command, "commands"):
            command, rest = command.commands[rest[0]], rest[1:]
        command.make_context(command.name, list(rest))  # raises a usage error if an option or a value is not known


def test_rates_are_looked_for_before_they_are_used(tmp_path: Path) -> None:
    lines = [" ".join(line) for line in typed("coffee_smollm2", tmp_path, "data", "out", SIZE="whole")]
    swept = [place for place, line in enumerate(lines) if "--find-rate" in line]
    assert len(swept) == 4
    for place in swept:
        assert "--learning-rate" not in lines[place]
        assert "--learning-rate 0.25" in lines[place + 1]
    judged = [line for line in lines if line.startswith("judge") and "reward:" in line]
    assert all("reward-full" in line for line in judged)  # not the one that RL learned from


def test_an_example_names_the_sizes_that_it_has(tmp_path: Path) -> None:
    command = ["bash", str(EXAMPLES / "coffee_smollm2.sh"), "data", str(tmp_path)]
    done = subprocess.run(command, env=os.environ | {"SIZE": "huge"}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "SIZE is huge: give whole, small or tiny\n")
