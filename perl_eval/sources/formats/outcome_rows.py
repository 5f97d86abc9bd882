"""Tables of judgements that people keep themselves: an outcome, a verdict, or the verdicts of both orders a row."""

from __future__ import annotations

from perl_eval.records import Judgement
from perl_eval.sources.judgements import has_verdicts, read_table
from perl_eval.sources.reading import Format

__all__ = ["OUTCOMES"]

OUTCOMES = Format(
    "outcomes",
    Judgement,
    "a table: outcome, or verdict, or verdict_ab and verdict_ba (who won), with item, policy_a, policy_b, judge",
    has_verdicts,
    read_table,
    needs="outcome|verdict|verdict_ab",
)
