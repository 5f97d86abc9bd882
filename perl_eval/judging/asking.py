"""Asking about units: contestants in, ballots or judgements out, in the same order.

Units are looked up in blocks, first by the ledger's index, then by the keys of their questions: a question is rendered
and hashed once, and not at all where the index knows its answers; a key is looked up once.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from typing import NamedTuple

from perl_eval.client.account import Spending
from perl_eval.client.garbage import seldom_collected
from perl_eval.client.ledger import Ledger
from perl_eval.client.reply import Reply
from perl_eval.client.service import Request
from perl_eval.client.usage import Usage
from perl_eval.errors import Refused
from perl_eval.judges import prompting
from perl_eval.judges.protocol import Judge
from perl_eval.judges.question_keys import Keys
from perl_eval.judging import outcome_of
from perl_eval.judging.engine.ask import ballot_of, ballots_of
from perl_eval.judging.key_cache import KeyIndex
from perl_eval.judging.options import JudgeOptions
from perl_eval.judging.outcome_of import Contestants
from perl_eval.records import Ballot, Judgement, Question

__all__ = ["Asking", "Cast"]

_BLOCK = 128


class Cast(NamedTuple):
    """The ballots about one unit.

    Attributes:
        id: Of the judgement that they come to.
        unit: What is judged.
        ballots: In both orders if the judge has positions, vote by vote.
    """

    id: str
    unit: Contestants
    ballots: tuple[Ballot, ...]


class _Unit(NamedTuple):
    """A unit, looked up: for every vote on every question its key, what is asked, and the reply if the ledger has it.

    Where all replies are there, what is asked is not rendered: kind, order and scale are all that reading needs.
    """

    id: str
    unit: Contestants
    keys: list[bytes]
    asked: list[Question]
    replies: list[Reply | Refused | None]

    def requests(self) -> list[Request[Question]]:
        return list(map(Request, self.keys, self.asked, self.replies))


class Asking:
    """Puts units to a judge, and takes from the ledger what it holds.

    Args:
        judge: Whom to ask.
        template: What to ask.
        ledger: Where answers are kept.
        options: How to judge; with a batch nobody is asked here, for the ledger has what came of it.
        tally: Counts are added to it, and to the account of the run if it has one.
        index: Whether to use the ledger's index of units; what checks a run does not.
    """

    def __init__(
        self,
        judge: Judge,
        template: prompting.Template,
        ledger: Ledger,
        options: JudgeOptions,
        tally: Usage | Spending | None = None,
        *,
        index: bool = True,
    ) -> None:
        self._spending = tally if isinstance(tally, Spending) else Spending(tally or Usage())
        self.judge, self.tally = judge, self._spending.tally
        self._template, self._ledger, self._reasoning = template, ledger, options.reasoning
        self._limits = replace(options.asking, offline=options.asking.offline or options.batch is not None)
        self._votes = range(options.asking.votes)
        self._keys = Keys(judge)
        self._index: KeyIndex | None = None
        if index:
            self._index = KeyIndex(ledger, judge, template, reasoning=options.reasoning, votes=options.asking.votes)
        self._naming = outcome_of.naming(judge, template)
        self._bare = {
            orders: [
                Question("", template.kind, order, (), (), template.sha256, scale=template.scale)
                for order in orders
                for _ in self._votes
            ]
            for orders in outcome_of.ORDERS
        }

    def judgements(self, units: Iterable[Contestants]) -> Generator[Judgement, None, None]:
        """Judge units in order; if a budget runs out, the judgements end early.

        Args:
            units: What to judge, taken as they are needed, some thousand ahead.

        Raises:
            UserError: The judge will never answer, its price is not known and money is limited, or the ledger cannot be
                written.
        """
        with seldom_collected(), contextlib.closing(self.cast(units)) as found:
            for one in found:
                yield self.judgement(one)

    def judgement(self, cast: Cast) -> Judgement:
        """Return the judgement that the ballots about a unit come to."""
        return outcome_of.judgement(cast.id, cast.unit, cast.ballots, self.judge, self._template)

    def cast(self, units: Iterable[Contestants]) -> Generator[Cast, None, None]:
        """Yield the ballots about units in order; see `judgements`."""
        blocks, read, tally = self._blocks(units), self.judge.reader.read, self.tally
        for block in blocks:
            if not all(all(one.replies) for one in block):
                yield from self._asked(chain([block], blocks))
                break
            for id, unit, _, asked, replies in block:
                tally.from_ledger += len(replies)
                # What is None was ruled out above.
                if Refused in map(type, replies):
                    refused = sum(isinstance(reply, Refused) for reply in replies)
                    tally.failed += refused
                    tally.from_ledger -= refused
                    answers = zip(asked, replies, strict=True)
                    yield Cast(id, unit, tuple(ballot_of(question, one, self.judge) for question, one in answers))  # type: ignore[arg-type]
                else:
                    yield Cast(id, unit, tuple(map(read, asked, replies)))  # type: ignore[arg-type]
        if self._index is not None:
            self._index.flush()

    def missing(self, units: Iterable[Contestants]) -> Iterator[tuple[bytes, Question]]:
        """Yield the questions about units that the ledger does not answer, each key once."""
        seen: set[bytes] = set()
        for block in self._blocks(units):
            for key, question, reply in (request for one in block for request in one.requests()):
                if reply is None and key not in seen:
                    seen.add(key)
                    yield key, question
        if self._index is not None:
            self._index.flush()

    def _asked(self, blocks: Iterable[list[_Unit]]) -> Generator[Cast, None, None]:
        """Yield the ballots about units, some of which the judge is to be asked about."""
        planned: deque[tuple[str, Contestants, int]] = deque()

        def requests() -> Iterator[list[Request[Question]]]:
            for block in blocks:
                planned.extend([(id, unit, len(keys)) for id, unit, keys, *_ in block])
                yield [request for one in block for request in one.requests()]

        with contextlib.closing(self._ballots(requests())) as ballots:
            # A unit is planned before its first ballot comes.
            for ballot in ballots:
                id, unit, wanted = planned.popleft()
                cast = (ballot, *islice(ballots, wanted - 1))
                if len(cast) < wanted:
                    return
                yield Cast(id, unit, cast)

    def _ballots(self, requests: Iterator[list[Request[Question]]]) -> Generator[Ballot, None, None]:
        return ballots_of(requests, self.judge, self._ledger, self._limits, self._spending)

    def _blocks(self, units: Iterable[Contestants]) -> Iterator[list[_Unit]]:
        """Look units up, block by block; from the first block of which the index knows nothing, it is not asked."""
        source, indexed = iter(units), self._index is not None
        while block := list(islice(source, _BLOCK)):
            aliases = [self._index.of(unit) for unit in block] if self._index is not None else []
            noted = self._index.keys(aliases) if indexed and self._index is not None else {}
            indexed = bool(noted)
            yield self._looked_up(block, aliases, noted)

    def _looked_up(
        self, block: list[Contestants], aliases: list[bytes], noted: Mapping[bytes, list[bytes]]
    ) -> list[_Unit]:
        """Return units with their questions, and the replies that the ledger holds."""
        looked = [key for keys in noted.values() for key in keys]
        known = self._ledger.find(looked)
        votes, found = self._votes, list[_Unit]()
        rendered: dict[bytes, None] = {}
        for place, unit in enumerate(block):
            alias = aliases[place] if aliases else b""
            id, keys = outcome_of.judgement_id(unit, self._naming), noted.get(alias, [])
            bare = self._bare[outcome_of.orders_of(unit, self.judge)]
            replies: list[Reply | Refused | None] = [known.get(key) for key in keys]
            if len(keys) == len(bare) and all(replies):
                found.append(_Unit(id, unit, keys, bare, replies))
                continue
            # What the index says is trusted for what is there, never for what is to be asked and kept.
            questions = outcome_of.asked(unit, self.judge, self._template, id=id, reasoning=self._reasoning)
            asked = [question for question in questions for _ in votes]
            hashed = [self._keys.of(question, vote) for question in questions for vote in votes]
            found.append(_Unit(id, unit, hashed, asked, []))
            rendered.update(dict.fromkeys(hashed))
            if self._index is not None and hashed != keys:
                self._index.note(alias, hashed)
        if not rendered:
            return found
        for key in looked:
            rendered.pop(key, None)
        known |= self._ledger.find(list(rendered))
        refused = self._ledger.refused([key for key in rendered if key not in known])
        return [
            one if one.replies else one._replace(replies=[known.get(key) or refused.get(key) for key in one.keys])
            for one in found
        ]
