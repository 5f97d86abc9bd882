"""The incomplete beta function, and the quantiles that rest on it, without loading scipy for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

__all__ = ["beta_share", "mid_p_below", "t_quantile"]

_SMALLEST = 1e-300
_ENOUGH = 1e-15
_MANY = 1000.0
"""From so many degrees of freedom on, Fisher's series gives Student's quantile to the last digits."""


def beta_share(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function, ``P(B <= x)`` of B with the beta distribution of a and b.

    By the continued fraction, evaluated by Lentz's method; to about 13 digits, less the digits of a + b.

    Args:
        a: Above 0.
        b: Above 0.
        x: In [0, 1].

    Source: NIST Digital Library of Mathematical Functions, 8.17.22; Lentz, Applied Optics 15 (1976), 668-671.
    """
    if not 0 < x < 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _continued_fraction(b, a, 1 - x)
    return _continued_fraction(a, b, x)


def _continued_fraction(a: float, b: float, x: float) -> float:
    """Return `beta_share` for an x at or below the mean, where the fraction converges fast."""
    front = math.exp(_log_density(a, b, x)) * x * (1 - x) / a
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1))
    whole = d
    for m in range(1, 100_000):
        for part in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 / _away(1 + part * d), _away(1 + part / c)
            whole *= c * d
        if abs(c * d - 1) < _ENOUGH:
            break
    return front * whole


def _away(value: float) -> float:
    """Keep a number away from 0, as Lentz's method asks."""
    return value if abs(value) > _SMALLEST else _SMALLEST


def _log_density(a: float, b: float, x: float) -> float:
    """Return the logarithm of the beta distribution's density at x in (0, 1)."""
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return scale + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x)


def _crossing(rises: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function that rises crosses 0, by halving, to the last digits of ``high``."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if rises(middle) > 0 else (middle, high)
    return (low + high) / 2


@lru_cache(maxsize=1024)
def mid_p_below(successes: float, n: float, tail: float) -> float:
    """Return the lower mid-p bound of a proportion: the p with ``P(X > x) + P(X = x) / 2 = tail``.

    The tails of the binomial distribution are those of the beta distribution, which take fractions too.

    Args:
        successes: Above 0, at most n.
        n: Trials.
        tail: The probability, below a half.

    Source: Agresti and Gottard, Computational Statistics and Data Analysis 51 (2007), 6447-6458.
    """
    top = max(n - successes, 1e-9)

    def excess(p: float) -> float:
        at_least = beta_share(successes, top + 1, p)
        exactly = math.exp(_log_density(successes + 1, top + 1, p)) / (successes + top + 1)
        return at_least - exactly / 2 - tail

    return _crossing(excess, 0.0, 1.0)


@lru_cache(maxsize=1024)
def t_quantile(degrees: float, p: float) -> float:
    """Return the quantile of Student's t.

    Args:
        degrees: Degrees of freedom, at least 1; may be fractional.
        p: In (0.5, 1).

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.5 for many degrees of freedom.
    """
    z = NormalDist().inv_cdf(p)
    if degrees >= _MANY:
        first = (z**3 + z) / 4
        second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
        third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
        fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
        return z + first / degrees + second / degrees**2 + third / degrees**3 + fourth / degrees**4
    t, scale = z, math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - math.log(degrees * math.pi) / 2
    for _ in range(100):  # below the quantile, where the distribution bends down, Newton's steps never pass it
        beyond = beta_share(degrees / 2, 0.5, degrees / (degrees + t * t)) / 2
        step = (beyond - (1 - p)) / math.exp(scale - (degrees + 1) / 2 * math.log1p(t * t / degrees))
        t += step
        if abs(step) <= 1e-14 * t:
            break
    return t
