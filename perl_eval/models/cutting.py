"""Dialogues that are too long, cut where turns begin and, within a turn, between words; and how much was cut."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from perl_eval.errors import OptionError
from perl_eval.records import Message

__all__ = ["MANY", "Cuts", "begun_later", "last_turn", "last_word", "shortened"]

MANY = 0.01
"""The share of texts above which cuts are a warning."""
_HEADS = ("system", "developer")
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"\s*(?:[{_UNSPACED}]|[^\s{_UNSPACED}]{{1,100}})")
"""A word with the space before it; so is a sign of a script without spaces, or 100 characters of a longer word."""
Size = Callable[[Sequence[Message]], int]


@dataclass
class Cuts:
    """Counts the texts that were encoded, those that were cut, and the tokens that were left out.

    Attributes:
        texts: How many were encoded.
        cut: How many of them were too long.
        whole: Tokens of all of them before they were cut.
        kept: Tokens of all of them now.
        longest: Tokens of the longest before it was cut.
    """

    texts: int = 0
    cut: int = 0
    whole: int = 0
    kept: int = 0
    longest: int = 0

    def add(self, whole: int, kept: int) -> None:
        """Count a text by its tokens before and after."""
        self.texts += 1
        self.cut += kept < whole
        self.whole += whole
        self.kept += kept
        self.longest = max(self.longest, whole)

    @property
    def share(self) -> float:
        """The share of texts that were cut, in [0, 1]."""
        return self.cut / self.texts if self.texts else 0.0

    def notes(self) -> dict[str, int | float]:
        """Return the figures for the run card."""
        return {
            "texts": self.texts,
            "texts cut": self.cut,
            "texts cut share": self.share,
            "tokens cut": self.whole - self.kept,
            "tokens of the longest text": self.longest,
        }

    def line(self, name: str, max_tokens: int) -> str:
        """Return what to say about the cuts, "" if there are none.

        Args:
            name: What the texts are, in the plural.
            max_tokens: What they were cut to.
        """
        if not self.cut:
            return ""
        lost = (self.whole - self.kept) / self.whole
        return (
            f"{'warning: ' if self.share > MANY else ''}{self.cut:,} of {self.texts:,} {name} ({self.share:.1%}) are"
            f" longer than {max_tokens:,} tokens and were cut, by {lost:.1%} of all tokens; the longest has"
            f" {self.longest:,}: raise --max-tokens, or give auto"
        )


def _head(messages: Sequence[Message]) -> int:
    """Return how many turns at the beginning are kept whatever else is cut."""
    return next((place for place, turn in enumerate(messages) if turn.role not in _HEADS), len(messages))


def _from(messages: Sequence[Message], start: int) -> list[Message]:
    """Return a dialogue begun at a turn, its head before it."""
    return [*messages[: _head(messages)], *messages[start:]]


def _starts(messages: Sequence[Message]) -> list[int]:
    """Return where a dialogue may begin: at a turn of the user, or at any after his last."""
    turns = range(_head(messages), len(messages))
    asks = [place for place in turns if messages[place].role == "user"]
    return [place for place in turns if place in asks or not asks or place > asks[-1]] or [len(messages)]


def last_turn(messages: Sequence[Message]) -> list[Message]:
    """Return the head of a dialogue and what the user said last, with what follows that."""
    asks = [place for place, turn in enumerate(messages) if turn.role == "user"]
    return _from(messages, asks[-1] if asks else _starts(messages)[-1])


def last_word(messages: Sequence[Message]) -> list[Message]:
    """Return the least of a dialogue that `begun_later` leaves: its head, and the last word of the last turn."""
    found = _from(messages, _starts(messages)[-1])
    place = _head(found)
    if place == len(found):
        return found
    words = _WORD.findall(found[place].content) or [""]
    return [*found[:place], replace(found[place], content=words[-1].strip()), *found[place + 1 :]]


def begun_later(messages: Sequence[Message], size: Size, most: int, max_tokens: int) -> list[Message]:
    """Return a dialogue without its oldest turns, so that it fits; it begins with what a user says, if that fits.

    System turns at the beginning stay. Where the last turn alone is too long, it loses its first words.

    Args:
        messages: The dialogue.
        size: Tells how many tokens one has.
        most: The most tokens.
        max_tokens: The option that it comes from.

    Raises:
        OptionError: Not even the last word fits beside system turn and the template's marks.
    """
    choices = [_from(messages, start) for start in _starts(messages)]
    low, high = 0, len(choices) - 1
    while low < high:  # the first that fits; a later one is shorter
        middle = (low + high) // 2
        low, high = (low, middle) if size(choices[middle]) <= most else (middle + 1, high)
    found = choices[low]
    if size(found) <= most:
        return found
    place = _head(found)
    turn = found[place] if place < len(found) else None

    def with_text(text: str) -> list[Message]:
        return [*found[:place], replace(found[place], content=text), *found[place + 1 :]]

    text = shortened(turn.content, lambda one: size(with_text(one)) <= most, keep_end=True) if turn else ""
    if not text:
        least = size(with_text("")) if turn else size(found)
        fix = f"raise it: the system turn and the marks of the template take {least:,} of {most:,} tokens for a prompt"
        raise OptionError("max_tokens", max_tokens, fix)
    return with_text(text)


def shortened(text: str, fits: Callable[[str], bool], *, keep_end: bool) -> str:
    """Return as many words of a text as fit, "" if not one does; space between them stays as it was.

    Args:
        text: The text.
        fits: Tells whether a text fits.
        keep_end: Words are taken from the front, else from the end.
    """
    words = _WORD.findall(text)

    def of(count: int) -> str:
        kept = words[len(words) - count :] if keep_end else words[:count]
        return "".join(kept).strip()

    low, high = 0, len(words)
    while low < high:  # the most that fit
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(of(middle)) else (low, middle - 1)
    return of(low)
