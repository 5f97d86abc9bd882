"""Reading a verdict out of the JSON of a judge's text, or out of a list of ranks as Python prints it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from perl_eval.records import Kind, Verdict

__all__ = ["values"]

Named = Callable[[str, Kind], Verdict | None]

_JSON_KEYS = (
    "verdict",
    "winner",
    "answer",
    "choice",
    "decision",
    "preference",
    "preferred",
    "better",
    "best",
    "judgement",
    "judgment",
    "result",
)
_JSON_KEY = re.compile(
    r"(?:final|overall)_?(?:verdict|winner|answer|choice|decision|preference|judge?ment|result)|"
    r"(?:better|best|preferred|chosen|selected|winning|superior|stronger)_?"
    r"(?:response|answer|output|assistant|model|option|reply|completion|summary|candidate|one)|selected|chosen|vote|pick"
)
"""Other keys that hold a verdict, in lower case, with underscores for other signs."""
# Bounds on the work a hostile reply can make.
_STARTS = 100
_LITERAL = 1000
_LINE = 300


def values(text: str, kind: Kind, named: Named) -> Iterator[tuple[int, Verdict]]:
    """Yield the verdicts of JSON values and of lists of ranks, wherever they stand in the text, with where each ends.

    Args:
        text: What a reply says.
        kind: What was asked.
        named: Returns the verdict that a few words name.
    """
    decoder, done = json.JSONDecoder(), 0
    starts = [match.start() for match in re.finditer(r"[{\[]", text)]
    for start in starts[-_STARTS:]:
        if start < done:
            continue
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            value, end = _python_literal(text, start)
        verdict = _of_value(value, kind, named)
        if verdict:
            yield end, verdict
            done = end


def _python_literal(text: str, start: int) -> tuple[Any, int]:
    """Read a list of ranks as Python prints it: with single quotes."""
    end = text.find("]" if text[start] == "[" else "}", start) + 1
    if not 0 < end - start < _LITERAL:
        return None, start
    try:
        return ast.literal_eval(text[start:end]), end
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None, start


def _of_value(value: Any, kind: Kind, named: Named) -> Verdict | None:
    if isinstance(value, dict):
        parts = {str(key).lower(): part for key, part in value.items()}
        for key in _JSON_KEYS:
            if key in parts:
                return _of_scalar(parts[key], kind, named)
        others = [part for key, part in parts.items() if _JSON_KEY.fullmatch(re.sub(r"\W", "_", key))]
        if not others and isinstance(parts.get("overall"), str) and not parts["overall"].strip().isdecimal():
            others = [parts["overall"]]
        return _of_scalar(others[-1], kind, named) if others else None
    if kind == "pairwise" and isinstance(value, list) and len(value) == 2:
        return _of_ranks(value)
    return None


def _of_scalar(value: Any, kind: Kind, named: Named) -> Verdict | None:
    if isinstance(value, bool):
        return ("yes" if value else "no") if kind == "yes_no" else None
    if isinstance(value, int):
        value = str(value)
    if not isinstance(value, str):
        return None
    return named(" ".join(value[:_LINE].split()), kind)


def _of_ranks(value: list[Any]) -> Verdict | None:
    """Read two ranks, of the first and the second answer; rank 1 is the better."""
    ranks: list[Any] = value
    if all(isinstance(part, dict) and "rank" in part for part in value):
        ranks = [part["rank"] for part in sorted(value, key=lambda part: _place(str(part.get("model", ""))))]
    if not all(isinstance(rank, int) and not isinstance(rank, bool) and rank in (1, 2) for rank in ranks):
        return None
    if ranks[0] == ranks[1]:
        return "tie"
    return "first" if ranks[0] < ranks[1] else "second"


def _place(model: str) -> tuple[bool, str]:
    """Order model names by the position they stand for: m before M, model_1 before model_2."""
    return (model == "M", model)
