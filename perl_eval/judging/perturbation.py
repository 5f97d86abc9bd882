"""A judge on trial: one run that asks about units as they are, and as they are once something is done to them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from perl_eval.client.ledger import Ledger
from perl_eval.client.usage import Usage
from perl_eval.errors import UserError
from perl_eval.judges.protocol import Judge
from perl_eval.judging.options import JudgeOptions, arguments_of, inputs_of, template_of
from perl_eval.judging.outcome_of import Contestants
from perl_eval.judging.queue import queue_of
from perl_eval.judging.run import LEDGER, judged, putting
from perl_eval.records import Judgement, Kind
from perl_eval.storage import run_folder
from perl_eval.storage.scratch import scratch_in

__all__ = ["Trial", "Tries", "trial"]


@dataclass(frozen=True, slots=True)
class Tries:
    """What is tried on a judge: the verb, what it calls the things it tries, and their names."""

    verb: str
    plural: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """What a trial works with.

    Attributes:
        started: The run.
        units: What to judge, in the order of asking.
        kind: The kind of question that is asked about them.
        judged: Asks the judge; judgements come in the order of the units, and end early where a limit is reached.
    """

    started: run_folder.Run
    units: Sequence[Contestants]
    kind: Kind
    judged: Callable[[Sequence[Contestants]], list[Judgement]]


@contextlib.contextmanager
def trial(tries: Tries, a: Path, b: Path | None, out: Path, *, judge: Judge, options: JudgeOptions) -> Iterator[Trial]:
    """Open a run that tries something on a judge; there is nothing to judge where it is finished already.

    Args:
        tries: What is tried.
        a: As for `judge.run`.
        b: As for `judge.run`.
        out: Output folder.
        judge: Whom to ask.
        options: How to judge.

    Raises:
        UserError: As for `judge.run`; or the options ask for batches.
        DataError: As for `judge.run`.
    """
    if options.batch is not None:
        raise UserError(f"{tries.plural} are not sent in batches", "leave the batch out")
    template = template_of(b, options)
    tally = Usage()
    with run_folder.start(
        out,
        verb=tries.verb,
        arguments=arguments_of(judge, template, options) | {tries.plural: list(tries.names)},
        seed=options.seed,
        inputs=inputs_of(a, b, options),
        simulated=judge.simulated,
    ) as started:
        if started.done:
            yield Trial(started, (), template.kind, lambda _: [])
            return
        ledger_file = options.ledger or started.folder / LEDGER
        with scratch_in(started.folder) as scratch, Ledger(ledger_file) as ledger:
            put = putting(judge, ledger, options, tally)

            def done(units: Sequence[Contestants]) -> list[Judgement]:
                return list(judged(units, judge, template, put=put, options=options, tally=tally))

            yield Trial(started, list(queue_of(a, b, template, options, scratch)[0]), template.kind, done)
        started.notes["asking"] = asdict(tally)
