"""Whether intervals hold what they promise, over a grid: ``python benchmarks/coverage.py --draws 5000``.

Every kind of interval and test that the product prints is made of data drawn from worlds whose truth is known, by the
product's own public functions. Printed is, for each kind, the cell that holds the truth least often: with what error of
the simulation, on which side the interval missed, its mean width, how many times as wide as needed it was, and how
often there was no interval to look at. The same seed gives the same table. ``--corners`` runs the few cells that are
hardest, for continuous integration; ``--draws-of "AUC=500"`` draws less of what takes long.

"Times as wide as needed" is one over the least factor by which the interval could be drawn in or out around its figure
to hold the truth in 95 % of these draws; where a few outcomes are most of what can happen, none can come near one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from zlib import crc32

import numpy as np
from coverage_agreement import agreement, alt_tests, juries, panels, scores_of_two
from coverage_cells import Cell, is_cached
from coverage_corrected import corrections
from coverage_rates import halves, lengths, means, orders, paired, rankings, rates, stopped
from coverage_scores import classifiers, posteriors, reward_models

from perl_eval.records import Estimate

NOMINAL = 0.95


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one cell: shares of the draws, those of coverage among draws with an interval."""

    kind: str
    setting: str
    draws: int
    coverage: float | None
    error: float | None
    too_high: float
    too_low: float
    width: float | None
    without: float
    times_needed: float | None = None


@cache
def grid(*, corners: bool = False) -> list[Cell]:
    """Return all cells, or the corners only."""
    parts = (
        *(rates, halves, means, paired, orders, rankings, agreement, panels, alt_tests, scores_of_two),
        *(classifiers, reward_models, corrections, lengths, stopped, posteriors, juries),
    )
    found = [cell for part in parts for cell in part()]
    return [cell for cell in found if cell.corner] if corners else found


Outcome = tuple[float, float, float, float, float]
"""Whether there is an interval, whether it lies above the truth, or below, its width, and how far off it is."""
_NO_INTERVAL = (0.0, 0.0, 0.0, 0.0, 0.0)
_SLACK = 1e-12


def outcome_of(truth: float | None, estimate: Estimate) -> Outcome:
    """Return what came of one draw; of a p-value, the interval lies above the truth where p is below 0.05."""
    if truth is None:
        return _NO_INTERVAL if estimate.value is None else (1.0, float(estimate.value < 0.05), 0.0, 0.0, 0.0)
    low, high = estimate.low, estimate.high
    if low is None or high is None or (estimate.reason or "").startswith("unreliable"):
        return _NO_INTERVAL
    off = _factor(truth, low if estimate.value is None else estimate.value, low, high)
    return 1.0, float(low > truth + _SLACK), float(high < truth - _SLACK), high - low, off


def _factor(truth: float, value: float, low: float, high: float) -> float:
    """Return the factor by which the bound on the truth's side must move away from the figure to touch the truth."""
    far, room = (truth - value, high - value) if truth > value else (value - truth, value - low)
    return 0.0 if far <= _SLACK else far / room if room > _SLACK else np.inf


def run(cell: Cell, draws: int, seed: int) -> Result:
    """Draw one cell and say how its intervals did."""
    rng = np.random.default_rng([seed, crc32(f"{cell.kind}: {cell.setting}".encode())])
    truth = cell.truth() if callable(cell.truth) else cell.truth
    known: dict[object, Outcome] = {}
    outcomes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(draws):
            drawn = cell.sample(rng)
            if not is_cached(drawn):
                outcomes.append(outcome_of(truth, cell.estimate(drawn)))
                continue
            if drawn not in known:
                known[drawn] = outcome_of(truth, cell.estimate(drawn))
            outcomes.append(known[drawn])
    found = np.array(outcomes)
    there, high, low, width, _ = found.sum(axis=0).tolist()
    if not there:
        return Result(cell.kind, cell.setting, draws, None, None, 0.0, 0.0, None, 1.0)
    held = 1 - (high + low) / there
    error = float(np.sqrt(max(held * (1 - held), 1 / there) / there))
    factor = float(np.quantile(found[found[:, 0] > 0, 4], NOMINAL, method="inverted_cdf"))
    times = 1 / factor if factor > 0 and truth is not None else None
    shares = (held, error, high / there, low / there, width / there, 1 - there / draws)
    return Result(cell.kind, cell.setting, draws, *shares, times_needed=times)


