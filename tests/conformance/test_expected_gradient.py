"""Expectations over all batches against sums done by hand, drawing against listing, and what a loss is like."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from worlds_at_hand import estimator, others_mean, reinforce

from perl_eval.conformance import Batch, Estimator
from perl_eval.conformance.batch_gradients import BatchMaking, LossKind, kind_of_loss
from perl_eval.conformance.expected_gradient import expected_gradient
from perl_eval.conformance.listed_language import ListedLanguage, WorldShape, listed, summed_log_probs
from perl_eval.conformance.measured_bias import compare, measure
from perl_eval.conformance.objective_list import exact_gradient
from perl_eval.errors import UserError

LANGUAGE = listed(WorldShape("three words", seed=2))
WARM = listed(WorldShape("warm, groups of 3", 2, 3, temperature=1.4, group_size=3, seed=2))


def token_mean(batch: Batch) -> torch.Tensor:
    return reinforce(batch, "mean over the batch")


def first_counts_twice(batch: Batch) -> torch.Tensor:
    weights = torch.tensor([2.0, 1.0] * (len(batch.tokens) // 2))
    return -(batch.log_probs.sum(1) * weights * batch.rewards).mean()


def by_hand(loss: Estimator, language: ListedLanguage) -> torch.Tensor:
    """Sum over all ordered batches, each gradient by autograd through theta itself."""
    size = language.shape.groups * language.shape.group_size
    chances = summed_log_probs(language, language.theta).exp()
    total = torch.zeros_like(language.theta)
    for rows in itertools.product(range(len(chances)), repeat=size):
        chosen = torch.tensor(rows)
        theta = language.theta.clone().requires_grad_()
        logits = (theta / language.shape.temperature)[language.places[chosen]]
        batch = Batch(
            tokens=language.tokens[chosen],
            mask=language.mask[chosen],
            logits=logits,
            log_probs=language.token_log_probs(theta)[chosen],
            old=language.token_log_probs(language.theta)[chosen],
            prior=language.token_log_probs(language.prior)[chosen],
            rewards=language.rewards[chosen],
            groups=torch.arange(size) // language.shape.group_size,
            ended=language.ended[chosen],
            beta=language.shape.beta,
            longest=language.shape.longest,
            group_size=language.shape.group_size,
        )
        (found,) = torch.autograd.grad(loss.loss(batch), theta)
        total -= float(chances[chosen].prod()) * found
    return total


@pytest.mark.parametrize("loss", [reinforce, token_mean, first_counts_twice])
def test_the_expectation_is_the_sum_over_all_batches(loss: object) -> None:
    one = estimator(loss)  # type: ignore[arg-type]
    torch.testing.assert_close(expected_gradient(one, LANGUAGE).mean, by_hand(one, LANGUAGE))


def test_the_expectation_over_batches_of_two_groups() -> None:
    tiny = listed(WorldShape("coin", 2, 1, end_rate=0.4, groups=2, seed=3))
    one = estimator(token_mean)
    torch.testing.assert_close(expected_gradient(one, tiny).mean, by_hand(one, tiny))
    two = listed(WorldShape("coins", 2, 2, groups=2, seed=3))
    torch.testing.assert_close(expected_gradient(one, two).mean, by_hand(one, two))


def test_what_a_loss_is_like_is_found() -> None:
    kinds = {loss: kind_of_loss(estimator(loss), LANGUAGE, LANGUAGE.theta) for loss in (reinforce, token_mean)}
    assert kinds[reinforce] == LossKind(mean_over_groups=True, symmetric=True)
    assert kinds[token_mean] == LossKind(mean_over_groups=False, symmetric=True)
    assert not kind_of_loss(estimator(first_counts_twice), LANGUAGE, LANGUAGE.theta).symmetric


@pytest.mark.parametrize("loss", [reinforce, token_mean])
def test_drawing_agrees_with_listing(loss: object) -> None:
    one = estimator(loss)  # type: ignore[arg-type]
    listed_law = expected_gradient(one, LANGUAGE)
    drawn = expected_gradient(one, replace(LANGUAGE, shape=replace(LANGUAGE.shape, draws=1000)))
    away = (drawn.mean - listed_law.mean).abs() / drawn.error.clamp(min=1e-12)
    assert float(away.max()) < 4
    assert drawn.variance == pytest.approx(listed_law.variance, rel=0.1)


def test_one_group_of_many_has_the_variance_of_many() -> None:
    one = estimator(reinforce)
    many = replace(LANGUAGE, shape=replace(LANGUAGE.shape, groups=8))
    assert expected_gradient(one, many).variance == pytest.approx(expected_gradient(one, LANGUAGE).variance / 8)


def test_a_whole_ratio_corrects_old_samples_and_a_tokens_does_not() -> None:
    random = torch.Generator().manual_seed(0)
    moved = WARM.at(WARM.theta + 0.5 * torch.randn(WARM.theta.shape, generator=random, dtype=torch.float64))

    def whole(batch: Batch) -> torch.Tensor:
        ratio = (batch.log_probs - batch.old).sum(1).exp()
        return -(ratio * batch.rewards).mean()

    def by_token(batch: Batch) -> torch.Tensor:
        ratios = (batch.log_probs - batch.old).exp() * batch.mask
        return -(ratios.sum(1) * (batch.rewards - others_mean(batch.rewards, batch.group_size))).mean()

    exact = exact_gradient(moved, "reward")
    right = expected_gradient(estimator(whole), moved, sampler=WARM.theta).mean
    wrong = expected_gradient(estimator(by_token), moved, sampler=WARM.theta).mean
    torch.testing.assert_close(right, exact)
    assert float((wrong - exact).norm() / exact.norm()) > 0.02
    torch.testing.assert_close(expected_gradient(estimator(by_token), WARM).mean, exact_gradient(WARM, "reward"))


def test_a_constant_factor_is_told_apart_from_a_wrong_direction() -> None:
    halved = estimator(lambda batch: reinforce(batch) / 2)
    bias = compare(expected_gradient(halved, LANGUAGE), exact_gradient(LANGUAGE, "kl"))
    assert bias.largest > 0.05
    assert (bias.scale, bias.left, bias.cosine) == (pytest.approx(2), pytest.approx(0, abs=1e-9), pytest.approx(1))


def test_padding_and_missing_ends_are_seen() -> None:
    """A loss that divides by the columns of its batch, and one that leaves truncated completions out."""

    def by_column(batch: Batch) -> torch.Tensor:
        return reinforce(batch) / batch.mask.shape[1]

    def masked(batch: Batch) -> torch.Tensor:
        return -(batch.log_probs.sum(1) * batch.ended * batch.rewards).mean()

    def centred(batch: Batch) -> torch.Tensor:
        return -(batch.log_probs.sum(1) * batch.ended * (batch.rewards - others_mean(batch.rewards, 2))).mean()

    shape = WorldShape("cut", 3, 3, end_rate=0.3, seed=4)
    clean, columns, ends, baseline = (measure(estimator(one), shape) for one in (reinforce, by_column, masked, centred))
    assert (clean.padding, clean.missing_ends) == (pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))
    assert columns.padding > 1e-3
    assert ends.missing_ends > 1e-3
    assert baseline.missing_ends > 1e-3
    assert clean.never_ended > 0.01


def test_old_samples_move_a_loss_without_ratios() -> None:
    found = measure(estimator(reinforce), WorldShape("old", seed=4))
    left = [found.after[updates].left for updates in ("1", "4", "16")]
    assert found.bias.left < 1e-9 < left[0] < left[1] < left[2]


def test_a_loss_that_is_no_finite_number_is_told() -> None:
    with pytest.raises(UserError, match=r"the loss of 'by hand' has the shape \(2,\)"):
        expected_gradient(estimator(lambda batch: batch.log_probs.sum(1)), LANGUAGE)
    with pytest.raises(UserError, match="the loss of 'by hand' is nan"):
        expected_gradient(estimator(lambda batch: batch.log_probs.sum() * float("nan")), LANGUAGE)


def test_a_loss_may_read_logits_alone() -> None:
    def full(batch: Batch) -> torch.Tensor:
        own = torch.log_softmax(batch.logits, -1).gather(-1, batch.tokens.unsqueeze(-1)).squeeze(-1) * batch.mask
        return -(own.sum(1) * batch.rewards).mean()

    torch.testing.assert_close(expected_gradient(estimator(full), WARM).mean, exact_gradient(WARM, "reward"))


def test_untrimmed_batches_have_all_columns() -> None:
    widths = set()

    def loss(batch: Batch) -> torch.Tensor:
        widths.add(batch.mask.shape[1])
        return batch.log_probs.sum()

    expected_gradient(estimator(loss), LANGUAGE, trial=BatchMaking(trimmed=False))
    assert widths == {2}
