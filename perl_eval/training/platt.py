"""Held-out quality of a reward model: how well it tells good from bad, and whether its probabilities come true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from perl_eval import figure_names as named
from perl_eval.metrics.reward_quality import label_figures, pair_figures
from perl_eval.models.reward_model import RewardScorer
from perl_eval.models.tokenize import Encoded
from perl_eval.records import About, Estimate, Score
from perl_eval.sources.rows import Row
from perl_eval.stats import classification, intervals

__all__ = ["held_out_quality", "platt"]

_STEEPEST = 100.0
"""Where rows are told apart without a miss, the likeliest slope is infinite."""


def platt(scorer: RewardScorer, checks: Sequence[tuple[Sequence[Encoded], float]], kind: str) -> tuple[float, float]:
    """Return slope and intercept of the logistic curve that fits held-out rows best; (1, 0) without any.

    Args:
        scorer: The reward model.
        checks: Of each row its sequences (one, or chosen and rejected) and its label.
        kind: ``pointwise`` or ``pairwise``; pairs get no intercept.

    Source: Platt (1999), section 2, with the targets as they are.
    """
    if not checks:
        return 1.0, 0.0
    logits = np.array(scorer.logits([one for sequences, _ in checks for one in sequences]))
    if kind == "pairwise":
        margins, signs = logits[::2] - logits[1::2], np.ones(len(checks))
    else:
        margins, signs = logits, np.array([1.0 if label > 0.5 else -1.0 for _, label in checks])

    def miss(line: np.ndarray) -> float:
        intercept = 0.0 if kind == "pairwise" else line[1]
        return -float(np.mean(log_expit(signs * (line[0] * margins + intercept))))

    bounds = [(1 / _STEEPEST, _STEEPEST), (-_STEEPEST, _STEEPEST)]
    found = minimize(miss, np.array([1.0, 0.0]), method="L-BFGS-B", bounds=bounds)
    return float(found.x[0]), 0.0 if kind == "pairwise" else float(found.x[1])


def held_out_quality(
    split: Mapping[str, Sequence[Row]], scores: Sequence[Score], kind: str, line: tuple[float, float] = (1.0, 0.0)
) -> list[Estimate]:
    """Estimate quality on the ``validation`` and ``test`` rows, and calibration on ``test`` before and after.

    Args:
        split: Rows by split.
        scores: Raw rewards of the held-out rows, see `perl_eval.training.reward.run`.
        kind: ``pointwise`` or ``pairwise``.
        line: Slope and intercept that were fitted on ``validation``.

    Returns:
        Estimates about each split, and about the slice ``calibrated`` of ``test``.
    """
    value = {(score.item, score.metric): float(score.value or 0.0) for score in scores}
    result: list[Estimate] = []
    for name in ("validation", "test"):
        rows = split.get(name, [])
        if not rows:
            continue
        groups = [row.group for row in rows]
        if kind == "pairwise":
            margins = np.array([value[row.id, "reward chosen"] - value[row.id, "reward rejected"] for row in rows])
            found = pair_figures(margins, clusters=groups)
            calibrated = [
                one for one in pair_figures(line[0] * margins, clusters=groups) if one.name == named.BRIER_SCORE
            ]
        else:
            logits = np.array([value[row.id, "reward"] for row in rows])
            labels = [bool(row.label) for row in rows]
            prompts = [row.prompt for row in rows]
            found = label_figures(logits, labels, clusters=groups, contexts=prompts)
            moved = expit(line[0] * logits + line[1])
            calibrated = [
                classification.calibration_error(moved, labels, clusters=groups),
                intervals.mean(named.BRIER_SCORE, (moved - np.array(labels)) ** 2, clusters=groups, bounds=(0.0, 1.0)),
            ]
        result += intervals.about(found, About(split=name))
        if name == "test" and line != (1.0, 0.0):
            result += intervals.about(calibrated, About(split="test", slice="calibrated"))
    return result
