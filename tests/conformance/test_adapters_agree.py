"""Adapters to other packages: each loss has a finite gradient, and two packages of one formula have one gradient."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from perl_eval.conformance.adapter_files import checked, read_adapter
from perl_eval.conformance.batch import Batch, Estimator

FOLDER = Path(__file__).parents[2] / "benchmarks" / "conformance"
PACKAGES = ("trl", "verl", "openrlhf", "areal")


@functools.cache
def adapted(package: str) -> dict[str, Estimator]:
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    return {one.name: one for one in checked(read_adapter(FOLDER / f"{package}_estimators.py"))}


def made(seed: int, *, apart: float = 0.0, longest: int = 5) -> tuple[torch.Tensor, Batch]:
    """Return the logits of a policy that sees places only, (T, V), and 3 groups of 4 of its completions."""
    random = torch.Generator().manual_seed(seed)
    rows, words = 12, 4

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=random, dtype=torch.float64)

    theta = normal(longest, words).requires_grad_()
    old = (theta.detach() + apart * normal(longest, words)).log_softmax(-1)
    prior = normal(longest, words).log_softmax(-1)
    tokens = torch.stack([torch.multinomial(one.exp(), rows, replacement=True, generator=random) for one in old], 1)
    is_end = tokens == 0
    mask = is_end.cumsum(1) - is_end.long() == 0
    tokens = tokens * mask

    def of_tokens(log_probs: torch.Tensor) -> torch.Tensor:
        return log_probs.expand(rows, -1, -1).gather(2, tokens[..., None])[..., 0] * mask

    return theta, Batch(
        tokens=tokens,
        mask=mask,
        logits=theta.expand(rows, -1, -1),
        log_probs=of_tokens(theta.log_softmax(-1)),
        old=of_tokens(old),
        prior=of_tokens(prior),
        rewards=normal(rows),
        groups=torch.arange(3).repeat_interleave(4),
        ended=(is_end & mask).any(1),
        beta=0.3,
        longest=longest,
        group_size=4,
    )


def gradient(estimator: Estimator, seed: int, *, apart: float = 0.0, longest: int = 5) -> torch.Tensor:
    theta, batch = made(seed, apart=apart, longest=longest)
    (found,) = torch.autograd.grad(estimator.loss(batch), theta)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_every_loss_is_finite_and_has_a_gradient(package: str) -> None:
    for name, one in adapted(package).items():
        for apart in (0.0, 0.3):
            found = gradient(one, 1, apart=apart)
            assert bool(found.isfinite().all()), name
            assert float(found.abs().max()) > 1e-3, name


@pytest.mark.parametrize("package", PACKAGES)
def test_a_batch_is_left_as_it_was(package: str) -> None:
    _, batch = made(2, apart=0.3)
    before = [one.detach().clone() for one in (batch.rewards, batch.old, batch.prior, batch.mask, batch.tokens)]
    for name, one in adapted(package).items():
        one.loss(batch)
        after = (batch.rewards, batch.old, batch.prior, batch.mask, batch.tokens)
        assert all(torch.equal(was, now) for was, now in zip(before, after, strict=True)), name


SAME_FORMULA = [
    # two names, what the first's gradient is multiplied by, and whether they agree with samples of an older policy too
    (
        "trl grpo, loss_type=dr_grpo, scale_rewards=none",
        "verl grpo, seq-mean-token-sum-norm, no std, loss_scale_factor",
        1.0,
        True,
    ),
    (
        "trl grpo, loss_type=grpo, importance_sampling_level=sequence",
        "verl loss_mode gspo, grpo, seq-mean-token-mean, no std",
        1.0,
        True,
    ),
    ("trl grpo, loss_type=sapo", "verl loss_mode sapo, grpo, seq-mean-token-mean, no std", 1.0, True),
    ("trl grpo, loss_type=cispo", "verl loss_mode cispo, grpo, token-mean, no std", 1.0, False),
    ("trl grpo, loss_type=dapo, scale_rewards=none, beta", "openrlhf dr_grpo, use_loss k3", 1.0, True),
    (
        "trl grpo, loss_type=dapo, scale_rewards=none, beta, use_bias_correction_kl",
        "openrlhf dr_grpo, use_loss k2",
        1.0,
        False,
    ),
    ("trl rloo, beta", "verl rloo, seq-mean-token-sum, kl_in_reward kl", 1.0, False),
    ("trl rloo, beta=0", "verl rloo, seq-mean-token-sum", 1.0, False),
    ("verl rloo, seq-mean-token-sum", "verl grpo, seq-mean-token-sum, no std", 3 / 4, True),
    ("trl rloo, beta=0", "trl grpo, loss_type=dr_grpo, scale_rewards=none", 3 / 4 / 5, False),
    ("verl grpo, token-mean, no std", "openrlhf rloo, init_coef=0", 4 / 3, True),
    ("openrlhf rloo", "areal group mean leave-one-out, kl_ctl, k1", 1.0, True),
    ("openrlhf rloo, k2", "areal group mean leave-one-out, kl_ctl, k2", 1.0, True),
    ("openrlhf rloo, k3", "areal group mean leave-one-out, kl_ctl, k3", 1.0, True),
    ("openrlhf rloo, init_coef=0", "areal group mean leave-one-out", 1.0, True),
]


@pytest.mark.parametrize(("one", "other", "factor", "old_too"), SAME_FORMULA)
def test_two_losses_of_one_formula_have_one_gradient(one: str, other: str, factor: float, old_too: bool) -> None:
    first, second = (adapted(name.split()[0])[name] for name in (one, other))
    for apart in (0.0, 0.1) if old_too else (0.0,):
        wanted = factor * gradient(first, 3, apart=apart)
        assert torch.allclose(gradient(second, 3, apart=apart), wanted, rtol=1e-5, atol=1e-6)


def test_group_means_within_an_additive_constant_agree() -> None:
    """TRL adds 1e-4 to the standard deviation, verl 1e-6 and OpenRLHF 1e-9; all average over the batch's tokens."""
    found = [
        gradient(adapted(package)[name], 4)
        for package, name in (
            ("trl", "trl grpo, loss_type=dapo"),
            ("verl", "verl grpo"),
        )
    ]
    assert torch.allclose(found[0], found[1], rtol=1e-3)


