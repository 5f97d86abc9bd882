"""How replies are read: each way under a name, so that a run card can say which one a run used.

A reader is pure, and what it needs beside a reply are a few numbers. So a finished run is verified, read again or
pruned without its judge: `described` goes on the run card, and `reader_of` makes the reader of it again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from perl_eval.client.reply import Reply
from perl_eval.errors import UserError
from perl_eval.judges.backends.choices import options_of
from perl_eval.judges.parsing import patterns
from perl_eval.judges.parsing.replies import read_reply
from perl_eval.judges.parsing.scores import mean_score
from perl_eval.outcomes import worth
from perl_eval.records import Ballot, Question, Verdict

__all__ = [
    "MarginReader",
    "PatternReader",
    "ProbabilityReader",
    "Reader",
    "RewardReader",
    "TextReader",
    "described",
    "reader_of",
    "register_reader",
    "sigmoid",
]


class Reader(Protocol):
    """What turns a reply into a ballot; a frozen dataclass, whose fields are what is needed to make it again.

    Attributes:
        name: Under which `register_reader` knows its class.
    """

    name: ClassVar[str]

    def read(self, question: Question, reply: Reply) -> Ballot:
        """Read one reply. A reply without a verdict is a ballot with ``verdict=None`` and a reason.

        Of the question it needs kind, order and scale only: a reply that is kept may be read without the rest.
        """
        ...


@dataclass(frozen=True, slots=True)
class TextReader:
    """Reads the verdict that a text commits to last."""

    name: ClassVar[str] = "text"

    def read(self, question: Question, reply: Reply) -> Ballot:
        """Read a reply in text, with or without the probabilities of its first token."""
        return read_reply(question, reply)


@dataclass(frozen=True, slots=True)
class PatternReader:
    """Reads the verdict that the last match of a regular expression names.

    Attributes:
        pattern: The expression, see `perl_eval.parse_verdict`.

    Raises:
        UserError: It is no such expression.
    """

    name: ClassVar[str] = "pattern"
    pattern: str

    def __post_init__(self) -> None:
        patterns.checked(self.pattern)

    def read(self, question: Question, reply: Reply) -> Ballot:
        """Read a reply in text; a score on a scale is read as without an expression."""
        return read_reply(question, reply, self.pattern)


@dataclass(frozen=True, slots=True)
class ProbabilityReader:
    """Takes the most probable option of a reply that is a JSON object of option probabilities.

    Attributes:
        tie_margin: A pair is a tie if its two probabilities differ by no more.
    """

    name: ClassVar[str] = "probabilities"
    tie_margin: float = 0.0

    def read(self, question: Question, reply: Reply) -> Ballot:
        """Read probabilities; ties count half in ``p_first``."""
        if reply.finish == "refusal":
            return reply.ballot(question, None, reason="the judge refused to answer")
        given: dict[str, float] = json.loads(reply.text)
        total = sum(given.values())
        if not given.keys() <= set(options_of(question, tie=True)) or not 0.0 < total < float("inf"):
            return reply.ballot(question, None, reason=f"the probabilities are none: {reply.text[:80]}")
        if question.scale is not None:
            return reply.ballot(question, "scored", score=mean_score(given))
        if question.kind == "yes_no":
            p_first = given.get("yes", 0.0) / total
            return reply.ballot(question, "yes" if p_first > 0.5 else "no", p_first=p_first)
        first, second, tie = (given.get(option, 0.0) / total for option in ("A", "B", "tie"))
        verdict: Verdict = "first" if first > second else "second"
        if tie >= max(first, second) or abs(first - second) <= self.tie_margin:
            verdict = "tie"
        return reply.ballot(question, verdict, p_first=first + worth("tie") * tie)


@dataclass(frozen=True, slots=True)
class RewardReader:
    """Prefers the higher of the rewards in a reply that is their JSON list (Bradley-Terry).

    The chance that the first is preferred is ``p_first = sigmoid(slope (r_first - r_second))``. A single answer is a
    yes if ``r > threshold``, with ``p = sigmoid(slope (r - threshold))``, or ``sigmoid(slope r + intercept)``.

    Attributes:
        threshold: A single answer of a higher reward is a yes.
        tie_margin: A difference up to this size, either way, is a tie; with 0 only an exact draw is.
        slope: Logits a unit of reward.
        intercept: The log-odds of an answer with reward 0; None where single answers have none.

    Raises:
        UserError: A negative tie margin, or a slope that is not above 0.
    """

    name: ClassVar[str] = "rewards"
    threshold: float = 0.0
    tie_margin: float = 0.0
    slope: float = 1.0
    intercept: float | None = None

    def __post_init__(self) -> None:
        threshold, tie_margin, slope, intercept = self.threshold, self.tie_margin, self.slope, self.intercept
        if not (math.isfinite(threshold) and 0 <= tie_margin < math.inf):
            raise UserError(
                f"threshold is {threshold} and tie_margin {tie_margin}", "give finite numbers, no negative margin"
            )
        if not (0 < slope < math.inf and (intercept is None or math.isfinite(intercept))):
            raise UserError(f"slope is {slope} and intercept {intercept}", "give finite numbers, the slope above 0")

    def read(self, question: Question, reply: Reply) -> Ballot:
        """Turn rewards into a verdict and a probability."""
        rewards: list[float] = json.loads(reply.text)
        if not all(math.isfinite(reward) for reward in rewards):
            return reply.ballot(question, None, reason=f"the reward is not finite: {reply.text}")
        verdict: Verdict
        if question.kind == "yes_no":
            margin = rewards[0] - self.threshold
            verdict = "yes" if margin > 0 else "no"
            if self.intercept is not None:
                return reply.ballot(question, verdict, p_first=sigmoid(self.slope * rewards[0] + self.intercept))
        else:
            margin = rewards[0] - rewards[1]
            verdict = "tie" if abs(margin) <= self.tie_margin else "first" if margin > 0 else "second"
        return reply.ballot(question, verdict, p_first=sigmoid(self.slope * margin))


@dataclass(frozen=True, slots=True)
class MarginReader:
    """Takes the side on which the margin lies that a reply is.

    Attributes:
        tie_margin: A margin up to this size, either way, is a tie.
    """

    name: ClassVar[str] = "margins"
    tie_margin: float = 0.0

    def read(self, question: Question, reply: Reply) -> Ballot:
        """Turn a margin into a verdict and a probability; on a scale, cut to its ends, it is the score."""
        margin = float(reply.text)
        verdict: Verdict
        if question.scale is not None:
            return reply.ballot(question, "scored", score=min(max(margin, question.scale.low), question.scale.high))
        if question.kind == "yes_no":
            verdict = "yes" if margin > 0 else "no"
        elif abs(margin) <= self.tie_margin:
            verdict = "tie"
        else:
            verdict = "first" if margin > 0 else "second"
        return reply.ballot(question, verdict, p_first=sigmoid(margin))


def sigmoid(logit: float) -> float:
    """Return 1 / (1 + exp(-logit)), without overflow."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    return math.exp(logit) / (1.0 + math.exp(logit))


