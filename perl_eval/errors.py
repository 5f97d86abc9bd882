"""The errors perl_eval raises.

The tree::

    PerlEvalError
    +-- UserError        the request cannot be served: one line (what, value, what to do), exit code 2
    |   +-- DataError    a file is not what it should be: names file, row and field
    |   +-- OptionError  an option has a value that it cannot have: names the option as it was given
    +-- JudgeError       a judge gave no reply; the pair it belongs to becomes unjudged
    |   +-- RateLimited  the server asked to slow down
    |   +-- TimedOut     no reply in time
    |   +-- OutOfCredit  the server wants money first
    |   +-- TurnedAway   the server wants another key, address or model, or just says so
    |   +-- Refused      the server rejected the request; asking again will not help
    +-- Unfinished       the request is served in part: one line, exit code 3; the same command goes on

Bad content (a reply without a verdict, an empty answer) is data, not an error. A bug raises what Python raises.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

__all__ = [
    "DataError",
    "JudgeError",
    "OptionError",
    "OutOfCredit",
    "PerlEvalError",
    "RateLimited",
    "Refused",
    "TimedOut",
    "TurnedAway",
    "Unfinished",
    "UserError",
]


class PerlEvalError(Exception):
    """Root of every error that perl_eval raises on purpose."""


class UserError(PerlEvalError):
    """The request cannot be served as asked.

    Args:
        what: What is wrong, with the offending value.
        fix: What to do about it, as an imperative.
        page: The page of docs/ that the command line says how to read; "" for none, None for that of the error's kind.
    """

    def __init__(self, what: str, fix: str = "", *, page: str | None = None) -> None:
        super().__init__(what, fix)
        self.what = what
        self.fix = fix
        self.page = page

    def __str__(self) -> str:
        text = f"{self.what}; {self.fix}" if self.fix else self.what
        return " ".join(text.split())


class DataError(UserError):
    """A file holds something it should not.

    Args:
        what: What is wrong.
        file: The file.
        row: Zero-based row, where one row is to blame.
        field: The column or key, where one is to blame.
        fix: What to do about it.
    """

    def __init__(
        self, what: str, *, file: Path | str, row: int | None = None, field: str | None = None, fix: str = ""
    ) -> None:
        place = str(file)
        if row is not None:
            place += f", row {row}"
        if field is not None:
            place += f", field {field!r}"
        super().__init__(f"{place}: {what}", fix)
        self.file = str(file)
        self.row = row
        self.field = field


_UNIT = re.compile(r"_(s|h|usd)$")
_NAMED = re.compile(r"`([a-z][a-z0-9_]*)`")


class OptionError(UserError, ValueError):
    """An option has a value that it cannot have.

    Args:
        option: The option's name, as an argument in Python.
        value: The value.
        fix: What to give instead. In it, as in a value that is text, names of other options stand in backquotes.
    """

    def __init__(self, option: str, value: object, fix: str) -> None:
        super().__init__(f"{option} is {value}", fix)
        self.args = (option, value, fix)
        self.option = option
        self.value = value

    def typed(self) -> str:
        """Return the line in the words of the command line: ``--max-cost`` for the argument ``max_cost_usd``."""
        return f"{_flag(self.option)} is {in_typed_names(f'{self.value}; {self.fix}')}"


def in_typed_names(text: str) -> str:
    """Return a text with the names of options, in backquotes, as they are typed on the command line."""
    return _NAMED.sub(lambda name: _flag(name[1]), text)


def _flag(option: str) -> str:
    """Return the name of an option on the command line, where units are not written."""
    return f"--{_UNIT.sub('', option).replace('_', '-')}"


class Unfinished(PerlEvalError):
    """A run stopped before its end, for a reason that can pass; the same command goes on."""


class JudgeError(PerlEvalError):
    """A judge gave no reply.

    Attributes:
        can_pass: Whether asking the same again, later, can help: the one place that says so. What cannot pass is final.
        starting: Whether the server said that it is there and will answer soon, as one that loads its model does.
        paid: Replies that came all the same, and are paid, and no use: tokens in and out of each, None where not said.
    """

    can_pass: ClassVar[bool] = True
    starting: bool = False
    paid: tuple[tuple[int | None, int | None], ...] | None = None


class RateLimited(JudgeError):
    """The server asked to slow down (HTTP 429).

    Args:
        message: What the server said.
        retry_after_s: Seconds the server asked to wait, if it said.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TimedOut(JudgeError):
    """No reply came in time, or the connection broke."""


class OutOfCredit(JudgeError):
    """The server wants money first (HTTP 402, or a quota that is used up)."""


class TurnedAway(JudgeError):
    """The server wants another key, address or model (HTTP 401, 403, 404, or a redirect).

    Whether it means all requests or this one is seen from what it does with the others.

    Args:
        what: What the server said.
        fix: What to do about it, if it means all.
        forbidden: True if it may mean this request alone, as a 403 for what it asks does.
    """

    def __init__(self, what: str, fix: str = "check key, address and model", *, forbidden: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix
        self.forbidden = forbidden


class Refused(JudgeError):
    """The server rejected the request for good (HTTP 4xx other than those above)."""

    can_pass = False
