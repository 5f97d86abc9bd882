"""What `perl-eval` costs before it does anything: CPU seconds of commands on next to nothing.

    python benchmarks/startup.py [--runs 5] [--before CHECKOUT] [--json FILE]

Help, a user's mistake, `judge` of two pairs by a scripted judge and `score` of them, each in a process of its own, as
often as asked, in turn; user and system CPU time together, which a busy machine lengthens less than it does the clock.
With `--before`, the same of another checkout of the repository, its runs between those of this one, and the ratio of
the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
PAIRS = 2
COMMANDS: Mapping[str, str] = {
    "help": "--help",
    "an error": "score nowhere --out never",
    "judge two pairs": "judge a b --judge scripted:length --prompt helpful --out {folder}",
    "score them": "score judged --out {folder}",
}
WRITE = """
from pathlib import Path
from perl_eval.records import Completion, Message
from perl_eval.storage import parquet
for policy in ("a", "b"):
    turns = (Message("user", "Say something."),)
    made = [
        Completion(f"{policy}{n}", f"q{n}", f"q{n}", "d", policy, turns, "word " * (n + 1), "stop", 0)
        for n in range(%d)
    ]
    parquet.write(Path(policy) / "completions.parquet", made, Completion)
"""


def seconds(checkout: Path, folder: Path, arguments: list[str]) -> float:
    """Run the program from a checkout and return the CPU seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    program = [sys.executable, "-c", "from perl_eval.cli import main; main()", *arguments]
    done = subprocess.run(
        program,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != (2 if "nowhere" in arguments else 0):
        raise SystemExit(f"{' '.join(arguments)} in {checkout} ended with {done.returncode}:\n{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measured(checkouts: Mapping[str, Path], runs: int) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of every run, by command and checkout; one run before that only fills the caches."""
    found: dict[str, dict[str, list[float]]] = {name: {side: [] for side in checkouts} for name in COMMANDS}
    with tempfile.TemporaryDirectory() as place:
        for side, checkout in checkouts.items():
            work = Path(place) / side
            work.mkdir()
            subprocess.run(
                [sys.executable, "-c", WRITE % PAIRS],
                cwd=work,
                env={**os.environ, "PYTHONPATH": str(checkout)},
                check=True,
            )
            seconds(checkout, work, COMMANDS["judge two pairs"].format(folder="judged").split())
        for run in range(-1, runs):
            for name, line in COMMANDS.items():
                for side, checkout in checkouts.items():
                    out = f"{name.replace(' ', '-')}-{run}"
                    took = seconds(checkout, Path(place) / side, line.format(folder=out).split())
                    if run >= 0:
                        found[name][side].append(took)
    return found


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    checkouts = {"now": HERE} if asked.before is None else {"before": asked.before.resolve(), "now": HERE}
    found = measured(checkouts, asked.runs)
    print(f"CPU seconds, least and median of {asked.runs} runs")
    print(f"{'':<17}" + "".join(f"{side:>16}" for side in checkouts) + (f"{'of before':>12}" if asked.before else ""))
    for name, sides in found.items():
        cells = "".join(f"{f'{min(took):.2f}  {statistics.median(took):.2f}':>16}" for took in sides.values())
        middle = {side: statistics.median(took) for side, took in sides.items()}
        print(f"{name:<17}{cells}" + (f"{middle['now'] / middle['before']:>12.2f}" if asked.before else ""))
    if asked.json is not None:
        asked.json.write_text(json.dumps({"runs": asked.runs, "cpu_s": found}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