_READERS: dict[str, type[Any]] = {
    reader.name: reader for reader in (TextReader, PatternReader, ProbabilityReader, RewardReader, MarginReader)
}
ReaderClass = TypeVar("ReaderClass", bound=type[Any])


def register_reader(reader: ReaderClass) -> ReaderClass:
    """Make a way of one's own to read replies known by its name; may stand as a decorator over its class.

    Raises:
        UserError: Another class has the name.
    """
    if _READERS.setdefault(reader.name, reader) is not reader:
        raise UserError(f"a reader {reader.name!r} is there already", "give yours another name")
    return reader


def described(reader: Reader) -> dict[str, object]:
    """Return what goes on a run card: the name of a reader, and its fields."""
    fields: Any = reader
    return {"name": reader.name, **asdict(fields)}


def reader_of(description: Mapping[str, Any]) -> Reader:
    """Return the reader that `described` described.

    Raises:
        UserError: There is none of that name, or it has other fields.
    """
    fields = dict(description)
    name = fields.pop("name", None)
    try:
        reader: Reader = _READERS[name](**fields)
    except KeyError:
        raise UserError(f"no replies are known to be read as {name!r}", "register the reader") from None
    except TypeError as error:
        raise UserError(f"no replies are known to be read as {name!r} ({error})", "judge again") from None
    return reader
