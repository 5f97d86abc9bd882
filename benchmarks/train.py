"""Memory and speed of training, LoRA against full tuning and against TRL: ``python benchmarks/train.py``.

Every case runs in processes of its own on random weights of one shape: same model, rows, tokens, batch, optimizer and
checkpointing. Seconds are of whole steps, first and last left out, ``--repeats`` times in turn. Peak memory is until
the last step, before anything is saved: the GPU allocator's; on the CPU the resident set over what the process held
before the model was loaded, in one more process, in which glibc is told to give freed memory back, since otherwise
fragments of it drown the difference.

``rl`` has a value function with weights of its own, so that full tuning holds four models; TRL has none, and takes no
part. ``rloo`` is what both do: groups of two samples, the others' mean as baseline; ours also trains a value head on
the policy's trunk. ``grpo`` has groups of four, and the KL in the loss. ``nf4`` is LoRA on a backbone in 4 bits, ours
only. Seconds of the processor, over all cores, are printed too: other work beside moves them less. Two thirds of a
pair's tokens, and all but the samples in RL, are a prompt that two sequences share: ours reads it once. Where nothing
is shared, as in ``sft``, that spares nothing.

The full measurement on two CPU cores, 14 cases, four times each, takes about 45 minutes where nothing else runs, and 25
with ``--steps 4 --repeats 2``: ``OMP_NUM_THREADS=2 python benchmarks/train.py --size 88m --json train.json``. On a GPU:
``--size 1b --dtype bf16 --batch 16 --tokens 512 --new-tokens 128``, and ``--size 7b --trainers ours``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch

TASKS, ARMS, TRAINERS = ("sft", "reward", "dpo", "rl", "rloo", "grpo"), ("lora", "full", "nf4"), ("ours", "trl")
OVER = "not begun, or not ended: the time is over"
PAIRS = ("reward", "dpo")
MIB = 2**20
Key = tuple[str, str, str]


def measure(case: dict[str, Any], work: Path, *, memory: bool, limit_s: float = math.inf) -> dict[str, Any]:
    """Run one case in a process of its own: for its peak memory, or for its speed."""
    script = Path(__file__).with_name("train_case.py")
    environment = dict(os.environ)
    if memory:
        environment |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
        case = {**case, "steps": 3}
    limit = limit_s if math.isfinite(limit_s) else None
    words = [sys.executable, str(script), str(work), json.dumps(case)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"failed": OVER}
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return {"failed": said[-1][:200] if said else f"exit code {done.returncode}"}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def tokens_a_step(given: argparse.Namespace, task: str) -> int:
    """Return the tokens that one step goes through the model with, both sides of a pair counted."""
    return given.batch * given.tokens * (2 if task in PAIRS else 1)


def summary(memory: dict[str, Any], found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the peak, and the median over repeats of the median step with its span."""
    failed = [one["failed"] for one in (memory, *found) if "failed" in one]
    if failed:
        return {"failed": failed[0]}
    steps = [median(one["seconds"]) for one in found]
    return {
        "peak": memory["peak"],
        "seconds": median(steps),
        "each": steps,
        "processor": median(median(one["processor"]) for one in found),
        "low": min(steps),
        "high": max(steps),
        "n": sum(len(one["seconds"]) for one in found),
        "account": sum(found[0].get(f"bytes of {part}", 0) for part in ("weights", "gradients", "moments")),
    }


