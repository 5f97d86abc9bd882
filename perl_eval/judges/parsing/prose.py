"""Reading the verdict that a sentence of prose commits to.

A sentence commits if it has one of a closed set of shapes: "Therefore, Output (a) is better.", "I prefer Response 2",
"the final decision is Tie", "making Assistant B's answer the better choice". What stands before the shape must lead
to it ("so", "I conclude that", "after weighing both,"), and what follows must end it, give its reason or name the other
answer. A condition, a doubt, a question, a denial, one respect only ("better in terms of style"), the opinion of
somebody else, quotations and code commit to nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from perl_eval.records import Verdict

__all__ = ["Committed", "committed", "unquoted"]


class Committed(NamedTuple):
    """A verdict that a sentence commits to, and where the sentence ends."""

    place: int
    verdict: Verdict


_SIDES: dict[str, Verdict] = {
    **dict.fromkeys(("a", "1", "first", "one"), "first"),
    **dict.fromkeys(("b", "2", "second", "two"), "second"),
}
_OTHER: dict[Verdict, Verdict] = {"first": "second", "second": "first", "tie": "tie"}
# Pieces of the shapes. A sentence is matched without regard to case, its blanks single and its emphasis taken out.
_WHOLE = (
    r"(?:answer|output|response|reply|summary|completion|solution|feedback|translation|critique|version|candidate|"
    r"text|review|submission|generation|explanation|result)"
)
_NOUN = rf"(?:{_WHOLE}|(?:ai |chat)?(?:assistant|bot|model|system|agent)|option|choice|turn|chatbot)"
_LETTER = r"(?-i:[AB])(?![\w+#'’]| \w+ing\b)"
_OWN = rf"(?:['’]s?(?: (?:(?:final|overall|own) )?(?:{_WHOLE}|one|work|performance))?)"


def _subject(name: str) -> str:
    """Return the pattern of an answer's name, its side in groups that begin with this name."""
    return (
        rf"(?:(?:the )?{_NOUN}[ _-]?[\[({{]?[\"'“‘]?(?P<{name}>[ab12]|one|two)\b(?:[\"'”’](?!s\b))?[\])}}]?{_OWN}?"
        rf"|(?:the )?(?P<{name}_nth>first|second) (?:{_NOUN}|one)(?:{_OWN})?"
        rf"|(?P<{name}_letter>\(?{_LETTER}\)?(?! {_NOUN}\b)|(?-i:[AB]){_OWN}))"
    )


_ONE = _subject("one")
_TWO = _subject("two")
_HOW = (
    r"(?:(?:also|clearly|much|far|slightly|significantly|marginally|considerably|substantially|somewhat|definitely|"
    r"overall|ultimately|objectively|certainly|undoubtedly|still|therefore|thus|simply|indeed|obviously|noticeably|"
    r"notably|vastly|even|actually|a bit|a little|by far|just|strictly|decidedly|moderately|clear|overwhelmingly) )*"
)
_GOOD = r"(?:better|best|superior|preferable|preferred|stronger|strongest|winner|winning)"
_THING = rf"(?:overall )?(?:{_NOUN}|one|pick|performer)"
_RANK = rf"(?:the |a |an )?{_HOW}{_GOOD}(?: {_THING})?"
_IS = r"(?:is|was|has been|to be|as|being|stands out as|stands as|emerges as|remains|comes out as)"
_THAN = (
    rf"(?: (?:than|over|to|compared to|in comparison to|when compared to) (?:{_TWO}|"
    rf"the other(?: {_NOUN}| one)?|the (?:first|second)))?"
)
_BEATS = (
    r"(?:(?:clearly |slightly |narrowly |significantly |easily )?(?:outperform(?:s|ed)|beats?|surpass(?:es|ed)|"
    r"outshin(?:es|ed)|outshone|defeat(?:s|ed)|edg(?:es|ed) out|wins out over|prevails over|outclass(?:es|ed)|outdoes))"
)
_GIVES = (
    r"(?:provid(?:es|ed)|gives|gave|offer(?:s|ed)|produc(?:es|ed)|deliver(?:s|ed)|present(?:s|ed)|wrote|writes|has|had)"
)
_I = (
    r"(?:i|we)(?:['’](?:d|ll|m|ve))?"
    r"(?: (?:would|will|must|have to|do|can|still|clearly|strongly|slightly|also|therefore|thus))*"
)
_TAKE = (
    r"(?:prefer|choose|chose|pick|select|favou?r|recommend|vote for|go with|opt for|side with|declare|deem|"
    r"have chosen|have selected|(?:am )?going with)"
)
_VERDICT = (
    r"(?:(?:my|the|our) )?(?:final |overall |ultimate )?"
    r"(?:decision|verdict|winner|choice|judge?ment|preference|conclusion|pick|selection|vote|better (?:one|_noun_)|"
    r"best (?:one|_noun_)|superior (?:one|_noun_)|preferred (?:one|_noun_))"
).replace("_noun_", _NOUN) + r"(?: (?:for|to) (?:the|this|my)(?: \w+){1,3})?"
_DRAW = r"(?:an? )?(?:tie|draw|tied)"
_PAIR = (
    rf"(?:both|the two|they|the)(?: of them)?(?: (?:{_NOUN}s|{_NOUN} \(?[ab12]\)? and (?:{_NOUN} )?\(?[ab12]\)?))?"
    r"(?: are)?(?: both)?"
)

