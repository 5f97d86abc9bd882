"""What runs hold comes out as tables, and the same records come in again."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from perl_eval import reporting
from perl_eval.errors import UserError
from perl_eval.records import Ballot, Completion, Estimate, HumanLabel, Judgement, Message
from perl_eval.sources.completions import completions
from perl_eval.sources.judgements import read_outcomes
from perl_eval.sources.labels import labels
from perl_eval.storage import run_folder

TURNS = (Message("user", "Name a prime,\nplease."), Message("assistant", "7"), Message("user", '"Another?" | yes'))
LABELS = [
    HumanLabel("", "q1", "g", "ann", "win", note="a, b", weight=2.5, policy_a="rl", policy_b="sft"),
    HumanLabel("", "q1", "g", "ann", "win", note="a, b", weight=2.5, policy_a="rl", policy_b="sft"),
    HumanLabel("u2", "q2", "q2", "bob", "loss", simulated=True),
]
COMPLETIONS = [Completion(f"c{place}", f"q{place}", "g", "d", "rl", TURNS, "11\n13", "length", 0) for place in range(2)]
JUDGED = [
    Judgement(
        f"j{outcome}", "pairwise", f"q{outcome}", "g", "d", f"x{outcome}", f"y{outcome}", "rl", "sft", TURNS[:1],
        "7", "8", outcome, ballots, "judge", "", False, p_a=0.75,
    )
    for outcome, ballots in (
        ("win", (Ballot("ab", "first"), Ballot("ba", "second"))),
        ("split", (Ballot("ab", "first"), Ballot("ba", "first"))),
        ("mixed", (Ballot("ab", "tie"), Ballot("ba", "second"))),
        ("loss", ()),
    )
]  # fmt: skip


def kept(folder: Path) -> Path:
    with run_folder.start(folder, verb="demo", arguments={}) as going:
        for records, kind in ((LABELS, HumanLabel), (COMPLETIONS, Completion), (JUDGED, Judgement)):
            going.write(records, kind)
        going.write([Estimate("win rate", 0.5, 0.25, 0.75, 4, 0, "Wilson")], Estimate)
    return folder


@pytest.mark.parametrize("form", ["csv", "json"])
def test_labels_and_completions_are_read_again_as_they_were(tmp_path: Path, form: str) -> None:
    run = kept(tmp_path / "run")
    out = reporting.write_rows_out([run], tmp_path / f"labels.{form}", what="labels", format=form)
    assert labels(out) == LABELS
    out = reporting.write_rows_out([run], tmp_path / f"answers.{form}", what="completions", format=form)
    assert completions(out) == COMPLETIONS


@pytest.mark.parametrize("form", ["csv", "json"])
def test_judgements_are_read_again_with_their_orders(tmp_path: Path, form: str) -> None:
    out = reporting.write_rows_out([kept(tmp_path / "run")], tmp_path / f"j.{form}", what="judgements", format=form)
    found = read_outcomes(out)
    assert [(one.outcome, one.item, one.unit, one.text_a, one.p_a) for one in found] == [
        (one.outcome, one.item, one.unit, one.text_a, one.p_a) for one in JUDGED
    ]
    assert [[(ballot.order, ballot.verdict) for ballot in one.ballots] for one in found] == [
        [(ballot.order, ballot.verdict) for ballot in one.ballots] for one in JUDGED
    ]


def test_estimates_as_csv(tmp_path: Path) -> None:
    out = reporting.run([kept(tmp_path / "run")], tmp_path / "e.csv", format="csv")
    (row,) = csv.DictReader(io.StringIO(out.read_text("utf-8")))
    assert (row["name"], row["value"], row["low"], row["n"], row["method"]) == (
        "win rate",
        "0.5",
        "0.25",
        "4",
        "Wilson",
    )


def test_a_copy_in_another_folder_stands_once(tmp_path: Path) -> None:
    kept(tmp_path / "a")
    kept(tmp_path / "b")
    out = reporting.write_rows_out([tmp_path], tmp_path / "l.json", what="labels", format="json")
    assert len(json.loads(out.read_text("utf-8"))) == len(LABELS)


def test_markdown_has_the_filled_columns(tmp_path: Path) -> None:
    out = reporting.write_rows_out([kept(tmp_path / "run")], tmp_path / "l.md", what="labels", format="md")
    head, rule, *rows = out.read_text("utf-8").splitlines()
    assert head.startswith("| item | policy_a | policy_b | label | annotator | unit |")
    assert len(rows) == len(LABELS)
    assert {line.count("|") - line.count("\\|") for line in (head, rule, *rows)} == {head.count("|")}


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with run_folder.start(tmp_path / "run", verb="demo", arguments={}) as going:
        going.write(LABELS, HumanLabel)
    with pytest.raises(UserError, match="no run folder here holds judgements"):
        reporting.write_rows_out([tmp_path], tmp_path / "x.csv", what="judgements", format="csv")
    with pytest.raises(UserError, match="'html' is not known for labels; choose one of csv, json, md"):
        reporting.write_rows_out([tmp_path], tmp_path / "x.html", what="labels", format="html")
