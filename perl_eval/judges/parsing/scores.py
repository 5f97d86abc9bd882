"""Reading a score on a scale out of a judge's text, or out of the probabilities of its numbers.

A score must be committed to, as a verdict must: in double brackets, after a label, as a value of JSON, or alone on the
last line (or the first, if nothing contradicts it). Of several, the last binds; if that one is not on the scale there
is not a score. Numbers in prose are no score.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from perl_eval.judges.parsing.verdicts import spoken
from perl_eval.records import Scale

__all__ = ["ScoreReading", "expected", "mean_score", "read"]


class ScoreReading(NamedTuple):
    """A score, or None and the reason why there is none."""

    score: float | None
    reason: str | None = None


class _Found(NamedTuple):
    """A committed number: where it ends, what it is, and out of how many, if that is said."""

    place: int
    number: float
    most: float | None


_QUOTES = "[*_`\"'“”‘’]*"
_NUMBER = (
    rf"{_QUOTES}(?P<number>-?\d{{1,4}}(?:\.\d{{1,3}})?)(?![\d%])"
    rf"(?: ?(?:/|out of) ?(?P<most>\d{{1,4}})(?![.\d]))?{_QUOTES}"
)
_LABEL = (
    r"[ >#*_`\"'“(-]*(?:(?:my|the|our) )?(?:final |overall |total )?"
    r"(?:score|rating|grade|mark|verdict|answer|points)"
    r"(?: ?\((?:\d{1,4} ?(?:-|–|to) ?|out of )\d{1,4}\))?"
    rf"(?: (?:is|of|for|the|this|answer|response|output|summary|reply))*{_QUOTES} ?(?:[:=]|\bis\b) ?{_QUOTES} ?\[* ?"
)
# After a score may come its end, punctuation or words that confirm it; "7 to 8" and "7, 8" are no score.
_AFTER = (
    rf"(?: points?| stars?)? ?{_QUOTES} ?\]* ?{_QUOTES}"
    r"(?= ?$| ?[.;!(—–](?! ?\d)| ?,(?! ?(?:and |or )?\d)| (?:because|since)\b| [-–—] (?!\d))"
)
_LABELLED = re.compile(f"{_LABEL}{_NUMBER}{_AFTER}", re.IGNORECASE)
_BRACKETED = re.compile(rf"\[\[ ?{_NUMBER} ?\]\]", re.IGNORECASE)
_ALONE = re.compile(rf"[ >#]*(?:- )?{_QUOTES} ?{_NUMBER}(?: points?| stars?)? ?[.!]? ?{_QUOTES}", re.IGNORECASE)
_KEYS = ("score", "rating", "verdict", "grade", "answer")
# Bounds on the work a hostile reply can make.
_STARTS = 100
_LINE = 300
_LEAST_MASS = 0.5


def read(text: str, scale: Scale) -> ScoreReading:
    """Read the score that a reply commits to last.

    Args:
        text: The reply.
        scale: What the score must lie on; a number between two of its levels is one too.
    """
    said = spoken(text)
    if said.reason is not None:
        return ScoreReading(None, said.reason)
    found = [*_structured(said.text), *_worded(said.text)]
    if not found:
        return ScoreReading(None, "the reply commits to no score")
    last = max(found, key=lambda one: one.place)
    if not scale.low <= last.number <= scale.high or last.most not in (None, scale.high):
        out_of = "" if last.most is None else f"/{last.most:g}"
        return ScoreReading(None, f"the score {last.number:g}{out_of} is not on the scale {scale}")
    return ScoreReading(last.number)


def expected(logprobs: Sequence[tuple[str, float]], scale: Scale) -> float | None:
    """Return the mean score from the tokens that could have stood first in the reply.

    Mass on tokens that are no number of the scale is left out. None if the numbers hold less than half of the mass; or
    if one number begins another, as 1 does 10, and no such longer number is a token here: a 1 may then be half a 10.

    Args:
        logprobs: Tokens with their log-probabilities, in nats.
        scale: The scale.

    Source:
        Liu et al., G-Eval, arXiv 2303.16634, equation 1.
    """
    mass: dict[str, float] = {}
    for token, logprob in logprobs:
        if math.isnan(logprob):
            return None
        number = token.strip()
        if number.isascii() and number.isdigit() and str(int(number)) == number and int(number) in scale.levels:
            mass[number] = mass.get(number, 0.0) + math.exp(min(logprob, 0.0))
    if sum(mass.values()) < _LEAST_MASS:
        return None
    longer = {
        str(level) for level in scale.levels if any(str(level)[:end] in mass for end in range(1, len(str(level))))
    }
    if longer and not longer & mass.keys():
        return None
    return mean_score(mass)


def mean_score(chances: Mapping[str, float]) -> float:
    """Return the mean of numbers, weighted by their probabilities, which need not add up to one."""
    return math.fsum(int(number) * chance for number, chance in chances.items()) / math.fsum(chances.values())


def _worded(text: str) -> Iterator[_Found]:
    place = 0
    alone: list[_Found | None] = []
    for line in text.splitlines(keepends=True):
        # A score stands near the start of its line or near its end: the middle of a long line is prose.
        shown = " ".join(line.split())
        for offset in {0, max(0, len(shown) - _LINE)}:
            for match in _BRACKETED.finditer(shown[offset : offset + _LINE]):
                yield _found(match, place + offset + match.end())
        labelled = _LABELLED.match(shown[:_LINE])
        if labelled:
            yield _found(labelled, place + labelled.end())
        place += len(line)
        if shown:
            whole = _ALONE.fullmatch(shown) if len(shown) <= _LINE else None
            alone.append(_found(whole, place) if whole else None)
    if alone[-1]:
        yield alone[-1]
    elif alone[0] and len({one.number for one in alone if one}) == 1:
        yield alone[0]


def _found(match: re.Match[str], place: int) -> _Found:
    return _Found(place, float(match["number"]), float(match["most"]) if match["most"] else None)


def _structured(text: str) -> Iterator[_Found]:
    decoder, done = json.JSONDecoder(), 0
    starts = [match.start() for match in re.finditer(r"\{", text)]
    for start in starts[-_STARTS:]:
        if start < done:
            continue
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        named = {str(key).lower(): part for key, part in value.items()} if isinstance(value, dict) else {}
        key = next((key for key in _KEYS if key in named), None)
        found = _of_value(named[key], end) if key else None
        if found:
            yield found
            done = end


def _of_value(value: Any, place: int) -> _Found | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str):
        match = _ALONE.fullmatch(" ".join(value[:_LINE].split()))
        return _found(match, place) if match else None
    return _Found(place, float(value), None) if math.isfinite(value) else None
