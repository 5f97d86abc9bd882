"""A short cut past rendering for what the ledger holds already: by unit, without its questions.

Answers are kept by rendered request, so finding one means rendering first, which takes most of the time of a run whose
answers are all there. Beside them stands a table of aliases: from a unit, and all that shapes its requests, to their
keys. It is a cache and nothing else: without it everything comes out the same, only later. What checks a run
(`perl_eval.judging.verify`) never uses it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import cache
from importlib.metadata import version
from itertools import chain, groupby, islice
from pathlib import Path
from typing import get_args

from perl_eval import records
from perl_eval.client.ledger import Ledger
from perl_eval.client.usage import Usage
from perl_eval.judges import prompting, question_keys
from perl_eval.judges.protocol import Judge
from perl_eval.judges.question_keys import Keys, fed, parts
from perl_eval.judging import outcome_of
from perl_eval.judging.outcome_of import Contestants
from perl_eval.records import Ballot, Judgement, Order, Question

__all__ = ["Recall"]

_BLOCK = 256
_NOTED = 4096
Put = Callable[[Iterable[Question]], Generator[Ballot, None, None]]


class Recall:
    """Judgements out of the ledger without rendering, up to the first unit that it does not hold whole.

    Runs that were cut short ask in the same order again, so what they have lies at the beginning.

    Args:
        judge: Whom to ask.
        kept: Where answers and aliases are kept.
        put: Asks about all else: turns questions into ballots, in order.
        tally: Ballots out of the ledger are added to it.
    """

    def __init__(self, judge: Judge, kept: Ledger, put: Put, tally: Usage) -> None:
        self._judge, self._ledger, self._put, self._tally = judge, kept, put, tally

    def judgements(
        self,
        units: Iterable[Contestants],
        template: prompting.Template,
        *,
        reasoning: bool = False,
        votes: int = 1,
    ) -> Generator[Judgement, None, None]:
        """Judge units in order, as `perl_eval.judging.outcome_of.judgements` does.

        Args:
            units: What to judge.
            template: What to ask.
            reasoning: Ask for reasons before the verdict.
            votes: How often each question is asked.
        """
        judge, source = self._judge, iter(units)
        aliases = _Aliases(judge, template, reasoning=reasoning, votes=votes)
        naming = outcome_of.naming(judge, template)
        rest: list[Contestants] = []
        while not rest and (block := list(islice(source, _BLOCK))):
            for place, (unit, ballots) in enumerate(self._recalled(block, template, aliases, votes)):
                if not ballots:
                    rest = block[place:]
                    break
                self._tally.from_ledger += len(ballots)
                yield outcome_of.judgement(outcome_of.judgement_id(unit, naming), unit, ballots, judge, template)
        if not rest:
            return
        noted: list[tuple[bytes, bytes]] = []

        def put(questions: Iterable[Question]) -> Generator[Ballot, None, None]:
            return self._put(self._noting(questions, aliases, votes, noted))

        yield from outcome_of.judgements(
            chain(rest, source), judge, template, put=put, reasoning=reasoning, votes=votes
        )
        self._ledger.note(noted)

    def _recalled(
        self, block: list[Contestants], template: prompting.Template, aliases: _Aliases, votes: int
    ) -> Iterator[tuple[Contestants, tuple[Ballot, ...]]]:
        """Yield each unit with its ballots, or with none if one of its answers is not kept."""
        names = [aliases.of(unit) for unit in block]
        requests = self._ledger.noted(names)
        found = self._ledger.find([key for keys in requests.values() for key in keys])
        read = self._judge.read
        bare = {
            order: Question("", template.kind, order, (), (), template.sha256, scale=template.scale)
            for order in get_args(Order)
        }
        for unit, name in zip(block, names, strict=True):
            keys = requests.get(name, ())
            orders = outcome_of.orders_of(unit, self._judge)
            if len(keys) != votes * len(orders):
                yield unit, ()
                continue
            try:
                replies = [found[key] for key in keys]
            except KeyError:
                yield unit, ()
                continue
            yield unit, tuple([read(bare[orders[place // votes]], reply) for place, reply in enumerate(replies)])

    def _noting(
        self, questions: Iterable[Question], aliases: _Aliases, votes: int, noted: list[tuple[bytes, bytes]]
    ) -> Iterator[Question]:
        """Pass questions on, and note under which keys the answers about each unit will be."""
        keys = Keys(self._judge)
        for _, same in groupby(questions, key=lambda question: question.id):
            asked = list(same)
            requests = b"".join([keys.of(question, vote) for question in asked for vote in range(votes)])
            noted.append((aliases.of(asked[0].candidates), requests))
            if len(noted) >= _NOTED:
                self._ledger.note(noted)
                noted.clear()
            yield from asked


class _Aliases:
    """Names of units under one judge, prompt and way to ask: sha256 over all that shapes their requests.

    The code that renders is part of it, so that changed code meets no alias of before.
    """

    def __init__(self, judge: Judge, template: prompting.Template, *, reasoning: bool, votes: int) -> None:
        shaping = {
            "code": _code_sha256(),
            "judge": [judge.door, judge.model, dict(judge.parameters), judge.positional, judge.sees],
            "prompt": [template.sha256, template.kind, str(template.scale), template.rubric, template.rubric_sha256],
            "asking": [reasoning, votes],
        }
        self._start = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode())
        self._references, self._sees_candidates = template.references, judge.sees == "candidates"

    def of(self, unit: Contestants) -> bytes:
        """Return the name of a unit: 32 bytes."""
        shown = [str(len(unit)), *parts(unit[0].prompt), *[answer.text for answer in unit]]
        for answer in unit:
            if answer.images:
                shown += (str(len(answer.images)), *[Path(path).stem for path in answer.images])
            if self._sees_candidates:
                shown += (answer.item, *parts(answer.prompt), " ".join(map(str, answer.token_ids)))
        if self._references:
            shown.append(self._references[unit[0].item])
        state = self._start.copy()
        state.update(fed(*shown))
        return state.digest()


@cache
def _code_sha256() -> str:
    """Return the sha256 over all code between a unit and the keys of its requests."""
    state = hashlib.sha256(version("jinja2").encode())
    for module in (records, prompting, outcome_of, question_keys):
        assert module.__file__ is not None
        state.update(fed(Path(module.__file__).read_text(encoding="utf-8")))
    return state.hexdigest()
