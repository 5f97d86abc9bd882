"""Figures of weighted draws: their intervals, and when their weights say that they cannot be relied on.

One prompt has an interval from its own draws, no narrower than that of lognormal weights whose logs have the spread of
these in their upper half; several have a t interval over prompts.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval.bayes.importance_weights import effective_size, most_pareto_k, pareto_k, upper_spread
from perl_eval.records import Estimate
from perl_eval.stats import intervals

__all__ = [
    "LEAST_EFFECTIVE",
    "doubted",
    "floored",
    "lognormal_mean_variance",
    "lognormal_variance",
    "of_one_prompt",
    "skewed",
    "weighted_figure",
]

FloatArray = NDArray[np.float64]
_MOST_SPREAD = 50.0
"""Variance of log-weights above which nothing is to be had of them, and no exponential of it overflows."""
LEAST_EFFECTIVE = 30.0
"""Effective draws a prompt below which a figure is called unreliable: the standard error of log Z is then near 0.18."""


def lognormal_variance(rows: FloatArray) -> FloatArray:
    """Return the variance of `log_mean_exp` of each prompt if weights were lognormal, ``(exp(s^2) - 1) / n``.

    s is their `upper_spread`. Several prompts have an interval over prompts, and get 0.
    """
    if len(rows) > 1:
        return np.zeros(len(rows))
    return np.asarray(np.expm1(np.minimum(upper_spread(rows) ** 2, _MOST_SPREAD)) / rows.shape[-1], np.float64)


def lognormal_mean_variance(rows: FloatArray, counted: FloatArray) -> FloatArray:
    """Return the variance of ``sum_i w_i d_i / sum_i w_i - log mean w`` if d and log w were normal together.

    With d as log w times b and a rest of variance v, ``(exp(s^2) ((b s^2 - 1)^2 + b^2 s^2 + v) - 1) / n``: the second
    moment of ``w (d - E_target d - 1) + 1``, w of mean 1, less nothing, for its mean is 0.
    """
    spread, n = upper_spread(rows), rows.shape[-1]
    if len(rows) > 1 or not spread[0]:
        return np.zeros(len(rows))
    centred, gaps = rows[0] - rows[0].mean(), counted[0] - counted[0].mean()
    slope = float(centred @ gaps / (centred @ centred))
    rest = float(((gaps - slope * centred) ** 2).mean())
    square = min(float(spread[0]) ** 2, _MOST_SPREAD)
    return np.array([(np.exp(square) * ((slope * square - 1) ** 2 + slope**2 * square + rest) - 1) / n])


def skewed(found: Estimate, prompts: int) -> Estimate:
    """Return a KL with its interval kept at 0 or above and, of one prompt, the upper bound on a log scale if higher."""
    if prompts == 1 and found.value is not None and found.high is not None and found.value > 0:
        on_log_scale = found.value * float(np.exp(min((found.high - found.value) / found.value, 50.0)))
        found = replace(found, high=max(found.high, on_log_scale))
    return floored(found)


def of_one_prompt(found: Estimate, rows: FloatArray) -> Estimate:
    """Return a KL of one prompt from weighted draws, doubted where squared weights are worth too few draws."""
    size = min(float(effective_size(2 * rows)[0]), _as_lognormal(2 * rows))
    found = replace(found, method=found.method.replace("delta method", "jackknife"))
    if size >= LEAST_EFFECTIVE or (found.reason or "").startswith("unreliable"):
        return found
    reason = f"unreliable: squared weights are worth {size:.1f} draws, fewer than {LEAST_EFFECTIVE:.0f}"
    return replace(found, reason=reason, method=f"{found.method}; unreliable")


def floored(found: Estimate) -> Estimate:
    """Return a divergence's figure with its interval kept at 0 or above; the value stays as it came."""
    if found.low is None or found.high is None:
        return found
    return replace(found, low=max(0.0, found.low), high=max(0.0, found.high))


def weighted_figure(
    name: str,
    values: FloatArray,
    variances: FloatArray,
    weights: FloatArray,
    *,
    level: float,
    least: FloatArray | None = None,
) -> Estimate:
    """Return a figure of one prompt, or the mean of several, with what its weights say about its worth.

    Args:
        name: Name of the figure.
        values: Of each prompt.
        variances: Of each prompt's, as its draws show.
        weights: Log-weights, shape (prompts, n).
        level: Confidence level.
        least: What the variance of one prompt is at least, if its log-weights are normal in their upper half.
    """
    from scipy.special import ndtri, stdtrit

    sizes, draws = effective_size(weights), weights.shape[-1]
    method = f"importance sampling, {np.median(sizes):.0f} effective of {draws} draws a prompt"
    if len(values) > 1:
        found = intervals.mean(name, values, level=level)
        found = replace(found, method=f"{method}; {found.method} over prompts")
    else:
        # The variance is known from the squares of the weights, which are worth fewer draws than the weights.
        degrees = max(1.0, float(effective_size(2 * weights)[0]) - 1)
        half = float(stdtrit(degrees, (1 + level) / 2) * np.sqrt(variances[0]))
        if least is not None:
            half = max(half, float(ndtri((1 + level) / 2) * np.sqrt(max(least[0], 0.0))))
        value = float(values[0])
        found = Estimate(name, value, value - half, value + half, draws, 0, f"{method}; delta method", level)
    return doubted(found, weights)


def doubted(found: Estimate, log_weights: ArrayLike) -> Estimate:
    """Return a figure that says so, in its reason, if the weights it rests on are worth too few draws.

    Args:
        found: A figure.
        log_weights: What it was made from, shape (n,) or (prompts, n).
    """
    rows = np.atleast_2d(np.asarray(log_weights, np.float64))
    sizes = effective_size(rows)
    poor = int(np.count_nonzero(sizes < LEAST_EFFECTIVE))
    reason = _heavy_tail(rows) or _too_spread(rows)
    if poor:
        which = "" if len(sizes) == 1 else f" in {poor} of {len(sizes)} prompts"
        least = f"fewest {sizes.min():.1f} of {rows.shape[-1]}"
        reason = f"unreliable: fewer than {LEAST_EFFECTIVE:.0f} effective draws{which} ({least})"
    if not reason:
        return found
    whole = "; ".join(part for part in (found.reason, reason) if part)
    # A page shows the reason of what has no value, and the method of what has one.
    return replace(found, reason=whole, method=f"{found.method}; unreliable")


def _too_spread(rows: FloatArray) -> str:
    """Return what is wrong with one prompt's weights if lognormal ones of their spread were worth too few draws."""
    expected = _as_lognormal(rows) if len(rows) == 1 else np.inf
    if expected >= min(LEAST_EFFECTIVE, rows.shape[-1]):
        return ""
    return f"unreliable: weights as spread as these are worth {expected:.1f} draws, fewer than {LEAST_EFFECTIVE:.0f}"


def _as_lognormal(rows: FloatArray) -> float:
    """Return how many draws lognormal weights would be worth whose logs have the spread of one prompt's."""
    return float(rows.shape[-1] * np.exp(-(upper_spread(rows)[0] ** 2)))


def _heavy_tail(rows: FloatArray) -> str:
    """Return what is wrong with the largest weights: of one prompt their tail, of several that of most prompts."""
    k, most = pareto_k(rows), most_pareto_k(rows.shape[-1])
    heavy = int(np.count_nonzero(k > most))
    if 2 * heavy <= len(k):
        return ""
    which = "" if len(k) == 1 else f" in {heavy} of {len(k)} prompts"
    return f"unreliable: the largest weights have Pareto k above {most:.2f}{which} (largest {k.max():.2f})"
