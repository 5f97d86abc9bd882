"""Entropy and mode of a target, from draws of the prior, against the list of all answers."""

from __future__ import annotations

import numpy as np
import pytest
from small_language import SmallLanguage, SmallWorld, places

from perl_eval.bayes import divergences


def drawn(world: SmallWorld, n: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return log-weights and log prior + evidence of draws of the prior."""
    prior: SmallLanguage = world.prior
    chosen = places(prior.draw(np.zeros(n, np.int64), np.arange(first, first + n)).sequences)
    weights = world.log_evidence[0, chosen]
    return weights, weights + prior.exact[0, chosen]


def entropy_of(world: SmallWorld) -> float:
    target = world.log_target[0]
    return float(-(np.exp(target) * target).sum())


def test_the_entropy_of_the_target_is_that_of_the_list() -> None:
    world = SmallWorld(seed=1, beta=0.7)
    found = divergences.target_entropy(*drawn(world, 20_000))
    assert found.value == pytest.approx(entropy_of(world), abs=0.03)
    assert found.name == "entropy"


def test_intervals_of_the_entropy_cover_it() -> None:
    world = SmallWorld(seed=2, beta=1.0)
    truth, inside, values = entropy_of(world), 0, []
    for number in range(200):
        found = divergences.target_entropy(*drawn(world, 256, number * 256))
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= truth <= found.high
        values.append(found.value)
    assert inside / 200 >= 0.9
    assert np.mean(values) == pytest.approx(truth, abs=4 * np.std(values) / 200**0.5)


def test_the_entropy_of_a_target_that_is_the_prior() -> None:
    world = SmallWorld(seed=3)
    world.set_evidence(np.zeros_like(world.log_evidence))
    prior = world.prior.exact[0]
    found = divergences.target_entropy(*drawn(world, 20_000))
    assert found.value == pytest.approx(-(np.exp(prior) * prior).sum(), abs=0.03)


def test_the_mode_of_the_target_is_its_likeliest_answer() -> None:
    world = SmallWorld(seed=1, beta=0.3)
    found = divergences.target_mode(*drawn(world, 20_000))
    assert found.value == pytest.approx(np.exp(world.log_target[0].max()), rel=0.05)
    assert found.kind == "lower bound"
    few = divergences.target_mode(*drawn(world, 4))
    assert few.value is not None
    assert few.value <= 1


@pytest.mark.parametrize("figure", [divergences.target_entropy, divergences.target_mode])
def test_a_target_that_no_draw_meets_has_none(figure: object) -> None:
    none = np.full(8, -np.inf)
    found = figure(none, none)  # type: ignore[operator]
    assert found.value is None
    assert "no draw meets the target" in found.reason


@pytest.mark.parametrize("figure", [divergences.target_entropy, divergences.target_mode])
def test_several_prompts_are_averaged(figure: object) -> None:
    worlds = [SmallWorld(seed=seed, beta=1.0) for seed in range(3)]
    rows = [drawn(world, 500) for world in worlds]
    weights, said = (np.stack(parts) for parts in zip(*rows, strict=True))
    alone = [figure(*row).value for row in rows]  # type: ignore[operator]
    assert figure(weights, said).value == pytest.approx(np.mean(alone))  # type: ignore[operator]
