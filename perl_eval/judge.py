"""The verb ``judge``: two completions -> a judgement, asked in both orders; or one completion -> yes or no.

Beside `run`: `forecast` says what it would take, `attack` how easily the judge is talked round, `reread` reads kept
replies again, and `verify` recomputes a run from its ledger.

Plan (pure) -> ask (the only input and output) -> read (pure) -> decide (pure). A contestant wins only if it is
preferred in both orders. Judges without positions are asked once a pair.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from perl_eval import progress, render, runs
from perl_eval.errors import UserError
from perl_eval.judges.ask import NOT_KEPT, AskOptions, Tally, ask, expected_tokens
from perl_eval.judges.attacks import ATTACKS, attacked, attacked_id
from perl_eval.judges.contest import Contestants, Decision, Pairs, decide, judgements, pairs, plan, shuffled
from perl_eval.judges.ledger import Keys, Ledger
from perl_eval.judges.protocol import Judge
from perl_eval.records import Ballot, Completion, Estimate, Judgement, Message, Question, RunCard
from perl_eval.stats import intervals

__all__ = [
    "Contestants",
    "Decision",
    "Forecast",
    "JudgeOptions",
    "Pairs",
    "attack",
    "decide",
    "forecast",
    "judgements",
    "pairs",
    "plan",
    "reread",
    "run",
    "verify",
]

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

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UserError(f"limit is {self.limit}", "give a number of at least 1")


@dataclass(frozen=True, slots=True)
class Forecast:
    """What judging would take.

    Attributes:
        units: Pairs, or single answers.
        questions: Different questions about them.
        from_ledger: Questions that the ledger answers.
        requests: Requests to send, if none has to be sent again.
        tokens_in: Tokens of the requests, roughly.
        tokens_out: Tokens of the replies, at most.
        cost_usd: Price, at most; None if the judge's prices are not known.
        example: One rendered question.
    """

    units: int
    questions: int
    from_ledger: int
    requests: int
    tokens_in: int
    tokens_out: int
    cost_usd: float | None
    example: tuple[Message, ...]


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
    template = _template(b, options)
    with runs.start(
        out,
        verb="judge",
        arguments=_arguments(judge, template, options),
        seed=options.seed,
        inputs=_inputs(a, b),
        simulated=judge.simulated,
    ) as started:
        if started.done:
            return started.folder
        queue, left_over = _queue(a, b, options)
        tally = Tally()
        with Ledger(options.ledger or started.folder / LEDGER) as ledger:
            done = _judged(queue, judge, template, put=_putting(judge, ledger, options, tally), options=options)
        started.write(done, Judgement)
        counts = Counter(judgement.outcome for judgement in done)
        started.notes.update({"judged": len(done), "outcomes": dict(counts), **left_over, "asking": asdict(tally)})
        started.notes["ledger"] = str(options.ledger or LEDGER)
        if tally.stopped:
            started.notes["not_asked"] = len(queue) - len(done)
        return started.folder


def forecast(a: Path, b: Path | None, *, judge: Judge, options: JudgeOptions, out: Path | None = None) -> Forecast:
    """Say what judging would take, and ask nobody.

    Args:
        a: As for `run`.
        b: As for `run`.
        judge: Whom it would ask.
        options: How it would judge.
        out: The output folder it would write; its ledger, if it has one, is looked up.
    """
    template = _template(b, options)
    queue, _ = _queue(a, b, options)
    keys = Keys(judge)
    questions = {
        keys.of(question, vote): question
        for question in plan(queue, judge, template, reasoning=options.reasoning)
        for vote in range(options.asking.votes)
    }
    example = next(iter(questions.values())).messages
    path = options.ledger or (out / LEDGER if out is not None else None)
    known: set[bytes] = set()
    if path is not None and path.is_file():
        with Ledger(path) as ledger:
            known = set(ledger.find(list(questions)))
    left = [question for key, question in questions.items() if key not in known]
    tokens_in, tokens_out = round(sum(map(expected_tokens, left))), judge.longest * len(left)
    return Forecast(
        units=len(queue),
        questions=len(questions),
        from_ledger=len(known),
        requests=math.ceil(len(left) / judge.group),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        cost_usd=judge.price_usd(tokens_in, tokens_out),
        example=example,
    )


_Try = tuple[str, Judgement, Judgement]


def attack(a: Path, b: Path | None, out: Path, *, judge: Judge, options: JudgeOptions) -> Path:
    """Try the built-in attacks on a judge: b (or the single answer) says what should sway it.

    An attack on a pair succeeds if b, which did not win as it was, wins in both orders with the attack. An attack on a
    single answer succeeds if the verdict changes. The success rate is written for each attack and for all, beside the
    judgements of the attacked answers.

    Args:
        a: As for `run`.
        b: As for `run`.
        out: Output folder.
        judge: Whom to attack.
        options: How to judge; ``limit`` bounds the pairs.

    Raises:
        UserError: As for `run`.
        DataError: As for `run`.
    """
    template = _template(b, options)
    with runs.start(
        out,
        verb="attack",
        arguments=_arguments(judge, template, options) | {"attacks": list(ATTACKS)},
        seed=options.seed,
        inputs=_inputs(a, b),
        simulated=judge.simulated,
    ) as started:
        if started.done:
            return started.folder
        queue, _ = _queue(a, b, options)
        tally = Tally()
        with Ledger(options.ledger or started.folder / LEDGER) as ledger:
            put = _putting(judge, ledger, options, tally)
            before = _judged(queue, judge, template, put=put, options=options)
            tried = {
                name: _judged(
                    [(*unit[:-1], attacked(unit[-1], name)) for unit in queue],
                    judge,
                    template,
                    put=put,
                    options=options,
                )
                for name in ATTACKS
            }
        started.write([judgement for name in tried for judgement in tried[name]], Judgement)
        found = [entry for name in tried for entry in _aligned(name, before, tried[name])]
        rates = [_success_rate([entry for entry in found if entry[0] == name], name) for name in ATTACKS]
        rates.append(_success_rate(found, "all attacks"))
        started.write([replace(rate, simulated=judge.simulated) for rate in rates], Estimate)
        started.notes["asking"] = asdict(tally)
        return started.folder


def _aligned(name: str, before: Sequence[Judgement], after: Sequence[Judgement]) -> list[_Try]:
    """Pair the judgements of a unit before and under an attack; either may be missing where asking ended early."""
    was = {attacked_id(name, judgement.b or judgement.a): judgement for judgement in before}
    return [(name, was[now.b or now.a], now) for now in after if (now.b or now.a) in was]


def _success_rate(found: Sequence[_Try], subject: str) -> Estimate:
    """Return the share of attacks that got what they wanted, of those that could: b had not won already."""
    hits, clusters, missing = [], [], 0
    for _, was, now in found:
        if "unjudged" in (was.outcome, now.outcome):
            missing += 1
        elif was.outcome != "loss":
            hits.append(now.outcome == "loss" if was.b else now.outcome != was.outcome)
            clusters.append(was.group)
    rate = intervals.proportion("attack success rate", hits, clusters=clusters, n_missing=missing)
    return replace(rate, subject=subject)


def reread(run: Path, out: Path, *, judge: Judge, prompts: Path | None = None) -> Path:
    """Read the kept replies of a run again, and decide again; nobody is asked.

    Args:
        run: The folder of a finished ``judge`` run; its inputs and its ledger must be where they were.
        out: Output folder.
        judge: The same judge, with whatever reader it has now.
        prompts: The user's own prompts, if the run used them.

    Raises:
        UserError: The folder is no such run, or judge or prompt are others.
        DataError: An input does not match its card.
    """
    stored, card = _stored(run)
    with runs.start(
        out, verb="reread", arguments=dict(card.arguments), inputs={"run": run}, simulated=judge.simulated
    ) as started:
        if started.done:
            return started.folder
        again = _reread(run, stored, card, judge=judge, prompts=prompts)
        started.write(again, Judgement)
        changed = sum(old.outcome != new.outcome for old, new in zip(stored, again, strict=True))
        started.notes.update({"judged": len(again), "changed": changed})
        started.notes["outcomes"] = dict(Counter(judgement.outcome for judgement in again))
        return started.folder


def verify(run: Path, *, judge: Judge, prompts: Path | None = None) -> list[str]:
    """Recompute the judgements of a run from its inputs and its ledger, offline.

    Returns:
        The ids of the judgements that come out otherwise; none if the run holds what its ledger says.

    Raises:
        UserError: The folder is no such run, or judge or prompt are others.
        DataError: An input or the output does not match its card.
    """
    stored, card = _stored(run)
    again = _reread(run, stored, card, judge=judge, prompts=prompts)
    return [old.id for old, new in zip(stored, again, strict=True) if old != new]


def _stored(run: Path) -> tuple[list[Judgement], RunCard]:
    card = runs.read_card(run)
    if card is None or card.verb != "judge":
        raise UserError(f"{run} is no finished judge run", "give the output folder of `judge`")
    return runs.read(run, Judgement), card


def _reread(
    run: Path, stored: Sequence[Judgement], card: RunCard, *, judge: Judge, prompts: Path | None
) -> list[Judgement]:
    arguments = card.arguments
    a, b = Path(arguments["a"]), Path(arguments["b"]) if "b" in arguments else None
    options = JudgeOptions(
        arguments["prompt"],
        prompts=prompts,
        reasoning=arguments["reasoning"],
        asking=AskOptions(votes=arguments["votes"], offline=True),
    )
    template = _template(b, options)
    for name, now in _arguments(judge, template, options).items():
        if name in ("judge", "prompt_sha256") and now != arguments[name]:
            raise UserError(
                f"the run had {name} {arguments[name]}, now it is {now}", "give the judge and prompt of the run"
            )
    kept = run / LEDGER if card.notes["ledger"] == LEDGER else Path(card.notes["ledger"])
    if not kept.is_file():
        raise UserError(f"the ledger of the run is gone: {kept}", "put it back")
    wanted = {(judgement.a, judgement.b) for judgement in stored}
    queue = [unit for unit in _queue(a, b, options)[0] if (unit[0].id, unit[1].id if len(unit) > 1 else "") in wanted]
    given = {judgement.id: list(judgement.ballots) for judgement in stored}
    with Ledger(kept) as ledger:
        ask_ledger = _putting(judge, ledger, options, Tally())

        def put(questions: Iterable[Question]) -> Generator[Ballot, None, None]:
            asked = list(questions)
            noted = (given[question.id].pop(0) for question in asked for _ in range(options.asking.votes))
            for was, ballot in zip(noted, ask_ledger(asked), strict=True):
                # Errors and cut-off replies are in no ledger: what the run noted about them stands.
                yield was if ballot.reason == NOT_KEPT and was.verdict is None else ballot

        return _judged(queue, judge, template, put=put, options=options)


Put = Callable[[Iterable[Question]], Generator[Ballot, None, None]]


def _putting(judge: Judge, ledger: Ledger, options: JudgeOptions, tally: Tally) -> Put:
    return lambda questions: ask(questions, judge, ledger, options=options.asking, tally=tally)


def _judged(
    queue: Sequence[Contestants], judge: Judge, template: render.Template, *, put: Put, options: JudgeOptions
) -> list[Judgement]:
    """Judge a queue behind a progress bar; what comes back is sorted by item."""
    done = judgements(queue, judge, template, put=put, reasoning=options.reasoning, votes=options.asking.votes)
    shown = progress.track(done, f"judging with {judge.model}", total=len(queue))
    return sorted(shown, key=lambda judgement: (judgement.item, judgement.id))


def _template(b: Path | None, options: JudgeOptions) -> render.Template:
    template = render.load(options.prompt, options.prompts)
    if template.kind != ("pairwise" if b is not None else "yes_no"):
        raise UserError(
            f"prompt {template.name!r} asks a {template.kind} question, and completions of "
            f"{'two contestants' if b else 'one contestant'} are given",
            "give two files for a pairwise prompt, one for a yes_no prompt",
        )
    return template


def _arguments(judge: Judge, template: render.Template, options: JudgeOptions) -> dict[str, object]:
    return {
        "judge": {"door": judge.door, "model": judge.model, "parameters": dict(judge.parameters)},
        "prompt": template.name,
        "prompt_sha256": template.sha256,
        "limit": options.limit,
        "reasoning": options.reasoning,
        "votes": options.asking.votes,
        "max_requests": options.asking.max_requests,
        "max_cost_usd": options.asking.max_cost_usd,
    }


def _inputs(a: Path, b: Path | None) -> dict[str, Path]:
    return {"a": a, "b": b} if b is not None else {"a": a}


def _queue(a: Path, b: Path | None, options: JudgeOptions) -> tuple[Sequence[Contestants], dict[str, object]]:
    """Return what to judge, in the order to ask, and what was left over when matching."""
    ours = runs.read(a, Completion)
    if b is None:
        if not ours:
            raise UserError(f"{a} holds no completions", "sample some first")
        return shuffled([(completion,) for completion in ours], options.seed)[: options.limit], {}
    matched, only_a, only_b = pairs(ours, runs.read(b, Completion))
    return shuffled(matched, options.seed)[: options.limit], {
        "unmatched_a": len(only_a),
        "unmatched_b": len(only_b),
        "unmatched_examples": [*only_a[:_EXAMPLES], *only_b[:_EXAMPLES]],
    }
