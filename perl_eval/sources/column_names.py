"""Which column of a table somebody may mean, by the words of its name: one is proposed only where no other could be."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

__all__ = ["column_like", "columns_typed"]

_WORDS: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "question", "query", "input", "request", "instruction"),
    "text": ("answer", "reply", "response", "completion", "output", "generation", "prediction"),
    "label": (
        *("label", "winner", "verdict", "preference", "preferred", "better", "choice", "vote", "judgement", "judgment"),
        *("chosen", "outcome"),
    ),
}
_OTHER_THINGS = frozenset(
    {
        *("id", "ids", "type", "format", "token", "tokens", "length", "len", "ms", "s", "time", "date", "count", "num"),
        *("n", "number", "hash", "sha", "sha256", "url", "lang", "language", "category", "system", "judge", "template"),
        *("version", "score", "model", "name", "by", "expected", "reference", "gold", "correct", "ideal", "key"),
        *("target", "generator", "reason", "confidence", "status", "chars", "words", "cost", "price", "index"),
    }
)
"""Words that say that a column holds something about a text or a label, or the text of somebody else."""
_NEAR = 0.8
_LONG = 5
"""Shorter words are told letter by letter, as voter is not vote."""


def column_like(field: str, columns: Sequence[str]) -> str:
    """Return the one column whose name says that it holds a field; "" if none does, or several.

    Args:
        field: ``prompt``, ``text`` or ``label``; ``verdict`` and ``outcome`` are told as labels are.
        columns: The names of the columns.
    """
    of = "label" if field in ("verdict", "outcome") else field
    found = [column for column in columns if _held(column) == {of}]
    return found[0] if len(found) == 1 else ""


def columns_typed(fields: Sequence[str], columns: Sequence[str]) -> str:
    """Return what to type to name the columns of some fields, NAME where no column is likely.

    Args:
        fields: The fields that are missing.
        columns: The names of the columns.
    """
    return " ".join(f"--column {field}={_quoted(column_like(field, columns) or 'NAME')}" for field in fields)


def _quoted(column: str) -> str:
    return column if re.fullmatch(r"[\w.-]+", column) else f"'{column}'"


def _held(column: str) -> set[str]:
    """Return the fields that the words of a name are of."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+|\d+", column)]
    if _OTHER_THINGS & set(words):
        return set()
    return {field for field, known in _WORDS.items() if any(_is(word, one) for word in words for one in known)}


def _is(word: str, known: str) -> bool:
    if word == known:
        return True
    if len(known) < _LONG or abs(len(word) - len(known)) > 1:
        return False
    return difflib.SequenceMatcher(None, known, word).ratio() >= _NEAR
