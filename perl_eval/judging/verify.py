"""Finished runs once more, from their ledger and inputs alone: read again by a better reader, or verified."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from perl_eval.client.ledger import Ledger
from perl_eval.errors import UserError
from perl_eval.judges import prompting
from perl_eval.judges.backends import offline
from perl_eval.judges.protocol import Judge
from perl_eval.judges.question_keys import Keys
from perl_eval.judging.asking import Asking
from perl_eval.judging.engine.ask import NOT_KEPT, AskOptions
from perl_eval.judging.options import JudgeOptions, arguments_of, pattern_of, template_of
from perl_eval.judging.outcome_of import plan
from perl_eval.judging.queue import queue_of
from perl_eval.judging.run import LEDGER
from perl_eval.records import Ballot, Judgement, RunCard
from perl_eval.storage import parquet, progress, run_folder

__all__ = ["keys_of", "reread", "verify"]


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
    card = _card(run)
    with run_folder.start(
        out,
        verb="reread",
        arguments={**card.arguments, **pattern_of(judge)},
        inputs={"run": run},
        simulated=judge.simulated,
    ) as started:
        if started.done:
            return started.folder
        changed, counts = 0, Counter[str]()

        def again() -> Iterator[Judgement]:
            nonlocal changed
            for old, new in _reread(run, card, judge=judge, prompts=prompts):
                changed += old.outcome != new.outcome
                counts[new.outcome] += 1
                yield new

        started.write(again(), Judgement)
        started.notes.update({"judged": counts.total(), "changed": changed, "outcomes": dict(counts)})
        if pattern_of(judge):
            started.notes[offline.READING] = offline.described(judge)
        return started.folder


def verify(run: Path, *, judge: Judge, prompts: Path | None = None) -> list[str]:
    """Recompute the judgements of a run from its inputs and its ledger, offline.

    Returns:
        The ids of the judgements that come out otherwise; none if the run holds what its ledger says.

    Raises:
        UserError: The folder is no such run, or judge or prompt are others.
        DataError: An input or the output does not match its card.
    """
    return [old.id for old, new in _reread(run, _card(run), judge=judge, prompts=prompts) if old != new]


def _card(run: Path) -> RunCard:
    card = run_folder.read_card(run)
    if card is None or card.verb != "judge":
        raise UserError(f"{run} is not a finished judge run", "give the output folder of `judge`")
    run_folder.fingerprint(run_folder.locate(run, Judgement))
    return card


class _Reopened(NamedTuple):
    """What a finished run judged, by which prompt, and how."""

    a: Path
    b: Path | None
    template: prompting.Template
    options: JudgeOptions


def _reopened(card: RunCard, *, judge: Judge, prompts: Path | None) -> _Reopened:
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
    return _Reopened(a, b, template, options)


def keys_of(run: Path, *, judge: Judge, prompts: Path | None = None) -> Iterator[bytes]:
    """Yield the keys of all questions of a run, under which a ledger has their replies.

    Args:
        run: The folder of a finished ``judge`` run; its inputs must be where they were.
        judge: The same judge.
        prompts: The user's own prompts, if the run used them.

    Raises:
        UserError: The folder is no such run, or judge or prompt are others.
        DataError: An input or the output does not match its card.
    """
    a, b, template, options = _reopened(_card(run), judge=judge, prompts=prompts)
    keys = Keys(judge)
    with tempfile.TemporaryDirectory() as scratch:
        queue, _ = queue_of(a, b, template, options, Path(scratch), run)
        for question in plan(queue, judge, template, reasoning=options.reasoning):
            for vote in range(options.asking.votes):
                yield keys.of(question, vote)


def _reread(run: Path, card: RunCard, *, judge: Judge, prompts: Path | None) -> Iterator[tuple[Judgement, Judgement]]:
    """Yield every judgement of a run as it is stored, and as it comes out now."""
    a, b, template, options = _reopened(card, judge=judge, prompts=prompts)
    kept = run / LEDGER if card.notes["ledger"] == LEDGER else Path(card.notes["ledger"])
    if not kept.is_file():
        raise UserError(f"the ledger of the run is gone: {kept}", "put it back")
    stored = run_folder.locate(run, Judgement)
    with tempfile.TemporaryDirectory() as scratch, Ledger(kept) as ledger:
        queue, _ = queue_of(a, b, template, options, Path(scratch), run)
        asking = Asking(judge, template, ledger, options, index=False)
        with contextlib.closing(asking.cast(queue)) as again:
            shown = progress.track(again, f"judging with {judge.model}", total=len(queue))
            for was, now in zip(parquet.iterate(stored, Judgement), shown, strict=True):
                yield was, asking.judgement(now._replace(ballots=_completed(now.ballots, was.ballots)))


def _completed(now: tuple[Ballot, ...], noted: tuple[Ballot, ...]) -> tuple[Ballot, ...]:
    """Return ballots from the ledger, and for errors and cut-off replies, which are in none, what the run noted."""
    if len(now) != len(noted):
        return now
    pairs = zip(now, noted, strict=True)
    return tuple(was if one.reason == NOT_KEPT and was.verdict is None else one for one, was in pairs)
