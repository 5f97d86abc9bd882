"""What a step of training a policy descends on, by objective."""

from __future__ import annotations

import functools

from perl_eval import figure_names as named
from perl_eval.training.clipped_policy_gradient import (
    averaged_over_tokens,
    clipped_loss,
    importance_ratios,
    is_clipped,
    k3_penalty,
)
from perl_eval.training.objectives import kl_loss, reinforce_loss, returns_to_go, token_rewards, value_loss
from perl_eval.training.policy_options import PolicyOptions
from perl_eval.training.policy_step import (
    Losses,
    Piece,
)

__all__ = ["grpo", "reinforce"]


def reinforce(piece: Piece, options: PolicyOptions) -> Losses:
    """Return the losses of REINFORCE with a value baseline and KL to the prior.

    Advantages are not whitened, nor log-ratios clamped: beta would depend on the batch, and the KL be biased.

    Source: arXiv 2403.10704, section 3.3.
    """
    in_reward = options.kl == "reward"
    beta = options.kl_strength if options.objective == "kl_rl" else 0.0
    rewarded = token_rewards(piece.scores, piece.log_ratio, piece.live, beta=beta if in_reward else 0.0)
    returns = returns_to_go(rewarded)
    advantages = returns - piece.values
    if piece.weights is not None:
        advantages = advantages * piece.weights
    policy = {named.POLICY_LOSS: reinforce_loss(piece.log_probs, advantages, piece.live, count=piece.sequences)}
    if not in_reward:
        policy[named.KL_LOSS] = beta * kl_loss(piece.log_probs, piece.log_ratio, piece.live, count=piece.sequences)
    return Losses(policy, value_loss(piece.values, returns, piece.live, count=piece.tokens), returns)


def grpo(piece: Piece, options: PolicyOptions) -> Losses:
    """Return the losses of GRPO and its kin; the scores of the piece are advantages.

    Source: see `perl_eval.training.clipped_policy_gradient`.
    """
    how, live = options.clipping, piece.live
    old = piece.log_probs.detach() if piece.old is None else piece.old
    ratios = importance_ratios(piece.log_probs, old, live, how.ratio)
    each = clipped_loss(piece.log_probs, ratios, piece.scores, live, how)
    if piece.weights is not None:
        each = each * piece.weights
    average = functools.partial(
        averaged_over_tokens,
        live=live,
        form=how.form,
        sequences=piece.sequences,
        tokens=piece.tokens,
        longest=options.max_new_tokens,
    )
    policy = {named.POLICY_LOSS: average(each)}
    if options.kl == "k3" and piece.prior is not None:
        policy[named.KL_LOSS] = options.kl_strength * average(k3_penalty(piece.log_probs, piece.prior, live))
    clipped = is_clipped(ratios.detach(), piece.scores, how).expand_as(live) & live
    return Losses(policy, clipped=float(clipped.sum()))
