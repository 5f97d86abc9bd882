"""What a scheduler is given: who answers, what is asked, and how requests of one kind are handled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Generic, NamedTuple, Protocol, TypeVar

from perl_eval.client.ledger import Answering, Ledger
from perl_eval.client.reply import Reply
from perl_eval.client.usage import Usage
from perl_eval.errors import JudgeError, Refused, UserError

__all__ = ["Handling", "Request", "Service", "grouped", "looked_up"]

Content = TypeVar("Content")
Asked = TypeVar("Asked", contravariant=True)  # noqa: PLC0105  # read in signatures


class Service(Answering, Protocol[Asked]):
    """Who answers: a judge, or a model behind a server that is sampled.

    Attributes:
        group: How many requests one call of `ask` may carry.
        longest: Tokens of the longest reply to one of them, as far as known.
    """

    group: int
    longest: int

    async def ask(self, contents: Sequence[Asked], /) -> list[Reply]:
        """Answer 1 to ``group`` requests, in order, one reply each.

        Raises:
            JudgeError: No reply could be had.
            UserError: No request will ever be answered: asking ends.
        """
        ...

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:
        """Return what so many tokens cost, or None if nobody knows."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...


class Request(NamedTuple, Generic[Content]):
    """One request.

    Attributes:
        key: Its place in the ledger.
        content: What is asked.
        reply: What the ledger holds, if it does: a reply, or that it was refused for good.
    """

    key: bytes
    content: Content
    reply: Reply | Refused | None = None


@dataclass(frozen=True, slots=True)
class Handling(Generic[Content]):
    """How requests of one kind are handled.

    Attributes:
        unit: What a request is part of: neighbours of one unit are not parted where they fit into one call.
        tokens: How many tokens a request has, roughly.
        ends: Whether asking ends with this failure of a request, given all counts so far, and with which error.
        keeps: Whether a reply goes into the ledger.
    """

    unit: Callable[[Content], object]
    tokens: Callable[[Content], float]
    ends: Callable[[JudgeError, Usage], UserError | None]
    keeps: Callable[[Reply], bool] = lambda _: True


def looked_up(ledger: Ledger, block: Sequence[tuple[bytes, Content]]) -> list[Request[Content]]:
    """Return requests with what the ledger holds for them."""
    known = ledger.find([key for key, _ in block])
    refused = ledger.refused([key for key, _ in block if key not in known])
    return [Request(key, content, known.get(key) or refused.get(key)) for key, content in block]


def grouped(
    missing: Iterable[Request[Content]], size: int, unit: Callable[[Content], object]
) -> Iterator[list[Request[Content]]]:
    """Cut requests into groups, and never between those of one unit if they fit into one."""
    if size == 1:
        yield from ([request] for request in missing)
        return
    group: list[Request[Content]] = []
    for _, same in groupby(missing, key=lambda request: unit(request.content)):
        whole = list(same)
        for start in range(0, len(whole), size):
            piece = whole[start : start + size]
            if len(group) + len(piece) > size:
                yield group
                group = []
            group = [*group, *piece]
    if group:
        yield group
