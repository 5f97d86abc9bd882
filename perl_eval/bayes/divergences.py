"""How far something is from a target: log Z, both KLs, the gap, and what a collapse shows in, each with its interval.

Log-weights are arrays of shape (draws,) for one prompt, or (prompts, draws). One prompt gets an interval from its own
draws (delta method, or jackknife), no narrower than that of lognormal weights whose logs have the spread of these in
their upper half: where the largest weights were not met, the draws' own variance is too small, and most so where it
looks best. Several prompts get a t interval over prompts, whose noise holds that of their draws. Where the effective
sample size is small, or the weights have a heavy tail, the figure stands, and ``reason`` says that it cannot be relied
on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval import figure_names as named
from perl_eval.bayes.importance_weights import (
    effective_size,
    log_mean_exp,
    normalised,
    relative_variance,
    upper_spread,
)
from perl_eval.bayes.weighted_figures import (
    floored,
    lognormal_mean_variance,
    lognormal_variance,
    of_one_prompt,
    skewed,
    weighted_figure,
)
from perl_eval.records import Estimate
from perl_eval.stats import intervals
from perl_eval.stats.bootstrap import Clusters, cluster_sums
from perl_eval.stats.diversity import diversity

__all__ = [
    "alpha_divergence",
    "collapse",
    "effective_sizes",
    "forward_kl",
    "gap",
    "kl_to_prior",
    "log_normaliser",
    "log_normaliser_above",
    "log_normalisers",
    "objective",
    "perplexity",
    "reverse_kl",
    "target_entropy",
    "target_mode",
]

FloatArray = NDArray[np.float64]


def log_normalisers(log_weights: ArrayLike) -> FloatArray:
    """Return log Z of each prompt: the log of the mean weight, with its bias taken off to first order.

    ``log mean w + (1 / ESS - 1 / n) / 2``. The log of the mean alone falls short of log Z by about that second term;
    what is left is of order ``1 / n^2``. Minus infinity where every weight is zero.

    Args:
        log_weights: Shape (..., n), of draws from any proposal that covers the target.

    Returns:
        Shape (...).
    """
    plain, size = log_mean_exp(log_weights), effective_size(log_weights)
    correction = np.where(size > 0, (1 / np.where(size > 0, size, 1.0) - 1 / np.shape(log_weights)[-1]) / 2, 0.0)
    return np.asarray(plain + np.maximum(correction, 0.0), np.float64)


def log_normaliser(log_weights: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Estimate log Z, or its mean over prompts, by importance sampling; see `log_normalisers`.

    Args:
        log_weights: Shape (n,) or (prompts, n).
        level: Confidence level.
    """
    rows = np.atleast_2d(np.asarray(log_weights, np.float64))
    live = effective_size(rows) > 0
    if not live.any():
        return intervals.undefined(
            named.LOG_Z, "no draw meets the target", n_missing=len(rows), method="importance sampling"
        )
    kept = rows[live]
    found = weighted_figure(
        named.LOG_Z, log_normalisers(kept), relative_variance(kept), kept, least=lognormal_variance(kept), level=level
    )
    return replace(found, n_missing=int(np.count_nonzero(~live)))


