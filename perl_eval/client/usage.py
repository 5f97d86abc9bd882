"""What asking took: requests, tokens, money."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Usage"]


@dataclass(slots=True)
class Usage:
    """What asking came to.

    Attributes:
        asked: Questions that were sent and answered.
        from_ledger: Questions that the ledger answered.
        shared: Questions equal to one on its way, which took its answer.
        requests: Requests sent, again or not.
        retries: Requests sent again.
        failed: Questions without an answer after all attempts.
        tokens_in: Tokens of the requests that were answered.
        tokens_out: Tokens of their answers.
        cost_usd: Their price, where prices are known.
        stopped: Which budget ended the asking, if one did.
    """

    asked: int = 0
    from_ledger: int = 0
    shared: int = 0
    requests: int = 0
    retries: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    stopped: str | None = None
