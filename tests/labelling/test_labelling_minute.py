"""From a report that decides nothing to one that does: side by side, labels, an adjudicator, in one go and a minute."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

import pytest
from accessibility import serious
from chrome import Chrome
from command_line import Command
from server import Server
from sessions import completions
from test_labelling_chrome import LONG, Page

READY = (
    "return new Promise(done => { const wait = () => document.documentElement.dataset.ready ? done(true)"
    " : setTimeout(wait, 10); wait(); })"
)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> Path:
    """Return a folder in which two judges compared two policies, and nobody has labelled."""
    monkeypatch.chdir(tmp_path)
    completions(tmp_path / "a", "kappa", 30, [LONG] * 30)
    completions(tmp_path / "b", "sigma", 30, ["Sorry?"] * 30)
    judge = "judge a b --prompt helpful --judge scripted:length"
    assert command(f"{judge} --out runs/steady").code is None
    assert command(f"{judge} --noise 300 --out runs/noisy").code is None
    return tmp_path


def seen(chrome: Chrome, page: Path, selector: str) -> Any:
    """Open a page and return the texts of some of its parts."""
    chrome.open(page)
    chrome.script(READY)
    return chrome.script(f"return [...document.querySelectorAll({selector!r})].map(one => one.textContent.trim())")


def answer_all(server: Server, person: str, *, wrong_once: bool) -> None:
    """Let a person prefer the long answer of all that they are asked about, but for the first."""
    while (task := server.call(person, "/api/next")["task"]) is not None:
        first = (task["answers"][0] != "Sorry?") is not wrong_once
        wrong_once = False
        body = {"unit": task["unit"], "choice": "first" if first else "second"}
        assert server.call(person, "/api/label", body)["status"] == 200


def test_from_an_open_question_to_a_decision(runs: Path, chrome: Chrome, command: Command) -> None:
    begun_s = time.monotonic()
    assert command("report runs --out report.html").code is None
    page = runs / "report.html"
    assert "not decided" in seen(chrome, page, ".decision .state")
    assert chrome.script("return document.getElementById('side-sum').textContent").startswith("Of 30 units that both")
    commands = seen(chrome, page, ".settle pre")[0]
    annotate, export, decide = commands.splitlines()
    words = shlex.split(annotate)
    assert words[:2] == ["perl-eval", "annotate"]

    more = [*words[4:], "--annotator", "ann", "--annotator", "bob", "--overlap", "2", "--adjudicator", "judy"]
    with Server(runs, *more) as server:
        answer_all(server, "ann", wrong_once=True)
        answer_all(server, "bob", wrong_once=False)
        labelling = Page(chrome, server, runs)
        labelling.open("judy")
        assert serious(chrome) == []
        assert "You decide, as judy" in labelling.text("#status")
        labelling.press("1" if labelling.first_is_a() else "2")
        assert "There is nothing left for you" in labelling.text("#status")
        assert server.interrupt()[0] == 0

    assert command(export.removeprefix("perl-eval ")).code is None
    assert "kappa is better than sigma" in command(decide.removeprefix("perl-eval ")).out
    assert command("report runs people decided --out report.html").code is None
    assert seen(chrome, page, ".decision .state")[0] == "decided"
    assert "kappa is better than sigma" in seen(chrome, page, ".decision .sentence")[0]
    assert time.monotonic() - begun_s < 60
