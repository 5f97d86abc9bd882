"""Reading a verdict out of a judge's text.

A verdict must be committed to: in double brackets, after a label, as a value of JSON, or alone on the last line (or the
first, if nothing contradicts it). Of several, the last binds. Prose is no verdict: "As the gold standard, A is fine
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
from perl_eval.judges.parsing import foreign_words, patterns, structured
from perl_eval.outcomes import of_verdict, worth
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


_NOUN = (
    r"(?:the )?(?:answer|output|response|reply|assistant|model|option|summary|choice|candidate|turn|completion|"
    rf"{foreign_words.NOUN})"
)
_WORDS: dict[Kind, dict[str, Verdict]] = {
    "pairwise": {
        **dict.fromkeys(("a", "1", "first", "one"), "first"),
        **dict.fromkeys(("b", "2", "second", "two"), "second"),
        **dict.fromkeys(("tie", "tied", "draw", "equal", "both", "neither", "same", "c"), "tie"),
    },
    "yes_no": {
        **dict.fromkeys(("yes", "true"), "yes"),
        **dict.fromkeys(("no", "false"), "no"),
    },
}
_BARE_TIE = frozenset({"c", "both", "neither", "same", "equal"})
"""Words that mean a tie in brackets or after a label, but say nothing alone on a line."""
# Pieces of the patterns below; all are matched without regard to case, within one line whose blanks are single.
_QUOTES = "[*_`\"'“”‘’]*"
_RELATION = (
    rf"(?:{_NOUN}[ _-]*)?(?P<left>[ab12]) ?(?P<sign>>{{1,3}}|<{{1,3}}|={{1,2}}|≈|≻|≺) ?"
    rf"(?:{_NOUN}[ _-]*)?(?P<right>[ab12])"
)
_PAIR_WORD = r"(?P<word>a|b|c|1|2|first|second|one|two|tied?|draw|equal|both|neither|same)\b"
_CHOICE: dict[Kind, str] = {
    "pairwise": rf"(?:{_RELATION}|(?:{_NOUN}[ _#-]*|the )?\(?{_PAIR_WORD}\)?(?: {_NOUN})?)",
    "yes_no": r"(?P<word>yes|no|true|false)\b",
}
_BETTER = (
    rf"(?: is (?:the |clearly |much |slightly )*(?:better|best|preferred|superior|stronger|winner)(?: (?:one|{_NOUN}))?"
    r"| wins)"
)
_SIGNS = "[\u2190-\u2bff\ufe0f\U0001f000-\U0001faff]"
"""Pictures that replies are adorned with."""
_LABEL = (
    r"(?:[^\w{\[]|_){0,20}(?:(?:my|the|our) )?(?:final |overall )?(?:"
    r"(?:verdict|winner|answer|decision|choice|judge?ment|preference|preferred|best|better|result|conclusion|vote|pick|"
    r"selection|recommendation|(?:more (?:helpful|harmless|useful|appropriate)|safer)(?=[ \w]{0,12}[*_]* ?[:：])|"
    r"which (?:one )?is (?:better|best))"
    r"(?: (?:is|one|answer|output|response|summary|option|reply|assistant|model))*"
    rf"|(?:so|thus|therefore|hence|overall|finally|to conclude|to sum up|in (?:conclusion|summary|short))"
    rf"(?=[*_]* ?[:：](?!\W*\d))|{foreign_words.LABEL})"
    rf"{_QUOTES} ?(?:[:=：→—–]|[-=]+>|-(?= )|\bis\b) ?{_QUOTES} ?(?:{_SIGNS}+ ?)?\[* ?{_QUOTES}"
)
# After a choice may come its end, punctuation, or words that confirm it; "A or B", "A good answer" are no choice.
_AFTER = (
    rf" ?{_QUOTES} ?\]* ?{_QUOTES}"
    rf"(?= ?$| ?[.;!(—–|]| ?,(?! ?(?:and |or )?[ab12]\b)|{_BETTER}| (?:because|since)\b| [-–—] |"
    rf" between (?:the two|both|them)\b| ?{_SIGNS}|(?<=[^(][ab12]\))"
    r" (?!(?:and|or|is|was|has|may|might|could|would|seems)\b))"
)
_TIED = re.compile(
    rf"{_LABEL}(?:(?:none|neither|no(?: one|body)?)(?: wins)?,? ?[(:—–-] ?(?:it(?:['’]s| is) )?(?:a )?(?:tie|draw)\b"
    rf"|(?:{_NOUN} )?\(?[ab12]\)? and (?:{_NOUN} )?\(?[ab12]\)? (?:are|is) (?:both )?"
    r"(?:equal(?:ly good)?|tied|even)(?=\W*$))",
    re.IGNORECASE,
)

# Bounds on the work a hostile reply can make.
_LINE = 300
_LEAST_MASS = 0.5
_LEAST_MASS_UNSAID = 0.01
_OPTIONS: Mapping[Kind, tuple[Verdict, Verdict]] = {"pairwise": ("first", "second"), "yes_no": ("yes", "no")}
_SHORT = 64
_ALL = 3
"""How many verdicts of a pair there are: first, second and tie."""


def _compiled(before: str, after: str) -> dict[Kind, re.Pattern[str]]:
    return {kind: re.compile(f"{before}{choice}{after}", re.IGNORECASE) for kind, choice in _CHOICE.items()}


_LABELLED = _compiled(_LABEL, _AFTER)
_BRACKETED = _compiled(r"\[\[ ?", r" ?\]\]")
_ALONE = _compiled(
    rf"[ >#-]*(?:{_SIGNS}+ ?)?{_QUOTES} ?[\[{{]?",
    rf"(?:{_BETTER})? ?[\]}}]?[.!]? ?{_QUOTES}[.!]?(?: ?{_SIGNS}+)?",
)
_MARKED = {
    kind: re.compile(
        r"(?:<(?P<tag>verdict|answer|final_answer|choice|winner|preference|decision|judge?ment)> ?"
        rf"{_QUOTES}{choice}{_QUOTES}"
        rf" ?</(?P=tag)>|\[(?:RESULT|VERDICT|JUDGE?MENT)\]:? ?"
        rf"{_QUOTES}{choice.replace('?P<', '?P<result_')}{_QUOTES}(?= ?$| ?[.;,!(<]))",
        re.IGNORECASE,
    )
    for kind, choice in _CHOICE.items()
}
_BOXED = {
    kind: re.compile(
        rf"(?:.*[ $*]|^[$*]*)\\boxed\{{ ?(?:\\(?:text|math|bf|rm)\w*\{{)?{choice}\}}?\}}[$*.]*", re.IGNORECASE
    )
    for kind, choice in _CHOICE.items()
}
# A label with nothing after it: what stands alone on the next line is its verdict.
_HEADING = re.compile(
    rf"[ >#-]*{_QUOTES}(?:(?:my|the|our) )?(?:final |overall )?"
    rf"(?:verdict|winner|decision|judge?ment|preference|choice|better (?:answer|output|response|one)|"
    rf"final answer){_QUOTES} ?:? ?{_QUOTES}",
    re.IGNORECASE,
)
_SUMMED = re.compile(
    r"(?:the )?(?:final |overall )?(?:overall|total|winner|verdict|decision|preference|conclusion|result|better|best)"
    r"(?: (?:answer|response|output|winner|verdict|assistant))?:?",
    re.IGNORECASE,
)
_CONDITION = re.compile(r" ?[\"'”`*]{0,3},? (?:if|when|for an?|means)\b", re.IGNORECASE)
_ATTRIBUTED = re.compile(
    r"\b(?:says?|said|writes?|wrote|contains?|states?|includ\w+|examples?|format|claim\w*|tells?|asks?|instruct\w*|"
    r"prompt|inject\w*|reads?|ends? with|adds?|inserts?|phrase|text)\b[^.!?]{0,80}$",
    re.IGNORECASE,
)
_REPORTED = re.compile(
    r"\b(?:text|answer|output|response|reply|assistant|candidate|prompt|user|content|message)(?: \(?[ab12]\)?)?"
    r"(?:['’]s \w+)? (?:\w+ )?(?:says|said|writes|wrote|contains|states|claims|reads|ends with|adds|inserts)"
    r"(?: that)?:? ?$",
    re.IGNORECASE,
)
"""Somebody else says what follows, without quotation marks."""
_LISTED = re.compile(r"(?:\d{1,2}[.)]|[-*•]) ")
_NUMBERED = re.compile(r"(?P<number>\d{1,2})(?:[.)](?P<words> .*)?)?")
_OPENING = re.compile(rf"\s{{0,20}}{_QUOTES}(?P<word>yes|no)\b{_QUOTES}(?:[,.;:!—–]| -)", re.IGNORECASE)
# alpaca_eval's ranking prompts name the outputs m and M; only the case tells them apart.
_CASED: dict[str, Verdict] = {"m": "first", "M": "second"}


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
    that commit to one are known; hedged prose is no verdict.

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
    return Reading(verdict, None if verdict else f"{named[:40]!r} is no verdict")


def _named(words: str, kind: Kind) -> Verdict | None:
    """Return the verdict that a few words name, and nothing else."""
    if kind == "pairwise" and words in _CASED:
        return _CASED[words]
    match = _ALONE[kind].fullmatch(words)
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
            numbered = _NUMBERED.fullmatch(shown[:_LINE])
            if own and numbered and entry and int(numbered["number"]) == entry + 1:
                own = None  # the list goes on, and the reply was cut off
            if numbered and numbered["words"]:
                entry = int(numbered["number"])
            if heading and own:
                yield place, own
            heading = bool(_HEADING.fullmatch(shown[:_LINE]))
            alone.append((place, own))
    opening = _OPENING.match(text) if kind == "yes_no" else None
    if opening:
        yield opening.end(), _WORDS[kind][opening["word"].lower()]
    boxed = _BOXED[kind].match(" ".join(text[-_LINE:].rstrip().rpartition("\n")[2].split()))
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
        marked = [verdict for _, verdict in _in_line(shown, 0, "pairwise")] if _LISTED.match(shown) else []
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
        for match in (*_BRACKETED[kind].finditer(part), *_MARKED[kind].finditer(part)):
            verdict = _meaning(match, kind)
            if verdict and not _CONDITION.match(part[match.end() :]) and not _quoted(part, match.start()):
                yield place + offset + match.end(), verdict
    labelled = _LABELLED[kind].match(shown[:_LINE])
    if labelled and (verdict := _meaning(labelled, kind)):
        yield place + labelled.end(), verdict
    elif kind == "pairwise" and (tied := _TIED.match(shown[:_LINE])):
        yield place + tied.end(), "tie"
    elif kind == "pairwise" and shown[:1] == "|" and (verdict := _in_table(shown[:_LINE])):
        yield place + len(shown), verdict


def _in_table(row: str) -> Verdict | None:
    """Read the row of a table that sums up: whose first cell says so, and of whose others one names an answer."""
    first, *others = [cell.strip(" *_`") for cell in row.strip("| ").split("|")]
    if not others or not _SUMMED.fullmatch(first):
        return None
    named = [verdict for cell in others if not cell.isdecimal() and (verdict := _line(cell, "pairwise"))]
    return named[0] if len(named) == 1 else None


def _quoted(line: str, place: int) -> bool:
    """Say whether a place lies in a quotation of somebody's words."""
    if _REPORTED.search(line[:place]):
        return True
    begun = max((line.rfind(mark, 0, place) for mark in '"“`'), default=-1)
    opened = line.count('"', 0, place) % 2 or line.count("“", 0, place) > line.count("”", 0, place)
    opened = opened or line.count("`", 0, place) % 2
    return bool(opened and begun >= 0 and _ATTRIBUTED.search(line[:begun]))


def _alone(lines: list[tuple[int, Verdict | None]]) -> Iterator[tuple[int, Verdict]]:
    """Choose among verdicts alone on a line: the last line's, and the first's if no other contradicts it."""
    for place, verdict in lines[:1] + lines[-1:]:
        others = {other for _, other in lines} - {None, verdict}
        if verdict and (place == lines[-1][0] or not others):
            yield place, verdict


def _line(line: str, kind: Kind) -> Verdict | None:
    if kind == "pairwise" and line in _CASED:
        return _CASED[line]
    match = _ALONE[kind].fullmatch(line) if len(line) <= _LINE else None
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
