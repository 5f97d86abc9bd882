"""The alternative annotator test, against a direct reading of its definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from perl_eval.records import Estimate
from perl_eval.stats.alttest import AltTestOptions, alternative_annotator_test
from perl_eval.stats.bootstrap import Resampling

QUICK = Resampling(draws=50)


def panel(seed: int, right: dict[str, float], judge: float, n: int = 120) -> tuple[list[str], list[dict[str, str]]]:
    """People and a judge who are right with given chances, else uniformly wrong among three labels."""
    rng = np.random.default_rng(seed)

    def answer(truth: int, chance: float) -> str:
        return str(truth if rng.random() < chance else (truth + rng.integers(1, 3)) % 3)

    truths = rng.integers(0, 3, n).tolist()
    ratings = [{name: answer(truth, chance) for name, chance in right.items()} for truth in truths]
    return [answer(truth, judge) for truth in truths], ratings


def test_the_definition_by_loops() -> None:
    verdicts, ratings = panel(0, {"p": 0.8, "q": 0.7, "r": 0.75, "s": 0.6}, 0.75)
    (rate, advantage, *_), people = alternative_annotator_test(verdicts, ratings, resampling=QUICK)
    p_values, shares = [], []
    for name in "pqrs":
        wins_judge, wins_human = [], []
        for verdict, unit in zip(verdicts, ratings, strict=True):
            others = [unit[other] for other in unit if other != name]
            judge = np.mean([verdict == other for other in others])
            human = np.mean([unit[name] == other for other in others])
            wins_judge.append(float(judge >= human))
            wins_human.append(float(human >= judge))
        gaps = np.array(wins_human) - np.array(wins_judge)
        p_values.append(ttest_1samp(gaps, 0.15, alternative="less").pvalue)
        shares.append(np.mean(wins_judge))
        assert people[name].p == pytest.approx(p_values[-1])
        assert people[name].advantage == pytest.approx(shares[-1])
    # Benjamini-Yekutieli by its definition: the largest k with p_(k) <= k q / (m (1 + 1/2 + 1/3 + 1/4)).
    limits = np.arange(1, 5) / 4 * 0.05 / (1 + 1 / 2 + 1 / 3 + 1 / 4)
    passed = np.flatnonzero(np.sort(p_values) <= limits)
    assert rate.value == ((passed[-1] + 1) / 4 if len(passed) else 0)
    assert advantage.value == pytest.approx(np.mean(shares))
    assert advantage.low < advantage.value < advantage.high


def test_a_good_judge_passes_and_a_bad_one_does_not() -> None:
    people = {"p": 0.8, "q": 0.8, "r": 0.8}
    assert alternative_annotator_test(*panel(1, people, 0.95), resampling=QUICK)[0][0].value == 1.0
    assert alternative_annotator_test(*panel(1, people, 0.4), resampling=QUICK)[0][0].value == 0.0


def test_people_with_few_units_are_not_tested() -> None:
    verdicts, ratings = panel(2, {"p": 0.8, "q": 0.8, "r": 0.8}, 0.9, 40)
    for unit in ratings[:15]:
        del unit["r"]
    ratings[0] = {"p": "1"}
    (rate, *_), people = alternative_annotator_test(verdicts, ratings, resampling=QUICK)
    assert set(people) == {"p", "q"}
    assert (people["p"].units, rate.n, rate.n_missing) == (39, 39, 1)
    nobody = alternative_annotator_test(verdicts, ratings, options=AltTestOptions(least_units=50), resampling=QUICK)
    assert nobody[1] == {}
    assert nobody[0][0].reason == "no person shares 50 units with others"


def test_no_doubt_is_no_error() -> None:
    same = [{"p": "a", "q": "a"} for _ in range(40)]
    (rate, advantage, *_), people = alternative_annotator_test(["a"] * 40, same, resampling=QUICK)
    # Were the person better in 15 % of units, none of 40 would show it with a chance of 0.85^40.
    assert (rate.value, advantage.value, people["p"].p) == (1.0, 1.0, pytest.approx(0.85**40))
    assert advantage.low < 0.95
    (rate, advantage, *_), people = alternative_annotator_test(["b"] * 40, same, resampling=QUICK)
    assert (rate.value, advantage.value, people["p"].p) == (0.0, 0.0, 1.0)


def test_few_units_are_tested_by_ranks() -> None:
    verdicts, ratings = panel(3, {"p": 0.7, "q": 0.7, "r": 0.7}, 0.95, 20)
    _, people = alternative_annotator_test(verdicts, ratings, options=AltTestOptions(least_units=10), resampling=QUICK)
    assert all(0 <= person.p <= 1 for person in people.values())
    assert {person.units for person in people.values()} == {20}


def harmless(seed: int, yes: float, right: float, n: int = 200) -> list[dict[str, str]]:
    """Three people who label rare harm, each right with a chance."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < yes
    said = np.where(rng.random((3, n)) < right, truth, ~truth)
    return [dict(zip("pqr", np.where(row, "yes", "no").tolist(), strict=True)) for row in said.T]


