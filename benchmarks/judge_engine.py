"""How fast the engine asks, and in how much memory.

    python benchmarks/judge_engine.py

judges 2,000 pairs in both orders against a server with 20 ms latency in its own process, at the verb's default
settings: calls a second, then pairs a second out of the ledger, and the peak memory of a process that does only this.
Before each round the same requests are sent by aiohttp alone, as many at a time, and their replies read as JSON.

    python benchmarks/judge_engine.py --stream 1000000 --folder DIR

runs the verb ``judge`` on so many pairs, from completion files to sorted judgements, with a scripted judge, twice: the
second time every answer comes out of the ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from perl_eval.client.ledger import Ledger
from perl_eval.client.usage import Usage
from perl_eval.judges import prompting
from perl_eval.judges.backends.scripted import ScriptedJudge
from perl_eval.judges.protocol import Judge
from perl_eval.judging import judge
from perl_eval.judging.asking import Asking
from perl_eval.judging.engine.ask import AskOptions
from perl_eval.records import Completion, Message
from perl_eval.storage import parquet

SERVER = Path(__file__).resolve().parent.parent / "tests" / "fake_server.py"


def completion(policy: str, item: int) -> Completion:
    """Make an answer of some twenty words."""
    prompt = (Message("user", f"order {item}: a large flat white with oat milk, and an almond croissant, to go"),)
    text = " ".join([f"{policy} {item}", *["one more word of the answer"] * (4 + (item + len(policy)) % 3)])
    return Completion(f"{policy}-{item}", f"item{item:08}", "g", "bench", policy, prompt, text, "stop", 0)


def contest(count: int) -> list[judge.Contestants]:
    """Make pairs of answers."""
    return [(completion("a", item), completion("b", item)) for item in range(count)]


def peak_mb() -> float:
    """Return the peak resident set of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def timed(units: list[judge.Contestants], by: Judge, path: Path, options: AskOptions) -> tuple[float, Usage]:
    """Judge all pairs and return the seconds it took."""
    template, tally = prompting.load("dialogue"), Usage()
    begun_s = time.perf_counter()
    with Ledger(path) as ledger:
        for _ in Asking(by, template, ledger, judge.JudgeOptions("dialogue", asking=options), tally).judgements(units):
            pass
    return time.perf_counter() - begun_s, tally


async def bare(url: str, bodies: list[bytes], at_once: int) -> float:
    """Send requests by aiohttp alone and return the seconds it took."""
    import aiohttp

    left = iter(bodies)

    async def work() -> None:
        for body in left:
            async with session.post(f"{url}/chat/completions", data=body) as response:
                json.loads(await response.read())

    headers = {"authorization": "Bearer unused", "content-type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:
        begun_s = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(at_once)))
        return time.perf_counter() - begun_s


def overhead(pairs: int, latency_s: float, options: AskOptions, rounds: int) -> None:
    """Judge against the fake server, then out of the ledger; some rounds, each after aiohttp alone."""
    from perl_eval.judges.backends.chat import ChatJudge, ChatOptions

    imported_mb = peak_mb()
    units = contest(pairs)
    server = subprocess.Popen([sys.executable, str(SERVER), "--latency-s", str(latency_s)], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        by = ChatJudge("fake", ChatOptions(base_url=url))
        questions = judge.plan(units, by, prompting.load("dialogue"))
        bodies = [json.dumps(by.request(question)).encode("ascii") for question in questions]
        found: list[tuple[float, float, float]] = []
        for _ in range(rounds):
            alone_s = asyncio.run(bare(url, bodies, options.max_concurrency))
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "ledger.sqlite"
                idle_s = time.process_time()
                cold_s, tally = timed(units, by, path, options)
                busy_s = time.process_time() - idle_s
                warm_s, again = timed(units, by, path, options)
            assert (tally.asked, again.asked) == (2 * pairs, 0)
            print(
                f"asked: {tally.asked / cold_s:,.0f} calls/s ({busy_s:.2f} s busy), aiohttp alone "
                f"{tally.asked / alone_s:,.0f}; from the ledger {pairs / warm_s:,.0f} pairs/s"
            )
            found.append((2 * pairs / cold_s, alone_s / cold_s, pairs / warm_s))
    finally:
        server.terminate()
        server.wait()
    for name, values in zip(
        ("calls/s", "of aiohttp alone", "pairs/s from the ledger"), zip(*found, strict=True), strict=True
    ):
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"{name}: median {middle:,.6g} ({low:,.6g} to {high:,.6g}, n = {rounds})")
    print(f"peak memory: {peak_mb():.0f} MB, {imported_mb:.0f} MB of it before the first pair was made")


def stream(pairs: int, folder: Path) -> None:
    """Run the verb on files of completions."""
    inputs = {policy: folder / policy / "completions.parquet" for policy in "ab"}
    for policy, path in inputs.items():

        def rows(policy: str = policy) -> Iterator[Completion]:
            return (completion(policy, item) for item in range(pairs))

        if not path.is_file():
            parquet.write(path, rows(), Completion)
    made_mb = peak_mb()
    by = ScriptedJudge(lambda answer: float(len(answer.text)), name="length", position_bias=0.5)
    options = judge.JudgeOptions("dialogue", ledger=folder / "ledger.sqlite")
    for name in ("asked", "from ledger"):
        begun_s = time.perf_counter()
        judge.run(inputs["a"], inputs["b"], folder / name.replace(" ", "-"), judge=by, options=options)
        took_s = time.perf_counter() - begun_s
        print(
            f"{name}: {pairs:,} pairs in {took_s:.0f} s, {pairs / took_s:,.0f} pairs/s; peak memory {peak_mb():.0f} MB"
        )
    print(f"(peak memory was {made_mb:.0f} MB when the inputs were there)")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--latency-s", type=float, default=0.02)
    parser.add_argument("--concurrency", type=int, default=AskOptions().max_concurrency)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stream", type=int, metavar="PAIRS")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.stream:
        with tempfile.TemporaryDirectory() as folder:
            stream(given.stream, given.folder or Path(folder))
        return
    overhead(given.pairs, given.latency_s, AskOptions(max_concurrency=given.concurrency), given.rounds)


if __name__ == "__main__":
    main()
