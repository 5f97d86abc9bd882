"""The page in a real browser; skipped where there is none."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from chrome import Chrome
from report_story import AGREEMENT, ESTIMATES, READY, estimate, judgement, write

from perl_eval.records import About, Ballot, Estimate, HumanLabel, Judgement, Measurement, Message, Score
from perl_eval.reporting import run
from perl_eval.reporting.format import visible

HOSTILE = (
    "<script>window.pwned=1</script>",
    "</script><script>window.pwned=1</script>",
    "<!--<script>",
    "]]>--><img src=x onerror=window.pwned=1>",
    '"><svg onload=window.pwned=1><style>body{display:none}</style>',
    "' autofocus onfocus=window.pwned=1 x='",
    "javascript:window.pwned=1",
    "data:text/html,<script>window.pwned=1</script>",
    "{{ 7*7 }}{% include 'page.css' %}${window.pwned=1}`",
    "<a href='javascript:window.pwned=1'>click</a><iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "one\u2028two\u2029three \u202eesrever\u202c \u2066iso\u2069 \x00\x1b[31m \ufeff",
    "&lt;b&gt; &#60;script&#62; \\u003cscript\\u003e",
    "</title></style></textarea><base href=//example.org/><meta http-equiv=refresh content=0;url=//example.org>",
)
SHOWN = "one⟨U+2028⟩two⟨U+2029⟩three ⟨U+202E⟩esrever⟨U+202C⟩ ⟨U+2066⟩iso⟨U+2069⟩ ⟨U+0000⟩⟨U+001B⟩[31m ⟨U+FEFF⟩"


@pytest.fixture(scope="module")
def page(story: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run([story], tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture
def fresh(page: Path, chrome: Chrome) -> Chrome:
    """Return the browser with the story's page just opened."""
    chrome.open(page)
    chrome.script(READY)
    return chrome


def text(chrome: Chrome, selector: str) -> Any:
    return chrome.script(f"return [...document.querySelectorAll({selector!r})].map(node => node.textContent)")


def choose(chrome: Chrome, facet: str, value: str) -> None:
    chrome.script(
        f"const s = document.getElementById('filter-{facet}'); s.value = {'=' + value!r};"
        "s.dispatchEvent(new Event('change'))"
    )


def count(chrome: Chrome) -> int:
    return int(text(chrome, "#found")[0].split(" of ")[0].replace(",", ""))


def test_the_page_opens_from_disk_without_a_word_in_the_console(fresh: Chrome) -> None:
    assert fresh.script("return performance.getEntriesByType('resource').length") == 0
    assert fresh.script("return document.querySelectorAll('#list > li').length") == 20
    assert fresh.console() == []


def test_filters_and_search_find_what_the_records_hold(fresh: Chrome) -> None:
    assert count(fresh) == 250
    for outcome, n in (("win", 120), ("split", 30), ("unjudged", 25)):
        choose(fresh, "outcome", outcome)
        assert count(fresh) == n
        assert set(text(fresh, "#list .badge")) == {outcome}
    choose(fresh, "label", "nobody asked")
    assert count(fresh) == 25 - len([place for place in range(225, 250) if place < 200])
    fresh.script("[...document.querySelectorAll('#filters button')].at(-1).click()")
    assert count(fresh) == 250
    fresh.script(
        "const s = document.getElementById('filter-search'); s.value = 'LATTE FOR NUMBER 17,';"
        "s.dispatchEvent(new Event('input'))"
    )
    fresh.script("return new Promise(done => setTimeout(done, 300))")
    assert count(fresh) == 1
    fresh.script("document.querySelector('#list details').open = true")
    fresh.script("return new Promise(done => setTimeout(done, 50))")
    assert text(fresh, "#list .answer pre") == ["One large latte for 17.", "Sorry?"]
    assert text(fresh, "#list .ballot h3") == [
        "rl shown first: prefers rl, p(first) = 0.700",
        "sft shown first: prefers rl, p(first) = 0.700",
    ]
    assert text(fresh, "#list .ballot pre") == ["Answer first", "Answer second"]
    assert fresh.console() == []


