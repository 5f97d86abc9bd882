"""How many there are of something, in words: 1 row, 2 rows."""

from __future__ import annotations

import re

__all__ = ["counted"]

_PHRASE = re.compile(r"(?P<before>\w*[^\Ws] )?(?P<noun>\w+s)\b(?P<rest>.*)", re.S)
_VERBS = {"are": "is", "were": "was", "have": "has"}


def counted(count: int, several: str) -> str:
    """Return how many there are of something.

    Args:
        count: How many.
        several: What they are called where there are several, the noun first: ``requests that are late``.

    Returns:
        ``2 requests that are late``, or ``1 request that is late``.
    """
    found = _PHRASE.fullmatch(several)
    if count != 1 or found is None:
        return f"{count:,} {several}"
    noun = re.sub(r"ies$", "y", found["noun"]) if found["noun"].endswith("ies") else found["noun"][:-1]
    rest = re.sub(r"^( (?:that|which) )(are|were|have)\b", lambda said: said[1] + _VERBS[said[2]], found["rest"])
    return f"1 {found['before'] or ''}{noun}{rest}"
