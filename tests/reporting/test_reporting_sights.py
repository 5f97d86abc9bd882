"""What the page draws of many figures, in a real browser at two widths; skipped where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from chrome import Chrome
from report_story import READY, estimate, judgement, write
from test_reporting_boards import CURVE, FRONTIER, labels
from test_reporting_sizes import pictured, png

from perl_eval.records import About, Estimate, HumanLabel, Judgement, Measurement
from perl_eval.reporting import run
from perl_eval.scoring import agree
from perl_eval.stats.bootstrap import Resampling


@pytest.fixture(scope="module")
def sights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page with every section there is."""
    root = tmp_path_factory.mktemp("sights") / "runs"
    judged = pictured(root / "samples", [png(600, "teal"), b"\x89PNG\r\n\x1a\nbroken"])
    judged += [judgement(place, "win", simulated=False) for place in range(2, 12)]
    write(root / "judged", "judge", [(Judgement, judged)], a=root / "samples")
    write(root / "people", "annotate", [(HumanLabel, labels())])
    agree.run(root / "judged", root / "people", root / "agreed", options=agree.AgreeOptions(Resampling(20)))
    subject = About(policy="rl", against="sft", judge="scripted:lean=0.2")
    made = [
        *FRONTIER,
        *CURVE,
        *(estimate(name, 0.5, about=subject) for name in ("win rate", "win rate at equal length", "strength")),
        estimate("win rate, corrected by PPI++", 0.45, about=subject),
        estimate("longer preferred rate", 0.6, about=subject),
        estimate("VQA accuracy", 0.7, about=About(policy="rl")),
        estimate("VQA accuracy difference", 0.04, about=About(policy="rl", minus="sft")),
        *(estimate(name, 0.7, about=About(policy="reward model")) for name in ("AUC", "accuracy", "majority share")),
    ]
    write(root / "scores", "score", [(Estimate, made)])
    notes = {"peak memory bytes": 2**30, "tokens a second": 1234.5, "seconds sampling": 12.0, "seconds learning": 3.5}
    write(root / "train", "train policy", [(Measurement, [Measurement(0, "loss", 2.5)])], notes=notes)
    return run([root], root.parent / "report.html")


@pytest.mark.parametrize("width", [1280, 400])
def test_every_section_fits_and_can_be_looked_at(sights: Path, chrome: Chrome, width: int, tmp_path: Path) -> None:
    chrome.console()
    chrome.open(sights, width=width)
    chrome.script(READY)
    sections = chrome.script("return [...document.querySelectorAll('main > section')].map(node => node.id)")
    assert sections == ["decision", "comparisons", "judgements", "rest"]
    folded = chrome.script("return [...document.querySelectorAll('#rest > details')].map(node => [node.id, node.open])")
    assert folded == [
        [part, False]
        for part in (
            *("board-leaderboard", "board-length", "board-corrected", "board-tasks", "board-rewards"),
            *("truth", "agreement", "charts", "training", "figures", "cost", "metered", "cards"),
        )
    ]
    assert chrome.script("return document.documentElement.scrollWidth <= innerWidth")
    links = chrome.script(
        "return [...document.querySelectorAll('nav a')].map(node => node.getAttribute('href').slice(1))"
    )
    assert set(links) >= {"board-leaderboard", "board-length", "charts", "judgements"}
    assert chrome.script("return [...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))")
    shot = Path(os.environ.get("PERL_EVAL_SHOTS", tmp_path)) / f"report-{width}.png"
    chrome.screenshot(shot)
    assert shot.stat().st_size > 20_000
    assert chrome.console() == []


def test_pictures_are_shown_where_the_prompt_is(sights: Path, chrome: Chrome) -> None:
    chrome.console()
    chrome.open(sights)
    chrome.script(READY)
    chrome.script("for (const node of document.querySelectorAll('#list summary')) node.click()")
    size = "const i = document.querySelector('#list img'); return [i.naturalWidth, i.naturalHeight, i.alt]"
    chrome.script("return document.querySelector('#list img').decode()")
    assert chrome.script(size) == [480, 240, "picture of the prompt"]
    assert chrome.script("return document.querySelectorAll('#list img').length") == 1
    assert "it cannot be shown" in chrome.script("return document.getElementById('list').textContent")
    assert chrome.console() == []
