"""The decision that a page begins with, and runs set side by side."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chrome import Chrome
from report_story import JUDGE, READY, VERDICTS, estimate, judgement, write

from perl_eval.records import About, Ballot, Estimate, HumanLabel, Judgement
from perl_eval.reporting import browse, run
from perl_eval.reporting.cautions import cautions
from perl_eval.reporting.counts import survey
from perl_eval.reporting.decision_lines import Conclusion, TwoPolicies, comparisons_decided
from perl_eval.reporting.inputs import figures, folders
from perl_eval.reporting.judge_worth import worths
from perl_eval.reporting.sides import side_by_side
from perl_eval.scoring import agree, decide, dispatch
from perl_eval.stats.bootstrap import Resampling

FIRST = ["win"] * 40 + ["loss"] * 10 + ["split"] * 10
SECOND = ["win"] * 30 + ["loss"] * 25 + ["split"] * 5
"""Of the 60 units 10 go from a win to a loss, 5 from a split to a loss; 5 splits stay."""


def ballots(outcome: str) -> tuple[Ballot, ...]:
    return tuple(Ballot(order, verdict, None, 0.7, f"<think>hm</think>Answer {verdict}", JUDGE)
                 for order, verdict in zip(("ab", "ba"), VERDICTS[outcome], strict=True))  # fmt: skip


def turned(one: Judgement) -> Judgement:
    """Return the same said of b against a."""
    changes = {"a": one.b, "b": one.a, "policy_a": one.policy_b, "policy_b": one.policy_a}
    other = {"win": "loss", "loss": "win"}.get(one.outcome, one.outcome)
    return replace(one, text_a=one.text_b, text_b=one.text_a, outcome=other, ballots=ballots(other), **changes)  # type: ignore[arg-type]


def said(outcomes: list[str], judge: str) -> list[Judgement]:
    return [
        judgement(place, outcome, judge=judge, id=f"{judge}-{place}", ballots=ballots(outcome))
        for place, outcome in enumerate(outcomes)
    ]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return run folders of two judges, the second asked of b against a, and people's labels."""
    root = tmp_path_factory.mktemp("two") / "runs"
    first, second = said(FIRST, "one"), said(SECOND, "two")
    write(root / "first", "judge", [(Judgement, first)])
    write(root / "second", "judge", [(Judgement, [turned(one) for one in second])])
    labels = [
        HumanLabel(one.unit, one.item, one.group, "ann", "win" if n < 50 else "tie") for n, one in enumerate(first)
    ]
    write(root / "people", "annotate", [(HumanLabel, labels[:40])])
    return root


# ------------------------------------------------------------------------------------------------------ the decision


def test_the_report_says_what_decide_says(two: Path, tmp_path: Path) -> None:
    found = folders([two])
    (comparison,), complaints, _ = comparisons_decided(found)
    assert (comparison.one, comparison.other, complaints) == ("rl", "sft", [])
    by_judge = {one.judge: one for one in comparison.conclusions}
    folder, decided = decide.run(two / "first", tmp_path / "decided", labels=two / "people")
    assert by_judge["one"].sentence == decide.sentence(decided[0])
    assert by_judge["one"].verdict == decided[0].verdict == "better"
    value = next(one.value for one in Estimates(folder) if one.name == "difference, corrected by labels")
    assert by_judge["one"].difference.value == value


def test_what_is_known_of_a_judge_comes_before_the_width_of_its_interval(two: Path) -> None:
    (comparison,), *_ = comparisons_decided(folders([two]))
    one, other = (replace(said, by_labels=True) for said in comparison.conclusions)
    both = replace(comparison, conclusions=(one, other))
    assert both.led_by(set()) == both
    assert both.led_by({other.judge}).conclusions == (other, one)
    alone = replace(both, conclusions=(one, replace(other, by_labels=False)))
    assert alone.led_by({other.judge}) == alone


