"""One measurement of `benchmarks/train.py`, in a process of its own: a task, an arm and a trainer on random weights.

Prints one line of JSON: peak memory over what the process held before the model was loaded, and seconds of each step.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.models.device import Placement
from perl_eval.models.from_scratch import ScratchSize, make_tokenizer
from perl_eval.models.reward_model import REWARD, RewardScale
from perl_eval.records import Message
from perl_eval.sources.rows import Row
from perl_eval.training.clipped_policy_gradient import Clipping
from perl_eval.training.direct_tuning import DirectTrainer, DpoOptions
from perl_eval.training.policy import PolicyOptions, PolicyTrainer
from perl_eval.training.profiling import Meter, byte_account
from perl_eval.training.reinforce import cast
from perl_eval.training.resources import Resources
from perl_eval.training.reward import RewardOptions, RewardTrainer
from perl_eval.training.reward_function import learned_reward
from perl_eval.training.sft import SftOptions, SftTrainer

SIZES = {
    "tiny": ScratchSize(width=64, layers=2, heads=2, vocabulary=512, positions=256),
    "10m": ScratchSize(width=320, layers=6, heads=5, vocabulary=4096, positions=512),
    "88m": ScratchSize(width=768, layers=12, heads=12, vocabulary=4096, positions=512),
    "smollm2": ScratchSize(width=576, layers=30, heads=9, vocabulary=49152, positions=2048),
    "350m": ScratchSize(width=1024, layers=24, heads=16, vocabulary=32000, positions=1024),
    "1b": ScratchSize(width=2048, layers=20, heads=16, vocabulary=32000, positions=2048),
    "7b": ScratchSize(width=4096, layers=32, heads=32, vocabulary=32000, positions=2048),
}
"""Llama shapes of about that many parameters; weights are random, since neither figure depends on them."""
NARROW = {"smollm2": {"intermediate_size": 1536, "num_key_value_heads": 3}}
"""Where a shape is not that of `ScratchSize`: SmolLM2-135M has three heads of keys, and a wider feed-forward part."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured, and how much.

    ``sft``, ``reward``, ``dpo``, ``rl``, ``rloo`` or ``grpo``; ``lora``, ``full`` or ``nf4``, which is LoRA on a
    backbone in 4 bits; by ``ours`` or ``trl``.
    """

    task: str
    arm: str
    trainer: str
    size: str
    steps: int
    batch: int
    tokens: int
    new_tokens: int
    rank: int
    dtype: str

    @property
    def shape(self) -> LoraShape:
        """The adapters, on all linear layers."""
        return LoraShape(self.rank, 2.0 * self.rank)

    @property
    def placement(self) -> Placement:
        """Device and precision, with checkpointing."""
        packed: Any = "nf4" if self.arm == "nf4" else ""
        return Placement(dtype="bf16" if self.dtype == "bf16" else "fp32", checkpointing=True, quantize=packed)

    @property
    def group(self) -> int:
        """Samples a prompt."""
        return 4 if self.task == "grpo" else 2

    @property
    def rewarded(self) -> str:
        """The folder of the reward model: an adapter, or whole."""
        return "reward-full" if self.arm == "full" else "reward-lora"

    @property
    def resources(self) -> Resources:
        """What the run may use."""
        return Resources(self.placement)


def words(random: np.random.Generator, count: int, letters: int = 3) -> str:
    """Return some made-up words; one of a single letter is one token."""
    return " ".join("".join(chr(97 + one) for one in random.integers(0, 26, letters)) for _ in range(count))


def rows_of(case: Case) -> list[Row]:
    """Return rows of which every sequence is cut to the same length, a third of it the answer.

    Both answers of a pair have the same number of tokens, so that their prompt is cut at the same place.
    """
    random = np.random.default_rng(0)
    count = case.batch * (case.steps + 1)
    result = []
    for number in range(count):
        prompt = (Message("user", words(random, case.tokens)),)
        first, second = ((Message("assistant", words(random, case.tokens // 3, letters=1)),) for _ in range(2))
        result.append(Row(str(number), str(number), "bench", prompt, completion=first, chosen=first, rejected=second))
    return result


def prepare(work: Path, case: Case) -> None:
    """Write the model and two reward models of random weights, once."""
    model = work / "model"
    if (work / "done").is_file():
        return
    random = np.random.default_rng(1)
    size = SIZES[case.size]
    tokenizer = make_tokenizer([words(random, 200) for _ in range(60)], size.vocabulary)
    made_model(case, tokenizer).save_pretrained(model)
    tokenizer.save_pretrained(model)
    for arm in ("lora", "full"):
        backbone = open_backbone(model, Placement("cpu"))
        if arm == "lora":
            backbone.attach(REWARD, case.shape, seed=0, head=1)
            backbone.save(REWARD, work / "reward-lora")
        else:
            backbone.heads.fresh(REWARD, seed=0)
            backbone.save(None, work / "reward-full")
            backbone.heads.save(REWARD, work / "reward-full")
        RewardScale("pairwise", 0.0, 1.0, case.tokens).save(work / f"reward-{arm}")
    (work / "done").touch()


def made_model(case: Case, tokenizer: Any) -> Any:
    """Return a model of random weights, made where it is quickest and as wide as it will lie on the disk."""
    from transformers import LlamaConfig, LlamaForCausalLM

    size = SIZES[case.size]
    shape = {"intermediate_size": size.width * 8 // 3 // 8 * 8, "num_key_value_heads": size.heads}
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=size.positions,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        **{**shape, **NARROW.get(case.size, {})},
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        made = LlamaForCausalLM(config)
    return made.to(torch.bfloat16) if case.dtype == "bf16" else made


class Stamps:
    """Notes when each step begins, and the peak memory until then.

    A step's seconds run to the next one's beginning, so the last has none: after it comes what a trainer does to end.
    """

    def __init__(self, meter: Meter) -> None:
        self.begun_s: list[float] = []
        self.computed_s: list[float] = []
        self.peak_bytes = 0
        self._meter = meter

    def __call__(self) -> None:
        """Note a step's beginning."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            self.peak_bytes = torch.cuda.max_memory_allocated()
        else:
            self.peak_bytes = self._meter.peak_bytes
        self.begun_s.append(time.monotonic())
        self.computed_s.append(time.process_time())

    def seconds(self) -> list[float]:
        """Return the seconds of each step but the first, which warms up, and the last."""
        return [float(one) for one in np.diff(self.begun_s)[1:]]

    def processor_seconds(self) -> list[float]:
        """Return the same in processor time of all cores, which work of others beside it moves less."""
        return [float(one) for one in np.diff(self.computed_s)[1:]]


