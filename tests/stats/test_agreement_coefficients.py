"""Agreement coefficients against textbook examples and independent packages, and their intervals by coverage."""

from __future__ import annotations

import krippendorff
import numpy as np
import pytest
from scipy.stats import chi2, dirichlet, norm, t
from sklearn.metrics import cohen_kappa_score, confusion_matrix
from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_fleiss

from perl_eval.stats import kappa
from perl_eval.stats.agreement_coefficients import (
    agreements,
    cohen_kappa,
    exact_agreement,
    fleiss_kappa,
    gwet_ac1,
    krippendorff_alpha,
    scott_pi,
)
from perl_eval.stats.bootstrap import Resampling

QUICK = Resampling(draws=50)
LABELS = ("win", "tie", "loss")
# Krippendorff, Computing Krippendorff's alpha-reliability (2011), example C: four coders, twelve units, some missing.
CODERS = ("123321412???", "1233224125?3", "?3332342251?", "12332441251?")
CODED = [{str(c): row[u] for c, row in enumerate(CODERS) if row[u] != "?"} for u in range(12)]
# Fleiss (1971), as tabulated in many textbooks: 14 raters, 10 subjects, 5 labels; kappa 0.210.
FLEISS = (
    *((0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1)),
    *((7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7)),
)


def spread_out(counts: tuple[int, ...]) -> dict[str, str]:
    labels = [str(label) for label, times in enumerate(counts) for _ in range(times)]
    return {f"rater {place}": label for place, label in enumerate(labels)}


def two(x: list[str], y: list[str]) -> list[dict[str, str]]:
    return [{"x": one, "y": other} for one, other in zip(x, y, strict=True)]


