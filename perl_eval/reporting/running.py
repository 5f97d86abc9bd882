"""Run folders as they stand: what goes on in them, what stopped, what is finished, and what looks wrong."""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from perl_eval import figure_names as named
from perl_eval.client.account import ACCOUNT
from perl_eval.errors import PerlEvalError
from perl_eval.records import Measurement
from perl_eval.reporting.format import visible
from perl_eval.reporting.running_judge import RunningJudge
from perl_eval.reporting.svg_curves import thin
from perl_eval.storage import parquet, run_folder
from perl_eval.storage.folder_lock import HOLDER
from perl_eval.storage.remote import CARD, MARK

__all__ = ["Watched"]

_HEADER_LIMIT = 100_000_000
_QUIET_S = 600.0
_FAR_NATS = 10.0
_UNJUDGED = 0.1
Point = tuple[float, float]


class Watched:
    """Looks at every run folder at or below some folders, again and again.

    Args:
        sources: The folders; run folders may appear below them later.
    """

    def __init__(self, sources: Sequence[Path]) -> None:
        self._sources = [Path(source) for source in sources]
        self._judges: dict[Path, RunningJudge | str] = {}

    def state(self) -> dict[str, Any]:
        """Return what the page shows, JSON-like: folders that go on, then those that stopped, then finished ones."""
        found = [self._of(folder, source) for source in self._sources for folder in _folders(source)]
        order = {"running": 0, "stopped": 1, "finished": 2}
        return {"at": time.time(), "folders": sorted(found, key=lambda one: (order[one["state"]], one["label"]))}

    def _of(self, folder: Path, source: Path) -> dict[str, Any]:
        below = folder.relative_to(source).as_posix()
        label = {"label": visible(folder.name if below == "." else below)}
        card = run_folder.read_card(folder)
        if card is not None:
            self._judges.pop(folder, None)
            return {
                **label,
                "state": "finished",
                "verb": visible(card.verb),
                "seconds": card.seconds,
                "simulated": card.simulated,
                "curves": _drawn(_finished_curve(folder)),
                "alarms": [],
                "said": [f"{visible(name)}: {value}" for name, value in _plain(card.notes)],
            }
        plan = _plan(folder)
        made: dict[str, Any] = {
            **label,
            "state": "running" if _is_held(folder) else "stopped",
            "verb": visible(str(plan["verb"])),
            "simulated": bool(plan["simulated"]),
            "said": [],
        }
        made |= self._judging(folder, plan) if plan["verb"] == "judge" else _training(folder)
        if made["state"] == "running":
            made["alarms"] += _quiet(folder)
        return made

    def _judging(self, folder: Path, plan: Mapping[str, Any]) -> dict[str, Any]:
        known = self._judges.get(folder)
        if known is None:
            try:
                known = RunningJudge(folder, plan)
            except PerlEvalError as error:
                known = str(error)
            except (KeyError, TypeError, ValueError) as error:  # written by another version
                known = f"its plan is not understood: {error!r}"
            self._judges[folder] = known
        account = _account(folder)
        if isinstance(known, str):
            return {"curves": [], "alarms": [], "cost": account, "said": [visible(known)]}
        now = known.follow()
        spent = {"cost_usd": known.cost_usd, "requests": known.replies, "tokens": known.tokens}
        alarms = []
        unjudged = now["outcomes"].get("unjudged", 0)
        if unjudged > max(5, _UNJUDGED * now["done"]):
            alarms.append(f"{unjudged} of {now['done']} have no verdict: is the judge able to answer?")
        if account and account["requests"] > 20 and now["done"] == 0:
            alarms.append("requests are sent, and none has been answered in full yet")
        shown = {"judge": visible(known.judge), "progress": now, "cost": account or spent}
        return {**shown, "curves": [], "alarms": alarms}


def _folders(source: Path) -> Iterator[Path]:
    """Yield run folders, finished or begun; hidden ones, such as checkpoints, hold none."""
    for place, names, files in os.walk(source):
        names[:] = sorted(name for name in names if not name.startswith("."))
        if MARK in files or CARD in files:
            yield Path(place)


