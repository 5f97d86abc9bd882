"""Run folders: what a verb wrote, and the card that says how.

A run folder holds the verb's output files and ``run.json``, its `RunCard`, written last. A folder without the card is
unfinished, and the same verb with the same arguments goes on with it. A card whose checksums do not match the files
beside it is refused by every verb that reads it.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from numbers import Integral, Real
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, TypeVar

from perl_eval.errors import UserError
from perl_eval.records import Completion, Estimate, HumanLabel, Judgement, Measurement, RunCard, Score
from perl_eval.storage import parquet, remote
from perl_eval.storage.folder_lock import HOLDER, FolderLock
from perl_eval.storage.remote import CARD, MARK
from perl_eval.storage.run_card import (
    INPUTS,
    find_cards,
    fingerprint,
    is_simulated,
    outputs_of,
    read_card,
    refuse_if_changed,
)

__all__ = [
    "CARD",
    "CHECKPOINT",
    "FILES",
    "INPUTS",
    "Run",
    "agree",
    "find_cards",
    "fingerprint",
    "flat",
    "locate",
    "read",
    "read_card",
    "start",
]

FILES: Mapping[type, str] = {
    Completion: "completions.parquet",
    Judgement: "judgements.parquet",
    HumanLabel: "labels.parquet",
    Score: "scores.parquet",
    Estimate: "estimates.parquet",
    Measurement: "curve.parquet",
}
"""The file that a run folder keeps each kind of record in."""
_PACKAGES = (
    *("perl-eval", "numpy", "pyarrow", "scipy", "scikit-learn", "datasets"),
    *("torch", "transformers", "peft", "tokenizers", "openai"),
)
_NO_PART = ("max_requests", "max_cost_usd")
"""Arguments on cards of 0.1.0 that are no part of what a run is."""
CHECKPOINT = ".checkpoint"
"""The hidden folder in which a run keeps what it needs to go on; it goes once the card is there."""
Record = TypeVar("Record")


def locate(path: Path, record: type) -> Path:
    """Return the file of one kind of record: the path itself, or the kind's file in a run folder.

    Raises:
        UserError: The folder has no such file.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    found = path / FILES[record]
    if not found.is_file():
        raise UserError(
            f"{path} has no {found.name}",
            f"give a folder that holds {record.__name__} records, or the file itself",
        )
    return found


def read(path: Path, record: type[Record]) -> list[Record]:
    """Check a file or run folder against its card and read its records.

    Raises:
        UserError: There is no such file.
        DataError: The file does not match its card, or is not a table of such records.
    """
    found = locate(path, record)
    fingerprint(found)
    return parquet.read(found, record)


def _versions() -> dict[str, str]:
    import importlib.metadata

    versions = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def peak_memory_bytes() -> int:
    """Return the peak resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Run:
    """An output folder being filled; use as a context manager, see `start`.

    Attributes:
        folder: The folder.
        done: True if the folder already holds this very run, finished; write nothing then.
        notes: Figures that go on the card.
    """

    def __init__(self, folder: Path, plan: dict[str, Any], finished: RunCard | None) -> None:
        self.folder = folder
        self.done = finished is not None
        self.notes: dict[str, Any] = dict(finished.notes) if finished else {}
        self._plan = plan
        self._lock = FolderLock(folder)
        self._begun_s = time.monotonic()
        self._started = datetime.now(UTC).isoformat(timespec="microseconds")

    @property
    def simulated(self) -> bool:
        """Whether simulated people or judges come in, here or in an input."""
        return bool(self._plan["simulated"])

    def __enter__(self) -> Run:
        """Take the folder for this process.

        Raises:
            UserError: Another process is writing in it.
        """
        if not self.done:
            self._lock.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self.done and kind is None:
                self._finish()
        finally:
            self._lock.release()

    def _finish(self) -> None:
        """Write the card, the last of a run's files."""
        card = RunCard(
            **self._plan,
            outputs=outputs_of(self.folder),
            versions=_versions(),
            seconds=round(time.monotonic() - self._begun_s, 3),
            peak_memory_bytes=peak_memory_bytes(),
            started=self._started,
            notes=self.notes,
        )
        _write_json(self.folder / CARD, asdict(card))
        (self.folder / MARK).unlink(missing_ok=True)
        shutil.rmtree(self.folder / CHECKPOINT, ignore_errors=True)
        self.done = True

    def reopen(self) -> None:
        """Go on with a finished run: its card goes, and from then on it is an unfinished one."""
        self._lock.take()
        _write_json(self.folder / MARK, self._plan)
        (self.folder / CARD).unlink(missing_ok=True)
        parquet.sweep(self.folder)
        self.done, self.notes = False, {}

    def write(self, records: Iterable[Any], record: type) -> Path:
        """Write records to the file of their kind and return its path."""
        path = self.folder / FILES[record]
        parquet.write(path, records, record)
        return path


