"""The grid of `coverage.py`: what is drawn, what is estimated of it, and what is true, for every kind of interval.

Clusters come in two shapes: of one size, and with a long tail. An item of a cluster is a copy of the cluster's first
draw with a chance of 0.6, else a draw of its own; so the truth is that of independent items.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perl_eval.bayes.divergences import forward_kl, log_normaliser, log_normaliser_above, reverse_kl
from perl_eval.records import Estimate
from perl_eval.stats.agreement_coefficients import (
    cohen_kappa,
    exact_agreement,
    fleiss_kappa,
    gwet_ac1,
    krippendorff_alpha,
)
from perl_eval.stats.alttest import alternative_annotator_test
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.calibration import calibration_error
from perl_eval.stats.classification import (
    area_under_curve,
    average_precision,
    balanced_accuracy,
    pair_accuracy,
    within_context_accuracy,
)
from perl_eval.stats.corrected_difference import Differences, corrected_difference
from perl_eval.stats.correction import Sample, corrected_shares, prediction_powered_mean, rogan_gladen
from perl_eval.stats.correlation import correlations
from perl_eval.stats.human_panel import ceiling, human_judge
from perl_eval.stats.intervals import mean, sparse_mean
from perl_eval.stats.length import equal_length_win_rate
from perl_eval.stats.mean_score import mean_score
from perl_eval.stats.paired import mcnemar, paired_outcomes
from perl_eval.stats.position_bias import position_bias
from perl_eval.stats.ranking import Comparison, rank
from perl_eval.stats.rater_correlation import EIGENVALUE, KISH, likeness
from perl_eval.stats.sequential import StopRule
from perl_eval.stats.survey_weights import (
    WeightedSample,
    draw,
    inclusion_probabilities,
    weighted_mean,
    weighted_prediction_powered_mean,
)
from perl_eval.stats.winrate import sign_test, win_rates, yes_rates

__all__ = ["Cell", "grid", "is_cached"]

Generator = np.random.Generator
FloatArray = NDArray[np.float64]
Drawn = Any
"""What one draw is: if it can be hashed, the interval depends on nothing else, and is made once."""
COPY = 0.6
QUICK = Resampling(draws=1000)
OUTCOMES = ("win", "split", "loss")


@dataclass(frozen=True, slots=True)
class Cell:
    """One setting of one kind of interval, or of one test.

    Attributes:
        kind: The figure.
        setting: What is drawn.
        truth: What the interval should hold, or what works it out; None for a p-value, which should be 0.05 or more in
            95 % of draws.
        sample: Draws the data.
        estimate: Makes the figure of them.
        corner: Whether it is one of the few that continuous integration runs.
    """

    kind: str
    setting: str
    truth: float | Callable[[], float] | None
    sample: Callable[[Generator], Drawn]
    estimate: Callable[[Drawn], Estimate]
    corner: bool = False


def named(estimates: list[Estimate], name: str) -> Estimate:
    """Return the figure of a name."""
    return next(estimate for estimate in estimates if estimate.name == name)


@cache
def clusters_of(shape: str) -> NDArray[np.intp]:
    """Return the cluster of each item: ``20 x 10`` of one size, ``tail 50`` so many of a lognormal size."""
    if shape.startswith("tail"):
        from scipy.special import ndtri

        number = int(shape.split()[1])
        sizes = np.ceil(2 * np.exp(1.2 * ndtri((np.arange(number) + 0.5) / number))).astype(int)
    else:
        number, size = map(int, shape.split(" x "))
        sizes = np.full(number, size)
    return np.repeat(np.arange(number), sizes)


def copied(rng: Generator, clusters: NDArray[np.intp], draws: FloatArray) -> FloatArray:
    """Return draws of which some are copies of their cluster's first."""
    first = np.searchsorted(clusters, clusters)
    taken = np.where(rng.random(len(clusters)) < COPY, first, np.arange(len(clusters)))
    return draws[taken]