def _plan(folder: Path) -> dict[str, Any]:
    """Return what a run wrote down as it began; as little as is needed where it is being written."""
    empty = {"verb": "?", "arguments": {}, "seed": 0, "inputs": {}, "simulated": False}
    try:
        found = json.loads((folder / MARK).read_text("utf-8"))
    except (OSError, ValueError):
        return empty
    return {**empty, **found} if isinstance(found, dict) else empty


def _is_held(folder: Path) -> bool:
    """Return whether the process that wrote here last is still there; of other machines, the file's word counts."""
    try:
        holder = json.loads((folder / HOLDER).read_text("utf-8"))
        process, machine = int(holder["process"]), str(holder["machine"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if machine != socket.gethostname():
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _account(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / ACCOUNT).read_text("ascii"))
        tokens = int(found["tokens_in"]) + int(found["tokens_out"])
        return {"cost_usd": float(found["cost_usd"]), "requests": int(found["requests"]), "tokens": tokens}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _training(folder: Path) -> dict[str, Any]:
    """Read the curve out of the last checkpoint: the header of a safetensors file, which no tensor needs."""
    curve: list[Measurement] = []
    said: list[str] = []
    for path in sorted((folder / run_folder.CHECKPOINT).rglob("*.safetensors")):
        header = _header(path)
        if header is not None:
            curve += [
                Measurement(int(one["step"]), str(one["metric"]), _number(one["value"])) for one in header["curve"]
            ]
            said.append(f"{header['steps']:,} steps in {header['seconds']:.0f} s")
    return {"curves": _drawn(curve), "alarms": _wrong(curve), "said": said}


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _header(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _HEADER_LIMIT:
                return None
            found = json.loads(json.loads(file.read(length))["__metadata__"]["state"])
        return found if isinstance(found, dict) and found.keys() >= {"curve", "steps", "seconds"} else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _finished_curve(folder: Path) -> list[Measurement]:
    path = folder / run_folder.FILES[Measurement]
    return list(parquet.iterate(path, Measurement)) if path.is_file() else []


def _drawn(curve: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Return each metric with the points that are drawn."""
    metrics: dict[str, list[Point]] = {}
    for one in curve:
        metrics.setdefault(one.metric, []).append((float(one.step), one.value))
    return [
        {"metric": visible(name), "points": thin([point for point in sorted(points) if math.isfinite(point[1])])}
        for name, points in metrics.items()
        if any(math.isfinite(value) for _, value in points)
    ]


def _wrong(curve: Sequence[Measurement]) -> list[str]:
    """Say what looks wrong in a curve."""
    metrics: dict[str, list[float]] = {}
    for one in curve:
        metrics.setdefault(one.metric, []).append(one.value)
    alarms = []
    for name, values in metrics.items():
        finite = [value for value in values if math.isfinite(value)]
        if len(finite) < len(values):
            alarms.append(f"{visible(name)}: {len(values) - len(finite)} values are not finite")
        if name.lower().startswith("kl") and finite and finite[-1] > _FAR_NATS:
            alarms.append(f"{visible(name)} is {finite[-1]:.1f} nats: the policy is far from where it began")
        if name == named.ENTROPY and len(finite) > 10 and finite[0] > 0 and finite[-1] < 0.1 * finite[0]:
            alarms.append(f"entropy fell from {finite[0]:.2f} to {finite[-1]:.2f} nats: answers become all alike")
    return alarms


def _quiet(folder: Path) -> list[str]:
    """Say if nothing was written for long."""
    newest = max(_changes(folder), default=0.0)
    silent_s = time.time() - newest
    return [f"nothing was written for {silent_s / 60:.0f} minutes"] if newest and silent_s > _QUIET_S else []


def _changes(folder: Path) -> Iterator[float]:
    """Yield when each file changed; os.walk passes over a folder that goes away meanwhile, as scratch folders do."""
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                yield Path(place, name).stat().st_mtime


def _plain(notes: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [(name, value) for name, value in notes.items() if isinstance(value, int | float | str)]
    return [
        (name, f"{value:.4g}" if isinstance(value, float) else visible(str(value))[:60]) for name, value in found[:6]
    ]
