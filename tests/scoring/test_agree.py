"""The verb `agree`: judgements beside human labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from contests import pair_judged
from sklearn.metrics import cohen_kappa_score

from perl_eval.errors import OptionError, UserError
from perl_eval.records import Estimate, HumanLabel, Judgement, unit_of
from perl_eval.scoring import agree
from perl_eval.stats.bootstrap import Resampling
from perl_eval.storage import parquet, run_folder

LABELS = ["win", "win", "loss", "tie", "tie", "win"]
OUTCOMES = ["win", "loss", "loss", "split", "mixed", "unjudged"]


def label(place: int, label: str, person: str = "ann", unit: str = "", simulated: bool = False) -> HumanLabel:
    unit = unit or unit_of(f"a{place}", f"b{place}")
    return HumanLabel(unit, f"i{place}", f"g{place}", person, label, simulated)


JUDGED = [pair_judged(place, outcome) for place, outcome in enumerate(OUTCOMES)]
GIVEN = [label(place, given) for place, given in enumerate(LABELS)]


def agreed(folder: Path, judged: list[Judgement], given: list[HumanLabel]) -> dict[tuple[str, str], Estimate]:
    parquet.write(folder / "judgements.parquet", judged, Judgement)
    parquet.write(folder / "labels.parquet", given, HumanLabel)
    out = agree.run(
        folder / "judgements.parquet",
        folder / "labels.parquet",
        folder / "out",
        options=agree.AgreeOptions(Resampling(50)),
    )
    estimates = run_folder.read(out, Estimate)
    found = {(estimate.subject, estimate.name): estimate for estimate in estimates}
    assert len(found) == len(estimates)
    return found


def test_a_judge_beside_one_person(tmp_path: Path) -> None:
    found = agreed(tmp_path, JUDGED, GIVEN)
    judge = "judge scripted"
    # Judged units: win-win, loss-win, loss-loss, split-tie, mixed-tie.
    exact = found[judge, "human-judge exact agreement"]
    assert exact.value == pytest.approx(4 / 5)
    assert (exact.n, exact.n_missing) == (5, 1)
    kappa = cohen_kappa_score(["win", "loss", "loss", "tie", "tie"], LABELS[:5])
    assert found[judge, "human-judge Cohen kappa"].value == pytest.approx(kappa)
    assert found[judge, "labelled units unjudged"].value == 1
    alone = found[judge, "human-human exact agreement"]
    assert (alone.value, alone.reason) == (None, "no unit has two labels")
    assert found["judge scripted, person ann", "human-judge exact agreement, one person"].value == pytest.approx(0.8)


def test_people_among_themselves_stand_beside(tmp_path: Path) -> None:
    given = [label(p, given, person) for person in ("ann", "bob") for p, given in enumerate(LABELS)]
    given += [label(p, "tie", "cas") for p in range(6)]
    found = agreed(tmp_path, JUDGED, given)
    # On the five judged units cas agrees with ann and bob on two: (1/3 * 3 + 1 * 2) / 5; with the judge on two.
    assert found["judge scripted", "human-human exact agreement"].value == pytest.approx(3 / 5)
    assert found["judge scripted", "human-judge exact agreement"].value == pytest.approx(
        (3 * 2 / 3 + 2) / 5 - 2 / 3 / 5
    )
    assert found["judge scripted", "people"].value == 3
    assert found["judge scripted", "human-human Krippendorff alpha"].value is not None


def test_labels_of_the_pair_the_other_way_round_are_mirrored(tmp_path: Path) -> None:
    turned = [
        label(p, {"win": "loss", "loss": "win"}.get(x, x), unit=unit_of(f"b{p}", f"a{p}")) for p, x in enumerate(LABELS)
    ]
    straight, mirrored = agreed(tmp_path / "a", JUDGED, GIVEN), agreed(tmp_path / "b", JUDGED, turned)
    assert straight == mirrored


def test_the_last_label_of_a_person_counts(tmp_path: Path) -> None:
    found = agreed(tmp_path, JUDGED, [label(1, "win"), *GIVEN[:1], label(1, "loss"), *GIVEN[2:]])
    assert found["judge scripted", "human-judge exact agreement"].value == pytest.approx(1.0)
    assert found["judge scripted", "labels overridden"].value == 1


def test_yes_or_no(tmp_path: Path) -> None:
    answers = ["yes", "yes", "no", "no", "unjudged"]
    chances = [0.9, 0.6, 0.7, 0.1, None]
    people = ["yes", "yes", "yes", "no", "yes"]
    judged = [
        pair_judged(p, answer, kind="yes_no", b="", policy_b="", p_a=chance)
        for p, (answer, chance) in enumerate(zip(answers, chances, strict=True))
    ]
    given = [label(p, answer, unit=unit_of(f"a{p}")) for p, answer in enumerate(people)]
    found = agreed(tmp_path, judged, given)
    assert found["judge scripted", "human-judge exact agreement"].value == pytest.approx(3 / 4)
    assert found["judge scripted", "human-judge AUC, majority"].value == pytest.approx(1.0)
    assert ("judge scripted", "human-judge exact agreement, ties half") not in found


def test_judges_are_kept_apart_and_simulation_is_said(tmp_path: Path) -> None:
    other = [replace(record, judge="reward", outcome="win", simulated=True) for record in JUDGED]
    found = agreed(tmp_path, [*JUDGED, *other], GIVEN)
    assert found["judge reward", "human-judge exact agreement"].value == pytest.approx(3 / 6)
    assert found["judge reward", "units compared"].simulated
    assert not found["judge scripted", "units compared"].simulated
    card = run_folder.read_card(tmp_path / "out")
    assert card is not None
    assert card.simulated


def test_labels_of_other_units_or_questions_are_refused(tmp_path: Path) -> None:
    stranger = label(0, "win", unit=unit_of("x", "y"))
    with pytest.raises(UserError, match=f"{JUDGED[0].unit}.*{stranger.unit}"):
        agreed(tmp_path / "a", JUDGED, [stranger])
    with pytest.raises(UserError, match="labelled 'yes'"):
        agreed(tmp_path / "b", JUDGED, [label(0, "yes")])
    with pytest.raises(OptionError, match="epsilon is 1"):
        agree.AgreeOptions(epsilon=1)


def test_a_labelled_part_corrects_the_rate_of_all(tmp_path: Path) -> None:
    # The judge calls every fifth loss a win; people labelled every third pair.
    truth = ["win" if place % 2 else "loss" for place in range(240)]
    said = ["win" if place % 10 == 0 else outcome for place, outcome in enumerate(truth)]
    judged = [pair_judged(place, outcome) for place, outcome in enumerate(said)]
    given = [label(place, truth[place]) for place in range(0, 240, 3)]
    found = agreed(tmp_path, judged, given)
    subject = "rl against sft, judge scripted"
    for rate in ("win rate, undecided half, corrected by PPI++", "win rate, corrected by Rogan-Gladen"):
        corrected = found[subject, rate]
        assert corrected.value == pytest.approx(0.5, abs=0.01)  # the judge alone says 0.6
        assert corrected.low < 0.5 < corrected.high < 0.65
        assert corrected.n == 240
    # Where every pair is labelled there is nothing to correct.
    whole = agreed(tmp_path / "whole", judged, [label(place, given) for place, given in enumerate(truth)])
    assert not any("corrected" in name for _, name in whole)


def test_the_alternative_annotator_test_is_among_the_figures(tmp_path: Path) -> None:
    truth = ["win" if place % 2 else "loss" for place in range(40)]
    judged = [pair_judged(place, outcome) for place, outcome in enumerate(truth)]
    given = [
        label(place, "tie" if place % 4 == shift else outcome, person)
        for shift, person in enumerate(("ann", "bob", "cas"))
        for place, outcome in enumerate(truth)
    ]
    found = agreed(tmp_path, judged, given)
    assert found["judge scripted", "alt-test winning rate"].value == 1.0
    assert found["judge scripted", "alt-test advantage"].value == 1.0
    alone = agreed(tmp_path / "alone", JUDGED, GIVEN)
    assert alone["judge scripted", "alt-test winning rate"].reason == "no person shares 30 units with others"