def setting(**parts: object) -> str:
    """Return the words for a setting."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in parts.items())


# --- rates and means ---


def _ones(counts: tuple[int, ...], values: tuple[float, ...]) -> FloatArray:
    return np.repeat(values, counts)


def rates() -> Iterator[Cell]:
    """Yield cells of rates: Wilson's intervals, and the bootstrap's where it is asked for."""
    for n, rate in product((10, 20, 50, 100, 200, 500), (0.5, 0.8, 0.95, 0.98)):

        def sample(rng: Generator, n: int = n, rate: float = rate) -> Drawn:
            return (n, int(rng.binomial(n, rate)))

        def by_wilson(drawn: tuple[int, int]) -> Estimate:
            n, hits = drawn
            return named(yes_rates(["yes"] * hits + ["no"] * (n - hits)), "yes rate")

        def by_bootstrap(drawn: tuple[int, int]) -> Estimate:
            n, hits = drawn
            return named(yes_rates(["yes"] * hits + ["no"] * (n - hits), resampling=QUICK), "yes rate")

        words, corner = setting(n=n, rate=rate), (n, rate) in {(10, 0.95), (50, 0.98)}
        yield Cell("rate", words, rate, sample, by_wilson, corner)
        if n <= 100:
            yield Cell("rate, bootstrap", words, rate, sample, by_bootstrap, corner)
    for shape, rate in product(("20 x 10", "100 x 4", "tail 20", "tail 50", "tail 200"), (0.5, 0.8, 0.95)):
        groups = clusters_of(shape)

        def clustered(rng: Generator, groups: NDArray[np.intp] = groups, rate: float = rate) -> Drawn:
            return groups, copied(rng, groups, (rng.random(len(groups)) < rate).astype(float))

        def grouped(drawn: tuple[NDArray[np.intp], FloatArray]) -> Estimate:
            groups, hits = drawn
            return named(yes_rates(np.where(hits > 0, "yes", "no").tolist(), clusters=groups), "yes rate")

        corner = (shape, rate) in {("tail 20", 0.8), ("tail 50", 0.95)}
        yield Cell("rate, clusters", setting(clusters=shape, rate=rate), rate, clustered, grouped, corner)


def halves() -> Iterator[Cell]:
    """Yield cells of win rates with undecided pairs counted half, and of win minus loss: bounded, of three values."""
    shares = ((0.96, 0.04, 0.0), (0.94, 0.04, 0.02), (0.9, 0.08, 0.02), (0.4, 0.3, 0.3), (0.02, 0.96, 0.02))
    for n, share in product((20, 50, 100, 200), shares):
        truth = share[0] + share[1] / 2

        def sample(rng: Generator, n: int = n, share: tuple[float, ...] = share) -> Drawn:
            return tuple(rng.multinomial(n, share).tolist())

        def half(counts: tuple[int, ...]) -> Estimate:
            return named(win_rates(np.repeat(OUTCOMES, counts).tolist()), "win rate, undecided half")

        def half_drawn(counts: tuple[int, ...]) -> Estimate:
            found = win_rates(np.repeat(OUTCOMES, counts).tolist(), resampling=QUICK)
            return named(found, "win rate, undecided half")

        words = setting(n=n, shares=share)
        corner = (n, share[1]) in {(100, 0.04), (20, 0.96)}
        yield Cell("rate, undecided half", words, truth, sample, half, corner)
        if n <= 100:
            yield Cell("rate, undecided half, bootstrap", words, truth, sample, half_drawn, n == 20 and corner)
    for shape, share in product(("20 x 10", "tail 20", "tail 50"), shares[:4]):
        groups = clusters_of(shape)

        def clustered(rng: Generator, groups: NDArray[np.intp] = groups, share: tuple[float, ...] = share) -> Drawn:
            return groups, copied(rng, groups, rng.choice(3, len(groups), p=share).astype(float))

        def grouped(drawn: tuple[NDArray[np.intp], FloatArray]) -> Estimate:
            groups, codes = drawn
            found = win_rates(np.take(OUTCOMES, codes.astype(int)).tolist(), clusters=groups)
            return named(found, "win rate, undecided half")

        truth, corner = share[0] + share[1] / 2, (shape, share[0]) == ("tail 50", 0.9)
        words = setting(clusters=shape, shares=share)
        yield Cell("rate, undecided half, clusters", words, truth, clustered, grouped, corner)


def means() -> Iterator[Cell]:
    """Yield cells of means without bounds (scores, tokens), and of bounded ones that are mostly zero."""

    def estimate(values: FloatArray) -> Estimate:
        return mean_score(values.tolist(), clusters=range(len(values)))

    def sparse(values: FloatArray) -> Estimate:
        return sparse_mean("repetition", values)

    def brier(values: FloatArray) -> Estimate:
        return mean("Brier score", values, bounds=(0.0, 1.0))

    for n in (20, 50, 100, 200):
        yield Cell("mean score", setting(n=n, scores="1 to 5"), 3.0, _grades(n), estimate, n == 20)
        yield Cell("mean score", setting(n=n, scores="lognormal, sd 0.5"), _half_sd(), _lognormal(n), estimate)
        yield Cell("mean of rare sizes", setting(n=n, above_zero=0.1), 0.03, _rare(n), sparse)
        yield Cell("mean of squares", setting(n=n, squares="of a beta(1, 9)"), 2 / 110, _squares(n), brier, n == 50)


def _grades(n: int) -> Callable[[Generator], Drawn]:
    return lambda rng: rng.integers(1, 6, n).astype(float)


def _half_sd() -> float:
    return float(np.exp(0.125))


def _lognormal(n: int) -> Callable[[Generator], Drawn]:
    return lambda rng: np.exp(rng.normal(0, 0.5, n))


def _rare(n: int) -> Callable[[Generator], Drawn]:
    return lambda rng: np.where(rng.random(n) < 0.1, rng.uniform(0.1, 0.5, n), 0.0)


def _squares(n: int) -> Callable[[Generator], Drawn]:
    return lambda rng: rng.beta(1, 9, n) ** 2


# --- two policies ---


def paired() -> Iterator[Cell]:
    """Yield cells of differences of two policies on the same items, and of the tests that use the pairing."""
    for n, (one, other) in product((10, 20, 50, 100, 200), ((0.99, 0.97), (0.98, 0.9), (0.5, 0.4), (0.1, 0.02))):

        def sample(rng: Generator, n: int = n, one: float = one, other: float = other) -> Drawn:
            both = (one * other, one * (1 - other), (1 - one) * other, (1 - one) * (1 - other))
            return tuple(rng.multinomial(n, both).tolist())

        def difference(counts: tuple[int, ...]) -> Estimate:
            ours, theirs = (np.repeat(which, counts).tolist() for which in (_WINS[0], _WINS[1]))
            return named(paired_outcomes(ours, theirs, resampling=QUICK), "win rate difference")

        words, corner = setting(n=n, rates=(one, other)), (n, one) in {(10, 0.99), (50, 0.1)}
        yield Cell("paired difference", words, one - other, sample, difference, corner)
    for shape, (one, other) in product(("20 x 10", "tail 20", "tail 50"), ((0.95, 0.9), (0.5, 0.4))):
        groups = clusters_of(shape)

        def clustered(
            rng: Generator, groups: NDArray[np.intp] = groups, one: float = one, other: float = other
        ) -> Drawn:
            hits = [copied(rng, groups, (rng.random(len(groups)) < rate).astype(float)) for rate in (one, other)]
            return groups, *hits

        def grouped(drawn: tuple[NDArray[np.intp], FloatArray, FloatArray]) -> Estimate:
            groups, ours, theirs = drawn
            words = [np.where(part > 0, "win", "loss").tolist() for part in (ours, theirs)]
            return named(paired_outcomes(*words, clusters=groups, resampling=QUICK), "win rate difference")

        words = setting(clusters=shape, rates=(one, other))
        yield Cell("paired difference, clusters", words, one - other, clustered, grouped, shape == "tail 20")
    for shape in ("20 x 10", "100 x 4", "tail 50"):
        groups = clusters_of(shape)

        def even(rng: Generator, groups: NDArray[np.intp] = groups) -> Drawn:
            return groups, *(copied(rng, groups, (rng.random(len(groups)) < 0.5).astype(float)) for _ in range(2))

        def by_signs(drawn: tuple[NDArray[np.intp], FloatArray, FloatArray]) -> Estimate:
            return sign_test(drawn[1], clusters=drawn[0])

        def by_mcnemar(drawn: tuple[NDArray[np.intp], FloatArray, FloatArray]) -> Estimate:
            return mcnemar(drawn[1], drawn[2], clusters=drawn[0])

        corner = shape == "20 x 10"
        yield Cell("sign test", setting(clusters=shape), None, even, by_signs, corner)
        yield Cell("McNemar's test", setting(clusters=shape), None, even, by_mcnemar, corner)


_WINS = (np.array(["win", "win", "loss", "loss"]), np.array(["win", "loss", "win", "loss"]))


def orders() -> Iterator[Cell]:
    """Yield cells of position preference, consistency and kappa between the orders."""
    kinds = [("first", "second"), ("second", "first"), ("first", "first"), ("second", "second")]
    for n, share in product((20, 50, 200), ((0.48, 0.48, 0.02, 0.02), (0.4, 0.3, 0.2, 0.1), (0.5, 0.48, 0.02, 0.0))):
        alike = share[0] * share[1]
        a_first = (share[0] + share[2], share[0] + share[3])  # a preferred in order ab, in order ba
        chance = a_first[0] * a_first[1] + (1 - a_first[0]) * (1 - a_first[1])
        kappa = (share[0] + share[1] - chance) / (1 - chance) if alike else 0.0

        def sample(rng: Generator, n: int = n, share: tuple[float, ...] = share) -> Drawn:
            return tuple(rng.multinomial(n, share).tolist())

        def figure(counts: tuple[int, ...], name: str = "") -> Estimate:
            pairs = [kind for kind, times in zip(kinds, counts, strict=True) for _ in range(times)]
            return named(position_bias(pairs, resampling=QUICK), name)

        words, corner = setting(n=n, shares=share), (n, share[3]) in {(20, 0.02), (50, 0.0)}
        preference = partial(figure, name="position preference")
        yield Cell("position preference", words, share[2] - share[3], sample, preference, corner)
        yield Cell("kappa between orders", words, kappa, sample, partial(figure, name="kappa between orders"), corner)


def rankings() -> Iterator[Cell]:
    """Yield cells of Davidson strengths of three policies."""
    strength = np.array([0.0, 0.7, -0.7])
    for n in (50, 200):

        def sample(rng: Generator, n: int = n) -> Drawn:
            sides = np.array([(0, 1), (0, 2), (1, 2)])[rng.integers(0, 3, n)]
            wins = rng.random(n) < 1 / (1 + np.exp(strength[sides[:, 1]] - strength[sides[:, 0]]))
            return sides, wins.astype(float)

        def estimate(drawn: tuple[NDArray[np.intp], FloatArray]) -> Estimate:
            met = [
                Comparison("abc"[one], "abc"[other], win)
                for (one, other), win in zip(drawn[0].tolist(), drawn[1].tolist(), strict=True)
            ]
            return rank(met, clusters=range(len(met)), resampling=Resampling(draws=200))["b"]

        yield Cell("strength (Davidson)", setting(comparisons=n), 0.7, sample, estimate)


# --- agreement ---


def _table(rate: float, kappa: float) -> tuple[float, float, float, float]:
    """Return the chances of yes-yes, yes-no, no-yes and no-no of two raters with one rate of yes."""
    apart = rate * (1 - rate) * (1 - kappa)
    return rate - apart, apart, apart, 1 - rate - apart


def _two_raters(counts: tuple[int, ...]) -> list[dict[str, str]]:
    answers = (("yes", "yes"), ("yes", "no"), ("no", "yes"), ("no", "no"))
    return [{"p": one, "q": other} for (one, other), n in zip(answers, counts, strict=True) for _ in range(n)]


COEFFICIENTS: dict[str, Callable[..., Estimate]] = {
    "Cohen kappa": cohen_kappa,
    "Fleiss kappa": fleiss_kappa,
    "Krippendorff alpha": krippendorff_alpha,
    "Gwet AC1": gwet_ac1,
}


def agreement() -> Iterator[Cell]:
    """Yield cells of agreement coefficients of two raters, from none to nearly full, with rare and common labels."""
    for n, rate, kappa in product((20, 50, 200), (0.05, 0.1, 0.5), (0.0, 0.5, 0.9, 0.97)):
        chances = _table(rate, kappa)
        same = chances[0] + chances[3]
        beyond = 2 * rate * (1 - rate)  # what AC1 takes for agreement by chance

        def sample(rng: Generator, n: int = n, chances: tuple[float, ...] = chances) -> Drawn:
            return tuple(rng.multinomial(n, chances).tolist())

        def exact(counts: tuple[int, ...]) -> Estimate:
            return exact_agreement(_two_raters(counts), ("no", "yes"))

        def coefficient(counts: tuple[int, ...], make: Callable[..., Estimate] = cohen_kappa) -> Estimate:
            return make(_two_raters(counts), ("no", "yes"), resampling=QUICK)

        words = setting(n=n, yes=rate, kappa=kappa)
        corner = (n, rate, kappa) in {(50, 0.05, 0.0), (50, 0.05, 0.5), (20, 0.5, 0.97)}
        yield Cell("exact agreement", words, same, sample, exact, corner)
        for name, make in COEFFICIENTS.items():
            truth = (same - beyond) / (1 - beyond) if name == "Gwet AC1" else kappa
            yield Cell(name, words, truth, sample, partial(coefficient, make=make), corner)
    yield from _clustered_agreement()


def _clustered_agreement() -> Iterator[Cell]:
    for shape, rate, kappa in product(("20 x 10", "tail 50"), (0.1, 0.5), (0.0, 0.9)):
        groups = clusters_of(shape)
        chances = _table(rate, kappa)

        def sample(rng: Generator, groups: NDArray[np.intp] = groups, chances: tuple[float, ...] = chances) -> Drawn:
            return groups, copied(rng, groups, rng.choice(4, len(groups), p=chances).astype(float))

        def estimate(
            drawn: tuple[NDArray[np.intp], FloatArray], make: Callable[..., Estimate] = cohen_kappa
        ) -> Estimate:
            groups, cells = drawn
            answers = [{"p": "ny"[cell < 2], "q": "ny"[cell % 2 == 0]} for cell in cells.astype(int).tolist()]
            return make(answers, ("n", "y"), clusters=groups.tolist(), resampling=QUICK)

        words, corner = setting(clusters=shape, yes=rate, kappa=kappa), (shape, rate) == ("tail 50", 0.1)
        for name in ("Cohen kappa", "Krippendorff alpha"):
            yield Cell(f"{name}, clusters", words, kappa, sample, partial(estimate, make=COEFFICIENTS[name]), corner)


def _panel(rng: Generator, n: int, right: tuple[float, ...], shares: tuple[float, ...]) -> Drawn:
    truth = rng.choice(len(shares), n, p=shares)
    wrong = (truth + rng.integers(1, len(shares), (len(right), n))) % len(shares)
    return np.where(rng.random((len(right), n)) < np.array(right)[:, None], truth, wrong)


def panels() -> Iterator[Cell]:
    """Yield cells of a judge beside three people: coefficients over several raters, the ceiling, the alt-test."""
    labels = ("0", "1", "2")
    for n, right in product((30, 100), (0.6, 0.9, 0.98)):

        def sample(rng: Generator, n: int = n, right: float = right) -> Drawn:
            return _panel(rng, n, (right,) * 4, (0.5, 0.3, 0.2))

        def read(answers: NDArray[np.intp]) -> tuple[list[str], list[dict[str, str]]]:
            given = answers.astype(str)
            return given[0].tolist(), [dict(zip("pqr", row, strict=True)) for row in given[1:].T.tolist()]

        def over_people(answers: NDArray[np.intp], make: Callable[..., Estimate] = fleiss_kappa) -> Estimate:
            return make(read(answers)[1], labels, resampling=QUICK)

        def ordinal(answers: NDArray[np.intp]) -> Estimate:
            return krippendorff_alpha(read(answers)[1], labels, scale="ordinal", resampling=QUICK)

        def majority(answers: NDArray[np.intp]) -> Estimate:
            return named(human_judge(*read(answers), labels, resampling=QUICK), "human-judge exact agreement, majority")

        def beyond(answers: NDArray[np.intp]) -> Estimate:
            return named(ceiling(*read(answers)), "judge minus human ceiling")

        def advantage(answers: NDArray[np.intp]) -> Estimate:
            return named(alternative_annotator_test(*read(answers), resampling=QUICK)[0], "alt-test advantage")

        words, corner = setting(n=n, right=right), (n, right) in {(30, 0.98)}
        truths = {
            name: partial(_panel_truth, right, name) for name in ("kappa", "AC1", "ordinal", "majority", "advantage")
        }
        for name in ("Cohen kappa", "Fleiss kappa", "Krippendorff alpha", "Gwet AC1"):
            figure = partial(over_people, make=COEFFICIENTS[name])
            truth = truths["AC1"] if name == "Gwet AC1" else truths["kappa"]
            yield Cell(f"{name}, three raters", words, truth, sample, figure, corner)
        yield Cell("Krippendorff alpha, ordinal", words, truths["ordinal"], sample, ordinal, corner)
        yield Cell("agreement with the majority", words, truths["majority"], sample, majority, corner)
        yield Cell("judge minus human ceiling", words, 0.0, sample, beyond, corner)
        yield Cell("alt-test advantage", words, truths["advantage"], sample, advantage, corner)


def _panel_truth(right: float, name: str) -> float:
    return _panel_truths(right)[name]


@cache
def _panel_truths(right: float) -> dict[str, float]:
    """Return the truths of a panel: by hand for what is simple, else on a million units."""
    shares = np.array([0.5, 0.3, 0.2])
    says = np.full((3, 3), (1 - right) / 2) + np.eye(3) * (right - (1 - right) / 2)  # row: truth
    same = float(shares @ (says**2).sum(axis=1))
    marginal = shares @ says
    chance = float(marginal @ marginal)
    by_gwet = float(marginal @ (1 - marginal)) / 2
    answers = _panel(np.random.default_rng(5), 1_000_000, (right,) * 4, tuple(shares.tolist()))
    judge, people = answers[0], answers[1:]
    votes = (people[None] == np.arange(3)[:, None, None]).sum(axis=1)
    top = votes == votes.max(axis=0)
    credit = (top / top.sum(axis=0))[judge, np.arange(len(judge))].mean()
    with_judge, with_first = ((people[1:] == said).sum(axis=0) for said in (judge, people[0]))
    joint = (says.T * shares) @ says  # chance of two raters' labels
    middle = np.cumsum(marginal) - marginal / 2
    apart = (middle[:, None] - middle[None, :]) ** 2
    return {
        "kappa": (same - chance) / (1 - chance),
        "AC1": (same - by_gwet) / (1 - by_gwet),
        "ordinal": 1 - float((joint * apart).sum()) / float((np.outer(marginal, marginal) * apart).sum()),
        "majority": float(credit),
        "advantage": float((with_judge >= with_first).mean()),
    }


def alt_tests() -> Iterator[Cell]:
    """Yield cells of the alternative annotator test's p at the edge of what it should refuse."""
    for shape in ("100 x 1", "50 x 4", "tail 50"):
        groups = clusters_of(shape)

        def sample(rng: Generator, groups: NDArray[np.intp] = groups) -> Drawn:
            # Two people and a judge: the first agrees with the second in 0.85, the judge in 0.7, apart from each other.
            second = copied(rng, groups, (rng.random(len(groups)) < 0.5).astype(float))
            first, judge = (
                np.where(copied(rng, groups, (rng.random(len(groups)) < chance).astype(float)) > 0, second, 1 - second)
                for chance in (0.85, 0.7)
            )
            return groups, np.stack([judge, first, second]).astype(int).astype(str)

        def estimate(drawn: tuple[NDArray[np.intp], NDArray[np.str_]]) -> Estimate:
            groups, said = drawn
            ratings = [{"p": one, "q": other} for one, other in said[1:].T.tolist()]
            _, people = alternative_annotator_test(
                said[0].tolist(), ratings, clusters=groups.tolist(), resampling=Resampling(draws=10)
            )
            return Estimate("alt-test p", people["p"].p, None, None, len(ratings), 0, "", kind="p-value")

        yield Cell("alt-test p", setting(clusters=shape), None, sample, estimate, shape == "50 x 4")