def by_name(verdicts: list[str], ratings: list[dict[str, str]], **more: object) -> dict[str, Estimate]:
    return {one.name: one for one in alternative_annotator_test(verdicts, ratings, resampling=QUICK, **more)[0]}


def test_a_judge_that_always_says_no_does_not_pass_where_harm_is_rare() -> None:
    found = by_name(["no"] * 200, harmless(0, 0.1, 0.95))
    assert found["alt-test winning rate"].value == 1.0  # as published
    assert found["alt-test winning rate, constant judge"].value == 1.0
    assert found["alt-test passes"].value is None
    assert found["alt-test passes"].reason == "a judge that always says 'no' would pass too"
    assert found["alt-test winning rate, labels balanced"].value == 0.0


def test_a_coin_does_not_pass_where_people_hardly_agree() -> None:
    rng = np.random.default_rng(4)
    ratings = harmless(1, 0.5, 0.6, 1000)
    found = by_name(np.where(rng.random(1000) < 0.5, "yes", "no").tolist(), ratings)
    assert found["alt-test winning rate"].value == 1.0
    assert found["alt-test winning rate, base-rate judge"].value == 1.0
    assert "draws labels by their shares" in found["alt-test passes"].reason


def test_a_good_judge_passes_beside_judges_that_know_nothing() -> None:
    verdicts, ratings = panel(1, {"p": 0.8, "q": 0.8, "r": 0.8}, 0.95)
    found = by_name(verdicts, ratings)
    assert (found["alt-test passes"].value, found["alt-test passes"].reason) == (1.0, None)
    assert found["alt-test winning rate, labels balanced"].value == 1.0
    assert found["alt-test winning rate, constant judge"].value == 0.0


def test_few_units_of_a_label_are_not_balanced() -> None:
    ratings = [{"p": "no", "q": "no"}] * 45 + [{"p": "yes", "q": "yes"}] * 4
    found = by_name(["no"] * 49, ratings)
    assert found["alt-test advantage, labels balanced"].reason == "fewer than 10 units are 'yes' to most people"


def test_balanced_labels_count_alike() -> None:
    # The judge is right about every no and wrong about every yes: of the labels, about one in two.
    ratings = [{"p": "no", "q": "no"}] * 80 + [{"p": "yes", "q": "yes"}] * 20
    found = by_name(["no"] * 100, ratings)
    assert found["alt-test advantage"].value == pytest.approx(0.8)
    assert found["alt-test advantage, labels balanced"].value == pytest.approx(0.5)


def test_units_of_a_group_are_no_news() -> None:
    verdicts, ratings = panel(5, {"p": 0.8, "q": 0.8, "r": 0.8}, 0.85, 40)
    alone = alternative_annotator_test(verdicts, ratings, resampling=QUICK)[1]
    groups = np.arange(40).repeat(5).tolist()
    copied = [ratings[place] for place in groups]
    together = alternative_annotator_test(
        [verdicts[place] for place in groups], copied, clusters=groups, resampling=QUICK
    )[1]
    for name in "pqr":
        assert together[name].p == pytest.approx(alone[name].p, rel=0.05)
