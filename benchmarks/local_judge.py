"""Memory, speed and sameness of a judge in this process, on pairs of texts of many lengths.

    python benchmarks/local_judge.py MODEL [--pairs 48] [--batch 16] [--words 300] [--dtype bf16]

Prints one line of JSON: bytes of the weights, peak memory beyond what the process held once the model was loaded,
seconds, answers a second, the answers that were in the ledger after half of the time, and how many of the prompts say
something else when they are asked one by one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import sqlite3
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perl_eval.client.ledger import Ledger
from perl_eval.judges import prompting
from perl_eval.judges.backends.local import LocalJudge
from perl_eval.judging.engine.ask import ask
from perl_eval.judging.outcome_of import Contestants, plan
from perl_eval.models.pretrained import open_pretrained
from perl_eval.records import Completion, Message

WORDS = """the order was late and nobody called me back so I would like to know what you can do about it""".split()  # noqa: SIM905


def units(count: int, longest: int) -> list[Contestants]:
    """Return pairs of answers of 20 to ``longest`` words, one in twenty of them as long as can be."""
    random = np.random.default_rng(0)

    def text(most: int) -> str:
        size = most if random.random() < 0.05 else int(random.integers(20, most))
        return " ".join(random.choice(WORDS, size))

    found: list[Contestants] = []
    for number in range(count):
        prompt = (Message("user", text(longest // 3 + 21)),)
        sides = [
            Completion(f"{side}{number}", str(number), "g", "d", side, prompt, text(longest), "stop", 0)
            for side in "ab"
        ]
        found.append(tuple(sides))
    return found


def kept_by(path: Path, times: list[tuple[float, int]], ended: threading.Event) -> None:
    """Note every now and then how many answers the ledger holds."""
    while not ended.wait(0.25):
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as database:
            times.append((time.perf_counter(), database.execute("SELECT count(*) FROM reply").fetchone()[0]))


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """Judge once and say what it took."""
    model, reader = open_pretrained(given.model)
    if given.dtype == "bf16":
        model.to(torch.bfloat16)
    judge = LocalJudge(model, reader, name="benchmark", group=given.batch)
    questions = list(plan(units(given.pairs, given.words), judge, prompting.load("dialogue")))
    asyncio.run(judge.ask(questions[:1]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    times: list[tuple[float, int]] = []
    ended = threading.Event()
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
        watch = threading.Thread(target=kept_by, args=(Path(folder) / "ledger.sqlite", times, ended))
        watch.start()
        begun = time.perf_counter()
        ballots = list(ask(questions, judge, ledger))
        took = time.perf_counter() - begun
        ended.set()
        watch.join()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    alone = [judge.reader.read(one, asyncio.run(judge.ask([one]))[0]).p_first for one in questions[: given.alone]]
    return {
        "weights_bytes": sum(part.numel() * part.element_size() for part in model.parameters()),
        "more_bytes": peak - before,
        "pairs": given.pairs,
        "batch": given.batch,
        "dtype": given.dtype,
        "seconds": round(took, 1),
        "answers_a_second": round(len(questions) / took, 2),
        "kept_at_half_time": max((count for at, count in times if at < begun + took / 2), default=0),
        "other_when_alone": sum(a != b.p_first for a, b in zip(alone, ballots, strict=False)),
        "of": len(alone),
    }


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--words", type=int, default=300)
    parser.add_argument("--alone", type=int, default=20)
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    print(json.dumps(measured(parser.parse_args())))


if __name__ == "__main__":
    main()
