"""The scripts: what they read, what they call, and what they say of a command."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
EXAMPLES = "tests/test_api.py::test_every_function_has_an_example_that_runs"
CHECKS = [["-m", "ruff", "check", "."], ["-m", "ruff", "format", "--check", "."], ["-m", "mypy"]]
FIXES = [["-m", "ruff", "check", "--quiet", "--fix", "."], ["-m", "ruff", "format", "--quiet", "."]]


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    loader = importlib.machinery.SourceFileLoader(name, str(SCRIPTS / name))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    loader.exec_module(module)
    return module


def test_uv_looks_where_pip_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = ":env:.find-links='/wheels'\nglobal.extra-index-url='file:///a file:///b'\nglobal.timeout='9'\n"
    assert script("environments.py", monkeypatch).uv_settings(listed) == {
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels",
        "UV_INDEX": "file:///a file:///b",
    }


@pytest.mark.parametrize(
    ("own", "tried"),
    [("default", ["default"]), ("avx2", ["default", "avx2"]), ("avx512", ["default", "avx2", "avx512"]), ("sve", [])],
)
def test_no_instructions_are_tried_that_the_processor_lacks(
    monkeypatch: pytest.MonkeyPatch, own: str, tried: list[str]
) -> None:
    drift, seen = script("drift", monkeypatch), list[str]()

    def run(command: list[str], *, env: dict[str, str], **_: object) -> SimpleNamespace:
        seen.append(env["ATEN_CPU_CAPABILITY"])
        return SimpleNamespace(returncode=len(seen) % 2)

    monkeypatch.setattr(drift.subprocess, "run", run)
    assert drift.test_processors([], own) == (1 if tried else 0)
    assert seen == tried


def test_drift_shows_what_is_not_the_locked_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drift = script("drift", monkeypatch)
    lock, now = tmp_path / "lock", tmp_path / "now"
    lock.write_text(
        "idna==1.0  # via x\nnumpy==2.0 ; python_version < '3.12'\nnumpy==2.1 ; python_version > '3.11'\nb==1\n"
    )
    now.write_text("idna==1.1\nnumpy==2.1+cpu\npeft==7\n")
    monkeypatch.setattr(drift, "LOCK", lock)
    drift.show_versions(now)
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert said[0][:3] == ["2", "of", "3"]
    assert said[2:] == [["peft", "-", "7"], ["idna", "1.0", "1.1"]]


def test_warnings_are_counted_by_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = tmp_path / "seen.jsonl"
    monkeypatch.setenv("PERL_EVAL_SEEN_WARNINGS", str(seen))
    plugin = script("seen_warnings.py", monkeypatch)
    for place in ("/v/lib/site-packages/peft/tuners/a.py", "/v/lib/site-packages/peft/b.py", "/home/perl_eval/c.py"):
        plugin.pytest_warning_recorded(
            SimpleNamespace(filename=place, message="old\nsince long", category=FutureWarning)
        )
    assert json.loads(seen.read_text("utf-8").splitlines()[0]) == ["peft", "FutureWarning", "old"]
    script("drift", monkeypatch).show_warnings(seen)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "3 warnings, 2 different ones"
    assert [line.split()[:2] for line in said[1:]] == [["1", "c.py"], ["2", "peft"]]


@pytest.mark.parametrize(
    ("case", "having", "ended", "wrong"),
    [
        ({}, set(), (0, "ok", ""), ""),
        ({}, set(), (0, "ok", "UserWarning: x"), "prints a warn"),
        ({}, set(), (1, "", "Traceback (most recent call last)"), "prints a traceback"),
        ({}, set(), (2, "", "error: x"), "exit code 2"),
        ({"says": "no connection"}, set(), (2, "", "50%\nerror: x (no connection: y)"), ""),
        ({"says": "no connection"}, set(), (2, "", "error: x"), "wanted one line"),
        ({"says": "no connection"}, set(), (0, "", ""), "wanted one line"),
        ({"needs": ("train",)}, set(), (2, "", "error: x; pip install 'perl-eval[train]'"), ""),
        ({"needs": ("train",)}, set(), (0, "", ""), "wanted one line"),
        ({"needs": ("train",)}, {"train"}, (2, "", "error: x; pip install 'perl-eval[train]'"), "exit code 2"),
        ({"needs": ("train", "ray")}, {"train"}, (2, "", "error: x; pip install 'perl-eval[ray]'"), ""),
        ({"stop_s": 1.0}, set(), (130, "", ""), ""),
        ({"stop_s": 1.0}, set(), (1, "", ""), "exit code 1"),
    ],
)
def test_what_is_wrong_with_how_a_verb_ended(
    case: dict[str, object],
    having: set[str],
    ended: tuple[int, str, str],
    wrong: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wheels = script("wheels", monkeypatch)
    said = wheels.complaint(wheels.Case("x", **case), having, *ended)
    assert wrong in said
    assert bool(wrong) == bool(said)


def test_what_people_type_is_what_ci_calls() -> None:
    ci = (SCRIPTS.parent / ".ci" / "run").read_text("utf-8")
    for name in ("check", "docs", "test", "wheels", "drift"):
        assert re.search(rf"^[^#\n]*\bscripts/{name}\b", ci, re.M), name
    assert "entry: scripts/check," in (SCRIPTS.parent / ".pre-commit-config.yaml").read_text("utf-8")


def test_the_readmes_test_command_is_the_script() -> None:
    command = re.search(r"<!-- tests -->\n```bash\n(.*?)\n```", (SCRIPTS.parent / "README.md").read_text("utf-8"), re.S)
    assert command is not None
    typed = command[1].split(" && ")[-1].removeprefix(".venv/bin/python")
    assert f'"$python"{typed} "$@"' in (SCRIPTS / "test").read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "words", "called"),
    [
        ("test", ["-x", "tests/a b.py"], [["-m", "pytest", "-n", "2", "-x", "tests/a b.py"]]),
        ("docs", ["-x"], [["-m", "pytest", "-n", "2", "-q", "tests/test_readme.py", EXAMPLES, "-x"]]),
        ("check", [], [*CHECKS, ["scripts/lock", "--check"]]),
        ("check", ["--fix"], [*FIXES, *CHECKS, ["scripts/lock", "--check"]]),
    ],
)
def test_what_a_script_calls(
    name: str, words: list[str], called: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, said = ran(name, words, tmp_path, monkeypatch)
    assert status == 0
    assert said == called


@pytest.mark.parametrize("failing", [*CHECKS, ["scripts/lock", "--check"]], ids=" ".join)
def test_a_check_that_fails_fails_the_script(
    failing: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, said = ran("check", [], tmp_path, monkeypatch, failing=failing)
    assert status == 1
    assert said[-1] == failing


def test_a_wrong_word_is_told_what_there_is() -> None:
    done = subprocess.run([SCRIPTS / "check", "--mend"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "usage: scripts/check" in done.stderr


def ran(
    name: str, words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, *, failing: list[str] | None = None
) -> tuple[int, list[list[str]]]:
    """Run a script with a Python that notes what it is given, and fails at one of it; return status and notes."""
    noted, fake = folder / "noted", folder / "python"
    fake.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"open({str(noted)!r}, 'a').write(json.dumps(sys.argv[1:]) + chr(10))\n"
        f"sys.exit(sys.argv[1:] == {failing!r})\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(fake))
    done = subprocess.run([SCRIPTS / name, *words], cwd=folder, check=False, timeout=60)
    return done.returncode, [json.loads(line) for line in noted.read_text("utf-8").splitlines()]
