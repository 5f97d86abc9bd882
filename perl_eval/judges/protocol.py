"""The one protocol behind which every judge stands, and the reply that it gives before anyone reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from perl_eval.judges.allowance import Allowance
from perl_eval.records import Ballot, Question, Verdict

__all__ = ["Finish", "Judge", "Reply", "Sees"]

Finish = Literal["stop", "length", "refusal"]
Sees = Literal["messages", "candidates"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back from a judge, unread; this is what the ledger keeps.

    Attributes:
        text: The reply as it came: text, or the numbers a door without text works with, as JSON.
        finish: Why it ended: ``stop``, ``length`` (cut off) or ``refusal``.
        logprobs: Tokens that could have come at the answer position, each with its log-probability in nats.
        model: The model as the server names it.
        tokens_in: Tokens of the request; 0 where nobody counts.
        tokens_out: Tokens of the reply.
        latency_s: Seconds from request to reply.
        cost_usd: Price of the call, where prices are known.
        left: What the server said it would still take; of the moment, so not kept.
    """

    text: str
    finish: Finish = "stop"
    logprobs: tuple[tuple[str, float], ...] = ()
    model: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    latency_s: float = 0.0
    cost_usd: float | None = None
    left: Allowance | None = None

    def ballot(
        self,
        question: Question,
        verdict: Verdict | None,
        *,
        p_first: float | None = None,
        score: float | None = None,
        reason: str | None = None,
    ) -> Ballot:
        """Return the ballot that this reply amounts to, once read."""
        return Ballot(
            order=question.order,
            verdict=verdict,
            reason=reason,
            p_first=p_first,
            score=score,
            raw=self.text,
            model=self.model,
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            latency_s=self.latency_s,
            cost_usd=self.cost_usd,
        )


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
