"""What the pages are held to, in a browser: axe-core finds nothing serious, and 100,000 judgements open at once."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from accessibility import serious
from chrome import Chrome
from report_story import OUTCOMES, READY, judgement, write

from perl_eval.records import Judgement
from perl_eval.reporting import run

OPEN_S = 3.0
"""How long a page may take from the address to the first judgements that can be read."""
EVERYTHING = "document.querySelectorAll('details').forEach(one => { one.open = true })"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_axe_finds_nothing_serious_in_the_report(
    story: Path, chrome: Chrome, tmp_path: Path, scheme: str, width: int
) -> None:
    page = run([story], tmp_path / "report.html")
    chrome.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    chrome.open(page, width=width)
    chrome.script(READY)
    chrome.script(EVERYTHING)
    assert serious(chrome) == []
    chrome.command("Emulation.setEmulatedMedia", features=[])


def test_axe_finds_what_is_wrong(chrome: Chrome, tmp_path: Path) -> None:
    """A page with grey on white, a picture without words and a button without a name."""
    bad = "<html><body><p style='color:#bbb;background:#fff'>pale</p><img src='data:,'><button></button></body></html>"
    (tmp_path / "bad.html").write_text(bad, "utf-8")
    chrome.open(tmp_path / "bad.html")
    found = " ".join(serious(chrome))
    assert all(rule in found for rule in ("color-contrast", "image-alt", "button-name", "html-has-lang"))


@pytest.mark.slow
def test_a_hundred_thousand_judgements_open_at_once(chrome: Chrome, tmp_path: Path) -> None:
    few = [judgement(place, OUTCOMES[place % len(OUTCOMES)]) for place in range(250)]
    many = [
        replace(few[place % 250], id=f"j{place}", item=f"i{place}", group=f"g{place}", a=f"a{place}", b=f"b{place}")
        for place in range(100_000)
    ]
    write(tmp_path / "run", "judge", [(Judgement, many)])
    page = run([tmp_path], tmp_path / "report.html")
    assert page.stat().st_size < 4_000_000
    chrome.open("about:blank")
    begun_s = time.monotonic()
    chrome.open(page)
    chrome.script(READY)
    took_s = time.monotonic() - begun_s
    assert "100,000" in chrome.script("return document.querySelector('.scope').textContent")
    assert chrome.script("return document.querySelectorAll('#list > li').length") > 0
    assert took_s < OPEN_S
