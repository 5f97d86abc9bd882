"""What a judging run that goes on has come to, read from what it leaves on disk: its inputs and its ledger."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perl_eval import figure_names as named
from perl_eval.client.reply import Reply
from perl_eval.errors import PerlEvalError, UserError
from perl_eval.judges.backends import offline
from perl_eval.judges.question_keys import Keys
from perl_eval.judges.readers import PatternReader, TextReader
from perl_eval.judging.options import JudgeOptions, template_of
from perl_eval.judging.outcome_of import asked, judgement_id, naming
from perl_eval.judging.queue import queue_of
from perl_eval.judging.run import LEDGER
from perl_eval.outcomes import HALF, decide
from perl_eval.records import Ballot, Question, RunCard
from perl_eval.stats.sequential import StopRule

__all__ = ["RunningJudge"]

_COLUMNS = "rowid, key, text, finish, logprobs, answered, tokens_in, tokens_out, latency_s, cost_usd"
_AHEAD = 256
"""Units that were judged beyond one without a verdict before that one counts as unjudged."""


@dataclass(slots=True)
class _Unit:
    """A unit that is judged: its questions, and the ballots that are there."""

    questions: list[tuple[bytes, Question]]
    ballots: dict[bytes, Ballot] = field(default_factory=dict)

    @property
    def outcome(self) -> str | None:
        """What the ballots come to, None while one is missing."""
        if len(self.ballots) < len(self.questions):
            return None
        return decide(tuple(self.ballots[key] for key, _ in self.questions)).outcome


class RunningJudge:
    """Follows the ledger of a judging run.

    Args:
        folder: The run folder.
        plan: What the run writes down as it begins: arguments, seed and inputs.

    Raises:
        UserError: The run asks by a prompt, or with a judge, that is not known here.
        DataError: An input is not a table of completions.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self._ledger, self._row = folder / LEDGER, 0
        arguments = plan["arguments"]
        judge = _judge(plan)
        a, b = Path(arguments["a"]), Path(arguments["b"]) if "b" in arguments else None
        options = JudgeOptions(
            arguments["prompt"],
            seed=plan["seed"],
            limit=arguments["limit"],
            reasoning=arguments["reasoning"],
            rubric=Path(arguments["rubric"]) if arguments.get("rubric") else None,
            references=Path(arguments["references"]) if arguments.get("references") else None,
        )
        template = template_of(b, options)
        if template.sha256 != arguments["prompt_sha256"]:
            raise UserError("it uses a prompt of your own", "its rates are known once it is finished")
        self.kind, self.judge, self.simulated = template.kind, judge.model, judge.simulated
        self._reader = judge.reader
        self._units: list[_Unit] = []
        self._of: dict[bytes, list[_Unit]] = {}
        keys, named = Keys(judge), naming(judge, template)
        with tempfile.TemporaryDirectory() as scratch:
            queue, _ = queue_of(a, b, template, options, Path(scratch))
            for contestants in queue:
                questions = asked(
                    contestants, judge, template, id=judgement_id(contestants, named), reasoning=options.reasoning
                )
                unit = _Unit(
                    [(keys.of(one, vote), _bare(one)) for one in questions for vote in range(arguments["votes"])]
                )
                self._units.append(unit)
                for key, _ in unit.questions:
                    self._of.setdefault(key, []).append(unit)
            self._rule = StopRule.over(queue.groups())
        self._place = 0
        self.cost_usd, self.replies, self.tokens = 0.0, 0, 0

    def follow(self) -> dict[str, Any]:
        """Read what came since, and return counts, outcomes and the rate with its anytime interval.

        Returns:
            ``done`` and ``total`` units, ``outcomes`` by name, and ``rate`` with value, low, high and n, or None.
        """
        self._read()
        outcomes = [unit.outcome for unit in self._units]
        last = max((place for place, outcome in enumerate(outcomes) if outcome is not None), default=-1)
        while self._place <= last and self._place < len(outcomes):
            outcome = outcomes[self._place]
            if outcome is None and last - self._place < _AHEAD:
                break
            self._rule.feed(None if outcome is None else HALF.of(outcome))
            self._place += 1
        counts = Counter(outcome for outcome in outcomes if outcome is not None)
        return {"done": counts.total(), "total": len(outcomes), "outcomes": dict(counts), "rate": self._rate()}

    def _rate(self) -> dict[str, Any] | None:
        if self.kind == "score" or not self._rule.n:
            return None
        estimate = self._rule.estimate("rate")
        name = named.WIN_RATE_UNDECIDED_HALF if self.kind == "pairwise" else named.YES_RATE
        decided = self._rule.low > 0.5 or self._rule.high < 0.5
        return {
            "name": name,
            "value": estimate.value,
            "low": self._rule.low,
            "high": self._rule.high,
            "n": self._rule.n,
            "decided": decided,
        }

    def _read(self) -> None:
        """Take in the replies that were written since the last time; the ledger is opened for reading only."""
        if not self._ledger.is_file():
            return
        try:
            with closing(
                sqlite3.connect(f"{self._ledger.resolve().as_uri()}?mode=ro", uri=True, timeout=5.0)
            ) as database:
                found = database.execute(f"SELECT {_COLUMNS} FROM reply WHERE rowid > ? ORDER BY rowid", (self._row,))
                for row, key, text, finish, logprobs, answered, tokens_in, tokens_out, latency_s, cost in found:
                    self._row = row
                    tokens = tuple(map(tuple, json.loads(logprobs))) if logprobs else ()
                    self._count(key, Reply(text, finish, tokens, answered, tokens_in, tokens_out, latency_s, cost))
        except sqlite3.OperationalError:  # it is being made, or locked: the next look finds it
            return

    def _count(self, key: bytes, reply: Reply) -> None:
        units = self._of.get(key, [])
        if units:
            self.replies += 1
            self.tokens += reply.tokens_in + reply.tokens_out
            self.cost_usd += reply.cost_usd or 0.0
        for unit in units:
            question = next(one for known, one in unit.questions if known == key)
            unit.ballots[key] = self._reader.read(question, reply)


def _bare(question: Question) -> Question:
    """Return what reading a reply needs of a question."""
    return Question("", question.kind, question.order, (), (), question.prompt_sha256, scale=question.scale)


def _judge(plan: Mapping[str, Any]) -> offline.OfflineJudge:
    """Return the judge that a run names, able to read."""
    arguments = plan["arguments"]
    card = RunCard(plan["verb"], arguments, plan["seed"], {}, {}, {}, 0.0, 0, "", plan["simulated"])
    named = arguments["judge"]
    try:
        judge = offline.reopen(card)
    except PerlEvalError:  # a provider's model, which answers in text as any other
        judge = offline.OfflineJudge(named["door"], named["model"], named["parameters"], TextReader())
    assert isinstance(judge, offline.OfflineJudge)
    if pattern := arguments.get("verdict_pattern"):
        judge.reader = PatternReader(pattern)
    return judge
