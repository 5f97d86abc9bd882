"""The verb ``judge``: two completions -> a judgement, asked in both orders; or one completion -> yes or no.

Plan (pure) -> ask (the only input and output) -> read (pure) -> decide (pure). A contestant wins only if it is
preferred in both orders. Judges without positions are asked once a pair.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from perl_eval import progress, render, runs
from perl_eval.errors import UserError
from perl_eval.judges.ask import AskOptions, Tally, ask
from perl_eval.judges.ledger import Ledger
from perl_eval.judges.protocol import Judge
from perl_eval.records import Ballot, Completion, Judgement, Order, Outcome, Question, digest

__all__ = ["Decision", "JudgeOptions", "Pairs", "decide", "pairs", "plan", "run"]

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


class Decision(NamedTuple):
    """What some ballots come to; see `decide`."""

    outcome: Outcome
    p_a: float | None
    reason: str | None


class Pairs(NamedTuple):
    """Matched completions, and the ids of those left over."""

    matched: list[tuple[Completion, Completion]]
    only_a: list[str]
    only_b: list[str]


# Which contestant a position is, by order. A judge without positions is shown a first.
_CONTESTANT: dict[Order, dict[str, Literal["a", "b"]]] = {
    "ab": {"first": "a", "second": "b"},
    "ba": {"first": "b", "second": "a"},
    "none": {"first": "a", "second": "b"},
}
_SINGLE = {"yes", "no"}


def decide(ballots: Sequence[Ballot]) -> Decision:
    """Decide one judgement from its ballots: one of either order, or one without order.

    Win or loss needs both orders. ``p_a`` is the mean over the orders of the probability that a is preferred (or of
    yes), ties counted half; None if a ballot has none. A missing verdict leaves the pair unjudged, whatever the other
    ballot says.

    Raises:
        ValueError: The ballots do not belong together.
    """
    orders = [ballot.order for ballot in ballots]
    if sorted(orders) not in (["ab", "ba"], ["none"]) or (len(ballots) > 1 and _SINGLE & {b.verdict for b in ballots}):
        raise ValueError(f"ballots {[(ballot.order, ballot.verdict) for ballot in ballots]} are no judgement")
    reasons = [ballot.reason or "no verdict" for ballot in ballots if ballot.verdict is None]
    if reasons:
        return Decision("unjudged", None, "; ".join(dict.fromkeys(reasons)))
    given = [
        (1.0 - ballot.p_first if ballot.order == "ba" else ballot.p_first)
        for ballot in ballots
        if ballot.p_first is not None
    ]
    p_a = sum(given) / len(given) if len(given) == len(ballots) else None
    verdicts = {ballot.verdict for ballot in ballots}
    if verdicts & _SINGLE:
        return Decision("yes" if "yes" in verdicts else "no", p_a, None)
    preferred = {_CONTESTANT[b.order].get(b.verdict, "tie") if b.verdict else "tie" for b in ballots}
    outcomes: dict[frozenset[str], Outcome] = {
        frozenset({"a"}): "win",
        frozenset({"b"}): "loss",
        frozenset({"tie"}): "tie",
        frozenset({"a", "b"}): "split",
    }
    return Decision(outcomes.get(frozenset(preferred), "mixed"), p_a, None)


def pairs(a: Iterable[Completion], b: Iterable[Completion]) -> Pairs:
    """Match completions of the same item and draw.

    Raises:
        UserError: Nothing matches, one side has two completions of one item and draw, or a pair's prompts differ.
    """
    ours, theirs = _by_item(a, "A"), _by_item(b, "B")
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        raise UserError(
            f"no item is in both: A has {_named(ours)}, B has {_named(theirs)}",
            "sample both from the same prompts, with the same number of draws",
        )
    for key in shared:
        if ours[key].prompt != theirs[key].prompt:
            raise UserError(
                f"item {key[0]!r} has one prompt in A and another in B", "sample both from the same prompts"
            )
    return Pairs(
        [(ours[key], theirs[key]) for key in shared],
        sorted(ours[key].id for key in ours.keys() - theirs.keys()),
        sorted(theirs[key].id for key in theirs.keys() - ours.keys()),
    )


def _by_item(completions: Iterable[Completion], side: str) -> dict[tuple[str, int], Completion]:
    found: dict[tuple[str, int], Completion] = {}
    for completion in completions:
        if found.setdefault((completion.item, completion.draw), completion) is not completion:
            raise UserError(
                f"{side} has two completions of item {completion.item!r}, draw {completion.draw}",
                "give the completions of one policy",
            )
    return found


def _named(found: dict[tuple[str, int], Completion]) -> str:
    names = [f"{item!r} (draw {draw})" for item, draw in islice(sorted(found), _EXAMPLES)]
    return f"{len(found)}, such as {', '.join(names)}" if names else "none"


Contestants = tuple[Completion, ...]
"""One completion to judge alone, or a and b."""


def plan(
    units: Iterable[Contestants], judge: Judge, template: render.Template, *, reasoning: bool = False
) -> Iterator[Question]:
    """Yield the questions to ask, those of one pair next to each other."""
    for unit in units:
        judgement = _judgement_id(unit, judge, template)
        orders: tuple[Order, ...] = ("ab", "ba") if len(unit) == 2 and judge.positional else ("none",)
        for order in orders:
            shown = unit[::-1] if order == "ba" else unit
            yield render.question(template, shown, order=order, id=judgement, reasoning=reasoning)


def _judgement_id(unit: Contestants, judge: Judge, template: render.Template) -> str:
    parameters = json.dumps(dict(judge.parameters), sort_keys=True)
    return digest("judgement", *(c.id for c in unit), judge.door, judge.model, parameters, template.sha256)


def _shuffled(units: Sequence[Contestants], seed: int) -> list[Contestants]:
    """Return the units in a seeded random order that does not depend on the order they came in."""
    ordered = sorted(units, key=lambda unit: [completion.id for completion in unit])
    return [ordered[place] for place in np.random.default_rng(seed).permutation(len(ordered))]


def judgements(
    units: Sequence[Contestants],
    judge: Judge,
    template: render.Template,
    *,
    put: Callable[[Iterable[Question]], Generator[Ballot, None, None]],
    reasoning: bool = False,
) -> Iterator[Judgement]:
    """Plan, ask and decide, unit by unit.

    Args:
        units: What to judge, in the order to ask.
        judge: Whom to ask.
        template: What to ask.
        put: Asks: turns questions into ballots, in order.
        reasoning: Ask for reasons before the verdict.
    """
    ballots = put(plan(units, judge, template, reasoning=reasoning))
    with contextlib.closing(ballots):
        for unit in units:
            cast = tuple(islice(ballots, 2 if len(unit) == 2 and judge.positional else 1))
            yield _judgement(unit, cast, judge, template)


def _judgement(unit: Contestants, ballots: tuple[Ballot, ...], judge: Judge, template: render.Template) -> Judgement:
    a, b = unit[0], unit[1] if len(unit) == 2 else None
    decision = decide(ballots)
    return Judgement(
        id=_judgement_id(unit, judge, template),
        kind=template.kind,
        item=a.item,
        group=a.group,
        dataset=a.dataset,
        a=a.id,
        b=b.id if b else "",
        policy_a=a.policy,
        policy_b=b.policy if b else "",
        prompt=a.prompt,
        text_a=a.text,
        text_b=b.text if b else "",
        outcome=decision.outcome,
        ballots=ballots,
        judge=judge.model,
        prompt_sha256=template.sha256,
        simulated=judge.simulated,
        p_a=decision.p_a,
        reason=decision.reason,
    )


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
        queue = _shuffled(units, options.seed)[: options.limit]
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
        return started.folder


def _arguments(judge: Judge, template: render.Template, options: JudgeOptions) -> dict[str, object]:
    return {
        "judge": {"door": judge.door, "model": judge.model, "parameters": dict(judge.parameters)},
        "prompt": template.name,
        "prompt_sha256": template.sha256,
        "limit": options.limit,
        "reasoning": options.reasoning,
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
