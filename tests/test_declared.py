"""What pyproject.toml declares is what the code imports, and the lock has all of it."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from drift import DRIFT

ROOT = Path(__file__).resolve().parent.parent
INSTALLED = packages_distributions()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
UNIMPORTED = {"s3fs", "gcsfs", "tensorboard", "isal", "google-crc32c", "gguf", "bitsandbytes"}
"""Found by name at run time, by fsspec, accelerate, transformers or our own import_module."""
OPTIONAL = {"inspect_ai"}
"""Used where somebody has it; without it our own reader reads the same files."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[str]) -> set[str]:
    """Return the packages of some requirements, our own extras left out."""
    found = {normal(match[0]) for one in requirements if (match := re.match(r"[\w.-]+", one))}
    return found - {"perl-eval"}


CORE = names(PROJECT["dependencies"])
EXTRAS = {extra: names(asked) for extra, asked in PROJECT["optional-dependencies"].items()}


def imported(path: Path) -> Iterator[str]:
    """Yield the installed packages that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [node.module or ""]
        else:
            continue
        for module in {name.partition(".")[0] for name in modules} - sys.stdlib_module_names:
            if module not in ("perl_eval", "datasets_builders", "prompts", *OPTIONAL):
                yield normal(INSTALLED.get(module, [module])[0])


USED = {
    path.relative_to(ROOT).as_posix(): set(imported(path))
    for folder in ("perl_eval", "datasets_builders")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
BESIDES = {"labelling": "annotate", "cluster": "ray"} | dict.fromkeys(
    ("models", "training", "sampling", "conformance"), "train"
)
"""The extra under which a package of ours is used; the rest needs none but for LOCAL."""
LOCAL = ("perl_eval/judges/backends/local.py", "perl_eval/judges/backends/prompt_reading.py")


def test_every_import_is_declared() -> None:
    for path, packages in USED.items():
        extra = "train" if path in LOCAL else BESIDES.get(path.split("/")[1])
        allowed = CORE | EXTRAS[extra] if extra else CORE
        assert packages <= allowed, (path, packages - allowed)


def test_what_is_declared_is_imported() -> None:
    """A package that no file of ours imports is in no list but those of the tests and of the site."""
    used = set().union(*USED.values())
    for name, declared in {"dependencies": CORE, **EXTRAS}.items():
        if name not in ("dev", "docs"):
            assert declared - UNIMPORTED <= used, name
    assert not (EXTRAS["dev"] & used)


def check(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "scripts" / "lock"), "--check"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_lock_satisfies_pyproject() -> None:
    done = check(ROOT)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("pyproject.toml", '"typer>=', '"typer>=99.', "dependencies: typer>=99."),
        ("pyproject.toml", '"peft>=', '"peft>=99.', "train: peft>=99."),
        ("pyproject.toml", '"openai>=', '"absent>=', "is not in constraints.txt"),
        ("pyproject.toml", '"rich>=', '"rich~=', "is no NAME>=VERSION"),
        ("pyproject.toml", '["setuptools==', '["setuptools==1.', "build-system: setuptools==1."),
        ("constraints.txt", "\ntorch==", "\ntorch==9", "torch==2.13.0 is wanted"),
        ("constraints.txt", "\nscipy==", "\nscipy==0.", "dependencies: scipy>=1.14, and constraints.txt has 0."),
    ],
)
def test_a_lock_that_does_not_is_told(copy: Path, file: str, old: str, new: str, said: str) -> None:
    text = (copy / file).read_text("utf-8")
    assert old in text
    (copy / file).write_text(text.replace(old, new), "utf-8")
    done = check(copy)
    assert done.returncode == 1
    assert said in done.stdout
    assert "run scripts/lock" in done.stdout


def test_every_module_of_the_drift_run_is_there() -> None:
    assert {path.stem for path in (ROOT / "tests").rglob("test_*.py")} >= DRIFT


def test_the_lock_names_versions_and_no_place() -> None:
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            assert re.match(r"[a-z0-9-]+==[\w.]+ +(; .*?)?# via ", line), line
            assert "//" not in line