def watched(trainer: Any, stamps: Stamps) -> None:
    """Have a trainer's steps noted."""
    learn = trainer.learn

    def noted(step: int) -> Any:
        stamps()
        return learn(step)

    trainer.learn = noted


def ours(case: Case, work: Path, stamps: Stamps, meter: Meter) -> dict[str, float]:
    """Train with perl_eval and return what is known by formula."""
    found, folder = rows_of(case), Path(tempfile.mkdtemp(dir=work))
    full = case.arm == "full"
    epochs = case.steps / (case.steps + 1)
    model = work / "model"
    trainer: Any
    if case.task == "sft":
        options = SftOptions(
            str(model),
            epochs=epochs,
            batch=case.batch,
            max_tokens=case.tokens,
            lora=None if full else case.shape,
            resources=case.resources,
        )
        backbone = open_backbone(model, case.placement, frozen=not full)
        trainer = SftTrainer(backbone, found, [], options, seed=0)
        trained, backbones = backbone.parameters_of(trainer.name).values(), [backbone]
    elif case.task == "reward":
        scoring = RewardOptions(
            loss="pairwise",
            epochs=epochs,
            batch=case.batch,
            max_tokens=case.tokens,
            lora=case.shape,
            full=full,
            resources=case.resources,
        )
        backbone = open_backbone(model, case.placement, frozen=not full)
        trainer = RewardTrainer(backbone, found, [], scoring, seed=0)
        trained, backbones = trainer.parameters().values(), [backbone]
    elif case.task == "dpo":
        direct = DpoOptions(
            loss="sigmoid",
            epochs=epochs,
            batch=case.batch,
            max_tokens=case.tokens,
            lora=case.shape,
            full=full,
            resources=case.resources,
        )
        backbone = open_backbone(model, case.placement, frozen=not full)
        trainer = DirectTrainer(backbone, {"train": found}, direct, loss="sigmoid", seed=0)
        trained, backbones = trainer.parameters().values(), [backbone]
    else:
        trainer, backbones = rl(case, work, found)
        trained = [one for part in trainer.roles.parts().values() for one in part.values()]
    watched(trainer, stamps)
    trainer.train(folder, meter)
    shutil.rmtree(folder)
    return {**byte_account(backbones, trained), **{f"seconds {k}": v for k, v in meter.seconds.items()}}


def rl(case: Case, work: Path, found: list[Row]) -> tuple[PolicyTrainer, list[Backbone]]:
    """Return the RL trainer: LoRA with everything on one backbone, or full with four models."""
    options = PolicyOptions(
        steps=case.steps,
        batch=case.batch,
        group=case.group,
        objective="grpo" if case.task == "grpo" else "kl_rl",
        kl="k3" if case.task == "grpo" else "reward",
        clipping=Clipping(),
        max_tokens=case.tokens,
        max_new_tokens=case.new_tokens,
        value="adapter" if case.task == "rl" else "head",
        lora=case.shape,
        full=case.arm == "full",
        resources=case.resources,
    )
    backbone = open_backbone(work / "model", case.placement)
    reward = learned_reward(work / case.rewarded, backbone)
    roles = cast(backbone, options, seed=0)
    scorers = reward.__closure__ or ()
    held = [member.backbone for cell in scorers for member in getattr(cell.cell_contents, "members", [])]
    distinct = {id(one): one for one in [*roles.backbones, *held]}
    return PolicyTrainer(roles, found, reward, options, seed=0), list(distinct.values())


def train(case: Case, work: Path, stamps: Stamps, meter: Meter) -> dict[str, float]:
    """Train as the case says."""
    if case.trainer == "ours":
        return ours(case, work, stamps, meter)
    import train_peer as peer

    peer.quiet()
    return peer.train(case, work, stamps)


def main() -> None:
    """Measure one case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("case", type=json.loads)
    parser.add_argument("--prepare", action="store_true")
    given = parser.parse_args()
    case = Case(**given.case)
    if given.prepare:
        prepare(given.work, case)
        prepare(given.work / "warm", replace(case, size="tiny"))
        return
    # A first run on next to nothing loads whatever code the trainer loads: that is not what is measured.
    one = Meter(torch.device("cpu"))
    train(replace(case, size="tiny", batch=4, steps=2), given.work / "warm", Stamps(one), one)
    gc.collect()
    with Meter(case.placement.resolve()) as meter:
        stamps = Stamps(meter)
        account = train(case, given.work, stamps, meter)
    seconds = stamps.seconds()
    figures = {"peak": stamps.peak_bytes, "seconds": seconds, "processor": stamps.processor_seconds(), **account}
    json.dump({**figures, "device": "cuda" if torch.cuda.is_available() else "cpu"}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
