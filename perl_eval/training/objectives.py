"""The losses and returns of training, as pure functions of tensors.

Shapes: B sequences, T tokens. Masks are True where a token counts. Everything is in nats and reward units. A batch
may be a piece of a step, shared between micro-batches and processes: ``count`` is then what the whole step's loss is
divided by, so that the pieces' losses and gradients add up to those of the step in one piece; without it the batch is
the step.
"""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

__all__ = [
    "beta_of",
    "kl_loss",
    "language_modelling_loss",
    "leave_one_out",
    "pairwise_loss",
    "pointwise_loss",
    "reinforce_loss",
    "returns_to_go",
    "token_rewards",
    "value_loss",
]


def beta_of(kl_weight: float) -> float:
    r"""Return the KL strength that PE-RLHF's mixing weight stands for: ``beta = b / (1 - b)``.

    ``(1 - b) r - b KL`` and ``r - beta KL`` have the same maximum. b = 0.05 gives beta = 1 / 19.

    Args:
        kl_weight: b in [0, 1).

    Returns:
        beta, reward units per nat.

    Raises:
        ValueError: b is outside [0, 1).

    Source:
        arXiv 2403.10704, section 3.3.
    """
    if not 0 <= kl_weight < 1:
        raise ValueError(f"kl_weight must lie in [0, 1), and is {kl_weight}")
    return kl_weight / (1 - kl_weight)


def language_modelling_loss(log_probs: torch.Tensor, live: torch.Tensor, *, count: float | None = None) -> torch.Tensor:
    """Return the mean negative log-probability per token, in nats.

    Args:
        log_probs: (B, T), of the tokens that are there.
        live: (B, T), True where the token is to be imitated.
        count: Tokens of the whole step.
    """
    return -(log_probs * live).sum() / (live.sum().clamp(min=1) if count is None else count)


def pairwise_loss(chosen: torch.Tensor, rejected: torch.Tensor, *, count: float | None = None) -> torch.Tensor:
    """Return the Bradley-Terry loss, mean of ``-log sigmoid(r_chosen - r_rejected)``.

    Args:
        chosen: (B,), rewards of the preferred answers.
        rejected: (B,), rewards of the others.
        count: Pairs of the whole step.

    Source:
        arXiv 2403.10704, section 3.2.
    """
    return -logsigmoid(chosen - rejected).sum() / (len(chosen) if count is None else count)


def pointwise_loss(rewards: torch.Tensor, labels: torch.Tensor, *, count: float | None = None) -> torch.Tensor:
    """Return the binary cross-entropy, mean of ``-(p log sigmoid(r) + (1 - p) log sigmoid(-r))``.

    Args:
        rewards: (B,), in logits.
        labels: (B,), p in [0, 1].
        count: Labels of the whole step.

    Source:
        arXiv 2403.10704, section 3.2.

    Deviations:
        The paper prints ``sigmoid(1 - r)`` in the second term, a misprint: it is not a probability of the other label.
    """
    summed = binary_cross_entropy_with_logits(rewards, labels.to(rewards.dtype), reduction="sum")
    return summed / (len(rewards) if count is None else count)


def token_rewards(scores: torch.Tensor, log_ratio: torch.Tensor, live: torch.Tensor, *, beta: float) -> torch.Tensor:
    """Return the reward of each token: ``-beta (log pi - log prior)``, plus the score at the last token.

    Args:
        scores: (B,), one reward a sequence.
        log_ratio: (B, T), log pi - log prior of the sampled tokens (the k1 estimate of the KL), no gradient.
        live: (B, T), True at sampled tokens, the end token included; at least one a row.
        beta: KL strength, reward units per nat.

    Returns:
        (B, T), zero off the live tokens. Its sum over tokens has expectation ``E[r] - beta KL(pi || prior)``.

    Source:
        arXiv 2403.10704, section 3.3; arXiv 2205.11275, equation 2.
    """
    rewards = -beta * log_ratio.detach() * live
    places = torch.arange(live.shape[1], device=live.device).expand_as(live)
    last = places.masked_fill(~live, -1).max(dim=1).values
    return rewards.scatter_add(1, last.unsqueeze(1), scores.to(rewards.dtype).unsqueeze(1))


