"""Time and memory of the statistics at full size: ``python benchmarks/stats.py``.

A million judgements in 100,000 groups with 10,000 bootstrap draws, read from a parquet file; Krippendorff's alpha on
100,000 items by 5 raters.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from perl_eval.scoring import score
from perl_eval.scoring.outcome_table import of_table
from perl_eval.stats.agreement_coefficients import krippendorff_alpha
from perl_eval.stats.bootstrap import Resampling

JUDGEMENTS, GROUPS, DRAWS = 1_000_000, 100_000, 10_000
ITEMS, RATERS = 100_000, 5


def _timed(what: str, work: Callable[[], str]) -> None:
    begun = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"{what}: {seconds:.2f} s, peak memory so far {peak:.2f} GiB; {result}")


def main() -> None:
    """Run both benchmarks and print what they took."""
    rng = np.random.default_rng(0)
    names = np.array(["win", "loss", "split", "tie", "mixed", "unjudged"], dtype=object)
    outcomes = names[rng.choice(6, JUDGEMENTS, p=[0.4, 0.25, 0.15, 0.1, 0.05, 0.05])].tolist()
    groups = [f"prompt {number}" for number in rng.integers(0, GROUPS, JUDGEMENTS).tolist()]
    folder = tempfile.TemporaryDirectory()
    file = Path(folder.name) / "outcomes.parquet"
    pq.write_table(pa.table({"outcome": outcomes, "group": groups, "p_a": rng.random(JUDGEMENTS)}), file)
    del outcomes, groups
    pa.default_memory_pool().release_unused()

    def rates() -> str:
        how = score.ScoreOptions(Resampling(DRAWS), intervals="bootstrap")
        found = of_table(file, options=how)
        half = next(estimate for estimate in found if estimate.name == "win rate, undecided half")
        return f"{half.name} {half.value:.4f} [{half.low:.4f}, {half.high:.4f}]"

    labels = rng.integers(0, 3, ITEMS)
    given = np.where(rng.random((RATERS, ITEMS)) < 0.7, labels, rng.integers(0, 3, (RATERS, ITEMS)))
    ratings = [{str(rater): str(label) for rater, label in enumerate(column)} for column in given.T.tolist()]

    def alpha() -> str:
        found = krippendorff_alpha(ratings, ("0", "1", "2"))
        return f"alpha {found.value:.4f} [{found.low:.4f}, {found.high:.4f}]"

    _timed(f"{JUDGEMENTS:,} judgements in {GROUPS:,} groups, {DRAWS:,} draws, read and all win rates", rates)
    folder.cleanup()
    _timed(f"alpha of {ITEMS:,} items by {RATERS} raters, 2,000 draws", alpha)


if __name__ == "__main__":
    main()
