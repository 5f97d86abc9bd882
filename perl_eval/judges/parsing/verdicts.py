"""Reading a verdict out of a judge's text.

A verdict must be committed to: in double brackets, after a label, as a value of JSON, or alone on the last line (or the
first, if nothing contradicts it). Of several, the last binds. Prose is not a verdict: "As the gold standard, A is fine
but" holds none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from perl_eval.client import thoughts
from perl_eval.errors import UserError
from perl_eval.judges.parsing import patterns, structured
from perl_eval.judges.parsing.verdict_expressions import CONDITION, LISTED, NUMBERED, expressions, quoted
from perl_eval.outcomes import TIE_WORDS, of_verdict, worth
from perl_eval.records import Kind, Verdict

__all__ = ["UNCOMMITTED", "Reading", "Spoken", "likelier", "p_first", "parse_verdict", "read", "read_by", "spoken"]


UNCOMMITTED = "the reply commits to no verdict"


class Reading(NamedTuple):
    """A verdict, or None and the reason why there is none."""

    verdict: Verdict | None
    reason: str | None = None


class Spoken(NamedTuple):
    """What a reply says after its thinking, or the reason why it says nothing."""

    text: str
    reason: str | None = None


_WORDS: dict[Kind, dict[str, Verdict]] = {
    "pairwise": {
        **dict.fromkeys(("a", "1", "first", "one"), "first"),
        **dict.fromkeys(("b", "2", "second", "two"), "second"),
        **dict.fromkeys((*TIE_WORDS, "c"), "tie"),
    },
    "yes_no": {
        **dict.fromkeys(("yes", "true"), "yes"),
        **dict.fromkeys(("no", "false"), "no"),
    },
}
_BARE_TIE = frozenset({"c", "both", "neither", "same", "equal"})
"""Words that mean a tie in brackets or after a label, but say nothing alone on a line."""
# Bounds on the work a hostile reply can make.
_LINE = 300
_LEAST_MASS = 0.5
_LEAST_MASS_UNSAID = 0.01
_OPTIONS: Mapping[Kind, tuple[Verdict, Verdict]] = {"pairwise": ("first", "second"), "yes_no": ("yes", "no")}
_SHORT = 64
_ALL = 3
"""How many verdicts of a pair there are: first, second and tie."""
# alpaca_eval's ranking prompts name the outputs m and M; only the case tells them apart.
_CASED: dict[str, Verdict] = {"m": "first", "M": "second"}
_PLAIN: dict[Kind, dict[str, Reading]] = {
    "pairwise": {
        "A": Reading("first"),
        "B": Reading("second"),
        "[[A]]": Reading("first"),
        "[[B]]": Reading("second"),
        "[[C]]": Reading("tie"),
    },
    "yes_no": {"Yes": Reading("yes"), "yes": Reading("yes"), "No": Reading("no"), "no": Reading("no")},
}
"""Replies that the expressions would read alike: no expression is compiled, nor another file loaded, for these."""


def spoken(text: str) -> Spoken:
    """Return what a reply says after its thinking."""
    parts = thoughts.split(text)
    if parts.said.strip():
        return Spoken(parts.said)
    return Spoken("", "the reply ends inside its thinking" if parts.open else "the reply is empty")


def read(text: str, kind: Kind) -> Reading:
    """Read the verdict that a reply commits to last.

    Args:
        text: The reply.
        kind: What was asked, not a score; see `scores` for those.
    """
    plain = _PLAIN[kind].get(text)
    if plain is not None:
        return plain
    # Most replies are one of a few words; long ones hardly come twice.
    return _read_short(text, kind) if len(text) <= _SHORT else _read(text, kind)


def _read(text: str, kind: Kind) -> Reading:
    said = spoken(text)
    if said.reason is not None:
        return Reading(None, said.reason)
    text = _without_menu(said.text) if kind == "pairwise" else said.text
    found = [*structured.values(text, kind, _named), *_worded(text, kind)]
    if kind == "pairwise":
        from perl_eval.judges.parsing import prose  # its expressions take 0.1 s to compile: only once there is a text

        said_last = prose.committed(text, after=max((place for place, _ in found), default=0))
        found += [said_last] if said_last else []
    if not found:
        return Reading(None, UNCOMMITTED)
    return Reading(max(found, key=lambda place: place[0])[1])


_read_short = lru_cache(maxsize=4096)(_read)


def parse_verdict(text: str, kind: Kind = "pairwise", pattern: str | None = None) -> Reading:
    """Return the verdict that a judge's reply commits to last, and why there is none if there is none.

    Thoughts are left out first. Verdicts in double brackets, after a label, in JSON, alone on a line and in sentences
    that commit to one are known; hedged prose is not a verdict.

    Args:
        text: The reply.
        kind: What was asked: ``pairwise`` (``first``, ``second`` or ``tie``) or ``yes_no``.
        pattern: A regular expression to read by instead. Its last match binds: the text of its one group is the verdict
            (``A``, ``b``, ``1``, ``second``, ``tie``), or groups have the names of verdicts.

    Raises:
        UserError: Another kind, or no such expression.

    Example:
        >>> import perl_eval as pe
        >>> pe.parse_verdict("Output (b) is shorter. Therefore, Output (a) is better.")
        Reading(verdict='first', reason=None)
        >>> pe.parse_verdict("Output (a) might be better if it were shorter.").reason
        'the reply commits to no verdict'
        >>> pe.parse_verdict("Take: B!", pattern=r"Take: ([AB])").verdict
        'second'
    """
    if kind not in _WORDS:
        raise UserError(f"kind is {kind!r}", f"choose from {', '.join(_WORDS)}")
    return read(text, kind) if pattern is None else read_by(patterns.checked(pattern), text, kind)


def read_by(pattern: str, text: str, kind: Kind) -> Reading:
    """Read the verdict that the last match of an expression names.

    Args:
        pattern: The expression, see `patterns.checked`.
        text: The reply.
        kind: What was asked.
    """
    said = spoken(text)
    if said.reason is not None:
        return Reading(None, said.reason)
    try:
        groups = patterns.last_match(pattern, said.text)
    except patterns.TooSlow as error:
        return Reading(None, str(error))
    if groups is None:
        return Reading(None, "the verdict pattern does not match the reply")
    words = _WORDS[kind]
    for name, part in groups.items():
        if name and part is not None and name.lower().strip("_") in words:
            return Reading(words[name.lower().strip("_")])
    named = groups.get("verdict") or groups[""]
    if named is None:
        return Reading(None, "the verdict pattern matches without a verdict")
    verdict = _named(" ".join(named[:_LINE].split()), kind)
    return Reading(verdict, None if verdict else f"{named[:40]!r} is not a verdict")


def _named(words: str, kind: Kind) -> Verdict | None:
    """Return the verdict that a few words name, and nothing else."""
    if kind == "pairwise" and words in _CASED:
        return _CASED[words]
    match = expressions(kind).alone.fullmatch(words)
    return _meaning(match, kind) if match else None


def p_first(
    logprobs: Sequence[tuple[str, float]], kind: Kind, *, text: str = "", verdict: Verdict | None = None
) -> float | None:
    """Return the probability of the first option from the tokens that could have stood first in the reply.

    Mass on tokens that are no option is left out, a tie counts half. None if the options hold less than half of the
    mass, for then the verdict need not stand first; unless the reply begins with it, and both options are among the
    tokens, with a hundredth of the mass at least.

    Args:
        logprobs: Tokens with their log-probabilities, in nats.
        kind: What was asked.
        text: The reply.
        verdict: What it was read as.
    """
    mass = _mass(logprobs, kind)
    if sum(mass.values()) >= _LEAST_MASS:
        return _share(mass)
    seen = mass.keys() >= set(_OPTIONS[kind]) and sum(mass.values()) >= _LEAST_MASS_UNSAID
    return _share(mass) if seen and _begins(text, verdict, logprobs, kind) else None


def _begins(text: str, verdict: Verdict | None, logprobs: Sequence[tuple[str, float]], kind: Kind) -> bool:
    """Say whether the first token of a reply is the verdict that it was read as."""
    said = text.lstrip()
    tokens = (token.strip() for token, _ in logprobs if _line(" ".join(token.split()), kind) == verdict)
    return any(said.startswith(token) and not said[len(token) :][:1].isalnum() for token in tokens if verdict)


def likelier(logprobs: Sequence[tuple[str, float]], kind: Kind) -> tuple[Verdict, float] | None:
    """Return the likeliest option of a reply that commits to none, and the probability of the first option.

    Both options must be among the tokens that could have stood first, with a hundredth of the mass at least: a small
    model that begins "I think" still says which of A and B it would rather have written.

    Args:
        logprobs: Tokens with their log-probabilities, in nats.
        kind: What was asked.
    """
    mass = _mass(logprobs, kind)
    if not mass.keys() >= set(_OPTIONS[kind]) or sum(mass.values()) < _LEAST_MASS_UNSAID:
        return None
    best = max(mass, key=lambda verdict: mass[verdict])
    even = kind == "pairwise" and mass["first"] == mass["second"] == mass[best]
    return "tie" if even else best, _share(mass)


def _share(mass: Mapping[Verdict, float]) -> float:
    return sum(worth(of_verdict(verdict)) * part for verdict, part in mass.items()) / sum(mass.values())


def _mass(logprobs: Sequence[tuple[str, float]], kind: Kind) -> dict[Verdict, float]:
    """Return the probability of each option; nothing if a log-probability is none."""
    mass: dict[Verdict, float] = {}
    for token, logprob in logprobs:
        if math.isnan(logprob):
            return {}
        verdict = _line(" ".join(token.split()), kind)
        if verdict:
            mass[verdict] = mass.get(verdict, 0.0) + math.exp(min(logprob, 0.0))
    return mass


def _worded(text: str, kind: Kind) -> Iterator[tuple[int, Verdict]]:
    place = 0
    alone: list[tuple[int, Verdict | None]] = []
    heading, entry = False, 0
    for line in text.splitlines(keepends=True):
        # A verdict stands near the start of its line or near its end: the middle of a long line is prose.
        shown = " ".join(line.split())
        yield from _in_line(shown, place, kind)
        place += len(line)
        if shown:
            own = _line(shown, kind)
            numbered = NUMBERED.fullmatch(shown[:_LINE])
            if own and numbered and entry and int(numbered["number"]) == entry + 1:
                own = None  # the list goes on, and the reply was cut off
            if numbered and numbered["words"]:
                entry = int(numbered["number"])
            if heading and own:
                yield place, own
            heading = bool(expressions(kind).heading.fullmatch(shown[:_LINE]))
            alone.append((place, own))
    opening = expressions(kind).opening.match(text) if kind == "yes_no" else None
    if opening:
        yield opening.end(), _WORDS[kind][opening["word"].lower()]
    boxed = expressions(kind).boxed.match(" ".join(text[-_LINE:].rstrip().rpartition("\n")[2].split()))
    if boxed and (verdict := _meaning(boxed, kind)):
        yield len(text), verdict
    yield from _alone(alone)


def _without_menu(text: str) -> str:
    """Blank lists whose entries name all verdicts, as an echo of the question does: nothing is chosen in them."""
    if text.count("[[") < _ALL:
        return text
    lines = text.splitlines(keepends=True)
    begun, named = 0, set[Verdict]()
    for number, line in enumerate([*lines, ""]):
        shown = " ".join(line.split())
        marked = [verdict for _, verdict in _in_line(shown, 0, "pairwise")] if LISTED.match(shown) else []
        if marked:
            begun = begun if named else number
            named |= set(marked)
            continue
        if len(named) == _ALL:
            lines[begun:number] = [
                " " * len(entry.rstrip()) + entry[len(entry.rstrip()) :] for entry in lines[begun:number]
            ]
        named = set()
    return "".join(lines)


def _in_line(shown: str, place: int, kind: Kind) -> Iterator[tuple[int, Verdict]]:
    """Read what a line marks as a verdict: in brackets, in a tag, or after a label."""
    for offset in {0, max(0, len(shown) - _LINE)}:
        part = shown[offset : offset + _LINE]
        if "[" not in part and "<" not in part:
            continue
        for match in (*expressions(kind).bracketed.finditer(part), *expressions(kind).marked.finditer(part)):
            verdict = _meaning(match, kind)
            if verdict and not CONDITION.match(part[match.end() :]) and not quoted(part, match.start()):
                yield place + offset + match.end(), verdict
    labelled = expressions(kind).labelled.match(shown[:_LINE])
    if labelled and (verdict := _meaning(labelled, kind)):
        yield place + labelled.end(), verdict
    elif kind == "pairwise" and (tied := expressions(kind).tied.match(shown[:_LINE])):
        yield place + tied.end(), "tie"
    elif kind == "pairwise" and shown[:1] == "|" and (verdict := _in_table(shown[:_LINE])):
        yield place + len(shown), verdict


def _in_table(row: str) -> Verdict | None:
    """Read the row of a table that sums up: whose first cell says so, and of whose others one names an answer."""
    first, *others = [cell.strip(" *_`") for cell in row.strip("| ").split("|")]
    if not others or not expressions("pairwise").summed.fullmatch(first):
        return None
    named = [verdict for cell in others if not cell.isdecimal() and (verdict := _line(cell, "pairwise"))]
    return named[0] if len(named) == 1 else None


def _alone(lines: list[tuple[int, Verdict | None]]) -> Iterator[tuple[int, Verdict]]:
    """Choose among verdicts alone on a line: the last line's, and the first's if no other contradicts it."""
    for place, verdict in lines[:1] + lines[-1:]:
        others = {other for _, other in lines} - {None, verdict}
        if verdict and (place == lines[-1][0] or not others):
            yield place, verdict


def _line(line: str, kind: Kind) -> Verdict | None:
    if kind == "pairwise" and line in _CASED:
        return _CASED[line]
    match = expressions(kind).alone.fullmatch(line) if len(line) <= _LINE else None
    if match is None or (match["word"] or "").lower() in _BARE_TIE:
        return None
    return _meaning(match, kind)


def _meaning(match: re.Match[str], kind: Kind) -> Verdict | None:
    parts = {name.removeprefix("result_"): part for name, part in match.groupdict().items() if part is not None}
    if parts.get("sign"):
        left, right = (_WORDS["pairwise"][parts[side].lower()] for side in ("left", "right"))
        if left == right:
            return None
        if parts["sign"][0] in "=≈":
            return "tie"
        return left if parts["sign"][0] in ">≻" else right
    return _WORDS[kind][parts["word"].lower()]
