"""Targets: what the evidence says about an answer, as log-weights on the prior, and the target they make.

A log-evidence is the log of the factor that the target puts on the prior; 0 leaves the prior as it is, minus infinity
forbids the answer. Log-evidences add up, so targets compose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval.bayes.language_model import Draws, Language

__all__ = [
    "Evidence",
    "Target",
    "Weighed",
    "composed",
    "constrained",
    "exponentiated",
    "joined",
    "pessimistic",
    "soft_minimum",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Evidence = Callable[[IntArray, Sequence[Sequence[int]]], FloatArray]
"""Contexts and whole sequences, one a row, to log-evidence, shape (rows,)."""


def exponentiated(rewards: ArrayLike, *, beta: float) -> FloatArray:
    """Return ``reward / beta``, the log-evidence of KL-regularised RL.

    The target ``prior exp(reward / beta) / Z`` maximises ``E[reward] - beta KL(policy || prior)``.

    Args:
        rewards: Any shape, finite.
        beta: KL strength, reward units per nat, above 0.

    Raises:
        ValueError: beta is not above 0, or a reward is not finite.

    Source:
        arXiv 2205.11275, equation 5.
    """
    if not beta > 0:
        raise ValueError(f"beta is {beta}; without KL the maximum is a point mass and there is no target")
    values = np.asarray(rewards, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a reward is not finite")
    return values / beta


def constrained(allowed: ArrayLike) -> FloatArray:
    """Return 0 where an answer meets a constraint and minus infinity where it does not.

    The target is then the prior given that the constraint is met: ``Z`` is the prior's chance of meeting it,
    ``KL(target || prior) = -log Z``, and odds among answers that meet it stay those of the prior.

    Args:
        allowed: Whether each answer meets the constraint, any shape.

    Source:
        Khalifa et al., arXiv 2012.11635, section 2 (pointwise constraints).
    """
    return np.where(np.asarray(allowed, np.bool_), 0.0, -np.inf)


def pessimistic(rewards: ArrayLike, *, spread: float) -> FloatArray:
    """Return ``mean - c spread`` over an ensemble: a reward that counts what the members disagree on against an answer.

    Args:
        rewards: Shape (members, ...); the spread is the standard deviation over members, divided by their number.
        spread: c, 0 or more; 0 is the plain mean.

    Returns:
        Shape (...), in reward units.

    Raises:
        ValueError: c is below 0, or above 0 with fewer than two members.

    Source:
        Coste et al., arXiv 2310.02743, section 3 (uncertainty-weighted optimisation), with the standard deviation in
        place of the variance, so that c has no unit.
    """
    values = np.asarray(rewards, np.float64)
    if not spread >= 0:
        raise ValueError(f"spread is {spread}; below 0 it would reward what the members disagree on")
    if spread == 0:
        return np.asarray(values.mean(0), np.float64)
    if len(values) < 2:
        raise ValueError("one reward model has no spread")
    return np.asarray(values.mean(0) - spread * values.std(0), np.float64)


def soft_minimum(rewards: ArrayLike, *, beta: float) -> FloatArray:
    r"""Return ``-beta log mean exp(-r / beta)`` over an ensemble: what pessimism about a reward is under KL.

    It is the mean reward in the worst case over weights of the members, a nat of KL from equal weights costing beta.
    The usual rules are its limits: for large beta the mean, then ``mean - variance / (2 beta)``; for beta to 0 the
    minimum; and of normal members, with beta in proportion to the spread, ``beta = std / (2 c)``, ``mean - c std``.

    Args:
        rewards: Shape (members, ...).
        beta: In reward units, above 0: the KL strength of the training that the reward is for.

    Returns:
        Shape (...), in reward units, from the minimum to the mean.

    Raises:
        ValueError: beta is not above 0.

    Source:
        arXiv 2606.09073, the pessimistic branch.
    """
    if not beta > 0:
        raise ValueError(f"beta is {beta}; the limit at 0 is the minimum")
    values = np.asarray(rewards, np.float64)
    least = values.min(0)
    return np.asarray(least - beta * np.log(np.exp((least - values) / beta).mean(0)), np.float64)


def composed(*log_evidence: ArrayLike) -> FloatArray:
    """Return the log-evidence of a product of experts: the sum, minus infinity where any of them forbids.

    Args:
        log_evidence: Arrays of one shape, each of finite numbers or minus infinity; at least one.
    """
    parts = [np.asarray(part, np.float64) for part in log_evidence]
    if any(np.isnan(part).any() or np.isposinf(part).any() for part in parts):
        raise ValueError("a log-evidence is a number below infinity, or minus infinity")
    return np.asarray(np.sum(parts, axis=0), np.float64)


@dataclass(frozen=True, slots=True)
class Target:
    """A prior and the log-evidence put on it: ``prior(y | x) exp(evidence(x, y)) / Z(x)``."""

    prior: Language
    evidence: Evidence

    def weigh(self, draws: Draws, proposal: Language) -> Weighed:
        """Return the importance weights of some draws.

        Args:
            draws: What was drawn.
            proposal: What drew it; if it is the prior itself, the prior is not asked again.
        """
        log_evidence = self.evidence(draws.contexts, draws.sequences)
        own = proposal is self.prior
        log_prior = draws.log_probs if own else self.prior.log_probs(draws.contexts, draws.sequences)
        return Weighed(draws, log_prior, log_evidence)


@dataclass(frozen=True, slots=True)
class Weighed:
    """Draws with their log-probability under the prior and their log-evidence, shape (rows,) each."""

    draws: Draws
    log_prior: FloatArray
    log_evidence: FloatArray

    @property
    def log_weights(self) -> FloatArray:
        """``log prior + evidence - log proposal``, whose exponential has expectation Z under the proposal."""
        return self.log_prior + self.log_evidence - self.draws.log_probs

    def take(self, rows: IntArray) -> Weighed:
        """Return some of the rows, in the order given."""
        return Weighed(self.draws.take(rows), self.log_prior[rows], self.log_evidence[rows])


def joined(parts: Sequence[Weighed]) -> Weighed:
    """Return the rows of several, one after the other."""
    draws = Draws(
        np.concatenate([part.draws.contexts for part in parts]),
        tuple(sequence for part in parts for sequence in part.draws.sequences),
        np.concatenate([part.draws.log_probs for part in parts]),
    )
    log_prior = np.concatenate([part.log_prior for part in parts])
    return Weighed(draws, log_prior, np.concatenate([part.log_evidence for part in parts]))
