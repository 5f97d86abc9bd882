"""The verb ``conformance``: losses of this package and of adapters against the exact gradients of listed languages."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from perl_eval import figure_names as named
from perl_eval.checks import at_least_one
from perl_eval.conformance.adapter_files import checked
from perl_eval.conformance.batch import Estimator
from perl_eval.conformance.cell_work import fill, named_estimators
from perl_eval.conformance.conformance_page import page, sentence
from perl_eval.conformance.diagnosis import diagnose
from perl_eval.conformance.dump_check import run_dump
from perl_eval.conformance.kept_cells import KeptCells
from perl_eval.conformance.listed_language import WorldShape
from perl_eval.conformance.loss_verdicts import EstimatorFindings, judge_estimator
from perl_eval.conformance.measured_bias import WorldFindings, measure
from perl_eval.conformance.objective_list import MEANINGS_OF_OBJECTIVES
from perl_eval.conformance.paper_claims import Claim, measured_claims
from perl_eval.conformance.suite_worlds import CORNER, WORLDS
from perl_eval.conformance.training_end import train_to_the_end
from perl_eval.errors import UserError
from perl_eval.records import About, Estimate
from perl_eval.storage import run_folder
from perl_eval.storage.local_processes import LocalProcesses
from perl_eval.storage.progress import track

__all__ = ["JSON_FILE", "PAGE_FILE", "ConformanceOptions", "run"]

JSON_FILE = "conformance.json"
PAGE_FILE = "conformance.md"


@dataclass(frozen=True, slots=True)
class ConformanceOptions:
    """What is measured.

    Attributes:
        adapters: Python files with a function ``estimators() -> list[Estimator]``.
        only: Patterns of names such as ``perl-eval grpo*``; none for all.
        corner: Two worlds, without the end of training: under a minute.
        dump: A dump of a trainer, see `perl_eval.conformance.dump_file`; it alone is checked then.
        processes: How many measure at once; 1 for none but this one.
    """

    adapters: tuple[Path, ...] = ()
    only: tuple[str, ...] = ()
    corner: bool = False
    dump: Path | None = None
    processes: int = 1

    def __post_init__(self) -> None:
        at_least_one(self, "processes")
        if self.dump is not None and (self.adapters or self.only or self.corner):
            raise UserError("a dump is checked alone", "leave adapter, only and corner out")

    @property
    def worlds(self) -> tuple[WorldShape, ...]:
        """The worlds that are measured in."""
        return CORNER if self.corner else WORLDS


def _chosen(options: ConformanceOptions) -> list[Estimator]:
    found = named_estimators(options.adapters)
    kept = [one for one in found if not options.only or any(fnmatch.fnmatchcase(one.name, p) for p in options.only)]
    if not kept:
        raise UserError(f"no estimator is called {', '.join(options.only)}", "leave --only out to see all names")
    return checked(kept)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: tensors are so small that several are slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(out: Path, *, options: ConformanceOptions | None = None) -> Path:
    """Measure estimators, and write ``conformance.json``, ``conformance.md`` and ``estimates.parquet``.

    Args:
        out: Output folder; the same command goes on in the same one.
        options: What is measured.

    Returns:
        The output folder.

    Raises:
        UserError: An adapter cannot be read, or an estimator gives no finite loss.
    """
    options = options or ConformanceOptions()
    if options.dump is not None:
        return run_dump(options.dump, out)
    inputs = {f"adapter {place + 1}": path for place, path in enumerate(options.adapters)}
    chosen = _chosen(options)
    told = {"only": list(options.only), "corner": options.corner}
    told["versions"] = sorted({f"{one.package} {one.version}" for one in chosen})
    with run_folder.start(out, verb="conformance", arguments=told, inputs=inputs) as going, _one_thread():
        if going.done:
            return going.folder
        cells = KeptCells(going.folder / run_folder.CHECKPOINT)
        if options.processes > 1:
            _fill(cells.folder, chosen, options)
        found = [_measured(one, options, cells) for one in track(chosen, "estimators")]
        claims = measured_claims()
        content = _content(found, claims, options)
        (going.folder / JSON_FILE).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
        (going.folder / PAGE_FILE).write_text(page(found, claims, options.worlds), "utf-8")
        going.write([estimate for one in found for estimate in _estimates(one)], Estimate)
        words = [judge_estimator(one.worlds, one.objective).word for one in found]
        going.notes["verdicts"] = {word: words.count(word) for word in sorted({*words})}
    return going.folder


def _fill(folder: Path, chosen: Sequence[Estimator], options: ConformanceOptions) -> None:
    """Measure all parts by several processes."""
    fill(
        folder,
        chosen,
        options.worlds,
        adapters=options.adapters,
        trained=not options.corner,
        executor=LocalProcesses(options.processes),
    )


def _measured(estimator: Estimator, options: ConformanceOptions, cells: KeptCells) -> EstimatorFindings:
    worlds = []
    for shape in options.worlds:
        worlds.append(cells.world(estimator, f"{shape}", lambda shape=shape: measure(estimator, shape)))  # type: ignore[misc]
    return EstimatorFindings(
        estimator.name,
        estimator.package,
        estimator.version,
        estimator.objective,
        estimator.formula,
        tuple(worlds),
        cells.diagnosis(estimator, lambda: diagnose(estimator)),
        None if options.corner else cells.end(estimator, lambda: train_to_the_end(estimator)),
    )


def _content(
    found: Sequence[EstimatorFindings], claims: Sequence[Claim], options: ConformanceOptions
) -> dict[str, object]:
    estimators = []
    for one in found:
        verdict = judge_estimator(one.worlds, one.objective)
        estimators.append({**asdict(one), "verdict": verdict.word, "sentence": sentence(one)})
    return {
        "objectives": dict(MEANINGS_OF_OBJECTIVES),
        "worlds": [asdict(shape) for shape in options.worlds],
        "estimators": estimators,
        "claims": [asdict(claim) for claim in claims],
    }


def _estimates(one: EstimatorFindings) -> Iterator[Estimate]:
    for world in one.worlds:
        yield from _of_world(one, world)
    if one.end is None:
        return
    about = About(policy=one.name, slice=one.end.world)
    values = {
        named.KL_METHOD_TARGET: one.end.kl_to_target,
        named.KL_TARGET_METHOD: one.end.kl_from_target,
        named.KL_METHOD_PRIOR: one.end.kl_to_prior,
        named.ENTROPY: one.end.entropy,
        "reward": one.end.reward,
    }
    method = f"exact, after {one.end.steps} updates on the expected gradient"
    for name, value in values.items():
        yield Estimate(name, value, None, None, one.end.steps, 0, method, about=about)


def _of_world(one: EstimatorFindings, world: WorldFindings) -> Iterator[Estimate]:
    about, bias = About(policy=one.name, against=one.objective, slice=world.world), world.bias
    method = f"{'all' if world.listed else 'drawn'} batches"
    low, high = (
        (None, None) if world.listed else (max(0.0, bias.largest - bias.half_width), bias.largest + bias.half_width)
    )
    yield Estimate(named.GRADIENT_BIAS, bias.largest, low, high, world.batches, 0, method, about=about)
    values = {
        named.GRADIENT_LEFT: bias.left,
        named.GRADIENT_SCALE: bias.scale,
        named.GRADIENT_COSINE: bias.cosine,
        named.GRADIENT_VARIANCE: world.variance,
    }
    if world.after:
        values |= {named.PADDING_CHANGE: world.padding, named.MISSING_END_CHANGE: world.missing_ends}
    for name, value in values.items():
        yield Estimate(name, value, None, None, world.batches, 0, method, about=about)
    for updates, old in world.after.items():
        when = About(policy=one.name, against=one.objective, slice=world.world, at=float(updates), unit="updates")
        yield Estimate(named.GRADIENT_BIAS_OLD, old.largest, None, None, world.batches, 0, method, about=when)
