"""The verb `power`: plans by hand, from assumptions and from a pilot run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from contests import pair_judged
from scipy.stats import norm

from perl_eval.errors import UserError
from perl_eval.records import Ballot, Estimate, HumanLabel, Judgement
from perl_eval.scoring import power
from perl_eval.stats.intervals import wilson
from perl_eval.storage import parquet, run_folder


def judgement(place: int, outcome: str, **changes: object) -> Judgement:
    made: dict[str, object] = {
        "ballots": (Ballot("ab", "first", cost_usd=0.002), Ballot("ba", "first", cost_usd=0.004)),
        "judge": "j",
        "prompt_sha256": "",
    }
    return pair_judged(place, outcome, **(made | changes))


PILOT = [judgement(p, outcome) for p, outcome in enumerate(["win"] * 24 + ["loss"] * 12 + ["split"] * 14)]


def planned(folder: Path, wanted: power.Wanted, **pilot: object) -> dict[tuple[str, str], Estimate]:
    options = pilot.pop("options", None)
    out = power.run(wanted, folder / "plan", pilot=power.Pilot(**pilot), options=options)
    return {(estimate.subject, estimate.name): estimate for estimate in run_folder.read(out, Estimate)}


def test_from_assumptions_by_hand(tmp_path: Path) -> None:
    options = power.PowerOptions(judged=5000)
    wanted = power.Wanted(half_width=0.03, detect=0.1, pairs=548)
    found = planned(tmp_path, wanted, price_usd=0.01, correlation=0.7, options=options)
    # 1.96^2 (0.7 - 0.01) / (4 * 0.03^2) = 736.3.
    # The exact sign test has a power of 0.787 at 548 pairs, and 0.8 from 566 on.
    assert found["for a half-width of 0.03", "pairs"].value == 737
    assert found["for a half-width of 0.03", "cost, USD"].value == pytest.approx(14.74)
    assert found["to detect 0.1", "pairs"].value == 566
    assert found["to detect 0.1", "calls"].value == 1132
    assert found["of 548 pairs", "detectable difference"].value == pytest.approx(0.1016, abs=2e-4)
    assert found["of 548 pairs", "half-width"].value == pytest.approx(1.95996 * (0.69 / 4 / 548) ** 0.5, rel=1e-4)
    labels = found["for a half-width of 0.03", "labels"]
    assert 400 < labels.value < 430
    assert labels.n == 5000
    assert found["taken", "decided share"].method == "assumed"


def test_from_a_pilot(tmp_path: Path) -> None:
    parquet.write(tmp_path / "pilot.parquet", PILOT, Judgement)
    # People agree on all but the first six wins.
    given = ["loss"] * 6 + ["win"] * 18 + ["loss"] * 12 + ["tie"] * 14
    labels = [HumanLabel(r.unit, r.item, r.group, "ann", label) for r, label in zip(PILOT, given, strict=True)]
    parquet.write(tmp_path / "labels.parquet", labels, HumanLabel)
    found = planned(
        tmp_path,
        power.Wanted(half_width=0.05),
        judgements=tmp_path / "pilot.parquet",
        labels=tmp_path / "labels.parquet",
    )
    share = found["taken", "decided share"]
    assert (share.value, share.low) == (pytest.approx(0.72), pytest.approx(wilson(36, 50, norm.ppf(0.975))[0]))
    assert found["taken", "difference"].value == pytest.approx(0.24)
    assert found["taken", "cost a call, USD"].value == pytest.approx(0.003)
    assert found["taken", "correlation with people"].value == pytest.approx(0.72, abs=0.1)
    pairs = found["for a half-width of 0.05", "pairs"]
    # 3.8415 (0.72 - 0.0576) / (4 * 0.0025) = 254.5; at the ends of the share's interval fewer and more.
    assert pairs.value == 255
    assert pairs.low < 255 < pairs.high
    reason = found["for a half-width of 0.05", "labels"].reason
    assert reason == "how many pairs the judge will judge is not said"


def test_groups_in_the_pilot_cost_pairs(tmp_path: Path) -> None:
    # Each of 25 groups has one outcome twice: the clustered variance of the mean is 25 / 24 sum_c (2 g_c)^2 / 50^2, the
    # plain one sum_c 2 g_c^2 / (49 * 50).
    twice = [replace(r, group=f"g{p // 2}", outcome=PILOT[p // 2 * 2 % 50].outcome) for p, r in enumerate(PILOT)]
    parquet.write(tmp_path / "pilot.parquet", twice, Judgement)
    found = planned(tmp_path, power.Wanted(half_width=0.05), judgements=tmp_path / "pilot.parquet")
    assert found["taken", "design effect"].value == pytest.approx(2 * 25 / 24 * 49 / 50)


def test_rates_of_yes_are_planned_as_pairs_that_all_are_decided(tmp_path: Path) -> None:
    answers = [judgement(p, "yes" if p < 40 else "no", kind="yes_no", b="", policy_b="") for p in range(50)]
    parquet.write(tmp_path / "pilot.parquet", answers, Judgement)
    found = planned(tmp_path, power.Wanted(half_width=0.05), judgements=tmp_path / "pilot.parquet")
    # 1.96^2 p (1 - p) / h^2 at p = 0.8.
    assert found["for a half-width of 0.05", "pairs"].value == 246


def test_the_papers_own_agreement(tmp_path: Path) -> None:
    # 77.2 % and 90.7 % of about 50 items: Wilson, and mid-p above, where fewer than five are wrong.
    for rate, low, high in ((0.772, 0.639, 0.866), (0.907, 0.795, 0.967)):
        found = planned(tmp_path / str(rate), power.Wanted(rate=rate, items=50))
        estimate = found["", "observed rate"]
        assert (estimate.low, estimate.high) == (pytest.approx(low, abs=6e-4), pytest.approx(high, abs=6e-4))
        p, z = rate, 1.959964
        middle, half = p + z**2 / 100, z * (p * (1 - p) / 50 + z**2 / 10_000) ** 0.5
        assert estimate.low == pytest.approx((middle - half) / (1 + z**2 / 50), abs=1e-6)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({}, "nothing to compute is given"),
        ({"half_width": 0.6}, "half_width is 0.6"),
        ({"detect": 0.0}, "detect is 0.0"),
        ({"pairs": 0}, "pairs is 0"),
        ({"rate": 0.5}, "needs the number of its items"),
        ({"rate": 1.2, "items": 5}, "rate is 1.2"),
        ({"rate": 0.5, "items": 0}, "items is 0"),
    ],
)
def test_what_cannot_be_wanted(wanted: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        power.Wanted(**wanted)


def test_impossible_assumptions_are_one_line(tmp_path: Path) -> None:
    for place, (pilot, said) in enumerate(
        (
            ({"decided": 1.4}, "decided is 1.4"),
            ({"decided": 0.2, "difference": 0.5}, "cannot exceed the decided share"),
            ({"decided": 0.05, "difference": 0.0}, "a difference of 0.1 cannot exceed the decided share"),
            ({"price_usd": float("nan")}, "price_usd is nan"),
        )
    ):
        with pytest.raises(UserError, match=said):
            planned(tmp_path / str(place), power.Wanted(detect=0.1), **pilot)
    mixed = [*PILOT, replace(PILOT[0], judge="other")]
    parquet.write(tmp_path / "mixed.parquet", mixed, Judgement)
    with pytest.raises(UserError, match="several judges"):
        planned(tmp_path / "m", power.Wanted(detect=0.1), judgements=tmp_path / "mixed.parquet")
    for wrong in ({"level": 1.0}, {"calls_per_pair": 0}, {"judged": 0}):
        with pytest.raises(UserError):
            power.PowerOptions(**wrong)
