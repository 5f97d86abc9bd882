"""``accelerate launch -m perl_eval.cli`` with the example configurations, on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models
import torch
import yaml
from safetensors.torch import load_file

from perl_eval.storage import run_folder
from perl_eval.training import sft

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "accelerate"


def launched(*words: str, processes: int) -> None:
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(EXAMPLES / "ddp.yaml")]
    launcher += ["--num_processes", str(processes), "--main_process_port", "0", "-m", "perl_eval.cli", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(launcher, capture_output=True, text=True, check=False, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.name)
def test_accelerate_reads_the_examples(file: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    read = load_config_from_file(str(file))
    written = yaml.safe_load(file.read_text("utf-8"))
    assert {name: getattr(read, name) for name in ("num_machines", "num_processes", "use_cpu")} == {
        name: written[name] for name in ("num_machines", "num_processes", "use_cpu")
    }
    assert read.distributed_type == written["distributed_type"]
    assert getattr(read, "fsdp_config", {}) == written.get("fsdp_config", {})


@pytest.mark.slow
def test_the_command_line_trains_on_two_processes_as_on_one(tmp_path: Path) -> None:
    blank = tiny_models.save_blank(tmp_path / "blank")
    data = tiny_models.write_rows(tmp_path / "data", train=tiny_models.demonstrations(1, 24))
    alone, together = tmp_path / "alone", tmp_path / "together"
    sft.run(data, alone, options=sft.SftOptions(str(blank), epochs=1, batch=8, max_tokens=40))
    words = ["train", "sft", "--data", str(data), "--model", str(blank), "--out", str(together)]
    launched(*words, "--epochs", "1", "--batch", "8", "--max-tokens", "40", processes=2)
    card = run_folder.read_card(together)
    assert card is not None
    assert card.notes["processes"] == 2
    expected, found = load_file(alone / "model.safetensors"), load_file(together / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)