def test_pages_turn(fresh: Chrome) -> None:
    assert text(fresh, "#place") == ["page 1 of 13"]
    assert fresh.script("return document.getElementById('previous').disabled")
    for _ in range(12):
        fresh.script("document.getElementById('next').click()")
    assert text(fresh, "#place") == ["page 13 of 13"]
    assert fresh.script("return document.getElementById('next').disabled")
    assert fresh.script(
        "return [document.getElementById('list').start, document.getElementById('list').children.length]"
    ) == [
        241,
        10,
    ]


def test_a_count_opens_its_judgements(fresh: Chrome) -> None:
    fresh.script("document.querySelector('a[data-outcome=split]').click()")
    assert count(fresh) == 30
    assert set(text(fresh, "#list .badge")) == {"split"}
    assert fresh.script("return document.activeElement.id") == "judgements-title"


def test_a_link_to_a_run_card_opens_it(fresh: Chrome) -> None:
    fresh.script("document.querySelector('#figures a[href^=\"#run-\"]').click()")
    fresh.script("return new Promise(done => setTimeout(done, 50))")
    assert fresh.script("return document.querySelector(location.hash).open")


def test_everything_can_be_done_from_the_keyboard(fresh: Chrome) -> None:
    fresh.script("document.getElementById('filter-outcome').focus()")
    fresh.press("l")
    assert set(text(fresh, "#list .badge")) == {"loss"}
    reached = []
    for _ in range(6):
        fresh.press("Tab")
        reached.append(fresh.script("const e = document.activeElement; return e.id || e.tagName"))
    assert reached == ["filter-label", "filter-search", "BUTTON", "INPUT", "SUMMARY", "SUMMARY"]
    fresh.press("Enter", "Tab")
    assert fresh.script("return document.activeElement.closest('details').open")
    assert fresh.script("return document.activeElement.tagName") == "PRE"
    fresh.script("document.getElementById('next').focus()")
    fresh.press("Space")
    assert text(fresh, "#place") == ["page 2 of 3"]


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_sticks_out_sideways(story: Path, chrome: Chrome, tmp_path: Path, width: int) -> None:
    long = "a-policy-with-" + "no-end-" * 30
    write(tmp_path / "run", "judge " + "x" * 200, [
        (Judgement, [judgement(1, "split", policy_a=long, judge="j" * 300, text_a="y" * 5000)]),
        (Estimate, [estimate("e" * 200, 0.5, about=About(policy=long, against="sft"), method="m" * 100)]),
        (Measurement, [Measurement(step, "m" * 100, step**0.5) for step in range(50)]),
    ])  # fmt: skip
    chrome.open(run([tmp_path], tmp_path / "report.html"), width=width)
    chrome.script(READY)
    chrome.script("for (const d of document.querySelectorAll('details')) d.open = true")
    chrome.script("return new Promise(done => setTimeout(done, 50))")
    assert chrome.script("return document.documentElement.scrollWidth") <= width
    assert chrome.console() == []


def hostile_runs(root: Path) -> None:
    for place, bad in enumerate(HOSTILE):
        ballots = (Ballot("ab", "first", None, 0.5, bad, bad), Ballot("ba", None, bad, None, bad, bad))
        judged = judgement(
            place, "unjudged", ballots=ballots, reason=bad, text_a=bad, text_b=bad, policy_a=bad, policy_b=bad + "b",
            judge=bad, dataset=bad, item=bad, id=bad, prompt=(Message(bad, bad),),
        )  # fmt: skip
        label = HumanLabel(judged.unit, bad, bad, bad, "win", True, bad)
        figures = [
            estimate(bad, 0.5, about=About(policy=bad), method=bad),
            estimate("win rate", 0.5, about=About(policy=bad, against=f"{bad}b", judge=bad)),
            estimate(f"true {bad}", None, about=About(policy=bad), method=bad, reason=bad),
            estimate(f"human-judge {bad}", 0.5, about=About(policy=bad), method=bad),
        ]
        parts = [
            (Judgement, [judged]), (HumanLabel, [label]), (Estimate, figures),
            (Measurement, [Measurement(0, bad, 1.0), Measurement(1, bad, 2.0)]),
            (Score, [Score("c", "i", "g", bad, bad, None, bad)]),
        ]  # fmt: skip
        write(
            root / f"run <img src=x onerror=window.pwned=1> {place}", bad, parts, notes={bad: bad, "deep": {bad: [bad]}}
        )