def log_normaliser_above(log_weights: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Estimate log Z from draws of the target: ``-log mean (1 / w)``, which is at least log Z in expectation.

    With `log_mean_exp` of draws from the proposal it brackets log Z.

    Args:
        log_weights: Log-weights of exact draws of the target with respect to a proposal, shape (n,) or (prompts, n).
        level: Confidence level.

    Source:
        Grosse, Ghahramani and Adams, arXiv 1511.02543 (bidirectional Monte Carlo), in its simplest form.
    """
    rows = -np.atleast_2d(np.asarray(log_weights, np.float64))
    found = weighted_figure(
        named.LOG_Z_FROM_ABOVE,
        -log_mean_exp(rows),
        relative_variance(rows),
        rows,
        least=lognormal_variance(rows),
        level=level,
    )
    return replace(found, kind="upper bound")


def reverse_kl(own: ArrayLike, reference: ArrayLike | None = None, *, level: float = 0.95) -> Estimate:
    """Estimate ``KL(policy || target) = log Z - E_policy[log w]``.

    Args:
        own: Log-weights of draws of the policy, with respect to the policy, shape (n,) or (prompts, n).
        reference: Log-weights of draws of another proposal, for log Z, shape (m,) or (prompts, m). Without it log Z is
            taken from the policy's own draws, which cannot see what the policy never says: with few of them the KL
            comes out too small.
        level: Confidence level.
    """
    rows = np.atleast_2d(np.asarray(own, np.float64))
    others = rows if reference is None else np.atleast_2d(np.asarray(reference, np.float64))
    name = "KL(policy || target)"
    if np.isneginf(rows).any():
        share = float(np.isneginf(rows).mean())
        reason = f"infinite: the target forbids {share:.1%} of what the policy says"
        return intervals.undefined(name, reason, n=len(rows), method="importance sampling")
    if (effective_size(others) == 0).any():
        missing = int((effective_size(others) == 0).sum())
        return intervals.undefined(
            name, f"log Z of {missing} prompts is unknown: no draw meets the target", n=len(rows)
        )
    values = log_normalisers(others) - rows.mean(-1)
    if reference is None:
        shares = normalised(rows) * rows.shape[-1]
        influence = shares - rows
        variance = influence.var(-1, ddof=1) / rows.shape[-1] if rows.shape[-1] > 1 else np.zeros(len(rows))
        least = np.maximum(lognormal_variance(rows) - upper_spread(rows) ** 2 / rows.shape[-1], 0.0)
        found = skewed(weighted_figure(name, values, variance, others, least=least, level=level), len(rows))
        return replace(found, method=f"{found.method}; log Z from the policy's own draws")
    spread = rows.var(-1, ddof=1) / rows.shape[-1] if rows.shape[-1] > 1 else np.zeros(len(rows))
    variance, least = relative_variance(others) + spread, lognormal_variance(others) + spread
    return skewed(weighted_figure(name, values, variance, others, least=least, level=level), len(rows))


def forward_kl(log_weights: ArrayLike, log_ratio: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Estimate ``KL(target || policy) = E_target[log prior + evidence - log policy] - log Z``, self-normalised.

    ``sum_i w_i d_i / sum_i w_i - log mean w``, less its bias of order ``1 / n``, by the jackknife over draws.
    One prompt's interval is by the jackknife too; the figure is skewed, so that the upper bound is that on a log scale
    where it is higher. It needs more draws than log Z does, since it rests on squares of weights: it is called
    unreliable where these are worth fewer than `LEAST_EFFECTIVE` draws.

    Args:
        log_weights: Of draws of any proposal, with respect to it, shape (n,) or (prompts, n); two draws or more.
        log_ratio: d, ``log prior + evidence - log policy`` of the same draws; equals ``log_weights`` if the policy
            itself is the proposal.
        level: Confidence level.
    """
    rows, ratio = (np.atleast_2d(np.asarray(part, np.float64)) for part in (log_weights, log_ratio))
    name = "KL(target || policy)"
    if (effective_size(rows) == 0).any():
        return intervals.undefined(name, "no draw meets the target in some prompt", n=len(rows))
    shares = normalised(rows)
    counted = np.where(shares > 0, ratio, 0.0)
    if np.isposinf(counted).any():
        return intervals.undefined(name, "infinite: the policy cannot say what the target does", n=len(rows))
    if rows.shape[-1] < 2:
        values = (shares * counted).sum(-1) - log_mean_exp(rows)
        return floored(weighted_figure(name, values, np.zeros(len(rows)), rows, level=level))
    values, variance = _without_bias(rows, shares, counted)
    least = lognormal_mean_variance(rows, counted)
    found = skewed(weighted_figure(name, values, variance, rows, least=least, level=level), len(rows))
    return found if len(rows) > 1 else of_one_prompt(found, rows)


def alpha_divergence(
    own: ArrayLike, reference: ArrayLike | None = None, *, alpha: float, level: float = 0.95
) -> Estimate:
    """Estimate ``D_alpha(target || policy) = (E_policy[(w / Z)^alpha] - 1) / (alpha (alpha - 1))``.

    From KL(policy || target), the limit at 0, to KL(target || policy), that at 1; 1/2 is ``4 - 4 sum sqrt(target
    policy)``, at most 4 and least in need of draws. Its plug-in bias is of the order of one over the effective draws.

    Args:
        own: Log-weights of draws of the policy, with respect to the policy, shape (n,) or (prompts, n).
        reference: Log-weights of draws of another proposal, for log Z, shape (m,) or (prompts, m); by default the own.
        alpha: Any number but 0 and 1.
        level: Confidence level.

    Raises:
        ValueError: alpha is 0 or 1.

    Source:
        Cressie and Read, Multinomial goodness-of-fit tests (1984): half their power divergence of index alpha - 1;
        Amari, Information geometry and its applications (2016), section 4.2.
    """
    if alpha in (0, 1):
        raise ValueError(f"alpha is {alpha}: take reverse_kl for 0, forward_kl for 1")
    rows = np.atleast_2d(np.asarray(own, np.float64))
    others = rows if reference is None else np.atleast_2d(np.asarray(reference, np.float64))
    name = f"D_{alpha:g}(target || policy)"
    if (effective_size(others) == 0).any():
        return intervals.undefined(name, "no draw meets the target in some prompt", n=len(rows))
    if alpha < 0 and np.isneginf(rows).any():
        return intervals.undefined(name, "infinite: the target forbids what the policy says", n=len(rows))
    moment = np.exp(log_mean_exp(alpha * rows) - alpha * log_normalisers(others))
    scale = 1 / (alpha * (alpha - 1))
    if reference is None:
        spread = normalised(alpha * rows) - alpha * normalised(rows)
        relative = (spread**2).sum(-1) - (1 - alpha) ** 2 / rows.shape[-1]
    else:
        relative = relative_variance(alpha * rows) + alpha**2 * relative_variance(others)
    variance = (scale * moment) ** 2 * np.maximum(relative, 0.0)
    return skewed(weighted_figure(name, scale * (moment - 1), variance, others, level=level), len(rows))


def _without_bias(rows: FloatArray, shares: FloatArray, counted: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return ``sum_i w_i d_i / sum_i w_i - log mean w`` of each prompt, and its variance, by the jackknife."""
    expected, n = (shares * counted).sum(-1), rows.shape[-1]
    values = expected - log_mean_exp(rows)
    # Without draw i: what is left of the shares, of the sum, and of the mean weight. A draw that is all has no rest.
    rest = np.maximum(1 - shares, np.finfo(float).tiny)
    left = (expected[:, None] - shares * counted) / rest - log_mean_exp(rows)[:, None] - np.log(rest * n / (n - 1))
    variance = (n - 1) / n * ((left - left.mean(-1, keepdims=True)) ** 2).sum(-1)
    return np.asarray(n * values - (n - 1) * left.mean(-1)), np.asarray(variance)


def target_entropy(log_weights: ArrayLike, log_target: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Estimate the entropy of the target, ``log Z - E_target[log prior + evidence]``, self-normalised, in nats.

    It tells a collapse that the objective asks for from one of the optimiser: a policy at the target has this entropy.

    Args:
        log_weights: Of draws of any proposal, with respect to it, shape (n,) or (prompts, n); two draws or more.
        log_target: ``log prior + evidence`` of the same draws.
        level: Confidence level.
    """
    rows, said = (np.atleast_2d(np.asarray(part, np.float64)) for part in (log_weights, log_target))
    if (effective_size(rows) == 0).any():
        return intervals.undefined(named.ENTROPY, "no draw meets the target in some prompt", n=len(rows))
    shares = normalised(rows)
    counted = np.where(shares > 0, said, 0.0)
    values, variance = _without_bias(rows, shares, counted)
    return weighted_figure(
        named.ENTROPY, -values, variance, rows, least=lognormal_mean_variance(rows, counted), level=level
    )


def target_mode(log_weights: ArrayLike, log_target: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Estimate the probability that the target gives its likeliest answer: that of the likeliest that was drawn.

    Args:
        log_weights: Of draws of the prior, with respect to it, shape (n,) or (prompts, n).
        log_target: ``log prior + evidence`` of the same draws.
        level: Confidence level.
    """
    rows, said = (np.atleast_2d(np.asarray(part, np.float64)) for part in (log_weights, log_target))
    if (effective_size(rows) == 0).any():
        return intervals.undefined(named.TARGET_MODE, "no draw meets the target in some prompt", n=len(rows))
    shares = np.minimum(np.exp(said.max(-1) - log_normalisers(rows)), 1.0)
    least = shares**2 * lognormal_variance(rows)
    found = weighted_figure(
        named.TARGET_MODE, shares, shares**2 * relative_variance(rows), rows, least=least, level=level
    )
    high = None if found.high is None else min(1.0, found.high)
    return replace(
        floored(found), high=high, method=f"{found.method}; the likeliest that was drawn", kind="lower bound"
    )


def gap(own: ArrayLike, reference: ArrayLike | None = None, *, beta: float, level: float = 0.95) -> Estimate:
    """Estimate ``beta log Z - J``, how far the KL-regularised objective is from its maximum, in reward units.

    It equals ``beta KL(policy || target)``, so it measures convergence: 0 when the policy is the target.

    Args:
        own: See `reverse_kl`; the evidence is ``reward / beta``.
        reference: See `reverse_kl`.
        beta: KL strength, reward units per nat.
        level: Confidence level.

    Source:
        arXiv 2205.11275, equation 8.
    """
    found = reverse_kl(own, reference, level=level)
    value, low, high = (None if part is None else beta * part for part in (found.value, found.low, found.high))
    return replace(found, name=named.GAP_BETA_LOG_Z_J, value=value, low=low, high=high)


def objective(rewards: ArrayLike, log_ratio: ArrayLike, *, beta: float, clusters: Clusters = None) -> Estimate:
    """Estimate ``J = E[reward] - beta KL(policy || prior)`` from draws of the policy.

    Args:
        rewards: Shape (n,).
        log_ratio: ``log policy - log prior`` of the draws, shape (n,).
        beta: KL strength, reward units per nat.
        clusters: The prompt of each draw.
    """
    values = np.asarray(rewards, np.float64) - beta * np.asarray(log_ratio, np.float64)
    return intervals.mean(named.J, values, clusters=clusters)


def kl_to_prior(log_ratio: ArrayLike, *, clusters: Clusters = None) -> Estimate:
    """Estimate ``KL(policy || prior)`` without bias: the mean of ``log policy - log prior`` over the policy's draws."""
    return intervals.mean("KL(policy || prior)", log_ratio, clusters=clusters)


def perplexity(log_prior: ArrayLike, tokens: Sequence[int], *, clusters: Clusters = None) -> Estimate:
    """Estimate the prior's perplexity per token on some draws: ``exp(-sum log prior / sum tokens)``.

    Args:
        log_prior: Log-probability of each draw under the prior, shape (n,).
        tokens: Tokens of each draw, end included.
        clusters: The prompt of each draw.
    """
    name = named.PERPLEXITY_UNDER_THE_PRIOR
    rows = cluster_sums(np.stack([-np.asarray(log_prior, np.float64), np.asarray(tokens, np.float64)], 1), clusters)
    found = intervals.resampled(name, rows, lambda sums: (sums[:, 0], sums[:, 1]), n=len(tokens))
    value, low, high = (None if part is None else float(np.exp(part)) for part in (found.value, found.low, found.high))
    return replace(found, value=value, low=low, high=high)


def collapse(
    texts: Sequence[str],
    items: Sequence[str],
    *,
    log_probs: ArrayLike | None,
    log_prior: ArrayLike,
    tokens: Sequence[int],
) -> list[Estimate]:
    """Return what a collapse of a policy shows in: entropy, perplexity under the prior, and diversity of its texts.

    Args:
        texts: The answers.
        items: The prompt of each.
        log_probs: Log-probabilities under the policy, shape (n,); None where it has no density to ask.
        log_prior: Log-probabilities under the prior, shape (n,).
        tokens: Tokens of each answer.
    """
    if log_probs is None:
        entropy = intervals.undefined(named.ENTROPY, "a sampler at decoding time has no density to ask")
    else:
        entropy = intervals.mean(named.ENTROPY, -np.asarray(log_probs, np.float64), clusters=items)
    renamed = {
        named.ENTROPY: named.ENTROPY_OF_THE_DRAWS
    }  # of the few texts drawn, at most log(draws), beside the policy's own
    found = [replace(one, name=renamed.get(one.name, one.name)) for one in diversity(texts, items)]
    return [entropy, perplexity(log_prior, tokens, clusters=items), *found]


def effective_sizes(log_weights: ArrayLike) -> Estimate:
    """Estimate the mean effective sample size a prompt.

    Args:
        log_weights: Shape (n,) or (prompts, n).
    """
    rows = np.atleast_2d(np.asarray(log_weights, np.float64))
    found = intervals.mean(named.EFFECTIVE_SAMPLE_SIZE, effective_size(rows), bounds=(0.0, float(rows.shape[-1])))
    return replace(found, method=f"{found.method}; of {rows.shape[-1]} draws a prompt")