def scores_of_two() -> Iterator[Cell]:
    """Yield cells of correlations: of normal and skewed scores, and of two yes-or-no labels."""
    places = {"Pearson r": 0, "Spearman rho": 1, "Kendall tau-b": 2}
    for n, r, skewed in product((20, 50, 200), (0.0, 0.6, 0.95), (False, True)):

        def sample(rng: Generator, n: int = n, r: float = r, skewed: bool = skewed) -> Drawn:
            x = rng.normal(size=n)
            y = r * x + np.sqrt(1 - r * r) * rng.normal(size=n)
            return (np.exp(0.5 * x), np.exp(0.5 * y)) if skewed else (x, y)

        pearson = (np.exp(0.25 * r) - 1) / (np.exp(0.25) - 1) if skewed else r
        truths = (pearson, 6 / np.pi * np.arcsin(r / 2), 2 / np.pi * np.arcsin(r))
        words = setting(n=n, r=r, scores="lognormal" if skewed else "normal")
        for name, place in places.items():
            if skewed and place:
                continue  # ranks do not see it
            figure = partial(_correlation, place=place)
            corner = (n, r, skewed) == (20, 0.95, False)
            yield Cell(name, words, float(truths[place]), sample, figure, corner)
    for n, rate, kappa in product((50, 200), (0.05, 0.5), (0.0, 0.5)):
        chances = _table(rate, kappa)

        def labels(rng: Generator, n: int = n, chances: tuple[float, ...] = chances) -> Drawn:
            cells = rng.choice(4, n, p=chances)
            return (cells < 2).astype(float), (cells % 2 == 0).astype(float)

        words, corner = setting(n=n, yes=rate, kappa=kappa), (n, rate, kappa) == (50, 0.05, 0.0)
        yield Cell("Pearson r, two labels", words, kappa, labels, partial(_correlation, place=0), corner)