_SHAPES: tuple[tuple[str, Verdict | None], ...] = (
    (rf"{_ONE},? {_IS} {_RANK}{_THAN}", None),
    (rf"{_ONE} (?:clearly |narrowly |slightly )?wins", None),
    (rf"{_ONE} {_BEATS} (?:{_TWO}|the other(?: {_NOUN}| one)?)", None),
    (
        rf"{_ONE} {_GIVES} (?:the|a) {_HOW}{_GOOD} (?:overall )?(?:answer|response|output|reply|completion|summary)",
        None,
    ),
    (rf"{_ONE} (?:comes|came) out (?:on top|ahead)", None),
    (rf"{_ONE} (?:gets|takes|earns|deserves|has) the (?:win|victory|point|nod|edge)", None),
    (rf"(?:{_I} )?(?:rate|rank|score|place|put) {_ONE} {_HOW}(?:higher than|above|ahead of|over) {_TWO}", None),
    (
        rf"the {_NOUN} (?:that|which) (?:best|better) \w+(?: \w+){{1,8}} (?:is|would be|was) {_ONE}",
        None,
    ),
    (rf"\A(?:going with|choosing|picking|selecting) {_ONE}", None),
    (rf"{_I} {_TAKE} {_ONE}(?: (?:as|to be|is) {_RANK})?(?: over (?:{_TWO}|the other(?: {_NOUN}| one)?))?", None),
    (
        rf"{_I} (?:find|consider|rate|rank|judge|believe|deem|think|declare) {_ONE} (?:(?:as|to be) )?{_RANK}{_THAN}",
        None,
    ),
    (rf"mak(?:ing|es) {_ONE} {_RANK}{_THAN}", None),
    (
        rf"{_VERDICT}(?::| (?:is|:|goes to|would be|is for|is that it is|falls on)) ?(?:that )?{_ONE}"
        rf"(?: is {_RANK}{_THAN})?",
        None,
    ),
    (
        rf"(?:{_VERDICT} (?:is|:) ?|(?:it|this|that)['’]s |"
        r"(?:it|this|the result|the outcome) (?:is|ends in|is therefore) |"
        rf"{_I} (?:call|declare|rate|consider) (?:it|this) )(?:to be |as )?{_DRAW}"
        rf"(?: between (?:the two|both|them)(?: {_NOUN}s)?)?",
        "tie",
    ),
)
_DRAWS = (
    rf"{_PAIR} {_HOW}(?:equally (?:good|strong|valid|well[- ]written|well|matched)|of (?:equal|"
    rf"the same) quality|tied|equal in quality)",
    rf"neither(?: (?:{_NOUN}|one|of them|of the two|"
    rf"{_ONE} nor {_TWO}))?,? is {_HOW}better(?: than the other(?: {_NOUN}| one)?)?",
)
_RESPECTS = (rf"the (?:more (?:helpful|harmless|useful|appropriate)|safer) (?:one|{_NOUN}) (?:is|would be) {_ONE}",)
"""In the one respect that was asked for, perhaps: it must be the sentence's only one, or a conclusion."""
_TRIGGER = re.compile(
    r"better|best|superior|prefer|strong|win|worse|weaker|inferior|beats|outperform|surpass|outshine|defeat|"
    r"choice|choose|"
    r"chose|pick|select|favou?r|recommend|vote|go with|opt for|side with|decision|verdict|judge?ment|conclusion|"
    r"tie|draw|"
    r"equal|same quality|deem|declare|choosing|going with|(?:comes|came) out|edg(?:e\b|es|ed)|victory|"
    r"point|nod|rate|rank|score|place|put|"
    r"more (?:helpful|harmless|useful|appropriate)|safer|prevail|outclass|outdoes|beat",
    re.IGNORECASE,
)
_ONLY = re.compile(rf"(?:the )?{_NOUN}[ _-]?[\[({{]?(?P<side>[ab12])[\])}}]?[.!]?", re.IGNORECASE)
_ONLY_SO = re.compile(r"(?:so|thus|hence|therefore),? \(?(?P<side>(?-i:[AB]))\)?[.!]?", re.IGNORECASE)
_ONLY_TIE = re.compile(r"(?:(?:it['’]s|it is) )?(?:a )?(?:tie|draw)[.!]?", re.IGNORECASE)
_SHAPE = [(re.compile(rf"(?<![\w'’]){shape}", re.IGNORECASE), verdict) for shape, verdict in _SHAPES]
_DRAWN = [re.compile(rf"(?<![\w'’]){shape}", re.IGNORECASE) for shape in _DRAWS]
_RESPECT = [re.compile(rf"(?<![\w'’]){shape}", re.IGNORECASE) for shape in _RESPECTS]
_WORSE = re.compile(
    rf"(?<![\w'’]){_ONE} is (?:the )?{_HOW}(?:worse|weaker|inferior)(?: {_THING})?{_THAN}", re.IGNORECASE
)

