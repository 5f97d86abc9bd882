"""One session with a judge: how it is to judge, what, and what goes on the run card about it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from perl_eval import progress, render, runs, tables
from perl_eval.errors import UserError
from perl_eval.judges import matching, material
from perl_eval.judges.ask import AskOptions, Tally, ask
from perl_eval.judges.contest import Contestants, judgements, plan
from perl_eval.judges.ledger import Ledger
from perl_eval.judges.protocol import Judge
from perl_eval.judges.recall import Recall
from perl_eval.ordering import Ordered
from perl_eval.records import Ballot, Completion, Judgement, Question

if TYPE_CHECKING:
    from perl_eval.judges.batch import BatchOptions

__all__ = [
    "LEDGER",
    "JudgeOptions",
    "Put",
    "Queue",
    "arguments_of",
    "filled",
    "inputs_of",
    "judged",
    "putting",
    "queue_of",
    "scratch_in",
    "template_of",
]

_EXAMPLES = 3
_SCRATCH = ".scratch-"
LEDGER = "ledger.sqlite"
"""The ledger's name inside an output folder."""


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """How to judge.

    Attributes:
        prompt: Name of the prompt; what it asks, pairs or single answers, must fit what is given.
        prompts: Folder of the user's own prompts, which win over the built-in ones.
        ledger: The ledger; by default one inside the output folder.
        seed: Of the order in which pairs are asked; it changes no outcome.
        limit: Ask this many pairs (or answers) at most: a random sample.
        reasoning: Ask for reasons before the verdict.
        rubric: File of what to judge by, for a prompt with a place for it.
        references: Known good answers by item, see `material`, for a prompt with a place for them.
        asking: Concurrency and retries.
        batch: Ask through the Batch API; which way questions go changes no judgement.
        stop_when_decided: End the run once an anytime 95 % interval of the rate leaves 1/2 out.
        half_width: With it: or once that interval is no wider than twice this.
    """

    prompt: str
    prompts: Path | None = None
    ledger: Path | None = None
    seed: int = 0
    limit: int | None = None
    reasoning: bool = False
    rubric: Path | None = None
    references: Path | None = None
    asking: AskOptions = field(default_factory=AskOptions)
    batch: BatchOptions | None = None
    stop_when_decided: bool = False
    half_width: float | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UserError(f"limit is {self.limit}", "give a number of at least 1")


def template_of(b: Path | None, options: JudgeOptions) -> render.Template:
    """Load the prompt and check that it asks about as many contestants as there are."""
    template = render.load(options.prompt, options.prompts)
    if (template.kind == "pairwise") != (b is not None):
        raise UserError(
            f"prompt {template.name!r} asks a {template.kind} question, and completions of "
            f"{'two contestants' if b else 'one contestant'} are given",
            "give two files for a pairwise prompt, one for any other",
        )
    return material.given(template, rubric=options.rubric, references=options.references)


def arguments_of(judge: Judge, template: render.Template, options: JudgeOptions) -> dict[str, object]:
    """Return what shapes the output, for the run card."""
    return {
        "judge": {"door": judge.door, "model": judge.model, "parameters": dict(judge.parameters)},
        "prompt": template.name,
        "prompt_sha256": template.sha256,
        "limit": options.limit,
        "reasoning": options.reasoning,
        "rubric_sha256": template.rubric_sha256,
        "votes": options.asking.votes,
        "max_requests": options.asking.max_requests,
        "max_cost_usd": options.asking.max_cost_usd,
        "stop_when_decided": options.stop_when_decided,
        "half_width": options.half_width,
    }


def inputs_of(a: Path, b: Path | None, options: JudgeOptions) -> dict[str, Path]:
    """Return the inputs by name, for the run card."""
    given = {"a": a, "b": b, "rubric": options.rubric, "references": options.references}
    return {name: path for name, path in given.items() if path is not None}


class Queue:
    """What to judge, in the order to ask, read from its files as it is needed; can be gone through more than once.

    Args:
        sides: The completions of each contestant, in that order.
        pictures: Where contestant a's come from: its pictures lie beside it.
    """

    def __init__(self, sides: Sequence[Ordered[Completion]], pictures: Path) -> None:
        self._sides, self._pictures = sides, pictures

    def __len__(self) -> int:
        return len(self._sides[0])

    def groups(self) -> list[str]:
        """Return the group of each unit, in order."""
        return [group for table in self._sides[0].tables() for group in table.column("group").to_pylist()]

    def __iter__(self) -> Iterator[Contestants]:
        for unit in zip(*self._sides, strict=True):
            yield material.located(unit, self._pictures)


