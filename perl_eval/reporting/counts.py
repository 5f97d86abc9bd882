"""Count judgements by comparison, and draw a sample of them, in one pass over the records."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from perl_eval.outcomes import is_undecided
from perl_eval.records import Judgement, Score, digest
from perl_eval.reporting.inputs import Folder, records
from perl_eval.stats.position_bias import verdicts

__all__ = ["ALONE", "Chosen", "Missing", "OutcomeCounts", "missing_scores", "survey"]

_REASON_LIMIT = 160
ALONE = {"yes_no": "yes or no", "score": "scored"}
"""How answers are judged alone, in words."""


@dataclass(slots=True)
class OutcomeCounts:
    """What one judge, asked in one way, said of one comparison on one data set in one folder.

    Nothing is pooled, so that counts and rates are those of the estimates made from the same folder.

    Attributes:
        folder: Place of the folder.
        judge: The judge's name.
        kind: ``pairwise``, ``yes_no`` or ``score``.
        a: Policy a.
        b: Policy b; empty where answers are judged alone.
        dataset: Where the prompts come from.
        prompt_sha256: Of the judge's prompt.
        outcomes: Judgements by outcome.
        ordered: Judgements for which both orders have a verdict.
        both_first: Those in which both orders named the answer shown first.
        both_second: Those in which both named the second.
        reasons: Unjudged ones by reason.
        simulated: Judgements with no model behind the judge.
        asked: Ballots.
        tokens_in: Tokens of their requests.
        tokens_out: Tokens of their replies.
        latency_s: Seconds waited for them, each on its own.
        cost_usd: Price of those whose price is known.
        priced: Ballots whose price is known.
    """

    folder: int
    judge: str
    kind: str
    a: str
    b: str
    dataset: str
    prompt_sha256: str
    outcomes: Counter[str] = field(default_factory=Counter)
    ordered: int = 0
    both_first: int = 0
    both_second: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    simulated: int = 0
    asked: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    latency_s: float = 0.0
    cost_usd: float = 0.0
    priced: int = 0

    @property
    def n(self) -> int:
        """Judgements, the unjudged among them."""
        return self.outcomes.total()

    @property
    def undecided(self) -> int:
        """Splits, ties and mixed ones."""
        return sum(number for outcome, number in self.outcomes.items() if is_undecided(outcome))

    @property
    def pair(self) -> str:
        """The comparison in words."""
        return f"{self.a} against {self.b}" if self.kind == "pairwise" else f"{self.a}, {ALONE[self.kind]}"

    def add(self, judgement: Judgement) -> None:
        """Count one more judgement."""
        self.outcomes[judgement.outcome] += 1
        self.simulated += judgement.simulated
        for ballot in judgement.ballots:
            self.asked += 1
            self.tokens_in += ballot.tokens_in
            self.tokens_out += ballot.tokens_out
            self.latency_s += ballot.latency_s
            self.cost_usd += ballot.cost_usd or 0.0
            self.priced += ballot.cost_usd is not None
        if judgement.outcome == "unjudged":
            why = judgement.reason or next((ballot.reason for ballot in judgement.ballots if ballot.reason), None)
            self.reasons[(why or "no reason given")[:_REASON_LIMIT]] += 1
            return
        both = verdicts(judgement.ballots)
        self.ordered += both is not None
        self.both_first += both == ("first", "first")
        self.both_second += both == ("second", "second")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A judgement drawn for reading; ``row`` counts over all judgements as they were read."""

    row: int
    folder: int
    judgement: Judgement


_Key = tuple[int, str, str, str, str, str, str]


def _key(folder: int, said: Judgement) -> _Key:
    return folder, said.judge, said.kind, said.policy_a, said.policy_b, said.dataset, said.prompt_sha256


def survey(found: Sequence[Folder], *, seed: int, limit: int) -> tuple[list[OutcomeCounts], list[Chosen]]:
    """Count every judgement and draw at most ``limit`` of them.

    A judgement is drawn if the hash of seed and item is among the smallest: all that was said of an item is drawn
    together, any prefix of what is returned is a sample of items too, and more judgements do not change who comes
    before whom.

    Args:
        found: The folders.
        seed: Chooses the sample.
        limit: Judgements to draw, at most.

    Returns:
        The tallies in the order they first appear, and the drawn judgements in random order. In memory are the
        drawn ones and one batch.
    """
    tallies: dict[_Key, OutcomeCounts] = {}

    def counted() -> Iterator[Chosen]:
        for row, (folder, judgement) in enumerate(records(found, Judgement)):
            key = _key(folder, judgement)
            if key not in tallies:
                tallies[key] = OutcomeCounts(*key)
            tallies[key].add(judgement)
            yield Chosen(row, folder, judgement)

    def rank(drawn: Chosen) -> tuple[str, int]:
        return digest("report", str(seed), drawn.judgement.item), drawn.row

    # At least one is drawn, for nsmallest(0) would not count at all.
    chosen = heapq.nsmallest(max(limit, 1), counted(), key=rank)[:limit]
    return list(tallies.values()), chosen


@dataclass(slots=True)
class Missing:
    """Scores of one metric and policy in one folder that could not be had, out of ``n``."""

    folder: int
    metric: str
    policy: str
    n: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def missing_scores(found: Sequence[Folder]) -> list[Missing]:
    """Return metrics and policies for which some score is missing, with the reasons."""
    seen: dict[tuple[int, str, str], Missing] = {}
    for folder, score in records(found, Score):
        key = (folder, score.metric, score.policy)
        entry = seen.setdefault(key, Missing(*key))
        entry.n += 1
        if score.value is None:
            entry.reasons[(score.reason or "no reason given")[:_REASON_LIMIT]] += 1
    return [entry for entry in seen.values() if entry.reasons]
