"""What came back from a server or a judge, unread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from perl_eval.client.rate_limit_headers import Allowance
from perl_eval.records import Ballot, Question, Verdict

__all__ = ["Finish", "Reply"]

Finish = Literal["stop", "length", "refusal", "other"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back from a judge, unread; this is what the ledger keeps.

    Attributes:
        text: The reply as it came: text, or the numbers a backend without text works with, as JSON.
        finish: Why it ended: ``stop``, ``length`` (cut off), ``refusal``, or ``other``: for a reason that is not known.
        logprobs: Tokens that could have come at the answer position, each with its log-probability in nats.
        model: The model as the server names it.
        tokens_in: Tokens of the request; 0 where nobody counts.
        tokens_out: Tokens of the reply.
        latency_s: Seconds from request to reply.
        cost_usd: Price of the call, where prices are known.
        estimated: True if the server did not say, or not credibly, how many tokens it counted; not kept.
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
    estimated: bool = False
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
