"""Drawing with control variates: without bias, narrower than drawing alone, and as long as it takes to resolve 1e-3."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from worlds_at_hand import estimator, ratio_with_kl, reinforce, to_go_whitened

from perl_eval.conformance import Batch, drawn_gradient
from perl_eval.conformance.batch_gradients import AS_TRAINED, kind_of_loss, one_by_one
from perl_eval.conformance.drawn_gradient import FIRST_DRAWS, drawn_law, half_width
from perl_eval.conformance.expected_gradient import expected_gradient
from perl_eval.conformance.listed_language import ListedLanguage, WorldShape, listed, summed_log_probs

TWO = WorldShape("two groups", groups=2, seed=5)


def token_mean(batch: Batch) -> torch.Tensor:
    return reinforce(batch, "mean over the batch")


def drawn(shape: WorldShape, most: int) -> ListedLanguage:
    language = listed(shape)
    return replace(language, shape=replace(shape, draws=most))


@pytest.mark.parametrize("loss", [token_mean, to_go_whitened])
def test_it_is_without_bias(loss: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn_gradient, "FIRST_DRAWS", 200)
    one = estimator(loss)  # type: ignore[arg-type]
    exact, away = expected_gradient(one, listed(TWO)).mean, []
    for seed in range(16):
        language = drawn(TWO, 200)
        language = replace(language, shape=replace(language.shape, seed=seed))
        law = expected_gradient(one, language)
        away.append((law.mean - exact) / law.error.clamp(min=1e-12))
    z = torch.stack(away)
    assert float(z.mean(0).abs().max()) * 16**0.5 < 4
    assert 0.7 < float(z.square().mean()) < 1.4


def test_it_is_narrower_than_drawing_alone() -> None:
    language = drawn(WorldShape("sixteen groups", groups=16, seed=5), FIRST_DRAWS)
    one = estimator(token_mean)
    law = expected_gradient(one, language)
    chances = summed_log_probs(language, language.theta).exp()
    random = torch.Generator().manual_seed(3)
    rows = torch.multinomial(chances, 200 * 32, replacement=True, generator=random).view(200, 32)
    alone = one_by_one(one, language, rows, language.theta, AS_TRAINED).std(0) / FIRST_DRAWS**0.5
    assert float(law.error.max()) < float(alone.max()) / 3.5


def test_a_known_formula_leaves_no_noise() -> None:
    law = expected_gradient(estimator(reinforce), drawn(replace(TWO, groups=4), 500))
    assert (law.batches, float(law.error.max())) == (FIRST_DRAWS, pytest.approx(0, abs=1e-6))
    law = expected_gradient(estimator(ratio_with_kl), drawn(replace(TWO, groups=4), 500))
    assert float(law.error.max()) < 0.02


def test_more_is_drawn_until_a_thousandth_is_resolved() -> None:
    many = WorldShape("many groups", groups=8, seed=5)
    language = drawn(many, 5000)
    one = estimator(token_mean)
    kind = kind_of_loss(one, language, language.theta)
    law = drawn_law(one, language, language.theta, AS_TRAINED, kind)
    assert FIRST_DRAWS < law.batches < 5000
    assert half_width(law.error) < 5e-4
    least = drawn_law(one, drawn(many, 150), language.theta, AS_TRAINED, kind)
    assert least.batches == 150
