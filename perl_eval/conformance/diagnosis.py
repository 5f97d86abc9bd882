"""Which formula a loss descends on: the nearest of all that are known, by their expected gradients."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from perl_eval.conformance.batch import Estimator
from perl_eval.conformance.batch_gradients import LossKind
from perl_eval.conformance.expected_gradient import expected_gradient, gradients_of_groups
from perl_eval.conformance.known_formulas import (
    ADVANTAGES,
    AVERAGES,
    KL_LOSSES,
    PAID,
    TRUNCATED_WORDS,
    WEIGHTS,
    WHITENING_WORDS,
    Formula,
    formula_loss,
)
from perl_eval.conformance.listed_language import ListedLanguage, WorldShape, listed

__all__ = ["WORLDS_OF_DIAGNOSIS", "LossDiagnosis", "diagnose", "faults_of", "formulas_of", "nearest_formula"]

WORLDS_OF_DIAGNOSIS = (
    WorldShape("three words, two tokens, groups of 2", seed=11),
    WorldShape("two words, three tokens, groups of 3, warm", 2, 3, group_size=3, temperature=1.5, seed=12),
)
_EXACT = 1e-3
"""A gradient this near, relative to its norm, is that of the formula: standard deviations have small numbers added."""
_FITS = 0.05
"""The same of samples of an older policy, where limits of clipping differ."""
_UNKNOWN = 0.02
"""A gradient this far from all formulas is of none, and the faults of the nearest say nothing."""
_PLAIN = LossKind(mean_over_groups=True, symmetric=True)
_BASELINES = ("plain", "mean", "std")
_AVERAGES = ("sum", "sequence", "batch", "longest")
"""What most trainers have; the rest of `ADVANTAGES` and `AVERAGES` is tried with fewer KLs."""


@dataclass(frozen=True, slots=True)
class LossDiagnosis:
    """The nearest formula.

    Attributes:
        formula: In the words of the field.
        faults: What is wrong with it for the objective that is claimed, each in a few words; empty if nothing.
        scale: What the formula's gradient has to be multiplied by.
        left: What is left then, relative to the measured gradient.
        also: Other formulas with the same expected gradient.
        weight: How samples of an older policy are weighted, or "" where that was not asked.
    """

    formula: str
    faults: tuple[str, ...]
    scale: float
    left: float
    also: tuple[str, ...]
    weight: str = ""

    @property
    def exact(self) -> bool:
        """Whether the measured gradient is that of the formula."""
        return self.left < _EXACT


def _fields(formula: Formula, languages: tuple[ListedLanguage, ...]) -> torch.Tensor:
    estimator = formula_loss(formula)
    return torch.cat([expected_gradient(estimator, one, kind=_PLAIN).mean.flatten() for one in languages])


def _candidates() -> Iterator[Formula]:
    """Yield the formulas, those that are more often meant first."""
    policies = [Formula(advantage=a, average=b) for a, b in itertools.product(_BASELINES, _AVERAGES)]
    later = "k1 of the token"  # the same gradient as k2 in the loss, on fresh samples
    for one, paid, sign in itertools.product(policies, [kl for kl in PAID if kl != later], (1, -1)):
        if paid or sign > 0:
            yield replace(one, paid=paid, kl_sign=sign)
    for one, kl, sign in itertools.product(policies, KL_LOSSES, (1, -1)):
        yield replace(one, kl=kl, kl_average=one.average, kl_sign=sign)
    for one, kl, average, sign in itertools.product(policies, KL_LOSSES, _AVERAGES, (1, -1)):
        if average != one.average:
            yield replace(one, kl=kl, kl_average=average, kl_sign=sign)
    for one, sign in itertools.product(policies, (1, -1)):
        yield replace(one, paid=later, kl_sign=sign)
    for one, paid, sign in itertools.product(policies, PAID, (1, -1)):
        if paid or sign > 0:
            yield replace(one, paid=paid, policy_sign=-1, kl_sign=sign)
    for one, kl in itertools.product(policies, KL_LOSSES):
        yield replace(one, kl=kl, kl_average=one.average, policy_sign=-1)
        yield replace(one, kl=kl, kl_average=one.average, policy_sign=-1, kl_sign=-1)
    for kl, average in itertools.product(KL_LOSSES, _AVERAGES):
        yield Formula("", kl=kl, average=average, kl_average=average)
    yield from _rarer()


def _rarer() -> Iterator[Formula]:
    """Yield formulas of fewer trainers: other baselines and averages, whitening, and what truncated completions get."""
    rare = [Formula(advantage=a, average=b) for a, b in itertools.product(ADVANTAGES, AVERAGES)]
    rare = [one for one in rare if one.advantage not in _BASELINES or one.average not in _AVERAGES]
    white = [
        Formula(advantage=a, average=b, whitening=c)
        for a, b, c in itertools.product(("raw", "mean", "std"), _AVERAGES, WHITENING_WORDS)
    ]
    cut = [
        Formula(advantage=a, average=b, truncated=c)
        for a, b, c in itertools.product((*_BASELINES, "raw"), _AVERAGES, TRUNCATED_WORDS)
    ]
    for one in (*rare, *white, *cut):
        for paid in ("", "k1", "k1 to go"):
            yield replace(one, paid=paid)
        for kl in KL_LOSSES:
            yield replace(one, kl=kl, kl_average=one.average)


@functools.cache
def _languages() -> tuple[ListedLanguage, ...]:
    return tuple(map(listed, WORLDS_OF_DIAGNOSIS))


def formulas_of(languages: tuple[ListedLanguage, ...]) -> tuple[list[Formula], torch.Tensor]:
    """Return all formulas and their expected gradients, (N, coordinates), in all languages one after the other.

    Gradients of policy terms and KL terms add up, so each term is taken once.
    """
    terms: dict[Formula, torch.Tensor] = {}

    def term(formula: Formula) -> torch.Tensor:
        if formula not in terms:
            terms[formula] = _fields(formula, languages)
        return terms[formula]

    formulas, fields = [], []
    for one in _candidates():
        field = torch.zeros(sum(each.theta.numel() for each in languages), dtype=torch.float64)
        if one.advantage:
            sign = one.kl_sign if one.paid else 1
            bare = replace(one, kl="", kl_average="sum", kl_sign=sign, policy_sign=1)
            field = field + one.policy_sign * term(bare)
        if one.kl:
            field = field + one.kl_sign * term(
                Formula("", kl=one.kl, kl_average=one.kl_average, truncated=one.truncated)
            )
        formulas.append(one)
        fields.append(field)
    return formulas, torch.stack(fields)


@functools.cache
def _standing() -> tuple[list[Formula], torch.Tensor]:
    return formulas_of(_languages())


def nearest_formula(
    measured: torch.Tensor, known: tuple[list[Formula], torch.Tensor], *, noise: float = 0.0
) -> tuple[Formula, float, float, tuple[Formula, ...]]:
    """Return the nearest formula, its scale, what is left, and its equals.

    A formula that fits as it stands goes before one that has to be scaled, and a simpler one before others.

    Args:
        measured: (coordinates,).
        known: Formulas and their gradients.
        noise: Standard error of ``measured``, relative to its norm: what differs by less is alike.
    """
    formulas, fields = known
    size = float(measured.norm())
    if size < 1e-9:
        return Formula(""), 1.0, 0.0, ()
    left = (fields - measured).norm(dim=1) / size
    norms = fields.square().sum(1)
    scales = (fields @ measured / norms.clamp(min=1e-300)).clamp(min=0.0)
    scaled = (scales.unsqueeze(1) * fields - measured).norm(dim=1) / size
    plain = bool(left.min() < _EXACT + 1.5 * noise)
    gaps = left if plain else scaled
    best = float(gaps.min())
    alike = [place for place, gap in enumerate(gaps.tolist()) if gap <= max(best + 1e-6, 1.5 * noise)]
    first = alike[0]
    scale = 1.0 if plain else float(scales[first])
    return formulas[first], scale, float(gaps[first]), tuple(formulas[place] for place in alike[1:])


def faults_of(formula: Formula, objective: str) -> tuple[str, ...]:
    """Return what is wrong with a formula for an objective, each in a few words.

    Args:
        formula: What a loss descends on.
        objective: What it claims.
    """
    found = []
    if formula == Formula(""):
        return ("no gradient: something is detached that should not be",)
    turned = formula.kl_sign * (formula.policy_sign if formula.paid else 1) < 0
    if formula.policy_sign < 0:
        found.append("sign of the loss" if turned else "sign of the reward")
    if not formula.advantage:
        found.append("no gradient of the reward: the ratio or the log-probability is detached")
    if formula.advantage == "std" and not objective.startswith("group-normalised"):
        found.append("rewards divided by the standard deviation of their group")
    spread = formula.advantage == "std" or formula.whitening.startswith("std")  # of one group the same, but for tokens
    if formula.advantage and not spread and objective.startswith("group-normalised"):
        found.append("rewards not divided by the standard deviation of their group")
    if formula.average in ("sequence", "batch"):
        over = "each sequence" if formula.average == "sequence" else "the batch"
        found.append(f"mean for sum: averaged over the tokens of {over}")
    if formula.average == "widest":
        found.append("divided by the longest completion of the batch, not by the token limit")
    if formula.advantage == "mean by length":
        found.append("a baseline weighted by length, which the completion's own reward is part of")
    if formula.whitening:
        done = "less their mean" if formula.whitening == "mean" else "whitened"
        found.append(f"advantages {done} over the tokens of the batch")
    if formula.truncated:
        masked = formula.truncated == "masked"
        found.append("truncated completions left out" if masked else "the reward of truncated completions set to 0")
    return (*found, *_kl_faults(formula, wanted="kl" in objective.split(), forward="prior" in objective))


def _kl_faults(formula: Formula, *, wanted: bool, forward: bool) -> Iterator[str]:
    has = bool(formula.paid or formula.kl)
    if not wanted and has:
        yield "a KL that the objective has not"
    if wanted and not has:
        yield "no KL"
    if not (wanted and has):
        return
    if formula.kl_sign * (formula.policy_sign if formula.paid else 1) < 0 < formula.policy_sign:
        yield "sign of the KL"
    if "attached" in formula.paid:
        yield "missing detach: the KL in the reward is in the graph"
    elif formula.paid.startswith(("k2", "k3", "abs")):
        yield f"{formula.paid.split()[0]} for k1 in the reward"
    elif formula.paid == "k1 of the token":
        yield "the KL of later tokens is left out"
    if formula.kl == "k1":
        yield "k1 in the loss, whose expected gradient is 0"
    elif formula.kl == "abs":
        yield "abs for k1"
    elif formula.kl == "k3" and not forward:
        yield "k3 in the loss, by the token the gradient of KL(prior || pi)"
    elif formula.kl in ("k2", "k3 x ratio"):
        yield f"{formula.kl} of each token in the loss: the KL of later tokens is left out"


def diagnose(estimator: Estimator, *, steps_apart: float = 0.3) -> LossDiagnosis:
    """Return which formula an estimator descends on.

    Args:
        estimator: The loss; batches are of one group.
        steps_apart: How far the policy moves from the one that sampled, for the weights of old samples.
    """
    languages = _languages()
    measured = torch.cat([expected_gradient(estimator, one).mean.flatten() for one in languages])
    first, scale, left, also = nearest_formula(measured, _standing())
    alike = _by_batch(estimator, (first, *also), scale)
    formula, weight = alike[0], ""
    if formula.advantage and left < _EXACT and "attached" not in formula.paid:
        formula, weight = _weighting(estimator, alike, scale, steps_apart)
    faults = faults_of(formula, estimator.objective)
    if left > _UNKNOWN:
        faults = (f"none of the known formulas; the nearest is {left:.0%} off",)
    others = [one for one in (first, *also) if one != formula and faults_of(one, estimator.objective) == faults]
    words = tuple(dict.fromkeys(one.words for one in others))
    return LossDiagnosis(formula.words, faults, scale, left, words[:2], weight)


def _by_batch(estimator: Estimator, alike: tuple[Formula, ...], scale: float) -> list[Formula]:
    """Return, of formulas with one expected gradient, those whose gradients are nearest batch by batch."""
    if len(alike) == 1:
        return list(alike)
    language = _languages()[0]
    measured, weights = gradients_of_groups(estimator, language)
    gaps = []
    for one in alike:
        found, _ = gradients_of_groups(formula_loss(one), language)
        gaps.append(float(weights @ (scale * found - measured).square().sum((1, 2))))
    return [one for one, gap in zip(alike, gaps, strict=True) if gap <= min(gaps) + 1e-9]


def _weighting(estimator: Estimator, alike: list[Formula], scale: float, apart: float) -> tuple[Formula, str]:
    """Return the formula and the weights of old samples that fit a loss; the first and "" if none does."""
    random = torch.Generator().manual_seed(3)
    moved, older = [], []
    for one in _languages():
        step = apart * torch.randn(one.theta.shape, generator=random, dtype=torch.float64)
        moved.append(one.at(one.theta + step))
        older.append(one.theta)
    pairs = list(zip(moved, older, strict=True))
    measured = torch.cat([expected_gradient(estimator, one, sampler=old).mean.flatten() for one, old in pairs])
    best, found = _FITS, (alike[0], "")
    for formula, weight in itertools.product(alike, WEIGHTS):
        loss = formula_loss(replace(formula, weight=weight))
        field = [expected_gradient(loss, one, sampler=old, kind=_PLAIN).mean.flatten() for one, old in pairs]
        gap = float((scale * torch.cat(field) - measured).norm() / measured.norm().clamp(min=1e-12))
        if gap < best - 1e-9:
            best, found = gap, (formula, weight)
    return found
