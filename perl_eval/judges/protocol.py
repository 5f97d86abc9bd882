"""The one protocol behind which every judge stands, and the reply that it gives before anyone reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from perl_eval.client.reply import Reply
from perl_eval.records import Ballot, Question

__all__ = ["Judge", "Sees"]

Sees = Literal["messages", "candidates"]


class Judge(Protocol):
    """Something that answers questions.

    Asking and reading are apart: `ask` is the only input and output, `read` is pure. So a kept reply can be read
    again by a better reader, for nothing.

    Attributes:
        door: Which of the doors it is: ``chat``, ``decisions``, ``local``, ``reward`` or ``scripted``.
        model: What answers: a model name, a path, or the name of a script.
        parameters: Whatever else changes the answer, JSON-like; part of the ledger key, shown on the run card.
        positional: True if the order of the candidates can change the answer. A judge without positions is asked
            once a pair, with order ``"none"``.
        simulated: True if no model and no person is behind it; reports say so.
        group: How many questions one call of `ask` may carry.
        longest: Tokens of the longest reply to one question; 0 where nothing is generated.
        sees: ``messages`` if it reads the rendered question, ``candidates`` if it reads the completions themselves
            (their prompts, texts and token ids, which then are part of the ledger key too).
    """

    door: str
    model: str
    parameters: Mapping[str, object]
    positional: bool
    simulated: bool
    group: int
    longest: int
    sees: Sees

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:
        """Return what so many tokens cost, or None if nobody knows."""
        ...

    async def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer 1 to ``group`` questions, in order, one reply a question.

        Raises:
            JudgeError: No reply could be had. The caller decides whether to ask again.
            UserError: No question will ever be answered (no key, no such model): the run stops.
        """
        ...

    def read(self, question: Question, reply: Reply) -> Ballot:
        """Read one reply. A reply without a verdict is a ballot with ``verdict=None`` and a reason.

        Of the question it needs kind, order and scale only: a reply that is kept may be read without the rest.
        """
        ...

    async def close(self) -> None:
        """Give back connections; the judge may be asked again later."""
        ...
