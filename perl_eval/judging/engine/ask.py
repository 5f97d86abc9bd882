"""Asking a judge: questions in, ballots out in the same order; what the ledger holds is not asked again."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from perl_eval.checks import at_least_one
from perl_eval.client.account import Spending
from perl_eval.client.ledger import Ledger
from perl_eval.client.limits import Limits
from perl_eval.client.reply import Reply
from perl_eval.client.scheduler import NO_ANSWER, Scheduler
from perl_eval.client.service import Handling, Request, looked_up
from perl_eval.client.usage import Usage
from perl_eval.errors import JudgeError, UserError
from perl_eval.judges.protocol import Judge
from perl_eval.judges.question_keys import Keys
from perl_eval.records import Ballot, Question

__all__ = ["NOT_KEPT", "AskOptions", "ask", "ballot_of", "ballots_of", "expected_tokens"]

NOT_KEPT = f"{JudgeError.__name__}: {NO_ANSWER}"
"""The reason of a ballot that was asked for offline and is not in the ledger."""
_BLOCK = 256
_HOPELESS = 20
_SEVERAL = 4
_CHARACTERS_A_TOKEN = 4.0


@dataclass(frozen=True, slots=True)
class AskOptions(Limits):
    """How to ask; for the rest see `Limits`.

    Attributes:
        votes: How often each question is asked; more than once only makes sense at a temperature above 0.
    """

    votes: int = 1

    def __post_init__(self) -> None:
        Limits.__post_init__(self)  # super() does not work in a dataclass with slots
        at_least_one(self, "votes")


def expected_tokens(question: Question) -> float:
    """Return a rough number of tokens of a request: a quarter of its characters."""
    return sum([len(turn.content) for turn in question.messages]) / _CHARACTERS_A_TOKEN


def ask(
    questions: Iterable[Question],
    judge: Judge,
    ledger: Ledger,
    *,
    options: AskOptions | None = None,
    tally: Usage | None = None,
) -> Generator[Ballot, None, None]:
    """Put questions to a judge and yield their ballots in order: as many a question as there are votes.

    Questions are taken from the iterable as they are needed, some thousand ahead of the ballots. If a budget or
    patience runs out, the ballots end early; what was on its way is waited for and kept.

    Args:
        questions: What to ask; questions that can share a request should be neighbours.
        judge: Whom to ask.
        ledger: Where answers are kept.
        options: How to ask.
        tally: Counts are added to it.

    Raises:
        UserError: The judge will never answer, its price is not known and money is limited, or the ledger cannot be
            written.
    """
    options = options or AskOptions()
    keys, source, votes = Keys(judge), iter(questions), range(options.votes)

    def blocks() -> Iterator[list[Request[Question]]]:
        while block := list(islice(source, _BLOCK)):
            yield looked_up(ledger, [(keys.of(question, vote), question) for question in block for vote in votes])

    return ballots_of(blocks(), judge, ledger, options, Spending(tally or Usage()))


def ballots_of(
    blocks: Iterable[list[Request[Question]]],
    judge: Judge,
    ledger: Ledger,
    options: Limits,
    spending: Spending,
) -> Generator[Ballot, None, None]:
    """Put keyed questions, looked up in the ledger, to a judge and yield their ballots in order; see `ask`.

    Counts are added to ``spending``: this process's, and the account of the run if it has one.
    """
    if options.max_cost_usd is not None and judge.price_usd(1, 1) is None:
        raise UserError(f"money is limited and the price of {judge.model} is not known", "state its prices")

    refusals: set[str] = set()
    lastly = ""

    def ends(error: JudgeError, tally: Usage) -> UserError | None:
        nonlocal lastly
        lastly = str(error)
        if not error.can_pass and len(refusals) <= 1:
            refusals.add(lastly)
        if tally.failed < _HOPELESS or tally.asked + tally.from_ledger:
            return None
        return UserError(
            f"{judge.model} answered none of {tally.failed} questions, lastly: {error}",
            "check that the judge can be reached and takes such questions",
        )

    handling = Handling(_judgement_of, expected_tokens, ends, _is_whole)
    for question, answer in Scheduler(judge, ledger, options, handling, spending).answers(blocks):
        yield ballot_of(question, answer, judge)
    tally = spending.tally
    nobody = not (tally.asked or tally.from_ledger or tally.stopped)
    if nobody and len(refusals) == 1 and tally.failed >= _SEVERAL and not tally.can_pass:
        # What is said to everybody is about no question: a wrong key or model, which some servers call a bad request.
        raise UserError(
            f"{judge.model} refused all of {tally.failed} questions: {lastly}",
            "check key, address, model and options",
        )
    answered = tally.asked + tally.from_ledger
    if tally.can_pass > answered and not tally.stopped:
        few = f"only {answered} of {answered + tally.failed}" if answered else f"none of {tally.failed}"
        tally.stopped = f"{judge.model} answered {few} questions, lastly: {lastly}"


def ballot_of(question: Question, answer: Reply | JudgeError, judge: Judge) -> Ballot:
    """Return the ballot that an answer to a question, or why there is none, amounts to."""
    if isinstance(answer, Reply):
        return judge.reader.read(question, answer)
    return Ballot(question.order, None, reason=f"{type(answer).__name__}: {answer}")


def _judgement_of(question: Question) -> str:
    return question.id


def _is_whole(reply: Reply) -> bool:
    """Return whether a reply is kept: one that was cut off is asked for again by the next run."""
    return reply.finish != "length"
