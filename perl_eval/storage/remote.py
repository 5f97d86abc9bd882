"""Folders and files at an address (``hf://``, ``s3://``, ``gs://``): brought here before a verb, sent there after it.

A verb reads and writes local paths. `fetch` brings what an address holds into a cache, under a fingerprint of the
listing, so that it comes once and a change comes anew. `staged` gives a local place for an output and sends it when it
is finished. While a folder is being sent it holds a mark, and its run card comes last, so a folder that is there in
part is never read; what was sent in part is sent again by the same command. Nothing that is finished is overwritten.

The cache is ``PERL_EVAL_CACHE``, or ``~/.cache/perl-eval``. Credentials are the drivers' own business.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from perl_eval.errors import UserError
from perl_eval.storage import hub_snapshot
from perl_eval.storage.quiet_logs import quiet

__all__ = ["CARD", "MARK", "SCHEMES", "fetch", "is_address", "is_private", "local", "shown", "staged"]

CARD = "run.json"
"""The file that says how a run folder came to be, written last."""
MARK = ".unfinished.json"
"""The file that an unfinished folder holds."""
SCHEMES = ("hf", "s3", "gs", "memory")
"""Schemes of addresses; ``memory`` is fsspec's store inside the process, for tests and notebooks."""
_ADDRESS = re.compile(rf"({'|'.join(SCHEMES)})://(.+)", re.S)
_EXTRAS = {"s3": "s3", "gs": "gs"}
# What drivers raise beside OSError, by where it is defined.
_DRIVER_ERRORS = (
    *("botocore.exceptions.BotoCoreError", "botocore.exceptions.ClientError"),
    *("google.auth.exceptions.GoogleAuthError", "gcsfs.retry.HttpError"),
)

_DRIVERS = ("gcsfs", "s3fs", "aiobotocore", "google.auth")
"""Their loggers: a failure that is told in one line they tell with a traceback for each try."""


def is_address(text: str) -> bool:
    """Return whether a text is an address of one of the `SCHEMES`."""
    return _ADDRESS.fullmatch(text) is not None


def _cache() -> Path:
    place = os.environ.get("PERL_EVAL_CACHE")
    return Path(place) if place else Path.home() / ".cache" / "perl-eval"


def _split(address: str) -> tuple[str, str]:
    """Return scheme and path of an address."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UserError(f"{address} is not an address", f"begin it with one of {', '.join(f'{s}://' for s in SCHEMES)}")
    scheme, path = match[1], match[2].strip("/")
    if scheme != "hf" and "@" in path.split("/", 1)[0]:
        raise UserError(f"the {scheme} address holds a user or a key", "put credentials where the driver looks")
    if not path or ".." in PurePosixPath(path).parts:
        raise UserError(f"{address} names no folder", "give bucket and path")
    return scheme, path


def _open(scheme: str) -> Any:
    """Return the file system of a scheme, its listings fresh."""
    import fsspec

    try:
        return fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False)
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        fix = f"install the extra: pip install 'perl-eval[{extra}]'" if extra else "install its driver"
        raise UserError(f"{scheme}:// needs a driver that is not installed ({error})", fix) from None


@contextlib.contextmanager
def _explained(address: str, doing: str) -> Iterator[None]:
    """Turn what drivers raise into one line."""
    from datasets_builders import network

    foreign = []
    for name in _DRIVER_ERRORS:
        module, _, kind = name.rpartition(".")
        with contextlib.suppress(ImportError, AttributeError):
            foreign.append(getattr(importlib.import_module(module), kind))
    try:
        with quiet(logging.CRITICAL + 1, *_DRIVERS):
            yield
    except FileNotFoundError:
        raise UserError(f"there is nothing at {address}", "check the address") from None
    except (*network.failures(), *foreign) as error:
        why = network.reason(error)
        raise UserError(f"cannot {doing} {address}: {why}", "check address, credentials and network") from None


def _listing(system: Any, path: str) -> dict[str, Any]:
    """Return what a driver knows of each file at or below a path, by name relative to it; "" is the path itself."""
    if not system.exists(path):
        return {}
    found: dict[str, Any] = system.find(path, withdirs=False, detail=True)
    root = system._strip_protocol(path).rstrip("/")
    listed = {}
    for name, facts in found.items():
        relative = str(name).removeprefix(root).lstrip("/")
        if ".." in PurePosixPath(relative).parts:
            raise UserError(f"{name} is not a name for a file", "rename it")
        listed[relative] = facts
    return listed


def fetch(address: str) -> Path:
    """Bring what an address holds into the cache, if it is not there, and return the local file or folder.

    Raises:
        UserError: There is nothing, it was sent in part, it cannot be read, or the scheme's driver is not installed.
    """
    scheme, path = _split(address)
    system = _open(scheme)
    with _explained(address, "read"):
        listed = _listing(system, path)
    if not listed:
        raise UserError(f"there is nothing at {address}", "check the address")
    if MARK in listed:
        raise UserError(f"{address} is there in part", "wait for the verb that sends it, or run that again")
    facts = json.dumps(listed, sort_keys=True, default=str).encode()
    place = _cache() / "in" / hashlib.sha256(facts).hexdigest()[:16] / scheme / path
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".partial-") as folder, _explained(address, "read"):
        coming = Path(folder) / place.name
        for name in sorted(listed):
            target = coming / name if name else coming
            target.parent.mkdir(parents=True, exist_ok=True)
            system.get_file(f"{path}/{name}" if name else path, str(target))
        with contextlib.suppress(OSError):  # another process may have been faster
            coming.rename(place)
    return place


def local(path: str) -> Path:
    """Return a path as it is, or what an address holds, fetched."""
    return fetch(path) if is_address(path) else Path(path)


def shown(path: PurePath) -> str:
    """Return the address that a path in the cache stands for, or a model's name on the hub; else the path."""
    if name := hub_snapshot.name_of(path):
        return name
    try:
        section, _, scheme, *rest = path.relative_to(_cache()).parts
    except ValueError:
        return str(path)
    return f"{scheme}://{'/'.join(rest)}" if section in ("in", "out") and rest else str(path)


