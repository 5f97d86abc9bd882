"""The verb ``judge``: two completions -> a judgement, asked in both orders; or one completion -> yes or no.

Plan (pure) -> ask (the only input and output) -> read (pure) -> decide (pure). A contestant wins only if it is
preferred in both orders. Judges without positions are asked once a pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from perl_eval import progress, render, runs
from perl_eval.errors import UserError
from perl_eval.judges.ask import AskOptions, Tally, ask
from perl_eval.judges.contest import Contestants, Decision, Pairs, decide, judgements, pairs, plan, shuffled
from perl_eval.judges.ledger import Ledger
from perl_eval.judges.protocol import Judge
from perl_eval.records import Completion, Judgement

__all__ = ["Contestants", "Decision", "JudgeOptions", "Pairs", "decide", "judgements", "pairs", "plan", "run"]

_EXAMPLES = 3
LEDGER = "ledger.sqlite"


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
        asking: Concurrency and retries.
    """

    prompt: str
    prompts: Path | None = None
    ledger: Path | None = None
    seed: int = 0
    limit: int | None = None
    reasoning: bool = False
    asking: AskOptions = field(default_factory=AskOptions)


def run(a: Path, b: Path | None, out: Path, *, judge: Judge, options: JudgeOptions) -> Path:
    """Judge the completions of one file against those of another, or alone.

    Args:
        a: Completions of contestant a: a run folder, or its file.
        b: Those of contestant b, or None to judge those of a alone, yes or no.
        out: Output folder; judgements come sorted by item. If it holds an unfinished run of the same command, that
            goes on.
        judge: Whom to ask.
        options: How to judge.

    Returns:
        The output folder.

    Raises:
        UserError: The prompt asks for something else, nothing matches, or the judge will never answer.
        DataError: An input does not match its card, or is no table of completions.
    """
    template = render.load(options.prompt, options.prompts)
    wanted = "pairwise" if b is not None else "yes_no"
    if template.kind != wanted:
        raise UserError(
            f"prompt {template.name!r} asks a {template.kind} question, and completions of "
            f"{'two contestants' if b else 'one contestant'} are given",
            "give two files for a pairwise prompt, one for a yes_no prompt",
        )
    if options.limit is not None and options.limit < 1:
        raise UserError(f"limit is {options.limit}", "give a number of at least 1")
    with runs.start(
        out,
        verb="judge",
        arguments=_arguments(judge, template, options),
        seed=options.seed,
        inputs={"a": a, "b": b} if b is not None else {"a": a},
        simulated=judge.simulated,
    ) as started:
        if started.done:
            return started.folder
        units, left_over = _units(a, b)
        tally = Tally()
        queue = shuffled(units, options.seed)[: options.limit]
        with Ledger(options.ledger or started.folder / LEDGER) as ledger:
            judged = judgements(
                queue,
                judge,
                template,
                put=lambda questions: ask(questions, judge, ledger, options=options.asking, tally=tally),
                reasoning=options.reasoning,
            )
            done = sorted(
                progress.track(judged, f"judging with {judge.model}", total=len(queue)),
                key=lambda judgement: (judgement.item, judgement.id),
            )
        started.write(done, Judgement)
        counts = Counter(judgement.outcome for judgement in done)
        started.notes.update({"judged": len(done), "outcomes": dict(counts), **left_over, "asking": asdict(tally)})
        if tally.stopped:
            started.notes["not_asked"] = len(queue) - len(done)
        return started.folder


def _arguments(judge: Judge, template: render.Template, options: JudgeOptions) -> dict[str, object]:
    return {
        "judge": {"door": judge.door, "model": judge.model, "parameters": dict(judge.parameters)},
        "prompt": template.name,
        "prompt_sha256": template.sha256,
        "limit": options.limit,
        "reasoning": options.reasoning,
        "max_requests": options.asking.max_requests,
        "max_cost_usd": options.asking.max_cost_usd,
    }


def _units(a: Path, b: Path | None) -> tuple[Sequence[Contestants], dict[str, object]]:
    ours = runs.read(a, Completion)
    if b is None:
        if not ours:
            raise UserError(f"{a} holds no completions", "sample some first")
        return [(completion,) for completion in ours], {}
    matched, only_a, only_b = pairs(ours, runs.read(b, Completion))
    return matched, {
        "unmatched_a": len(only_a),
        "unmatched_b": len(only_b),
        "unmatched_examples": [*only_a[:_EXAMPLES], *only_b[:_EXAMPLES]],
    }
