"""Which format something is of: told by its content, or as somebody said."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from perl_eval.errors import DataError, OptionError
from perl_eval.records import Completion, HumanLabel, Judgement
from perl_eval.sources.containers import Brought
from perl_eval.sources.formats import (
    alpaca_annotations,
    arena_hard_judgments,
    chatbot_arena,
    deepeval_runs,
    dialogues,
    inspect_logs,
    lm_eval_samples,
    mt_bench_judgments,
    openai_batch,
    plain_table,
    promptfoo_results,
)
from perl_eval.sources.reading import Format

__all__ = ["CALLED", "FORMATS", "format_named", "format_of", "formats_for"]

FORMATS: Sequence[Format] = (
    inspect_logs.INSPECT,
    inspect_logs.INSPECT_SCORES,
    promptfoo_results.PROMPTFOO,
    promptfoo_results.PROMPTFOO_SCORES,
    deepeval_runs.DEEPEVAL,
    deepeval_runs.DEEPEVAL_SCORES,
    openai_batch.OPENAI_BATCH,
    lm_eval_samples.LM_EVAL,
    arena_hard_judgments.ARENA_HARD_JUDGMENTS,
    mt_bench_judgments.MT_BENCH_PAIRS,
    mt_bench_judgments.MT_BENCH_SINGLE,
    alpaca_annotations.ALPACA_ANNOTATIONS,
    chatbot_arena.MT_BENCH,
    chatbot_arena.ARENA_HARD,
    dialogues.CHAT,
    plain_table.TABLE,
)
"""All formats, those that are told by more before those that are told by less."""
CALLED = {Completion: "completions", Judgement: "judgements", HumanLabel: "labels"}
"""What the records of a kind are called."""


def formats_for(kind: type) -> Sequence[Format]:
    """Return the formats of one kind of record."""
    return [one for one in FORMATS if one.gives is kind]


def format_of(found: Brought, kind: type, name: str = "") -> Format:
    """Return the format that something is of.

    Args:
        found: What was brought.
        kind: What records it should give.
        name: The format, where somebody says it.

    Raises:
        OptionError: There is no format of that name for such records.
        DataError: It is of no known format; the line lists those known and says what the nearest one is.
    """
    known = {one.name: one for one in formats_for(kind)}
    if name:
        return _named(name, known)
    for one in known.values():
        if one.matches(found):
            return one
    raise DataError(_unknown(found, kind, list(known)), file=found.name, fix="name the columns, or the format")


def format_named(name: str) -> Format:
    """Return the format of a name, whatever it gives.

    Raises:
        OptionError: There is none.
    """
    return _named(name, {one.name: one for one in reversed(FORMATS)})


def _named(name: str, known: Mapping[str, Format]) -> Format:
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise OptionError("format", repr(name), f"{hint}choose from {', '.join(known)}")
    return known[name]


def _unknown(found: Brought, kind: type, known: Sequence[str]) -> str:
    what = CALLED.get(kind, "rows")
    if found.container == "zip" or not found.head:
        has = "no rows" if found.container != "zip" else "an archive"
    else:
        has = f"columns {', '.join(map(str, found.head[0]))}"
    others = [one for one in FORMATS if one.gives is not kind and one.matches(found)] if found.head else []
    other = f"; it looks like {others[0].name}, {CALLED.get(others[0].gives, 'rows')}" if others else ""
    return f"is of no known format of {what} ({has}){other}; known are {', '.join(known)}"
