"""How fast the engine asks: pairs in both orders against a server with a fixed latency, in its own process.

    python benchmarks/judge_engine.py --pairs 2000 --latency-s 0.02

prints calls a second against the server, pairs a second out of the ledger, and the peak memory of this process.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from perl_eval import judge, render
from perl_eval.judges.ask import AskOptions, Tally, ask
from perl_eval.judges.chat import ChatJudge, ChatOptions
from perl_eval.judges.ledger import Ledger
from perl_eval.records import Completion, Message

SERVER = Path(__file__).resolve().parent.parent / "tests" / "judges" / "fake_server.py"


def contest(count: int) -> list[judge.Contestants]:
    """Make pairs of answers of some twenty words."""

    def completion(policy: str, item: int) -> Completion:
        prompt = (Message("user", f"order {item}: a large flat white with oat milk, and an almond croissant, to go"),)
        text = " ".join([f"{policy} {item}", *["one more word of the answer"] * (4 + item % 3)])
        return Completion(f"{policy}-{item}", str(item), "g", "bench", policy, prompt, text, "stop", 0)

    return [(completion("a", item), completion("b", item)) for item in range(count)]


def timed(units: list[judge.Contestants], by: ChatJudge, path: Path, concurrency: int) -> tuple[float, Tally]:
    """Judge all pairs and return the seconds it took."""
    tally, begun_s = Tally(), time.perf_counter()
    template = render.load("dialogue")
    with Ledger(path) as ledger:
        options = AskOptions(max_concurrency=concurrency)
        for _ in judge.judgements(
            units, by, template, put=lambda questions: ask(questions, by, ledger, options=options, tally=tally)
        ):
            pass
    return time.perf_counter() - begun_s, tally


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--latency-s", type=float, default=0.02)
    parser.add_argument("--concurrency", type=int, default=64)
    given = parser.parse_args()
    units = contest(given.pairs)
    server = subprocess.Popen(
        [sys.executable, str(SERVER), "--latency-s", str(given.latency_s)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        by = ChatJudge("fake", ChatOptions(base_url=f"http://127.0.0.1:{int(server.stdout.readline())}/v1"))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ledger.sqlite"
            idle_s = time.process_time()
            cold_s, tally = timed(units, by, path, given.concurrency)
            busy_s = time.process_time() - idle_s
            warm_s, again = timed(units, by, path, given.concurrency)
    finally:
        server.terminate()
        server.wait()
    assert (tally.asked, again.asked) == (2 * given.pairs, 0)
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"asked:       {tally.asked} calls in {cold_s:.2f} s, {tally.asked / cold_s:,.0f} calls/s ({busy_s:.2f} s busy)"
    )
    print(f"from ledger: {given.pairs} pairs in {warm_s:.2f} s, {given.pairs / warm_s:,.0f} pairs/s")
    print(f"peak memory: {peak_bytes / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
