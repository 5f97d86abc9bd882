"""What a judge of pairs tells beyond its verdict in both orders, beside scikit-learn; and whether it may stand in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from contests import pair_judged
from sklearn import metrics

from perl_eval.metrics.judge_standing import blind_judges, standings
from perl_eval.metrics.soft_agreement import soft_agreement, weighted_kappa
from perl_eval.records import About, Ballot, Estimate, HumanLabel, Judgement


def judged(place: int, ab: Any, ba: Any, p_a: float | None, outcome: Any) -> Judgement:
    return pair_judged(place, outcome, ballots=(Ballot("ab", ab), Ballot("ba", ba)), judge="j", p_a=p_a)


def label(one: Judgement, said: Any) -> HumanLabel:
    return HumanLabel(one.unit, one.item, one.group, "ann", said)


def test_a_judge_that_position_decides_is_read_by_its_probability() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(200) < 0.5
    chances = np.clip(0.5 + 0.1 * (2 * truth - 1) + rng.normal(0, 0.1, 200), 0.01, 0.99)
    records = [judged(place, "first", "first", float(chances[place]), "split") for place in range(200)]
    labels = [label(one, "win" if right else "loss") for one, right in zip(records, truth, strict=True)]
    found = {one.name: one for one in soft_agreement(records, labels)}
    assert found["first picked"].value == 1.0
    assert found["accuracy with a first"].value == pytest.approx(truth.mean())
    assert found["accuracy with b first"].value == pytest.approx(1 - truth.mean())
    assert found["consistency, same verdict"].value == 0.0
    assert found["accuracy of the more probable side"].value == pytest.approx(np.mean((chances > 0.5) == truth))
    assert found["AUC of the judge's probability"].value == pytest.approx(metrics.roc_auc_score(truth, chances))
    assert found["log loss"].value == pytest.approx(metrics.log_loss(truth, chances))
    assert found["net agreement"].value == 0.0


def test_a_mixed_pair_keeps_its_side() -> None:
    records = [judged(place, "first", "tie", None, "mixed") for place in range(40)]
    labels = [label(one, "win" if place % 4 else "loss") for place, one in enumerate(records)]
    found = {one.name: one for one in soft_agreement(records, labels)}
    assert found["net agreement"].value == pytest.approx(0.5)
    assert found["log loss"].reason == "the judge gave no probabilities"


def test_a_tie_of_people_is_half_a_win_and_what_a_split_agrees_with() -> None:
    given = ("win", "split", "loss", "mixed", "win", "tie")
    people = (("win",), ("tie",), ("loss",), ("win", "tie"), ("tie",), ("tie", "loss"))
    records = [judged(place, "first", "second", 0.7, outcome) for place, outcome in enumerate(given)]
    labels = [
        replace(label(one, said), annotator=f"ann{turn}")
        for one, them in zip(records, people, strict=True)
        for turn, said in enumerate(them)
    ]
    found = {one.name: one for one in soft_agreement(records, labels)}
    share = np.mean([1, 0.5, 0, 0.75, 0.5, 0.25])
    assert found["log loss"].value == pytest.approx(-(share * np.log(0.7) + (1 - share) * np.log(0.3)))
    # Win, tie, loss as 0, 1, 2; people are on the side that they lean to.
    kappa = metrics.cohen_kappa_score([0, 1, 2, 1, 0, 1], [0, 1, 2, 0, 1, 2], weights="linear")
    assert found["human-judge kappa, linear weights"].value == pytest.approx(kappa)


@pytest.mark.parametrize(("power", "weights"), [(1, "linear"), (2, "quadratic")])
def test_weighted_kappas_are_those_of_scikit_learn_and_cover(power: int, weights: str) -> None:
    rng, held, runs = np.random.default_rng(1), 0, 200
    table = np.array([[0.3, 0.06, 0.04], [0.05, 0.15, 0.05], [0.05, 0.05, 0.25]])
    one, other = np.divmod(rng.choice(9, 200_000, p=table.ravel()), 3)
    whole = metrics.cohen_kappa_score(one, other, weights=weights)
    for _ in range(runs):
        one, other = np.divmod(rng.choice(9, 150, p=table.ravel()), 3)
        found = weighted_kappa("kappa", one, other, power=power, clusters=np.arange(150))
        assert found.value == pytest.approx(metrics.cohen_kappa_score(one, other, weights=weights))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= whole <= found.high
    assert 0.91 <= held / runs <= 0.985


def said(name: str, value: float, low: float | None = None, high: float | None = None) -> Estimate:
    return Estimate(name, value, low, high, 100, 0, "", about=About(judge="gpt"))


@pytest.mark.parametrize(
    ("agreement", "winning", "says"),
    [
        (
            0.65,
            0.8,
            "is not shown to stand in for a person: it agrees with 65% of labels (55% to 75%); "
            "it is not shown to agree",
        ),
        (0.85, 0.8, "may stand in for a person: it agrees with 85%"),
        (0.85, 0.2, "is neither shown to be as good as a person nor to be worse: it agrees with 85%"),
        (0.85, None, "does better than without reading the answers: it agrees with 85%"),
    ],
)
def test_whether_it_may_stand_in_is_said_in_words(agreement: float, winning: float | None, says: str) -> None:
    figures = [
        said("human-judge exact agreement", agreement, agreement - 0.1, agreement + 0.1),
        said("agreement of a constant judge", 0.6),
    ]
    figures += [] if winning is None else [said("alt-test winning rate", winning)]
    (line,) = standings(figures)
    assert line.startswith(f"gpt {says}")
    (brief,) = standings(figures, brief=True)
    assert "it agrees with" not in brief
    assert "always saying the most frequent label (0.600)" in brief


def one_person(name: str, p: float) -> Estimate:
    about = About(judge="gpt", person=name)
    return Estimate("alt-test p, one person", p, None, None, 54, 0, "", about=about)


def test_labels_that_would_show_more_than_a_constant_judge_are_said() -> None:
    known = [said("human-judge exact agreement", 0.65, 0.55, 0.75), said("agreement of a constant judge", 0.6)]
    # Of 100 labels the interval is 0.1 to either side; 2.8016 / 1.96 of that must be 0.05: (1.4294 x 2) ** 2 x 100.
    assert standings(known)[0].endswith("(60%); roughly 820 labels in all would show it, if it does")
    (line,) = standings([said("human-judge exact agreement", 0.55, 0.45, 0.65), known[1]])
    assert line.endswith("always saying the most frequent label (60%)")  # no number of labels would show it
    (line,) = standings([known[0], said("agreement of a constant judge", 0.8)])
    assert line.startswith("gpt may not stand in for a person")
    assert "it agrees no more often than always saying the most frequent label (80%)" in line
    few = [
        said("human-judge exact agreement", 0.8, 0.7, 0.9),
        known[1],
        replace(said("alt-test winning rate", 0.0), value=None, reason="no person shares 30 units with others"),
    ]
    assert standings(few)[0].endswith("30 or more; here no person shares 30 units with others")


def test_what_is_not_shown_is_told_from_what_is_worse_with_the_units_that_would_show_it() -> None:
    figures = [
        said("human-judge exact agreement", 0.71, 0.62, 0.79),
        said("agreement of a constant judge", 0.5),
        replace(said("alt-test winning rate", 0.0), n=54, method="alternative annotator test, epsilon 0.15"),
        *(one_person(name, p) for name, p in zip("abcde", (0.007, 0.05, 0.0913, 0.12, 0.139), strict=True)),
    ]
    (line,) = standings([*figures, said("judge minus human ceiling", -0.015, -0.135, 0.106)])
    # The third of five p-values is 1.333 standard errors off; it has to be below 0.05 x 3 / (5 x 137 / 60) = 0.013139,
    # 2.2214 of them, and 0.8416 more for a power of 0.8: (3.0630 / 1.3328) ** 2 x 54 = 285.2.
    assert "is neither shown to be as good as a person nor to be worse" in line
    assert "only shown to be as good as 0 of 5 people (alternative annotator test, epsilon 0.15)" in line
    assert line.endswith("roughly 290 units in all would show it, if it is")
    (line,) = standings([*figures, said("judge minus human ceiling", -0.2, -0.3, -0.1)])
    assert line.startswith("gpt may not stand in for a person")
    assert "less often than people with each other" in line
    never = [replace(one, value=0.6) if one.about.person else one for one in figures]
    wanted = "so far it seems worse than half of them or more, so more units are unlikely to show it"
    assert standings(never)[0].endswith(wanted)


def test_blind_judges_agree_as_often_as_people_say_what_they_say() -> None:
    records = [judged(place, "first", "second", None, "win") for place in range(10)]
    labels = [label(one, "win" if place < 7 else "loss") for place, one in enumerate(records)]
    found = {one.name: one.value for one in blind_judges(records, labels)}
    assert found["agreement of a constant judge"] == pytest.approx(0.7)
    assert found["agreement of a base-rate judge"] == pytest.approx(0.58)
