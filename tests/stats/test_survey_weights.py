"""Samples with unequal probabilities: the draw has the probabilities it says, and estimates stay unbiased."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from perl_eval.errors import UserError
from perl_eval.metrics.agreement import estimate_agreement
from perl_eval.records import Estimate, HumanLabel, Judgement, unit_of
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.corrected_difference import Differences, corrected_difference
from perl_eval.stats.correction import Sample, prediction_powered_mean
from perl_eval.stats.survey_weights import (
    WeightedSample,
    draw,
    inclusion_probabilities,
    weighted_mean,
    weighted_prediction_powered_mean,
)


def test_probabilities_by_hand() -> None:
    # Shares of 3 by size 1 1 1 10 2: 10/15 * 3 = 2 is above 1, so it is taken, and 2 are left for 1 1 1 2.
    assert inclusion_probabilities([1, 1, 1, 10, 2], 3) == pytest.approx([0.4, 0.4, 0.4, 1.0, 0.8])
    assert inclusion_probabilities([5, 5], 2) == pytest.approx([1, 1])


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30), st.data())
@settings(deadline=None)
def test_probabilities_sum_to_the_number_and_so_many_are_drawn(sizes: list[float], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(sizes)))
    found = inclusion_probabilities(sizes, n)
    assert found.sum() == pytest.approx(n)
    assert ((found > 0) & (found <= 1)).all()
    order = np.argsort(sizes, kind="stable")
    assert (np.diff(found[order]) >= -1e-12).all()  # a larger item is never less likely
    places = draw(found, np.random.default_rng(data.draw(st.integers(0, 99))))
    assert len(places) == len(set(places.tolist())) == n


def test_the_draw_has_the_probabilities_it_says() -> None:
    found = inclusion_probabilities([1, 1, 2, 3, 5, 8, 13], 3)
    rng, counts, runs = np.random.default_rng(0), np.zeros(7), 20_000
    for _ in range(runs):
        counts[draw(found, rng)] += 1
    # The standard error of each share is at most sqrt(1/4 / 20000) = 0.0035.
    assert counts / runs == pytest.approx(found, abs=0.012)


@pytest.mark.parametrize(("sizes", "n"), [([1, 0], 1), ([1, -1], 1), ([1, float("nan")], 1), ([1, 1], 0), ([1], 2)])
def test_impossible_designs_are_refused(sizes: list[float], n: int) -> None:
    with pytest.raises(ValueError, match=r"every size|cannot draw"):
        inclusion_probabilities(sizes, n)


def test_equal_weights_are_ppi() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random(1000) < 0.6
    judged = np.where(rng.random(1000) < 0.85, truth, ~truth).astype(float)
    places = rng.choice(1000, 150, replace=False)
    rest = np.setdiff1d(np.arange(1000), places)
    weighted = weighted_prediction_powered_mean(
        "rate", WeightedSample(judged.tolist(), places.tolist(), truth[places].astype(float).tolist(), [3.0] * 150)
    )
    plain = prediction_powered_mean(
        "rate", Sample(truth[places].astype(float).tolist(), judged[places].tolist(), judged[rest].tolist())
    )
    assert (weighted.value, weighted.low, weighted.high) == pytest.approx(
        (plain.value, plain.low, plain.high), abs=0.002
    )


@pytest.mark.parametrize("sizes", [(4,) * 250, (1, 2, 3, 10) * 60])
def test_of_whole_groups_it_is_what_decide_would_say(sizes: tuple[int, ...]) -> None:
    rng, groups = np.random.default_rng(4), np.repeat(np.arange(len(sizes)), sizes)
    truth = (rng.random(len(sizes)) < 0.6)[groups] ^ (rng.random(len(groups)) < 0.15)
    judged = np.where(rng.random(len(groups)) < 0.8, truth, ~truth).astype(float)
    places = np.flatnonzero(np.isin(groups, rng.choice(len(sizes), 40, replace=False)))
    given, weights = truth[places].astype(float), rng.choice([1.0, 2.0], len(places))
    rate = weighted_prediction_powered_mean(
        "rate", WeightedSample(judged.tolist(), places.tolist(), given.tolist(), weights.tolist(), groups.tolist())
    )
    other = corrected_difference(Differences(judged[:, None], places, given, weights, groups))
    assert other is not None
    assert rate.value == pytest.approx(other.value)
    assert (rate.low, rate.high) == pytest.approx(other.interval(0.95), abs=0.001)


@pytest.mark.parametrize("figure", ["rate", "agreement"])
def test_whole_groups_of_unequal_size_are_not_taken_for_so_many_labels(figure: str) -> None:
    """Intervals with the number of groups less one degrees of freedom hold the truth in 0.85 of such draws."""
    rng, sizes = (
        np.random.default_rng(12),
        np.ceil(2 * np.exp(1.2 * norm.ppf((np.arange(200) + 0.5) / 200))).astype(int),
    )
    groups, held, runs = np.repeat(np.arange(200), sizes), 0, 400
    for _ in range(runs):
        truth = (rng.random(200) < 0.6)[groups] ^ (rng.random(len(groups)) < 0.2)
        judged = np.where(rng.random(len(groups)) < 0.8, truth, ~truth)
        order = rng.permutation(200)
        taken = order[: int(np.searchsorted(np.cumsum(sizes[order]), 100)) + 1]
        places = np.flatnonzero(np.isin(groups, taken))
        if figure == "rate":
            given = truth[places].astype(float).tolist(), [1.0] * len(places), groups.tolist()
            found = weighted_prediction_powered_mean("", WeightedSample(judged.astype(float), places.tolist(), *given))
            wanted = 0.6 * 0.8 + 0.4 * 0.2
        else:
            alike = truth[places].astype(float)
            found = weighted_mean("", alike.tolist(), [1.0] * len(places), clusters=groups[places].tolist())
            wanted = 0.6 * 0.8 + 0.4 * 0.2
        assert found.low is not None
        assert found.high is not None
        held += found.low <= wanted <= found.high
    assert held / runs >= 0.93


def test_a_census_gives_the_mean_itself() -> None:
    # Everything labelled with equal weights: lam (mean f - mean f) + mean y, whatever lam is.
    truth = [1.0, 0.0, 1.0, 1.0, 0.5, 0.0, 1.0, 0.0]
    sample = WeightedSample([0.3, 0.9, 0.1, 0.2, 0.8, 0.4, 0.4, 0.0], range(8), truth, [1.0] * 8)
    assert weighted_prediction_powered_mean("rate", sample).value == pytest.approx(sum(truth) / 8)


def world(rng: np.random.Generator, groups: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return truths, verdicts and doubts of 1,500 items: the judge errs more often the more it doubts."""
    n = 1500 // groups
    doubt = np.repeat(rng.beta(1, 3, n), groups)
    truth = (rng.random(n * groups) < 0.7).astype(float)
    wrong = rng.random(n * groups) < 0.02 + 0.48 * doubt
    # Where it errs it says yes: its own rate is too high, and worst where the sample looks hardest.
    return truth, np.where(wrong, 1.0, truth), doubt


