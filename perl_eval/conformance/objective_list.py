"""The objectives that a loss may claim, and the exact gradient of each in the logits, to be ascended.

Source: arXiv 2205.11275, equation 2 (``kl``); arXiv 2302.08215, table 1 (the divergences to the target);
arXiv 2402.03300, section 4.1.2 (``group-normalised``); arXiv 2510.20817 (``mode-anchored kl``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch.nn.functional import softplus

from perl_eval.bayes.target import mode_anchored
from perl_eval.conformance.all_groups import multisets
from perl_eval.conformance.listed_language import ListedLanguage, summed_log_probs, target_log_probs
from perl_eval.errors import UserError

__all__ = ["MEANINGS_OF_OBJECTIVES", "OBJECTIVE_VALUES", "anchored_rewards", "exact_gradient", "known_objective"]

Value = Callable[[ListedLanguage, torch.Tensor], torch.Tensor]


def _expected_reward(language: ListedLanguage, theta: torch.Tensor) -> torch.Tensor:
    return summed_log_probs(language, theta).exp() @ language.rewards


def _reverse(language: ListedLanguage, theta: torch.Tensor) -> torch.Tensor:
    policy = summed_log_probs(language, theta)
    return policy.exp() @ (policy - summed_log_probs(language, language.prior))


def _forward(language: ListedLanguage, theta: torch.Tensor) -> torch.Tensor:
    prior = summed_log_probs(language, language.prior)
    return prior.exp() @ (prior - summed_log_probs(language, theta))


def _kl(language: ListedLanguage, theta: torch.Tensor) -> torch.Tensor:
    return _expected_reward(language, theta) - language.shape.beta * _reverse(language, theta)


def _prior_to_policy(language: ListedLanguage, theta: torch.Tensor) -> torch.Tensor:
    return _expected_reward(language, theta) - language.shape.beta * _forward(language, theta)


def _target_to_policy(language: ListedLanguage, theta: torch.Tensor) -> torch.Tensor:
    target = target_log_probs(language)
    return -(target.exp() @ (target - summed_log_probs(language, theta)))


def _jensen_shannon(language: ListedLanguage, theta: torch.Tensor) -> torch.Tensor:
    """Return -(KL(pi || m) + KL(target || m)), m their mean."""
    target, policy = target_log_probs(language), summed_log_probs(language, theta)
    middle = policy + softplus(target - policy) - math.log(2)
    return -(policy.exp() @ (policy - middle) + target.exp() @ (target - middle))


def _total_variation(language: ListedLanguage, theta: torch.Tensor) -> torch.Tensor:
    return -(target_log_probs(language).exp() - summed_log_probs(language, theta).exp()).abs().sum() / 2


def _alpha_from_target(language: ListedLanguage, theta: torch.Tensor) -> torch.Tensor:
    """Return -D_1/2(target || pi)."""
    return 4 * ((target_log_probs(language) + summed_log_probs(language, theta)) / 2).exp().sum() - 4


def _less_alpha_divergence(alpha: float) -> Value:
    """Return E[r] - beta D_alpha(pi || prior) as a function of a language and theta."""

    def value(language: ListedLanguage, theta: torch.Tensor) -> torch.Tensor:
        policy, prior = summed_log_probs(language, theta), summed_log_probs(language, language.prior)
        moment = (alpha * policy + (1 - alpha) * prior).exp().sum()
        divergence = (moment - 1) / (alpha * (alpha - 1))
        return _expected_reward(language, theta) - language.shape.beta * divergence

    return value


def anchored_rewards(language: ListedLanguage) -> torch.Tensor:
    """Return rewards with MARA, (S,); good are those in the upper half of the span of rewards."""
    middle = float(language.rewards.max() + language.rewards.min()) / 2
    prior = summed_log_probs(language, language.prior).numpy()
    found = mode_anchored(language.rewards.numpy(), prior, beta=language.shape.beta, threshold=middle)
    return torch.from_numpy(found)


def _mode_anchored(language: ListedLanguage, theta: torch.Tensor) -> torch.Tensor:
    rewards = anchored_rewards(language)
    return summed_log_probs(language, theta).exp() @ rewards - language.shape.beta * _reverse(language, theta)


def _normalised(language: ListedLanguage, theta: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
    """Return what has the gradient of E[mean_i A_i log pi(y_i)], A the rewards less their mean over their std.

    The advantages and the law of the groups carry no gradient. Its value means nothing.
    """
    log_probs = summed_log_probs(language, theta)
    chosen, times = multisets(len(log_probs), language.shape.group_size)
    weights = times * log_probs.detach()[chosen].sum(1).exp()
    drawn = rewards.detach()[chosen]
    spread = drawn.std(1, keepdim=True)
    level = (drawn - drawn.mean(1, keepdim=True)) / spread.clamp(min=1e-12)
    advantages = torch.where(spread > 1e-12, level, 0.0)
    return weights @ (advantages * log_probs[chosen]).mean(1)


def _group_normalised(language: ListedLanguage, theta: torch.Tensor) -> torch.Tensor:
    return _normalised(language, theta, language.rewards)


def _group_normalised_kl(language: ListedLanguage, theta: torch.Tensor) -> torch.Tensor:
    return _group_normalised(language, theta) - language.shape.beta * _reverse(language, theta)


def _group_normalised_less_kl(language: ListedLanguage, theta: torch.Tensor) -> torch.Tensor:
    paid = summed_log_probs(language, theta) - summed_log_probs(language, language.prior)
    return _normalised(language, theta, language.rewards - language.shape.beta * paid)


OBJECTIVE_VALUES: Mapping[str, Value] = {
    "kl": _kl,
    "reward": _expected_reward,
    "kl of prior to policy": _prior_to_policy,
    "target to policy": _target_to_policy,
    "jensen-shannon": _jensen_shannon,
    "total variation": _total_variation,
    "alpha-divergence 1/2": _alpha_from_target,
    "reward less alpha-divergence 1/2": _less_alpha_divergence(0.5),
    "reward less alpha-divergence 2": _less_alpha_divergence(2.0),
    "mode-anchored kl": _mode_anchored,
    "group-normalised": _group_normalised,
    "group-normalised kl": _group_normalised_kl,
    "group-normalised reward less kl": _group_normalised_less_kl,
}
"""By name, what is to be raised, as a function of a language and theta; of those by group only the gradient counts."""
MEANINGS_OF_OBJECTIVES: Mapping[str, str] = {
    "kl": "E[r] - beta KL(pi || prior)",
    "reward": "E[r]",
    "kl of prior to policy": "E[r] - beta KL(prior || pi)",
    "target to policy": "-KL(target || pi), target = prior exp(r / beta) / Z",
    "jensen-shannon": "-2 JS(pi, target)",
    "total variation": "-TV(pi, target)",
    "alpha-divergence 1/2": "-D_1/2(target || pi) = 4 sum sqrt(target pi) - 4",
    "reward less alpha-divergence 1/2": "E[r] - beta D_1/2(pi || prior)",
    "reward less alpha-divergence 2": "E[r] - beta D_2(pi || prior), half of chi-square",
    "mode-anchored kl": "E[r'] - beta KL(pi || prior), r' = r with mode-anchored reward augmentation (MARA)",
    "group-normalised": "the field E[A grad log pi(y)], A = (r - mean) / std of the group",
    "group-normalised kl": "the same less beta grad KL(pi || prior)",
    "group-normalised reward less kl": "the same, of r - beta log(pi / prior) in place of r",
}


def known_objective(name: str, whose: str) -> str:
    """Return the name of an objective, if there is such a one.

    Raises:
        UserError: There is none.
    """
    if name not in OBJECTIVE_VALUES:
        raise UserError(f"objective {name!r} of {whose!r} is not known", f"choose from {', '.join(OBJECTIVE_VALUES)}")
    return name


def exact_gradient(language: ListedLanguage, objective: str, theta: torch.Tensor | None = None) -> torch.Tensor:
    """Return the exact gradient of an objective at a policy, (P, V), in reward units per logit.

    Args:
        language: The language.
        objective: A name of `OBJECTIVE_VALUES`.
        theta: (P, V); by default the language's own policy.
    """
    at = (language.theta if theta is None else theta).detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(OBJECTIVE_VALUES[objective](language, at), at)
    return found
