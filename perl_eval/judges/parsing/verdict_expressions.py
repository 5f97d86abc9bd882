"""The expressions by which the lines of a reply are read.

Each is compiled when it is first used: those of labels take longer than a short run has to spare.
"""

from __future__ import annotations

import re
from functools import cache, cached_property

from perl_eval.judges.parsing import foreign_words
from perl_eval.records import Kind

__all__ = ["CONDITION", "LISTED", "NUMBERED", "Expressions", "expressions", "quoted"]

_NOUN = (
    r"(?:the )?(?:answer|output|response|reply|assistant|model|option|summary|choice|candidate|turn|completion|"
    rf"{foreign_words.NOUN})"
)
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

CONDITION = re.compile(r" ?[\"'”`*]{0,3},? (?:if|when|for an?|means)\b", re.IGNORECASE)
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
LISTED = re.compile(r"(?:\d{1,2}[.)]|[-*•]) ")
NUMBERED = re.compile(r"(?P<number>\d{1,2})(?:[.)](?P<words> .*)?)?")


class Expressions:
    """What marks a verdict of one kind; groups ``word``, or ``left``, ``sign`` and ``right``, say which."""

    def __init__(self, kind: Kind) -> None:
        """Compile nothing yet."""
        self._choice = _CHOICE[kind]

    @cached_property
    def labelled(self) -> re.Pattern[str]:
        """A choice after a label at the start of a line."""
        return _compiled(_LABEL, self._choice, _AFTER)

    @cached_property
    def bracketed(self) -> re.Pattern[str]:
        """A choice in double brackets."""
        return _compiled(r"\[\[ ?", self._choice, r" ?\]\]")

    @cached_property
    def alone(self) -> re.Pattern[str]:
        """A line that is a choice and nothing else."""
        return _compiled(
            rf"[ >#-]*(?:{_SIGNS}+ ?)?{_QUOTES} ?[\[{{]?",
            self._choice,
            rf"(?:{_BETTER})? ?[\]}}]?[.!]? ?{_QUOTES}[.!]?(?: ?{_SIGNS}+)?",
        )

    @cached_property
    def marked(self) -> re.Pattern[str]:
        """A choice in a tag; the groups of one form begin with ``result_``."""
        return re.compile(
            r"(?:<(?P<tag>verdict|answer|final_answer|choice|winner|preference|decision|judge?ment)> ?"
            rf"{_QUOTES}{self._choice}{_QUOTES}"
            rf" ?</(?P=tag)>|\[(?:RESULT|VERDICT|JUDGE?MENT)\]:? ?"
            rf"{_QUOTES}{self._choice.replace('?P<', '?P<result_')}{_QUOTES}(?= ?$| ?[.;,!(<]))",
            re.IGNORECASE,
        )

    @cached_property
    def boxed(self) -> re.Pattern[str]:
        """A last line with a choice in a box of LaTeX."""
        return _compiled(r"(?:.*[ $*]|^[$*]*)\\boxed\{ ?(?:\\(?:text|math|bf|rm)\w*\{)?", self._choice, r"\}?\}[$*.]*")

    @cached_property
    def tied(self) -> re.Pattern[str]:
        """After a label, that neither of a pair wins."""
        return re.compile(
            rf"{_LABEL}(?:(?:none|neither|no(?: one|body)?)(?: wins)?,? ?[(:—–-] ?"
            r"(?:it(?:['’]s| is) )?(?:a )?(?:tie|draw)\b"
            rf"|(?:{_NOUN} )?\(?[ab12]\)? and (?:{_NOUN} )?\(?[ab12]\)? (?:are|is) (?:both )?"
            r"(?:equal(?:ly good)?|tied|even)(?=\W*$))",
            re.IGNORECASE,
        )

    @cached_property
    def heading(self) -> re.Pattern[str]:
        """A label with nothing after it: what stands alone on the next line is its verdict."""
        return re.compile(
            rf"[ >#-]*{_QUOTES}(?:(?:my|the|our) )?(?:final |overall )?"
            rf"(?:verdict|winner|decision|judge?ment|preference|choice|better (?:answer|output|response|one)|"
            rf"final answer){_QUOTES} ?:? ?{_QUOTES}",
            re.IGNORECASE,
        )

    @cached_property
    def opening(self) -> re.Pattern[str]:
        """A yes or no before the first comma or stop of a reply."""
        return re.compile(rf"\s{{0,20}}{_QUOTES}(?P<word>yes|no)\b{_QUOTES}(?:[,.;:!—–]| -)", re.IGNORECASE)

    @cached_property
    def summed(self) -> re.Pattern[str]:
        """The first cell of the row of a table that sums up."""
        return re.compile(
            r"(?:the )?(?:final |overall )?"
            r"(?:overall|total|winner|verdict|decision|preference|conclusion|result|better|best)"
            r"(?: (?:answer|response|output|winner|verdict|assistant))?:?",
            re.IGNORECASE,
        )


@cache
def expressions(kind: Kind) -> Expressions:
    """Return the expressions of one kind of question, not a score."""
    return Expressions(kind)


def _compiled(before: str, choice: str, after: str) -> re.Pattern[str]:
    return re.compile(f"{before}{choice}{after}", re.IGNORECASE)


def quoted(line: str, place: int) -> bool:
    """Say whether a place lies in a quotation of somebody's words."""
    if _REPORTED.search(line[:place]):
        return True
    begun = max((line.rfind(mark, 0, place) for mark in '"“`'), default=-1)
    opened = line.count('"', 0, place) % 2 or line.count("“", 0, place) > line.count("”", 0, place)
    opened = opened or line.count("`", 0, place) % 2
    return bool(opened and begun >= 0 and _ATTRIBUTED.search(line[:begun]))
