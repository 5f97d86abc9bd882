"""Finished runs once more, from their ledger and inputs alone: read again by a better reader, or verified."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

from perl_eval import runs
from perl_eval.errors import UserError
from perl_eval.judges.ask import NOT_KEPT, AskOptions, Tally
from perl_eval.judges.ledger import Ledger
from perl_eval.judges.protocol import Judge
from perl_eval.judges.session import LEDGER, JudgeOptions, arguments_of, judged, putting, queue_of, template_of
from perl_eval.records import Ballot, Judgement, Question, RunCard

__all__ = ["reread", "verify"]


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
        rubric=Path(arguments["rubric"]) if arguments.get("rubric") else None,
        references=Path(arguments["references"]) if arguments.get("references") else None,
        asking=AskOptions(votes=arguments["votes"], offline=True),
    )
    template = template_of(b, options)
    for name, now in arguments_of(judge, template, options).items():
        if name in ("judge", "prompt_sha256", "rubric_sha256") and now != arguments.get(name, now):
            raise UserError(
                f"the run had {name} {arguments[name]}, now it is {now}", "give the judge and prompt of the run"
            )
    kept = run / LEDGER if card.notes["ledger"] == LEDGER else Path(card.notes["ledger"])
    if not kept.is_file():
        raise UserError(f"the ledger of the run is gone: {kept}", "put it back")
    wanted = {(judgement.a, judgement.b) for judgement in stored}
    queue = [unit for unit in queue_of(a, b, options)[0] if (unit[0].id, unit[1].id if len(unit) > 1 else "") in wanted]
    given = {judgement.id: list(judgement.ballots) for judgement in stored}
    with Ledger(kept) as ledger:
        ask_ledger = putting(judge, ledger, options, Tally())

        def put(questions: Iterable[Question]) -> Generator[Ballot, None, None]:
            asked = list(questions)
            noted = (given[question.id].pop(0) for question in asked for _ in range(options.asking.votes))
            for was, ballot in zip(noted, ask_ledger(asked), strict=True):
                # Errors and cut-off replies are in no ledger: what the run noted about them stands.
                yield was if ballot.reason == NOT_KEPT and was.verdict is None else ballot

        return judged(queue, judge, template, put=put, options=options)
