"""Cells of rates, means, differences of two policies, and runs that end early."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import numpy as np
from coverage_cells import (
    OUTCOMES,
    QUICK,
    Cell,
    Drawn,
    FloatArray,
    Generator,
    clusters_of,
    copied,
    named,
    setting,
)
from numpy.typing import NDArray

from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.intervals import mean, sparse_mean
from perl_eval.stats.length import equal_length_win_rate
from perl_eval.stats.mean_score import mean_score
from perl_eval.stats.paired import mcnemar, paired_outcomes
from perl_eval.stats.position_bias import position_bias
from perl_eval.stats.ranking import Comparison, rank
from perl_eval.stats.sequential import StopRule
from perl_eval.stats.winrate import sign_test, win_rates, yes_rates

__all__ = ["halves", "lengths", "means", "orders", "paired", "rankings", "rates", "stopped"]


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
    shapes = product(("20 x 10", "100 x 4", "tail 20", "tail 50", "tail 200"), (0.5, 0.8, 0.95))
    for shape, rate in (*shapes, ("tail 200", 0.98), ("tail 500", 0.95), ("tail 500", 0.98)):
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
