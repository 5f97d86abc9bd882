"""Planning: formulas by hand, and what they promise by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from perl_eval.stats.intervals import wilson
from perl_eval.stats.sample_size import (
    Assumptions,
    detectable_difference,
    labels_for_half_width,
    pairs_for,
    pilot,
    sign_test_power,
)


def test_by_hand() -> None:
    # z = 1.96: 3.8415 * (0.7 - 0.01) / (4 * 0.0009) = 736.3; the published rounding of 1.96^2 / 4 gives 736.
    assert pairs_for(Assumptions(0.7, 0.1), half_width=0.03).pairs == 737
    # The normal formula has (1.95996 * 0.83666 + 0.84162 * 0.83066)^2 / 0.01 = 547.06; the exact test wants more.
    alone = pairs_for(Assumptions(0.7, 0.1)).pairs
    assert 548 < alone < 580
    budget = pairs_for(Assumptions(0.7, 0.1, design_effect=2), cost_per_call_usd=0.01)
    assert (budget.pairs, budget.calls) == (2 * alone, 4 * alone)
    assert budget.cost_usd == pytest.approx(0.04 * alone)
    assert pairs_for(Assumptions()).cost_usd is None


def exact_power(decided: float, difference: float, pairs: int, level: float = 0.95) -> float:
    """The chance of a p-value up to 1 - level, by another package's test of every number of wins and losses."""
    total = 0.0
    for number in range(pairs + 1):
        chance = binom.pmf(number, pairs, decided)
        rejected = [w for w in range(number + 1) if number and binomtest(w, number).pvalue <= 1 - level]
        total += chance * binom.pmf(rejected, number, (decided + difference) / (2 * decided)).sum()
    return float(total)


@pytest.mark.parametrize(("decided", "difference", "pairs"), [(1.0, 0.5, 30), (0.7, 0.3, 40), (0.4, -0.2, 25)])
def test_the_power_of_the_sign_test_is_exact(decided: float, difference: float, pairs: int) -> None:
    expected = exact_power(decided, difference, pairs)
    assert sign_test_power(Assumptions(decided, difference), pairs) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("decided", "difference", "power"),
    [(1.0, 0.7, 0.8), (1.0, 0.9, 0.9), (1.0, 0.5, 0.8), (0.7, 0.3, 0.8), (0.7, 0.2, 0.8)],
)
def test_the_pairs_named_have_the_power_and_fewer_have_not(decided: float, difference: float, power: float) -> None:
    assumed = Assumptions(decided, difference, power=power)
    pairs = pairs_for(assumed).pairs
    assert min(sign_test_power(assumed, pairs + more) for more in range(12)) >= power
    assert min(sign_test_power(assumed, pairs - 1 + more) for more in range(6)) < power


def test_seventeen_pairs_find_what_fourteen_do_not() -> None:
    # All decided, 85 to 15: the normal formula says 14, which have a power of 0.648.
    assert exact_power(1.0, 0.7, 14) == pytest.approx(0.648, abs=1e-3)
    assert exact_power(1.0, 0.7, 17) >= 0.8
    assert pairs_for(Assumptions(1.0, 0.7)).pairs >= 17


def test_the_detectable_difference_inverts_the_plan() -> None:
    assumed = Assumptions(0.7, 0.1)
    assert detectable_difference(assumed, pairs_for(assumed).pairs) == pytest.approx(0.1, abs=3e-4)
    assert detectable_difference(assumed, 3) is None


def test_the_plan_has_its_power() -> None:
    assumed = Assumptions(0.6, 0.15)
    pairs, rng = pairs_for(assumed).pairs, np.random.default_rng(0)
    tables = rng.multinomial(pairs, [0.375, 0.225, 0.4], 2000)
    found = np.mean([binomtest(int(wins), int(wins + losses)).pvalue < 0.05 for wins, losses, _ in tables])
    assert found == pytest.approx(0.8, abs=0.03)


def test_the_plan_has_its_half_width() -> None:
    assumed = Assumptions(0.6, 0.2)
    pairs, rng = pairs_for(assumed, half_width=0.04).pairs, np.random.default_rng(1)
    scores = rng.choice([1.0, 0.0, 0.5], (400, pairs), p=[0.4, 0.2, 0.4])
    assert 1.96 * np.mean(scores.std(axis=1, ddof=1)) / np.sqrt(pairs) == pytest.approx(0.04, rel=0.02)


def test_labels_to_correct() -> None:
    assumed = Assumptions(0.7, 0.1)
    # A judge without correlation helps nothing: as many labels as pairs.
    # as the interval has, two pseudo-residuals of 1 are added: 3.8415 (0.1725 / n + 2 / (n + 2)^2) = 0.0009 at n = 748.
    assert labels_for_half_width(assumed, 0.0, 5000, 0.03) == 748
    assert labels_for_half_width(assumed, -0.5, 5000, 0.03) == 748
    # A perfect judge's own noise remains, v / N, and the pseudo-residuals: 3.8415 (0.0000345 + 2 / (n + 2)^2).
    assert labels_for_half_width(assumed, 1.0, 5000, 0.03) == 99
    some = labels_for_half_width(assumed, 0.7, 5000, 0.03)
    assert some is not None
    assert 400 < some < 430  # v / n (1 - 0.49 (1 - n / 5000)) + 2 / (n + 2)^2 is the allowance at about 414
    assert labels_for_half_width(assumed, 0.7, 500, 0.03) is None


def test_of_a_rare_class_labels_are_planned_for_their_own_rate() -> None:
    # 97 % yes: of fewer than 167 labels fewer than 5 are no, and the interval is Wilson's, whatever the judge.
    n = labels_for_half_width(Assumptions(1.0, 0.94), 0.9, 5000, 0.03)
    assert n is not None
    low, high = wilson(0.97 * n, n, 1.959964)
    assert (high - low) / 2 <= 0.03
    low, high = wilson(0.97 * (n - 1), n - 1, 1.959964)
    assert (high - low) / 2 > 0.03


def test_a_pilot_fills_the_assumptions() -> None:
    assert pilot(20, 10, 20) == Assumptions(0.6, 0.2)
    assert pilot(20, 10, 20, Assumptions(level=0.9)).level == 0.9
    with pytest.raises(ValueError, match="no decided"):
        pilot(0, 0, 5)


@pytest.mark.parametrize(
    "wrong", [{"decided": 0.0}, {"difference": 0.8}, {"level": 1.0}, {"power": 0.0}, {"design_effect": 0.0}]
)
def test_impossible_assumptions_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"in \(0, 1|exceed|above 0"):
        Assumptions(**wrong)


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(ValueError, match="difference of 0"):
        pairs_for(Assumptions(0.7, 0.0))
    with pytest.raises(ValueError, match="half_width"):
        pairs_for(Assumptions(), half_width=0.7)
