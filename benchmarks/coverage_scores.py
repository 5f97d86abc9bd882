"""Cells of scores against labels, and of posteriors by importance sampling."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from itertools import product

import numpy as np
from coverage_cells import (
    Cell,
    Drawn,
    FloatArray,
    Generator,
    clusters_of,
    copied,
    setting,
)
from numpy.typing import NDArray

from perl_eval.bayes.divergences import forward_kl, log_normaliser, log_normaliser_above, reverse_kl
from perl_eval.records import Estimate
from perl_eval.stats.calibration import calibration_error
from perl_eval.stats.classification import (
    balanced_accuracy,
    pair_accuracy,
    within_context_accuracy,
)
from perl_eval.stats.ranking_quality import area_under_curve, average_precision

__all__ = ["classifiers", "posteriors", "reward_models"]


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


def posteriors() -> Iterator[Cell]:
    """Yield cells of importance sampling with lognormal weights, of one prompt and of many."""
    cells = product(((1, 128), (1, 2048), (200, 64)), (0.5, 1.0, 2.0))
    for (prompts, draws), spread in (*cells, ((1, 128), 1.5), ((1, 512), 1.5), ((1, 2048), 1.5)):
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
