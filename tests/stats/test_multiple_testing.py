"""Adjusted p-values: Holm's by hand and by his rule, both beside statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from perl_eval.stats.multiple_testing import benjamini_hochberg, holm


def test_holm_by_hand() -> None:
    """In order .005, .01, .03, .04 times 4, 3, 2, 1 are .02, .03, .06, .04, of which none may fall: .06."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize("seed", range(20))
def test_rejections_are_those_of_the_step_down_rule(seed: int) -> None:
    """Reject from the smallest on, as long as p is at most level / (tests that are left)."""
    rng = np.random.default_rng(seed)
    values = rng.choice([0.0, 1e-4, 0.004, 0.02, 0.02, 0.3, 1.0], 1 + seed) * rng.choice([1.0, rng.random()])
    adjusted = holm(values)
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for step, place in enumerate(np.argsort(values, kind="stable")):
            if values[place] > level / (len(values) - step):
                break
            rejected.add(int(place))
        assert set(np.flatnonzero(adjusted <= level + 1e-12).tolist()) >= rejected
        assert all(values[place] <= level for place in np.flatnonzero(adjusted <= level))
        assert set(np.flatnonzero(adjusted <= level - 1e-12).tolist()) <= rejected
    assert adjusted == pytest.approx(multipletests(values, method="holm")[1])
    assert benjamini_hochberg(values) == pytest.approx(multipletests(values, method="fdr_bh")[1])


def test_of_no_tests_there_is_nothing() -> None:
    assert len(holm(np.zeros(0))) == len(benjamini_hochberg(np.zeros(0))) == 0
