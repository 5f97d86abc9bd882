"""How to judge, and what of it goes on the run card."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from perl_eval.checks import at_least_one, between
from perl_eval.errors import UserError
from perl_eval.judges import prompting
from perl_eval.judges.protocol import Judge
from perl_eval.judges.readers import PatternReader
from perl_eval.judging import context
from perl_eval.judging.engine.ask import AskOptions

if TYPE_CHECKING:
    from perl_eval.judging.engine.batch_api import BatchOptions

__all__ = ["JudgeOptions", "arguments_of", "inputs_of", "pattern_of", "template_of"]


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
        at_least_one(self, "limit")
        between(0, 0.5, self, "half_width", such_as=0.05)


def template_of(b: Path | None, options: JudgeOptions) -> prompting.Template:
    """Load the prompt and check that it asks about as many contestants as there are."""
    template = prompting.load(options.prompt, options.prompts)
    if (template.kind == "pairwise") != (b is not None):
        raise UserError(
            f"prompt {template.name!r} asks a {template.kind} question, and completions of "
            f"{'two contestants' if b else 'one contestant'} are given",
            "give two files for a pairwise prompt, one for any other",
        )
    return context.given(template, rubric=options.rubric, references=options.references)


def arguments_of(judge: Judge, template: prompting.Template, options: JudgeOptions) -> dict[str, object]:
    """Return what shapes the output, for the run card."""
    return {
        "judge": {"door": judge.backend, "model": judge.model, "parameters": dict(judge.parameters)},
        "prompt": template.name,
        "prompt_sha256": template.sha256,
        "limit": options.limit,
        "reasoning": options.reasoning,
        "rubric_sha256": template.rubric_sha256,
        "votes": options.asking.votes,
        "stop_when_decided": options.stop_when_decided,
        "half_width": options.half_width,
        **pattern_of(judge),
    }


def pattern_of(judge: Judge) -> dict[str, object]:
    """Return the user's own expression for verdicts, for the run card; nothing where there is none."""
    return {"verdict_pattern": judge.reader.pattern} if isinstance(judge.reader, PatternReader) else {}


def inputs_of(a: Path, b: Path | None, options: JudgeOptions) -> dict[str, Path]:
    """Return the inputs by name, for the run card."""
    given = {"a": a, "b": b, "rubric": options.rubric, "references": options.references}
    return {name: path for name, path in given.items() if path is not None}