@pytest.mark.parametrize(("fourth", "first"), [("tie", "two"), ("split", "one")])
def test_the_page_begins_with_a_judge_that_people_know_unless_it_follows_position(
    tmp_path: Path, fourth: str, first: str
) -> None:
    outcomes = ["win", "loss", "win", fourth] * 10
    for judge in ("one", "two"):  # they say the same, so that widths tell nothing
        write(tmp_path / judge, "judge", [(Judgement, said(outcomes, judge))])
    people = [HumanLabel(one.unit, one.item, one.group, "ann", "win") for one in said(outcomes, "one")]
    write(tmp_path / "people", "annotate", [(HumanLabel, people)])
    trust = re.compile("How far to trust the judge: <b>(.*?)</b>")
    assert trust.findall(run([tmp_path], tmp_path / "before.html").read_text("utf-8")) == ["one", "two"]
    known = Estimate("human-judge exact agreement", 0.7, 0.6, 0.8, 40, 0, "Wilson", about=About(judge="two"))
    write(tmp_path / "agreed", "agree", [(Estimate, [known])])
    assert trust.findall(run([tmp_path], tmp_path / "after.html").read_text("utf-8"))[0] == first


def Estimates(folder: Path) -> list[Estimate]:
    from perl_eval.storage import run_folder

    return list(run_folder.read(folder, Estimate))


def test_a_run_of_decide_is_taken_as_it_is(two: Path, tmp_path: Path) -> None:
    decide.run(two / "first", tmp_path / "decided", options=decide.DecideOptions(judge_alone=True))
    found = folders([two, tmp_path / "decided"])
    (comparison,), *_ = comparisons_decided(found)
    (own,) = [one for one in comparison.conclusions if one.run is not None]
    assert "by the judge alone" in own.sentence
    assert (own.judge, found[own.judged[0]].label.endswith("first")) == ("one", True)
    assert [one.judge for one in comparison.conclusions if one.run is None] == ["two"]


def test_a_decision_whose_judgements_are_not_here_says_so(two: Path, tmp_path: Path) -> None:
    folder, _ = decide.run(two / "first", tmp_path / "decided", labels=two / "people")
    page = run([folder], tmp_path / "page.html").read_text("utf-8")
    assert "from judgements that are not on this page, or have changed since" in page


