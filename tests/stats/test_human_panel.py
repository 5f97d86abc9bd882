"""A judge beside people, on a panel small enough to count by hand."""

from __future__ import annotations

import pytest
from sklearn.metrics import cohen_kappa_score

from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.human_panel import ceiling, human_human, human_judge, majority, one_by_one

LABELS = ("win", "tie", "loss")
QUICK = Resampling(draws=50)
PANEL = [
    {"p": "win", "q": "win", "r": "loss"},
    {"p": "win", "q": "win"},
    {"p": "loss", "q": "tie", "r": "loss"},
    {"q": "tie"},
]
VERDICTS = ["win", "loss", "loss", "tie"]


def named(estimates: list[Estimate]) -> dict[str, Estimate]:
    assert len({estimate.name for estimate in estimates}) == len(estimates)
    return {estimate.name: estimate for estimate in estimates}


def test_majority() -> None:
    assert majority(PANEL[0]) == ("win",)
    assert majority({"p": "win", "q": "loss"}) == ("loss", "win")
    assert majority({}) == ()


def test_people_among_themselves() -> None:
    found = named(human_human(PANEL, LABELS, resampling=QUICK))
    # Pairs that agree: 1 of 3, 1 of 1, 1 of 3; the last unit has no pair.
    exact = found["human-human exact agreement"]
    assert exact.value == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)
    assert (exact.n, exact.n_missing) == (3, 1)
    # A tie against a loss is dropped twice in the third unit, or earns a half twice.
    assert found["human-human exact agreement, ties dropped"].value == pytest.approx((1 / 3 + 1 + 1) / 3)
    assert found["human-human exact agreement, ties half"].value == pytest.approx((1 / 3 + 1 + 2 / 3) / 3)


def test_judge_against_people() -> None:
    found = named(human_judge(VERDICTS, PANEL, LABELS, resampling=QUICK))
    # Equal to the judge: 2 of 3, 0 of 2, 2 of 3, 1 of 1.
    assert found["human-judge exact agreement"].value == pytest.approx((2 / 3 + 0 + 2 / 3 + 1) / 4)
    # Majorities: win, win, loss, tie; the judge misses the second.
    assert found["human-judge exact agreement, majority"].value == pytest.approx(3 / 4)
    kappa = cohen_kappa_score(VERDICTS, ["win", "win", "loss", "tie"])
    assert found["human-judge Cohen kappa, majority"].value == pytest.approx(kappa)
    assert found["human-judge Cohen kappa"].n == 9  # couples of judge and person


def test_a_tied_majority_shares_the_credit() -> None:
    found = named(human_judge(["win"], [{"p": "win", "q": "loss"}], LABELS, resampling=QUICK))
    assert found["human-judge exact agreement, majority"].value == pytest.approx(0.5)
    assert found["human-judge Cohen kappa, majority"].value is None
    assert found["human-judge Cohen kappa, majority"].n_missing == 1


def test_ceiling_leaves_one_person_out() -> None:
    human, judge, gap = ceiling(VERDICTS, PANEL)
    # Unit 0: rests of p, q, r are {win, loss}, {win, loss}, {win}: people earn 1/2 + 1/2 + 0, the judge 1/2 + 1/2 + 1.
    # Unit 1: 1 + 1 and 0 + 0.
    # Unit 2: rests {tie, loss}, {loss}, {loss, tie}: people 1/2 + 0 + 1/2, the judge 1/2 + 1 + 1/2.
    assert human.value == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)
    assert judge.value == pytest.approx((2 / 3 + 0 + 2 / 3) / 3)
    assert gap.value == pytest.approx(judge.value - human.value)
    assert {part.n for part in (human, judge, gap)} == {3}
    assert {part.n_missing for part in (human, judge, gap)} == {1}
    assert ceiling(["win"], [{"p": "win"}])[0].reason == "no unit has two labels"


def test_one_by_one() -> None:
    found = one_by_one(VERDICTS, PANEL)
    assert {name: estimate.value for name, estimate in found.items()} == {
        "p": pytest.approx(2 / 3),
        "q": pytest.approx(2 / 4),
        "r": pytest.approx(1 / 2),
    }


def test_units_with_their_couples_are_resampled() -> None:
    # Ten people who copy each other add nothing: the interval of kappa is that with one of them.
    verdicts = ["win", "loss", "tie", "win", "loss"] * 8
    labels = ["win", "win", "tie", "win", "loss"] * 8
    one = human_judge(verdicts, [{"p": label} for label in labels], LABELS, resampling=QUICK)
    ten = human_judge(verdicts, [{f"p{i}": label for i in range(10)} for label in labels], LABELS, resampling=QUICK)
    for single, copied in zip(one, ten, strict=True):
        if single.value is not None and "majority" not in single.name:
            assert copied.value == pytest.approx(single.value, abs=0.01)  # alpha corrects for the number of labels
            assert copied.high - copied.low == pytest.approx(single.high - single.low, rel=0.35), single.name
