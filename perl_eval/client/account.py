"""The account of a run: what all its processes together asked and paid, also those that were killed.

It is one small file in the run's folder, written before a request is sent and when it is settled. What was on its way
when a process was killed is paid, or may be: it counts at what a request was expected to cost.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType

from perl_eval.client.usage import Usage
from perl_eval.errors import DataError, UserError

__all__ = ["ACCOUNT", "Account", "Spending", "Totals", "spent"]

ACCOUNT = ".account.json"
"""The account's name inside a run folder."""
_SIZE = 512
_DIGITS = 12


@dataclass(slots=True)
class Totals:
    """What a run came to, over all its processes.

    Attributes:
        runs: How often it was begun or gone on with.
        requests: Requests sent, again or not.
        tokens_in: Tokens of the requests that were answered.
        tokens_out: Tokens of their answers.
        cost_usd: Their price, where prices are known.
        estimated_usd: The part of it that is an estimate.
    """

    runs: int = 0
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    estimated_usd: float = 0.0


class Account:
    """Keeps the account; use as a context manager.

    Args:
        path: Its file; None keeps it in memory.

    Attributes:
        totals: What was asked and paid so far.

    Raises:
        DataError: The file is not an account.
        UserError: It cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._file = path, -1
        self.totals = Totals()
        self._on_way, self._on_way_usd = 0, 0.0
        if path is None:
            return
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            self._read(os.pread(self._file, 2 * _SIZE, 0))
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}", "choose a folder you can write to") from None
        # Whoever sent these is gone; nobody will say what they cost.
        self.totals.cost_usd += self._on_way_usd
        self.totals.estimated_usd += self._on_way_usd
        self._on_way, self._on_way_usd = 0, 0.0
        self.totals.runs += 1
        self._write()

    def __enter__(self) -> Account:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def send(self, expected_usd: float) -> None:
        """Note a request before it is sent, and what it may cost."""
        self.totals.requests += 1
        self._on_way += 1
        self._on_way_usd += expected_usd
        self._write()

    def send_again(self) -> None:
        """Note one more request of a call that is on its way."""
        self.totals.requests += 1
        self._write()

    def settle(self, expected_usd: float, before: tuple[int, int, float, float], tally: Usage) -> None:
        """Note that a request is done, and add to the totals what the tally gained by it.

        Args:
            expected_usd: As given to `send`.
            before: `spent` before its reply was counted.
            tally: The counts with its reply.
        """
        totals, now = self.totals, spent(tally)
        totals.tokens_in += now[0] - before[0]
        totals.tokens_out += now[1] - before[1]
        totals.cost_usd += now[2] - before[2]
        totals.estimated_usd += now[3] - before[3]
        self._on_way -= 1
        self._on_way_usd = self._on_way_usd - expected_usd if self._on_way else 0.0
        self._write()

    def _read(self, content: bytes) -> None:
        if not content.strip():
            return
        try:
            found = json.loads(content)
            self._on_way, self._on_way_usd = int(found["on_way"]), float(found["on_way_usd"])
            names = [one.name for one in fields(Totals)]
            self.totals = Totals(**{name: type(getattr(self.totals, name))(found[name]) for name in names})
        except (ValueError, KeyError, TypeError):
            assert self._path is not None
            raise DataError("is not an account of a run", file=self._path, fix="delete it to count anew") from None

    def _write(self) -> None:
        if self._file < 0:
            return
        totals = self.totals
        text = (
            f'{{"runs": {totals.runs}, "requests": {totals.requests}, "tokens_in": {totals.tokens_in}, '
            f'"tokens_out": {totals.tokens_out}, "cost_usd": {round(totals.cost_usd, _DIGITS)!r}, '
            f'"estimated_usd": {round(totals.estimated_usd, _DIGITS)!r}, "on_way": {self._on_way}, '
            f'"on_way_usd": {round(self._on_way_usd, _DIGITS)!r}}}'
        )
        try:
            # One write of one size: a kill leaves the old or the new.
            os.pwrite(self._file, text.ljust(_SIZE).encode("ascii"), 0)
        except OSError as error:
            raise UserError(f"cannot write {self._path}: {error.strerror}", "free the disk") from None


@dataclass(frozen=True, slots=True)
class Spending:
    """Where counts are added: what this process comes to, and the account of the run."""

    tally: Usage
    account: Account = field(default_factory=Account)


def spent(tally: Usage) -> tuple[int, int, float, float]:
    """Return what of a tally goes into an account."""
    return tally.tokens_in, tally.tokens_out, tally.cost_usd, tally.estimated_usd
