"""What is decided between policies, by a judge and labels; and what is said where nothing is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from perl_eval.errors import DataError, UserError
from perl_eval.metrics.policy_comparisons import comparisons
from perl_eval.metrics.policy_decisions import decided
from perl_eval.records import Estimate, HumanLabel, Judgement, Score, digest
from perl_eval.scoring import agree, decide
from perl_eval.scoring.decide_options import DecideOptions
from perl_eval.scoring.decision_words import sentence
from perl_eval.scoring.judged_units import units_of
from perl_eval.stats.label_plans import two_digits
from perl_eval.storage import parquet, run_folder


def judgement(item: str, a: str, b: str, outcome: Any) -> Judgement:
    return Judgement(
        id=digest(item, a, b),
        kind="pairwise" if b else "yes_no",
        item=item,
        group=item,
        dataset="d",
        a=digest(item, a),
        b=digest(item, b) if b else "",
        policy_a=a,
        policy_b=b,
        prompt=(),
        text_a="x" * 5,
        text_b="y" * 5 if b else "",
        outcome=outcome,
        ballots=(),
        judge="j",
        prompt_sha256="",
        simulated=False,
    )


def written(folder: Path, records: Sequence[Judgement], labels: Sequence[HumanLabel] = ()) -> tuple[Path, Path]:
    parquet.write(folder / "judged" / "judgements.parquet", records, Judgement)
    parquet.write(folder / "people" / "labels.parquet", labels, HumanLabel)
    return folder / "judged", folder / "people"


def kinder(rng: np.random.Generator, n: int, labels: int) -> tuple[list[Judgement], list[HumanLabel]]:
    """Answers of two policies, judged yes or no by a judge that is kinder to rl, which is worse by 0.15."""
    records, given = [], []
    for policy, rate, sensitivity, specificity in (("rl", 0.40, 0.95, 0.60), ("sft", 0.55, 0.80, 0.95)):
        for place in range(n):
            right = rng.random() < rate
            said = rng.random() < sensitivity if right else rng.random() > specificity
            record = judgement(f"i{place}", policy, "", "yes" if said else "no")
            records.append(record)
            if place < labels:
                given.append(HumanLabel(record.unit, record.item, record.group, "ann", "yes" if right else "no"))
    return records, given


def test_a_judge_that_is_kinder_to_one_policy_is_corrected(tmp_path: Path) -> None:
    records, labels = kinder(np.random.default_rng(0), 1500, 500)
    judged, people = written(tmp_path, records, labels)
    folder, (found,) = decide.run(judged, tmp_path / "out", labels=people)
    assert found.alone > 0  # the judge alone says the opposite
    assert found.verdict == "worse"
    assert sentence(found).startswith("sft is better than rl by 0.")
    assert "corrected by 500 labels; Holm p " in sentence(found)
    assert found.gap is not None
    assert found.errors[0].informedness == pytest.approx(0.55, abs=0.1)
    assert (folder / decide.DECISION).read_text("utf-8") == f"- {sentence(found)}\n"
    names = {one.name for one in run_folder.read(folder, Estimate)}
    assert {"difference, corrected by labels", "difference, Holm p", "judge J", "judge J difference"} <= names
    assert decide.run(judged, tmp_path / "out", labels=people)[1] == [found]


def test_without_labels_nothing_is_decided_unless_asked_for(tmp_path: Path) -> None:
    records, _ = kinder(np.random.default_rng(1), 800, 0)
    judged, _ = written(tmp_path, records)
    _, (found,) = decide.run(judged, tmp_path / "out")
    assert found.verdict == "not decided"
    said = sentence(found)
    assert "not decided, there are no human labels to show whether the judge favours one of them" in said
    assert "labels of randomly drawn units would decide it at 80% power" in said
    _, (alone,) = decide.run(judged, tmp_path / "alone", options=DecideOptions(judge_alone=True))
    assert alone.verdict == "better"
    assert "by the judge alone on 800 items" in sentence(alone)


def test_what_is_not_decided_says_what_would_settle_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    records, labels = [], []
    for place in range(400):
        truth = rng.random() < 0.53
        record = judgement(f"i{place}", "rl", "sft", "win" if truth != (rng.random() < 0.25) else "loss")
        records.append(record)
        if place < 80:
            labels.append(HumanLabel(record.unit, record.item, record.group, "ann", "win" if truth else "loss"))
    judged, people = written(tmp_path, records, labels)
    _, (found,) = decide.run(judged, tmp_path / "out", labels=people)
    assert found.verdict == "not decided"
    assert found.pairs is not None
    assert found.pairs > 400
    assert f"{two_digits(found.pairs):,} more items, labelled in the same proportion, would decide it" in sentence(
        found
    )


def test_a_pair_judged_in_both_directions_is_one_comparison() -> None:
    one = [judgement(f"i{place}", "rl", "sft", "win") for place in range(30)]
    other = [judgement(f"k{place}", "sft", "rl", "loss") for place in range(30)]
    (found,) = comparisons(units_of([*one, *other]))
    assert (found.one, found.other) == ("rl", "sft")
    assert found.judged.tolist() == [1.0] * 60
    (turned,) = comparisons(units_of([*one, *other]), "rl")
    assert (turned.one, turned.other) == ("sft", "rl")
    assert turned.judged.tolist() == [-1.0] * 60


def test_policies_that_met_one_baseline_are_compared_item_by_item() -> None:
    wins = {"a": 40, "b": 25}
    records = [
        judgement(f"i{place}", policy, "base", "win" if place < wins[policy] else "loss")
        for policy in wins
        for place in range(50)
    ]
    found = {(part.one, part.other): part for part in comparisons(units_of(records))}
    assert set(found) == {("a", "base"), ("a", "b"), ("b", "base")}
    assert found["a", "b"].judged.mean() == pytest.approx((40 - 25) / 50)


@pytest.mark.slow
def test_ten_equal_policies_are_told_apart_in_at_most_one_run_of_twenty() -> None:
    """Without adjustment some p is below .05 in two thirds of such runs."""
    rng, runs, wrong = np.random.default_rng(3), 60, 0
    for _ in range(runs):
        truth = rng.random((10, 200)) < 0.5
        records = [
            judgement(f"i{item}", f"p{policy}", "", "yes" if truth[policy, item] else "no")
            for policy in range(10)
            for item in range(200)
        ]
        found = decided(comparisons(units_of(records)), judge_alone=True)
        assert len(found) == 45
        wrong += any(part.verdict != "not decided" for part in found)
    assert wrong / runs <= 0.1


def test_several_judges_and_one_policy_are_refused(tmp_path: Path) -> None:
    one = [judgement(f"i{place}", "rl", "sft", "win") for place in range(4)]
    judged, _ = written(tmp_path, one)
    alone, _ = written(tmp_path / "alone", [judgement("i", "rl", "", "yes")])
    with pytest.raises(UserError, match="no two policies were judged on the same items"):
        decide.run(alone, tmp_path / "out")
    other = [HumanLabel("u", "i", "i", "ann", "win")]
    parquet.write(tmp_path / "other" / "labels.parquet", other, HumanLabel)
    with pytest.raises(UserError, match="nobody labelled what was judged"):
        decide.run(judged, tmp_path / "out2", labels=tmp_path / "other")


def test_exit_codes_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[str], Any]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    records, labels = kinder(np.random.default_rng(0), 1500, 500)
    written(tmp_path, records, labels)
    shown = command("decide judged --labels people --out out --junit junit.xml")
    assert shown.code is None
    assert shown.out.startswith("sft is better than rl by ")
    assert Path("summary.md").read_text("utf-8").startswith("- sft is better than rl by ")
    report = ElementTree.fromstring(Path("junit.xml").read_text("utf-8"))
    assert (report.get("tests"), report.get("skipped")) == ("1", "0")
    assert command("decide judged --out out2").code == 3
    assert command("decide judged --labels people --baseline rl --fail-under 0.05 --out out3").code is None
    shown = command("decide judged --labels people --baseline rl --fail-under 0.5 --junit below.xml --out out4")
    assert shown.code == 1
    assert "failed: sft was to be better than rl by 0.5 or more; the difference, corrected by labels, is +" in shown.err
    assert command("decide judged --fail-under 0 --junit open.xml --out out5").code == 1
    for name in ("below.xml", "open.xml"):  # a report that passes where the exit code fails would hide it
        report = ElementTree.fromstring(Path(name).read_text("utf-8"))
        assert (report.get("failures"), report.get("skipped"), len(report.findall("*/failure"))) == ("1", "0", 1)
        asked = "; the difference, corrected by labels, is +" if name == "below.xml" else "; that is not decided: "
        assert asked in str(report.findall("*/failure")[0].get("message"))
    told = command("decide judged --labels people --baseline rll --junit error.xml --out out6")
    assert told.code == 2
    assert "no policy is called 'rll'; choose --baseline from rl, sft" in told.err
    report = ElementTree.fromstring(Path("error.xml").read_text("utf-8"))
    assert (report.get("errors"), report.get("failures")) == ("1", "0")
    assert "no policy is called 'rll'" in str(report.findall("*/error")[0].get("message"))


def test_completions_of_several_items_are_refused_with_the_row(tmp_path: Path) -> None:
    records = [replace(judgement(f"i{place}", "rl", "sft", "win"), a="1", b="2") for place in range(4)]
    people = [HumanLabel(records[0].unit, "i0", "i0", "ann", "win")]
    judged, labelled = written(tmp_path, records, people)
    with pytest.raises(DataError, match=r"row 1: judgement of the same completions .* twice, of items 'i0' and 'i1'"):
        decide.run(judged, tmp_path / "out", labels=labelled)
    with pytest.raises(DataError, match=r"row 1: judgement .* occurs twice"):
        agree.run(judged, labelled, tmp_path / "out2")


def test_a_source_given_twice_is_refused(tmp_path: Path) -> None:
    judged, _ = written(tmp_path, [judgement("i0", "rl", "sft", "win"), judgement("i1", "rl", "sft", "win")])
    with pytest.raises(DataError, match=r"row 0: judgement .* twice, of the same item"):
        decide.run([judged, judged], tmp_path / "out")


@pytest.mark.parametrize("more", [[], ["elsewhere"]])
def test_labels_by_item_and_policies_are_those_by_unit(tmp_path: Path, more: list[str]) -> None:
    records = [judgement(f"i{place}", "rl", "sft", "win" if place % 3 else "loss") for place in range(60)]
    by_unit = [HumanLabel(one.unit, one.item, one.item, "ann", one.outcome) for one in records[:40]]
    by_item = [replace(one, unit="", policy_a="rl", policy_b="sft") for one in by_unit]
    by_item += [replace(by_item[0], item=item, group=item) for item in more]
    found = []
    for name, people in (("unit", by_unit), ("item", by_item)):
        judged, labelled = written(tmp_path / name, records, people)
        found.append(decide.run(judged, tmp_path / name / "out", labels=labelled)[1])
    assert found[0] == found[1]


def test_another_judge_of_a_part_and_scores_narrow_the_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    records, labels, strong, scores = [], [], [], []
    for place in range(1500):
        lean = rng.normal(0.2)
        record = judgement(f"i{place}", "rl", "sft", "win" if lean + rng.normal(0, 2) > 0 else "loss")
        truth = "win" if lean > 0 else "loss"
        records.append(record)
        if place % 3 == 0:  # the other way round, and with ids of its own
            said: Any = "loss" if lean + rng.normal(0, 0.3) > 0 else "win"
            strong.append(replace(judgement(record.item, "sft", "rl", said), judge="strong", a=record.b, b=record.a))
        scores += [
            Score(record.a, record.item, record.item, "rl", "r", lean + rng.normal(0, 1)),
            Score(record.b, record.item, record.item, "sft", "r", 0.0),
        ]
        if place % 9 == 0:
            labels.append(HumanLabel(record.unit, record.item, record.item, "ann", truth))  # type: ignore[arg-type]
    judged, people = written(tmp_path, records, labels)
    parquet.write(tmp_path / "strong" / "judgements.parquet", strong, Judgement)
    parquet.write(tmp_path / "scores" / "scores.parquet", scores, Score)
    widths = []
    for place, proxies in enumerate(((), ("strong",), ("scores",), ("strong", "scores"))):
        paths = [tmp_path / name for name in proxies]
        _, (found,) = decide.run(judged, tmp_path / f"out{place}", labels=people, proxies=paths)
        assert found.corrected is not None
        widths.append(found.corrected.error)
    assert max(widths[1], widths[2]) < 0.95 * widths[0]
    assert widths[3] < min(widths[1], widths[2])
    elsewhere = [replace(strong[0], a="x", b="y", item="z")]
    parquet.write(tmp_path / "other" / "judgements.parquet", elsewhere, Judgement)
    with pytest.raises(UserError, match="says nothing about what was judged"):
        decide.run(judged, tmp_path / "out9", labels=people, proxies=[tmp_path / "other"])


@pytest.mark.parametrize(("number", "said"), [(7, 7), (99.2, 100), (817.2, 820), (820, 820), (10_001, 11_000), (0, 0)])
def test_numbers_of_labels_are_rounded_up_to_two_digits(number: float, said: int) -> None:
    assert two_digits(number) == said
