"""Rejection sampling, and quasi-rejection sampling, which goes on where no bound of the weights is known.

A draw of weight w is kept with chance ``min(1, w / b)``. If b bounds every weight the kept draws follow the target
exactly. If not, they follow the truncated target ``proposal min(w, b)``, whose distance from the target can be
estimated from draws of the proposal: that is quasi-rejection sampling. A larger b is nearer and slower.

Source: Eikema et al., arXiv 2112.05702.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval.bayes.best_of_n import SamplerResult
from perl_eval.bayes.importance_weights import effective_size, log_mean_exp, normalised
from perl_eval.bayes.language_model import Draws, Language
from perl_eval.bayes.target import Target, Weighed, joined

__all__ = [
    "acceptance",
    "bound_for",
    "exceedance",
    "rejected",
    "truncated_forward_kl",
    "truncated_kl",
    "truncated_total_variation",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_COIN = 2
"""Goes beside a context's seed where the sampler, not the language, takes a chance."""


def rejected(
    target: Target, proposal: Language, contexts: IntArray, *, count: int, log_bound: ArrayLike, most: int
) -> SamplerResult:
    """Keep draws of the proposal with chance ``min(1, w / b)`` until each context has its answers.

    All contexts that still lack answers draw in one batch, each as many as its acceptance so far suggests, so the batch
    stays full while the easy contexts leave it.

    Args:
        target: Gives the weights.
        proposal: What is drawn from.
        contexts: Distinct contexts.
        count: Answers for each.
        log_bound: log b, one number or one a context. ``exceeded`` of the result counts the draws above it: none, and
            the answers may be exact; any, and they are quasi-rejection's.
        most: Draws a context at most; what is then lacking is counted in ``missing``.
    """
    bounds = np.broadcast_to(np.asarray(log_bound, np.float64), contexts.shape)
    coins = [np.random.default_rng([seed, _COIN]) for seed in proposal.seeds(contexts, np.zeros_like(contexts))]
    kept: list[list[Weighed]] = [[] for _ in contexts]
    drawn, found = np.zeros(len(contexts), np.int64), np.zeros(len(contexts), np.int64)
    tokens = exceeded = 0
    while (open_ := np.flatnonzero((found < count) & (drawn < most))).size:
        sizes = _block(found[open_], drawn[open_], count, most)
        numbers = np.concatenate([drawn[place] + np.arange(size) for place, size in zip(open_, sizes, strict=True)])
        owners = np.repeat(open_, sizes)
        draws: Draws = proposal.draw(contexts[owners], numbers)
        weighed = target.weigh(draws, proposal)
        excess = weighed.log_weights - bounds[owners]
        tossed = np.concatenate([coins[place].random(size) for place, size in zip(open_, sizes, strict=True)])
        accepted = np.log1p(-tossed) < excess
        tokens, exceeded = tokens + draws.tokens, exceeded + int((excess > 1e-9).sum())
        drawn[open_] += sizes
        for place in open_:
            rows = np.flatnonzero(accepted & (owners == place))[: count - found[place]]
            kept[place].append(weighed.take(rows))
            found[place] += len(rows)
    answers = joined([part for parts in kept for part in parts])
    return SamplerResult(
        answers,
        tokens,
        int(drawn.sum()),
        missing=int((count - found).sum()),
        exceeded=exceeded,
    )


def _block(found: IntArray, drawn: IntArray, count: int, most: int) -> IntArray:
    """Return how many draws each open context takes next: what it lacks over its acceptance so far, bounded."""
    rate = (found + 0.5) / (drawn + 1.0)
    wanted = np.ceil((count - found) / rate).astype(np.int64)
    return np.minimum(np.clip(wanted, 1, 4 * count + drawn), most - drawn)