@pytest.mark.parametrize("groups", [1, 3])
def test_corrected_rates_are_unbiased_when_doubtful_items_are_drawn_more_often(groups: int) -> None:
    rng, runs, n = np.random.default_rng(7), 800, 200
    values, naive, judges, covered = [], [], [], 0
    for _ in range(runs):
        truth, judged, doubt = world(rng, groups)
        share = inclusion_probabilities(0.1 + doubt, n)
        places = draw(share, rng)
        clusters = None if groups == 1 else np.repeat(np.arange(1500 // groups), groups).tolist()
        found = weighted_prediction_powered_mean(
            "rate",
            WeightedSample(
                judged.tolist(), places.tolist(), truth[places].tolist(), (1 / share[places]).tolist(), clusters
            ),
        )
        assert found.value is not None
        assert found.low is not None
        assert found.high is not None
        values.append(found.value - 0.7)
        covered += found.low <= 0.7 <= found.high
        rest = np.setdiff1d(np.arange(len(judged)), places)
        plain = Sample(truth[places].tolist(), judged[places].tolist(), judged[rest].tolist())
        naive.append(float(prediction_powered_mean("rate", plain).value or 0) - 0.7)
        judges.append(judged.mean() - 0.7)
    error = np.std(values) / np.sqrt(runs)
    assert abs(np.mean(values)) < 3 * error
    assert np.mean(judges) > 0.03  # what is corrected
    assert abs(np.mean(naive)) > 10 * error  # and what forgetting the weights would give
    assert 0.93 <= covered / runs <= 0.985


def test_drawing_by_doubt_needs_fewer_labels_where_doubt_tells_of_errors() -> None:
    # A calibrated judge: it says p, and errs with probability min(p, 1 - p); sizes are sqrt(p (1 - p)).
    rng, spreads = np.random.default_rng(11), {}
    for name in ("doubt", "random"):
        errors = []
        for _ in range(400):
            chance = rng.beta(0.3, 0.3, 1500)
            truth, judged = (rng.random(1500) < chance).astype(float), (chance > 0.5).astype(float)
            sizes = 0.05 + np.sqrt(chance * (1 - chance)) if name == "doubt" else np.ones(1500)
            share = inclusion_probabilities(sizes, 200)
            places = draw(share, rng)
            sample = WeightedSample(
                judged.tolist(), places.tolist(), truth[places].tolist(), (1 / share[places]).tolist()
            )
            errors.append(float(weighted_prediction_powered_mean("rate", sample).value or 0) - truth.mean())
        spreads[name] = np.std(errors)
    # The variances are as E[size] E[error / size] to E[error] (the judge's weight being 1): deviations as 0.82 to 1.
    assert spreads["doubt"] < 0.9 * spreads["random"]


def test_weighted_mean_by_hand() -> None:
    # (4 * 1 + 1 * 0 + 1 * 0) / 6; influences 4/6 * 1/3, 1/6 * -2/3 twice, and 1 and -1 of 2 + 2 for effectively 2:
    # variance 3/2 * ((4 + 1 + 1) / 81 + 2 / (2 + 2)^2).
    found = weighted_mean("agreement", [1.0, 0.0, 0.0], [8.0, 2.0, 2.0], level=0.5)
    assert found.value == pytest.approx(2 / 3)
    assert found.low == pytest.approx(2 / 3 - 0.816497 * np.sqrt(1.5 * (6 / 81 + 2 / 16)), abs=1e-6)  # t(2) at 75 %
    assert found.high == 1.0


def test_a_rare_class_gets_an_interval_with_width() -> None:
    # All 40 labels say yes: weights 1 and 3 in equal numbers have (20 + 60)^2 / (20 + 180) = 32 effective.
    sample = WeightedSample([1.0] * 400, range(40), [1.0] * 40, [1.0, 3.0] * 20)
    found = weighted_prediction_powered_mean("rate", sample)
    assert (found.value, found.high) == pytest.approx((1.0, 1.0))
    assert found.low == pytest.approx(1 / (1 + 1.959964**2 / 32), abs=1e-6)  # Wilson at p = 1
    assert found.method == "weighted rate, Wilson at 32 effective"


def test_samples_that_cannot_be() -> None:
    assert weighted_prediction_powered_mean("rate", WeightedSample([1.0], [0], [1.0], [1.0])).value is None
    for weights in ([0.0, 1.0], [float("inf"), 1.0]):
        with pytest.raises(ValueError, match="every weight"):
            WeightedSample([1.0, 0.0], [0, 1], [1.0, 0.0], weights)
    with pytest.raises(ValueError, match="2 places, 1 scores"):
        WeightedSample([1.0, 0.0], [0, 1], [1.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="of all items"):
        WeightedSample([1.0, 0.0], [0], [1.0], [1.0], ["g"])


# ------------------------------------------------------------------------------------------ weights that labels carry


def judged(place: int, outcome: str) -> Judgement:
    names = {"id": f"j{place}", "item": f"i{place}", "group": f"g{place}", "dataset": "d", "a": f"a{place}"}
    return Judgement(
        **names, kind="pairwise", b=f"b{place}", policy_a="rl", policy_b="sft", prompt=(), text_a="", text_b="",
        outcome=outcome, ballots=(), judge="chat", prompt_sha256="", simulated=False,
    )  # fmt: skip


def labelled(place: int, given: str, weight: float, *, turned: bool = False) -> HumanLabel:
    pair = (f"b{place}", f"a{place}") if turned else (f"a{place}", f"b{place}")
    return HumanLabel(unit_of(*pair), f"i{place}", f"g{place}", "ann", given, weight=weight)


def agreed(judgements: list[Judgement], labels: list[HumanLabel]) -> dict[str, Estimate]:
    return {e.name: e for e in estimate_agreement(judgements, labels, resampling=Resampling(draws=20))}


# 100 pairs: the judge calls 80 wins (people agree) and 20 splits (people say loss). Every split is labelled, with
# weight 1, and 16 wins are, with weight 5.
PAIRS = [judged(place, "win" if place < 80 else "split") for place in range(100)]
DRAWN = [labelled(place, "win", 5.0) for place in range(16)] + [
    labelled(80 + place, "loss", 1.0) for place in range(20)
]


def test_agreement_and_corrected_rates_use_the_weights_that_labels_carry() -> None:
    found = agreed(PAIRS, DRAWN)
    assert found["win rate, undecided half, corrected by PPI++"].value == pytest.approx(0.8)
    assert found["win rate, undecided half, corrected by PPI++"].method.startswith("weighted")
    assert found["human-judge exact agreement"].value == pytest.approx(16 / 36)
    assert found["human-judge exact agreement, weighted to all units"].value == pytest.approx(0.8)
    assert not any("Rogan-Gladen" in name for name in found)


def test_the_same_pair_the_other_way_round_keeps_its_weight() -> None:
    turned = [labelled(place, "loss", 5.0, turned=True) for place in range(16)] + DRAWN[16:]
    rate = "win rate, undecided half, corrected by PPI++"
    assert agreed(PAIRS, turned)[rate] == agreed(PAIRS, DRAWN)[rate]


def test_equal_weights_change_nothing() -> None:
    labels = [replace(label, weight=1.0) for label in DRAWN]
    assert agreed(PAIRS, labels) == agreed(PAIRS, [replace(label, weight=2.5) for label in DRAWN])
    assert "human-judge exact agreement, weighted to all units" not in agreed(PAIRS, labels)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_weights_that_mean_nothing_are_refused(weight: float) -> None:
    with pytest.raises(UserError, match=r"has weight .*; give a number above 0"):
        agreed(PAIRS, [*DRAWN, labelled(17, "win", weight)])


def test_two_weights_of_one_unit_are_refused() -> None:
    with pytest.raises(UserError, match=r"weigh 5.0 and 2.0; give labels of one drawing"):
        agreed(PAIRS, [*DRAWN, replace(DRAWN[0], annotator="bob", weight=2.0)])
