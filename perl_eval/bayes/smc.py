"""Sequential Monte Carlo: answers grow token by token, and particles that do badly give way to those that do well.

Particle weights are ``prior / proposal`` per token times the change of the twist, and the evidence when a particle
ends. A twist guesses ``log E[evidence | prefix]``; without one, and with the prior as proposal, nothing tells prefixes
apart until some have ended. Whatever the twist, the estimate of Z is unbiased.

Source: Del Moral, Doucet and Jasra, JRSS B 68 (2006), 411-436; twists: Zhao et al., arXiv 2404.17546.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perl_eval.bayes.best_of_n import SamplerResult, rows_of
from perl_eval.bayes.importance_weights import effective_size, log_mean_exp, normalised
from perl_eval.bayes.language_model import Draws, Language, Prefixes
from perl_eval.bayes.target import Target, Weighed, joined

__all__ = ["Filtering", "Particles", "sequential", "systematic"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_STEPS = 3
"""Goes beside a filter's seed where the sampler, not the language, takes a chance."""


def systematic(shares: FloatArray, uniform: float) -> IntArray:
    """Return the ancestors of n particles: each is taken ``n share`` times, rounded up or down, unbiased.

    Args:
        shares: Weights that sum to 1, shape (n,).
        uniform: One number in [0, 1).

    Source:
        Carpenter, Clifford and Fearnhead, IEE Proc. Radar 146 (1999), 2-7.
    """
    n = len(shares)
    edges = np.cumsum(shares)
    points = (uniform + np.arange(n)) / n * edges[-1]
    return np.asarray(np.minimum(np.searchsorted(edges, points, side="right"), n - 1), np.int64)


@dataclass(frozen=True, slots=True)
class Filtering:
    """Particles a filter, when to resample, and how many particles grow at once.

    A filter is resampled when its effective share of particles falls below ``resample_below``; 0 for never.
    ``at_once`` bounds the batch; a filter is never cut, so it holds one filter at least.
    """

    particles: int = 16
    resample_below: float = 0.5
    at_once: int = 1024


