"""Ending a run as soon as it is decided, with an interval that holds however it was decided when to stop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from perl_eval.errors import UserError
from perl_eval.figure_names import WIN_RATE_UNDECIDED_HALF_ANYTIME, YES_RATE_ANYTIME
from perl_eval.outcomes import HALF
from perl_eval.records import Estimate, Judgement

if TYPE_CHECKING:
    from perl_eval.judges.prompting import Template
    from perl_eval.judging.options import JudgeOptions
    from perl_eval.judging.queue import Queue
    from perl_eval.stats.sequential import StopRule

__all__ = ["Referee", "referee_of"]

_NAMES = {"pairwise": WIN_RATE_UNDECIDED_HALF_ANYTIME, "yes_no": YES_RATE_ANYTIME}


class Referee:
    """Watches the judgements of a queue in its order and ends it once the rate is known well enough.

    Args:
        kind: What is asked: ``pairwise`` or ``yes_no``.
        rule: Says when.
        length: Units in the queue.
    """

    def __init__(self, kind: str, rule: StopRule, length: int) -> None:
        self._kind, self._rule, self._length = kind, rule, length

    def until_decided(self, done: Iterator[Judgement]) -> Iterator[Judgement]:
        """Yield judgements up to the one that decides; those after it are not looked at, whatever they say."""
        for judgement in done:
            yield judgement
            if self._rule.feed(HALF.of(judgement.outcome)):
                return

    def estimate(self) -> Estimate:
        """Return the rate so far with its anytime interval."""
        return self._rule.estimate(_NAMES[self._kind])

    def notes(self) -> dict[str, object]:
        """Return what the run card says about the end."""
        return {"stop when decided": True, "decided after": self._rule.decided, "queue": self._length}


def referee_of(queue: Queue, template: Template, options: JudgeOptions) -> Referee | None:
    """Return who ends a run early, if that was asked for.

    Raises:
        UserError: The prompt asks for a score, everything is asked at once, or the half-width is out of its range.
    """
    if not options.stop_when_decided:
        if options.half_width is not None:
            raise UserError("a half-width alone stops nothing", "stop when decided, too")
        return None
    if template.kind not in _NAMES:
        raise UserError(f"prompt {template.name!r} asks for a score, of which nothing is decided", "ask about pairs")
    if options.batch is not None:
        raise UserError("a batch sends everything at once, so nothing is saved by stopping", "leave one of them out")
    from perl_eval.stats.sequential import StopRule

    try:
        rule = StopRule.over(queue.groups(), half_width=options.half_width)
    except ValueError as error:
        raise UserError(str(error), "give a half-width such as 0.05") from None
    return Referee(template.kind, rule, len(queue))
