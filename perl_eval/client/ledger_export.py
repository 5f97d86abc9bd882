"""Keeping house in a ledger: export it, prune it. What it holds is replies; no question, no key, no header."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from perl_eval.client.ledger import Ledger
from perl_eval.client.reply import Finish
from perl_eval.errors import UserError
from perl_eval.storage import parquet

__all__ = ["KeptReply", "Pruning", "export", "prune"]


@dataclass(frozen=True, slots=True)
class Token:
    """A token that could have come, with its log-probability in nats."""

    token: str
    logprob: float


@dataclass(frozen=True, slots=True)
class KeptReply:
    """One row of a ledger.

    Attributes:
        key: The key, in hex digits.
        backend: Which backend was asked.
        asked: Which model was asked.
        answered: The model as the server names it.
        text: The reply.
        finish: Why it ended.
        logprobs: Tokens that could have come at the answer position.
        tokens_in: Tokens of the request.
        tokens_out: Tokens of the reply.
        latency_s: Seconds from request to reply.
        cost_usd: Price of the call, where known.
        at: When it was kept, UTC.
    """

    key: str
    backend: str
    asked: str
    answered: str
    text: str
    finish: Finish
    logprobs: tuple[Token, ...]
    tokens_in: int
    tokens_out: int
    latency_s: float
    cost_usd: float | None
    at: str


@dataclass(frozen=True, slots=True)
class Pruning:
    """Which replies to delete: those to which all of this applies.

    Attributes:
        before: Kept before this moment; one without a time zone is UTC.
        model: Asked of this model.
        unused: Not among these keys; see `perl_eval.judging.verify.keys_of` for those of a run.
    """

    before: datetime | None = None
    model: str | None = None
    unused: Iterable[bytes] | None = None


def export(ledger: Path, out: Path) -> int:
    """Write all replies of a ledger to a file, in the order they were kept.

    Args:
        ledger: The ledger.
        out: ``.jsonl`` for JSON lines, ``.parquet`` for a table of `KeptReply`.

    Returns:
        The number of replies.

    Raises:
        UserError: There is no ledger, the name of the file says neither form, or it cannot be written.
    """
    _must_be_there(ledger)
    if out.suffix not in (".jsonl", ".parquet"):
        raise UserError(f"{out} is neither .jsonl nor .parquet", "give one of these endings")
    with Ledger(ledger) as opened:
        if out.suffix == ".parquet":
            return parquet.write(out, _replies(opened), KeptReply)
        count = 0

        def write_to(partial: Path) -> None:
            nonlocal count
            with partial.open("w", encoding="ascii") as handle:
                for reply in _replies(opened):
                    handle.write(json.dumps(asdict(reply)) + "\n")
                    count += 1

        parquet.replace_file(out, write_to)
        return count


def prune(ledger: Path, what: Pruning) -> int:
    """Delete replies, and give their room on the disk back.

    Runs that used them can no longer be verified or read again; asking the same costs again.

    Args:
        ledger: The ledger.
        what: Which replies.

    Returns:
        The number of replies that were deleted.

    Raises:
        UserError: There is no ledger, nothing says which replies, or another process is writing the ledger.
    """
    _must_be_there(ledger)
    if what == Pruning():
        raise UserError(
            "nothing says which replies to delete", "give an age, a model, or the runs whose replies to keep"
        )
    conditions, values = [], []
    if what.before is not None:
        moment = what.before if what.before.tzinfo is not None else what.before.replace(tzinfo=UTC)
        conditions.append("at < ?")
        values.append(moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z")
    if what.model is not None:
        conditions.append("asked = ?")
        values.append(what.model)
    with Ledger(ledger) as opened:
        return opened.delete(conditions, values, keep=what.unused)


def _must_be_there(ledger: Path) -> None:
    if not ledger.is_file():
        raise UserError(f"no such ledger: {ledger}", "check the path")


def _replies(ledger: Ledger) -> Iterator[KeptReply]:
    for key, *middle, logprobs, tokens_in, tokens_out, latency_s, cost_usd, at, _ in ledger.rows():
        backend, asked, answered, text, finish = middle
        tokens = tuple(Token(token, logprob) for token, logprob in json.loads(logprobs or "[]"))
        yield KeptReply(
            key.hex(), backend, asked, answered, text, finish, tokens, tokens_in, tokens_out, latency_s, cost_usd, at
        )