_NAMED = re.compile(rf"(?<![\w'’]){_ONE}", re.IGNORECASE)
_MAKING = re.compile(rf",? (?:making|which makes) it {_RANK}{_THAN}", re.IGNORECASE)
_COMPARED = re.compile(r"\b(?:than|over|to|of|with|from|like|in|by|and|or|unlike)$", re.IGNORECASE)
_CLAUSE = re.compile(r"(?:[,;:—–]|\b(?:while|whereas|but|although|though|however|since|because|as))$", re.IGNORECASE)
_COMMA = re.compile("[,;]")

# What may stand before a shape. After a conclusive word all is said; else the sentence must not doubt before.
_SO = (
    r"(?:therefore|thus|hence|so|overall|consequently|accordingly|ultimately|finally|in conclusion|in summary|"
    r"in short|"
    r"to conclude|to summari[sz]e|to sum up|in the end|in sum|as a result|all in all|all things considered|"
    r"in general|"
    r"on balance|on the whole|for (?:this|that|these|those|the above|the following) reasons?|because of (?:this|"
    r"that)|"
    r"due to (?:this|that)|which is why|that is why|this is why|that's why|in my opinion|in my view|for me|"
    r"final(?: verdict| decision)?:|verdict:|conclusion:|answer:|decision:|judge?ment:|winner:|result:|"
    r"\A[ABC12][:.)])"
)
_SAY = r"(?:conclude|believe|think|say|find|feel|determine|decide|judge|argue|state|see|consider|maintain)"
_THAT = (
    rf"(?:(?:{_I} {_SAY}|(?:i|we) (?:have |had )?(?:concluded|determined|decided|found|judged|"
    rf"come to the conclusion)|"
    r"it (?:is|was|becomes|can be|could be|may be)(?: therefore| thus)? (?:clear|evident|obvious|apparent|"
    r"concluded|determined|seen|said)|"
    rf"{_VERDICT} is|my (?:evaluation|assessment|opinion|view|analysis) is|(?:this|which|that|it) (?:means|"
    rf"shows|makes it clear)|"
    r"(?:i am|i'm|we are) (?:confident|certain|sure|convinced))(?: that)?)"
)
_LEAD = re.compile(
    rf"(?:^|[\s(])(?:(?P<so>{_SO})(?:,? (?:based on|given|considering|after|in light of|taking|from|"
    rf"according to (?:my|the|this|these)|with|"
    rf"despite|while|although|though|since|because|as) [^.;?!]{{1,250}})?,?(?: (?:and|then|also))?(?: {_THAT})?|"
    rf"(?P<that>{_THAT}))[,:]?$",
    re.IGNORECASE,
)
_PAUSED = re.compile(r"(?:[,:;—–]|\s-|[,;] (?:and|but|yet)|\b(?:however|but|and))$", re.IGNORECASE)
_DOUBT = re.compile(
    r"\b(?:if|unless|whether|would|could|might|may|perhaps|maybe|possibly|should|depend\w*|in terms of|regarding|"
    r"in (?:that|this|some|one|certain) (?:respects?|regards?|sense|aspects?|ways?)|in one way|as for|"
    r"when it comes|concerning|with regard|with respect|"
    r"for (?:those|users|people|someone|somebody|readers|anyone)|suppos\w*|assum\w*|argu\w+|claim\w*|says?|said|"
    r"suggest\w*|according|"
    r"states?d?|some|others?|on (?:the )?one hand|at first|initially|first glance|first sight|"
    r"not (?:clear|sure|certain|true|obvious)|unclear|(?:so|thus) far|until now|stylistically|hypothetically|"
    r"from an? [^,]{1,40}(?:perspective|view|standpoint))\b",
    re.IGNORECASE,
)
_IF = re.compile(
    r"\b(?:if|unless|whether|suppos\w*|had)\b|\bnot (?:clear|sure|certain|true|say|think|believe)\b", re.IGNORECASE
)
_CONDITION = re.compile(r"\b(?:if|unless)\b", re.IGNORECASE)
_TAIL = re.compile(
    r"(?:[ ]?[)\]]?[\"'”]?)(?:$|[.!]|[ ]?[—–]| -|[:;]|,? ?\((?!if|in terms)|,? (?:overall|in this case|"
    r"in this instance|in this context|in general|here|of the two|in my opinion|in my view|by far|among the two|"
    r"between the two|for (?:this|the (?:given|above|following)?) ?\w+)"
    r"(?=$|[ ,.;!:—–)])|,? (?:because|since|as|due|for the following|for these|for several|thanks to|owing|"
    r"given|considering|"
    r"and|with|while|whereas|which|despite|even though|although|though|followed by|by|based on|primarily|mainly|"
    r"particularly because|not)\b"
    r"|, (?:providing|offering|making|meeting|following|demonstrating|showing|fulfilling|delivering|so|"
    r"therefore|thus|hence)\b)",
    re.IGNORECASE,
)
_TASK = re.compile(
    r" (?:(?:to|for) (?:the|this|your|my|its|user['’]s)\b|(?:at|in|by|for) (?:\w+ly )?(?:and \w+ly )?(?:execut|"
    r"follow|answer|fulfil|address|satisfy|meet|complet|perform)\w+(?: \w+){0,3}? "
    r"(?:the|this|its|given|user['’]s)\b)",
    re.IGNORECASE,
)
_ALSO = re.compile(
    rf",? and (?:(?:so )?(?:is|does) )?{_TWO}|[^.]*\b(?:only if|if and only|unless|depending on)\b", re.IGNORECASE
)