def show(found: dict[Key, dict[str, Any]], given: argparse.Namespace) -> None:
    """Print every row, won or lost."""
    print(
        f"{given.size}, batch {given.batch}, {given.tokens} tokens, rank {given.rank}, {given.dtype}, "
        f"{given.repeats} x {given.steps} steps, {platform.processor() or platform.machine()}\n"
    )
    print("| task | arm | trainer | peak MiB | by formula MiB | s a step (span) | CPU s a step | tokens/s | n |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (task, arm, trainer), one in found.items():
        if "failed" in one:
            print(f"| {task} | {arm} | {trainer} | failed: {one['failed']} |")
            continue
        formula = f"{one['account'] / MIB:,.0f}" if one["account"] else ""
        speed = tokens_a_step(given, task) / one["seconds"]
        span = f"{one['seconds']:.3f} ({one['low']:.3f} to {one['high']:.3f})"
        memory = f"{one['peak'] / MIB:,.0f} | {formula}"
        print(
            f"| {task} | {arm} | {trainer} | {memory} | {span} | {one['processor']:.3f} | {speed:,.0f} | {one['n']} |"
        )
    print("\n| task | ratio | peak | speed (span over repeats) | by CPU s | n |\n|---|---|---|---|---|---|")
    for task in given.tasks:
        for trainer in given.trainers:
            ratio(found, (task, "lora", trainer), (task, "full", trainer), f"{trainer}: LoRA / full")
            ratio(found, (task, "nf4", trainer), (task, "lora", trainer), f"{trainer}: nf4 / LoRA")
        for arm in given.arms:
            ratio(found, (task, arm, "ours"), (task, arm, "trl"), f"{arm}: ours / TRL")


def ratio(found: dict[Key, dict[str, Any]], one: Key, other: Key, name: str) -> None:
    """Print how two cases compare, where both ran; a speed above 1 is faster."""
    first, second = found.get(one, {"failed": ""}), found.get(other, {"failed": ""})
    if "failed" in first or "failed" in second:
        return
    peak, speed = first["peak"] / second["peak"], second["seconds"] / first["seconds"]
    each = [slow / quick for quick, slow in zip(first["each"], second["each"], strict=True)]
    span = f"{speed:.2f}x ({min(each):.2f} to {max(each):.2f})"
    computed = second["processor"] / first["processor"]
    print(f"| {one[0]} | {name} | {peak:.1%} | {span} | {computed:.2f}x | {len(each)} |")


def main() -> None:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="88m", help="tiny, 10m, 88m, smollm2, 350m, 1b or 7b")
    parser.add_argument("--steps", type=int, default=5, help="timed steps; one more warms up, and one ends")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64, help="of each sequence")
    parser.add_argument("--new-tokens", type=int, default=24, help="of each sample in RL, within tokens")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--dtype", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--arms", nargs="+", default=ARMS[:2], choices=ARMS)
    parser.add_argument("--trainers", nargs="+", default=TRAINERS, choices=TRAINERS)
    parser.add_argument("--budget", type=float, default=0.0, help="seconds in all, after which no case begins; 0: none")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    shared = {name: getattr(given, name) for name in ("size", "batch", "tokens", "new_tokens", "rank", "dtype")}
    cases = [
        {"task": task, "arm": arm, "trainer": trainer, "steps": given.steps + 2, **shared}
        for task, arm, trainer in product(given.tasks, given.arms, given.trainers)
        if trainer == "ours" or (task != "rl" and arm != "nf4")
    ]
    with tempfile.TemporaryDirectory() as place:
        script = Path(__file__).with_name("train_case.py")
        prepared = subprocess.run([sys.executable, str(script), place, json.dumps(cases[0]), "--prepare"], check=False)
        if prepared.returncode:
            sys.exit("the model could not be made")
        found = measured_all(cases, given, Path(place))
    show(found, given)


def measured_all(cases: list[dict[str, Any]], given: argparse.Namespace, place: Path) -> dict[Key, dict[str, Any]]:
    """Measure every case as often as asked while time is left, and keep what there is after each.

    On the CPU a first pass is for memory alone; a GPU tells it beside the speed.
    """
    until_s = time.monotonic() + (given.budget or math.inf)
    apart = not torch.cuda.is_available()
    memory: dict[Key, dict[str, Any]] = {}
    raw: dict[Key, list[dict[str, Any]]] = {}
    found: dict[Key, dict[str, Any]] = {}
    for repeat in range(given.repeats + apart):
        for case in cases:
            key = (str(case["task"]), str(case["arm"]), str(case["trainer"]))
            if "failed" in memory.get(key, {}):
                continue
            left_s = until_s - time.monotonic()
            first = apart and repeat == 0
            measured = measure(case, place, memory=first, limit_s=left_s) if left_s > 0 else {"failed": OVER}
            if repeat == 0:
                memory[key] = measured
            if "failed" in measured and repeat:
                continue
            if not first:
                raw.setdefault(key, []).append(measured)
            if "failed" in measured or not first:
                found[key] = summary(memory[key], raw.get(key, []))
            print(
                f"{' '.join(key)}: {found.get(key, {}).get('seconds', measured.get('failed', 'memory'))}",
                file=sys.stderr,
            )
            write(found, memory, raw, given)
    return {key: found.get(key, {"failed": OVER}) for key in memory}


def write(found: dict[Key, Any], memory: dict[Key, Any], raw: dict[Key, Any], given: argparse.Namespace) -> None:
    """Write what is known so far as JSON, if that is asked for."""
    if given.json:
        options = {name: str(value) for name, value in vars(given).items()}
        listed = [{"case": key, **found.get(key, {}), "memory": memory[key], "raw": raw.get(key, [])} for key in memory]
        given.json.write_text(json.dumps({"options": options, "cases": listed}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
