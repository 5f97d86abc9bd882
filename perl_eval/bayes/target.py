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
    "alpha_multiplier",
    "alpha_regularised",
    "composed",
    "constrained",
    "exponentiated",
    "joined",
    "mode_anchored",
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


def mode_anchored(rewards: ArrayLike, log_prior: ArrayLike, *, beta: float, threshold: float) -> FloatArray:
    r"""Return rewards in which all good answers aim at one probability: MARA, mode-anchored reward augmentation.

    An answer y of reward ``threshold`` or more gets ``R(z) + beta (log prior(z) - log prior(y))``, z the good answer
    that the prior says likeliest; the others keep their reward. In the target ``prior exp(reward / beta) / Z`` every
    good answer then has the probability of z, where KL-regularised RL keeps the prior's odds among equal rewards.

    Args:
        rewards: R, shape (..., answers); of one prompt along the last axis, in reward units.
        log_prior: Of the same answers, in nats.
        beta: KL strength, reward units per nat, above 0.
        threshold: From which reward on an answer is good.

    Returns:
        Shape (..., answers), reward units. Where no answer is good, the rewards as they are.

    Raises:
        ValueError: beta is not above 0, or a reward is not finite.

    Source:
        GX-Chen et al., arXiv 2510.20817, mode-anchored reward augmentation.
    """
    said = np.asarray(log_prior, np.float64)
    values = exponentiated(rewards, beta=beta) * beta
    good = values >= threshold
    anchor = np.where(good, said, -np.inf).argmax(-1, keepdims=True)
    level = np.take_along_axis(values, anchor, -1) + beta * np.take_along_axis(said, anchor, -1)
    return np.asarray(np.where(good, level - beta * said, values), np.float64)


def _tilt(surplus: FloatArray, alpha: float) -> FloatArray:
    """Return log of ``(1 + (alpha - 1) s)_+^(1 / (alpha - 1))``, the exponential where alpha is 1."""
    if alpha == 1:
        return surplus
    inner = 1 + (alpha - 1) * surplus
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(inner > 0, np.log(np.where(inner > 0, inner, 1.0)) / (alpha - 1), 0.0)
    return np.where(inner > 0, logs, -np.inf if alpha > 1 else np.inf)


def alpha_multiplier(rewards: ArrayLike, *, beta: float, alpha: float, log_mass: ArrayLike | None = None) -> float:
    """Return lambda, the reward at which the target of `alpha_regularised` has the probability of the prior.

    Args:
        rewards: Shape (answers,), of one prompt.
        beta: Strength, reward units, above 0.
        alpha: Which divergence.
        log_mass: Log-probabilities of the answers under the prior; None for equal weights, those of its draws.

    Raises:
        ValueError: beta is not above 0, alpha or a reward is not finite.
    """
    from scipy.optimize import brentq

    values = exponentiated(rewards, beta=beta)
    if not np.isfinite(alpha):
        raise ValueError(f"alpha is {alpha}, not a number")
    logs = np.full(len(values), -np.log(len(values))) if log_mass is None else np.asarray(log_mass, np.float64)

    def excess(level: float) -> float:
        """Return log of the mass of the target, less 0."""
        terms = logs + _tilt(values - level, alpha)
        most = terms.max()
        return float(most if np.isinf(most) else most + np.log(np.exp(terms - most).sum()))

    top, bottom = float(values.max()), float(values.min())
    if top - bottom < 1e-12:
        return beta * top
    low = bottom if alpha >= 1 else max(bottom, top - 1 / (1 - alpha))
    low = np.nextafter(low, np.inf) if alpha < 1 and low > bottom else low
    reach = low + (top - low) * 1e-15
    return beta * float(brentq(lambda level: np.clip(excess(level), -700.0, 700.0), reach, top, xtol=1e-14))


def alpha_regularised(
    rewards: ArrayLike, *, beta: float, alpha: float, log_mass: ArrayLike | None = None
) -> FloatArray:
    r"""Return the log-evidence of RL that is regularised by an alpha-divergence: its target has Z = 1.

    The target ``prior (1 + (alpha - 1) (r - lambda) / beta)_+^(1 / (alpha - 1))`` maximises
    ``E[reward] - beta D_alpha(policy || prior)``, ``D_alpha(p || q) = (sum p^alpha q^(1 - alpha) - 1) /
    (alpha (alpha - 1))``. Alpha 1 is KL(policy || prior) and the exponential; 0 is KL(prior || policy), with the target
    ``prior beta / (beta + lambda - r)``; 1/2 is
    ``2 sum (sqrt p - sqrt q)^2``; above 1 poor answers are forbidden.

    Args:
        rewards: Shape (answers,), of one prompt.
        beta: Strength, reward units, above 0.
        alpha: Which divergence.
        log_mass: Log-probabilities of the answers under the prior; None for equal weights, those of its draws.

    Returns:
        Shape (answers,).

    Raises:
        ValueError: beta is not above 0, alpha or a reward is not finite.

    Source:
        Lagrange's condition ``r = beta f'(policy / prior) + lambda`` of an f-divergence; arXiv 2510.20817, section 4,
        for alpha 0 and 1.
    """
    level = alpha_multiplier(rewards, beta=beta, alpha=alpha, log_mass=log_mass)
    return _tilt(exponentiated(np.asarray(rewards, np.float64) - level, beta=beta), alpha)


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
