"""Samplers that draw n answers and keep one: best-of-n, and sampling-importance-resampling."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval.bayes.importance_weights import log_mean_exp
from perl_eval.bayes.language_model import Draws, Language
from perl_eval.bayes.target import Target, Weighed

__all__ = [
    "SamplerResult",
    "best_of_n",
    "best_of_n_bound",
    "best_of_n_kl",
    "best_of_n_law",
    "best_of_n_means",
    "best_of_n_tilts",
    "importance_resampled",
    "means_by_rank",
    "order_weights",
    "rows_of",
    "standing",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_PICK = 1
"""Goes beside a context's seed where the sampler, not the language, takes a chance."""


@dataclass(frozen=True, slots=True)
class SamplerResult:
    """What a sampler gave and what it cost.

    Attributes:
        kept: The answers, context by context.
        tokens: Tokens drawn from a language for them, of kept and rejected answers.
        scored: Answers whose evidence was asked for.
        log_z: Unbiased-in-Z estimates of log Z, one a kept answer, shape (rows,); None where the sampler has none.
        missing: Answers that were asked for and not found within the budget.
        exceeded: Draws whose weight exceeded the bound of a rejection sampler.
    """

    kept: Weighed
    tokens: int
    scored: int
    log_z: FloatArray | None = None
    missing: int = 0
    exceeded: int = 0


def rows_of(contexts: IntArray, count: int) -> tuple[IntArray, IntArray]:
    """Return context and draw number of ``count`` draws of each context, context by context."""
    return np.repeat(contexts, count), np.tile(np.arange(count, dtype=np.int64), len(contexts))


def _pools(target: Target, proposal: Language, contexts: IntArray, count: int, n: int) -> Weighed:
    """Draw n answers for each answer wanted, all in one batch."""
    draws: Draws = proposal.draw(*rows_of(contexts, count * n))
    return target.weigh(draws, proposal)


def best_of_n(target: Target, proposal: Language, contexts: IntArray, *, count: int, n: int) -> SamplerResult:
    """Draw n answers of the proposal and keep the one of most evidence; the earliest of equals.

    Of equals the earliest is a draw of the proposal among them, so odds among equals stay the proposal's.

    Args:
        target: Gives the evidence; the prior is not weighed.
        proposal: What is drawn from.
        contexts: Distinct contexts.
        count: Answers for each.
        n: Draws for each answer.
    """
    pools = _pools(target, proposal, contexts, count, n)
    best = pools.log_evidence.reshape(-1, n).argmax(1)
    return SamplerResult(pools.take(np.arange(len(best)) * n + best), pools.draws.tokens, len(pools.log_prior))


def importance_resampled(
    target: Target, proposal: Language, contexts: IntArray, *, count: int, n: int
) -> SamplerResult:
    """Draw n answers of the proposal and keep one with chances in proportion to the weights.

    The answer's distribution tends to the target as n grows: ``KL(kept || target) <= log Z - E[log mean w]``, which
    is about ``(chi-square of target and proposal) / 2n``. With the prior as the proposal the weights are
    ``exp(reward / beta)``, and this is soft best-of-n at temperature beta.

    Args:
        target: Gives the weights.
        proposal: What is drawn from.
        contexts: Distinct contexts.
        count: Answers for each.
        n: Draws for each answer.

    Raises:
        ValueError: Some pool of n draws has no weight at all.

    Source:
        Rubin (1988), Using the SIR algorithm to simulate posterior distributions; the bound: Domke and Sheldon,
        arXiv 1808.09034, theorem 1; Verdun et al., arXiv 2505.03156 (soft best-of-n).
    """
    pools = _pools(target, proposal, contexts, count, n)
    log_weights = pools.log_weights.reshape(-1, n)
    live = log_weights.max(1) > -np.inf
    seeds = proposal.seeds(contexts, np.zeros_like(contexts))
    noise = np.concatenate([np.random.default_rng([seed, _PICK]).gumbel(size=(count, n)) for seed in seeds])
    chosen = (np.arange(len(log_weights)) * n + (log_weights + noise).argmax(1))[live]
    log_z = log_mean_exp(log_weights)[live]
    return SamplerResult(
        pools.take(chosen), pools.draws.tokens, len(pools.log_prior), log_z=log_z, missing=int(np.count_nonzero(~live))
    )


def best_of_n_bound(n: int) -> float:
    """Return ``log n - (n - 1) / n``, the most that ``KL(best-of-n || prior)`` can be; equality without atoms.

    Source:
        Beirami et al., arXiv 2401.01879, theorem 1.
    """
    return log(n) - (n - 1) / n


