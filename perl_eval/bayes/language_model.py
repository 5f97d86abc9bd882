"""What the samplers ask of a language model: draw whole sequences, give log-probabilities, continue prefixes.

A language answers contexts (prompts), which go by number. Draw ``k`` of a context is always the same sequence, whatever
else is drawn: an infinite list of independent draws a context, seeded by the context's identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Draws", "Language", "Prefixes"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Draws:
    """Whole sequences, the end token included where it came.

    Attributes:
        contexts: Which context each row answers, shape (rows,).
        sequences: Token ids, one tuple a row.
        log_probs: Log-probability of each row under what drew it, shape (rows,), in nats.
    """

    contexts: IntArray
    sequences: tuple[tuple[int, ...], ...]
    log_probs: FloatArray

    @property
    def tokens(self) -> int:
        """Tokens that were drawn."""
        return sum(map(len, self.sequences))

    def take(self, rows: IntArray) -> Draws:
        """Return some of the rows, in the order given."""
        return Draws(self.contexts[rows], tuple(self.sequences[row] for row in rows.tolist()), self.log_probs[rows])


class Prefixes(Protocol):
    """Unfinished sequences that grow by a token at a time, all at once. A sequence that ends leaves.

    Each token takes ``look``, if wanted ``select``, ``choose``, then ``push``.
    """

    def look(self) -> FloatArray:
        """Read the prefixes as they stand and return their log-twists, shape (rows,).

        A twist is a guess of ``log E[exp(evidence) | prefix]``; 0 is no guess. It steers, and never biases a weight.
        """

    def select(self, rows: IntArray) -> None:
        """Go on with these rows only, in this order; a row may occur more than once."""

    def choose(self, uniforms: FloatArray) -> IntArray:
        """Return the next token of each row, shape (rows,), by inverting the distribution at a number in [0, 1)."""

    def push(self, tokens: IntArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Append a token to each row; return its log-probability, and whether the row has ended and left."""


class Language(Protocol):
    """A distribution over sequences for each context."""

    def draw(self, contexts: IntArray, numbers: IntArray) -> Draws:
        """Return draw ``numbers[i]`` of context ``contexts[i]`` for each i."""

    def log_probs(self, contexts: IntArray, sequences: Sequence[Sequence[int]]) -> FloatArray:
        """Return the log-probability of each sequence, shape (rows,), in nats."""

    def prefixes(self, contexts: IntArray) -> Prefixes:
        """Return one empty prefix a row."""

    def seeds(self, contexts: IntArray, numbers: IntArray) -> list[int]:
        """Return the seed of each draw; a sampler's own randomness comes from it too."""
