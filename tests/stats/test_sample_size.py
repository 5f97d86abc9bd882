"""Planning: formulas by hand, and what they promise by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from perl_eval.stats.sample_size import Assumptions, detectable_difference, labels_for_half_width, pairs_for, pilot


def test_by_hand() -> None:
    # z = 1.96: 3.8415 * (0.7 - 0.01) / (4 * 0.0009) = 736.3; the published rounding of 1.96^2 / 4 gives 736.
    assert pairs_for(Assumptions(0.7, 0.1), half_width=0.03).pairs == 737
    # (1.95996 * 0.83666 + 0.84162 * 0.83066)^2 / 0.01 = (1.63982 + 0.69910)^2 / 0.01 = 547.06.
    assert pairs_for(Assumptions(0.7, 0.1)).pairs == 548
    budget = pairs_for(Assumptions(0.7, 0.1, design_effect=2), cost_per_call_usd=0.01)
    assert (budget.pairs, budget.calls) == (1095, 2190)
    assert budget.cost_usd == pytest.approx(21.90)
    assert pairs_for(Assumptions()).cost_usd is None


def test_the_detectable_difference_inverts_the_plan() -> None:
    assumed = Assumptions(0.7, 0.1)
    assert detectable_difference(assumed, 548) == pytest.approx(0.1, abs=2e-4)
    assert detectable_difference(assumed, 3) is None


def test_the_plan_has_its_power() -> None:
    assumed = Assumptions(0.6, 0.15)
    pairs, rng = pairs_for(assumed).pairs, np.random.default_rng(0)
    tables = rng.multinomial(pairs, [0.375, 0.225, 0.4], 2000)
    found = np.mean([binomtest(int(wins), int(wins + losses)).pvalue < 0.05 for wins, losses, _ in tables])
    assert found == pytest.approx(0.8, abs=0.04)  # the exact test is a little conservative


def test_the_plan_has_its_half_width() -> None:
    assumed = Assumptions(0.6, 0.2)
    pairs, rng = pairs_for(assumed, half_width=0.04).pairs, np.random.default_rng(1)
    scores = rng.choice([1.0, 0.0, 0.5], (400, pairs), p=[0.4, 0.2, 0.4])
    assert 1.96 * np.mean(scores.std(axis=1, ddof=1)) / np.sqrt(pairs) == pytest.approx(0.04, rel=0.02)


def test_labels_to_correct() -> None:
    assumed = Assumptions(0.7, 0.1)
    # A judge without correlation helps nothing: as many labels as pairs.
    assert labels_for_half_width(assumed, 0.0, 5000, 0.03) == 737
    assert labels_for_half_width(assumed, -0.5, 5000, 0.03) == 737
    # A perfect judge's own noise remains: v / n (1 - (N - n) / N) = v / N, below the allowance from one label on.
    assert labels_for_half_width(assumed, 1.0, 5000, 0.03) == 1
    some = labels_for_half_width(assumed, 0.7, 5000, 0.03)
    assert some is not None
    assert 370 < some < 450  # v / n (1 - 0.49 (1 - n / 5000)) is the allowance at about 394
    assert labels_for_half_width(assumed, 0.7, 500, 0.03) is None


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
