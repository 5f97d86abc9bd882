"""The labelling page in a real browser; skipped where there is none."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from accessibility import serious
from chrome import Chrome
from server import Server
from sessions import completions
from test_labelling_labels import judgement

from perl_eval.labelling.store import Store
from perl_eval.records import Judgement
from perl_eval.storage import parquet

HOSTILE = [
    "<script>window.pwned=1</script><img src=x onerror=window.pwned=1>",
    "javascript:window.pwned=1 \u202eevil\u202c \x00 </textarea></body>",
    "",
    "x" * 100_000,
]
LONG = (
    "Sure, one large oat milk latte coming up. Would you like it hot or iced? We also have a seasonal pumpkin spice "
    "that many people like at the moment, and a plain one for those who do not.\n\n1. Hot\n2. Iced"
)


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    completions(tmp_path / "a", "kappa", 8, [LONG] * 8)
    completions(tmp_path / "b", "sigma", 8, ["Sorry?"] * 8)
    return tmp_path


@pytest.fixture
def page(shelf: Path, chrome: Chrome) -> Iterator[Page]:
    with Server(shelf, "--annotator", "ann", "--annotator", "bob") as server:
        chrome.console()
        yield Page(chrome, server, shelf)


def until(holds: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for something to hold; the page speaks to a server, so nothing is at once."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, holds
        time.sleep(0.02)
    return found


class Page:
    """The page of one annotator, as the browser shows it, and what the session holds meanwhile."""

    def __init__(self, chrome: Chrome, server: Server, folder: Path) -> None:
        self.chrome, self.server, self._folder = chrome, server, folder

    def open(self, annotator: str = "ann", width: int = 1280, height: int = 900) -> None:
        self.chrome.open("about:blank")  # another # alone would not load the page anew
        self.chrome.open(self.server.links[annotator], width=width, height=height)
        self.ready()

    def ready(self) -> None:
        until(lambda: self.chrome.script("return document.body.getAttribute('aria-busy')") == "false")

    def text(self, selector: str) -> str:
        return str(self.chrome.script(f"return document.querySelector({selector!r}).textContent"))

    def press(self, *keys: str) -> None:
        for key in keys:
            self.chrome.press(key)
            self.ready()

    def labels(self) -> list[tuple[str, str]]:
        with Store(self._folder / "labelling" / "labelling.sqlite") as store:
            return [(one.label, one.note) for one in store.given()]

    def first_is_a(self) -> bool:
        return self.text("#answers .answer .text") != "Sorry?"


def test_labels_by_keys(page: Page) -> None:
    page.open()
    assert page.text("#question") == "Which answer is better?"
    assert "You label as ann." in page.text("#status")
    expected = []
    for key in "12120":
        side = page.first_is_a()
        expected.append(("tie" if key == "0" else "win" if (key == "1") == side else "loss", ""))
        page.press(key)
    page.press("s", "t")
    assert page.labels() == [*expected, ("tie", "")]
    assert page.text("#count") == "6 labelled, 1 skipped, 1 left for you · all: 6 of 8"
    page.press("2")
    assert "There is nothing left for you" in page.text("#status")
    assert page.chrome.script("return document.getElementById('work').hidden")
    page.press("1", "t")  # nothing to label any more
    assert len(page.labels()) == 7
    assert page.chrome.console() == []


def test_other_keys_do_nothing(page: Page) -> None:
    page.open()
    page.press(*"9qxc/ab5", "Down", "Escape")
    page.chrome.script("document.dispatchEvent(new KeyboardEvent('keydown', {key: '1', ctrlKey: true}))")
    page.chrome.script("document.dispatchEvent(new KeyboardEvent('keydown', {key: '1', repeat: true}))")
    assert page.text("#count") == "0 labelled, 8 left for you · all: 0 of 8"
    assert page.labels() == []


def test_undo_and_notes(page: Page) -> None:
    page.open()
    first = page.text("#answers")
    page.press("n")
    page.chrome.press(*"so 1 t u s", "Escape")
    page.press("1")
    said = page.labels()
    assert [note for _, note in said] == ["so 1 t u s"]  # in a note, keys are letters
    assert page.chrome.script("return document.getElementById('note').value") == ""
    page.press("u")
    assert page.labels() == []
    assert page.text("#answers") == first
    assert page.chrome.script("return document.getElementById('note').value") == "so 1 t u s"
    assert page.chrome.script(
        "return [...document.querySelectorAll('[aria-pressed=true]')].map(b => b.dataset.choice)"
    ) == ["first"]
    page.press("t")
    assert page.labels() == [("tie", "so 1 t u s")]
    assert page.chrome.console() == []


def test_a_reload_and_a_killed_server_change_nothing(page: Page, shelf: Path) -> None:
    page.open()
    page.press("1")
    shown = page.text("#answers")
    assert page.chrome.script("return location.hash") == ""  # the token is out of sight
    page.chrome.script("location.reload()")
    until(
        lambda: page.chrome.script(
            "return document.readyState === 'complete' && !document.getElementById('work').hidden"
        )
    )
    page.ready()
    assert page.text("#answers") == shown
    port = page.server.port
    page.server.kill()
    page.chrome.press("2")
    until(lambda: "does not answer" in page.text("#trouble"))
    page.chrome.press("1", "t", "s")  # not heard: the label said is still to be kept
    with Server(shelf, "--annotator", "ann", "--annotator", "bob", port=port):
        page.ready()
        until(lambda: page.chrome.script("return document.getElementById('trouble').hidden"))
        assert len(page.labels()) == 2
        assert "Saved: Second" in page.text("#status")
    page.chrome.console()  # the refused connections are in it


def test_two_people_see_their_own(page: Page) -> None:
    seen = []
    for name in ("ann", "bob"):
        page.open(name)
        assert f"You label as {name}." in page.text("#status")
        seen.append(page.first_is_a())
        page.press("t")
    assert [note for _, note in page.labels()] == ["", ""]
    assert page.chrome.console() == []


def test_a_label_from_an_older_tab_is_said_not_to_be_kept(page: Page) -> None:
    page.open()
    with Store(page._folder / "labelling" / "labelling.sqlite") as store:
        [(unit,)] = store.read("SELECT unit FROM lease")
    page.server.call("ann", "/api/label", {"unit": unit, "choice": "tie"})
    page.press("1")
    assert "Not saved: you have labelled this one already" in page.text("#status")
    assert page.labels() == [("tie", "")]


def test_without_the_link_nothing_is_shown(page: Page) -> None:
    page.chrome.open("about:blank")
    page.chrome.open(f"http://{page.server.host}/#wrong")
    page.ready()
    assert "opens by your own link" in page.text("#trouble")
    assert page.chrome.script("return document.getElementById('work').hidden")
    assert all("401" in line for line in page.chrome.console())


def test_hostile_text_stays_text_on_the_page(tmp_path: Path, chrome: Chrome) -> None:
    completions(tmp_path / "a", "kappa", 4, HOSTILE)
    completions(tmp_path / "b", "sigma", 4, HOSTILE[::-1])
    with Server(tmp_path) as server:
        page = Page(chrome, server, tmp_path)
        page.open("annotator-1")
        seen = set()
        for _ in range(4):
            seen |= set(
                chrome.script("return [...document.querySelectorAll('#answers .text')].map(n => n.textContent)")
            )
            assert chrome.script("return document.documentElement.scrollWidth <= innerWidth")
            page.press("t")
        assert chrome.script("return window.pwned === undefined")
        assert chrome.script("return document.querySelectorAll('img, script:not([src]), iframe').length") == 0
        shown = "javascript:window.pwned=1 ⟨U+202E⟩evil⟨U+202C⟩ ⟨U+0000⟩ </textarea></body>"
        assert seen == {HOSTILE[0], shown, "(empty)", HOSTILE[3]}
        assert chrome.console() == []


def test_single_answers_are_labelled_yes_or_no(tmp_path: Path, chrome: Chrome) -> None:
    completions(tmp_path / "a", "kappa", 3)
    with Server(tmp_path, "--question", "Is it right?", single=True) as server:
        page = Page(chrome, server, tmp_path)
        page.open("annotator-1")
        assert page.text("#choices") == "Yes 1No 2"
        page.press("1", "2", "y")
        assert [label for label, _ in page.labels()] == ["yes", "no", "yes"]
        assert chrome.console() == []


def test_everything_is_reached_by_tab_in_the_order_of_the_page(page: Page) -> None:
    page.open()
    page.press("t")  # so that there is something to take back
    reached = []
    for _ in range(6):
        page.chrome.press("Tab")
        reached.append(page.chrome.script("const e = document.activeElement; return e.id || e.dataset.choice"))
    assert reached == ["note", "first", "tie", "second", "skip", "undo"]
    page.open()
    page.chrome.press("Tab", "Tab")
    page.press("Enter")  # on the first button
    assert len(page.labels()) == 2


@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_the_window_and_can_be_looked_at(page: Page, width: int, tmp_path: Path) -> None:
    page.open(width=width, height=900 if width > 500 else 800)
    page.press("1", "u")
    assert page.chrome.script("return document.documentElement.scrollWidth <= innerWidth")
    sizes = page.chrome.script(
        "return [...document.querySelectorAll('button')].map(b => b.getBoundingClientRect())"
        ".map(r => [r.width, r.height, r.bottom])"
    )
    for wide, high, bottom in sizes:
        assert min(wide, high) >= 40  # a finger's width
        assert bottom <= page.chrome.script("return innerHeight")
    below = "return document.querySelector('#first, [data-choice=first]').getBoundingClientRect().top"
    below += " - document.getElementById('answers').getBoundingClientRect().bottom"
    assert width < 500 or page.chrome.script(below) < 200  # pixels: near the answers where they are short
    shot = Path(os.environ.get("PERL_EVAL_SHOTS", tmp_path)) / f"annotate-{width}.png"
    page.chrome.screenshot(shot)
    assert shot.stat().st_size > 10_000
    assert page.chrome.console() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Page, scheme: str) -> None:
    chosen = [{"name": "prefers-color-scheme", "value": scheme}]
    page.chrome.command("Emulation.setEmulatedMedia", features=chosen)
    page.open()
    assert serious(page.chrome) == []
    page.press("1")
    assert serious(page.chrome) == []
    page.chrome.command("Emulation.setEmulatedMedia", features=[])


def test_people_disagree_an_adjudicator_rules_and_it_is_decided(tmp_path: Path, chrome: Chrome) -> None:
    """Two people label all of 24 units and disagree on one; what the adjudicator says goes into the decision."""
    completions(tmp_path / "a", "kappa", 24, [LONG] * 24)
    completions(tmp_path / "b", "sigma", 24, ["Sorry?"] * 24)
    parquet.write(tmp_path / "judged.parquet", [judgement(place, "win", 0.8) for place in range(24)], Judgement)
    people = ("--annotator", "ann", "--annotator", "bob", "--overlap", "2", "--adjudicator", "judy")
    with Server(tmp_path, *people, "--judgements", "judged.parquet", "--until-decided") as server:
        page = Page(chrome, server, tmp_path)
        page.open("ann")
        page.press("1" if page.first_is_a() else "2")
        page.open("bob")  # who is asked about it next, since another said something of it
        page.press("2" if page.first_is_a() else "1", "n")
        page.chrome.press(*"rude", "Escape")
        page.open("judy")
        assert "You decide, as judy, where people disagree." in page.text("#status")
        assert page.chrome.script("return document.getElementById('said').hidden") is False
        said = page.text("#said ul")
        assert "First" in said
        assert "Second" in said
        for name in ("ann", "bob", "kappa", "sigma"):
            assert name not in page.text("main")
        page.press("1" if page.first_is_a() else "2")
        assert "There is nothing left for you" in page.text("#status")
        with Store(tmp_path / "labelling" / "labelling.sqlite") as store:
            assert [one.label for one in store.rulings()] == ["win"]
        for _ in range(23):
            for name in ("ann", "bob"):
                asked = server.call(name, "/api/next")["task"]
                body = {"unit": asked["unit"], "choice": "first" if asked["answers"][0] != "Sorry?" else "second"}
                assert server.call(name, "/api/label", body)["status"] == 200
        # The server waits for Bob, who has not asked again.
        until(lambda: server.call("ann", "/api/next")["decided"])
        page.open("ann")
        assert "It is decided: no more labels are needed." in page.text("#status")
        assert page.chrome.console() == []
        assert server.call("bob", "/api/next")["decided"]
        code, log = server.wait()
    assert code == 0
    assert "kappa is better than sigma" in log
