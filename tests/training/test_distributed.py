"""Two processes take the steps that one would: shares, sums, and the same figures and weights at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models
import torch
from launching import train_one_and_two
from safetensors.torch import load_file
from torch import nn

from perl_eval.errors import UserError
from perl_eval.records import Measurement
from perl_eval.storage import run_folder
from perl_eval.training.distributed import Processes


def test_one_process_gives_back_what_it_gets(tmp_path: Path) -> None:
    alone = Processes.current(torch.device("cpu"))
    assert (alone.count, alone.index, alone.is_main) == (1, 0, True)
    assert alone.share([3, 1, 2]) == [3, 1, 2]
    assert alone.totals({"loss": 0.25}) == {"loss": 0.25}
    assert alone.gather([1, 2]) == [1, 2]
    weight = nn.Parameter(torch.zeros(2))
    alone.sum_gradients([weight])
    assert weight.grad is None
    alone.wait()
    with alone.start(tmp_path / "out", verb="v", arguments={}) as going:
        going.notes["x"] = 1
    assert run_folder.read_card(tmp_path / "out") is not None


@pytest.mark.parametrize("rows", [0, 1, 7, 8])
def test_shares_part_the_rows(rows: int) -> None:
    shares = [Processes(3, index).share(range(rows)) for index in range(3)]
    assert sorted(row for share in shares for row in share) == list(range(rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_a_launcher_that_asks_for_shares_of_a_model_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """accelerate sets these names for its children; without the refusal a run would hold whole copies and not say."""
    monkeypatch.setenv(f"ACCELERATE_USE_{kind}", "true")
    with pytest.raises(UserError, match=r"the launcher asks for .*; launch with distributed_type MULTI_GPU"):
        Processes.current(torch.device("cpu"))
    if kind != "FSDP":
        with pytest.raises(UserError, match="every process here holds the whole model"):
            Processes.current(torch.device("cpu"), shards=True)
    monkeypatch.setenv(f"ACCELERATE_USE_{kind}", "false")
    assert Processes.current(torch.device("cpu")).count == 1


_PAIR = """
import atexit, os, socket, sys
import torch
from perl_eval.training.distributed import Processes

with socket.socket() as door:
    door.bind(("127.0.0.1", 0))
    port = door.getsockname()[1]
index = 0 if (child := os.fork()) else 1
os.environ |= {"RANK": str(index), "LOCAL_RANK": str(index), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
atexit.register(lambda: print(index, "joined" if torch.distributed.is_initialized() else "parted", flush=True))
for verb in range(2):
    both = Processes.current(torch.device("cpu"))
assert both.totals({"index": both.index + 1}) == {"index": 3}
adapters = [torch.nn.Parameter(torch.zeros(size)) for size in (2, 3, 1)]
for turn in range(2):  # the first adapter idles in one process, the second in the other, the third in both
    adapters[both.index].grad = torch.full_like(adapters[both.index], 1.0 + both.index)
    both.sum_gradients(adapters)
    assert [one.grad.tolist() for one in adapters] == [[1.0] * 2, [2.0] * 3, [0.0]]
    for one in adapters:
        one.grad = None
both.wait()
if index == 0:
    atexit.register(lambda: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) and os._exit(1))
"""


def test_processes_part_before_the_interpreter_ends() -> None:
    """What is registered first runs last: by then neither has a group whose threads the interpreter would take down.

    On the way, gradients of adapters that idle in a step count as zero, and nobody waits for them.
    """
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": root}
    command = [sys.executable, "-c", _PAIR]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(done.stdout.split("\n")) == ["", "0 parted", "1 parted"]


def test_a_process_that_is_ended_runs_its_handlers_and_keeps_its_code_and_words() -> None:
    said = (
        "import atexit; from perl_eval.training.distributed import end; "
        "atexit.register(print, 'handled'); print('said')"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{said}; end(3)"], capture_output=True, text=True, check=False, timeout=240
    )
    assert (done.returncode, done.stdout.split()) == (3, ["said", "handled"]), done.stderr[-3000:]


def test_the_command_line_ends_a_launched_process_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from perl_eval import cli
    from perl_eval.training import distributed

    def ended(code: int) -> None:
        raise InterruptedError(code)

    monkeypatch.setattr(sys, "argv", ["perl-eval", "--help"])
    monkeypatch.setattr(distributed, "end", ended)
    with pytest.raises(SystemExit):
        cli.main()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    with pytest.raises(InterruptedError, match="0"):
        cli.main()


_CHAIN = """
import sys
from pathlib import Path
import torch
from perl_eval.models.adapters import LoraShape
from perl_eval.training import policy, distributed, reward, sft
from perl_eval.training.resources import Resources

torch.set_num_threads(1)
blank, room, out = map(Path, sys.argv[1:])
shape, resources = LoraShape(4, norms=True), Resources(micro_batch=3)
imitate = sft.SftOptions(str(blank), epochs=0.5, batch=9, learning_rate=1e-2, max_tokens=32, resources=resources)
prior = sft.run(room / "demonstrations", out / "sft", options=imitate)
score = reward.RewardOptions(
    epochs=1,
    batch=9,
    learning_rate=1e-2,
    max_tokens=40,
    max_new_tokens=8,
    normalise_on=20,
    lora=shape,
    probe=True,
    resources=resources,
)
rewarded = reward.run(room / "pairs", prior, out / "reward", options=score)
for name, options in (
    ("policy", policy.PolicyOptions(steps=3, batch=10, group=2, max_new_tokens=8, max_tokens=40, lora=shape)),
    ("full", policy.PolicyOptions(steps=2, batch=3, value="adapter", max_new_tokens=8, max_tokens=40, full=True)),
):
    policy.run(room / "prompts", prior, rewarded, out / name, options=options)
policy.run(room / "prompts", prior, rewarded, out / "full", options=options)  # done already, in every process
distributed.end()
"""


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path, blank: Path) -> None:
    """SFT, reward, LoRA and full RL with ``examples/accelerate/ddp.yaml`` on two CPU processes (gloo) and on one."""
    room = tmp_path / "data"
    tiny_models.write_rows(
        room / "demonstrations", train=tiny_models.demonstrations(1, 60), validation=tiny_models.demonstrations(2, 11)
    )
    tiny_models.write_rows(
        room / "pairs", train=tiny_models.preferences(1, 50), validation=tiny_models.preferences(2, 11)
    )
    tiny_models.write_rows(room / "prompts", train=tiny_models.prompts(1, 30))
    one, two, _ = train_one_and_two(tmp_path, _CHAIN, "ddp.yaml", blank, room)
    for name in ("sft", "reward", "policy", "full"):
        curves = [run_folder.read(folder / name, Measurement) for folder in (one, two)]
        assert [(point.step, point.metric) for point in curves[0]] == [(p.step, p.metric) for p in curves[1]]
        for first, second in zip(*curves, strict=True):
            assert second.value == pytest.approx(first.value, rel=2e-3, abs=2e-3), (name, first)
        cards = [run_folder.read_card(folder / name) for folder in (one, two)]
        assert [card and card.notes["processes"] for card in cards] == [1, 2]
        for weights in (one / name).glob("*model.safetensors"):
            expected, found = load_file(weights), load_file(two / name / weights.name)
            for key, tensor in expected.items():
                assert torch.allclose(found[key], tensor, atol=2e-3), (name, key)
        assert not (two / name / ".checkpoint").exists()
