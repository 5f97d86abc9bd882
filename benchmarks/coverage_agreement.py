"""Cells of agreement, of a panel beside a judge, of correlations and of juries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import product

import numpy as np
from coverage_cells import (
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
from perl_eval.stats.agreement_coefficients import (
    cohen_kappa,
    exact_agreement,
    fleiss_kappa,
    gwet_ac1,
    krippendorff_alpha,
)
from perl_eval.stats.alttest import alternative_annotator_test
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.correlation import correlations
from perl_eval.stats.human_panel import ceiling, human_judge
from perl_eval.stats.rater_correlation import EIGENVALUE, KISH, likeness

__all__ = ["agreement", "alt_tests", "juries", "panels", "scores_of_two"]


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

        words, corner = setting(judges=number, n=n, correlation=rho), (number, n, rho) == (3, 100, 0.0)
        by_values = number / (1 + (number - 1) * rho**2)
        yield Cell(EIGENVALUE, words, by_values, sample, partial(_number, name=EIGENVALUE), corner)
        yield Cell(KISH, words, number / (1 + (number - 1) * rho), sample, partial(_number, name=KISH), corner)
    hard, easy, share = 0.4, 0.02, 0.25
    rate, square = share * hard + (1 - share) * easy, share * hard**2 + (1 - share) * easy**2
    rho = (square - rate**2) / (rate * (1 - rate))
    for n in (100, 300):

        def errors(rng: Generator, n: int = n) -> Drawn:
            return (rng.random((n, 3)) < np.where(rng.random((n, 1)) < share, hard, easy)).astype(float)

        words = setting(judges=3, n=n, wrong=round(rate, 3), harder="a quarter")
        yield Cell(EIGENVALUE, words, 3 / (1 + 2 * rho**2), errors, partial(_number, name=EIGENVALUE))
        yield Cell(KISH, words, 3 / (1 + 2 * rho), errors, partial(_number, name=KISH))


def _number(values: FloatArray, name: str = "") -> Estimate:
    names = [f"j{place}" for place in range(values.shape[1])]
    few = Resampling(draws=2)  # neither number has a bootstrap interval
    return named(likeness(values, names, of="errors", resampling=few), f"{name}, errors")
