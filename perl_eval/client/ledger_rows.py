"""A row of the ledger: its columns, the reply in it, and the checksum over all of it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any, Protocol

from perl_eval.client.reply import Reply

__all__ = ["COLUMNS", "KEY_BYTES", "Answering", "checksum", "is_whole", "reply_of", "row_of"]

COLUMNS = (
    "key",
    "door",
    "asked",
    "answered",
    "text",
    "finish",
    "logprobs",
    "tokens_in",
    "tokens_out",
    "latency_s",
    "cost_usd",
    "at",
    "checksum",
)
"""The columns of a row, in their order; the last one is missing or empty in what older versions kept."""
KEY_BYTES = 32


class Answering(Protocol):
    """Who gave a reply: a judge, or a model behind a server that was sampled."""

    backend: str
    model: str


def row_of(who: Answering, key: bytes, reply: Reply, at: str) -> tuple[Any, ...]:
    """Return the row of a reply.

    Args:
        who: Who gave it.
        key: Its key.
        reply: The reply.
        at: When it is kept, UTC.
    """
    row = (
        key,
        who.backend,
        who.model,
        reply.model,
        reply.text,
        reply.finish,
        json.dumps(reply.logprobs) if reply.logprobs else "",
        int(reply.tokens_in),
        int(reply.tokens_out),
        float(reply.latency_s),
        None if reply.cost_usd is None else float(reply.cost_usd),
    )
    return (*row, at, checksum(row))


def checksum(row: Sequence[Any]) -> int:
    """Return the CRC-32 of a row's key, of who was asked, and of the reply; it tells damage, not forgery."""
    key, door, asked, answered, text, finish, logprobs, tokens_in, tokens_out, latency_s, cost_usd = row[:11]
    told = (
        f"{door}\0{asked}\0{answered}\0{finish}\0{logprobs}\0{tokens_in}\0{tokens_out}\0{latency_s!r}\0{cost_usd!r}"
        f"\0{text}"
    )
    return zlib.crc32(told.encode("utf-8", "surrogatepass"), zlib.crc32(key))


def is_whole(row: Sequence[Any]) -> bool:
    """Say whether a row holds what was put into it; of one without a checksum nobody knows, and it counts as whole."""
    return row[12] is None or (isinstance(row[0], bytes) and row[12] == checksum(row))


def reply_of(row: Sequence[Any]) -> Reply:
    """Return the reply in a row.

    Raises:
        ValueError: Its log-probabilities are not what was put there.
        TypeError: The same.
    """
    _, _, _, answered, text, finish, logprobs, tokens_in, tokens_out, latency_s, cost_usd, *_ = row
    tokens = tuple(map(tuple, json.loads(logprobs))) if logprobs else ()
    return Reply(text, finish, tokens, answered, tokens_in, tokens_out, latency_s, cost_usd)
