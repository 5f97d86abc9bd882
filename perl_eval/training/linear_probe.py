"""A head set by logistic regression on the states of the model as it is, before anything is trained.

A fresh head first pulls the states that it reads towards its random direction, which costs steps that few rows do not
give, and features of the pretrained model. Source: Kumar et al. (2022), arXiv 2202.10054, linear probing first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logit

from perl_eval.errors import UserError

__all__ = ["MOST", "Probe", "fit_probe"]

MOST = 10_000
"""The most rows that a probe is fitted on."""
_STRENGTHS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""Inverse strengths of the penalty on the weights of standardised states, the strongest first."""
_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Probe:
    """A linear read-out, ``state @ weights + bias``, in logits; ``weights`` (width,)."""

    weights: np.ndarray
    bias: float


def fit_probe(states: np.ndarray, labels: Sequence[float], groups: Sequence[str], *, pairs: bool, seed: int) -> Probe:
    """Fit a read-out by logistic regression on standardised states, its penalty chosen by grouped cross-validation.

    Rows weigh so that both labels count the same; slope and intercept are then set on the out-of-fold logits of the
    rows as they are, so that the read-out starts with probabilities that are neither too sure nor off the base rate.
    Where no penalty tells held-out rows apart the weights are 0.

    Args:
        states: What the head reads, (rows, width); of pairs that of the chosen answer less that of the rejected.
        labels: Above 0.5 for good, (rows,); those of pairs are not looked at.
        groups: Rows of one group stay in one fold, (rows,).
        pairs: Whether rows are pairs, which have no intercept: which comes first means nothing.
        seed: Seeds the folds.

    Raises:
        UserError: Too few groups, or rows of one label only, in some fold.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedGroupKFold

    good = np.ones(len(states), dtype=bool) if pairs else np.asarray(labels) > 0.5
    names = np.asarray(groups)
    if pairs:  # either way round
        states, good, names = (
            np.concatenate([states, -states]),
            np.repeat([True, False], len(states)),
            np.tile(names, 2),
        )
    folds = min(_FOLDS, *(len(set(names[good == label])) for label in (True, False)))
    if folds < 2:
        raise UserError("too few groups of rows to fit a probe", "give two groups of either label, or leave it out")
    mean = np.zeros(states.shape[1]) if pairs else states.mean(0)
    scale = np.sqrt(((states - mean) ** 2).mean(0)) + 1e-6
    inputs = (states - mean) / scale
    splits = list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(inputs, good, names))
    if any(len(set(good[learn])) < 2 for learn, _ in splits):
        raise UserError("the rows of one label are in too few groups to fit a probe", "give more, or leave it out")

    def regression(strength: float) -> LogisticRegression:
        return LogisticRegression(C=strength, class_weight="balanced", fit_intercept=not pairs, max_iter=5_000)

    base = float(good.mean())
    best, least = (_STRENGTHS[0], 0.0, float(logit(base))), log_loss(good, np.full(len(good), base))
    for strength in _STRENGTHS:
        logits = np.empty(len(inputs))
        for learn, held_out in splits:
            logits[held_out] = regression(strength).fit(inputs[learn], good[learn]).decision_function(inputs[held_out])
        line = LogisticRegression(C=np.inf, fit_intercept=not pairs, max_iter=5_000).fit(logits[:, None], good)
        loss = log_loss(good, line.predict_proba(logits[:, None])[:, 1])
        slope, intercept = float(line.coef_[0, 0]), 0.0 if pairs else float(line.intercept_[0])
        if loss < least and slope > 0:  # below 0 it is the folds that differ, not their rows
            best, least = (strength, slope, intercept), loss
    strength, slope, intercept = best
    found = regression(strength).fit(inputs, good)
    weights = slope * found.coef_[0] / scale
    offset = 0.0 if pairs else slope * float(found.intercept_[0]) + intercept
    return Probe(weights, offset - float(weights @ mean))
