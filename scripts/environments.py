"""Fresh environments, for the scripts beside this file: uv from PyPI, with pip's settings of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "constraints.txt"
PYPROJECT = ROOT / "pyproject.toml"

# What uv reads in place of pip's own setting, which it does not know.
_SETTINGS = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS"}
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)", re.M)


@dataclass(frozen=True)
class Workshop:
    """A temporary folder with uv in it.

    Attributes:
        folder: The folder; gone when the script ends.
        settings: The environment variables that uv is run with.
    """

    folder: Path
    settings: dict[str, str]

    def uv(self, *words: str | Path, cwd: Path = ROOT) -> None:
        """Run uv; raises CalledProcessError if it fails."""
        command = [str(self.folder / "tools" / "bin" / "uv"), *map(str, words)]
        subprocess.run(command, cwd=cwd, env=self.settings, check=True)

    def environment(self, name: str) -> Path:
        """Make an empty environment of this Python and return its folder."""
        made = self.folder / name
        self.uv("venv", "--quiet", "--python", sys.executable, made)
        return made

    def install(self, environment: Path, *words: str | Path) -> None:
        """Install into an environment, as ``pip install`` would."""
        self.uv("pip", "install", "--quiet", "--python", environment / "bin" / "python", *words)


@contextmanager
def workshop(*, as_pip: bool = True) -> Iterator[Workshop]:
    """Make a folder with uv in it, and take it away again.

    Args:
        as_pip: Let uv look where this machine's pip looks; else at the public index alone, wherever the script runs.
    """
    with tempfile.TemporaryDirectory(prefix="perl-eval-") as name:
        tools = Path(name) / "tools"
        subprocess.run([sys.executable, "-m", "venv", tools], check=True)
        pip = [str(tools / "bin" / "python"), "-m", "pip"]
        subprocess.run([*pip, "install", "--quiet", "uv"], check=True)
        settings = {key: value for key, value in os.environ.items() if as_pip or not key.startswith("UV_")}
        if as_pip:
            listed = subprocess.run([*pip, "config", "list"], check=True, capture_output=True, text=True).stdout
            settings |= uv_settings(listed)
        yield Workshop(Path(name), settings)


def uv_settings(listed: str) -> dict[str, str]:
    """Return pip's indexes and folders of wheels as uv's environment variables; ``pip config list`` says them."""
    found: dict[str, str] = {"UV_INDEX_STRATEGY": "unsafe-best-match"}  # as pip does: the best version of all indexes
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        name = _SETTINGS.get(key.rpartition(".")[2])
        if name is not None:
            found[name] = value.strip().strip("'\"")
    return found


def normal(name: str) -> str:
    """Return a package's name as indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, list[str]]:
    """Return the versions that a file of pins has for each package; several where they hang on the Python."""
    found: dict[str, list[str]] = {}
    for name, version in _PIN.findall(text):
        found.setdefault(normal(name), []).append(version)
    return found
