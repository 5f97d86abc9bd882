"""Laws that every figure obeys, whatever the data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perl_eval.records import Estimate
from perl_eval.stats.agreement_coefficients import agreements, cohen_kappa
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.classification import label_quality
from perl_eval.stats.diversity import diversity
from perl_eval.stats.human_panel import ceiling, human_human, human_judge
from perl_eval.stats.position_bias import position_bias
from perl_eval.stats.winrate import win_rates, yes_rates

QUICK = Resampling(draws=40)
LABELS = ("win", "tie", "loss")
OUTCOMES = ("win", "loss", "split", "tie", "mixed", "unjudged")
MIRROR = {"win": "loss", "loss": "win"}
RATES = ("win rate", "win rate, undecided half", "win rate, undecided dropped", "win minus loss")

outcomes = st.lists(st.sampled_from(OUTCOMES), max_size=40)
items = st.lists(st.tuples(st.sampled_from(OUTCOMES), st.integers(0, 6)), min_size=1, max_size=40)
unit = st.dictionaries(st.sampled_from("pqrs"), st.sampled_from(LABELS), max_size=4)
panels = st.lists(st.tuples(st.sampled_from(LABELS), unit, st.integers(0, 5)), min_size=1, max_size=25)


def named(estimates: Sequence[Estimate]) -> dict[str, Estimate]:
    return {estimate.name: estimate for estimate in estimates}


def same(one: Estimate, other: Estimate) -> None:
    for x, y in ((one.value, other.value), (one.low, other.low), (one.high, other.high)):
        assert (x is None) == (y is None), (one, other)
        assert x is None or x == pytest.approx(y, abs=1e-9), (one, other)


def sound(estimate: Estimate) -> None:
    """Whatever is defined is a number, whatever is not says why, and the interval holds the value."""
    numbers = [part for part in (estimate.value, estimate.low, estimate.high) if part is not None]
    assert all(map(math.isfinite, numbers)), estimate
    if estimate.value is None:
        assert estimate.reason, estimate
        assert estimate.low is None, estimate
    assert (estimate.low is None) == (estimate.high is None), estimate
    if estimate.low is not None and "bootstrap" not in estimate.method:
        assert estimate.low - 1e-9 <= estimate.value <= estimate.high + 1e-9, estimate
    assert estimate.n >= 0
    assert estimate.n_missing >= 0


@settings(deadline=None)
@given(items)
def test_swapping_the_contestants_mirrors_everything(data: list[tuple[str, int]]) -> None:
    clusters = [group for _, group in data]
    one = named(win_rates([outcome for outcome, _ in data], clusters=clusters))
    other = named(win_rates([MIRROR.get(outcome, outcome) for outcome, _ in data], clusters=clusters))
    same(one["win rate"], other["loss rate"])
    same(one["undecided rate"], other["undecided rate"])
    same(one["win against loss, sign test p"], other["win against loss, sign test p"])
    assert one["wins"].value == other["losses"].value
    for name, whole in (
        ("win rate, undecided half", 1.0),
        ("win rate, undecided dropped", 1.0),
        ("win minus loss", 0.0),
    ):
        here, there = one[name], other[name]
        assert (here.value is None) == (there.value is None)
        if here.value is not None:
            assert here.value == pytest.approx(whole - there.value)
        if here.low is not None:
            assert here.low == pytest.approx(whole - there.high, abs=1e-9)
            assert here.high == pytest.approx(whole - there.low, abs=1e-9)


@settings(deadline=None)
@given(outcomes)
def test_duplicated_data_keep_the_rate_and_narrow_the_interval(data: list[str]) -> None:
    once, thrice = named(win_rates(data)), named(win_rates(data * 3))
    for name in RATES:
        one, three = once[name], thrice[name]
        assert one.value == pytest.approx(three.value)
        if one.low is not None:
            assert three.high - three.low <= one.high - one.low + 1e-9


@settings(deadline=None)
@given(outcomes)
def test_items_copied_within_their_cluster_add_nothing(data: list[str]) -> None:
    clusters = list(range(len(data)))
    once, thrice = named(win_rates(data, clusters=clusters)), named(win_rates(data * 3, clusters=clusters * 3))
    for name in RATES:
        same(once[name], thrice[name])


@settings(deadline=None)
@given(items, st.randoms())
def test_the_order_of_rows_changes_nothing(data: list[tuple[str, int]], random: st.Random) -> None:
    shuffled = list(data)
    random.shuffle(shuffled)
    for how in (None, QUICK):
        before, after = (
            win_rates([outcome for outcome, _ in rows], clusters=[group for _, group in rows], resampling=how)
            for rows in (data, shuffled)
        )
        for one, other in zip(before, after, strict=True):
            same(one, other)


@settings(deadline=None)
@given(panels, st.randoms())
def test_the_order_of_units_changes_nothing(data: list[tuple[str, dict[str, str], int]], random: st.Random) -> None:
    shuffled = list(data)
    random.shuffle(shuffled)
    found = []
    for rows in (data, shuffled):
        verdicts, ratings, clusters = ([row[part] for row in rows] for part in range(3))
        found.append(
            [
                *human_human(ratings, LABELS, clusters=clusters, resampling=QUICK),
                *human_judge(verdicts, ratings, LABELS, clusters=clusters, resampling=QUICK),
                *ceiling(verdicts, ratings, clusters=clusters),
            ]
        )
    for one, other in zip(*found, strict=True):
        same(one, other)


@settings(deadline=None)
@given(outcomes, st.integers(0, 39))
def test_unjudged_never_raises_a_rate(data: list[str], place: int) -> None:
    before = named(win_rates(data))
    more = named(win_rates([*data, "unjudged"]))
    for name in RATES:
        same(before[name], more[name])
        assert more[name].n_missing == before[name].n_missing + 1
    for name in ("win rate", "win rate, undecided half"):
        low, value, high = (more[f"{name}, unjudged lost"].value, more[name].value, more[f"{name}, unjudged won"].value)
        assert low <= high
        if value is not None:
            assert low <= value + 1e-12
            assert value <= high + 1e-12
    if place < len(data) and data[place] == "win":
        lost = named(win_rates([*data[:place], "unjudged", *data[place + 1 :]]))
        for name in RATES:
            if lost[name].value is not None:
                assert lost[name].value <= before[name].value + 1e-12


@settings(deadline=None)
@given(outcomes)
def test_yes_and_no_mirror_each_other(data: list[str]) -> None:
    answers = ["yes" if outcome == "win" else "unjudged" if outcome == "unjudged" else "no" for outcome in data]
    turned = [{"yes": "no", "no": "yes"}.get(answer, answer) for answer in answers]
    same(named(yes_rates(answers))["yes rate"], named(yes_rates(turned))["no rate"])


@settings(deadline=None)
@given(items)
def test_every_figure_of_outcomes_is_sound(data: list[tuple[str, int]]) -> None:
    values, clusters = [outcome for outcome, _ in data], [group for _, group in data]
    chances = [None if outcome == "unjudged" else 0.5 for outcome in values]
    for estimate in (
        *win_rates(values, clusters=clusters, p_a=chances),
        *win_rates(values, resampling=QUICK),
        *yes_rates(["unjudged" if outcome == "unjudged" else "yes" for outcome in values], clusters=clusters),
    ):
        sound(estimate)


@settings(deadline=None)
@given(panels)
def test_every_figure_of_panels_is_sound(data: list[tuple[str, dict[str, str], int]]) -> None:
    verdicts, ratings, clusters = ([row[part] for row in data] for part in range(3))
    for estimate in (
        *human_human(ratings, LABELS, clusters=clusters, resampling=QUICK),
        *human_judge(verdicts, ratings, LABELS, resampling=QUICK),
        *ceiling(verdicts, ratings, clusters=clusters),
    ):
        sound(estimate)
        if estimate.value is not None:
            assert estimate.value <= 1 + 1e-9


verdict = st.sampled_from(("first", "second", "tie"))


@settings(deadline=None)
@given(st.lists(st.none() | st.tuples(verdict, verdict), max_size=30))
def test_swapping_positions_mirrors_position_bias(pairs: list[tuple[str, str] | None]) -> None:
    turn = {"first": "second", "second": "first", "tie": "tie"}
    turned = [None if pair is None else (turn[pair[0]], turn[pair[1]]) for pair in pairs]
    one, other = named(position_bias(pairs, resampling=QUICK)), named(position_bias(turned, resampling=QUICK))
    for estimate in one.values():
        sound(estimate)
    assert one["first in both orders"].value == other["second in both orders"].value
    for name in ("position test p", "consistency"):
        same(one[name], other[name])
    if one["kappa between orders"].value is not None:
        assert one["kappa between orders"].value == pytest.approx(other["kappa between orders"].value)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(LABELS), min_size=2, max_size=12),
    st.lists(st.sampled_from(LABELS), min_size=2, max_size=12),
)
def test_no_information_means_kappa_zero(one: list[str], other: list[str]) -> None:
    # Every label of one rater meets every label of the other: independent by construction.
    units = [{"x": x, "y": y} for x in one for y in other]
    kappa = cohen_kappa(units, LABELS, resampling=QUICK)
    assert kappa.value is None or kappa.value == pytest.approx(0.0, abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.sampled_from(LABELS), min_size=2, max_size=30).filter(lambda labels: len(set(labels)) > 1))
def test_perfect_agreement_is_one(labels: list[str]) -> None:
    for estimate in agreements([{"x": label, "y": label} for label in labels], LABELS, resampling=QUICK):
        assert estimate.value == pytest.approx(1.0)


scored = st.lists(st.tuples(st.floats(-20, 20), st.booleans()), max_size=30)


@settings(deadline=None)
@given(scored)
def test_reward_figures_are_sound_and_auc_mirrors(data: list[tuple[float, bool]]) -> None:
    scores, labels = [score for score, _ in data], [label for _, label in data]
    found = named(label_quality(scores, labels, resampling=QUICK))
    for estimate in found.values():
        sound(estimate)
    turned = named(label_quality([-score for score in scores], labels, resampling=QUICK))
    if found["AUC"].value is not None:
        assert found["AUC"].value == pytest.approx(1 - turned["AUC"].value)


@settings(deadline=None)
@given(st.lists(st.tuples(st.text("ab ", max_size=12), st.sampled_from("pq")), max_size=12))
def test_diversity_is_sound(data: list[tuple[str, str]]) -> None:
    for estimate in diversity([text for text, _ in data], [item for _, item in data]):
        sound(estimate)
        if estimate.value is not None and estimate.name != "entropy":
            assert -1e-12 <= estimate.value <= 1 + 1e-12