def _plain(value: Any) -> Any:
    """Return what JSON has no form for as what it has: paths as text, numbers of numpy as numbers."""
    if isinstance(value, PurePath):
        return remote.shown(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise TypeError(f"{value!r} cannot go on a run card")


def _write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=1, sort_keys=True, default=_plain)
    parquet.replace_file(path, lambda partial: partial.write_text(text + "\n", "utf-8"))


def _own(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that make a run what it is."""
    return {name: value for name, value in arguments.items() if name not in _NO_PART}


def start(
    out: Path,
    *,
    verb: str,
    arguments: Mapping[str, Any],
    seed: int = 0,
    inputs: Mapping[str, Path] | None = None,
    simulated: bool = False,
) -> Run:
    """Open an output folder for a verb.

    If the folder holds the finished output of the same verb with the same arguments, seed and input checksums, the
    run is ``done`` at once. If it holds an unfinished one, the run goes on in it. Anything else there is refused.

    Args:
        out: The folder.
        verb: The verb, as typed.
        arguments: What shapes the output: plain values, paths, sequences, mappings; never a key or a password.
        seed: The run's seed.
        inputs: Input paths by the name of their argument; each is checked against its card.
        simulated: True if simulated people or judges come in here; a simulated input makes the run simulated anyway.

    Raises:
        UserError: The folder holds something else or cannot be written, or an input is missing.
        DataError: An input does not match its card.
    """
    out = Path(out)
    given = dict(inputs or {})
    plan = {
        "verb": verb,
        "arguments": json.loads(json.dumps({**arguments, **given}, default=_plain)),
        "seed": seed,
        "inputs": {remote.shown(path): fingerprint(path) for path in given.values()},
        "simulated": simulated or any(is_simulated(path) for path in given.values()),
    }
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file", "give a folder for the output")
    card = read_card(out)
    if card is not None:
        card = replace(card, arguments=_own(card.arguments))
        if {name: getattr(card, name) for name in plan} == plan:
            refuse_if_changed(out, card, card.outputs)
            return Run(out, plan, card)
        raise UserError(
            f"{out} holds the output of another `{card.verb}` run: {_difference(asdict(card), plan)}",
            "choose another folder or delete this one",
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        held = {path.name for path in out.iterdir()} - {MARK, INPUTS, HOLDER}
        writable = os.access(out, os.W_OK)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}", "choose a folder you can write to") from None
    if not writable:
        raise UserError(f"cannot write {out}", "choose a folder you can write to")
    begun = _read_mark(out / MARK)
    if begun is not None:
        begun = {**begun, "arguments": _own(begun["arguments"])}
    if begun is not None and begun != plan and held:
        raise UserError(
            f"{out} holds an unfinished run of another `{begun['verb']}` command: {_difference(begun, plan)}",
            "choose another folder or delete this one",
        )
    if begun is None and any(not name.startswith(".") for name in held):
        raise UserError(f"{out} is not empty and not an unfinished run of this command", "choose another folder")
    parquet.sweep(out)
    _write_json(out / MARK, plan)
    return Run(out, plan, None)


def agree(out: Path, name: str, value: Any) -> Any:
    """Let an unfinished run go on with another value of one argument, and return the one that it had, or None.

    Args:
        out: Its folder; nothing happens where there is none, or where the value is as it was.
        name: The argument.
        value: Its value now.
    """
    mark = Path(out) / MARK
    plan, now = _read_mark(mark), json.loads(json.dumps(value, default=_plain))
    if plan is None or plan["arguments"].get(name) in (None, now):
        return None
    before = plan["arguments"][name]
    _write_json(mark, {**plan, "arguments": {**plan["arguments"], name: now}})
    return before


def flat(options: Any) -> dict[str, Any]:
    """Return the options of a verb as a run card keeps them: level, draws and seed beside the others.

    Args:
        options: A frozen value with a field ``resampling``, `perl_eval.stats.bootstrap.Resampling`.
    """
    given = asdict(options)
    bootstrap = given.pop("resampling")
    return {**given, **{name: bootstrap[name] for name in ("level", "draws", "seed")}}


def _read_mark(mark: Path) -> dict[str, Any] | None:
    try:
        plan = json.loads(mark.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return plan if isinstance(plan, dict) and plan.keys() >= {"verb", "arguments", "seed", "inputs"} else None


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say in what a run differs from the one before: the first of verb, arguments, seed and inputs that does."""
    if before["verb"] != now["verb"]:
        return f"this one is `{now['verb']}`"
    was, wanted = before["arguments"], now["arguments"]
    for name in sorted({*was, *wanted}):
        if was.get(name) != wanted.get(name):
            return f"{name} was {was.get(name)!r} and is now {wanted.get(name)!r}"
    if before["seed"] != now["seed"]:
        return f"the seed was {before['seed']} and is now {now['seed']}"
    changed = [path for path, sha256 in now["inputs"].items() if before["inputs"].get(path) != sha256]
    return f"{changed[0]} has changed since" if changed else "one is simulated, the other is not"
