"""What decisions are worth, in simulation, and what a million judgements take: ``python benchmarks/decide.py``.

A judge that is kinder to one of two policies, ten equal policies, labels that are looked at again and again, places of
policies, and whether the number of labels that is asked for is right. ``--draws`` says how many runs of each.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from perl_eval.metrics.policy_comparisons import Units, comparisons
from perl_eval.metrics.policy_decisions import Decided, decided, placed
from perl_eval.records import HumanLabel, Judgement, unit_of
from perl_eval.scoring import decide
from perl_eval.storage import parquet

FloatArray = np.ndarray
SKILLS = ((0.92, 0.70), (0.85, 0.88))
"""Sensitivity and specificity on the first policy and on the second."""
JUDGEMENTS, POLICIES = 1_000_000, 10


def units(truth: FloatArray, said: FloatArray, labelled: Sequence[int] | FloatArray) -> Units:
    """Return single answers of policies (rows) to items (columns), of which people labelled some columns."""
    policies, items = truth.shape
    known = np.full(truth.shape, np.nan)
    known[:, labelled] = truth[:, labelled]
    n = truth.size
    return Units(
        policies=["", *(f"p{place}" for place in range(policies))],
        first=np.repeat(np.arange(1, policies + 1), items),
        second=np.zeros(n, np.intp),
        item=np.tile(np.arange(items), policies),
        group=np.tile(np.arange(items), policies),
        worth=said.ravel().astype(np.float64),
        chance=np.full(n, np.nan),
        length=np.zeros(n),
        truth=known.ravel(),
        weight=np.ones(n),
        more=np.zeros((n, 0)),
        stratum=np.zeros((n, 0)),
    )


def judged(rng: np.random.Generator, truth: FloatArray, skills: Sequence[tuple[float, float]]) -> FloatArray:
    """Return what a judge says, with a sensitivity and a specificity for each policy."""
    right = np.array(skills)[:, :1], np.array(skills)[:, 1:]
    return np.where(truth, rng.random(truth.shape) < right[0], rng.random(truth.shape) > right[1])


def kinder(rng: np.random.Generator, items: int, labels: int, gap: float = -0.05) -> Units:
    """Return two policies that succeed on .55 + gap and .55 of the items, by a judge that is kinder to the first."""
    truth = rng.random((2, items)) < np.array([[0.55 + gap], [0.55]])
    return units(truth, judged(rng, truth, SKILLS), rng.choice(items, labels, replace=False))


def equal(rng: np.random.Generator, items: int, labels: int, policies: int = 10) -> Units:
    """Return equal policies whose answers to an item are alike, by a judge that treats each one differently."""
    truth = rng.random((policies, items)) < rng.beta(2, 2, items)
    skills = [(float(one), float(other)) for one, other in rng.uniform(0.7, 0.95, (policies, 2))]
    return units(truth, judged(rng, truth, skills), rng.choice(items, labels, replace=False))


def decisions(given: Units, **how: bool) -> list[Decided]:
    """Return what is decided of all comparisons."""
    return decided(comparisons(given), **how)


def of_a_kinder_judge(rng: np.random.Generator, draws: int) -> dict[str, float]:
    """Say how often the decision is for the wrong side, and how often the interval holds the truth."""
    wrong = held = alone = 0
    for _ in range(draws):
        (found,) = decisions(kinder(rng, 1000, 200))
        wrong += found.verdict == "better"
        assert found.corrected is not None
        assert found.alone_low is not None
        low, high = found.corrected.interval(0.95)
        held += low <= -0.05 <= high
        alone += found.alone_low > 0
    return {"wrong side": wrong / draws, "coverage": held / draws, "wrong by the judge alone": alone / draws}


def of_equal_policies(rng: np.random.Generator, draws: int) -> dict[str, float]:
    """Say how often any of 45 comparisons of equal policies is decided."""
    any_decided = sum(
        any(part.verdict != "not decided" for part in decisions(equal(rng, 1000, 200))) for _ in range(draws)
    )
    return {"family-wise error": any_decided / draws}


def of_looking(rng: np.random.Generator, draws: int) -> dict[str, float]:
    """Say how often equal policies are decided if one looks after every 25 labels, with and without ``anytime``."""
    wrong = [0, 0]
    for _ in range(draws):
        given = kinder(rng, 3000, 1000, 0.0)
        places = np.flatnonzero(np.isfinite(given.truth[:3000]))
        order = rng.permutation(places)
        for which, anytime in enumerate((False, True)):
            for labels in range(50, 1001, 25):
                hidden = order[labels:]
                truth = given.truth.copy()
                truth[hidden] = truth[hidden + 3000] = np.nan
                if decisions(replace(given, truth=truth), anytime=anytime)[0].verdict != "not decided":
                    wrong[which] += 1
                    break
    return {"decided for no reason": wrong[0] / draws, "decided for no reason, anytime": wrong[1] / draws}


def of_places(rng: np.random.Generator, draws: int) -> dict[str, float]:
    """Say how often the places of six policies, some equal, all hold."""
    rates, held = np.array([0.5, 0.5, 0.55, 0.55, 0.6, 0.7]), 0
    best = 1 + (rates[None] > rates[:, None]).sum(1)
    worst = len(rates) - (rates[None] < rates[:, None]).sum(1)
    for _ in range(draws):
        truth = rng.random((6, 1000)) < rates[:, None]
        skills = [(float(one), float(other)) for one, other in rng.uniform(0.7, 0.95, (6, 2))]
        found = comparisons(units(truth, judged(rng, truth, skills), rng.choice(1000, 300, replace=False)))
        places = {one.policy: one for one in placed(found, decided(found))}
        held += all(places[f"p{p}"].low <= best[p] and places[f"p{p}"].high >= worst[p] for p in range(len(rates)))
    return {"all places hold": held / draws}


def of_labels_needed(rng: np.random.Generator, draws: int) -> dict[str, float]:
    """Say how many labels are asked for where the true difference is seen, and how many decide in four of five runs."""
    gap, items, first = 0.1, 6000, 100
    asked = asked_of_the_truth(rng, draws, gap, items, first)
    low, high = first // 2, items
    while high - low > 20:
        middle = (low + high) // 2
        share = np.mean(
            [decisions(kinder(rng, items, middle, gap))[0].verdict == "better" for _ in range(max(draws, 400))]
        )
        low, high = (low, middle) if share >= 0.8 else (middle, high)
    return {"labels asked for": asked, "labels needed": float(high)}


def asked_of_the_truth(rng: np.random.Generator, draws: int, gap: float, items: int, first: int) -> float:
    """Return how many labels are asked for in all where the difference seen is the true one."""
    from perl_eval.stats.label_plans import labels_to_decide

    wanted = []
    for _ in range(draws):
        shown = decisions(kinder(rng, items, first, gap))[0].corrected
        assert shown is not None
        more = labels_to_decide(replace(shown, value=gap), level=0.95, power=0.8)
        wanted.append(first + (more or 0))
    return float(np.median(wanted))


def million(folder: Path) -> str:
    """Write a million judgements of ten policies with 10,000 labels, decide them, and say what that took."""
    labels = write(folder)
    begun, spent = time.perf_counter(), time.process_time()
    _, said = decide.run(folder / "judged", folder / "decided", labels=labels)
    seconds, worked = time.perf_counter() - begun, time.process_time() - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return f"{len(said)} comparisons in {seconds:.1f} s ({worked:.1f} s of work), peak memory {peak:.2f} GiB"


def write(folder: Path) -> Path:
    """Write the judgements and labels."""
    rng, labels = np.random.default_rng(0), []
    schema = parquet.schema_of(Judgement)
    (folder / "judged").mkdir()
    with pq.ParquetWriter(folder / "judged" / "judgements.parquet", schema, compression="zstd") as writer:
        for start in range(0, JUDGEMENTS, 50_000):
            table = pa.table(columns(rng, start, 50_000, schema), schema=schema)
            writer.write_table(table)
            drawn = table.select(["a", "b", "item"]).take(rng.choice(50_000, 500, replace=False))
            for a, b, item in zip(*(drawn[name].to_pylist() for name in ("a", "b", "item")), strict=True):
                labels.append(HumanLabel(unit_of(a, b), item, item, "ann", ("win", "loss", "tie")[len(labels) % 3]))
    parquet.write(folder / "people" / "labels.parquet", labels, HumanLabel)
    return folder / "people"


def columns(rng: np.random.Generator, start: int, n: int, schema: pa.Schema) -> dict[str, pa.Array]:
    """Return some judgements in columns."""
    pairs = list(combinations(range(POLICIES), 2))
    item, pair = np.divmod(np.arange(start, start + n), len(pairs))
    items = [f"item{place}" for place in item]
    lengths = rng.integers(50, 400, n).tolist()
    known = {
        "id": [f"j{place}" for place in range(start, start + n)],
        "kind": ["pairwise"] * n,
        "item": items,
        "group": items,
        "a": [f"{name}-{which}-a" for name, which in zip(items, pair, strict=True)],
        "b": [f"{name}-{which}-b" for name, which in zip(items, pair, strict=True)],
        "policy_a": [f"p{pairs[which][0]}" for which in pair],
        "policy_b": [f"p{pairs[which][1]}" for which in pair],
        "text_a": ["x" * length for length in lengths],
        "text_b": ["y" * length for length in reversed(lengths)],
        "outcome": np.array(["win", "loss", "split", "tie"])[rng.choice(4, n, p=[0.4, 0.35, 0.15, 0.1])].tolist(),
        "judge": ["judge"] * n,
        "simulated": [True] * n,
        "p_a": rng.random(n).tolist(),
    }

    def empty(field: pa.Field) -> list[object]:
        return [[] if pa.types.is_list(field.type) else None if field.nullable else ""] * n

    return {field.name: pa.array(known.get(field.name, empty(field)), field.type) for field in schema}


def main() -> None:
    """Run all and print what they say."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--draws", type=int, default=2000)
    asked.add_argument("--seed", type=int, default=0)
    given = asked.parse_args()
    for name, line in lines(given.draws, given.seed):
        print(f"{name}: {line}", flush=True)


def lines(draws: int, seed: int) -> Iterator[tuple[str, object]]:
    """Yield what each simulation says, then what a million judgements take."""
    with tempfile.TemporaryDirectory() as place:
        yield "a million judgements", million(Path(place))
    for name, simulation in (
        ("a judge kinder to one policy", of_a_kinder_judge),
        ("ten equal policies", of_equal_policies),
        ("looking after every 25 labels", of_looking),
        ("places of six policies", of_places),
        ("labels needed", of_labels_needed),
    ):
        yield name, simulation(np.random.default_rng(seed), draws)


if __name__ == "__main__":
    main()