def _correlation(drawn: tuple[FloatArray, FloatArray], place: int = 0) -> Estimate:
    return correlations(drawn[0].tolist(), drawn[1].tolist())[place]


def juries() -> Iterator[Cell]:
    """Yield cells of the effective number of judges."""
    for number, n, rho in product((3, 5), (100, 500), (0.0, 0.3, 0.8)):

        def sample(rng: Generator, number: int = number, n: int = n, rho: float = rho) -> Drawn:
            return np.sqrt(rho) * rng.normal(size=(n, 1)) + np.sqrt(1 - rho) * rng.normal(size=(n, number))

        def estimate(values: FloatArray, name: str = "") -> Estimate:
            names = [f"j{place}" for place in range(values.shape[1])]
            return named(likeness(values, names, of="errors", resampling=QUICK), f"{name}, errors")

        words, corner = setting(judges=number, n=n, correlation=rho), (number, n, rho) == (3, 100, 0.0)
        by_values = number / (1 + (number - 1) * rho**2)
        yield Cell(EIGENVALUE, words, by_values, sample, partial(estimate, name=EIGENVALUE), corner)
        yield Cell(KISH, words, number / (1 + (number - 1) * rho), sample, partial(estimate, name=KISH), corner)


# --- scores against labels ---


def classifiers() -> Iterator[Cell]:
    """Yield cells of AUC, balanced accuracy and average precision, by class sizes and how well they are told apart."""
    from scipy.special import ndtr, ndtri

    for (yes, no), area in product(((5, 5), (10, 90), (25, 25), (100, 100)), (0.7, 0.95, 0.99)):
        apart = float(ndtri(area) * np.sqrt(2))

        def sample(rng: Generator, yes: int = yes, no: int = no, apart: float = apart) -> Drawn:
            truth = np.arange(yes + no) < yes
            return rng.normal(size=yes + no) + np.where(truth, apart / 2, -apart / 2), truth

        words, corner = setting(yes=yes, no=no, area=area), (yes, no, area) == (10, 90, 0.95)
        yield Cell("AUC", words, area, sample, lambda drawn: area_under_curve(*drawn), corner)
        balanced = float(ndtr(apart / 2))
        yield Cell("balanced accuracy", words, balanced, sample, lambda drawn: balanced_accuracy(*drawn), corner)
        if yes >= 10:
            truth = partial(_average_precision, yes / (yes + no), apart)
            yield Cell("average precision", words, truth, sample, lambda drawn: average_precision(*drawn), corner)
    for shape, area in product(("20 x 10", "tail 50"), (0.7, 0.95)):
        groups, apart = clusters_of(shape), float(ndtri(area) * np.sqrt(2))

        def clustered(rng: Generator, groups: NDArray[np.intp] = groups, apart: float = apart) -> Drawn:
            truth = rng.random(len(groups)) < 0.4
            draws = rng.normal(size=len(groups)) + np.where(truth, apart, 0.0)
            both = copied(rng, groups, draws + 1000 * truth)  # score and label are copied together
            return groups, np.where(both > 500, both - 1000, both), both > 500

        def grouped(drawn: tuple[NDArray[np.intp], FloatArray, NDArray[np.bool_]]) -> Estimate:
            groups, scores, truth = drawn
            return area_under_curve(scores, truth, clusters=groups.tolist())

        yield Cell("AUC, clusters", setting(clusters=shape, area=area), area, clustered, grouped, shape == "tail 50")


