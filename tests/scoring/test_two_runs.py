"""Two runs of the same answers, without labels: what flipped, which way, and whether the judge is as fickle alone."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contests import pair_judged
from statsmodels.stats.contingency_tables import mcnemar

from perl_eval.records import Estimate, Judgement
from perl_eval.scoring import score
from perl_eval.scoring.two_runs import compare
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
    assert [row[3:] for row in rows] == flips
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
    parquet.write(tmp_path / "last" / "judgements.parquet", last, Judgement)
    parquet.write(tmp_path / "now" / "judgements.parquet", now, Judgement)
    assert command("score last now --out out").code is None
    flips = {one.name: one for one in run_folder.read(tmp_path / "out", Estimate)}["flip rate"]
    rows = list(csv.reader((tmp_path / "out" / "flipped.csv").read_text("utf-8").splitlines()))
    assert rows[0] == ["item", "policy_a", "policy_b", "before", "now"]
    assert len(rows) - 1 == round((flips.value or 0) * 200)
    upgraded = [replace(one, judge="j-2") for one in now]
    parquet.write(tmp_path / "upgraded" / "judgements.parquet", upgraded, Judgement)
    folder = score.run([tmp_path / "last", tmp_path / "upgraded"], tmp_path / "other")
    names = [one.name for one in run_folder.read(folder, Estimate)]
    assert names.count("win rate") == 2
    assert names.count("flip rate") == 1
