"""The terms on which a judge is asked, and what asking came to."""

from __future__ import annotations

from dataclasses import dataclass

from perl_eval.checks import at_least_one, positive
from perl_eval.records import Question

__all__ = ["AskOptions", "expected_tokens"]

_CHARACTERS_A_TOKEN = 4.0


@dataclass(frozen=True, slots=True)
class AskOptions:
    """How to ask.

    Attributes:
        max_concurrency: Requests on their way at one time, at most; the engine finds what the server bears below it.
        attempts: How often a request is sent before its question is given up.
        backoff_s: Mean of the first wait before asking again; it doubles with every attempt, with jitter.
        votes: How often each question is asked; more than once only makes sense at a temperature above 0.
        rpm: Requests a minute, at most.
        tpm: Tokens a minute, at most, as estimated before sending.
        max_requests: Requests in all, sent again or not; then asking stops.
        max_cost_usd: Money in all; asking stops before a request that could cost more than what is left.
        offline: Ask nobody: what the ledger does not hold stays without an answer.
    """

    max_concurrency: int = 100
    attempts: int = 6
    backoff_s: float = 0.5
    votes: int = 1
    rpm: float | None = None
    tpm: float | None = None
    max_requests: int | None = None
    max_cost_usd: float | None = None
    offline: bool = False

    def __post_init__(self) -> None:
        at_least_one(self, "max_concurrency", "attempts", "votes", "max_requests")
        positive(self, "backoff_s", "rpm", "tpm", "max_cost_usd")


def expected_tokens(question: Question) -> float:
    """Return a rough number of tokens of a request: a quarter of its characters."""
    return sum(len(turn.content) for turn in question.messages) / _CHARACTERS_A_TOKEN
