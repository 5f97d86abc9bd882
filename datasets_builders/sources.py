"""Upstream files: where they come from, their checksums, and what may be done with them.

Files are opened here and in `reading`, never in a module that defines a builder: `datasets` replaces ``open``,
``pathlib.Path`` and others inside those modules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from datasets_builders import network
from datasets_builders.errors import SourceError
from datasets_builders.tally import Tally

__all__ = [
    "Origin",
    "Source",
    "code_sha256",
    "download",
    "find",
    "lies",
    "path_at",
    "save_tally",
    "saved_tallies",
    "sha256_of",
    "verify",
]

Publishing = Literal["public", "private", "never"]


@dataclass(frozen=True, slots=True)
class Source:
    """One upstream file.

    Attributes:
        path: Its path as upstream lays it out, with forward slashes.
        url: Where it is downloaded from; empty if it cannot be.
        sha256: Of its bytes, or None if nobody has published one; it is then recorded, not checked.
        git_sha1: Its git blob id, where upstream is a git repository.
    """

    path: str
    url: str = ""
    sha256: str | None = None
    git_sha1: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a data set comes from and on what terms.

    Attributes:
        name: The data set's name here.
        title: Its name to people.
        homepage: Where upstream describes it.
        revision: The upstream commit or release that is pinned; empty where upstream has none.
        licence: Licence identifier as the Hugging Face hub knows it.
        terms: The licence in words, and what is not covered by it.
        citation: BibTeX.
        description: What the rows are, a few sentences.
        splits: Where the splits come from, and what keeps one out of another.
        warning: What a reader should be warned of; empty if nothing.
        publishing: Whether the built rows may be pushed to a hub: publicly, privately only, or never.
        manual: How to obtain the files by hand, where they cannot be downloaded; such a data set needs a data_dir.
        tags: Tags for the hub.
    """

    name: str
    title: str
    homepage: str
    revision: str
    licence: str
    terms: str
    citation: str
    description: str
    splits: str
    warning: str = ""
    publishing: Publishing = "public"
    manual: str = ""
    tags: tuple[str, ...] = ()


@lru_cache(maxsize=4096)
def _digests(path: Path, state: tuple[int, int, int]) -> tuple[str, str]:
    """Return sha256 and git blob sha1; a file of another size, time or inode is another question."""
    size = state[0]
    sha256, sha1 = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            sha256.update(block)
            sha1.update(block)
    return sha256.hexdigest(), sha1.hexdigest()


def _digests_of(path: Path) -> tuple[str, str]:
    status = path.stat()
    return _digests(path, (status.st_size, status.st_mtime_ns, status.st_ino))


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file; read once a process as long as the file does not change."""
    return _digests_of(path)[0]


@lru_cache(maxsize=1)
def code_sha256() -> str:
    """Return a sha256 over this package's source, so that changed code never reads an old cache."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def path_at(text: str) -> Path:
    """Return a path; for modules in which `datasets` replaces ``pathlib.Path``."""
    return Path(text).expanduser()


def find(source: Source, folder: Path) -> Path:
    """Return where an upstream file lies under a folder.

    The folder may be upstream's root or any folder on the way to the file: for ``TM-4-2024/reward/x.json`` the
    parent of ``TM-4-2024``, ``TM-4-2024`` itself, or ``reward``.

    Raises:
        SourceError: There is no such folder, or the file is not in it.
    """
    if not folder.is_dir():
        raise SourceError(f"no such folder: {folder}", "give the folder that holds the upstream files")
    steps = source.path.split("/")
    for skipped in range(len(steps)):
        path = folder.joinpath(*steps[skipped:])
        if path.is_file():
            return path
    where = f"download it from {source.url}" if source.url else "obtain it from upstream"
    raise SourceError(f"{folder} has no {source.path}", f"{where}, or give the folder that holds it")


def lies(source: Source, folder: Path | str | None) -> bool:
    """Return whether an upstream file lies under a folder; in no folder, nothing does."""
    try:
        return folder is not None and find(source, path_at(str(folder))).is_file()
    except SourceError:
        return False


def verify(source: Source, path: Path) -> str:
    """Check a file against the pinned checksum and return its sha256.

    Raises:
        SourceError: It is another file.
    """
    sha256, sha1 = _digests_of(path)
    for kind, pinned, found in (("sha256", source.sha256, sha256), ("git blob sha1", source.git_sha1, sha1)):
        if pinned is not None and pinned != found:
            raise SourceError(
                f"{path} is not the upstream {source.path}: {kind} is {found}, pinned is {pinned}",
                "download it again, or build from a file of your own with checksums='record' (--checksums record)",
            )
    return sha256


def download(sources: Sequence[Source], *, manager: Any, cache_dir: Path) -> dict[Source, Path]:
    """Download upstream files into a cache and return where they lie; what is there already is not asked for again.

    Args:
        sources: The files.
        manager: The `datasets.DownloadManager` to use, or None for one that downloads into ``cache_dir``.
        cache_dir: The cache.

    Raises:
        SourceError: A file cannot be downloaded.
    """
    from datasets import DownloadConfig, DownloadManager

    if manager is None:
        manager = DownloadManager(download_config=DownloadConfig(cache_dir=str(cache_dir), use_etag=False))
    found = {}
    for source in sources:
        try:
            found[source] = Path(manager.download(source.url))
        except network.failures(ValueError) as error:
            raise SourceError(
                f"cannot download {source.url} ({network.reason(error)})",
                "check the network and try again, or download it by hand and give data_dir",
            ) from None
    return found


def save_tally(tally: Tally, folder: Path, *, split: str, first: str) -> None:
    """Write the tally of one shard, told by its first file, beside its rows."""
    shard = hashlib.sha256(first.encode()).hexdigest()[:16]
    tally.save(folder / f"tally-{split}-{shard}.json")


def saved_tallies(folder: Path) -> list[tuple[str, Path]]:
    """Return the tallies saved beside some rows, each with its split."""
    return [(path.stem.split("-")[1], path) for path in sorted(folder.glob("tally-*.json"))]
