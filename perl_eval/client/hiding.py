r"""Taking our key out of what a server says, should it say it back: replies are kept and shown.

A key is known in every form that JSON, web pages and addresses write a letter in: ``\/``, ``\u002f``, ``%2F``,
``&#x2F;``. A key that a text may hold by chance, such as the ``first`` that somebody gives to a server that wants none,
is no secret and is not looked for.
"""

from __future__ import annotations

import functools
import re
import sys
from typing import Any

__all__ = ["is_secret", "may_hold", "mended", "shown"]

_HIDDEN = "(key)"
_SHORTEST = 8
_LONGEST_WORD = 20
_MARKS = ("\\", "%", "&#")

_told: set[str] = set()
"""Where keys are that were said to be too short."""


def is_secret(key: str, place: str) -> bool:
    """Say whether a key can be told from other text; once for each place that holds none, say so on stderr.

    Args:
        key: The key.
        place: Where it is, to be named.
    """
    word = len(key) < _SHORTEST or (len(key) <= _LONGEST_WORD and key.isalpha() and key.islower())
    if not key or not word:
        return bool(key)
    if place not in _told:
        _told.add(place)
        print(f"{place} holds a key too short or plain to be hidden where a server repeats it", file=sys.stderr)
    return False


def shown(text: str, key: str) -> str:
    """Return a text without the key; a key of no letters hides nothing."""
    if not key or (key not in text and not any(mark in text for mark in _MARKS)):
        return text
    return _pattern(key).sub(_HIDDEN, text)


def may_hold(content: bytes, key: str) -> bool:
    """Say whether a body may hold a key, or half a surrogate pair: it does, or has letters in a form not their own."""
    return b"\\" in content or b"%" in content or b"&#" in content or (bool(key) and key.encode("ascii") in content)


def mended(value: Any, key: str) -> Any:
    """Put U+FFFD in the place of half surrogate pairs, which JSON can say and no file can hold, and hide the key.

    The names of fields are never hidden: what is read goes by them.
    """
    if isinstance(value, str):
        return _whole(shown(value, key))
    if isinstance(value, list):
        return [mended(part, key) for part in value]
    if isinstance(value, dict):
        return {_whole(name): mended(part, key) for name, part in value.items()}
    return value


def _whole(text: str) -> str:
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@functools.lru_cache(maxsize=8)
def _pattern(key: str) -> re.Pattern[str]:
    return re.compile("".join(map(_forms, key)))


def _forms(char: str) -> str:
    """Return a pattern of the forms that a letter is written in; bounded, or a long text would take for ever."""
    code = ord(char)
    hexed = f"(?i:{code:02x})"
    own = rf"\\{{0,9}}{re.escape(char)}"
    return rf"(?:{own}|\\{{1,9}}u00{hexed}|%(?:25){{0,3}}{hexed}|&#[xX]0{{0,6}}{hexed};|&#0{{0,6}}{code};)"
