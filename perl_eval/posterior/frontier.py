"""The best that can be had: the target at other strengths of KL, and best-of-n at other n, from the pool alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from perl_eval import figure_names as named
from perl_eval.bayes import best_of_n, divergences, weighted_figures
from perl_eval.bayes.importance_weights import normalised
from perl_eval.figure_names import BEST_OF_LINE, TARGET_LINE
from perl_eval.posterior.methods import FROM_PRIOR, Pool
from perl_eval.posterior.problem import Setting
from perl_eval.records import About, Estimate
from perl_eval.stats import intervals

__all__ = ["frontier"]

FloatArray = NDArray[np.float64]
_BETAS = (64, 16, 8, 4, 2, 1, 0.5, 0.25)
"""Strengths of KL shown, as multiples of the run's own."""


def frontier(setting: Setting, pool: Pool) -> list[Estimate]:
    """Estimate reward, true reward where known, and KL to the prior along both lines.

    The target at any beta has the most reward of all policies with its KL to the prior or less, so nothing stands above
    the first line but by chance. Points at small beta rest on few draws, and say so.
    """
    shape = pool.log_weights.shape
    rewards = pool.weighed.log_evidence.reshape(shape) * setting.options.beta
    true = setting.true_rewards(pool.weighed.draws.contexts, pool.weighed.draws.sequences)
    values = {"reward": rewards} | ({} if true is None else {named.TRUE_REWARD: true.reshape(shape)})
    found: list[Estimate] = []
    for factor in _BETAS:
        beta = factor * setting.options.beta
        weights = rewards / beta
        shares = normalised(weights)
        distance = replace(divergences.forward_kl(weights, weights), name=FROM_PRIOR)
        means = [intervals.mean(name, (shares * value).sum(-1)) for name, value in values.items()]
        told = [replace(one, method=f"importance sampling; {one.method}") for one in means]
        worth = [weighted_figures.doubted(one, weights) for one in told]
        found += intervals.about([*worth, distance], About(slice=TARGET_LINE, at=beta))
    n = 1
    while n <= setting.options.pool // 4:
        worth = [intervals.mean(name, best_of_n.best_of_n_means(rewards, value, n)) for name, value in values.items()]
        kl = replace(intervals.mean(FROM_PRIOR, best_of_n.best_of_n_kl(rewards, pool.log_prior, n)), reason=None)
        how = f"order statistics of {setting.options.pool} draws a prompt"
        found += intervals.about(
            [replace(one, method=f"{how}; {one.method}") for one in (*worth, kl)], About(slice=BEST_OF_LINE, at=n)
        )
        n *= 2
    return found
