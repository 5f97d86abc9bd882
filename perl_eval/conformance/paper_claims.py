"""What papers say about the gradients of KL estimates, measured: reproduced, or contradicted and where.

Source: arXiv 2506.09477 (sections 3 and 4), 2512.21852 (sections 3 and 4), 2512.02556 (section 3.1, equation 7).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from perl_eval.conformance.batch_gradients import LossKind
from perl_eval.conformance.expected_gradient import expected_gradient
from perl_eval.conformance.known_formulas import Formula, formula_loss
from perl_eval.conformance.listed_language import ListedLanguage, WorldShape, listed
from perl_eval.conformance.objective_list import exact_gradient

__all__ = ["Claim", "measured_claims"]

_NOTHING = 1e-6
"""Relative to the gradient of the KL: what is smaller is 0."""
_ONE_TOKEN = WorldShape("one token: five words, no end", 5, 1, end_rate=0.0, beta=1.0, seed=31)
_SEQUENCES = WorldShape("sequences: three words, three tokens", 3, 3, beta=1.0, seed=32)
_PLAIN = LossKind(mean_over_groups=True, symmetric=True)


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement of a paper, and what was measured of it.

    Attributes:
        paper: Its arXiv number.
        statement: What it says.
        measured: The figures, in words.
        verdict: ``reproduced``, or ``contradicted`` and where.
    """

    paper: str
    statement: str
    measured: str
    verdict: str


def _kl_gradient(language: ListedLanguage, objective: str = "kl") -> torch.Tensor:
    """Return minus the gradient of the KL of an objective with beta 1, exactly."""
    return exact_gradient(language, objective) - exact_gradient(language, "reward")


def _kl_field(formula: Formula, language: ListedLanguage, sampler: torch.Tensor | None = None) -> torch.Tensor:
    """Return the expected gradient of the KL in a formula: with its rewards less without them."""
    found = expected_gradient(formula_loss(formula), language, sampler=sampler, kind=_PLAIN).mean
    if not formula.advantage:
        return found
    return found - expected_gradient(formula_loss(Formula()), language, sampler=sampler, kind=_PLAIN).mean