def is_private(address: str) -> bool:
    """Return whether the hub's repository at an address is private.

    Raises:
        UserError: There is none, or it cannot be seen.
    """
    from huggingface_hub import HfApi

    scheme, path = _split(address)
    with _explained(address, "read"):
        place = _open(scheme).resolve_path(path)
        return bool(HfApi().repo_info(place.repo_id, repo_type=place.repo_type).private)


@contextlib.contextmanager
def staged(address: str, allow: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Give a local place for the output that belongs at an address, and send it there when the block ends well.

    What is already there, finished, is brought here first, so that a verb finds its own output, or refuses another's.
    What a killed verb left here is still here.

    Args:
        address: Where a run folder, or a single file, is to go.
        allow: Looks at the output before it is sent, and raises if it may not be.

    Raises:
        UserError: There is something else at the address, or it cannot be written.
    """
    scheme, path = _split(address)
    system = _open(scheme)
    place = _cache() / "out" / hashlib.sha256(address.encode()).hexdigest()[:16] / scheme / path
    with _explained(address, "read"):
        there = _listing(system, path)
    if there and CARD not in there and MARK not in there and "" not in there:
        raise UserError(f"{address} is not empty and holds no run", "choose another address")
    if CARD in there and MARK not in there and not (place / CARD).is_file():
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(fetch(address), place)
    place.parent.mkdir(parents=True, exist_ok=True)
    yield place
    if allow is not None and place.exists():
        allow(place)
    if place.is_file():
        with _explained(address, "write"):
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
            system.put_file(str(place), path)
    elif (place / CARD).is_file():
        _send(system, scheme, place, path, address)


def _send(system: Any, scheme: str, folder: Path, path: str, address: str) -> None:
    """Send a finished run folder: mark, files, card, and the mark away; to the hub as one commit."""
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    # A ledger is no output, and stays where it can be written; hidden files are unfinished work.
    outputs = sorted(name for name in names if not _hidden(name) and ".sqlite" not in name and name != CARD)
    with _explained(address, "write"):
        if _same_card(system, folder, path):
            return
        if scheme == "hf":
            _commit(system, folder, path, [*outputs, CARD])
            return
        system.makedirs(path, exist_ok=True)
        system.pipe_file(f"{path}/{MARK}", b"{}\n")
        for name in [*outputs, CARD]:
            system.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)
            system.put_file(str(folder / name), f"{path}/{name}")
        system.rm_file(f"{path}/{MARK}")


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def _same_card(system: Any, folder: Path, path: str) -> bool:
    """Return whether this very run is there already, whole.

    Raises:
        UserError: Another one is.
    """
    if not system.exists(f"{path}/{CARD}") or system.exists(f"{path}/{MARK}"):
        return False
    if system.cat_file(f"{path}/{CARD}") != (folder / CARD).read_bytes():
        raise UserError(f"another run was sent to {path} meanwhile", "choose another address")
    return True


def _commit(system: Any, folder: Path, path: str, names: list[str]) -> None:
    """Send files to a repository of the hub as one commit; the repository must exist."""
    from huggingface_hub import HfApi

    place = system.resolve_path(path)
    HfApi().upload_folder(
        repo_id=place.repo_id,
        repo_type=place.repo_type,
        revision=place.revision,
        path_in_repo=place.path_in_repo,
        folder_path=folder,
        allow_patterns=names,
        commit_message=f"Add {folder.name}",
    )
