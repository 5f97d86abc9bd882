"""Marks that a chat template or a tokenizer gives a meaning to, broken where people spell them in what they say.

A turn that is opened, or a thought that is ended, by the text of a user would be read as the model's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["broken"]

_TRUSTED = ("assistant", "system", "developer")
"""Who may write marks of thoughts and of tools: a model that thinks, and who tells it how to."""
_INNER = re.compile(
    r"\W*(begin_of_|end_of_)?(think(ing)?|thoughts?|reason(ing)?|scratchpad|tool_(calls?|responses?|results?|outputs?))\W*",
    re.IGNORECASE,
)
_WRITTEN = re.compile(r"<\|[^|<>\s]+\|>|<｜[^｜<>\s]+｜>|\[/?[A-Z][A-Z_]+\]|<</?[A-Z]+>>")
"""Marks as templates spell them, whether they are one token or several: Llama 2's are plain text."""


class _Marks:
    """What is broken in a text: everywhere, and beside that where nobody may write marks of thoughts and tools."""

    def __init__(self, turns: Iterable[str], inner: Iterable[str]) -> None:
        self.turns, self.every = _pattern(turns), _pattern([*turns, *inner])


_known: WeakKeyDictionary[Any, tuple[tuple[int, str], _Marks]] = WeakKeyDictionary()


def _pattern(marks: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted({mark for mark in marks if mark.strip()}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _template(tokenizer: Any) -> str:
    template = tokenizer.chat_template
    return template if isinstance(template, str) else "\n".join((template or {}).values())


def _marks(tokenizer: Any) -> _Marks:
    """Return a tokenizer's marks; found anew when its template or the number of its tokens is another."""
    state = (len(tokenizer), _template(tokenizer))
    kept = _known.get(tokenizer)
    if kept is None or kept[0] != state:
        kept = _known[tokenizer] = (state, _found(tokenizer))
    return kept[1]


def _found(tokenizer: Any) -> _Marks:
    template = _template(tokenizer)
    turns, inner = set(tokenizer.all_special_tokens), set()
    for token in tokenizer.added_tokens_decoder.values():
        if _INNER.fullmatch(token.content):
            inner.add(token.content)
        elif token.special or (len(token.content.strip()) > 2 and token.content.strip() in template):
            turns.add(token.content)
    written = set(_WRITTEN.findall(template))
    inner |= {mark for mark in written if _INNER.fullmatch(mark)}
    return _Marks((turns | written) - inner, inner)


def _apart(mark: re.Match[str]) -> str:
    return f"{mark[0][:1]} {mark[0][1:]}"


def broken(tokenizer: Any, text: str, role: str, *, more: Iterable[str] = ()) -> str:
    """Return what somebody says, with a space after the first character of every mark in it.

    Broken are special tokens, named or not, other marks that the chat template writes, and those of thoughts and tool
    calls. The latter stay in what the assistant says, who is to learn them, and in system turns, which may ask for
    them.

    Args:
        tokenizer: Whose marks they are.
        text: What is said.
        role: Who says it.
        more: Other texts that are marks.
    """
    marks = _marks(tokenizer)
    found = (marks.turns if role in _TRUSTED else marks.every).sub(_apart, text)
    return _pattern(more).sub(_apart, found) if more else found
