"""A row of the ledger: its columns, the reply in it, and the checksum over all of it."""

from __future__ import annotations

import json
import struct
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
_NUMBERS = struct.Struct("<qqd").pack
_PRICED = struct.Struct("<qqdd").pack


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
    """Return the CRC-32 of a row's key, of who was asked, and of the reply; it tells damage, not forgery.

    Raises:
        TypeError: A column has a type that no row has.
        struct.error: A number is none, or too large.
    """
    return _crc(*row[:11])


def _crc(  # noqa: PLR0913, PLR0917  # the columns of a row, as they come: a sequence to take apart costs as much again
    key: bytes,
    door: str,
    asked: str,
    answered: str,
    text: str,
    finish: str,
    logprobs: str,
    tokens_in: int,
    tokens_out: int,
    latency_s: float,
    cost_usd: float | None,
) -> int:
    if cost_usd is None:
        numbers = _NUMBERS(tokens_in, tokens_out, latency_s)
    else:
        numbers = _PRICED(tokens_in, tokens_out, latency_s, cost_usd)
    told = "\0".join((door, asked, answered, finish, logprobs, text))
    return zlib.crc32(told.encode("utf-8", "surrogatepass"), zlib.crc32(numbers, zlib.crc32(key)))


def is_whole(row: Sequence[Any]) -> bool:
    """Say whether a row holds what was put into it; of one without a checksum nobody knows, and it counts as whole."""
    try:
        return row[12] is None or bool(row[12] == checksum(row))
    except (TypeError, struct.error):
        return False


def reply_of(row: Sequence[Any]) -> Reply:
    """Return the reply in a row that has all columns but the time.

    Raises:
        ValueError: It is not what was put there.
    """
    key, door, asked, answered, text, finish, logprobs, tokens_in, tokens_out, latency_s, cost_usd, check = row
    try:
        if check is not None and check != _crc(
            key, door, asked, answered, text, finish, logprobs, tokens_in, tokens_out, latency_s, cost_usd
        ):
            raise ValueError("the checksum is another")
        tokens = tuple(map(tuple, json.loads(logprobs))) if logprobs else ()
    except (TypeError, struct.error):
        raise ValueError("a column has another type") from None
    return Reply(text, finish, tokens, answered, tokens_in, tokens_out, latency_s, cost_usd)
