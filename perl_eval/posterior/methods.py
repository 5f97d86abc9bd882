"""Each way to the target: its answers, their cost, and its divergences, as estimates or as bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from perl_eval import figure_names as named
from perl_eval.bayes import best_of_n, best_of_poisson, rejection, weighted_figures
from perl_eval.bayes import divergences as estimates
from perl_eval.bayes.best_of_n import SamplerResult
from perl_eval.bayes.language_model import Draws
from perl_eval.bayes.smc import Filtering, sequential
from perl_eval.bayes.target import Target, Weighed
from perl_eval.models.sequence_model import ModelLanguage, fit_twist
from perl_eval.posterior.problem import PRIOR, Setting
from perl_eval.records import Estimate
from perl_eval.stats import intervals

__all__ = ["Answers", "Pool", "draw_pool", "methods", "pool_of"]

FloatArray = NDArray[np.float64]
FROM_PRIOR, FROM_TARGET, TO_TARGET = (
    named.KL_METHOD_PRIOR,
    named.KL_TARGET_METHOD,
    named.KL_METHOD_TARGET,
)


@dataclass(frozen=True, slots=True)
class Pool:
    """Draws of the prior by which everything is measured; arrays are (prompts, draws)."""

    weighed: Weighed
    log_weights: FloatArray
    log_prior: FloatArray

    @property
    def log_z(self) -> FloatArray:
        """Log Z of each prompt."""
        return estimates.log_normalisers(self.log_weights)

    def first(self, count: int) -> Weighed:
        """Return the first draws of every prompt."""
        prompts, size = self.log_weights.shape
        return self.weighed.take((np.arange(prompts)[:, None] * size + np.arange(count)).ravel())


def draw_pool(setting: Setting) -> Weighed:
    """Draw the pool and weigh it."""
    draws = setting.prior.draw(*best_of_n.rows_of(setting.contexts, setting.options.pool))
    return setting.target.weigh(draws, setting.prior)


def pool_of(weighed: Weighed, size: int) -> Pool:
    """Return weighed draws of the prior, ``size`` a prompt side by side, as the pool."""
    return Pool(weighed, weighed.log_weights.reshape(-1, size), weighed.log_prior.reshape(-1, size))


@dataclass(frozen=True, slots=True)
class Answers:
    """What one method gave.

    Attributes:
        name: The method.
        kind: ``prior``, ``policy`` or ``sampler``.
        sampled: Answers and cost.
        divergences: KLs to prior and target, and from the target.
        extra: Figures that only this method has.
    """

    name: str
    kind: str
    sampled: SamplerResult
    divergences: list[Estimate]
    extra: list[Estimate]


def methods(setting: Setting, pool: Pool) -> list[Callable[[], Answers]]:
    """Return what gives the answers of the prior, of every policy and of every sampler that can take part."""
    samplers = {
        "best-of-n": _best_of_n,
        "best-of-Poisson": _best_of_poisson,
        "rejection": _rejection,
        "quasi-rejection": _quasi_rejection,
        "SIR": _resampling,
        "SMC": _smc,
    }
    chosen = [
        samplers[name] for name in setting.options.samplers if name != "rejection" or setting.options.upper is not None
    ]
    return [
        partial(_prior, setting, pool),
        *(partial(_policy, setting, pool, name) for name in setting.policies),
        *(partial(sampler, setting, pool) for sampler in chosen),
    ]


def _prior(setting: Setting, pool: Pool) -> Answers:
    first = pool.first(setting.options.draws)
    none = replace(estimates.kl_to_prior(np.zeros(len(first.log_prior))), low=0.0, high=0.0, reason=None)
    own = [none, estimates.reverse_kl(pool.log_weights), estimates.forward_kl(pool.log_weights, pool.log_weights)]
    return Answers(PRIOR, PRIOR, SamplerResult(first, first.draws.tokens, 0), _named(own), [])


def _named(found: Sequence[Estimate]) -> list[Estimate]:
    """Return KL to prior, KL to target and KL from target under the names of the table."""
    names = (FROM_PRIOR, TO_TARGET, FROM_TARGET)
    return [replace(one, name=name) for one, name in zip(found, names, strict=True)]


def _policy(setting: Setting, pool: Pool, name: str) -> Answers:
    policy = setting.policies[name]
    drawn: Draws = policy.draw(*best_of_n.rows_of(setting.contexts, setting.options.draws))
    weighed = setting.target.weigh(drawn, policy)
    own = weighed.log_weights.reshape(len(setting.found), -1)
    base = pool.weighed
    said = policy.log_probs(base.draws.contexts, base.draws.sequences).reshape(pool.log_weights.shape)
    ratio = pool.log_prior + base.log_evidence.reshape(said.shape) - said
    items = [setting.items[place] for place in drawn.contexts]
    found = [
        estimates.kl_to_prior(drawn.log_probs - weighed.log_prior, clusters=items),
        estimates.reverse_kl(own, pool.log_weights),
        estimates.forward_kl(pool.log_weights, ratio),
    ]
    beta = setting.options.beta
    extra = [
        estimates.objective(
            beta * weighed.log_evidence, drawn.log_probs - weighed.log_prior, beta=beta, clusters=items
        ),
        estimates.gap(own, pool.log_weights, beta=beta),
        replace(estimates.log_normaliser(own), name=named.LOG_Z_FROM_THIS_POLICYS_DRAWS),
    ]
    return Answers(name, "policy", SamplerResult(weighed, drawn.tokens, 0), _named(found), extra)


def _stream(setting: Setting, name: str) -> tuple[Target, ModelLanguage]:
    """Return the prior with independent draws, as proposal and as what is weighed against."""
    own = setting.prior.stream(name)
    return Target(own, setting.target.evidence), own


def _best_of_n(setting: Setting, pool: Pool) -> Answers:
    n = setting.options.n
    target, own = _stream(setting, "best-of-n")
    sampled = best_of_n.best_of_n(target, own, setting.contexts, count=setting.options.draws, n=n)
    rewards = pool.weighed.log_evidence.reshape(pool.log_weights.shape)
    found = _by_rank(
        pool,
        best_of_n.best_of_n_tilts(rewards, pool.log_prior, n),
        best_of_n.best_of_n_kl(rewards, pool.log_prior, n),
        best_of_n.best_of_n_means(rewards, rewards, n),
    )
    bound = best_of_n.best_of_n_bound(n)
    extra = [Estimate(named.KL_BOUND, bound, None, None, n, 0, "exact", kind="upper bound")]
    return Answers(f"best of {n}", "sampler", sampled, found, extra)


def _by_rank(pool: Pool, tilts: FloatArray, to_prior: FloatArray, expected: FloatArray) -> list[Estimate]:
    """Return the divergences of a sampler that keeps the best of several draws.

    Args:
        pool: Draws of the prior.
        tilts: Log of what the sampler makes of the prior's probability, at the pool's draws.
        to_prior: KL(sampler || prior) of each prompt.
        expected: Log-evidence of the sampler's answers, of each prompt.
    """
    plain = f"order statistics of {pool.log_weights.shape[1]} draws a prompt"
    found = [
        replace(_over_prompts(to_prior, plain), reason=None),  # all at the bound where no answer repeats: no spread
        weighted_figures.doubted(_over_prompts(to_prior - expected + pool.log_z, plain), pool.log_weights),
        estimates.forward_kl(pool.log_weights, pool.log_weights - tilts),
    ]
    return _named(found)


def _best_of_poisson(setting: Setting, pool: Pool) -> Answers:
    mean = setting.options.n - 1.0
    target, own = _stream(setting, "best-of-Poisson")
    count = setting.options.draws
    sampled = best_of_poisson.best_of_poisson(target, own, setting.contexts, count=count, mean=mean)
    rewards = pool.weighed.log_evidence.reshape(pool.log_weights.shape)
    found = _by_rank(
        pool,
        best_of_poisson.best_of_poisson_tilts(rewards, pool.log_prior, mean),
        best_of_poisson.best_of_poisson_kl(rewards, pool.log_prior, mean),
        best_of_poisson.best_of_poisson_means(rewards, rewards, mean),
    )
    return Answers(f"best of 1 + Poisson({mean:g})", "sampler", sampled, found, [])


def _rejection(setting: Setting, pool: Pool) -> Answers:
    if setting.options.upper is None:
        raise ValueError("rejection needs a bound of the reward")
    bound = np.full(len(setting.found), setting.options.upper / setting.options.beta)
    return _rejected(setting, pool, "rejection", bound)


def _quasi_rejection(setting: Setting, pool: Pool) -> Answers:
    bound = rejection.bound_for(pool.log_weights, setting.options.acceptance)
    return _rejected(setting, pool, "quasi-rejection", bound)


def _rejected(setting: Setting, pool: Pool, name: str, bound: FloatArray) -> Answers:
    options, weights = setting.options, pool.log_weights
    target, own = _stream(setting, name)
    sampled = rejection.rejected(target, own, setting.contexts, count=options.draws, log_bound=bound, most=options.most)
    truncated = np.minimum(weights, bound[:, None])
    plain = f"weights of {options.pool} draws a prompt"
    to_prior = replace(estimates.forward_kl(truncated, truncated), reason=None)
    found = [
        to_prior,
        weighted_figures.doubted(_over_prompts(rejection.truncated_kl(weights, bound), plain), weights),
        weighted_figures.doubted(_over_prompts(rejection.truncated_forward_kl(weights, bound), plain), weights),
    ]
    distance = rejection.truncated_total_variation(weights, bound)
    expected = intervals.mean(named.ACCEPTANCE_EXPECTED, rejection.acceptance(weights, bound), bounds=(0.0, 1.0))
    kept = len(sampled.kept.log_prior)
    seen = Estimate(named.ACCEPTANCE_SEEN, kept / sampled.scored, None, None, sampled.scored, 0, "answers over draws")
    over = intervals.count(named.DRAWS_ABOVE_THE_BOUND, sampled.exceeded, n=sampled.scored)
    if sampled.exceeded and name == "rejection":
        over = replace(over, reason="the bound does not hold: this was quasi-rejection")
    extra = [
        replace(intervals.mean(named.TOTAL_VARIATION_TO_TARGET, distance, bounds=(0.0, 1.0)), method=f"{plain}; t"),
        expected,
        seen,
        over,
    ]
    exact = not (sampled.exceeded or sampled.missing or (weights > bound[:, None]).any())  # what the pool shows too
    if kept and exact:
        extra.append(estimates.log_normaliser_above(sampled.kept.log_weights.reshape(-1, options.draws)))
    return Answers(name, "sampler", sampled, _named(found), extra)


def _resampling(setting: Setting, pool: Pool) -> Answers:
    target, own = _stream(setting, "SIR")
    options = setting.options
    sampled = best_of_n.importance_resampled(target, own, setting.contexts, count=options.draws, n=options.n)
    return Answers(f"SIR of {options.n}", "sampler", sampled, _bounds(pool, sampled), _log_z(sampled))


def _smc(setting: Setting, pool: Pool) -> Answers:
    options = setting.options
    twist = fit_twist(setting.prior, pool.weighed.draws, pool.weighed.log_weights)
    own = setting.prior.stream("SMC", twist=twist)
    target = Target(own, setting.target.evidence)
    sampled = sequential(
        target, own, setting.contexts, count=options.draws, filtering=Filtering(options.n, at_once=4 * options.batch)
    )
    return Answers(f"SMC of {options.n}", "sampler", sampled, _bounds(pool, sampled), _log_z(sampled))


def _bounds(pool: Pool, sampled: SamplerResult) -> list[Estimate]:
    """Bound the divergences of a sampler that has no density by its own estimates of log Z.

    ``KL(kept || target) <= log Z - E[log Z_hat]`` and so ``KL(kept || prior) <= E[evidence] - E[log Z_hat]``.

    Source: Domke and Sheldon, arXiv 1808.09034, theorem 1; Naesseth et al., arXiv 1705.11140, theorem 1, for SMC.
    """
    if sampled.log_z is None:
        raise ValueError("the sampler gives no estimates of log Z")
    owners = sampled.kept.draws.contexts
    present = np.unique(owners)
    rows = [owners == place for place in present]
    own = np.array([sampled.log_z[mine].mean() for mine in rows])
    evidence = np.array([sampled.kept.log_evidence[mine].mean() for mine in rows])
    why = "upper bound, by the sampler's own log Z"
    return _named(
        [
            replace(_over_prompts(evidence - own, why), kind="upper bound"),
            replace(
                weighted_figures.doubted(_over_prompts(pool.log_z[present] - own, why), pool.log_weights[present]),
                kind="upper bound",
            ),
            intervals.undefined(FROM_TARGET, "the sampler has no density to ask"),
        ]
    )


def _log_z(sampled: SamplerResult) -> list[Estimate]:
    if sampled.log_z is None:
        return []
    found = intervals.mean(named.LOG_Z_FROM_THIS_SAMPLER, sampled.log_z, clusters=sampled.kept.draws.contexts)
    return [replace(found, method=f"{found.method}; below log Z in expectation", kind="lower bound")]


def _over_prompts(values: FloatArray, how: str) -> Estimate:
    """Return the mean of a divergence over prompts, its interval kept at 0 or above."""
    found = intervals.mean("", values)
    low, high = (None if end is None else max(0.0, end) for end in (found.low, found.high))
    return replace(found, low=low, high=high, method=f"{how}; {found.method} over prompts")
