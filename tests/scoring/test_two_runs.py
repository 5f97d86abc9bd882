"""Two runs of the same answers, without labels: what flipped, which way, and whether the judge is as fickle alone."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contests import pair_judged
from statsmodels.stats.contingency_tables import mcnemar

from perl_eval.records import Estimate, Judgement, Message
from perl_eval.scoring import score
from perl_eval.scoring.two_runs import asked_nothing, compare, sentences
from perl_eval.storage import parquet, run_folder


def judgement(place: int, outcome: Any, judge: str = "j") -> Judgement:
    return pair_judged(place, outcome, judge=judge)


def runs(seed: int, changed: float) -> tuple[list[Judgement], list[Judgement]]:
    rng = np.random.default_rng(seed)
    before = ["win" if rng.random() < 0.5 else "loss" for _ in range(200)]
    now = ["loss" if rng.random() < changed else said for said in before]
    return [judgement(*one) for one in enumerate(before)], [judgement(*one) for one in enumerate(now)]


def test_flips_and_mcnemar_are_those_of_the_table() -> None:
    last, now = runs(0, 0.2)
    found, rows = compare(last, now)
    figures = {one.name: one for one in found}
    flips = [(one.outcome, other.outcome) for one, other in zip(last, now, strict=True) if one.outcome != other.outcome]
    assert figures["flip rate"].value == pytest.approx(len(flips) / 200)
    down = sum(pair == ("win", "loss") for pair in flips)
    table = [[0, down], [len(flips) - down, 0]]
    assert figures["McNemar p"].value == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert figures["later less earlier"].value == pytest.approx((len(flips) - 2 * down) / 200)
    assert [row[3:5] for row in rows] == flips
    assert figures["flip rate, the judge's own"].reason is not None


def test_a_judge_that_changes_its_mind_alone_has_not_drifted() -> None:
    last, now = runs(1, 0.2)
    _, again = runs(1, 0.2)
    again = [replace(one, outcome="win" if place % 5 == 0 else one.outcome) for place, one in enumerate(last)]
    figures = {one.name: one for one in compare(last, now, again=again)[0]}
    assert figures["flip rate, the judge's own"].value == pytest.approx(
        np.mean([one.outcome != other.outcome for one, other in zip(last, again, strict=True)])
    )
    low, high = figures["flips beyond the judge's own"].low, figures["flips beyond the judge's own"].high
    assert low is not None
    assert high is not None
    assert low < 0.15


def test_units_that_one_run_did_not_judge_are_left_out() -> None:
    last, now = runs(4, 0.2)
    now = [replace(one, outcome="unjudged") if place < 50 else one for place, one in enumerate(now)]
    last = [replace(one, outcome="unjudged") if place >= 190 else one for place, one in enumerate(last)]
    flips = compare(last, now)[0][0]
    changed = [one.outcome != other.outcome for one, other in zip(last[50:190], now[50:190], strict=True)]
    assert (flips.n, flips.value) == (140, pytest.approx(np.mean(changed)))


def test_contestants_may_be_the_other_way_round() -> None:
    last, _ = runs(2, 0)
    turned = [replace(one, a=one.b, b=one.a, outcome="loss" if one.outcome == "win" else "win") for one in last]
    assert compare(last, turned)[0][0].value == 0.0


def test_score_sets_two_runs_against_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[str], Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    last, now = runs(3, 0.1)
    last = [replace(one, prompt=(Message("user", "Say it."),)) for one in last]
    parquet.write(tmp_path / "last" / "judgements.parquet", last, Judgement)
    parquet.write(tmp_path / "now" / "judgements.parquet", now, Judgement)
    assert command("score last now --out out").code is None
    flips = {one.name: one for one in run_folder.read(tmp_path / "out", Estimate)}["flip rate"]
    rows = list(csv.reader((tmp_path / "out" / "flipped.csv").read_text("utf-8").splitlines()))
    assert rows[0][:7] == ["item", "policy_a", "policy_b", "before", "now", "winner_before", "winner_now"]
    assert rows[0][7:] == ["prompt", "text_a", "text_b"]
    who = {"win": last[0].policy_a, "loss": last[0].policy_b}
    changed = {one.item: one for one, other in zip(last, now, strict=True) if one.outcome != other.outcome}
    for row in rows[1:]:
        one = changed[row[0]]
        assert row[3:] == [one.outcome, row[4], who[one.outcome], who[row[4]], "Say it.", one.text_a, one.text_b]
    assert len(rows) - 1 == round((flips.value or 0) * 200)
    upgraded = [replace(one, judge="j-2") for one in now]
    parquet.write(tmp_path / "upgraded" / "judgements.parquet", upgraded, Judgement)
    folder = score.run([tmp_path / "last", tmp_path / "upgraded"], tmp_path / "other")
    names = [one.name for one in run_folder.read(folder, Estimate)]
    assert names.count("win rate") == 2
    assert names.count("flip rate") == 1


def scored(place: int, score: float | None) -> Judgement:
    return replace(pair_judged(place, "win"), kind="score", outcome="scored", b="", policy_b="", text_b="", score=score)


def test_scores_flip_where_they_differ_and_move_by_points() -> None:
    last = [scored(place, 5.0) for place in range(40)]
    now = [scored(place, 7.0 if place < 10 else 5.0) for place in range(40)]
    found, rows = compare(last, now)
    figures = {one.name: one for one in found}
    assert figures["flip rate"].value == pytest.approx(0.25)
    assert figures["later less earlier"].value == pytest.approx(0.5)
    assert figures["McNemar p"].value == pytest.approx(2 * 0.5**10)
    assert {row[3:5] for row in rows} == {("5", "7")}
    assert len(rows) == 10


def verdicts(path: Path, said: Sequence[str], judge: str, *, turned: bool = False) -> None:
    rows = [(f"Say {n}.", one, judge) for n, one in enumerate(said)]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("question", "winner", "by"), *(reversed(rows) if turned else rows)])


NAMED = "--column verdict=winner --column judge=by --means new=a --means old=b --means even=tie"


def test_two_files_of_verdicts_say_whether_the_judge_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[str], Any]
) -> None:
    """Rows meet by their question, in whatever order they stand; a word need not be in both files."""
    monkeypatch.chdir(tmp_path)
    october = ["new" if n % 3 else "old" for n in range(120)]
    verdicts(tmp_path / "october.csv", october, "gpt-4o")
    verdicts(tmp_path / "again.csv", ["even", *october[1:]], "gpt-4o", turned=True)
    verdicts(tmp_path / "november.csv", ["old"] * 30 + october[30:], "gpt-5", turned=True)
    refused = command("score october.csv november.csv --out none")
    assert (refused.code, "name its column, as in --column verdict=winner" in refused.err) == (2, True)
    alone = command(f"score october.csv november.csv {NAMED.removesuffix(' --means even=tie')} --out alone").out
    assert "differs on 20 of 120 units: 0.17" in alone
    assert "cannot be told from that alone: how often the judge changes its own mind is not known" in alone
    assert (
        "The verdicts have shifted towards b: the win rate of a, undecided as half, is now 0.17 (0.10 to 0.24) lower"
        in alone
    )
    assert alone.index("The verdicts have shifted") < alone.index("win rate")
    assert "Left out" not in alone
    beside = command(f"score october.csv november.csv --again again.csv {NAMED} --out beside").out
    assert "this is 0.16" in beside
    assert len((tmp_path / "beside" / "flipped.csv").read_text("utf-8").splitlines()) == 21
    same = command(f"score october.csv again.csv --again again.csv {NAMED} --out same").out
    assert "differs on 1 of 120" in same
    assert "No change of the judge is found" in same
    assert "of the units would have been told from that in 80% of cases" in same
    assert "No shift of the verdicts towards a or towards b is found (p = 1)." in same
    twin = command(f"score october.csv october.csv {NAMED.removesuffix(' --means even=tie')} --out twin")
    assert "october.csv is given twice" in twin.err  # which is no second opinion


def test_what_only_one_file_has_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[str], Any]
) -> None:
    """Of judges of two names, a few pairs in common are compared, and what is left out is said."""
    monkeypatch.chdir(tmp_path)
    for name, judge, first in (("october", "gpt-4o", 0), ("november", "gpt-5", 47)):
        rows = [(f"Say {n}.", "ours", "theirs", "ours", judge) for n in range(first, first + 50)]
        with (tmp_path / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("prompt", "policy_a", "policy_b", "verdict", "judge"), *rows])
    told = command("score october.csv november.csv --out out").out
    assert "Left out are 47 of 50 judged earlier and 47 of 50 judged later" in told
    assert "The verdict is the same on all 3 units" in told


def test_two_files_of_one_judge_that_share_little_are_told_how_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[str], Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    verdicts(tmp_path / "october.csv", ["a"] * 50, "j")
    (tmp_path / "november.csv").write_text(
        "question,winner,by\n" + "".join(f"Say {n}.,a,j\n" for n in range(47, 97)), "utf-8"
    )
    told = command("score october.csv november.csv --column verdict=winner --column judge=by --out out")
    assert (told.code, "only 3 units of 50 and 50 are in both" in told.err) == (2, True)


def test_a_move_is_told_of_one_policy_whichever_stands_first() -> None:
    """Half of the rows name the policies the other way round; the judge moved towards rl in all of them."""
    last = [judgement(place, "loss") for place in range(20)]
    now = [judgement(place, "win") for place in range(20)]

    def turned(run: Sequence[Judgement]) -> list[Judgement]:
        other = {"win": "loss", "loss": "win"}
        return [
            replace(one, a=one.b, b=one.a, policy_a=one.policy_b, policy_b=one.policy_a, outcome=other[one.outcome])  # type: ignore[arg-type]
            if place % 2
            else one
            for place, one in enumerate(run)
        ]

    found, rows = compare(turned(last), turned(now))
    figures = {one.name: one for one in found}
    assert figures["later less earlier"].value == pytest.approx(1.0)
    assert figures["later less earlier"].about.policy == last[0].policy_a
    assert figures["McNemar p"].value == pytest.approx(2 * 0.5**20)
    assert {row[5:7] for row in rows} == {(last[0].policy_b, last[0].policy_a)}
    assert (
        f"shifted towards {last[0].policy_a}: the win rate of {last[0].policy_a}, undecided as half, is now 1.00"
        in sentences(found)[-1]
    )


def test_a_run_that_asked_nothing_is_told(tmp_path: Path) -> None:
    asking = {"requests": 0, "from_ledger": 40}
    for name, notes in (("old", {"asking": {**asking, "requests": 3}}), ("new", {"asking": asking}), ("scripted", {})):
        with run_folder.start(tmp_path / name, verb="judge", arguments={}, inputs={}) as going:
            going.write([judgement(0, "win")], Judgement)
            going.notes |= notes
    assert [asked_nothing(tmp_path / name) for name in ("old", "new", "scripted")] == [False, True, False]


def test_files_and_their_second_asking_go_through_an_audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[str], Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    said = ["a" if n % 3 else "b" for n in range(60)]
    for name, verdict in (("then", said), ("again", said), ("now", ["b"] * 40 + said[40:])):
        rows = [(f"q{n}", "x", "y", one, "j") for n, one in enumerate(verdict)]
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("item", "policy_a", "policy_b", "verdict", "judge"), *rows])
    with (tmp_path / "people.csv").open("w", newline="") as file:
        rows = [(f"q{n}", "x", "y", one, "ann") for n, one in enumerate(said)]
        csv.writer(file).writerows([("item", "policy_a", "policy_b", "label", "annotator"), *rows])
    assert command("audit then.csv people.csv --again again.csv --out frozen").code is None
    assert command("audit now.csv --anchors frozen --out drift").code == 1
    assert command("audit again.csv --anchors frozen --out calm").code is None
