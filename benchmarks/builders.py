"""How fast the builders are, and whether their memory is flat in the number of rows.

``python benchmarks/builders.py`` makes up preference transcripts in the form of HH-RLHF, builds them with the harmless
builder, and does the same work with ``load_dataset("json")`` and ``map`` to the same columns. Each run is a process of
its own with an empty cache and a file that has been read once; runs of the two alternate. Wall time, CPU time and peak
resident memory of the process are its own, imports left out of the times. ``mapped`` is the part of that memory that
is pages of files, the built rows among them: the system takes it back when it needs it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

WORDS = (
    "the",
    "a",
    "of",
    "to",
    "people",
    "ask",
    "how",
    "can",
    "I",
    "make",
    "it",
    "safe",
    "and",
    "yes",
    "never",
    "help",
)


def write_transcripts(path: Path, rows: int) -> None:
    """Write made-up rows, about 1.4 kB each, as long as the real ones, with some letters beyond ASCII."""
    draw = random.Random(rows)

    def words(count: int) -> str:
        return " ".join(draw.choices(WORDS, k=count)) + draw.choice(["", " é", " “so”", " 😀"])

    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8") as handle:
        for number in range(rows):
            turns = "".join(f"\n\nHuman: {words(25)}\n\nAssistant: {words(30)}" for _ in range(draw.randint(0, 2)))
            shared = f"\n\nHuman: {number} {words(25)}{turns}\n\nHuman: {words(20)}\n\nAssistant: "
            handle.write(json.dumps({"chosen": shared + words(30), "rejected": shared + words(40)}) + "\n")
    # The builder tells gzip by its first bytes; the other reader goes by the name.
    (path.parent.parent / "rows.jsonl").hardlink_to(path)


def build(folder: Path, cache: Path) -> Any:
    """Build the rows with the harmless builder."""
    from datasets_builders import open_builder

    options = {"splits": "test", "checksums": "record"}
    builder = open_builder("harmless", data_dir=folder, cache_dir=cache, options=options)
    return lambda: builder.load()["test"]


def load_and_map(folder: Path, cache: Path) -> Any:
    """Read the rows with the JSON reader of datasets and map them to the same columns."""
    import datasets

    from datasets_builders import features
    from datasets_builders.features import message
    from datasets_builders.harmless import split_transcripts
    from datasets_builders.splits import stable_id

    path = str(folder / "rows.jsonl")

    def columns(row: dict[str, str]) -> dict[str, Any]:
        found = split_transcripts(row["chosen"], row["rejected"])
        assert not isinstance(found, str)
        roles, texts, chosen, rejected = found
        return {
            "prompt": [message(role, text) for role, text in zip(roles, texts, strict=True)],
            "chosen": [message("assistant", chosen)],
            "rejected": [message("assistant", rejected)],
            "id": stable_id(row["chosen"], row["rejected"]),
            "group": stable_id(texts[0]),
            "dataset": "harmless",
            "source_file": "harmless-base/test.jsonl.gz",
        }

    def run() -> Any:
        rows = datasets.load_dataset("json", data_files=path, split="train", cache_dir=str(cache))
        return rows.map(columns, features=features.preference())

    return run


def read_only(folder: Path, cache: Path) -> Any:
    """Read the rows with the JSON reader of datasets, without any conversion: the bound."""
    import datasets

    path = str(folder / "rows.jsonl")
    return lambda: datasets.load_dataset("json", data_files=path, split="train", cache_dir=str(cache))


WAYS = {"harmless builder": build, "load_dataset + map": load_and_map, "load_dataset, no conversion": read_only}


def _measure(way: str, folder: Path, pipe: Any) -> None:
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        run = WAYS[way](folder, Path(cache))
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        built = run()
        rows = built.num_rows
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        mapped = int(status["RssFile"].split()[0]) * 1024
    pipe.send((rows, wall_s, cpu_s, peak, mapped))


Measured = tuple[int, float, float, int, int]


def measure(way: str, folder: Path) -> Measured:
    """Return rows, wall seconds, CPU seconds, peak bytes and mapped bytes of one way, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_measure, args=(way, folder, theirs))
    process.start()
    result: Measured = ours.recv()
    process.join()
    return result


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "speed"
        write_transcripts(folder / "harmless-base" / "test.jsonl.gz", options.rows)
        runs: dict[str, list[Measured]] = {way: [] for way in WAYS}
        for _ in range(options.repeats):
            for way in WAYS:
                runs[way].append(measure(way, folder))
        print(f"{options.rows:,} rows, median of {options.repeats}")
        print(f"{'':30}{'rows/s':>12}{'rows/CPU s':>12}{'peak MB':>10}")
        for way, found in runs.items():
            wall_s, cpu_s = (statistics.median(one[at] for one in found) for at in (1, 2))
            peak = statistics.median(one[3] for one in found)
            print(f"{way:30}{options.rows / wall_s:12,.0f}{options.rows / cpu_s:12,.0f}{peak / 1e6:10,.0f}")
        print("\npeak memory of the harmless builder")
        for size in options.sizes:
            folder = Path(name) / str(size)
            write_transcripts(folder / "harmless-base" / "test.jsonl.gz", size)
            rows, wall_s, _, peak, mapped = measure("harmless builder", folder)
            print(
                f"{rows:12,} rows {peak / 1e6:8,.0f} MB, mapped {mapped / 1e6:4,.0f} MB {rows / wall_s:10,.0f} rows/s"
            )


if __name__ == "__main__":
    main()
