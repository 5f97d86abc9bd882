"""What a dump of a trainer says: its bias with interval, and the formula whose expected gradient is nearest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from perl_eval import figure_names as named
from perl_eval.conformance.diagnosis import faults_of, formulas_of, nearest_formula
from perl_eval.conformance.dump_file import read_dump
from perl_eval.conformance.loss_verdicts import judge_biases
from perl_eval.conformance.measured_bias import Bias, compare
from perl_eval.conformance.objective_list import exact_gradient
from perl_eval.records import About, Estimate
from perl_eval.storage import run_folder

__all__ = ["DUMP_FILE", "DumpFindings", "check_dump", "run_dump"]

DUMP_FILE = "dump.json"


@dataclass(frozen=True, slots=True)
class DumpFindings:
    """What was found of a dump.

    Attributes:
        objective: What the trainer claims.
        verdict: See `perl_eval.conformance.loss_verdicts.Verdict`.
        sentence: What it means.
        bias: Of the mean gradient.
        batches: Batches of the dump.
        unseen: Probability of the sequences that do not occur in it.
        formula: The nearest known formula.
        faults: What is wrong with it for the objective.
        others: How many other formulas the noise does not tell from it.
        formula_left: How far the nearest is, relative to the measured gradient.
        noise: Standard error of the measured gradient, relative to its norm.
    """

    objective: str
    verdict: str
    sentence: str
    bias: Bias
    batches: int
    unseen: float
    formula: str
    faults: tuple[str, ...]
    others: int
    formula_left: float
    noise: float


def check_dump(path: Path) -> DumpFindings:
    """Hold the gradients of a dump against the exact gradient of the objective that it claims.

    Args:
        path: See `perl_eval.conformance.dump_file`.

    Raises:
        UserError: There is no such file.
        DataError: It is not as it has to be.
    """
    dump = read_dump(path)
    bias = compare(dump.law, exact_gradient(dump.language, dump.objective))
    size = max(float(dump.law.mean.norm()), 1e-12)
    noise = float(dump.law.error.norm()) / size
    first, _, left, also = nearest_formula(dump.law.mean.flatten(), formulas_of((dump.language,)), noise=noise)
    verdict = judge_biases([(path.name, bias)], dump.objective)
    right = [one for one in (first, *also) if not faults_of(one, dump.objective)]
    formula = right[0] if right and verdict.word == "unbiased" else first
    return DumpFindings(
        objective=dump.objective,
        verdict=verdict.word,
        sentence=verdict.sentence,
        bias=bias,
        batches=dump.law.batches,
        unseen=dump.unseen,
        formula=formula.words,
        faults=faults_of(formula, dump.objective),
        others=len(also),
        formula_left=left,
        noise=noise,
    )


def run_dump(path: Path, out: Path) -> Path:
    """Check a dump, and write ``dump.json`` and ``estimates.parquet``.

    Args:
        path: The dump.
        out: Output folder.
    """
    with run_folder.start(out, verb="conformance", arguments={"dump": path}, inputs={"dump": path}) as going:
        if going.done:
            return going.folder
        found = check_dump(path)
        (going.folder / DUMP_FILE).write_text(json.dumps(asdict(found), indent=1) + "\n", "utf-8")
        going.write(_estimates(found, path.name), Estimate)
    return going.folder


def _estimates(found: DumpFindings, name: str) -> Iterator[Estimate]:
    about, bias = About(policy=name, against=found.objective), found.bias
    low, high = max(0.0, bias.largest - bias.half_width), bias.largest + bias.half_width
    yield Estimate(named.GRADIENT_BIAS, bias.largest, low, high, found.batches, 0, "batches of a dump", about=about)
    values = {
        named.GRADIENT_LEFT: bias.left,
        named.GRADIENT_SCALE: bias.scale,
        named.GRADIENT_COSINE: bias.cosine,
    }
    for figure, value in values.items():
        yield Estimate(figure, value, None, None, found.batches, 0, "batches of a dump", about=about)
