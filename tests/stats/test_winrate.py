"""Win rates and position bias against hand-counted examples."""

from __future__ import annotations

import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.proportion import proportion_confint

from perl_eval.records import Ballot, Estimate
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.position_bias import position_bias, verdicts
from perl_eval.stats.winrate import outcome_scores, sign_test, tally, win_rates, yes_rates

OUTCOMES = ["win"] * 10 + ["loss"] * 5 + ["split"] * 4 + ["tie"] * 2 + ["mixed"] * 3 + ["unjudged"] * 6


def named(estimates: list[Estimate]) -> dict[str, Estimate]:
    assert len({estimate.name for estimate in estimates}) == len(estimates)
    return {estimate.name: estimate for estimate in estimates}


def test_outcomes_are_counted_apart() -> None:
    counts = tally(OUTCOMES)
    assert (counts.wins, counts.losses, counts.splits, counts.ties, counts.mixed) == (10, 5, 4, 2, 3)
    assert (counts.judged, counts.undecided, counts.unjudged) == (24, 9, 6)
    with pytest.raises(ValueError, match="'yes'"):
        tally(["win", "yes"])


def test_rates_are_over_judged_pairs() -> None:
    found = named(win_rates(OUTCOMES))
    # By hand: 10 / 24, (10 + 4.5) / 24, 10 / 15, (10 - 5) / 24.
    assert found["win rate"].value == pytest.approx(10 / 24)
    assert found["win rate, undecided half"].value == pytest.approx(14.5 / 24)
    assert found["win rate, undecided dropped"].value == pytest.approx(10 / 15)
    assert found["win minus loss"].value == pytest.approx(5 / 24)
    assert found["win against loss, sign test p"].value == pytest.approx(stats.binomtest(10, 15).pvalue)
    assert {found[name].n for name in ("win rate", "loss rate", "win rate, undecided half")} == {24}
    assert {found[name].n_missing for name in ("win rate", "loss rate", "win rate, undecided half")} == {6}
    rate = found["win rate"]
    assert (rate.low, rate.high) == pytest.approx(proportion_confint(10, 24, method="wilson"))
    half = found["win rate, undecided half"]
    expected = stats.ttest_1samp(outcome_scores(OUTCOMES[:24]), 0).confidence_interval(0.95)
    assert (half.low, half.high) == pytest.approx((expected.low, expected.high), abs=0.02)  # Wilson's at its size


def test_the_unjudged_bound_every_rate() -> None:
    found = named(win_rates(OUTCOMES))
    assert found["win rate, unjudged lost"].value == pytest.approx(10 / 30)
    assert found["win rate, unjudged won"].value == pytest.approx(16 / 30)
    assert found["win rate, undecided half, unjudged lost"].value == pytest.approx(14.5 / 30)
    assert found["win rate, undecided half, unjudged won"].value == pytest.approx(20.5 / 30)
    answers = named(yes_rates(["yes", "yes", "no", "unjudged"]))
    assert answers["yes rate"].value == pytest.approx(2 / 3)
    assert answers["no rate"].value == pytest.approx(1 / 3)
    assert answers["no rate, unjudged no"].value == pytest.approx(2 / 4)
    assert answers["no rate, unjudged yes"].value == pytest.approx(1 / 4)
    assert answers["yes rate, unjudged yes"].value == pytest.approx(3 / 4)


def test_probabilities_give_a_soft_rate() -> None:
    found = named(win_rates(["win", "loss", "tie", "unjudged"], p_a=[0.9, 0.2, 0.5, None]))
    soft = found["win rate, from probabilities"]
    assert soft.value == pytest.approx(1.6 / 3)
    assert (soft.n, soft.n_missing) == (3, 1)
    none = named(win_rates(["win", "loss"], p_a=[None, None]))["win rate, from probabilities"]
    assert none.value is None
    assert none.reason == "the judge gave no probabilities"


def test_the_bootstrap_can_make_every_interval() -> None:
    found = named(win_rates(OUTCOMES * 4, resampling=Resampling(draws=200)))
    assert "bootstrap" in found["win rate"].method
    assert found["win rate"].value == pytest.approx(10 / 24)


def test_nothing_judged_is_undefined_not_zero() -> None:
    found = named(win_rates(["unjudged"] * 3))
    assert found["win rate"].value is None
    assert found["win rate"].n_missing == 3
    assert found["win rate, unjudged won"].value == 1.0
    assert found["win rate, unjudged lost"].value == 0.0
    assert named(win_rates([]))["win rate"].reason == "there are no items"
    assert sign_test([]).reason == "no pair was decided"
    with pytest.raises(ValueError, match="'maybe'"):
        yes_rates(["maybe"])


FF, SS, AA, BB = ("first", "first"), ("second", "second"), ("first", "second"), ("second", "first")


def test_position_bias_by_hand() -> None:
    pairs = [FF] * 9 + [SS] * 2 + [AA] * 12 + [BB] * 6 + [("tie", "first")] + [None] * 3
    found = named(position_bias(pairs))
    assert found["first in both orders"].value == 9
    assert found["second in both orders"].value == 2
    assert found["position test p"].value == pytest.approx(stats.binomtest(9, 11).pvalue)
    assert found["consistency"].value == pytest.approx(19 / 30)
    assert found["position preference"].value == pytest.approx(7 / 30)
    one = ["a"] * 9 + ["b"] * 2 + ["a"] * 12 + ["b"] * 6 + ["tie"]
    other = ["b"] * 9 + ["a"] * 2 + ["a"] * 12 + ["b"] * 6 + ["b"]
    assert found["kappa between orders"].value == pytest.approx(cohen_kappa_score(one, other))
    assert {estimate.n for name, estimate in found.items() if "test" not in name} == {30}
    assert {estimate.n_missing for estimate in found.values()} == {3}


def test_a_judge_without_positions_has_no_position_bias() -> None:
    for estimate in position_bias([None, None], positional=False):
        assert estimate.value is None
        assert estimate.reason == "the judge sees no positions"
    assert position_bias([None])[0].reason == "no pair has a verdict in both orders"


def test_verdicts_need_both_orders() -> None:
    assert verdicts([Ballot("ab", "first"), Ballot("ba", "tie")]) == ("first", "tie")
    assert verdicts([Ballot("ab", "first"), Ballot("ba", None, reason="no parse")]) is None
    assert verdicts([Ballot("none", "first")]) is None
    assert verdicts([Ballot("ab", None), Ballot("ba", "first"), Ballot("ab", "second")]) == ("second", "first")
