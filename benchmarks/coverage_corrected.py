"""Cells of rates that labels of a part correct."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
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
    setting,
)
from numpy.typing import NDArray

from perl_eval.records import Estimate
from perl_eval.stats.corrected_difference import Differences, corrected_difference
from perl_eval.stats.correction import Sample, corrected_shares, prediction_powered_mean, rogan_gladen
from perl_eval.stats.survey_weights import (
    WeightedSample,
    draw,
    inclusion_probabilities,
    weighted_mean,
    weighted_prediction_powered_mean,
)

__all__ = ["corrections"]


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
    yield from _grouped()


def _places(rng: Generator, groups: NDArray[np.intp], labels: int, *, whole: bool) -> NDArray[np.intp]:
    """Return which items people labelled: those of groups taken at random, or items taken at random."""
    if not whole:
        return np.sort(rng.permutation(len(groups))[:labels])
    order = rng.permutation(int(groups[-1]) + 1)
    sizes = np.bincount(groups)[order]
    taken = order[: int(np.searchsorted(np.cumsum(sizes), labels)) + 1]
    return np.flatnonzero(np.isin(groups, taken))


def _grouped() -> Iterator[Cell]:
    """Yield cells of labels in groups: whole conversations, or single answers; a judge of any quality."""
    judges = (((0.6, 0.92, 0.7), (0.65, 0.85, 0.88)), ((0.95, 0.98, 0.95), (0.9, 0.98, 0.95)))
    for shape, whole, judge in product(("100 x 10", "tail 200"), (True, False), judges):
        groups, words = clusters_of(shape), f"{'whole groups' if whole else 'items'} of {shape}"
        good = judge is judges[1]

        def sample(
            rng: Generator,
            groups: NDArray[np.intp] = groups,
            whole: bool = whole,
            judge: tuple[tuple[float, float, float], ...] = judge,
        ) -> Drawn:
            one, judged_one = _judged(rng, len(groups), *judge[0])
            other, judged_other = _judged(rng, len(groups), *judge[1])
            both = copied(rng, groups, one + 10 * judged_one + 100 * other + 1000 * judged_other).astype(int)
            one, judged_one, other, judged_other = (both // 10**place % 10 for place in range(4))
            return (
                groups,
                _places(rng, groups, 100, whole=whole),
                one - other,
                judged_one - judged_other,
                (one, judged_one),
            )

        def difference(drawn: Drawn) -> Estimate:
            groups, places, truth, judged, _ = drawn
            shown = Differences(
                judged[:, None].astype(float), places, truth[places].astype(float), np.ones(len(places)), groups
            )
            found = corrected_difference(shown)
            if found is None:
                return Estimate("corrected difference", None, None, None, len(places), 0, "")
            return Estimate("corrected difference", found.value, *found.interval(0.95), len(places), 0, "")

        def weighted(drawn: Drawn) -> Estimate:
            groups, places, _, _, (truth, judged) = drawn
            given = (truth[places].astype(float).tolist(), [1.0] * len(places), groups.tolist())
            return weighted_prediction_powered_mean(
                "rate", WeightedSample(judged.astype(float).tolist(), places.tolist(), *given)
            )

        told = setting(labels=100, of=words, judge="good" if good else "kinder to one")
        gap, corner = judge[0][0] - judge[1][0], whole and shape == "100 x 10" and not good
        yield Cell("corrected difference, clusters", told, gap, sample, difference, corner)
        yield Cell("PPI++, weights, clusters", told, judge[0][0], sample, weighted, corner)
