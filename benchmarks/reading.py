"""Speed and memory of reading files of answers: ``python benchmarks/reading.py [--rows N] [--million] [--json FILE]``.

Files of the same rows as JSON lines, CSV and parquet are read into completions, and by `datasets.load_dataset` into
plain rows, which is less work: no ids are derived and nothing is checked. With ``--million``, a million rows of JSON
lines go from a file to a run folder in a process of its own, whose peak of memory is measured.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

ROWS, MILLION, RUNS = 100_000, 1_000_000, 3
LOADERS = {"jsonl": "json", "csv": "csv", "parquet": "parquet"}


@dataclass(frozen=True, slots=True)
class Reading:
    """How one kind of file was read.

    Attributes:
        file: The kind.
        rows: How many rows it has.
        ours: Rows a second, as completions.
        datasets: Rows a second, as plain rows of `datasets`.
    """

    file: str
    rows: int
    ours: float
    datasets: float


def rows(count: int) -> Iterator[dict[str, str]]:
    """Yield rows of some 400 characters."""
    rng = random.Random(0)
    words = [f"word{n}" for n in range(1000)]
    for n in range(count):
        text = " ".join(rng.choices(words, k=50))
        yield {"prompt": f"Question {n}: {' '.join(rng.choices(words, k=10))}", "text": text, "model": "ours"}


def write(folder: Path, count: int) -> dict[str, Path]:
    """Write the same rows as files of each kind."""
    files = {kind: folder / f"answers.{kind}" for kind in LOADERS}
    made = list(rows(count))
    files["jsonl"].write_text("".join(json.dumps(row) + "\n" for row in made), "utf-8")
    table = pa.Table.from_pylist(made)
    pa_csv.write_csv(table, files["csv"])
    pq.write_table(table, files["parquet"])
    return files


def fastest(work: Callable[[], int]) -> float:
    """Return rows a second of the fastest run."""
    best = 0.0
    for _ in range(RUNS):
        begun = time.perf_counter()
        count = work()
        best = max(best, count / (time.perf_counter() - begun))
    return best


def ours(file: Path) -> int:
    """Read a file into completions."""
    from perl_eval.sources.completions import read
    from perl_eval.sources.containers import opened
    from perl_eval.sources.reading import Import

    return sum(1 for _ in read(opened(file), Import()))


def theirs(file: Path, kind: str) -> int:
    """Read a file with `datasets`, anew each time, and go through its rows."""
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        found: Any = datasets.load_dataset(LOADERS[kind], data_files=str(file), split="train", cache_dir=cache)
        return sum(1 for _ in found)


def take_million(folder: Path) -> None:
    """Read a million rows from a file into a run folder, and print seconds and peak memory as JSON."""
    from perl_eval import sources

    begun = time.perf_counter()
    sources.take_completions(folder / "million.jsonl", folder / "out")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(json.dumps({"rows": MILLION, "seconds": time.perf_counter() - begun, "peak_gib": peak}))


def million(folder: Path) -> dict[str, float]:
    """Measure a million rows in a process of its own."""
    with (folder / "million.jsonl").open("w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(row) + "\n" for row in rows(MILLION))
    command = [sys.executable, __file__, "--take", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--take", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.take:
        take_million(asked.take)
        return
    with tempfile.TemporaryDirectory() as folder:
        found = [
            Reading(
                kind, asked.rows, fastest(lambda file=file: ours(file)), fastest(lambda f=file, k=kind: theirs(f, k))
            )
            for kind, file in write(Path(folder), asked.rows).items()
        ]
        whole = million(Path(folder)) if asked.million else {}
    print(f"{'file':8}{'rows':>10}{'ours, rows/s':>14}{'datasets':>10}{'ratio':>7}")
    for one in found:
        ratio = one.ours / one.datasets
        print(f"{one.file:8}{one.rows:>10,}{one.ours:>14,.0f}{one.datasets:>10,.0f}{ratio:>7.2f}")
    if whole:
        print(f"a million rows to a run folder: {whole['seconds']:.0f} s, peak memory {whole['peak_gib']:.2f} GiB")
    if asked.json:
        asked.json.write_text(
            json.dumps({"reading": [asdict(one) for one in found], "million": whole}, indent=1), "utf-8"
        )


if __name__ == "__main__":
    main()