@pytest.mark.parametrize(("scale", "expected"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_krippendorffs(scale: str, expected: float) -> None:
    estimate = krippendorff_alpha(CODED, tuple("12345"), scale=scale, resampling=QUICK)
    assert estimate.value == pytest.approx(expected, abs=5e-4)
    assert (estimate.n, estimate.n_missing) == (11, 1)  # the last unit has one label


def posterior(table: tuple[int, ...], prior: tuple[float, ...]) -> np.ndarray:
    """Cohen's kappa on draws of the chances of yes-yes, yes-no, no-yes and no-no, by another package."""
    draws = dirichlet(np.array(table) + prior).rvs(40_000, random_state=3)
    both, first, second, neither = draws.T
    one, other = both + first, both + second
    chance = one * other + (1 - one) * (1 - other)
    return (both + neither - chance) / (1 - chance)


@pytest.mark.parametrize("table", [(0, 3, 2, 45), (2, 1, 1, 46), (15, 1, 0, 14), (30, 10, 12, 48)])
def test_kappas_interval_is_that_of_the_dirichlet_posterior(table: tuple[int, ...]) -> None:
    n, kinds = sum(table), (("yes", "yes"), ("yes", "no"), ("no", "yes"), ("no", "no"))
    ratings = [{"p": one, "q": other} for (one, other), times in zip(kinds, table, strict=True) for _ in range(times)]
    estimate = cohen_kappa(ratings, ("no", "yes"), resampling=Resampling(draws=40_000))
    tail = norm.cdf(-np.sqrt(n / (n - 1)) * t.ppf(0.975, n - 1))
    low = np.quantile(posterior(table, (0.5, 0.5, 0.5, 0.5)), tail)
    high = np.quantile(posterior(table, (0.5, 0.25, 0.25, 0.5)), 1 - tail)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.015)


def donner_eliasziw(table: tuple[int, int, int, int]) -> tuple[float, float]:
    """Return the goodness-of-fit interval of the intraclass kappa, from its definition."""
    n = sum(table)
    seen = np.array([table[0], table[1] + table[2], table[3]])
    yes = (2 * seen[0] + seen[1]) / (2 * n)
    trials = np.linspace(-0.3, 1, 130_001)[:-1]
    mixed = yes * (1 - yes)
    expected = n * np.array([yes**2 + trials * mixed, 2 * mixed * (1 - trials), (1 - yes) ** 2 + trials * mixed])
    with np.errstate(divide="ignore", invalid="ignore"):
        fit = ((seen[:, None] - expected) ** 2 / expected).sum(axis=0)
    held = trials[(expected > 0).all(axis=0) & (fit <= chi2.ppf(0.95, 1))]
    return float(held.min()), float(held.max())


@pytest.mark.parametrize("table", [(30, 10, 12, 48), (40, 3, 2, 55), (8, 4, 6, 182)])
def test_the_intraclass_kappas_interval_is_near_donners_and_eliasziws(table: tuple[int, int, int, int]) -> None:
    kinds = (("yes", "yes"), ("yes", "no"), ("no", "yes"), ("no", "no"))
    ratings = [{"p": one, "q": other} for (one, other), times in zip(kinds, table, strict=True) for _ in range(times)]
    estimate = scott_pi(ratings, ("no", "yes"), resampling=Resampling(draws=20_000))
    assert (estimate.low, estimate.high) == pytest.approx(donner_eliasziw(table), abs=0.06)


def test_full_agreement_is_not_certain() -> None:
    ratings = two(["yes"] * 12 + ["no"] * 13, ["yes"] * 12 + ["no"] * 13)
    for estimate in agreements(ratings, ("no", "yes"), resampling=Resampling(draws=500)):
        assert estimate.value == pytest.approx(1.0)
        assert estimate.high == pytest.approx(1.0)
        assert 0.5 < estimate.low < 0.9, estimate.name
    # Groups of five that agree fully are worth no more than as many units.
    grouped = cohen_kappa(ratings, ("no", "yes"), clusters=[place // 5 for place in range(25)])
    assert grouped.low < cohen_kappa(ratings, ("no", "yes")).low - 0.1


def test_independent_raters_who_rarely_say_yes_do_not_disagree() -> None:
    ratings = two(["yes"] * 3 + ["no"] * 47, ["no"] * 48 + ["yes"] * 2)  # no yes in common
    for estimate in agreements(ratings, ("no", "yes"), resampling=Resampling(draws=500))[1:4]:
        assert estimate.value < 0
        assert estimate.high > 0.2, estimate.name


def test_alphas_draws_follow_the_package() -> None:

    rng = np.random.default_rng(0)
    data = rng.integers(0, 4, (5, 40)).astype(float)
    data[:, :25] = data[0, :25]
    data[rng.random(data.shape) < 0.2] = np.nan
    units = [{str(r): str(int(v)) for r, v in enumerate(column) if not np.isnan(v)} for column in data.T]
    for scale in ("nominal", "ordinal", "interval"):
        estimate = krippendorff_alpha(units, tuple("0123"), scale=scale, resampling=Resampling(draws=300))
        # An independent bootstrap with the package itself.
        drawn = [krippendorff.alpha(data[:, rng.integers(0, 40, 40)], level_of_measurement=scale) for _ in range(300)]
        assert estimate.low == pytest.approx(np.quantile(drawn, 0.025), abs=0.06)
        assert estimate.high == pytest.approx(np.quantile(drawn, 0.975), abs=0.06)


def test_fleiss_is_the_textbooks() -> None:
    units = [spread_out(counts) for counts in FLEISS]
    estimate = fleiss_kappa(units, tuple("01234"), resampling=QUICK)
    assert estimate.value == pytest.approx(0.210, abs=5e-4)
    assert estimate.value == pytest.approx(statsmodels_fleiss(np.array(FLEISS)))


def test_gwet_is_the_textbooks() -> None:
    # Gwet (2008): 118 both +, 5 and 2 split, none both -. pa = 118 / 125 = 0.944; the share of + is
    # (123 + 120) / 250 = 0.972, so pe = 2 * 0.972 * 0.028 = 0.054432 and AC1 = 0.889568 / 0.945568 = 0.94078.
    units = two(["+"] * 123 + ["-"] * 2, ["+"] * 118 + ["-"] * 5 + ["+"] * 2)
    assert gwet_ac1(units, ("+", "-"), resampling=QUICK).value == pytest.approx(0.94078, abs=1e-5)
    # Cohen's kappa of the same table is below zero: pe = 0.984 * 0.96 + 0.016 * 0.04 = 0.94528.
    assert cohen_kappa(units, ("+", "-"), resampling=QUICK).value == pytest.approx((0.944 - 0.94528) / 0.05472)


def test_gwet_with_missing_labels_by_hand() -> None:
    # Units aab, ab, b, bb. Pairs that agree: 1/3, 0, none, 1: pa = 4/9. Share of a: 2/3, 1/2, 0, 0: pi_a = 7/24.
    # pe = 2 * 7/24 * 17/24 = 119/288; AC1 = (4/9 - 119/288) / (1 - 119/288) = 9/169.
    units = [{"x": "a", "y": "a", "z": "b"}, {"x": "a", "y": "b"}, {"x": "b"}, {"y": "b", "z": "b"}]
    assert gwet_ac1(units, ("a", "b"), resampling=QUICK).value == pytest.approx(9 / 169)


def test_scott_by_hand() -> None:
    # 20 both a, 15 both b, 5 ab, 10 ba: po = 0.7; share of a = (25 + 30) / 100 = 0.55, pe = 0.55^2 + 0.45^2 = 0.505.
    units = two(["a"] * 25 + ["b"] * 25, ["a"] * 20 + ["b"] * 5 + ["a"] * 10 + ["b"] * 15)
    assert scott_pi(units, ("a", "b"), resampling=QUICK).value == pytest.approx(0.195 / 0.495)
    # Cohen: pe = 0.5 * 0.6 + 0.5 * 0.4 = 0.5.
    assert cohen_kappa(units, ("a", "b"), resampling=QUICK).value == pytest.approx(0.4)
    with pytest.raises(ValueError, match="fleiss_kappa"):
        scott_pi([{"x": "a", "y": "a", "z": "a"}], ("a", "b"))


def test_cohen_is_that_of_sklearn() -> None:
    rng = np.random.default_rng(1)
    x = rng.choice(LABELS, 200).tolist()
    y = [label if rng.random() < 0.6 else str(rng.choice(LABELS)) for label in x]
    assert cohen_kappa(two(x, y), LABELS, resampling=QUICK).value == pytest.approx(cohen_kappa_score(x, y))


def test_cohen_pools_over_rater_pairs() -> None:
    rng = np.random.default_rng(2)
    units = [{name: str(rng.choice(LABELS)) for name in "pqrs" if rng.random() < 0.7} for _ in range(120)]
    top = bottom = 0.0
    for one, other in (("p", "q"), ("p", "r"), ("p", "s"), ("q", "r"), ("q", "s"), ("r", "s")):
        shared = [unit for unit in units if one in unit and other in unit]
        table = confusion_matrix([u[one] for u in shared], [u[other] for u in shared], labels=LABELS)
        chance = table.sum(axis=1) @ table.sum(axis=0) / table.sum()
        top += np.trace(table) - chance
        bottom += table.sum() - chance
    assert cohen_kappa(units, LABELS, resampling=QUICK).value == pytest.approx(top / bottom)


def test_many_raters_who_rarely_meet() -> None:
    rng = np.random.default_rng(3)
    units = [{f"p{r}": str(rng.choice(LABELS)) for r in rng.choice(80, 3, replace=False)} for _ in range(400)]
    estimate = cohen_kappa(units, LABELS, resampling=QUICK)
    assert estimate.n == 400
    assert estimate.value is not None


def test_exact_agreement_and_its_ties() -> None:
    units = two(["win", "win", "tie", "tie", "loss"], ["win", "loss", "tie", "win", "loss"])
    # Equal: yes, no, yes, no, yes. Without ties: yes, no, yes. Half: 1, 0, 1, 1/2, 1.
    assert exact_agreement(units, LABELS).value == pytest.approx(3 / 5)
    dropped = exact_agreement(units, LABELS, ties="dropped")
    assert dropped.value == pytest.approx(2 / 3)
    assert (dropped.n, dropped.n_missing) == (3, 2)
    assert exact_agreement(units, LABELS, ties="half").value == pytest.approx(3.5 / 5)
    # Three raters, one disagrees: one pair of three agrees.
    assert exact_agreement([{"a": "win", "b": "win", "c": "tie"}], LABELS).value == pytest.approx(1 / 3)


def test_a_constant_rater_leaves_nothing_to_agree_beyond() -> None:
    same = two(["win"] * 9, ["win"] * 9)
    for estimate in agreements(same, LABELS, resampling=QUICK)[1:4]:
        assert estimate.value is None, estimate.name
        assert "all labels are the same" in str(estimate.reason)
    # AC1 is made for this: no chance agreement where nothing varies.
    assert gwet_ac1(same, LABELS, resampling=QUICK).value == pytest.approx(1.0)
    # One constant rater, one that varies: chance explains everything.
    assert cohen_kappa(two(["win"] * 4, ["win", "loss"] * 2), LABELS, resampling=QUICK).value == pytest.approx(0.0)


def test_nothing_shared_is_undefined() -> None:
    for estimate in agreements([{"a": "win"}, {}, {"b": "tie"}], LABELS, resampling=QUICK):
        assert estimate.value is None
        assert (estimate.n, estimate.n_missing) == (0, 3)
        assert estimate.reason == "no unit has two labels"
    with pytest.raises(ValueError, match="'draw'"):
        exact_agreement([{"a": "draw", "b": "win"}], LABELS)


# Two raters with a known joint distribution; population values by hand from the joint table.
JOINT = np.array([[0.40, 0.05, 0.05], [0.05, 0.15, 0.05], [0.05, 0.00, 0.20]])


def _population() -> dict[str, float]:
    observed, rows, columns = np.trace(JOINT), JOINT.sum(axis=1), JOINT.sum(axis=0)
    pooled = (rows + columns) / 2
    cohen, pi = rows @ columns, pooled @ pooled
    gwet = (pooled * (1 - pooled)).sum() / 2
    kappas = {name: (observed - chance) / (1 - chance) for name, chance in (("c", cohen), ("s", pi), ("g", gwet))}
    return {
        "exact agreement": observed,
        "Cohen kappa": kappas["c"],
        "Fleiss kappa": kappas["s"],
        "Krippendorff alpha": kappas["s"],  # in the limit of many units
        "Gwet AC1": kappas["g"],
    }


def test_intervals_cover() -> None:
    rng, truth, runs = np.random.default_rng(4), _population(), 700
    held = dict.fromkeys(truth, 0)
    for _ in range(runs):
        cells = rng.choice(9, 200, p=JOINT.ravel())
        units = [{"x": LABELS[cell // 3], "y": LABELS[cell % 3]} for cell in cells.tolist()]
        for estimate in agreements(units, LABELS, resampling=Resampling(draws=500)):
            held[estimate.name] += estimate.low <= truth[estimate.name] <= estimate.high
    for name, times in held.items():
        assert 0.93 <= times / runs <= 0.97, (name, times / runs)


def test_a_small_table_is_dense_and_says_what_a_sparse_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    ratings = [
        {f"r{rater}": "xyz"[random.integers(3)] for rater in random.permutation(5)[: random.integers(1, 5)]}
        for _ in range(80)
    ]
    clusters = [f"g{place // 3}" for place in range(80)]  # several units a cluster, so cells repeat
    dense = cohen_kappa(ratings, "xyz", clusters=clusters)
    assert dense.low is not None
    monkeypatch.setattr(kappa, "_DENSE", 0)
    sparse = cohen_kappa(ratings, "xyz", clusters=clusters)
    for one, other in zip((dense.value, dense.low, dense.high), (sparse.value, sparse.low, sparse.high), strict=True):
        assert one == pytest.approx(other, rel=1e-12)  # they add up in another order
