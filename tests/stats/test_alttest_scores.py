"""The alternative annotator test on scores, against a direct reading of its definition.

That its authors' own figures come out is shown by ``benchmarks/alttest.py``.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import false_discovery_control, ttest_1samp

from perl_eval.stats.alttest import AltTestOptions
from perl_eval.stats.alttest_scores import alternative_annotator_test_of_scores


def panel(seed: int, noise: dict[str, float], judge: float, n: int = 90) -> tuple[list[float], list[dict[str, float]]]:
    """Return a judge and people who give the truth with some noise, of whom some miss some units."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(3, 1, n)
    ratings = [
        {name: float(round(one + rng.normal(0, sd))) for name, sd in noise.items() if rng.random() < 0.8}
        for one in truth
    ]
    return [float(round(one + rng.normal(0, judge))) for one in truth], ratings


@pytest.mark.parametrize("seed", range(4))
def test_the_definition_by_loops(seed: int) -> None:
    judged, ratings = panel(seed, {"p": 0.5, "q": 1.0, "r": 0.7, "s": 1.5}, 0.8)
    (rate, advantage, *_), people = alternative_annotator_test_of_scores(judged, ratings)
    p_values, shares = [], []
    for name in "pqrs":
        gaps, ahead = [], []
        for verdict, unit in zip(judged, ratings, strict=True):
            if name not in unit or len(unit) < 2:
                continue
            others = np.array([unit[other] for other in unit if other != name])
            by_judge, by_person = (np.sqrt(np.mean((one - others) ** 2)) for one in (verdict, unit[name]))
            ahead.append(by_judge <= by_person)
            gaps.append(int(by_person <= by_judge) - int(by_judge <= by_person))
        p_values.append(ttest_1samp(gaps, 0.15, alternative="less").pvalue)
        shares.append(np.mean(ahead))
        assert people[name].p == pytest.approx(p_values[-1])
        assert people[name].units == len(gaps)
    assert rate.value == np.mean(false_discovery_control(p_values, method="by") <= 0.05)
    assert advantage.value == pytest.approx(np.mean(shares))
    assert advantage.low < advantage.value < advantage.high


def test_who_passes() -> None:
    people = {"p": 0.8, "q": 0.8, "r": 0.8}
    good, (bad, ratings) = panel(1, people, 0.3, 300), panel(1, people, 3.0, 300)
    assert [one.value for one in alternative_annotator_test_of_scores(*good)[0]][::3] == [1.0, 1.0]
    assert [one.value for one in alternative_annotator_test_of_scores(bad, ratings)[0]][::3] == [0.0, 0.0]
    # Where people's scores are all noise, the mean score is nearer to the others than a person is.
    noise = np.random.default_rng(2).normal(size=(300, 3))
    blank = [dict(zip("pqr", row.tolist(), strict=True)) for row in noise]
    *_, constant, passes = alternative_annotator_test_of_scores([0.0] * 300, blank)[0]
    assert (constant.value, passes.value) == (1.0, None)
    assert "mean score would pass too" in str(passes.reason)


def test_few_units_and_none() -> None:
    judged, ratings = panel(2, {"p": 0.8, "q": 0.8, "r": 0.8}, 0.9, 12)
    found, people = alternative_annotator_test_of_scores(judged, ratings)
    assert people == {}
    assert {one.reason for one in found} == {"no person shares 30 units with others"}
    few = AltTestOptions(least_units=5)
    some, _ = alternative_annotator_test_of_scores([None, *judged[1:]], ratings, options=few)
    assert some[0].n_missing >= 1
    assert alternative_annotator_test_of_scores([], [])[0][0].value is None
