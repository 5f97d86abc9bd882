"""The scripts that make environments: what they read, and what they say of a command."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


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


def test_drift_shows_what_is_not_the_locked_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drift = script("drift", monkeypatch)
    lock, now = tmp_path / "lock", tmp_path / "now"
    lock.write_text(
        "idna==1.0  # via x\nnumpy==2.0 ; python_version < '3.12'\nnumpy==2.1 ; python_version > '3.11'\nb==1\n"
    )
    now.write_text("idna==1.1\nnumpy==2.1\npeft==7\n")
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