def queue_of(
    a: Path, b: Path | None, template: render.Template, options: JudgeOptions, scratch: Path, run: Path | None = None
) -> tuple[Queue, dict[str, object]]:
    """Return what to judge and what was left over when matching.

    Args:
        a: Completions of contestant a.
        b: Those of contestant b, if there is one.
        template: What will be asked.
        options: How to judge: the order to ask in, and how many.
        scratch: An empty folder for as long as the queue is used.
        run: A finished run: take what it judged, in the order of its judgements.

    Raises:
        UserError: Nothing matches, prompts differ, an item lacks its reference, or the inputs are not those of the run.
        DataError: An input does not match its card, or is no table of completions.
    """
    files = [runs.locate(path, Completion) for path in (a, b) if path is not None]
    for path in files:
        runs.fingerprint(path)
    indices = [matching.index(path) for path in files]
    if not len(indices[0]) and b is None:
        raise UserError(f"{a} holds no completions", "sample some first")
    found = matching.match(indices[0], indices[1] if b is not None else None)
    if run is None:
        units = matching.drawn(found.units, options.seed, options.limit)
    else:
        judged = tables.batches(runs.locate(run, Judgement), Judgement, ("a", "b"))
        units = matching.stored(found.units, pa.Table.from_batches(judged, matching.JUDGED))
    material.refuse_bare(units["item"].to_pylist(), template, options.references)
    sides = []
    for name, path, rows in zip("ab", files, indices, strict=False):
        (scratch / name).mkdir()
        sides.append(Ordered(path, Completion, matching.placed(units[f"row_{name}"], len(rows)), scratch / name))
    if b is not None:
        matching.refuse_other_prompts(*sides)
    examples = [*found.only_a[:_EXAMPLES], *found.only_b[:_EXAMPLES]]
    left_over = {"unmatched_a": len(found.only_a), "unmatched_b": len(found.only_b), "unmatched_examples": examples}
    return Queue(sides, a), left_over if b is not None else {}


@contextlib.contextmanager
def scratch_in(folder: Path) -> Iterator[Path]:
    """Make a hidden folder for as long as the block lasts, and sweep away what killed processes left."""
    for old in folder.glob(f"{_SCRATCH}*"):
        process = old.name.removeprefix(_SCRATCH)
        if process.isdecimal() and not tables.is_running(int(process)):
            shutil.rmtree(old, ignore_errors=True)
    scratch = folder / f"{_SCRATCH}{os.getpid()}"
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


Put = Callable[[Iterable[Question]], Generator[Ballot, None, None]]
"""What turns questions into ballots, in order."""


def putting(judge: Judge, ledger: Ledger, options: JudgeOptions, tally: Tally) -> Put:
    """Return what puts questions to the judge; after a batch, what it left without an answer stays so."""
    asking = replace(options.asking, offline=options.asking.offline or options.batch is not None)
    return lambda questions: ask(questions, judge, ledger, options=asking, tally=tally)


def filled(
    queue: Iterable[Contestants],
    judge: Judge,
    template: render.Template,
    *,
    ledger: Ledger,
    folder: Path,
    options: JudgeOptions,
) -> dict[str, object]:
    """Have a queue answered by batches, if that was asked for, into the ledger; returns what became of it."""
    if options.batch is None:
        return {}
    from perl_eval.judges import batch

    def questions() -> Iterator[Question]:
        return plan(queue, judge, template, reasoning=options.reasoning)

    found = batch.fill(questions, judge, ledger, folder, asking=options.asking, options=options.batch)
    return {"batch": found}


def judged(
    queue: Queue | Sequence[Contestants],
    judge: Judge,
    template: render.Template,
    *,
    put: Put | Recall,
    options: JudgeOptions,
    tally: Tally | None = None,
) -> Generator[Judgement, None, None]:
    """Judge a queue in its order, behind a progress bar that tells of money spent and pairs without a verdict."""
    unjudged, spent = 0, tally or Tally()

    def note() -> str:
        parts = [f"{unjudged} unjudged"] if unjudged else []
        if spent.cost_usd:
            parts.append(f"{spent.cost_usd:.2f} USD")
        return ", ".join(parts)

    votes = options.asking.votes
    if isinstance(put, Recall):
        done = put.judgements(queue, template, reasoning=options.reasoning, votes=votes)
    else:
        done = judgements(queue, judge, template, put=put, reasoning=options.reasoning, votes=votes)
    with contextlib.closing(done):
        for judgement in progress.track(done, f"judging with {judge.model}", total=len(queue), note=note):
            unjudged += judgement.outcome == "unjudged"
            yield judgement
