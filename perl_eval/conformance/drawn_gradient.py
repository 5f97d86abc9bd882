"""The gradient of a loss in expectation where there are too many batches to list: drawn, with control variates.

What a batch's gradient owes to chance is, for the most part, what the gradients of known formulas on the same batch
owe to it, and how long its completions are and how well they are paid. Of these the expectations are exact. What they
explain is taken off; their coefficients are fitted on one half of the batches and used on the other, so that the
estimate is without bias.

Source: Owen, Monte Carlo theory, methods and examples (2013), section 8.9 (control variates).
"""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

import torch

from perl_eval.conformance.all_groups import multisets
from perl_eval.conformance.batch import Estimator
from perl_eval.conformance.batch_gradients import (
    AS_TRAINED,
    BatchMaking,
    GradientLaw,
    LossKind,
    all_at_once,
    one_by_one,
)
from perl_eval.conformance.known_formulas import Formula, formula_loss
from perl_eval.conformance.listed_language import ListedLanguage, summed_log_probs

__all__ = ["FIRST_DRAWS", "drawn_law", "half_width"]

FIRST_DRAWS = 128
"""Batches that are drawn first; their spread says how many more it takes."""
_WANTED = 4e-4
"""Half the width of the interval of all coordinates at once, reward units per logit: a bias of 1e-3 shows."""
_LEVEL = 0.95
_FORMULAS = (
    Formula(),
    Formula(paid="k1"),
    Formula("raw", paid="k1 to go"),
    Formula("std"),
    Formula("std", paid="k1"),
    Formula(average="sequence"),
    Formula("std", average="sequence"),
    Formula("mean by length"),
    Formula("", kl="k2"),
    Formula("", kl="k3"),
)
_SCORE = Estimator(
    "score", "formula", "1", "reward", "-sum_t log pi(y_t)", lambda batch: -batch.log_probs.sum(1).mean()
)
_CONTROLS = (*map(formula_loss, _FORMULAS), _SCORE)


def half_width(error: torch.Tensor) -> float:
    """Return half the width of the interval of every coordinate at once, 95 %, the widest.

    Args:
        error: Standard errors of all coordinates.
    """
    quantile = NormalDist().inv_cdf(1 - (1 - _LEVEL) / (2 * error.numel()))
    return quantile * float(error.max())


@functools.lru_cache(maxsize=4)
def _expected_controls(language: ListedLanguage, sampler: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the exact expectations of the formulas' gradients, (F, C), and of what describes a batch, (S,)."""
    chances = summed_log_probs(language, sampler)
    groups, times = multisets(len(chances), language.shape.group_size)
    weights = times * chances[groups].sum(1).exp()
    found = []
    for one in _CONTROLS:
        gradients = all_at_once(one, language, groups, sampler, AS_TRAINED)
        found.append(torch.einsum("k,kpv->pv", weights, gradients).flatten())
    return torch.stack(found), chances.exp() @ _described(language)


def _described(language: ListedLanguage) -> torch.Tensor:
    """Return what a sequence adds to the description of its batch, (S, 5).

    Its length; of its reward, and of what its tokens gain from there on, less beta k1, the sum and the sum of squares.
    """
    lengths, rewards = language.mask.sum(1).to(torch.float64), language.rewards
    each = language.token_log_probs(language.theta) - language.token_log_probs(language.prior)
    gains = (rewards.unsqueeze(1) - language.shape.beta * each.flip(1).cumsum(1).flip(1)) * language.mask
    return torch.stack([lengths, rewards, rewards**2, gains.sum(1), gains.square().sum(1)], 1)


def _controls(language: ListedLanguage, batches: torch.Tensor, sampler: torch.Tensor) -> torch.Tensor:
    """Return by how much each control of each batch is off its expectation, (C, K, F + S)."""
    fields, described = _expected_controls(language, sampler)
    groups = batches.view(-1, language.shape.group_size)
    found = []
    for one, mean in zip(_CONTROLS, fields, strict=True):
        gradients = all_at_once(one, language, groups, sampler, AS_TRAINED)
        found.append(gradients.view(len(batches), -1, len(mean)).mean(1) - mean)
    rest = _described(language)[batches].mean(1) - described
    wide = rest.unsqueeze(0).expand(fields.shape[1], -1, -1)
    return torch.cat([torch.stack(found, -1).transpose(0, 1), wide], -1)


def _fitted(controls: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return the coefficients of controls, (C, F + S), by least squares beside a constant."""
    constant = torch.ones_like(controls[..., :1])
    beside = torch.cat([controls, constant], -1)
    found: torch.Tensor = torch.linalg.pinv(beside, rtol=1e-10) @ values.T.unsqueeze(-1)
    return found.squeeze(-1)[:, :-1]


def _without_chance(controls: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return values of batches, (K, C), less what controls explain by coefficients of the other half of the batches."""
    halves = torch.arange(len(values)) % 2 == 0
    found = torch.empty_like(values)
    for half in (halves, ~halves):
        weights = _fitted(controls[:, ~half], values[~half])
        found[half] = values[half] - torch.einsum("ckf,cf->kc", controls[:, half], weights)
    return found


def _gradients(
    estimator: Estimator,
    language: ListedLanguage,
    batches: torch.Tensor,
    sampler: torch.Tensor,
    trial: BatchMaking,
    kind: LossKind,
) -> torch.Tensor:
    """Return the gradient of each batch, (K, C)."""
    if not kind.mean_over_groups:
        return one_by_one(estimator, language, batches, sampler, trial).flatten(1)
    groups = batches.view(-1, language.shape.group_size)
    return (
        all_at_once(estimator, language, groups, sampler, trial).view(len(batches), language.shape.groups, -1).mean(1)
    )


def drawn_law(
    estimator: Estimator, language: ListedLanguage, sampler: torch.Tensor, trial: BatchMaking, kind: LossKind
) -> GradientLaw:
    """Return the law of the gradient from batches drawn by the language's seed, as many as it takes to resolve 1e-3.

    Args:
        estimator: The loss.
        language: With the policy whose gradient is taken; its ``draws`` is the most that are drawn.
        sampler: (P, V), logits of the policy that sampled.
        trial: How batches are made.
        kind: What `kind_of_loss` found.
    """
    shape = language.shape
    random = torch.Generator().manual_seed(shape.seed + 1)
    chances = summed_log_probs(language, sampler).exp()
    rows = shape.groups * shape.group_size
    values, controls = [], []
    drawn, more = 0, min(FIRST_DRAWS, shape.draws)
    while more > 0:
        batches = torch.multinomial(chances, more * rows, replacement=True, generator=random).view(more, rows)
        values.append(_gradients(estimator, language, batches, sampler, trial, kind))
        controls.append(_controls(language, batches, sampler))
        drawn += more
        found = _without_chance(torch.cat(controls, 1), torch.cat(values))
        error = found.std(0) / math.sqrt(drawn)
        more = min(math.ceil(1.1 * drawn * (half_width(error) / _WANTED) ** 2), shape.draws) - drawn
    variance = float(torch.cat(values).var(0).sum())
    mean, error = found.mean(0).view_as(language.theta), error.view_as(language.theta)
    return GradientLaw(mean, error, variance, drawn, listed=False)
