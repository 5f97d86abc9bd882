"""Arithmetic of importance weights, in logs, over the last axis of an array."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["effective_size", "log_mean_exp", "normalised", "relative_variance"]

FloatArray = NDArray[np.float64]


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
