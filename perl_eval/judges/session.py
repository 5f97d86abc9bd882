"""One session with a judge: how it is to judge, what, and what goes on the run card about it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perl_eval import progress, render, runs
from perl_eval.errors import UserError
from perl_eval.judges import material
from perl_eval.judges.ask import AskOptions, Tally, ask
from perl_eval.judges.contest import Contestants, judgements, pairs, shuffled
from perl_eval.judges.ledger import Ledger
from perl_eval.judges.protocol import Judge
from perl_eval.records import Ballot, Completion, Judgement, Question

__all__ = ["LEDGER", "JudgeOptions", "Put", "arguments_of", "inputs_of", "judged", "putting", "queue_of", "template_of"]

_EXAMPLES = 3
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
    }


def inputs_of(a: Path, b: Path | None, options: JudgeOptions) -> dict[str, Path]:
    """Return the inputs by name, for the run card."""
    given = {"a": a, "b": b, "rubric": options.rubric, "references": options.references}
    return {name: path for name, path in given.items() if path is not None}


def queue_of(a: Path, b: Path | None, options: JudgeOptions) -> tuple[Sequence[Contestants], dict[str, object]]:
    """Return what to judge, in the order to ask, and what was left over when matching."""
    ours = runs.read(a, Completion)
    if b is None:
        if not ours:
            raise UserError(f"{a} holds no completions", "sample some first")
        queue = shuffled([(completion,) for completion in ours], options.seed)[: options.limit]
        return material.complete(queue, options.references, pictures=a), {}
    matched, only_a, only_b = pairs(ours, runs.read(b, Completion))
    queue = shuffled(matched, options.seed)[: options.limit]
    return material.complete(queue, options.references, pictures=a), {
        "unmatched_a": len(only_a),
        "unmatched_b": len(only_b),
        "unmatched_examples": [*only_a[:_EXAMPLES], *only_b[:_EXAMPLES]],
    }


Put = Callable[[Iterable[Question]], Generator[Ballot, None, None]]
"""What turns questions into ballots, in order."""


def putting(judge: Judge, ledger: Ledger, options: JudgeOptions, tally: Tally) -> Put:
    """Return what puts questions to the judge."""
    return lambda questions: ask(questions, judge, ledger, options=options.asking, tally=tally)


def judged(
    queue: Sequence[Contestants], judge: Judge, template: render.Template, *, put: Put, options: JudgeOptions
) -> list[Judgement]:
    """Judge a queue behind a progress bar; what comes back is sorted by item."""
    done = judgements(queue, judge, template, put=put, reasoning=options.reasoning, votes=options.asking.votes)
    shown = progress.track(done, f"judging with {judge.model}", total=len(queue))
    return sorted(shown, key=lambda judgement: (judgement.item, judgement.id))