def _run_place(place: int, *, corners: bool, draws: int, draws_of: Mapping[str, int], seed: int) -> Result:
    cell = grid(corners=corners)[place]
    return run(cell, draws_of.get(cell.kind, draws), seed)


def worst(results: Sequence[Result]) -> list[Result]:
    """Return, of each kind, the cell that held the truth least often; those without any interval count for nothing."""
    found: dict[str, Result] = {}
    for result in results:
        if result.coverage is None or result.without > 0.9:
            continue
        before = found.get(result.kind)
        if before is None or before.coverage is None or result.coverage < before.coverage:
            found[result.kind] = result
    return list(found.values())


def table(results: Sequence[Result]) -> str:
    """Return the worst cell of each kind as a table of Markdown."""
    cells: dict[str, int] = {}
    for result in results:
        cells[result.kind] = cells.get(result.kind, 0) + 1
    lines = ["| kind | cells | draws | worst cell | holds | too high | too low | mean width | times needed | none |"]
    lines.append("|---|---|---|---|---|---|---|---|---|---|")
    for one in worst(results):
        kind, words = (text.replace("|", "\\|") for text in (one.kind, one.setting))
        width = "" if not one.width else f"{one.width:.3g}"
        times = "" if one.times_needed is None else f"{one.times_needed:.2f}"
        lines.append(
            f"| {kind} | {cells[one.kind]} | {one.draws} | {words} | {one.coverage:.3f} ± {one.error:.3f} "
            f"| {one.too_high:.3f} | {one.too_low:.3f} | {width} | {times} | {one.without:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the grid, print the table, write all cells as JSON, and fail if a cell holds too little."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=300, help="draws a cell")
    parser.add_argument("--draws-of", action="append", default=[], metavar="KIND=N", help="draws a cell of one kind")
    parser.add_argument("--corners", action="store_true", help="the few hardest cells only")
    parser.add_argument("--kind", action="append", default=[], help="only kinds with these words; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write every cell")
    parser.add_argument("--least", type=float, default=0.0, help="fail if a cell holds the truth less often")
    asked = parser.parse_args()
    begun, cells = time.perf_counter(), grid(corners=asked.corners)
    places = [place for place, cell in enumerate(cells) if not asked.kind or any(k in cell.kind for k in asked.kind)]
    draws_of = {kind: int(times) for kind, _, times in (words.rpartition("=") for words in asked.draws_of)}
    unknown = sorted(set(draws_of) - {cell.kind for cell in cells})
    if unknown:
        parser.error(f"--draws-of {unknown[0]}: there is no such kind")
    work = partial(_run_place, corners=asked.corners, draws=asked.draws, draws_of=draws_of, seed=asked.seed)
    results = []
    with ProcessPoolExecutor(asked.workers) as pool:
        for result in pool.map(work, places):
            results.append(result)
            if asked.json:  # what is there after an hour is worth having
                asked.json.write_text(json.dumps([asdict(one) for one in results], indent=1), "utf-8")
    print(table(results))
    drawn = sum(one.draws for one in results)
    print(f"\n{len(results)} cells, {drawn:,} draws, seed {asked.seed}, {time.perf_counter() - begun:.0f} s")
    short = [one for one in worst(results) if one.coverage is not None and one.coverage < asked.least]
    for one in short:
        print(f"{one.kind} ({one.setting}) holds {one.coverage:.3f}, less than {asked.least}", file=sys.stderr)
    sys.exit(bool(short))


if __name__ == "__main__":
    main()
