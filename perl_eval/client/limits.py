"""How requests are sent: how many, how fast, how often again, and for how much money."""

from __future__ import annotations

from dataclasses import dataclass

from perl_eval.checks import at_least_one, positive

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How requests are sent.

    Attributes:
        max_concurrency: Requests on their way at one time, at most; the engine finds what the server bears below it.
        attempts: How often a request is sent before it is given up.
        backoff_s: Mean of the first wait before asking again; it doubles with every attempt, with jitter.
        rpm: Requests a minute, at most.
        tpm: Tokens a minute, at most, as estimated before sending.
        max_requests: Requests in all, sent again or not, over all runs of a folder; then asking stops.
        max_cost_usd: Money in all, over all runs of a folder; asking stops before a request that costs more than what
            is left.
        patience_s: How long a server that answers nothing is waited for before asking stops; None is ten minutes, and
            20 seconds where it wants money.
        offline: Ask nobody: what the ledger does not hold stays without an answer.
    """

    max_concurrency: int = 100
    attempts: int = 6
    backoff_s: float = 0.5
    rpm: float | None = None
    tpm: float | None = None
    max_requests: int | None = None
    max_cost_usd: float | None = None
    patience_s: float | None = None
    offline: bool = False

    def __post_init__(self) -> None:
        at_least_one(self, "max_concurrency", "attempts", "max_requests")
        positive(self, "backoff_s", "rpm", "tpm", "max_cost_usd", "patience_s")
