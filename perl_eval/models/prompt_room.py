"""Refusing options that no run can be made with, before anything is loaded."""

from __future__ import annotations

from perl_eval.errors import OptionError

__all__ = ["prompt_room"]


def prompt_room(max_tokens: int, max_new_tokens: int) -> int:
    """Return how many tokens of prompt fit beside the longest sample.

    Raises:
        UserError: None do.
    """
    room = max_tokens - max_new_tokens
    if room < 1:
        fix = f"give more than `max_new_tokens`, {max_new_tokens}, so that there is room for a prompt"
        raise OptionError("max_tokens", max_tokens, fix)
    return room
