"""Each fault that is planted into a loss is named, and a loss without one has none."""

from __future__ import annotations

import functools
from functools import partial
from typing import Any

import pytest
from worlds_at_hand import Loss, estimator, ratio_with_kl, reinforce, to_go_whitened, without_truncated

from perl_eval.conformance import Batch
from perl_eval.conformance.diagnosis import LossDiagnosis, diagnose
from perl_eval.conformance.our_estimators import estimators

OURS = {one.name.removeprefix("perl-eval "): one for one in estimators()}


def of(loss: Loss) -> LossDiagnosis:
    return diagnose(estimator(loss))


def test_a_right_loss_has_no_fault() -> None:
    found = of(reinforce)
    assert (found.faults, found.exact) == ((), True)
    assert found.scale == pytest.approx(1)


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("sign of the reward", "sign of the reward"),
        ("sign of the loss", "sign of the loss"),
        ("sign of the KL", "sign of the KL"),
        ("missing detach", "missing detach: the KL in the reward is in the graph"),
        ("mean for sum", "mean for sum: averaged over the tokens of each sequence"),
        ("mean over the batch", "mean for sum: averaged over the tokens of the batch"),
        ("k2 for k1", "k2 for k1 in the reward"),
        ("detached", "no gradient: something is detached that should not be"),
    ],
)
def test_a_planted_fault_is_named(fault: str, named: str) -> None:
    found = of(partial(reinforce, fault=fault))
    assert (found.faults, found.exact) == ((named,), True)


@pytest.mark.parametrize(
    ("kl", "named"),
    [
        ("k1", "k1 in the loss, whose expected gradient is 0"),
        ("k2", "k2 of each token in the loss: the KL of later tokens is left out"),
        ("k3", "k3 in the loss, by the token the gradient of KL(prior || pi)"),
        ("k3 x ratio", "k3 x ratio of each token in the loss: the KL of later tokens is left out"),
    ],
)
def test_a_kl_in_the_loss_is_named(kl: str, named: str) -> None:
    """Fresh samples tell k1 from no KL batch by batch; k3 times the ratio is k2 on them, and old ones tell it apart."""
    found = of(partial(ratio_with_kl, kl=kl))
    assert (found.faults, found.exact) == ((named,), True)


def test_a_ratio_that_is_not_detached_is_named() -> None:
    """pi / pi without a detach is 1: the policy term has no gradient, the KL term has."""
    found = of(partial(ratio_with_kl, kl="k3", detach=False))
    assert found.faults[0] == "no gradient of the reward: the ratio or the log-probability is detached"


def test_the_weights_of_old_samples_are_named() -> None:
    assert of(partial(ratio_with_kl, kl="k3")).weight == "token"
    assert diagnose(OURS["kl_rl, kl=loss"]).weight == "none"
    assert diagnose(OURS["grpo, form=dr_grpo, scale=none, kl=k3"]).weight == "clipped"


@pytest.mark.parametrize("fault", ["sign of the KL", "mean for sum"])
def test_a_fault_in_our_own_code_would_be_named(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted where `train policy` computes: the sign in `token_rewards`, the average in `averaged_over_tokens`."""
    from perl_eval.training import policy_losses

    if fault == "sign of the KL":
        right = policy_losses.token_rewards
        monkeypatch.setattr(policy_losses, "token_rewards", lambda *given, beta: right(*given, beta=-beta))
        assert diagnose(OURS["kl_rl, kl=reward"]).faults == ("sign of the KL",)
        return
    average = policy_losses.averaged_over_tokens
    monkeypatch.setattr(policy_losses, "averaged_over_tokens", functools.partial(_as_grpo, average))
    found = diagnose(OURS["grpo, form=dr_grpo, scale=none, kl=reward"])
    assert found.faults == ("mean for sum: averaged over the tokens of each sequence",)


def _as_grpo(average: Any, *given: Any, **told: Any) -> Any:
    return average(*given, **{**told, "form": "grpo"})


def test_a_loss_that_nobody_knows_is_not_called_exact() -> None:
    def odd(batch: Batch) -> object:
        return -(batch.log_probs.sum(1).tanh() * batch.rewards**3).mean()

    found = of(odd)  # type: ignore[arg-type]
    assert not found.exact
    assert "none of the known formulas" in found.faults[0]


@pytest.mark.parametrize(("spread", "done"), [(True, "whitened"), (False, "less their mean")])
def test_whitening_over_tokens_is_named(spread: bool, done: str) -> None:
    found = of(partial(to_go_whitened, spread=spread))
    mean = "mean for sum: averaged over the tokens of the batch"
    assert (found.faults, found.exact) == ((mean, f"advantages {done} over the tokens of the batch"), True)


@pytest.mark.parametrize(
    ("unpaid", "named"),
    [(False, "truncated completions left out"), (True, "the reward of truncated completions set to 0")],
)
def test_what_truncated_completions_get_is_named(unpaid: bool, named: str) -> None:
    found = diagnose(estimator(partial(without_truncated, unpaid=unpaid), "reward"))
    assert (found.faults, found.exact) == ((named,), True)


def test_the_longest_of_the_batch_is_told_from_the_token_limit() -> None:
    def loss(batch: Batch, width: int) -> Any:
        centred = batch.rewards - batch.rewards.view(-1, batch.group_size).mean(1).repeat_interleave(batch.group_size)
        return -(batch.log_probs.sum(1) * centred).mean() / width

    limit = diagnose(estimator(lambda batch: loss(batch, batch.longest), "reward"))
    widest = diagnose(estimator(lambda batch: loss(batch, batch.mask.shape[1]), "reward"))
    assert (limit.faults, limit.exact) == ((), True)
    named = "divided by the longest completion of the batch, not by the token limit"
    assert (widest.faults, widest.exact) == ((named,), True)


def test_a_baseline_weighted_by_length_is_named() -> None:
    def loss(batch: Batch) -> Any:
        lengths = batch.mask.sum(1).view(-1, batch.group_size)
        rewards = batch.rewards.view(-1, batch.group_size)
        baseline = (rewards * lengths).sum(1, keepdim=True) / lengths.sum(1, keepdim=True)
        return -(batch.log_probs.sum(1) * (rewards - baseline).view(-1)).mean()

    found = diagnose(estimator(loss, "reward"))
    assert (found.faults, found.exact) == (
        ("a baseline weighted by length, which the completion's own reward is part of",),
        True,
    )


def test_whitening_is_a_standard_deviation_too() -> None:
    """Of a batch of one group: a loss that claims one is not said to have none."""
    found = diagnose(estimator(to_go_whitened, "group-normalised reward less kl"))
    assert not [one for one in found.faults if "not divided" in one]
    plain = diagnose(estimator(reinforce, "group-normalised reward less kl"))
    assert "rewards not divided by the standard deviation of their group" in plain.faults
