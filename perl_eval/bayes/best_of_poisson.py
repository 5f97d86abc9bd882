"""Best-of-Poisson: the best of a number of draws that is itself drawn, so that its mean can be any number above 1.

With ``n = 1 + Poisson(mu)`` the answer at quantile u of the reward gets ``(1 + mu u) exp(mu (u - 1))`` times its prior
probability, which is within 7e-4 nats of the exponential tilt ``exp(lambda u) / Z`` of the same mean quantile.

Source: Khalaf et al., arXiv 2506.19248 (Best-of-Poisson).
"""

from __future__ import annotations

from math import inf, log1p

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval.bayes.best_of_n import SamplerResult, means_by_rank, order_weights, standing
from perl_eval.bayes.language_model import Language
from perl_eval.bayes.target import Target

__all__ = [
    "best_of_poisson",
    "best_of_poisson_bound",
    "best_of_poisson_kl",
    "best_of_poisson_law",
    "best_of_poisson_means",
    "best_of_poisson_tilts",
    "drawn_counts",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_COUNT = 2
"""Goes beside a context's seed where the number of draws is drawn."""


def drawn_counts(proposal: Language, contexts: IntArray, *, count: int, mean: float) -> IntArray:
    """Return how many draws each answer is the best of, ``1 + Poisson(mean)``, shape (contexts, count).

    Args:
        proposal: Whose seeds are used.
        contexts: Distinct contexts.
        count: Answers for each.
        mean: mu, 0 or more.

    Raises:
        ValueError: mean is below 0 or not finite.
    """
    if not 0 <= mean < inf:
        raise ValueError(f"mean is {mean}; a number of draws beyond the first is 0 or more on average")
    seeds = proposal.seeds(contexts, np.zeros_like(contexts))
    found = [np.random.default_rng([seed, _COUNT]).poisson(mean, count) for seed in seeds]
    return np.asarray(np.array(found, np.int64).reshape(len(contexts), count) + 1, np.int64)


def best_of_poisson(
    target: Target, proposal: Language, contexts: IntArray, *, count: int, mean: float
) -> SamplerResult:
    """Draw ``1 + Poisson(mean)`` answers of the proposal and keep the one of most evidence; the earliest of equals.

    Args:
        target: Gives the evidence; the prior is not weighed.
        proposal: What is drawn from.
        contexts: Distinct contexts.
        count: Answers for each.
        mean: mu: draws beyond the first, on average.

    Raises:
        ValueError: mean is below 0 or not finite.
    """
    counts = drawn_counts(proposal, contexts, count=count, mean=mean)
    totals = counts.sum(1)
    numbers = np.concatenate([np.arange(total, dtype=np.int64) for total in totals.tolist()])
    pools = target.weigh(proposal.draw(np.repeat(contexts, totals), numbers), proposal)
    ends = np.cumsum(counts.ravel())
    best = [
        start + int(pools.log_evidence[start:end].argmax())
        for start, end in zip((ends - counts.ravel()).tolist(), ends.tolist(), strict=True)
    ]
    return SamplerResult(pools.take(np.array(best, np.int64)), pools.draws.tokens, len(pools.log_prior))


def best_of_poisson_law(log_prior: ArrayLike, rewards: ArrayLike, mean: float) -> FloatArray:
    """Return log-probabilities of best-of-Poisson, exactly, for a prior whose every answer is listed.

    With F the prior's distribution function of rewards, ``G(u) = E[u^n] = u exp(mu (u - 1))``: an answer of reward r
    gets ``(G(F(r)) - G(F(r-))) / (F(r) - F(r-))`` times its prior probability; ties go to the earliest draw.

    Args:
        log_prior: Shape (answers,), of all answers.
        rewards: Shape (answers,).
        mean: mu, 0 or more.

    Source:
        arXiv 2401.01879, lemma 1, with ties, in expectation over n.
    """
    own = np.asarray(log_prior, np.float64)
    prior = np.exp(own)
    _, level = np.unique(np.asarray(rewards, np.float64), return_inverse=True)
    mass = np.bincount(level, weights=prior)
    above = np.cumsum(mass)
    below = np.maximum(above - mass, 0.0)
    tilt = (above * np.exp(mean * (above - 1)) - below * np.exp(mean * (below - 1))) / mass
    with np.errstate(divide="ignore"):
        return np.asarray(own + np.log(tilt[level]), np.float64)


def best_of_poisson_bound(mean: float) -> float:
    """Return the most that ``KL(best-of-Poisson || prior)`` can be; equality without atoms.

    ``log(1 + mu) - 1 + exp(-1 - mu) (Ei(1 + mu) - Ei(1)) / mu``: the integral of ``q log q`` for
    ``q(u) = (1 + mu u) exp(mu (u - 1))``, by parts. Atoms merge quantiles, which can only lower the KL.

    Args:
        mean: mu, 0 or more.
    """
    from scipy.special import expi

    if mean < 1e-4:  # below it the difference of the two integrals has no digits left; q is 1 + mu (2 u - 1)
        return mean**2 / 6
    if mean > 600:  # exp(mu) Ei(mu) by its asymptotic series
        far = 1 / (1 + mean) + 1 / (1 + mean) ** 2
        return float(log1p(mean) - 1 + far / mean)
    ratio = (expi(1 + mean) - expi(1)) * np.exp(-1 - mean)
    return float(log1p(mean) - 1 + ratio / mean)


def best_of_poisson_means(rewards: ArrayLike, values: ArrayLike, mean: float) -> FloatArray:
    """Estimate the mean of some value over best-of-Poisson, from N draws of the prior.

    Without bias but for numbers of draws above N, which count as N.

    Args:
        rewards: What best is told by, shape (prompts, N).
        values: What is averaged, shape (prompts, N).
        mean: mu, 0 or more.

    Returns:
        Shape (prompts,).
    """
    from scipy.stats import poisson

    size = np.shape(rewards)[-1]
    chances = poisson.pmf(np.arange(size), mean)
    chances[-1] += max(0.0, 1 - float(chances.sum()))
    weights = np.sum([chance * order_weights(size, n + 1) for n, chance in enumerate(chances) if chance > 0], axis=0)
    return means_by_rank(rewards, values, weights)


def best_of_poisson_tilts(rewards: ArrayLike, log_prior: ArrayLike, mean: float) -> FloatArray:
    """Estimate ``log best-of-Poisson - log prior`` at N draws of the prior.

    ``log((G(F + p) - G(F)) / p)``: p the prior's mass of the answer, F that of lesser rewards, as
    `perl_eval.bayes.best_of_n.best_of_n_tilts` has them.

    Args:
        rewards: Shape (prompts, N).
        log_prior: Shape (prompts, N).
        mean: mu, 0 or more.

    Returns:
        Shape (prompts, N).
    """
    scores, mass = np.asarray(rewards, np.float64), np.exp(np.asarray(log_prior, np.float64))
    under = np.array([standing(score, own) for score, own in zip(scores, mass, strict=True)])
    grown = under * np.expm1(mean * mass) / mass + np.exp(mean * mass)
    return np.asarray(mean * (under - 1) + np.log(grown), np.float64)


def best_of_poisson_kl(rewards: ArrayLike, log_prior: ArrayLike, mean: float) -> FloatArray:
    """Estimate ``KL(best-of-Poisson || prior)`` of each prompt from N draws of the prior.

    Args:
        rewards: Shape (prompts, N).
        log_prior: Shape (prompts, N).
        mean: mu, 0 or more.

    Returns:
        Shape (prompts,), between 0 and `best_of_poisson_bound`.
    """
    found = best_of_poisson_means(rewards, best_of_poisson_tilts(rewards, log_prior, mean), mean)
    return np.clip(found, 0.0, best_of_poisson_bound(mean))
