"""Checks of options: one line that names what was typed."""

from __future__ import annotations

import math

from perl_eval.errors import UserError

__all__ = ["at_least_one", "not_negative", "positive", "valid_seed"]


def at_least_one(options: object, *names: str) -> None:
    """Refuse counts below 1.

    Raises:
        UserError: One of the named options is below 1.
    """
    for name in names:
        if getattr(options, name) < 1:
            raise UserError(f"{name} is {getattr(options, name)}", "give 1 or more")


def positive(options: object, *names: str) -> None:
    """Refuse rates that are not finite and above 0.

    Raises:
        UserError: One of the named options is not.
    """
    for name in names:
        value = getattr(options, name)
        if not (math.isfinite(value) and value > 0):
            raise UserError(f"{name} is {value}", "give a finite number above 0")


def not_negative(options: object, *names: str) -> None:
    """Refuse numbers that are not finite or are below 0.

    Raises:
        UserError: One of the named options is.
    """
    for name in names:
        value = getattr(options, name)
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"{name} is {value}", "give a finite number, 0 or more")


def valid_seed(seed: int) -> int:
    """Return a seed that every generator takes.

    Raises:
        UserError: It is negative, or wider than 32 bits.
    """
    if not 0 <= seed < 2**32:
        raise UserError(f"seed is {seed}", "give one from 0 to 4294967295")
    return seed
