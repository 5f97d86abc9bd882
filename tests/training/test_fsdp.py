"""A model in shares over two processes takes the steps that it would whole, and ends as the same files."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_models
import torch
from launching import train_one_and_two
from safetensors.torch import load_file

from perl_eval.errors import UserError
from perl_eval.records import Measurement
from perl_eval.storage import run_folder
from perl_eval.training.distributed import Processes
from perl_eval.training.resources import shared_pieces


@pytest.mark.parametrize(("rows", "size"), [(1, 0), (9, 4), (8, 4), (5, 1), (2, 0)])
def test_all_processes_have_equally_many_pieces(rows: int, size: int) -> None:
    """Nine rows over two processes in fours are 4 + 1 and 4: the second has one piece more, which weighs nothing."""
    shares = [list(shared_pieces(Processes(2, index, sharded=True), range(rows), int, size)) for index in range(2)]
    assert len(shares[0]) == len(shares[1])
    weighed = [row for share in shares for piece, weight in share if weight for row in piece]
    assert sorted(weighed) == list(range(rows))
    assert all(piece and weight in (0, 1) for share in shares for piece, weight in share)
    whole = list(shared_pieces(Processes(2, 1), range(rows), int, size))
    assert whole == [one for one in shares[1] if one[1]]


@pytest.mark.parametrize("name", ["FSDP_CPU_RAM_EFFICIENT_LOADING", "FSDP_OFFLOAD_PARAMS"])
def test_settings_that_are_not_followed_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert not Processes.current(torch.device("cpu"), shards=True).sharded  # one process has nobody to share with
    monkeypatch.setenv(name, "true")
    with pytest.raises(UserError, match=rf"{name}; set it to false, as in examples/accelerate/fsdp\.yaml"):
        Processes.current(torch.device("cpu"), shards=True)


_CHAIN = """
import functools, os, sys
from pathlib import Path
import torch
from torch.distributed.tensor import DTensor
from perl_eval.models.adapters import LoraShape
from perl_eval.models.device import Placement
from perl_eval.training import loop, distributed, reward, sft
from perl_eval.training.resources import Resources

torch.set_num_threads(1)
blank, room, out = map(Path, sys.argv[1:])
common = {"epochs": 1, "batch": 9, "learning_rate": 1e-2, "max_tokens": 40, "evaluations": 3}
plain = Resources(micro_batch=4)
anew = Resources(Placement(checkpointing=True), micro_batch=4)
score = functools.partial(reward.RewardOptions, max_new_tokens=8, normalise_on=10, resources=plain, **common)
kinds, learn = set(), sft.SftTrainer.learn


def seen(self, step):
    kinds.update(type(one.data).__name__ for one in self.parameters().values())
    return learn(self, step)


def killed(self, step, at):
    if step == at:
        raise KeyboardInterrupt
    return learn(self, step)


# saved at every step, so that the run that goes on has weights, moments and best weights from the file
sft.LoopOptions = functools.partial(loop.LoopOptions, checkpoint_every_s=-1)
full = sft.SftOptions(str(blank), resources=anew, **common)
for at in (2, 4):
    sft.SftTrainer.learn = functools.partialmethod(killed, at=at)
    try:
        sft.run(room / "demonstrations", out / "sft", options=full)
    except KeyboardInterrupt:
        continue
    raise AssertionError("not killed")
sft.SftTrainer.learn = seen
sft.run(room / "demonstrations", out / "sft", options=full)
lora = sft.SftOptions(str(blank), lora=LoraShape(1, norms=True), resources=plain, **common)
sft.run(room / "demonstrations", out / "sft-lora", options=lora)
reward.run(room / "pairs", blank, out / "reward", options=score(lora=LoraShape(3)))
reward.run(room / "ratings", blank, out / "reward-full", options=score(full=True))
reward.run(room / "ratings", blank, out / "reward-full", options=score(full=True))  # done already, in every process
slow = {**common, "learning_rate": 1e-5}  # Adam's first step is as long where a gradient is rounding
probed = reward.RewardOptions(full=True, probe=True, max_new_tokens=8, normalise_on=10, resources=plain, **slow)
reward.run(room / "ratings", blank, out / "reward-probed", options=probed)
print(f"{os.environ.get('WORLD_SIZE', '1')}: held as {' '.join(sorted(kinds))}\\n", end="")
distributed.end()
"""


@pytest.mark.slow
def test_a_model_in_shares_equals_one_process(tmp_path: Path, blank: Path) -> None:
    """SFT and reward, full and LoRA, with ``examples/accelerate/fsdp.yaml`` on two CPU processes (gloo) and on one.

    Nine rows in pieces of four, one row to validate on, and ranks of 1 and 3 leave the second process with fewer
    pieces, none, and smaller or empty shares. The first run is killed at steps 2 and 4 and goes on.
    """
    room = tmp_path / "data"
    for name, made in (
        ("demonstrations", tiny_models.demonstrations),
        ("pairs", tiny_models.preferences),
        ("ratings", tiny_models.ratings),
    ):
        tiny_models.write_rows(room / name, train=made(1, 50), validation=made(2, 1))
    one, two, said = train_one_and_two(tmp_path, _CHAIN, "fsdp.yaml", blank, room)
    assert sorted(line for line in said.splitlines() if "held" in line) == [
        "1: held as Tensor",
        "2: held as DTensor Tensor",
        "2: held as DTensor Tensor",
    ]
    for name in ("sft", "sft-lora", "reward", "reward-full", "reward-probed"):
        curves = [run_folder.read(folder / name, Measurement) for folder in (one, two)]
        assert [(point.step, point.metric) for point in curves[0]] == [(p.step, p.metric) for p in curves[1]]
        for first, second in zip(*curves, strict=True):
            assert second.value == pytest.approx(first.value, rel=1e-3, abs=1e-4), (name, first)
        cards = [run_folder.read_card(folder / name) for folder in (one, two)]
        assert [card and card.notes["processes"] for card in cards] == [1, 2]
        files = sorted(path.relative_to(one) for path in (one / name).rglob("*.safetensors"))
        assert files
        for file in files:
            expected, found = load_file(one / file), load_file(two / file)
            assert found.keys() == expected.keys()
            for key, tensor in expected.items():
                torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-4, msg=lambda m, k=key: f"{k}: {m}")
        assert not (two / name / run_folder.CHECKPOINT).exists()
