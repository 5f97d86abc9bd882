"""The one protocol behind which every judge stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from perl_eval.records import Ballot, Question

__all__ = ["Judge"]


class Judge(Protocol):
    """Something that answers questions.

    Attributes:
        door: Which of the doors it is: ``chat``, ``decisions``, ``local``, ``reward`` or ``scripted``.
        model: What answers: a model name, a path, or the parameters of a script.
        parameters: Whatever else changes the answer; part of the ledger key.
        positional: True if the order of the candidates can change the answer. A judge without positions is asked
            once a pair, with order ``"none"``.
        simulated: True if no model and no person is behind it; reports say so.
    """

    door: str
    model: str
    parameters: Mapping[str, object]
    positional: bool
    simulated: bool

    def ask(self, questions: Sequence[Question]) -> list[Ballot]:
        """Answer some questions, in order, one ballot a question.

        A reply without a verdict is a ballot with ``verdict=None`` and a reason.

        Raises:
            JudgeError: No reply could be had. The caller decides whether to ask again.
        """
        ...