_RIVAL = re.compile(
    rf"\b(?:while|whereas|but|and|however|although|though)\b,? {_TWO} (?:is|was) {_RANK}|"
    rf"\b(?:while|whereas|but|and|however)\b,? (?:i|we) (?:also )?{_TAKE} {_ONE}|"
    rf"\b(?:while|whereas|but|and|however)\b,? the (?:\w+ ){{1,4}}(?:is|goes to) {_subject('rival')}",
    re.IGNORECASE,
)
"""The other answer, called the better one too: the sentence takes no side."""

_QUOTED = re.compile(
    r"\"[^\"\n]{1,600}\"|“[^”\n]{1,600}”|«[^»\n]{1,600}»|(?<!\w)'[^'\n]{1,300}'(?!\w)|"
    r"`[^`\n]{1,600}`"
)
_FENCE = re.compile(r"^ {0,3}(?:```|~~~)")
_SENTENCE = re.compile(r"[^.!?;]+(?:[.!?;]+(?=[\w\\/*_(\[])[^.!?;]+)*[.!?;]*")
_EMPHASIS = re.compile(r"\*+|(?<!\w)_+|_+(?!\w)|`+")
_MARK = re.compile(r"^(?:[#>*•-]+ |\d{1,2}[.)] )+")
# Bounds on the work a hostile reply can make.
_QUOTED_WORDS = 4
_LONGEST = 600
_KEEP = 300
_SENTENCES = 4000


def committed(text: str, after: int = 0) -> Committed | None:
    """Return what the last sentence that commits to a verdict commits to.

    Args:
        text: What a reply says, without its thinking.
        after: Sentences that end no later are left unread.
    """
    sentences = list(_sentences(text))[-_SENTENCES:]
    for number, (place, sentence) in enumerate(reversed(sentences)):
        if place <= after:
            break
        if verdict := _of_sentence(sentence, last=not number):
            return Committed(place, verdict)
    return None


def unquoted(line: str) -> str:
    """Return a line with its longer quotations blanked, each sign by a blank; a line that is one quotation stays."""
    if not any(sign in line for sign in "\"“«'`"):
        return line

    length = len(line.strip())

    def blank(match: re.Match[str]) -> str:
        whole = len(match[0]) >= length - 2
        long = len(match[0].split()) >= _QUOTED_WORDS
        return " " * len(match[0]) if long and not whole else match[0]

    return _QUOTED.sub(blank, line)