def best_of_n_law(log_prior: ArrayLike, rewards: ArrayLike, n: int) -> FloatArray:
    """Return log-probabilities of the best of n draws, exactly, for a prior whose every answer is listed.

    An answer of reward r gets ``(F(r)^n - F(r-)^n) / (F(r) - F(r-))`` times its prior probability, where F is the
    prior's distribution function of rewards; ties go to the earliest draw.

    Args:
        log_prior: Shape (answers,), of all answers.
        rewards: Shape (answers,).
        n: Draws.

    Source:
        arXiv 2401.01879, lemma 1, with ties.
    """
    prior = np.exp(np.asarray(log_prior, np.float64))
    _, level = np.unique(np.asarray(rewards, np.float64), return_inverse=True)
    mass = np.bincount(level, weights=prior)
    above = np.cumsum(mass)
    tilt = (above**n - (above - mass) ** n) / mass
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(prior) + np.log(tilt[level]), np.float64)


def order_weights(size: int, n: int) -> FloatArray:
    """Return the chance that the k-th smallest of N draws is the best of n taken from them, shape (N,)."""
    from scipy.special import gammaln

    rank = np.arange(1, size + 1)
    possible = rank >= n
    logs = gammaln(np.where(possible, rank, n)) - gammaln(np.where(possible, rank - n + 1, 1)) - gammaln(n)
    whole = gammaln(size + 1) - gammaln(size - n + 1) - gammaln(n + 1)
    return np.asarray(np.where(possible, np.exp(logs - whole), 0.0), np.float64)


def best_of_n_means(rewards: ArrayLike, values: ArrayLike, n: int) -> FloatArray:
    """Return the mean of some value over the best of n draws, from N draws of the prior, without bias.

    Every subset of n of the N draws counts alike; equal rewards share what they get.

    Args:
        rewards: What best is told by, shape (prompts, N).
        values: What is averaged, shape (prompts, N): the reward itself, or another.
        n: Draws, at most N.

    Returns:
        Shape (prompts,).
    """
    return means_by_rank(rewards, values, order_weights(np.shape(rewards)[-1], n))


def means_by_rank(rewards: ArrayLike, values: ArrayLike, weights: FloatArray) -> FloatArray:
    """Return the mean of some value where the k-th smallest of N rewards counts ``weights[k]``; equal ones share.

    Args:
        rewards: Shape (prompts, N).
        values: Shape (prompts, N).
        weights: Shape (N,), adding up to 1.

    Returns:
        Shape (prompts,).
    """
    scores, wanted = np.asarray(rewards, np.float64), np.asarray(values, np.float64)
    found = np.empty(len(scores))
    for row, (score, value) in enumerate(zip(scores, wanted, strict=True)):
        _, level, times = np.unique(score, return_inverse=True, return_counts=True)
        order = np.argsort(score, kind="stable")
        shared = np.bincount(level[order], weights=weights) / times
        found[row] = float(shared[level] @ value)
    return found


def standing(rewards: FloatArray, mass: FloatArray) -> FloatArray:
    """Estimate the prior's mass of lesser rewards at N draws of it, shape (N,).

    Args:
        rewards: Shape (N,).
        mass: The prior's mass of each draw's answer, shape (N,).
    """
    _, level, times = np.unique(rewards, return_inverse=True, return_counts=True)
    below = np.cumsum(times) - times
    # The atom's mass is known; where it stands among the rest is counted. Half a draw keeps the lowest off 0.
    found = ((below + 0.5) / (len(rewards) - times + 1))[level] * (1 - mass)
    return np.asarray(found, np.float64)


def best_of_n_tilts(rewards: ArrayLike, log_prior: ArrayLike, n: int) -> FloatArray:
    """Estimate ``log best-of-n - log prior`` at N draws of the prior.

    ``log((F^n - (F - p)^n) / p)``: p the prior's mass of the answer, which is known, F where its reward stands among
    the other draws. Where different answers have equal rewards it comes out too large. The error is of order ``n / N``.

    Args:
        rewards: Shape (prompts, N).
        log_prior: Shape (prompts, N).
        n: Draws, at most N.

    Returns:
        Shape (prompts, N).

    Source:
        arXiv 2401.01879, lemma 1, with the empirical distribution function.
    """
    scores, mass = np.asarray(rewards, np.float64), np.exp(np.asarray(log_prior, np.float64))
    tilts = np.empty_like(scores)
    for row, (score, own) in enumerate(zip(scores, mass, strict=True)):
        under = standing(score, own)
        growth = n * np.log1p(own / under)
        tilts[row] = n * np.log(under) + growth + np.log(-np.expm1(-growth)) - np.log(own)
    return tilts


def best_of_n_kl(rewards: ArrayLike, log_prior: ArrayLike, n: int) -> FloatArray:
    """Estimate ``KL(best-of-n || prior)`` of each prompt from N draws of the prior and their log-probabilities.

    The mean of `best_of_n_tilts` over the best of n draws. Atoms bring the figure below the bound as they should.

    Args:
        rewards: Shape (prompts, N).
        log_prior: Shape (prompts, N).
        n: Draws, at most N.

    Returns:
        Shape (prompts,), between 0 and `best_of_n_bound`.
    """
    found = best_of_n_means(rewards, best_of_n_tilts(rewards, log_prior, n), n)
    return np.clip(found, 0.0, best_of_n_bound(n))
