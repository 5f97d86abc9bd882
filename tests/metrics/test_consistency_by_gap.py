"""Consistency given the strength gap: by hand, and of judges that toss a coin and may like the first answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from contests import pair_judged
from scipy.special import expit
from statsmodels.stats.proportion import proportion_confint

from perl_eval.metrics.consistency_by_gap import LEAST, consistency_by_gap
from perl_eval.metrics.judgement_estimates import estimate_judgements
from perl_eval.records import Ballot, Estimate, Judgement

ORDERS = {"win": ("first", "second"), "loss": ("second", "first"), "split": ("first", "first"), "tie": ("tie", "tie")}


def met(policies: str, outcomes: Sequence[str]) -> list[Judgement]:
    """Return pairs of two policies, each in a group of its own."""
    return [
        replace(
            pair_judged(place, outcome, policy_a=policies[0], policy_b=policies[1]),
            a=f"{policies[0]}{place}",
            b=f"{policies[1]}{place}",
            ballots=tuple(Ballot(order, said) for order, said in zip(("ab", "ba"), ORDERS[outcome], strict=True)),
        )
        for place, outcome in enumerate(outcomes)
    ]


def told(found: Sequence[Estimate]) -> dict[tuple[str, str], Estimate]:
    return {(one.name.split()[-1], one.about.value): one for one in found}


def test_by_hand() -> None:
    # Stronger: (8 + 3) / 20 = 0.55; 18 of 20 and a tie, 0.925; 14 and 2 split of 20, 0.75.
    pairs = met("xy", ["win"] * 8 + ["loss"] * 6 + ["split"] * 6)
    pairs += met("zx", ["loss"] * 18 + ["win"] + ["tie"]) + met("zy", ["loss"] * 14 + ["win"] * 4 + ["split"] * 2)
    found = told(consistency_by_gap(pairs))
    assert set(found) == {(name, band) for name in ("gap", "odds") for band in ("50% to 60%", "75% to 100%")}
    near, far = found["gap", "50% to 60%"], found["gap", "75% to 100%"]
    assert (near.value, near.n) == (14 / 20, 20)
    assert (far.value, far.n) == (38 / 40, 40)
    assert (near.low, near.high) == pytest.approx(proportion_confint(14, 20, method="wilson"))
    assert found["odds", "50% to 60%"].value == pytest.approx(0.55**2 + 0.45**2)
    coins = [rate**2 + (1 - rate) ** 2 for rate in (1 - 1.5 / 20, 0.75)]
    assert found["odds", "75% to 100%"].value == pytest.approx(np.mean(coins))


def test_the_way_round_of_a_comparison_changes_nothing() -> None:
    pairs = met("xy", ["win"] * 18 + ["loss"] * 6) + met("xz", ["win"] * 20)
    turned = [
        replace(one, policy_a=one.policy_b, policy_b=one.policy_a, outcome={"win": "loss", "loss": "win"}[one.outcome])
        for one in pairs[::2]
    ]
    assert told(consistency_by_gap([*turned, *pairs[1::2]])) == told(consistency_by_gap(pairs))


def test_people_say_how_far_apart_where_they_are_asked() -> None:
    pairs = met("xy", ["split"] * 20) + met("xz", ["split"] * 20)
    found = told(
        consistency_by_gap(pairs, worth=lambda record: float(record.policy_b == "z") or float(record.a < "x2"))
    )
    assert found["gap", "75% to 100%"].n == 20
    assert set(told(consistency_by_gap(pairs))) == {("gap", "50% to 60%"), ("odds", "50% to 60%")}


def test_few_pairs_are_missing_and_one_comparison_has_no_gaps_to_tell_apart() -> None:
    pairs = met("xy", ["win"] * 20) + met("xz", ["win"] * 20)
    assert consistency_by_gap(met("xy", ["win"] * 20)) == []
    more = consistency_by_gap(pairs + met("zy", ["win"] * (LEAST - 1)))
    assert [(one.n, one.n_missing) for one in more] == [(40, LEAST - 1)] * 2
    assert consistency_by_gap([replace(one, ballots=()) for one in pairs]) == []


@pytest.mark.parametrize("leaning", [0.0, 1.5])
def test_a_judge_by_strength_alone_is_a_coin_at_every_gap_and_position_makes_it_less(leaning: float) -> None:
    """A judge whose every verdict is drawn by Bradley and Terry's odds, with and without a liking for the first."""
    rng, strength = np.random.default_rng(3), {"x": 0.0, "y": 0.2, "z": 2.0}
    pairs = []
    for one, other in ("xy", "xz", "yz"):
        gap = strength[one] - strength[other]
        first, second = (rng.random(4000) < expit(turn * gap + leaning) for turn in (1, -1))
        kinds = np.where(first & ~second, "win", np.where(second & ~first, "loss", np.where(first, "split", "tie")))
        both = met(one + other, [str(kind) for kind in kinds])
        pairs += [  # the answer shown second in both orders is a split too
            replace(pair, outcome="split", ballots=(Ballot("ab", "second"), Ballot("ba", "second")))
            if pair.outcome == "tie"
            else pair
            for pair in both
        ]
    found = told(consistency_by_gap(pairs))
    assert {band for _, band in found} == {"50% to 60%", "75% to 100%"}
    for band in ("50% to 60%", "75% to 100%"):
        share, coin = found["gap", band], found["odds", band]
        assert share.low is not None
        assert share.high is not None
        assert coin.value is not None
        assert share.low < coin.value < share.high if leaning == 0 else share.high < coin.value
    near, far = found["gap", "50% to 60%"].value, found["gap", "75% to 100%"].value
    assert near is not None
    assert far is not None
    assert near < far - 0.15  # one judge: what changes is the policies


def test_it_stands_among_what_score_says() -> None:
    pairs = met("xy", ["win"] * 11 + ["loss"] * 9) + met("xz", ["win"] * 19 + ["split"])
    found = [one for one in estimate_judgements(pairs) if one.name.startswith("consistency given")]
    assert [(one.about.judge, one.about.policy, one.about.value, one.value) for one in found] == [
        ("scripted", "", "50% to 60%", 1.0),
        ("scripted", "", "75% to 100%", 0.95),
    ]