def _sentences(text: str) -> Iterator[tuple[int, str]]:
    place, fenced = 0, False
    for line in text.splitlines(keepends=True):
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced and not line.lstrip().startswith(">") and line.strip():
            for match in _SENTENCE.finditer(unquoted(line)):
                sentence = " ".join(match[0].split())
                if sentence:
                    yield place + match.end(), sentence
        place += len(line)


def _of_sentence(sentence: str, *, last: bool) -> Verdict | None:
    """Return what a sentence commits to: of several shapes in it, the last."""
    if sentence.endswith("?"):
        return None
    if last and (verdict := _only(sentence)):
        return verdict
    if not _TRIGGER.search(sentence):
        return None
    parts = [sentence] if len(sentence) <= _LONGEST else [sentence[:_KEEP], sentence[-_KEEP:]]
    found: Verdict | None = None
    for part in parts:
        plain = _MARK.sub("", _EMPHASIS.sub("", part)).strip()
        best = -1
        for end, verdict in _shapes(plain, last=last):
            if end > best:
                best, found = end, verdict
    return found


def _only(sentence: str) -> Verdict | None:
    """Return the verdict of a sentence that is nothing but an answer's name, or a tie."""
    plain = _EMPHASIS.sub("", sentence[:_KEEP]).strip()
    if _ONLY_TIE.fullmatch(plain):
        return "tie"
    named = _ONLY.fullmatch(plain) or _ONLY_SO.fullmatch(plain)
    return _SIDES[named["side"].lower()] if named else None


def _making(sentence: str) -> Iterator[tuple[int, Verdict]]:
    """Read "..., making it the better one": what it is, is the subject of the clause before."""
    for match in _MAKING.finditer(sentence):
        if not _ended(sentence[match.end() :], concluded=True):
            continue
        subject = None
        for one in _NAMED.finditer(sentence[: match.start()]):
            before = sentence[: one.start()].rstrip()
            if not _COMPARED.search(before):
                subject = one if not before or _CLAUSE.search(before) or _led(before) else None
        if subject is not None and not _DOUBT.search(_COMMA.split(sentence[: subject.start()])[-1]):
            yield match.end(), _side(subject, "one")


def _shapes(sentence: str, *, last: bool) -> Iterator[tuple[int, Verdict]]:
    for shape, meaning in _SHAPE:
        for match in shape.finditer(sentence):
            before = sentence[: match.start()].rstrip()
            if _led(before) and _ended(sentence[match.end() :], concluded=bool(_LEAD.search(before))):
                yield match.end(), meaning or _side(match, "one")
    yield from _making(sentence)
    for shape in _RESPECT:
        for match in shape.finditer(sentence):
            before = sentence[: match.start()].strip()
            if (not before or _so(before)) and _ended(sentence[match.end() :], concluded=True):
                yield match.end(), _side(match, "one")
    for match in _WORSE.finditer(sentence):
        before = sentence[: match.start()].rstrip()
        if _so(before) and not before.endswith(":") and _ended(sentence[match.end() :], concluded=True):
            yield match.end(), _OTHER[_side(match, "one")]
    for shape in _DRAWN:
        for match in shape.finditer(sentence):
            before = sentence[: match.start()].rstrip()
            if (_so(before) or (last and _led(before))) and _ended(sentence[match.end() :], concluded=True):
                yield match.end(), "tie"


def _so(before: str) -> bool:
    lead = _LEAD.search(before.rstrip())
    return bool(lead and lead["so"]) and _led(before)


def _side(match: re.Match[str], name: str) -> Verdict:
    word = match[name] or match[f"{name}_nth"] or match[f"{name}_letter"]
    return _SIDES[word.strip("()").lower().split("'")[0].split("’")[0]]


def _led(before: str) -> bool:
    """Say whether what stands before a shape leads to it."""
    before = before.strip()
    if not before:
        return True
    lead = _LEAD.search(before)
    if lead:
        return not (_CONDITION if lead["so"] else _IF).search(
            before[: lead.end()] if lead["so"] else before[: lead.start()]
        )
    return bool(_PAUSED.search(before)) and not _DOUBT.search(before)


def _ended(after: str, *, concluded: bool) -> bool:
    """Say whether what follows a shape leaves it as it is."""
    left = _TAIL.match(after) or (concluded and _TASK.match(after))
    return bool(left) and not _ALSO.match(after) and not _RIVAL.search(after)