def all_ended() -> tuple[torch.Tensor, Batch]:
    """Return a policy and a batch of it of which every completion ended before the token limit."""
    drawn = (made(seed, longest=9) for seed in itertools.count())
    return next(one for one in drawn if int(one[1].mask.sum(1).max()) < 9)


def test_verls_longest_response_is_that_of_the_batch() -> None:
    """Without loss_scale_factor verl 0.9 divides by the longest response there is, not by the token limit."""
    theta, batch = all_ended()
    found, wanted = (
        torch.autograd.grad(adapted("verl")[f"verl grpo, {average}, no std"].loss(batch), theta, retain_graph=True)[0]
        for average in ("seq-mean-token-sum-norm", "seq-mean-token-sum")
    )
    assert torch.allclose(found * int(batch.mask.sum(1).max()), wanted)


def test_areal_takes_the_longest_of_a_batch_for_truncated() -> None:
    """With mask_no_eos_with_zero a completion that ended loses its reward if none of the batch is longer."""
    theta, batch = all_ended()
    longest = int(batch.mask.sum(1).max())
    names = ("tokens", "mask", "logits", "log_probs", "old", "prior")
    trimmed = replace(batch, **{name: getattr(batch, name)[:, :longest] for name in names})
    masking, plain = (adapted("areal")[f"areal group mean, {more}"] for more in ("mask_no_eos_with_zero", "c_clip=3"))
    for given, same in ((batch, True), (trimmed, False)):
        found, wanted = (torch.autograd.grad(one.loss(given), theta, retain_graph=True)[0] for one in (masking, plain))
        assert torch.allclose(found, wanted) is same
