"""What asking took: requests, tokens, money."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["BYTES_A_TOKEN", "Usage", "believed", "tokens_of"]

BYTES_A_TOKEN = 4
"""Of a reply that cannot be read, roughly."""

_MOST_TOKENS = 10**9
_COUNTS = (
    ("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_eval_count"),
    ("completion_tokens", "output_tokens", "candidatesTokenCount", "eval_count"),
)
"""What servers call the tokens of a request, and those of a reply."""


def believed(count: Any) -> int | None:
    """Return a count of tokens as a server reports it, or None if it is none: missing, negative, not finite, no number.

    A server's count goes into money and files, so what cannot be one is not passed on.
    """
    if isinstance(count, str) and count.isascii() and count.isdecimal() and len(count) <= len(str(_MOST_TOKENS)):
        count = int(count)
    if isinstance(count, bool) or not isinstance(count, (int, float)) or not 0 <= count <= _MOST_TOKENS:
        return None
    return int(count) if count == int(count) else None


def tokens_of(completion: Any) -> tuple[int | None, int | None]:
    """Return the tokens of a chat completion's request and reply, each None where its server is not believed."""
    usage = completion.get("usage") if isinstance(completion, dict) else None
    if not isinstance(usage, dict):
        usage = completion.get("usageMetadata") if isinstance(completion, dict) else None
    if not isinstance(usage, dict):
        return None, None
    sent, said = (believed(next((usage[name] for name in names if name in usage), None)) for names in _COUNTS)
    if said is None and sent is not None and not any(name in usage for name in _COUNTS[1]):
        whole = believed(usage.get("total_tokens"))
        said = whole - sent if whole is not None and whole >= sent else None
    return sent, said


@dataclass(slots=True)
class Usage:
    """What asking came to.

    Attributes:
        asked: Questions that were sent and answered.
        from_ledger: Questions that the ledger answered.
        shared: Questions equal to one on its way, which took its answer.
        requests: Requests sent, again or not: all that may have reached the server.
        retries: Requests sent again.
        failed: Questions without an answer after all attempts.
        can_pass: Those of them whose reason can pass: the next run asks them again.
        unusable: Replies that were paid and are no answer.
        tokens_in: Tokens of the requests that were answered.
        tokens_out: Tokens of their answers.
        cost_usd: Their price, where prices are known.
        estimated: Replies whose server did not say, or not credibly, how many tokens they took.
        estimated_usd: The part of the price that rests on an estimate for that reason.
        stopped: Why the asking ended before its end, if it did.
        waiting: What is being waited for just now, if anything.
    """

    asked: int = 0
    from_ledger: int = 0
    shared: int = 0
    requests: int = 0
    retries: int = 0
    failed: int = 0
    can_pass: int = 0
    unusable: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    estimated: int = 0
    estimated_usd: float = 0.0
    stopped: str | None = None
    waiting: str | None = None
