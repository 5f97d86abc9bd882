"""Checks of options where they are made; what is wrong is told under the option's own name.

A check reads its options by name from what holds them: an object with such attributes, such as the frozen options of a
verb, or a mapping. One that is None was not given, and is not checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perl_eval.errors import OptionError, UserError

__all__ = ["at_least_one", "between", "existing", "finite", "named", "not_negative", "positive", "valid_seed"]


def existing(path: Path) -> Path:
    """Return a path at which there is something.

    Raises:
        UserError: There is nothing.
    """
    if not path.exists():
        raise UserError(f"no such file or folder: {path}", "check the path", page="")
    return path


def at_least_one(options: object, *names: str) -> None:
    """Refuse counts below 1.

    Raises:
        OptionError: One of the named options is below 1.
    """
    _check(options, names, lambda value: value >= 1, "give at least 1")


def positive(options: object, *names: str) -> None:
    """Refuse numbers that are not finite and above 0.

    Raises:
        OptionError: One of the named options is not.
    """
    _check(options, names, lambda value: math.isfinite(value) and value > 0, "give a finite number above 0")


def not_negative(options: object, *names: str) -> None:
    """Refuse numbers that are not finite or are below 0.

    Raises:
        OptionError: One of the named options is.
    """
    _check(options, names, lambda value: math.isfinite(value) and value >= 0, "give a finite number, 0 or more")


def finite(options: object, *names: str) -> None:
    """Refuse numbers that are not finite.

    Raises:
        OptionError: One of the named options is not.
    """
    _check(options, names, math.isfinite, "give a finite number")


def between(
    low: float, high: float, options: object, *names: str, ends: str = "()", such_as: float | None = None
) -> None:
    """Refuse numbers outside an interval.

    Args:
        low: Its lower end.
        high: Its upper end.
        options: What holds the options.
        names: Their names.
        ends: Whether either end belongs to it: ``()``, ``[)``, ``(]`` or ``[]``.
        such_as: An example of what can be given.

    Raises:
        OptionError: One of the named options is outside.
    """

    def is_inside(value: float) -> bool:
        return low < value < high or (value == low and ends[0] == "[") or (value == high and ends[1] == "]")

    example = "" if such_as is None else f", such as {such_as:g}"
    _check(options, names, is_inside, f"give a number in {ends[0]}{low:g}, {high:g}{ends[1]}{example}")


def valid_seed(seed: int) -> int:
    """Return a seed that every generator takes.

    Raises:
        OptionError: It is negative, or wider than 32 bits.
    """
    if not 0 <= seed < 2**32:
        raise OptionError("seed", seed, "give one from 0 to 4294967295")
    return seed


@contextmanager
def named(**given: str) -> Iterator[None]:
    """Tell what is wrong with options under the names that they were given by.

    Args:
        given: Name by name: ``named(epochs="sft_epochs")`` where one option of many stages is ``epochs`` of one.

    Raises:
        OptionError: What the block raises, of one of these options, with its other name.
    """
    try:
        yield
    except OptionError as error:
        if error.option not in given:
            raise
        raise OptionError(given[error.option], error.value, error.fix) from None


def _check(options: object, names: tuple[str, ...], is_good: Callable[[Any], bool], fix: str) -> None:
    for name in names:
        value = options[name] if isinstance(options, Mapping) else getattr(options, name)
        if value is not None and not is_good(value):
            raise OptionError(name, value, fix)