def test_hostile_text_stays_text(chrome: Chrome, tmp_path: Path) -> None:
    hostile_runs(tmp_path / "runs")
    page = run([tmp_path / "runs"], tmp_path / "report.html", title=HOSTILE[1])
    assert visible(page.read_text("utf-8")) == page.read_text("utf-8")
    chrome.open(page)
    chrome.script(READY)
    for link in range(len(HOSTILE)):
        chrome.script(f"document.querySelectorAll('a[data-outcome]')[{link}].click()")
        assert count(chrome) == 1
    chrome.script("[...document.querySelectorAll('#filters button')].at(-1).click()")
    chrome.script("for (const d of document.querySelectorAll('details')) d.open = true")
    chrome.script("return new Promise(done => setTimeout(done, 100))")
    assert chrome.script("return window.pwned === undefined")
    assert chrome.console() == []
    kinds = chrome.script("return [...new Set([...document.querySelectorAll('*')].map(node => node.tagName))]")
    assert not {"IMG", "IFRAME", "BASE", "TEXTAREA", "FORM", "OBJECT", "EMBED"} & set(kinds)
    assert chrome.script("return document.querySelectorAll('script').length") == 2
    assert chrome.script("return document.querySelectorAll('style').length") == 1
    attributes = chrome.script(
        "return [...new Set([...document.querySelectorAll('*')].flatMap(node => node.getAttributeNames()))]"
    )
    assert not {name for name in attributes if name.startswith("on")} | ({"src", "srcdoc"} & set(attributes))
    hrefs = chrome.script("return [...document.querySelectorAll('a')].map(node => node.getAttribute('href'))")
    assert all(href.startswith("#") for href in hrefs)
    answers = text(chrome, "#list .answer pre")
    for bad in HOSTILE:
        assert answers.count(SHOWN if bad.startswith("one\u2028") else bad) == 2
    assert text(chrome, "h1") == [HOSTILE[1]]


def test_a_line_of_a_megabyte_does_not_swell_the_page(chrome: Chrome, tmp_path: Path) -> None:
    line = "".join(random.Random(2).choices("<b>&;/abcdefghijklmnopqrstuvwxyz0123456789", k=1_000_000))
    raw = tuple(Ballot(order, "first", None, 0.5, line, "m") for order in ("ab", "ba"))
    judged = [
        judgement(place, "split", text_a=line, text_b=line, prompt=(Message("user", f"{place} {line}"),), ballots=raw)
        for place in range(20)
    ]
    write(tmp_path / "run", "judge", [(Judgement, judged)])
    page = run([tmp_path], tmp_path / "report.html")
    assert page.stat().st_size < 4_000_000
    chrome.open(page)
    chrome.script(READY)
    chrome.script("document.querySelector('#list details').open = true")
    chrome.script("return new Promise(done => setTimeout(done, 100))")
    (shown,) = {len(each) for each in text(chrome, "#list .answer pre")}
    assert 20_000 < shown < 20_100
    assert "All 20 judgements." in " ".join(text(chrome, "#judgements .note")[0].split())
    assert chrome.console() == []


def test_without_script_the_figures_are_still_there(story: Path, chrome: Chrome, tmp_path: Path) -> None:
    page = run([story], tmp_path / "report.html")
    chrome.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chrome.open(page)
    finally:
        chrome.command("Emulation.setScriptExecutionDisabled", value=False)
    values = chrome.script(
        "return [...document.querySelectorAll('#figures tbody data')].map(node => Number(node.value))"
    )
    assert {made.value for made in (*ESTIMATES, *AGREEMENT) if made.value is not None} <= set(values)
    assert chrome.script("return document.getElementById('filters').hidden")