@cache
def _average_precision(share: float, apart: float) -> float:
    """Return average precision on two million items of two normal classes."""
    rng = np.random.default_rng(3)
    truth = rng.random(1_000_000) < share
    scores = rng.normal(size=len(truth)) + np.where(truth, apart, 0.0)
    found = np.cumsum(truth[np.argsort(-scores)])
    ranked = truth[np.argsort(-scores)]
    return float((found / np.arange(1, len(truth) + 1))[ranked].mean())


def reward_models() -> Iterator[Cell]:
    """Yield cells of pair accuracy, with ties and within contexts, and of the calibration error."""
    from scipy.special import ndtr, ndtri

    for n, right in product((20, 50, 200), (0.7, 0.95, 0.98)):
        shift = float(ndtri(right))

        def sample(rng: Generator, n: int = n, shift: float = shift) -> Drawn:
            return np.round(rng.normal(shift, 1, n), 0)

        truth = float(ndtr(shift - 0.5) + (ndtr(shift + 0.5) - ndtr(shift - 0.5)) / 2)
        words, corner = setting(n=n, right=right), (n, right) == (50, 0.98)
        yield Cell("pair accuracy, ties", words, truth, sample, lambda margins: pair_accuracy(margins)[0], corner)

        def contexts(rng: Generator, n: int = n, shift: float = shift) -> Drawn:
            contexts = np.repeat(np.arange(n // 2), 4)
            truth = np.tile([True, True, False, False], n // 2)
            scores = rng.normal(0, 3, n // 2)[contexts] + rng.normal(truth * shift * np.sqrt(2), 1.0)
            return scores, truth, contexts.tolist()

        within = setting(contexts=n // 2, right=right)
        yield Cell(
            "within-context pair accuracy", within, right, contexts, lambda d: within_context_accuracy(*d), corner
        )
    for shape, bent in product(("100 x 1", "400 x 1", "10 x 20", "20 x 10", "50 x 4"), (0.5, 1.0)):
        groups = clusters_of(shape)

        def judged(rng: Generator, groups: NDArray[np.intp] = groups, bent: float = bent) -> Drawn:
            chances = rng.beta(2, 2, len(groups)) * 0.96 + 0.02
            luck = (
                copied(rng, groups, rng.random(len(groups)))
                if len(groups) > groups[-1] + 1
                else rng.random(len(groups))
            )
            return chances, luck < _bent(chances, bent), groups.tolist()

        def error(drawn: tuple[FloatArray, NDArray[np.bool_], list[int]]) -> Estimate:
            return calibration_error(drawn[0], drawn[1], clusters=drawn[2])

        kind = "calibration error" + ("" if shape.endswith("x 1") else ", clusters")
        corner = (shape, bent) in {("100 x 1", 0.5), ("20 x 10", 0.5)}
        yield Cell(kind, setting(clusters=shape, slope=bent), partial(_calibration, bent), judged, error, corner)


def _bent(chances: FloatArray, slope: float) -> FloatArray:
    from scipy.special import expit, logit

    return np.asarray(expit(slope * logit(chances)), np.float64)


@cache
def _calibration(slope: float) -> float:
    chances = np.random.default_rng(7).beta(2, 2, 1_000_000) * 0.96 + 0.02
    places = np.minimum((chances * 10).astype(int), 9)
    return float(np.abs(np.bincount(places, _bent(chances, slope) - chances)).sum() / len(chances))


# --- corrected by labels ---


JUDGES = ((0.5, 0.9, 0.9), (0.8, 0.99, 0.9), (0.8, 0.98, 0.98), (0.95, 0.95, 0.95), (0.3, 0.7, 0.8))


def _judged(rng: Generator, n: int, rate: float, sensitivity: float, specificity: float) -> Drawn:
    truth = rng.random(n) < rate
    return truth.astype(float), np.where(truth, rng.random(n) < sensitivity, rng.random(n) >= specificity).astype(float)


def corrections() -> Iterator[Cell]:
    """Yield cells of rates corrected by labels: the judge from middling to nearly perfect, 20 to 500 labels."""
    for labels, judge in product((20, 50, 100, 200, 500), JUDGES):

        def sample(rng: Generator, labels: int = labels, judge: tuple[float, float, float] = judge) -> Drawn:
            truth, judged = _judged(rng, 2000, *judge)
            return Sample(truth[:labels].tolist(), judged[:labels].tolist(), judged[labels:].tolist())

        words = setting(labels=labels, rate=judge[0], sensitivity=judge[1], specificity=judge[2])
        corner = (labels, judge) in {(50, JUDGES[1]), (20, JUDGES[3])}
        yield Cell("PPI++", words, judge[0], sample, partial(prediction_powered_mean, "rate"), corner)
        corner = (labels, judge) in {(50, JUDGES[1]), (50, JUDGES[2])}
        yield Cell("Rogan-Gladen", words, judge[0], sample, partial(rogan_gladen, "rate"), corner)
        if labels in (50, 200):
            yield Cell("inverted confusion matrix", words, judge[0], sample, _inverted, corner and labels == 50)
        if labels in (50, 200):

            def weighted(rng: Generator, labels: int = labels, judge: tuple[float, float, float] = judge) -> Drawn:
                truth, judged = _judged(rng, 1000, *judge)
                likely = inclusion_probabilities(np.where(judged > 0, 1.0, 3.0) + rng.random(1000), labels)
                places = draw(likely, rng)
                given = (1 / likely[places]).tolist()
                return WeightedSample(judged.tolist(), places.tolist(), truth[places].tolist(), given)

            by_weights = partial(weighted_prediction_powered_mean, "rate")
            yield Cell("PPI++, weights", words, judge[0], weighted, by_weights, corner)
            same = judge[0] * judge[1] + (1 - judge[0]) * judge[2]
            yield Cell("weighted agreement", words, same, weighted, _hajek, corner)
    yield from _three_valued()
    yield from _clustered_corrections()
    yield from _differences()


def _inverted(sample: Sample) -> Estimate:
    words = [[["loss", "win"][int(value)] for value in part] for part in (sample.truth, sample.judged, sample.rest)]
    return corrected_shares(words[0], words[1], words[2], ("win", "loss"), resampling=QUICK)["win"]


def _hajek(sample: WeightedSample) -> Estimate:
    same = [float(sample.judged[place] == truth) for place, truth in zip(sample.places, sample.truth, strict=True)]
    return weighted_mean("agreement", same, sample.weights)


def _three_valued() -> Iterator[Cell]:
    for labels, share in product((20, 50, 100), ((0.9, 0.08, 0.02), (0.97, 0.02, 0.01), (0.4, 0.3, 0.3))):

        def sample(rng: Generator, labels: int = labels, share: tuple[float, ...] = share) -> Drawn:
            truth = rng.choice([1.0, 0.5, 0.0], 2000, p=share)
            judged = np.where(rng.random(2000) < 0.9, truth, rng.choice([1.0, 0.5, 0.0], 2000))
            return Sample(truth[:labels].tolist(), judged[:labels].tolist(), judged[labels:].tolist())

        words, corner = setting(labels=labels, shares=share), (labels, share[0]) == (50, 0.9)
        truth = share[0] + share[1] / 2
        yield Cell("PPI++, undecided half", words, truth, sample, partial(prediction_powered_mean, "rate"), corner)


def _clustered_corrections() -> Iterator[Cell]:
    for whole, judge in product((True, False), JUDGES[:3]):

        def sample(rng: Generator, whole: bool = whole, judge: tuple[float, float, float] = judge) -> Drawn:
            groups = clusters_of("100 x 10")
            truth, judged = _judged(rng, len(groups), *judge)
            both = copied(rng, groups, truth + 10 * judged)
            order = np.arange(len(groups)) if whole else rng.permutation(len(groups))
            truth, judged, groups = both[order] % 10, (both[order] >= 5).astype(float), groups[order]
            return Sample(truth[:100].tolist(), judged[:100].tolist(), judged[100:].tolist(), groups.tolist())

        words = setting(labels=100, of="10 whole groups" if whole else "all groups", rate=judge[0], judge=judge[1:])
        corner = whole and judge == JUDGES[0]
        yield Cell("PPI++, clusters", words, judge[0], sample, partial(prediction_powered_mean, "rate"), corner)
        yield Cell("Rogan-Gladen, clusters", words, judge[0], sample, partial(rogan_gladen, "rate"), corner)


def _differences() -> Iterator[Cell]:
    for labels in (50, 200):

        def sample(rng: Generator, labels: int = labels) -> Drawn:
            one, judged_one = _judged(rng, 1000, 0.6, 0.92, 0.7)
            other, judged_other = _judged(rng, 1000, 0.65, 0.85, 0.88)
            return one - other, judged_one - judged_other, labels

        def estimate(drawn: tuple[FloatArray, FloatArray, int]) -> Estimate:
            truth, judged, labels = drawn
            places = np.arange(labels)
            sample = Differences(judged[:, None], places, truth[:labels], np.ones(labels), np.arange(len(judged)))
            found = corrected_difference(sample)
            assert found is not None
            return Estimate("corrected difference", found.value, *found.interval(0.95), labels, 0, "")

        yield Cell("corrected difference", setting(labels=labels), -0.05, sample, estimate, labels == 50)


# --- length, early stopping, posteriors ---


def lengths() -> Iterator[Cell]:
    """Yield cells of the win rate at equal length, where the judge likes length as its model says."""
    for n, rate in product((50, 200), (0.5, 0.8, 0.95)):

        def sample(rng: Generator, n: int = n, rate: float = rate) -> Drawn:
            gaps = rng.normal(0, 0.6, n)
            wins = rng.random(n) < 1 / (1 + np.exp(-np.log(rate / (1 - rate)) - gaps))
            return wins.astype(float), np.exp(6 + gaps), np.full(n, np.exp(6.0))

        words = setting(n=n, rate=rate)
        yield Cell("win rate at equal length", words, rate, sample, lambda d: equal_length_win_rate(*d), rate == 0.95)


def stopped() -> Iterator[Cell]:
    """Yield cells of the anytime interval of runs that end when they are decided."""
    for rate in (0.5, 0.6, 0.9):

        def sample(rng: Generator, rate: float = rate) -> Drawn:
            return (rng.random(200) < rate).astype(float)

        def estimate(values: FloatArray) -> Estimate:
            rule = StopRule()
            for value in values.tolist():
                if rule.feed(value):
                    break
            return rule.estimate("rate")

        yield Cell("anytime rate", setting(rate=rate), rate, sample, estimate, rate == 0.6)


def posteriors() -> Iterator[Cell]:
    """Yield cells of importance sampling with lognormal weights, of one prompt and of many."""
    for (prompts, draws), spread in product(((1, 128), (1, 2048), (200, 64)), (0.5, 1.0, 2.0)):
        truth = spread**2 / 2

        def sample(rng: Generator, prompts: int = prompts, draws: int = draws, spread: float = spread) -> Drawn:
            return rng.normal(0, spread, (prompts, draws))

        def tilted(rng: Generator, prompts: int = prompts, draws: int = draws, spread: float = spread) -> Drawn:
            return rng.normal(spread**2, spread, (prompts, draws))

        words, corner = setting(prompts=prompts, draws=draws, sd=spread), (draws, spread) in {(128, 1.0), (64, 0.5)}
        yield Cell("log Z", words, truth, sample, log_normaliser, corner)
        yield Cell("KL(policy || target)", words, truth, sample, reverse_kl, corner)
        yield Cell("KL(target || policy)", words, truth, sample, lambda w: forward_kl(w, w), corner)
        yield Cell("log Z, from above", words, truth, tilted, log_normaliser_above)


@cache
def grid(*, corners: bool = False) -> list[Cell]:
    """Return all cells, or the corners only."""
    parts = (
        *(rates, halves, means, paired, orders, rankings, agreement, panels, alt_tests, scores_of_two, juries),
        *(classifiers, reward_models, corrections, lengths, stopped, posteriors),
    )
    found = [cell for part in parts for cell in part()]
    return [cell for cell in found if cell.corner] if corners else found


def is_cached(drawn: Drawn) -> bool:
    """Return whether the interval depends on nothing but these counts."""
    return isinstance(drawn, tuple) and all(isinstance(part, int) for part in drawn) and isinstance(drawn, Hashable)
