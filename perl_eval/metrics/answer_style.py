"""How answers look: length, lists, headings and bold, as arenas hold them equal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from perl_eval.stats.ranking import Styles

__all__ = ["MEASURES", "style_gaps"]

FloatArray = NDArray[np.float64]
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
MEASURES: Mapping[str, re.Pattern[str]] = {
    "lists": re.compile(r"^[ \t]*(?:[-*+]|\d+[.)])[ \t]+\S", re.MULTILINE),
    "headings": re.compile(r"^#{1,6}[ \t]+\S", re.MULTILINE),
    "bold": re.compile(r"\*\*(?=\S)[^*\n]+\*\*|__(?=\S)[^_\n]+__"),
}
"""What counts as one of each, outside of blocks of code; length is counted in characters."""


def _counts(text: str) -> list[int]:
    prose = _FENCE.sub("", text)
    return [len(text), *(len(pattern.findall(prose)) for pattern in MEASURES.values())]


def style_gaps(a: Sequence[str], b: Sequence[str]) -> Styles:
    """Return how far answers differ in style: ``(f(a) - f(b)) / (f(a) + f(b))``, in standard deviations.

    A style in which no two answers differ is left out.

    Args:
        a: The first answers.
        b: The second answers.

    Source: style control of Chatbot Arena, arena-rank's contextual Bradley-Terry: the same four features, of which it
    takes the densities of markdown by token, and here the counts.
    """
    counts = [np.array([_counts(text) for text in side], np.float64).reshape(-1, 4) for side in (a, b)]
    total = counts[0] + counts[1]
    gaps = np.where(total > 0, (counts[0] - counts[1]) / np.maximum(total, 1.0), 0.0)
    spread = gaps.std(axis=0)
    kept = np.flatnonzero(spread > 0)
    names = ("length", *MEASURES)
    return Styles(tuple(names[place] for place in kept), gaps[:, kept] / spread[kept])