def test_the_same_decided_again_or_the_other_way_round_is_one_comparison(two: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name, baseline in (("once", ""), ("again", ""), ("turned", "rl"), ("back", "sft")):
        decide.run(two / "first", runs / name, labels=two / "people", options=decide.DecideOptions(baseline=baseline))
    found = folders([two / "first", two / "people", runs])
    (comparison,), *_ = comparisons_decided(found)
    (own,) = comparison.conclusions
    assert (comparison.one, comparison.other, own.verdict) == ("rl", "sft", "better")
    assert own.difference.value is not None
    assert own.difference.value > 0
    assert own.difference.low is not None
    assert own.difference.low > 0
    decide.run(two / "first", runs / "alone", options=decide.DecideOptions(judge_alone=True))
    (comparison,), *_ = comparisons_decided(folders([two / "first", two / "people", runs]))
    assert [one.by_labels for one in comparison.conclusions] == [True, False]  # said of the same, otherwise
    page = " ".join(run([two / "first", two / "people", runs], tmp_path / "page.html").read_text("utf-8").split())
    assert "corrected by labels, but <code>agree</code> was not run" in page


def test_labels_are_not_offered_where_no_number_of_them_would_settle_it(tmp_path: Path) -> None:
    """As many wins as losses to people too, all units labelled."""
    given = {"a": tmp_path / "ours", "b": tmp_path / "theirs"}
    for path in given.values():
        path.mkdir(parents=True)
    records = said(["win", "loss"] * 20 + ["win"] * 3, "one")
    write(tmp_path / "judged", "judge", [(Judgement, records)], **given)
    people = [HumanLabel(one.unit, one.item, one.group, "ann", one.outcome) for one in records]  # type: ignore[arg-type]
    write(tmp_path / "people", "annotate", [(HumanLabel, people)])
    page = " ".join(run([tmp_path / "judged", tmp_path / "people"], tmp_path / "page.html").read_text("utf-8").split())
    assert "not decided" in page
    assert "more labels of these items alone would not" in page
    assert "perl-eval annotate" not in page


def test_the_same_judge_twice_is_decided_twice(two: Path, tmp_path: Path) -> None:
    write(tmp_path / "again", "judge", [(Judgement, said(SECOND, "one"))])
    (comparison,), complaints, _ = comparisons_decided(folders([two / "first", tmp_path / "again"]))
    assert [one.judge for one in comparison.conclusions] == ["one", "one"]
    assert complaints == []


def test_what_settles_it_is_a_command(tmp_path: Path) -> None:
    given = {"a": tmp_path / "our answers", "b": tmp_path / "theirs"}
    for path in given.values():
        path.mkdir(parents=True)
    write(tmp_path / "judged", "judge", [(Judgement, said(["win", "loss"] * 20, "one"))], **given)
    page = " ".join(run([tmp_path / "judged"], tmp_path / "page.html").read_text("utf-8").split())
    assert "rl and sft: not decided" in page
    assert f"perl-eval annotate &#39;{tmp_path}/our answers&#39; {tmp_path}/theirs" in page
    assert "never compared with people" in page


def test_one_policy_alone_has_nothing_to_decide(tmp_path: Path) -> None:
    alone = replace(judgement(1, "yes"), kind="yes_no", b="", policy_b="", text_b="", ballots=(Ballot("none", "yes"),))
    write(tmp_path / "judged", "judge", [(Judgement, [alone])])
    assert comparisons_decided(folders([tmp_path])) == ([], [], [])
    assert "there is nothing to decide" in run([tmp_path], tmp_path / "page.html").read_text("utf-8")


def test_what_a_judge_is_worth_is_one_line(tmp_path: Path) -> None:
    judged = write(tmp_path / "judged", "judge", [(Judgement, said(["win"] * 30 + ["loss"] * 30, "one"))])
    records = said(["win"] * 30 + ["loss"] * 30, "one")
    people = [HumanLabel(one.unit, one.item, one.group, who, one.outcome) for one in records for who in "abc"]  # type: ignore[arg-type]
    labels = write(tmp_path / "people", "annotate", [(HumanLabel, people)])
    agree.run(judged, labels, tmp_path / "agreed", options=agree.AgreeOptions(Resampling(20)))
    found = folders([tmp_path])
    (judge,) = worths(figures(found), survey(found, seed=0, limit=0)[0])
    assert [(words, one.estimate.value) for words, one in judge.figures] == [
        ("agrees with people on a share of", 1.0),
        ("people agree with each other on", 1.0),
        ("judge and people beyond chance (kappa)", 1.0),
    ]
    assert judge.by_people
    assert "one" in judge.standing
    page = " ".join(run([tmp_path], tmp_path / "page.html").read_text("utf-8").split())
    assert judge.standing in page.replace("&#39;", "'")


def warned(root: Path) -> list[str]:
    found = folders([root])
    shown, tallies = figures(found), survey(found, seed=0, limit=0)[0]
    decided, complaints, _ = comparisons_decided(found)
    return [one.sentence for one in cautions(shown, tallies, decided, worths(shown, tallies), complaints)]


def test_what_is_wrong_is_said_first(tmp_path: Path) -> None:
    write(tmp_path / "judged", "judge", [(Judgement, said(["win"] * 10 + ["split"] * 40, "one"))])
    about = About(policy="rl", against="sft", judge="one")
    made = [
        estimate("win rate, undecided half", 0.55, about=about),
        estimate("win rate at equal length", 0.44, about=about),
        Estimate("accuracy", 0.948, 1.9e-05, 1.0, 20, 0, "t", about=About(policy="separated")),
        estimate("judge minus human ceiling", -0.1, 0.05, about=About(judge="one")),
    ]
    write(tmp_path / "scores", "score", [(Estimate, made)])
    longer = Estimate("longer preferred rate", 0.99, 0.94, 1.0, 70, 0, "Wilson", about=about)
    rarely = Estimate("longer preferred rate", 0.95, 0.85, 1.0, 20, 0, "Wilson", about=About(policy="x", judge="one"))
    write(tmp_path / "lengths", "score", [(Estimate, [longer, rarely])])
    lines = warned(tmp_path)
    assert lines == [
        "Judge one agrees with people less than they do with each other: -0.100 (-0.150 to -0.050).",
        "Judge one follows the order of the answers: of 50 pairs shown in both orders it named twice the answer shown "
        "first on 40, the one shown second on 0.",
        "The longer answer won 0.990 of 70 pairs that it decided, rl against sft, judge one.",
        "Length turns the winner of rl against sft, judge one: its win rate of 0.550 becomes 0.440 at equal length.",
        "accuracy of separated is hardly known: 0.948 (1.90e-05 to 1).",
    ]


def test_unjudged_pairs_bound_the_rate(tmp_path: Path) -> None:
    write(tmp_path / "judged", "judge", [(Judgement, said(["win"] * 6 + ["unjudged"] * 4, "one"))])
    (line,) = warned(tmp_path)
    assert line == (
        "4 of 10 judgements of rl against sft by one have no verdict; had all a verdict, the win rate, undecided half, "
        "would lie between 0.600 and 1."
    )


@pytest.mark.parametrize(
    ("bounds", "verdicts", "words"),
    [
        (((0.1, 0.3), (0.4, 0.6)), ("better", "better"), ["The intervals of rl and sft, corrected by labels"]),
        (((0.1, 0.3), (-0.6, -0.4)), ("better", "worse"), ["Judges contradict each other about rl and sft."]),
        (((0.1, 0.3), (0.2, 0.6)), ("better", "better"), []),
    ],
)
def test_judges_that_cannot_both_be_right(bounds: Any, verdicts: Any, words: list[str]) -> None:
    said = tuple(
        Conclusion("rl", "sft", "", verdict, Estimate("d", low, low, high, 9, 0, "t"), True, "j", (), None, ())
        for (low, high), verdict in zip(bounds, verdicts, strict=True)
    )
    found = cautions([], [], [TwoPolicies("rl", "sft", said)], [], [])
    assert [one.sentence[: len(part)] for one, part in zip(found, words, strict=True)] == words


def test_sound_judgements_bring_no_warning(tmp_path: Path) -> None:
    write(tmp_path / "judged", "judge", [(Judgement, said(["win"] * 30 + ["loss"] * 30 + ["split"] * 2, "one"))])
    assert warned(tmp_path) == []


# ------------------------------------------------------------------------------------------------------ side by side


def test_sides_line_up_whoever_comes_first(two: Path) -> None:
    made = side_by_side(folders([two]))
    assert len(made.sides) == 2
    assert len(made.pairs) == 60
    letters = {"win": "w", "loss": "l", "split": "s"}
    by_item = {item: place for place, item in enumerate(made.items)}
    for outcomes, codes in zip((FIRST, SECOND), made.codes, strict=True):
        assert [codes[by_item[f"item-{n}"]] for n in range(60)] == [letters[one] for one in outcomes]
    assert sorted(made.flipped().values()) == [1] * 5 + [2] * 10
    (people,) = [one for one in made.slices if one[0] == "people say"]
    assert sorted(people[1]) == ["nobody asked", "prefer rl"]


def test_the_page_begins_with_what_two_runs_say_of_the_judge(two: Path, tmp_path: Path) -> None:
    runs = [two / "first", two / "second"]
    changed = dispatch.run(runs, tmp_path / "changed")
    page = run([*runs, changed], tmp_path / "page.html").read_text("utf-8")
    (said,) = re.findall(r'<section id="again".*?</section>', page, re.DOTALL)
    assert "verdict differs on 15 of 60 units" in said
    assert "changed/flipped.csv" in said
    assert page.index(said) < page.index('<section id="decision"')
    assert 'id="again"' not in run(runs, tmp_path / "alone.html").read_text("utf-8")


def test_flips_are_embedded_though_they_were_not_drawn(two: Path, tmp_path: Path) -> None:
    found = folders([two])
    shown = json.loads(browse.browsable(found, survey(found, seed=0, limit=10)[1], 120).json)
    extra = [row for row in shown["rows"] if row["extra"]]
    drawn = [row for row in shown["rows"] if not row["extra"]]
    assert len(drawn) == 10
    flips = {f"item-{place}" for place in [*range(30, 40), *range(50, 55)]}
    assert {row["item"] for row in extra} | {row["item"] for row in drawn} >= flips


def opened(chrome: Chrome, page: Path, hash: str = "") -> None:
    chrome.open("about:blank")
    chrome.open(page.resolve().as_uri() + hash)
    chrome.script(READY)


def all_texts(chrome: Chrome, selector: str) -> Any:
    return chrome.script(f"return [...document.querySelectorAll({selector!r})].map(node => node.textContent)")


@pytest.fixture(scope="module")
def page(two: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run([two], tmp_path_factory.mktemp("page") / "report.html")


def test_what_flipped_comes_first(page: Path, chrome: Chrome) -> None:
    opened(chrome, page)
    assert all_texts(chrome, "#side-sum") == [
        "Of 60 units that both judged (the same answers), 15 flipped (25.0 %): 10 to the other side, 5 between "
        "decided and undecided."
    ]
    assert all_texts(chrome, "#side-found") == ["15 to read"]
    badges = all_texts(chrome, "#side-list .badge")
    assert badges[:2] == ["prefers rl", "prefers sft"]
    assert badges[28:] == ["split", "prefers sft"]
    slices = all_texts(chrome, "#side-slices tbody tr")
    assert sorted(slices) == ["people say: nobody asked20525.0 %", "people say: prefer rl401025.0 %"]
    chrome.script(
        "[...document.querySelectorAll('#side-changes button.cell')].find(b => b.textContent === '5').click()"
    )
    assert len(all_texts(chrome, "#side-list > li")) == 5
    assert chrome.console() == []


def test_keys_walk_and_links_lead_back(page: Path, chrome: Chrome, two: Path, tmp_path: Path) -> None:
    opened(chrome, page)
    chrome.script("document.querySelector('#side-list summary').focus()")
    chrome.press("j", "j")
    row = (
        "return [...document.querySelectorAll('#side-list details[open]')]"
        ".map(d => d.querySelector('.names').textContent)"
    )
    (item,) = chrome.script(row)
    assert all_texts(chrome, "#side-list details[open] .thought summary") == ["thoughts"] * 4
    assert all_texts(chrome, "#side-list details[open] .ballot pre")[:2] == ["Answer first", "hm"]
    link = chrome.script("return document.querySelector('#side-list details[open] a').hash")
    chrome.press("k")
    assert chrome.script(row) != [item]
    # The same runs, rebuilt beside others: the link opens the same row.
    write(tmp_path / "runs" / "more", "judge", [(Judgement, said(["win"] * 60, "three"))])
    again = run([two, two.parent / "runs"], tmp_path / "again.html")
    opened(chrome, again, link)
    assert chrome.script(row) == [item]
    opened(chrome, page, "#s-nobody-knows-this-row")
    assert "not in this report" in all_texts(chrome, "#side-found")[0]
    assert chrome.console() == []


def test_a_link_to_a_judgement_opens_it(page: Path, chrome: Chrome) -> None:
    opened(chrome, page)
    chrome.script("document.querySelector('#judgements summary').focus()")
    chrome.press("j")
    link = chrome.script("return document.querySelector('#list details[open] a').hash")
    shown = all_texts(chrome, "#list details[open] .by:last-child")
    opened(chrome, page, link)
    assert all_texts(chrome, "#list details[open] .by:last-child") == shown
    # Keys stay letters where one writes, and where they were turned off.
    chrome.script("document.getElementById('filter-search').focus()")
    chrome.press("j")
    assert chrome.script("return document.getElementById('filter-search').value") == "j"
    opened(chrome, page, link)
    chrome.script("document.querySelector('.keys input').click()")
    before = all_texts(chrome, "#list details[open] .by:last-child")
    chrome.script("document.querySelector('#list summary').focus()")
    chrome.press("j")
    assert all_texts(chrome, "#list details[open] .by:last-child") == before


def test_figures_are_found_and_saved(two: Path, chrome: Chrome, tmp_path: Path) -> None:
    made = [estimate("win rate", 0.625), estimate('=cmd|"x"', 0.5), estimate("loss rate", 0.125, None)]
    write(tmp_path / "scores", "score", [(Estimate, made)])
    opened(chrome, run([tmp_path], tmp_path / "page.html"))
    chrome.script("document.getElementById('figures').open = true")
    chrome.script(
        "const s = document.getElementById('figure-search'); s.value = 'RATE win'; s.dispatchEvent(new Event('input'))"
    )
    chrome.script("return new Promise(done => setTimeout(done, 200))")
    assert all_texts(chrome, "#figures-found") == ["1 of 3 figures"]
    chrome.script(
        "const s = document.getElementById('figure-search'); s.value = ''; s.dispatchEvent(new Event('input'))"
    )
    chrome.script("return new Promise(done => setTimeout(done, 200))")
    chrome.script(
        "URL.createObjectURL = (blob) => { window.saved = blob; return '#'; };"
        "[...document.querySelectorAll('#figure-tools button')].at(-1).click()"
    )
    lines = chrome.script("return window.saved.text()").split("\r\n")
    assert len(lines) == 5
    assert lines[1].startswith('"rl against sft, judge scripted:lean=0.2","win rate","0.625","0.575","0.675","225"')
    assert '"\'=cmd|""x""","0.5"' in lines[2]
