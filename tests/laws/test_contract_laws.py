"""The five laws, held by every member that they are about."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from perl_eval.records import Estimate
from perl_eval.stats.agreement_coefficients import exact_agreement, fleiss_kappa, gwet_ac1, krippendorff_alpha, scott_pi
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.calibration import calibration_error
from perl_eval.stats.classification import pair_accuracy
from perl_eval.stats.correction import Sample, prediction_powered_mean, rogan_gladen
from perl_eval.stats.correlation import correlations
from perl_eval.stats.kappa import cohen_kappa
from perl_eval.stats.length import longer_preferred_rate
from perl_eval.stats.paired import paired_outcomes
from perl_eval.stats.ranking import Comparison, rank
from perl_eval.stats.ranking_quality import area_under_curve, average_precision
from perl_eval.stats.winrate import outcome_scores, win_rates, yes_rates

QUICK = Resampling(draws=60, kind="standard")
LABELS = ("win", "tie", "loss")
OUTCOMES = ("win", "loss", "split", "tie", "mixed")
Row = tuple[str, str, int]
"""What the judge said, what a person said, and a number for lengths and scores."""
rows = st.lists(
    st.tuples(st.sampled_from(OUTCOMES), st.sampled_from(OUTCOMES), st.integers(-9, 9)), min_size=4, max_size=30
)


def label(outcome: str) -> str:
    return outcome if outcome in ("win", "loss") else "tie"


def couples(data: Sequence[Row]) -> list[dict[str, str]]:
    return [{"judge": label(said), "person": label(given)} for said, given, _ in data]


def sample(data: Sequence[Row]) -> Sample:
    """Two copies of the rows: one labelled, one not."""
    said = [float(value == "win") for value, _, _ in data]
    return Sample([float(value == "win") for _, value, _ in data], said, said)


Make = Callable[[Sequence[Row]], Estimate]
RATES: dict[str, Make] = {
    **{
        name: lambda data, name=name: {e.name: e for e in win_rates([said for said, _, _ in data])}[name]
        for name in ("win rate", "win rate, undecided half", "win rate, undecided dropped", "win minus loss")
    },
    "yes rate": lambda data: yes_rates(["yes" if said == "win" else "no" for said, _, _ in data])[1],
    "longer": lambda data: longer_preferred_rate(
        outcome_scores([said for said, _, _ in data]), [10 + x for _, _, x in data], [10] * len(data)
    ),
    "PPI++": lambda data: prediction_powered_mean("rate", sample(data)),
    "Rogan-Gladen": lambda data: rogan_gladen("rate", sample(data)),
    "paired": lambda data: paired_outcomes(
        [said for said, _, _ in data], [given for _, given, _ in data], resampling=QUICK
    )[0],
    "pair accuracy": lambda data: pair_accuracy([x for _, _, x in data])[0],
}
COEFFICIENTS: dict[str, Make] = {
    "exact agreement": lambda data: exact_agreement(couples(data), LABELS),
    **{
        make.__name__: lambda data, make=make: make(couples(data), LABELS, resampling=QUICK)
        for make in (cohen_kappa, scott_pi, fleiss_kappa, gwet_ac1, krippendorff_alpha)
    },
    "AUC": lambda data: area_under_curve(
        [x for _, _, x in data], [given == "win" for _, given, _ in data], resampling=QUICK
    ),
    "average precision": lambda data: average_precision([x for _, _, x in data], [g == "win" for _, g, _ in data]),
    "calibration error": lambda data: calibration_error(
        [(x + 10) / 20 for _, _, x in data], [given == "win" for _, given, _ in data]
    ),
    **{
        name: lambda data, place=place: correlations(
            outcome_scores([said for said, _, _ in data]).tolist(), [float(x) for _, _, x in data]
        )[place]
        for place, name in enumerate(("Pearson", "Spearman", "Kendall"))
    },
}
MEMBERS = {**RATES, **COEFFICIENTS}
SMALL_SAMPLE = {"krippendorff_alpha"}
"""Its expected disagreement leaves the pair itself out, so a copy of the data is not the same data."""


FLAT = [("win", "win", 0), ("loss", "win", 0), ("loss", "win", 0), ("loss", "win", 1), ("loss", "win", -1)]
"""Without its first row the outcomes are all alike, up to rounding."""
EVEN = [*[("win", "win", 0)] * 7, ("win", "loss", -4), ("win", "loss", -3), ("win", "win", -3)]
"""Chances 0.3, 0.35 and 0.35 with one yes: a bin without a gap, up to rounding."""


@pytest.mark.parametrize("name", MEMBERS)
@settings(deadline=None, max_examples=12)
@given(rows, st.integers(0, 2**31))
@example(FLAT, 0)
@example(FLAT, 2)
@example(EVEN, 0)
@example(EVEN, 1)
@example(EVEN, 2)
def test_row_order_changes_no_member(name: str, data: list[Row], seed: int) -> None:
    shuffled = list(data)
    random.Random(seed).shuffle(shuffled)
    one, other = MEMBERS[name](data), MEMBERS[name](shuffled)
    if name in ("PPI++", "Rogan-Gladen"):  # the labelled part is the rows as they stand: shuffle both alike
        assert one.value == pytest.approx(other.value, abs=1e-9)
        return
    for x, y in ((one.value, other.value), (one.low, other.low), (one.high, other.high)):
        assert (x is None) == (y is None), (one, other)
        assert x is None or x == pytest.approx(y, abs=1e-9), (one, other)


@pytest.mark.parametrize("name", [name for name in MEMBERS if name not in SMALL_SAMPLE])
@settings(deadline=None, max_examples=12)
@given(rows)
def test_duplicated_data_keep_every_member_and_narrow_it(name: str, data: list[Row]) -> None:
    once, often = MEMBERS[name](data), MEMBERS[name](data * 4)
    assume(once.method == often.method or "Wilson" not in once.method)  # few labels of a class: another estimator
    if name == "PPI++":  # its weight is tuned with n - 1, so a little else
        assume(once.value is not None)
        assert often.value == pytest.approx(once.value, abs=0.05)
        return
    few = (once.reason or "").startswith("fewer than")
    assert (once.value is None) == (often.value is None) or once.n < 4 or few
    if once.value is None or often.value is None:
        return
    assert often.value == pytest.approx(once.value, abs=1e-9)
    if once.low is not None and often.low is not None:
        # 60 draws give the error itself an error of a tenth; four times the data halve it.
        slack = 0.02 if "bootstrap" in once.method else 1e-9
        assert often.high - often.low <= (once.high - once.low) + slack


@settings(deadline=None)
@given(rows)
def test_swapping_the_contestants_mirrors_pairing_and_ranking(data: list[Row]) -> None:
    turn = {"win": "loss", "loss": "win"}
    said, given_ = [row[0] for row in data], [row[1] for row in data]
    there = paired_outcomes(said, given_, resampling=QUICK)
    back = paired_outcomes(given_, said, resampling=QUICK)
    *gaps, test = zip(there, back, strict=True)
    assert len(gaps) == 2
    for one, other in gaps:
        assert one.value == pytest.approx(-other.value)
        assert one.low == pytest.approx(-other.high, abs=1e-9)
        assert one.high == pytest.approx(-other.low, abs=1e-9)
    assert test[0].value == test[1].value
    pairs = [Comparison("a", "b", float(score)) for score in outcome_scores(said)]
    turned = [Comparison("a", "b", float(score)) for score in outcome_scores([turn.get(x, x) for x in said])]
    one, other = rank(pairs, resampling=QUICK), rank(turned, resampling=QUICK)
    if one["a"].value is not None:
        assert one["a"].value == pytest.approx(-other["a"].value, abs=1e-6)
        assert one["a"].value == pytest.approx(other["b"].value, abs=1e-6)


@settings(deadline=None)
@given(rows)
def test_swapping_yes_and_no_mirrors_corrected_rates(data: list[Row]) -> None:
    straight = sample(data)
    turned = Sample(*([1 - value for value in part] for part in (straight.truth, straight.judged, straight.rest)))
    for make in (prediction_powered_mean, rogan_gladen):
        one, other = make("rate", straight), make("rate", turned)
        assert (one.value is None) == (other.value is None)
        if one.value is not None:
            assert one.value == pytest.approx(1 - other.value, abs=1e-9)
            assert one.low is None or one.low == pytest.approx(1 - other.high, abs=1e-9)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(LABELS), min_size=2, max_size=6),
    st.lists(st.integers(-5, 5), min_size=2, max_size=6),
)
def test_no_information_is_zero_for_every_measure_of_association(said: list[str], numbers: list[int]) -> None:
    # Every label meets every label, and every number: independent by construction.
    crossed = [{"x": x, "y": y} for x in said for y in said]
    for make in (cohen_kappa, scott_pi, fleiss_kappa):
        kappa = make(crossed, LABELS, resampling=QUICK)
        assert kappa.value is None or kappa.value == pytest.approx(0.0, abs=1e-9), make
    grid = [(float(LABELS.index(x)), float(number)) for x in said for number in numbers]
    for estimate in correlations([x for x, _ in grid], [y for _, y in grid]):
        assert estimate.value is None or estimate.value == pytest.approx(0.0, abs=1e-9)
    labelled = [(number, x == "win") for x in said for number in numbers]
    area = area_under_curve([x for x, _ in labelled], [y for _, y in labelled], resampling=QUICK)
    assert area.value is None or area.value == pytest.approx(0.5)


@settings(deadline=None)
@given(rows, st.integers(1, 5))
def test_unjudged_raise_no_rate_of_either_kind(data: list[Row], lost: int) -> None:
    said = [row[0] for row in data]
    answers = ["yes" if value == "win" else "no" for value in said]
    for make, values in ((win_rates, said), (yes_rates, answers)):
        before, after = ({e.name: e for e in make(part)} for part in (values, [*values, *["unjudged"] * lost]))
        for name, estimate in before.items():
            if "rate" not in name or "unjudged" in name or estimate.value is None:
                continue
            assert after[name].value == pytest.approx(estimate.value)
            assert after[name].n_missing == lost