def returns_to_go(rewards: torch.Tensor) -> torch.Tensor:
    """Return undiscounted sums of rewards from each token on, (B, T).

    With the score at the last token only, each token's return is the episode's return less the KL paid before it,
    which its action cannot change. Nothing is bootstrapped, so no value after the end is read.
    """
    return rewards.flip(1).cumsum(1).flip(1)


def leave_one_out(scores: torch.Tensor, *, group: int) -> torch.Tensor:
    """Return each score less the mean of the other scores of its prompt.

    A sample's own score does not enter what is taken off it, so the policy gradient keeps its mean. It is taken off
    before the KL is, so the KL of other samples does not enter.

    Args:
        scores: (B,), the samples of one prompt side by side.
        group: Samples a prompt, a divisor of B; 1 leaves the scores as they are.

    Returns:
        (B,).

    Source:
        arXiv 2402.14740, equation 8.
    """
    if group == 1:
        return scores
    rows = scores.view(-1, group)
    others = (rows.sum(1, keepdim=True) - rows) / (group - 1)
    return (rows - others).view(-1)


def reinforce_loss(
    log_probs: torch.Tensor, advantages: torch.Tensor, live: torch.Tensor, *, count: float | None = None
) -> torch.Tensor:
    """Return ``-sum_t log pi(a_t) stopgrad(return_t - V_t)``, summed over tokens and averaged over sequences.

    Args:
        log_probs: (B, T), with gradient.
        advantages: (B, T); no gradient flows into them.
        live: (B, T).
        count: Sequences of the whole step.

    Source:
        arXiv 2403.10704, section 3.3 (no clipping, no importance ratio).
    """
    return -(log_probs * advantages.detach() * live).sum() / (len(live) if count is None else count)


def kl_loss(
    log_probs: torch.Tensor, log_ratio: torch.Tensor, live: torch.Tensor, *, count: float | None = None
) -> torch.Tensor:
    """Return a surrogate whose gradient is an unbiased estimate of the gradient of ``KL(pi || prior)``.

    ``sum_t log pi(a_t) stopgrad(sum_{s >= t} log pi(a_s) - log prior(a_s))``, averaged over sequences. An action is
    charged with the KL paid from it on. The value of the surrogate means nothing.

    Args:
        log_probs: (B, T), with gradient.
        log_ratio: (B, T), log pi - log prior of the sampled tokens; no gradient flows into it.
        live: (B, T).
        count: Sequences of the whole step.

    Deviations:
        The plain mean of ``log_ratio`` (k1) as a loss has gradient zero in expectation, hence no anchor. Of a single
        action k2 has this gradient, and k3 that of ``KL(prior || pi)``; by the token of a sequence both leave out what
        a token does to the KL of later ones. None of them is offered, nor is k3 logged, whose ``r - 1 - log r`` has
        the KL as its mean for r = prior / pi only.
    """
    ahead = returns_to_go(log_ratio.detach() * live)
    return (log_probs * ahead * live).sum() / (len(live) if count is None else count)


def value_loss(
    values: torch.Tensor, returns: torch.Tensor, live: torch.Tensor, *, count: float | None = None
) -> torch.Tensor:
    """Return the squared error of the values, averaged over live tokens.

    Args:
        values: (B, T), V_t, which may use the prompt and the tokens before t only.
        returns: (B, T); no gradient flows into them.
        live: (B, T).
        count: Live tokens of the whole step.

    Source:
        arXiv 2403.10704, section 3.3.

    Deviations:
        Mean instead of sum over tokens: a scale that belongs to the learning rate.
    """
    squares = ((values - returns.detach()).square() * live).sum()
    return squares / (live.sum().clamp(min=1) if count is None else count)
