"""Text and numbers as people read them: nothing invisible in a text, nothing false in a figure."""

from __future__ import annotations

import re

from perl_eval.records import PICTURE

__all__ = ["clip", "count", "duration", "markdown", "mebibytes", "number", "visible"]

# Controls, line and paragraph separators, direction overrides and isolates, invisible operators, lone surrogates and
# the tag block: what a reader cannot see, or what reorders what is seen. Joiners and plain direction marks, which
# ordinary writing needs, stay.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$-])")


def visible(text: str) -> str:
    """Return the text with every invisible or reordering character written out, as in ``⟨U+202E⟩``.

    Where a picture stood it says so.
    """
    shown = text.replace("\r\n", "\n").replace(PICTURE, "⟨picture⟩")
    return _INVISIBLE.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", shown)


def clip(text: str, limit: int) -> str:
    """Return at most ``limit`` characters of a text; what is left out is counted at its end."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]} … [{len(text) - limit:,} more characters are in the records]"


def number(value: float) -> str:
    """Return a figure to about three digits: more decimals for small ones, powers of ten for tiny and huge ones."""
    size = abs(value)
    if value == round(value, 0) and size < 1e7:
        return f"{value:,.0f}".removeprefix("-" if value == 0 else "")
    if size >= 1e7 or size < 0.001:
        return f"{value:.2e}"
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return f"{value:.3f}" if size >= 0.01 else f"{value:.4f}"


def count(value: int) -> str:
    """Return a count with its thousands set apart."""
    return f"{value:,}"


def duration(seconds: float) -> str:
    """Return a span of time in the unit that suits it; seconds in."""
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def mebibytes(size_bytes: int) -> str:
    """Return a number of bytes in MiB, without decimals."""
    return f"{size_bytes / 2**20:,.0f}"


def markdown(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(visible(text).split()))
