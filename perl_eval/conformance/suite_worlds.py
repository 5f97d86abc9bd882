"""The worlds of the suite."""

from __future__ import annotations

from perl_eval.conformance.listed_language import WorldShape

__all__ = ["CORNER", "WORLDS"]

CORNER = (
    WorldShape("base: three words, two tokens, groups of 2"),
    WorldShape("one token: four words, no end", 4, 1, end_rate=0.0, seed=1),
)
"""Two worlds that tell a wrong KL, a wrong sign and a wrong average apart, in seconds."""
WORLDS = (
    *CORNER,
    WorldShape("long: two words, four tokens, groups of 3, binary reward", 2, 4, group_size=3, reward="binary", seed=2),
    WorldShape("wide and cool: five words, temperature 0.7", 5, 2, temperature=0.7, beta=0.1, seed=3),
    WorldShape("fixed length: three words, no end", 3, 2, end_rate=0.0, seed=4),
    WorldShape("truncating: the end is rare, reward by length", 3, 3, end_rate=0.08, reward="length", seed=5),
    WorldShape("groups of 4, warm, binary reward", 3, 2, temperature=1.5, group_size=4, reward="binary", seed=6),
    WorldShape("two groups a batch", groups=2, seed=7),
    WorldShape("drawn: four words, three tokens, 64 groups of 4", 4, 3, group_size=4, groups=64, draws=9600, seed=8),
)
"""Vocabularies of 2 to 5 words, 1 to 4 tokens, ends rare, frequent and absent, groups of 2 to 4, three rewards."""
