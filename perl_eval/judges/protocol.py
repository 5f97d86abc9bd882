"""The one protocol behind which every judge stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from perl_eval.client.reply import Reply
from perl_eval.judges.readers import Reader
from perl_eval.records import Question

__all__ = ["Judge", "Sees"]

Sees = Literal["messages", "candidates"]


class Judge(Protocol):
    """Something that answers questions; a class of one's own may inherit what it does not set.

    Asking and reading are apart: `ask` is the only input and output, the reader is pure. So a kept reply can be read
    again by a better reader, for nothing, and a run is verified without its judge.

    Attributes:
        backend: What kind of judge it is: ``chat``, ``local``, or a name of one's own.
        model: What answers: a model name, a path, or the name of a script.
        parameters: Whatever else changes the answer, JSON-like; part of the ledger key, shown on the run card.
        reader: How its replies are read, see `perl_eval.judges.readers`; goes on the run card.
        positional: True if the order of the candidates can change the answer. A judge without positions is asked
            once a pair, with order ``"none"``.
        simulated: True if no model and no person is behind it; reports say so.
        group: How many questions one call of `ask` may carry.
        longest: Tokens of the longest reply to one question; 0 where nothing is generated.
        sees: ``messages`` if it reads the rendered question, ``candidates`` if it reads the completions themselves
            (their prompts, texts and token ids, which then are part of the ledger key too).
    """

    backend: str
    model: str
    parameters: Mapping[str, object]
    reader: Reader
    positional: bool = True
    simulated: bool = False
    group: int = 1
    longest: int = 0
    sees: Sees = "messages"

    @property
    def noted(self) -> Mapping[str, object]:
        """What was seen while asking and belongs on the run card; see `perl_eval.client.reply_checks`."""
        return {}

    async def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer 1 to ``group`` questions, in order, one reply a question.

        Raises:
            JudgeError: No reply could be had. The caller decides whether to ask again.
            UserError: No question will ever be answered (no key, no such model): the run stops.
        """
        ...

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:  # noqa: ARG002
        """Return what so many tokens cost, or None if nobody knows."""
        return None

    async def close(self) -> None:
        """Give back connections; the judge may be asked again later."""
        return
