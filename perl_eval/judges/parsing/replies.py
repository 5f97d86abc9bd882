"""From a reply in text to a ballot, whatever was asked."""

from __future__ import annotations

from perl_eval.client.reply import Reply
from perl_eval.judges.parsing import scores, verdicts
from perl_eval.records import Ballot, Question

__all__ = ["read_reply"]


def read_reply(question: Question, reply: Reply, pattern: str | None = None) -> Ballot:
    """Read a reply in text, with or without the probabilities of its first token.

    Args:
        question: What was asked: kind, order and scale.
        reply: What came back.
        pattern: An expression to read verdicts by, see `patterns.checked`.
    """
    if reply.finish == "refusal":
        return reply.ballot(question, None, reason="the judge refused to answer")
    if reply.finish == "length":
        return reply.ballot(question, None, reason="the reply was cut off, even with twice the tokens")
    if reply.finish == "other":
        return reply.ballot(
            question, None, reason="the reply ended for a reason that is not known: it may be half of one"
        )
    if question.scale is not None:
        return _scored(question, reply)
    if pattern is None:
        reading = verdicts.read(reply.text, question.kind)
    else:
        reading = verdicts.read_by(pattern, reply.text, question.kind)
    if reading.reason == verdicts.UNCOMMITTED and (unsaid := verdicts.likelier(reply.logprobs, question.kind)):
        return reply.ballot(question, unsaid[0], p_first=unsaid[1])
    p_first = None
    if reading.verdict and reply.logprobs:
        p_first = verdicts.p_first(reply.logprobs, question.kind, text=reply.text, verdict=reading.verdict)
    return reply.ballot(question, reading.verdict, p_first=p_first, reason=reading.reason)


def _scored(question: Question, reply: Reply) -> Ballot:
    assert question.scale is not None
    reading = scores.read(reply.text, question.scale)
    if reading.score is None:
        return reply.ballot(question, None, reason=reading.reason)
    weighed = scores.expected(reply.logprobs, question.scale)
    return reply.ballot(question, "scored", score=reading.score if weighed is None else weighed)
