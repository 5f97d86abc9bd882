"""The verb ``judge``: two completions -> a judgement, asked in both orders; or one completion -> yes or no.

Beside `run`: `forecast` says what it would take, `attack` how easily the judge is talked round, `look` whether it looks
at pictures, `reread` reads kept replies again, and `verify` recomputes a run from its ledger.

Plan (pure) -> ask (the only input and output) -> read (pure) -> decide (pure). A contestant wins only if it is
preferred in both orders. Judges without positions are asked once a pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from perl_eval.client.account import ACCOUNT, Account, Spending
from perl_eval.client.ledger import Ledger
from perl_eval.client.usage import Usage
from perl_eval.judges.backends import offline
from perl_eval.judges.protocol import Judge
from perl_eval.judging.asking import Asking
from perl_eval.judging.attack_success import attack
from perl_eval.judging.cost_estimate import Forecast, forecast
from perl_eval.judging.early_stopping import referee_of
from perl_eval.judging.image_ablation import look
from perl_eval.judging.options import JudgeOptions, arguments_of, inputs_of, template_of
from perl_eval.judging.outcome_of import Contestants, plan
from perl_eval.judging.pairing import Pairs, pairs
from perl_eval.judging.queue import queue_of
from perl_eval.judging.run import LEDGER, filled, judged
from perl_eval.judging.verify import reread, verify
from perl_eval.outcomes import Decision, decide
from perl_eval.records import Estimate, Judgement
from perl_eval.storage import run_folder
from perl_eval.storage.external_sort import write_sorted
from perl_eval.storage.scratch import scratch_in

__all__ = [
    "Asking",
    "Contestants",
    "Decision",
    "Forecast",
    "JudgeOptions",
    "Pairs",
    "attack",
    "decide",
    "forecast",
    "look",
    "pairs",
    "plan",
    "reread",
    "run",
    "verify",
]

_FEW_REASONS = 3
_MANY_REASONS = 1000
_LONGEST_REASON = 200


def _has_more(notes: Mapping[str, Any]) -> bool:
    """Say if the same command has something to ask that a finished run has not: it stopped, or a reason can pass."""
    asking = notes.get("asking", {})
    return bool(asking.get("stopped") or asking.get("can_pass"))


def _shown(tally: Usage) -> dict[str, Any]:
    shown = asdict(tally)
    del shown["waiting"]
    return shown


def run(a: Path, b: Path | None, out: Path, *, judge: Judge, options: JudgeOptions) -> Path:
    """Judge the completions of one file against those of another, or alone.

    Args:
        a: Completions of contestant a: a run folder, or its file.
        b: Those of contestant b, or None to judge those of a alone, yes or no.
        out: Output folder; judgements come sorted by item. If it holds a run of the same command that is
            unfinished, stopped, or lacks answers for reasons that can pass, that goes on.
        judge: Whom to ask.
        options: How to judge.

    Returns:
        The output folder.

    Raises:
        UserError: The prompt asks for something else, nothing matches, or the judge will never answer.
        DataError: An input does not match its card, or is not a table of completions.
    """
    template = template_of(b, options)
    with run_folder.start(
        out,
        verb="judge",
        arguments=arguments_of(judge, template, options),
        seed=options.seed,
        inputs=inputs_of(a, b, options),
        simulated=judge.simulated,
    ) as started:
        if started.done and not _has_more(started.notes):
            return started.folder
        if started.done:
            started.reopen()
        tally, counts, reasons = Usage(), Counter[str](), Counter[str]()

        def counted(done: Iterator[Judgement]) -> Iterator[Judgement]:
            for judgement in done:
                counts[judgement.outcome] += 1
                if judgement.outcome == "unjudged":
                    reason = str(judgement.reason)[:_LONGEST_REASON]
                    reasons[reason if reason in reasons or len(reasons) < _MANY_REASONS else "other reasons"] += 1
                yield judgement

        with scratch_in(started.folder) as scratch:
            queue, left_over = queue_of(a, b, template, options, scratch)
            with (
                Account(started.folder / ACCOUNT) as account,
                Ledger(options.ledger or started.folder / LEDGER) as ledger,
            ):
                referee = referee_of(queue, template, options)
                asking = Asking(judge, template, ledger, options, Spending(tally, account))
                batches = filled(queue, asking, ledger=ledger, folder=started.folder, options=options)
                done = counted(judged(queue, asking))
                done = done if referee is None else referee.until_decided(done)
                path = started.folder / run_folder.FILES[Judgement]
                count = write_sorted(path, done, Judgement, by=("item", "id"), scratch=scratch)
        started.notes.update(
            {"judged": count, "outcomes": dict(counts), **left_over, "asking": _shown(tally), **batches}
        )
        if reasons:
            started.notes["unjudged"] = dict(reasons.most_common(_FEW_REASONS))
        started.notes["asking_in_all"] = asdict(account.totals)
        if referee is not None:
            started.write([replace(referee.estimate(), simulated=started.simulated)], Estimate)
            started.notes.update(referee.notes())
        started.notes["ledger"] = str(options.ledger or LEDGER)
        started.notes[offline.READING] = offline.described(judge)
        if noted := dict(judge.noted):
            started.notes["noted"] = noted
        if count < len(queue):
            started.notes["not_asked"] = len(queue) - count
    if not _has_more(started.notes):
        (started.folder / ACCOUNT).unlink(missing_ok=True)  # the card has it
    return started.folder
