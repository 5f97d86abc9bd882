"""Losses that train a policy on labels directly, without a reward model: DPO and its kin on pairs, KTO on ratings.

All read log-ratios, ``log pi(y | x) - log prior(y | x)``, summed over the tokens of an answer. ``beta`` times it is
the implicit reward: that under which the policy is the target ``prior exp(reward / beta) / Z(x)``. Shapes: B rows.
``count`` is what the loss of a whole step is divided by, where the batch is a piece of it.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch.nn.functional import logsigmoid

__all__ = ["PAIR_LOSSES", "PairLoss", "direct_pair_loss", "kto_loss"]

PairLoss = Literal["sigmoid", "robust", "hinge", "ipo"]
PAIR_LOSSES: tuple[PairLoss, ...] = get_args(PairLoss)


def direct_pair_loss(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    *,
    beta: float,
    loss: PairLoss = "sigmoid",
    smoothing: float = 0.0,
    count: float | None = None,
) -> torch.Tensor:
    r"""Return the loss of pairs by the log-ratios of their answers, ``h = chosen - rejected``.

    =========== ==============================================================================
    ``sigmoid`` ``-log sigmoid(beta h)``: DPO, a Bradley-Terry model of implicit rewards
    ``robust``  ``((1 - e) l(h) - e l(-h)) / (1 - 2 e)``: its mean over labels of which a share e is flipped is DPO's
    ``hinge``   ``max(0, 1 - beta h)``: SLiC
    ``ipo``     ``(h - 1 / (2 beta))^2``, of log-ratios a token
    =========== ==============================================================================

    Args:
        chosen: (B,), log-ratios of the preferred answers, with gradient; of ``ipo`` over the answer's tokens.
        rejected: (B,), of the others.
        beta: KL strength, reward units per nat.
        loss: Which of them.
        smoothing: e, the share of flipped labels, in [0, 0.5); of ``robust``.
        count: Pairs of the whole step.

    Source:
        arXiv 2305.18290, equation 7 (DPO); 2403.00409, equation 3 (robust); 2305.10425 (hinge); 2310.12036, equation 17
        (IPO).

    Deviations:
        IPO's log-ratios are means over an answer's tokens, as TRL has them by agreement with the authors; the paper's
        are sums.
    """
    if loss == "ipo":
        each = (chosen - rejected - 1 / (2 * beta)).square()
    else:
        scaled = beta * (chosen - rejected)
        if loss == "hinge":
            each = torch.relu(1 - scaled)
        elif loss == "robust":
            each = (smoothing * logsigmoid(-scaled) - (1 - smoothing) * logsigmoid(scaled)) / (1 - 2 * smoothing)
        else:
            each = -logsigmoid(scaled)
    return each.sum() / (len(chosen) if count is None else count)


def kto_loss(
    ratios: torch.Tensor,
    labels: torch.Tensor,
    reference: torch.Tensor | float,
    *,
    beta: float,
    weights: tuple[float, float] = (1.0, 1.0),
    count: float | None = None,
) -> torch.Tensor:
    """Return the loss of rated answers: ``w (1 - sigmoid(+-beta (ratio - z)))``, + for the liked ones.

    Args:
        ratios: (B,), log-ratios of the answers, with gradient.
        labels: (B,), True where an answer is liked.
        reference: z, 0 or more: an estimate of KL(policy || prior) without gradient, the mean log-ratio of answers to
            other prompts than their own.
        beta: KL strength, reward units per nat.
        weights: Of liked and of disliked answers.
        count: Rows of the whole step.

    Source:
        arXiv 2402.01306, equations 7 and 8.
    """
    signs = torch.where(labels, 1.0, -1.0).to(ratios)
    shares = torch.where(labels, weights[0], weights[1]).to(ratios)
    each = shares * (1 - torch.sigmoid(signs * beta * (ratios - reference)))
    return each.sum() / (len(ratios) if count is None else count)
