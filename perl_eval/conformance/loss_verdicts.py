"""The verdict on an estimator, from what was measured in all worlds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perl_eval.conformance.diagnosis import LossDiagnosis
from perl_eval.conformance.measured_bias import Bias, WorldFindings
from perl_eval.conformance.training_end import TrainingEnd

__all__ = ["RESOLVED", "EstimatorFindings", "Verdict", "judge_biases", "judge_estimator"]

RESOLVED = 1e-3
"""Bias that counts as none, in reward units per logit, and relative where scales are set aside."""

_STD_RESOLVED = 5e-3
"""The same, relative, of rewards divided by a standard deviation, to which packages add numbers up to 1e-4."""


@dataclass(frozen=True, slots=True)
class EstimatorFindings:
    """All that was measured of an estimator.

    Attributes:
        name: Its name.
        package: Its package.
        version: Version of the package.
        objective: What it claims.
        formula: The line of its formula.
        worlds: What was found in each world.
        diagnosis: The nearest known formula.
        end: Where training by it ends; None where that was not asked.
    """

    name: str
    package: str
    version: str
    objective: str
    formula: str
    worlds: tuple[WorldFindings, ...]
    diagnosis: LossDiagnosis
    end: TrainingEnd | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of an estimator: ``unbiased``, ``right direction``, ``biased``, ``against`` or ``no gradient``.

    Attributes:
        word: One of these.
        sentence: What it means, with figures.
    """

    word: str
    sentence: str


def _is_zero(bias: Bias) -> bool:
    return bias.largest <= RESOLVED + bias.half_width


def _is_along(bias: Bias, claimed: str) -> bool:
    least = _STD_RESOLVED if claimed.startswith("group-normalised") else RESOLVED
    return bias.scale > 0 and bias.left <= least + 3 * bias.error


def judge_estimator(worlds: Sequence[WorldFindings], claimed: str) -> Verdict:
    """Return the verdict on an estimator.

    Args:
        worlds: What was found in each world.
        claimed: The objective that it claims.
    """
    return judge_biases([(one.world, one.bias) for one in worlds], claimed)


def judge_biases(found: Sequence[tuple[str, Bias]], claimed: str) -> Verdict:
    """Return the verdict on a gradient that was measured in some worlds.

    Args:
        found: Name of a world, and the bias in it.
        claimed: The objective that is claimed.
    """
    biases = [bias for _, bias in found]
    if all(map(_is_zero, biases)):
        wide = max(one.half_width for one in biases)
        noise = f", resolved to {wide:.1e}" if wide else ""
        return Verdict("unbiased", f"largest bias {max(one.largest for one in biases):.1e}{noise}")
    if all(one.scale == 0 and one.cosine == 0 for one in biases):
        return Verdict("no gradient", f"its expected gradient is 0, that of {claimed!r} is not")
    if all(_is_along(one, claimed) for one in biases):
        low, high = min(one.scale for one in biases), max(one.scale for one in biases)
        span = f"{low:.3g}" if high - low < RESOLVED else f"{low:.3g} to {high:.3g}"
        wide = 3 * max(one.error for one in biases)
        noise = f", resolved to {wide:.1%}" if wide else ""
        said = f"the gradient of {claimed!r} times a constant: multiply by {span}{noise}"
        return Verdict("right direction", said)
    left = [one.left for one in biases]
    least = min(one.cosine for one in biases)
    if least < 0:
        return Verdict("against", f"cosine with the gradient of {claimed!r} down to {least:.2f}")
    where = found[left.index(max(left))][0]
    return Verdict("biased", f"{min(left):.1%} to {max(left):.1%} left after the best scale, most in {where!r}")
