"""Arithmetic of importance weights, in logs, over the last axis of an array."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "effective_size",
    "log_mean_exp",
    "most_pareto_k",
    "normalised",
    "pareto_k",
    "relative_variance",
    "upper_spread",
]

FloatArray = NDArray[np.float64]
_HIGH = 0.975


def _scaled(log_weights: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return weights divided by their largest, and the log of the largest (0 where no weight is above 0)."""
    values = np.asarray(log_weights, np.float64)
    if values.shape[-1] == 0:
        raise ValueError("there are no weights")
    if np.isnan(values).any() or np.isposinf(values).any():
        raise ValueError("a log-weight is a number below infinity, or minus infinity")
    largest = values.max(-1, keepdims=True)
    shift = np.where(np.isneginf(largest), 0.0, largest)
    return np.exp(values - shift), shift[..., 0]


def log_mean_exp(log_weights: ArrayLike) -> FloatArray:
    """Return ``log mean exp``, minus infinity if every weight is zero.

    Of draws from the proposal its exponential has expectation Z, so itself it is at most ``log Z`` in expectation; it
    falls short by about ``relative_variance / 2``.

    Args:
        log_weights: Shape (..., n).

    Returns:
        Shape (...).

    Source:
        Burda et al., arXiv 1509.00519, theorem 1 (more draws, tighter bound); the rate is the delta method's.
    """
    weights, shift = _scaled(log_weights)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(weights.mean(-1)) + shift, np.float64)


def normalised(log_weights: ArrayLike) -> FloatArray:
    """Return weights that sum to 1 over the last axis, shape (..., n).

    Raises:
        ValueError: A row has no weight above zero.
    """
    weights, _ = _scaled(log_weights)
    total = weights.sum(-1, keepdims=True)
    if (total == 0).any():
        raise ValueError("every weight is zero")
    return np.asarray(weights / total, np.float64)


def effective_size(log_weights: ArrayLike) -> FloatArray:
    """Return Kish's effective sample size ``(sum w)^2 / sum w^2``, between 1 and n; 0 if every weight is zero.

    It sees only what was drawn: a proposal that never meets the target's bulk can show a large one.

    Args:
        log_weights: Shape (..., n).

    Source:
        Kong, Technical report 348, University of Chicago (1992).
    """
    weights, _ = _scaled(log_weights)
    squares = (weights**2).sum(-1)
    return np.asarray(np.where(squares > 0, weights.sum(-1) ** 2 / np.where(squares > 0, squares, 1.0), 0.0))


def relative_variance(log_weights: ArrayLike) -> FloatArray:
    """Return the variance of the mean weight over its square, ``1 / ESS - 1 / n``.

    It is the variance of ``log_mean_exp``, to first order.

    Args:
        log_weights: Shape (..., n), not all zero in any row.
    """
    size = effective_size(log_weights)
    if (size == 0).any():
        raise ValueError("every weight is zero")
    return np.asarray(np.maximum(1 / size - 1 / np.shape(log_weights)[-1], 0.0), np.float64)


def pareto_k(log_weights: ArrayLike) -> FloatArray:
    """Return the shape k of the generalised Pareto distribution that fits the tail of the largest weights.

    Weights have moments up to order ``1 / k``; above 0.7 (see `most_pareto_k`) no practical number of draws will do.
    The tail is the ``min(n / 5, 3 sqrt(n))`` largest weights, fitted with the estimator of Zhang and Stephens and drawn
    to 0.5 as by ten more. Minus infinity where there is no tail to fit: fewer than 5 weights in it, or all alike.

    Args:
        log_weights: Shape (..., n).

    Returns:
        Shape (...).

    Source:
        Vehtari et al., JMLR 25 (2024), 72; Zhang and Stephens, Technometrics 51 (2009), 316-325.
    """
    values = np.asarray(log_weights, np.float64)
    found = np.array([_tail_shape(row) for row in values.reshape(-1, values.shape[-1])], np.float64)
    return found.reshape(values.shape[:-1])


def most_pareto_k(draws: int) -> float:
    """Return the largest k at which estimates from so many draws can be relied on: ``min(1 - 1 / log10(n), 0.7)``.

    Source:
        Vehtari et al., JMLR 25 (2024), 72, section 3.2.4.
    """
    return min(1 - 1 / float(np.log10(draws)), 0.7) if draws > 10 else 0.0


def upper_spread(log_weights: ArrayLike) -> FloatArray:
    """Return the standard deviation of log-weights in their upper half, if they were normal there; 0 of bounded ones.

    ``(q_0.975 - q_0.5) / 1.96``, of weights whose tail has a Pareto k above 0: heavier than any with an end. It hardly
    depends on whether the largest weights were met, as the effective size does, and says how large that is for
    lognormal weights: ``n exp(-s^2)``. 0 too where a weight is zero.

    Args:
        log_weights: Shape (..., n).

    Returns:
        Shape (...).
    """
    rows = np.asarray(log_weights, np.float64)
    finite = np.asarray(np.isfinite(rows).all(-1))
    middle, high = np.quantile(np.where(np.isfinite(rows), rows, 0.0), [0.5, _HIGH], axis=-1)
    spread = (high - middle) / NormalDist().inv_cdf(_HIGH)
    return np.asarray(np.where(finite & (pareto_k(rows) > 0), spread, 0.0), np.float64)


def _tail_shape(log_weights: FloatArray) -> float:
    n = len(log_weights)
    size = int(np.ceil(min(n / 5, 3 * np.sqrt(n))))
    if size < 5:
        return -np.inf
    ordered = np.sort(log_weights - log_weights.max())
    above = np.exp(ordered[-size:]) - np.exp(ordered[-size - 1])
    if above[-1] - above[0] <= np.finfo(float).tiny or above[0] <= 0:
        return -np.inf
    trials = 30 + int(np.sqrt(size))
    rates = 1 / above[-1] + (1 - np.sqrt(trials / (np.arange(1, trials + 1) - 0.5))) / (
        3 * above[int(size / 4 + 0.5) - 1]
    )
    shapes = np.log1p(-rates[:, None] * above).mean(axis=1)
    likelihoods = size * (np.log(-rates / shapes) - shapes - 1)
    weights = np.exp(likelihoods - likelihoods.max())
    rate = float(weights @ rates / weights.sum())
    shape = float(np.log1p(-rate * above).mean())
    return (size * shape + 5.0) / (size + 10.0)