def sequential(
    target: Target, proposal: Language, contexts: IntArray, *, count: int, filtering: Filtering | None = None
) -> SamplerResult:
    """Run one particle filter an answer and keep one particle of each, chosen by its weight.

    The filters of all contexts advance in one batch; particles that have ended leave it.

    Args:
        target: Gives the prior and, for whole answers, the evidence.
        proposal: What tokens are drawn from, and whose twist steers; the prior or a policy.
        contexts: Distinct contexts.
        count: Answers for each, each from a filter of its own.
        filtering: See `Filtering`.

    Returns:
        The kept answers; ``log_z`` holds each filter's estimate of log Z, whose exponential is unbiased.
    """
    how = filtering or Filtering()
    owners, numbers = rows_of(contexts, count)
    randoms = [np.random.default_rng([seed, _STEPS]) for seed in proposal.seeds(owners, numbers)]
    size = max(1, how.at_once // how.particles)
    parts = []
    for start in range(0, len(owners), size):
        own = randoms[start : start + size]
        filters = Particles(target, proposal, owners[start : start + size], how.particles)
        while filters.running:
            filters.look()
            filters.resample(how.resample_below, own)
            filters.grow(np.stack([random.random(how.particles) for random in own]))
        parts.append(filters.finish(own))
    return SamplerResult(
        joined([part.kept for part in parts]),
        sum(part.tokens for part in parts),
        sum(part.scored for part in parts),
        log_z=np.concatenate([part.log_z for part in parts if part.log_z is not None]),
        missing=sum(part.missing for part in parts),
    )


class Particles:
    """The particles of many filters, shape (filters, particles), and the prefixes that still grow.

    Args:
        target: Gives the prior and the evidence.
        proposal: What tokens are drawn from.
        owners: The context of each filter.
        particles: Particles a filter.
    """

    def __init__(self, target: Target, proposal: Language, owners: IntArray, particles: int) -> None:
        self.target, self.owners, self.shape = target, owners, (len(owners), particles)
        self.sequences: list[tuple[int, ...]] = [()] * (len(owners) * particles)
        self.log_weights = np.zeros(self.shape)
        self.log_prior, self.log_proposal, self.log_twist, self.log_evidence = (np.zeros(self.shape) for _ in range(4))
        self.log_z = np.zeros(len(owners))
        self.growing = np.ones(self.shape, np.bool_)
        everyone = np.repeat(owners, particles)
        self.proposed: Prefixes = proposal.prefixes(everyone)
        self.prior: Prefixes | None = None if proposal is target.prior else target.prior.prefixes(everyone)
        self.tokens = self.scored = 0

    @property
    def running(self) -> bool:
        """Whether any particle still grows."""
        return bool(self.growing.any())

    def look(self) -> None:
        """Weigh every growing prefix by the change of its twist."""
        twist = self.proposed.look()
        if self.prior is not None:
            self.prior.look()
        self.log_weights[self.growing] += twist - self.log_twist[self.growing]
        self.log_twist[self.growing] = twist

    def resample(self, below: float, randoms: list[np.random.Generator]) -> None:
        """Replace the particles of every filter whose weights have become uneven; ended ones take part."""
        particles = self.shape[1]
        size = effective_size(self.log_weights)
        uneven = (size < below * particles) & (size > 0) & self.growing.any(1)
        if not uneven.any():
            return
        rows = np.full(self.shape, -1)
        rows[self.growing] = np.arange(int(self.growing.sum()))
        ancestors = np.tile(np.arange(particles), (self.shape[0], 1))
        for place in np.flatnonzero(uneven):
            ancestors[place] = systematic(normalised(self.log_weights[place]), randoms[place].random())
        self.log_z[uneven] += log_mean_exp(self.log_weights[uneven])
        self.log_weights[uneven] = 0.0
        for name in ("log_prior", "log_proposal", "log_twist", "log_evidence", "growing"):
            setattr(self, name, np.take_along_axis(getattr(self, name), ancestors, 1))
        flat = (ancestors + particles * np.arange(self.shape[0])[:, None]).ravel()
        self.sequences = [self.sequences[place] for place in flat.tolist()]
        onward = np.take_along_axis(rows, ancestors, 1)[self.growing]
        for prefixes in (self.proposed, self.prior):
            if prefixes is not None:
                prefixes.select(onward)

    def grow(self, uniforms: FloatArray) -> None:
        """Give every growing particle a token, and those that end by it their evidence."""
        places = np.flatnonzero(self.growing)
        tokens = self.proposed.choose(uniforms.ravel()[places])
        proposed, ended = self.proposed.push(tokens)
        prior = proposed if self.prior is None else self.prior.push(tokens)[0]
        self.tokens += len(tokens)
        for place, token in zip(places.tolist(), tokens.tolist(), strict=True):
            self.sequences[place] += (token,)
        self.log_prior.ravel()[places] += prior
        self.log_proposal.ravel()[places] += proposed
        weights = self.log_weights.ravel()
        weights[places] += prior - proposed
        done = places[ended]
        if len(done):
            owners = np.repeat(self.owners, self.shape[1])[done]
            evidence = self.target.evidence(owners, [self.sequences[place] for place in done.tolist()])
            self.scored += len(done)
            self.log_evidence.ravel()[done] = evidence
            weights[done] += evidence - self.log_twist.ravel()[done]
            self.growing.ravel()[done] = False

    def finish(self, randoms: list[np.random.Generator]) -> SamplerResult:
        """Keep one particle a filter, chosen by its weight; a filter without weight has no answer."""
        live = effective_size(self.log_weights) > 0
        noise = np.stack([random.gumbel(size=self.shape[1]) for random in randoms])
        chosen = (self.log_weights + noise).argmax(1) + self.shape[1] * np.arange(self.shape[0])
        chosen = chosen[live]
        draws = Draws(
            self.owners[live],
            tuple(self.sequences[place] for place in chosen.tolist()),
            self.log_proposal.ravel()[chosen],
        )
        kept = Weighed(draws, self.log_prior.ravel()[chosen], self.log_evidence.ravel()[chosen])
        log_z = self.log_z[live] + log_mean_exp(self.log_weights[live])
        return SamplerResult(kept, self.tokens, self.scored, log_z=log_z, missing=int((~live).sum()))
