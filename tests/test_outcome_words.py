"""What people read of outcomes, and what they are asked, comes from the one table."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contests import pair_judged
from outcome_changes import FLAGS, GIVEN, PAIRS, QUICK, SAID, Changed, Under, changed, judged, labelled, named, putting

from perl_eval import outcomes
from perl_eval.cli.judge_printing import show_outcomes
from perl_eval.judging import image_ablation
from perl_eval.labelling import app, units
from perl_eval.labelling.assignment import Turn
from perl_eval.labelling.export import _place
from perl_eval.metrics.agreement import estimate_agreement, estimate_cascade, labels_of
from perl_eval.records import OUTCOMES, HumanLabel, Judgement, Score, unit_of
from perl_eval.reporting import browse, matplotlib_plots, page
from perl_eval.reporting.counts import Chosen, OutcomeCounts
from perl_eval.results import Judged
from perl_eval.scoring import rewards
from perl_eval.sources.labels import read_labels
from perl_eval.storage import run_folder


@pytest.fixture
def under(monkeypatch: pytest.MonkeyPatch) -> Under:
    return putting(monkeypatch)


@pytest.mark.parametrize("change", FLAGS, ids=lambda change: change.name)
def test_what_is_undecided(under: Under, change: Changed) -> None:
    now = under(change)
    counts = OutcomeCounts(0, "judge", "pairwise", "rl", "sft", "orders", "", Counter([*SAID, "unjudged"]))
    assert counts.undecided == sum(now.open(SAID))
    for record, flag in zip(judged(PAIRS), now.open(PAIRS), strict=True):
        task = units.Task(record.unit, record.item, record.group, (), ("a", "b"))
        size = units._size(task, {record.unit: record}, "split")
        assert size == (units._UNDECIDED if flag else 1.0)
        size = units._size(task, {record.unit: replace(record, p_a=None)}, "decisive")
        assert size == units._FLOOR + units._SPREAD[flag]
        for other in judged(PAIRS):
            same = record.outcome == other.outcome or (flag and now.open([other.outcome])[0])
            assert image_ablation._change_rate([(record, other)]).value == float(not same)


@pytest.mark.parametrize("change", FLAGS, ids=lambda change: change.name)
def test_the_bars_of_the_page(under: Under, monkeypatch: pytest.MonkeyPatch, change: Changed) -> None:
    now = under(change)
    monkeypatch.setattr(page, "rates", lambda *_: [])
    monkeypatch.setattr(page, "position_figures", lambda *_: [])
    folder: Any = type("Shown", (), {"card": type("Card", (), {"arguments": {}})})
    said = [*SAID, "unjudged"]
    counts = OutcomeCounts(0, "judge", "pairwise", "rl", "sft", "orders", "", Counter(said))
    parts = page._comparison(counts, [], [folder])["parts"]
    shown = {part["name"]: (part["n"], dict(part["details"])) for part in parts}
    pooled = [name for name, flag in zip(PAIRS, now.open(PAIRS), strict=True) if flag]
    assert shown["undecided"] == (sum(now.open(SAID)), {name: said.count(name) for name in pooled})
    for name in {*PAIRS, "unjudged"} - set(pooled):
        assert shown[name] == (said.count(name), {name: said.count(name)})
    assert sum(part["share"] for part in parts) == pytest.approx(100, abs=0.01)


def test_the_bars_have_the_order_of_the_plots() -> None:
    assert set(matplotlib_plots._SHADES) == set(OUTCOMES)
    order = [name for name in matplotlib_plots._SHADES if name in PAIRS or name == "unjudged"]
    assert tuple(order) == outcomes.outcomes_of("pairwise")


@pytest.mark.parametrize("change", [changed("win"), changed("win", mirror="win"), changed("loss", mirror="tie")])
def test_a_label_of_the_pair_the_other_way_round(under: Under, tmp_path: Path, change: Changed) -> None:
    now = under(change)
    record = pair_judged(0, "win")
    source = tmp_path / "labels.csv"
    for label in ("win", "tie", "loss", "yes"):
        expected = now.table[label].mirror
        assert labels_of(record, {unit_of(record.b, record.a): {"ann": label}}) == {"ann": expected}
        source.write_text(f"a,b,label,a_is\nx,y,{label},second\n")
        assert [one.label for one in read_labels(source)] == [expected]


@pytest.mark.parametrize(
    "change", [changed("win"), *(changed(name, as_label="loss") for name in PAIRS)], ids=lambda change: change.name
)
def test_what_a_person_would_have_to_say(under: Under, change: Changed) -> None:
    now = under(change)
    heard = [now.table[outcome].as_label for outcome in SAID]
    records = judged()
    given = labelled(records, GIVEN)
    same = np.mean([one == other for one, other in zip(heard, GIVEN, strict=True)])
    assert named(estimate_agreement(records, given, resampling=QUICK))["human-judge exact agreement"] == same
    strong = [replace(record, outcome="tie", judge="strong") for record in records[:8]]
    cascade = named(estimate_cascade(records, [*strong, replace(records[9], outcome="unjudged", judge="strong")]))
    trusted = now.table["tie"].as_label
    assert cascade["judge-judge exact agreement"] == np.mean([one == trusted for one in heard[:8]])
    for record, label in zip(records, heard, strict=True):
        for person in ("win", "tie", "loss"):
            assert _row(record, person)["differs"] == (label != person)
    assert not _row(pair_judged(0, "unjudged"), "win")["differs"]
    assert not _row(records[0], "")["differs"]


def _row(record: Judgement, label: str) -> dict[str, Any]:
    folder: Any = type("Shown", (), {"label": "run", "files": {Judgement: Path("judgements.parquet")}})
    given = {label.unit: [label] for label in labelled([record], [label])} if label else {}
    return browse._row(Chosen(0, 0, record), given, [folder], 0)


def test_words_that_people_read_come_from_the_table(under: Under, monkeypatch: pytest.MonkeyPatch) -> None:
    under(changed("win", word="preferred twice"))
    row = _row(pair_judged(0, "win"), "win")
    assert (row["outcome"], row["is"], row["label"], row["people"][0][1]) == (
        "preferred twice",
        "win",
        "preferred twice",
        "preferred twice",
    )
    counts = OutcomeCounts(0, "judge", "pairwise", "rl", "sft", "orders", "", Counter(SAID))
    monkeypatch.setattr(page, "rates", lambda *_: [])
    monkeypatch.setattr(page, "position_figures", lambda *_: [])
    folder: Any = type("Shown", (), {"card": type("Card", (), {"arguments": {}})})
    part = page._comparison(counts, [], [folder])["parts"][0]
    assert (part["pool"], part["name"], part["details"]) == ("win", "preferred twice", [("preferred twice", 5)])
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    matplotlib_plots._outcomes([counts], axes)
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_texts()[0].get_text() == "preferred twice"


def test_the_command_line_says_the_word(under: Under, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    under(changed("win", word="preferred twice"))
    with run_folder.start(tmp_path / "run", verb="judge", arguments={}) as going:
        going.write(judged(["win", "win", "win", "loss", "loss"]), Judgement)
        going.notes |= {"judged": 5, "outcomes": {"win": 3, "loss": 2}}
    show_outcomes(tmp_path / "run")
    assert capsys.readouterr().out.splitlines()[0] == "5 judged: 2 loss, 3 preferred twice"


def test_the_word_is_shown_in_python(under: Under, tmp_path: Path) -> None:
    under(changed("win", word="preferred twice"))
    with run_folder.start(tmp_path / "run", verb="judge", arguments={}) as going:
        going.write(judged(["win", "win", "loss"]), Judgement)
    shown = Judged(tmp_path / "run")
    assert "preferred twice" in repr(shown)
    assert "preferred twice" in shown._repr_html_()
    assert [record.outcome for record in shown] == ["win", "win", "loss"]


def test_sides_that_people_chose() -> None:
    task = units.Task("u", "i", "g", (), ("a", "b"))
    for a_first, first, second in ((True, "win", "loss"), (False, "loss", "win")):
        for label, side in ((first, "first"), (second, "second"), ("tie", "tie"), ("yes", "yes")):
            assert app._shown(Turn(task, a_first, label))["choice"] == side
            assert _place(label, a_first=a_first) == side
    assert app._shown(Turn(task, True))["choice"] is None


def test_rewards_are_held_against_decided_labels() -> None:
    scores = [
        Score(f"{side}{i}", f"i{i}", f"g{i}", side, "reward", v)
        for i in range(4)
        for side, v in (("x", 1.0), ("y", 0.0))
    ]
    labels = [
        HumanLabel(unit_of(f"x{i}", f"y{i}"), f"i{i}", f"g{i}", "ann", label)  # type: ignore[arg-type]
        for i, label in enumerate(("win", "win", "loss", "tie"))
    ]
    found = {e.name: e for e in rewards._labelled_pairs(scores, labels, rewards.QualityOptions())}
    accuracy = found["pair accuracy"]
    assert (accuracy.value, accuracy.n, accuracy.n_missing) == (pytest.approx(2 / 3), 3, 1)