def _off(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Return how far a gradient is from the exact one, relative to that."""
    return float((found - exact).norm() / exact.norm())


def _said(holds: bool, where: str = "") -> str:
    return "reproduced" if holds else f"contradicted{where}"


def measured_claims() -> list[Claim]:
    """Return the claims with what is measured of each; every expectation is taken over all batches."""
    one, many = listed(_ONE_TOKEN), listed(_SEQUENCES)
    exact = {"one": _kl_gradient(one), "many": _kl_gradient(many)}
    loss = {kl: _kl_field(Formula("", kl=kl), one) for kl in ("k1", "k2", "k3", "k3 x ratio")}
    losses = {kl: _kl_field(Formula("", kl=kl), many) for kl in ("k1", "k2", "k3", "k3 x ratio", "k2 of the sequence")}
    off_one = {kl: _off(found, exact["one"]) for kl, found in loss.items()}
    off_many = {kl: _off(found, exact["many"]) for kl, found in losses.items()}
    paid = {kl: _off(_kl_field(Formula(paid=kl), many), exact["many"]) for kl in ("k1", "k3")}
    to_prior = _off(loss["k3"], _kl_gradient(one, "kl of prior to policy"))
    none = float(losses["k1"].norm() / exact["many"].norm())
    comedy = [*_comedy(off_many, paid, none), _old_samples(many)]
    return [*_pitfalls(off_one, off_many, to_prior, none), *comedy, *_deepseek(one, many)]


def _pitfalls(one: dict[str, float], many: dict[str, float], to_prior: float, none: float) -> list[Claim]:
    paper = "2506.09477"
    return [
        Claim(
            paper,
            "k1 differentiated as a loss has expected gradient 0: no KL at all",
            f"norm {none:.1e} of that of the KL's gradient, on-policy",
            _said(none < _NOTHING),
        ),
        Claim(
            paper,
            "k3 differentiated as a loss descends on KL(prior || pi), not on KL(pi || prior)",
            f"one token: {to_prior:.1e} off the gradient of KL(prior || pi), {one['k3']:.2f} off the other's",
            _said(to_prior < _NOTHING < one["k3"]),
        ),
        Claim(
            paper,
            "k2 differentiated as a loss has the gradient of KL(pi || prior), on-policy",
            f"one token: {one['k2']:.1e} off; k2 of the whole sequence: {many['k2 of the sequence']:.1e} off",
            _said(max(one["k2"], many["k2 of the sequence"]) < _NOTHING),
        ),
        Claim(
            paper,
            "a KL loss summed over tokens is a partial gradient: what a token does to later KL is left out",
            f"sequences, k2 of each token: {many['k2']:.2f} off, relative",
            _said(many["k2"] > _NOTHING),
        ),
    ]


def _comedy(many: dict[str, float], paid: dict[str, float], none: float) -> list[Claim]:
    paper = "2512.21852"
    return [
        Claim(
            paper, "k1 in the reward: unbiased", f"sequences: {paid['k1']:.1e} off, relative", _said(paid["k1"] < 1e-6)
        ),
        Claim(
            paper,
            "k1 in the loss: biased; its expected gradient is 0 on-policy",
            f"{many['k1']:.2f} off; norm {none:.1e}",
            _said(many["k1"] > _NOTHING > none),
        ),
        Claim(paper, "k3 in the loss: biased", f"{many['k3']:.2f} off, relative", _said(many["k3"] > _NOTHING)),
        Claim(paper, "k3 in the reward: biased", f"{paid['k3']:.2f} off, relative", _said(paid["k3"] > _NOTHING)),
    ]


def _old_samples(many: ListedLanguage) -> Claim:
    """Return the claim about samples of an older policy: none of the four is right."""
    random = torch.Generator().manual_seed(6)
    moved = many.at(many.theta + 0.3 * torch.randn(many.theta.shape, generator=random, dtype=torch.float64))
    formulas = {
        "k1 in the reward": Formula(paid="k1"),
        "k3 in the reward": Formula(paid="k3"),
        "k1 in the loss": Formula("", kl="k1"),
        "k3 in the loss": Formula("", kl="k3"),
    }
    gaps = {name: _off(_kl_field(one, moved, many.theta), _kl_gradient(moved)) for name, one in formulas.items()}
    return Claim(
        "2512.21852",
        "on samples of an older policy none of the four is unbiased for sequences",
        "; ".join(f"{name}: {gap:.2f} off" for name, gap in gaps.items()),
        _said(min(gaps.values()) > _NOTHING),
    )


def _deepseek(one: ListedLanguage, many: ListedLanguage) -> list[Claim]:
    """Return the claim of equation 7, by token and by sequence, on fresh samples and on old ones."""
    random = torch.Generator().manual_seed(5)
    formula = Formula("", kl="k3 x ratio")
    found = {}
    for name, language in (("one token", one), ("sequences", many)):
        step = 0.3 * torch.randn(language.theta.shape, generator=random, dtype=torch.float64)
        moved = language.at(language.theta + step)
        found[name, "fresh"] = _off(_kl_field(formula, language), _kl_gradient(language))
        found[name, "old"] = _off(_kl_field(formula, moved, language.theta), _kl_gradient(moved))
    plain = _off(_kl_field(Formula("", kl="k3"), one), _kl_gradient(one))
    figures = "; ".join(f"{name}, {age} samples: {gap:.1e} off" for (name, age), gap in found.items())
    token = max(found["one token", "fresh"], found["one token", "old"]) < _NOTHING
    whole = max(found["sequences", "fresh"], found["sequences", "old"]) < _NOTHING
    return [
        Claim(
            "2512.02556",
            "k3 x pi/pi_old of each token has the unbiased gradient of the KL (equation 7)",
            figures,
            _said(token and whole, " for sequences, reproduced for one token" if token else ""),
        ),
        Claim(
            "2512.02556",
            "k3 without the ratio is biased, even on fresh samples",
            f"one token: {plain:.2f} off",
            _said(plain > _NOTHING),
        ),
    ]