def _truncated(log_weights: ArrayLike, log_bound: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return log-weights, shape (..., n), and log of ``min(w, b)``."""
    values = np.asarray(log_weights, np.float64)
    return values, np.minimum(values, np.asarray(log_bound, np.float64)[..., None])


def acceptance(log_weights: ArrayLike, log_bound: ArrayLike) -> FloatArray:
    """Return the estimated chance that a draw is kept, ``E[min(1, w / b)]``, without bias.

    Args:
        log_weights: Of draws of the proposal, shape (..., n).
        log_bound: log b, shape (...).

    Returns:
        Shape (...), in [0, 1].

    Source:
        arXiv 2112.05702, equation 5.
    """
    _, truncated = _truncated(log_weights, log_bound)
    return np.exp(log_mean_exp(truncated) - np.asarray(log_bound, np.float64))


def bound_for(log_weights: ArrayLike, rate: float) -> FloatArray:
    """Return the log b with which about this share of draws is kept, from some draws of the proposal.

    Args:
        log_weights: Shape (..., n).
        rate: Wanted acceptance, in (0, 1). What no b can reach (fewer draws have weight) gives the smallest weight.

    Returns:
        Shape (...).
    """
    values = np.asarray(log_weights, np.float64)
    low = np.where(np.isneginf(values), np.inf, values).min(-1)
    high = values.max(-1) - np.log(rate)
    low = np.where(np.isfinite(low), low, 0.0)
    for _ in range(60):  # halving: acceptance falls as b grows
        middle = (low + high) / 2
        above = acceptance(values, middle) > rate
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.asarray((low + high) / 2, np.float64)


def truncated_total_variation(log_weights: ArrayLike, log_bound: ArrayLike) -> FloatArray:
    """Return the estimated total variation distance of kept draws from the target, in [0, 1].

    ``1/2 E |w / Z - min(w, b) / Z_b|``, self-normalised; exactly 0 if no draw exceeds the bound.

    Args:
        log_weights: Of draws of the proposal, shape (..., n).
        log_bound: log b, shape (...).

    Source:
        arXiv 2112.05702, equation 8.
    """
    values, truncated = _truncated(log_weights, log_bound)
    return np.asarray(np.abs(normalised(values) - normalised(truncated)).sum(-1) / 2, np.float64)


def truncated_kl(log_weights: ArrayLike, log_bound: ArrayLike) -> FloatArray:
    """Return the estimated ``KL(kept || target)`` in nats, ``E_kept[min(0, log b / w)] + log Z / Z_b``.

    Args:
        log_weights: Of draws of the proposal, shape (..., n).
        log_bound: log b, shape (...).
    """
    values, truncated = _truncated(log_weights, log_bound)
    shares = normalised(truncated)
    change = np.where(shares > 0, truncated - values, 0.0)
    found = (shares * change).sum(-1) + log_mean_exp(values) - log_mean_exp(truncated)
    return np.asarray(np.maximum(found, 0.0), np.float64)


def truncated_forward_kl(log_weights: ArrayLike, log_bound: ArrayLike) -> FloatArray:
    """Return the estimated ``KL(target || kept)`` in nats, ``E_target[max(0, log w / b)] - log Z / Z_b``.

    Args:
        log_weights: Of draws of the proposal, shape (..., n).
        log_bound: log b, shape (...).
    """
    values, truncated = _truncated(log_weights, log_bound)
    shares = normalised(values)
    change = np.where(shares > 0, values - truncated, 0.0)
    found = (shares * change).sum(-1) - log_mean_exp(values) + log_mean_exp(truncated)
    return np.asarray(np.maximum(found, 0.0), np.float64)


def exceedance(log_weights: ArrayLike, log_bound: ArrayLike) -> FloatArray:
    """Return the share of the target's mass, as drawn, that lies above the bound, shape (...)."""
    values, _ = _truncated(log_weights, log_bound)
    over = values > np.asarray(log_bound, np.float64)[..., None]
    return np.where(effective_size(values) > 0, (normalised(values) * over).sum(-1), 0.0)
