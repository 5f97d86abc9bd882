"""Win rates at equal length, and how far a judge prefers the longer answer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perl_eval import figure_names as named
from perl_eval.outcomes import EVEN
from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import UNDEFINED_SHARE, Clusters, Codes, Resampling, cluster_codes, select, weights
from perl_eval.stats.intervals import proportion, undefined

__all__ = ["Gamed", "alpaca_win_rate", "equal_length_win_rate", "longer_preferred_rate"]

FloatArray = NDArray[np.float64]
_GAMED_WEIGHT = 0.1
"""Weight of a row of the gamed baselines: their total weight 0.2, over the two of them."""
_FOLDS = 5
_PENALTIES: tuple[float, ...] = tuple(np.logspace(-4, 4, 10).tolist())
_SEED = 123
_ROUNDS, _LONGEST, _AT_REST, _FARTHEST = 30, 3.0, 1e-8, 20.0
"""Newton's method: most rounds, longest step, step at which it stops, and coefficients that are taken for infinite."""
_ONE_SIGMA = 0.15866
"""Chance of a normal variable below minus one deviation. A few draws near an infinite fit swell a plain deviation."""
_WIDTH = 8
"""Numbers that a refit holds for each pair and draw."""


def equal_length_win_rate(
    scores: ArrayLike,
    lengths_a: ArrayLike,
    lengths_b: ArrayLike,
    *,
    clusters: Clusters = None,
    level: float = 0.95,
) -> Estimate:
    """Estimate contestant a's win rate if both answers were equally long.

    A logistic regression of the score on the log of the ratio of lengths, read at ratio 1: ``sigmoid(c)`` in
    ``logit E[s] = c + d log(length_a / length_b)``. The interval is that of c (cluster-robust, t), carried through the
    sigmoid. With a and b swapped it is one less this. It holds under this model of how the judge likes length, which
    the method names; under another it may not.

    Args:
        scores: 1 for a win, 0 for a loss, 1/2 for an undecided pair; shape (n,).
        lengths_a: Length of a's answer, in any unit; shape (n,).
        lengths_b: Length of b's answer. Pairs where either is 0 have no ratio and are counted as missing.
        clusters: What shares a source, one a pair.
        level: Confidence level.

    Source: Lee et al., arXiv 2309.00267, appendix on length-controlled win rates.
    Deviations: They regress on the ratio less 1, which is skewed: of two policies that are the same it says that each
        is worse than the other.
    """
    name, method = named.WIN_RATE_AT_EQUAL_LENGTH, "logistic regression on log length ratio, under this model"
    data, a, b = (np.asarray(part, np.float64) for part in (scores, lengths_a, lengths_b))
    live = (a > 0) & (b > 0)
    n, missing = int(live.sum()), int((~live).sum())
    offset = np.log(a[live] / b[live])
    if n < 3 or np.ptp(offset) == 0:
        return undefined(name, "the length ratio does not vary", n=n, n_missing=missing, method=method)
    names = np.arange(len(data)) if clusters is None else np.unique([str(c) for c in clusters], return_inverse=True)[1]
    groups = names[live]
    number = len(np.unique(groups))
    if number < 2:
        return undefined(name, "one group only", n=n, n_missing=missing, method=method)
    fit = _logistic(data[live], offset, groups)
    if fit is None:
        return undefined(name, "the regression has no finite solution", n=n, n_missing=missing, method=method)
    from scipy.special import expit, stdtrit

    half = float(stdtrit(number - 1, (1 + level) / 2)) * fit[1]
    low, value, high = (float(expit(fit[0] + shift)) for shift in (-half, 0.0, half))
    return Estimate(name, value, low, high, n=n, n_missing=missing, method=f"{method}, {number} clusters", level=level)


def _logistic(scores: FloatArray, offset: FloatArray, groups: NDArray[np.intp]) -> tuple[float, float] | None:
    """Return the intercept of a logistic regression and its cluster-robust error, or None if the fit runs away."""
    import statsmodels.api as sm
    from statsmodels.tools.sm_exceptions import ConvergenceWarning, PerfectSeparationWarning

    design = np.column_stack([np.ones_like(offset), offset])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("error", PerfectSeparationWarning)
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model = sm.GLM(scores, design, family=sm.families.Binomial())
            fit = model.fit(cov_type="cluster", cov_kwds={"groups": groups}, maxiter=50)
        except (PerfectSeparationWarning, ConvergenceWarning, np.linalg.LinAlgError):
            return None
    intercept, error = float(fit.params[0]), float(fit.bse[0])
    return (intercept, error) if abs(intercept) < 20 and np.isfinite(error) else None


@dataclass(frozen=True, slots=True)
class Gamed:
    """Rows of gamed baselines that hold AlpacaEval's fit near the baseline where a model differs in length only.

    Attributes:
        preferences: Probability that the gamed answer is preferred to the baseline's, in [0, 1].
        length_gaps: Standardised length differences, as `alpaca_win_rate` makes them.
        difficulties: Instruction difficulties.
    """

    preferences: Sequence[float]
    length_gaps: Sequence[float]
    difficulties: Sequence[float]


@dataclass(frozen=True, slots=True)
class _Design:
    """Rows of a weighted fit of soft preferences; all arrays over rows."""

    features: FloatArray
    preferences: FloatArray
    weights: FloatArray


def alpaca_win_rate(
    preferences: Sequence[float | None] | FloatArray,
    length_gaps: ArrayLike,
    *,
    difficulties: ArrayLike | None = None,
    gamed: Gamed | None = None,
    clusters: Clusters = None,
    resampling: Resampling | None = None,
) -> Estimate:
    """Estimate AlpacaEval 2's length-controlled win rate, with an interval that refits on every draw.

    ``logit P(a over b | x) = theta + phi tanh(gap / sd(gap)) + psi difficulty_x``, fitted with an L1 penalty chosen by
    grouped five-fold cross-validation, soft preferences as two weighted rows, and the length term set to 0 for the
    figure: ``mean_x sigmoid(theta + psi difficulty_x)``. The tool itself prints the standard error of the fitted
    probabilities, which leaves out that theta and psi are estimated; here items are resampled and the model is
    refitted.

    Args:
        preferences: Probability that a is preferred, in [0, 1]; shape (n,). Pairs without one (None) are not fitted,
            but the figure is read on them too, as the tool does.
        length_gaps: Characters of b's answer less those of a's; shape (n,).
        difficulties: Difficulty of each instruction, where known; shape (n,).
        gamed: Gamed baselines; need difficulties.
        clusters: What shares a source, one a pair; they are resampled whole.
        resampling: Draws, seed and level; the interval is t on the logit scale, with half the width of the draws'
            central 68 % as the error.

    Source: Dubois et al., arXiv 2404.04475.
    Deviations: The interval is of the fit without the penalty, and is stretched to hold the figure. A strong penalty
        sets theta to 0 whatever the draw, and where it is chosen the figure is 0.5 and seems to have no error. Draws
        keep the gamed rows as they are.
    """
    name, how = named.WIN_RATE_ALPACAEVAL_LENGTH_CONTROL, resampling or Resampling(draws=200)
    if gamed is not None and difficulties is None:
        raise ValueError("gamed baselines need difficulties")
    hard = None if difficulties is None else np.asarray(difficulties, np.float64)
    known = np.array([value is not None for value in preferences], bool)
    filled = np.array([0.0 if value is None else value for value in preferences], np.float64)
    pairs = _Pairs(filled, known, np.asarray(length_gaps, np.float64), hard)
    n, method = int(known.sum()), f"penalised logistic regression; interval refitted on {how.draws} bootstrap draws"
    missing = len(known) - n
    if n < _FOLDS or np.ptp(pairs.gaps) == 0:
        reason = "the lengths do not differ in enough pairs"
        return undefined(name, reason, n=n, n_missing=missing, method=method)
    design = _design(pairs, gamed)
    value = _controlled(_fit(design, _choose_penalty(design)), hard)
    codes, number = cluster_codes(np.arange(len(known)) if clusters is None else clusters)
    drawn = _refitted(pairs, gamed, codes, how)
    middle = _refitted(pairs, gamed, codes, None)
    if len(drawn) < (1 - UNDEFINED_SHARE) * how.draws or len(drawn) < 2 or number < 2 or not len(middle):
        reason = f"no finite solution in {how.draws - len(drawn)} of {how.draws} bootstrap draws, or one group only"
        return Estimate(name, value, None, None, n, missing, method, how.level, reason=reason)
    from scipy.special import expit, logit, stdtrit

    left, right = np.quantile(logit(drawn), [_ONE_SIGMA, 1 - _ONE_SIGMA])
    error = float(np.sqrt(number / (number - 1)) * (right - left) / 2)
    half = float(stdtrit(number - 1, (1 + how.level) / 2)) * error
    low, high = (float(expit(logit(middle[0]) + part)) for part in (-half, half))
    return Estimate(name, value, min(low, value), max(high, value), n, missing, method, how.level)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Judged pairs: preference (0 where not known), whether it is known, length gap and difficulty; shape (n,) each."""

    preferences: FloatArray
    known: NDArray[np.bool_]
    gaps: FloatArray
    hard: FloatArray | None


def _refitted(pairs: _Pairs, gamed: Gamed | None, codes: Codes, how: Resampling | None) -> FloatArray:
    """Return the figure without the penalty, on each bootstrap draw where it is finite, or on the data without draws.

    Args:
        pairs: All pairs.
        gamed: Gamed baselines; they are the same in every draw.
        codes: Cluster of each pair.
        how: Draws and seed; None for one fit to the data as they are.
    """
    from scipy.special import expit

    counts = np.ones(int(codes.max()) + 1, np.int64)
    start, _ = _newton(*_weighted(pairs, gamed, np.ones((1, len(codes)))))
    blocks = [np.ones((1, len(counts)))] if how is None else weights(counts, how, width=_WIDTH * len(codes))
    found = []
    for taken in blocks:
        times = taken[:, codes]
        coefficients, finite = _newton(*_weighted(pairs, gamed, times), start=start)
        if pairs.hard is None:
            shares = expit(coefficients[:, -1])
        else:
            shares = expit(coefficients[:, -1:] + coefficients[:, 1:2] * pairs.hard)
            shares = (shares * times).sum(axis=1) / times.sum(axis=1)
        found.append(shares[finite])
    return np.concatenate(found)


def _weighted(pairs: _Pairs, gamed: Gamed | None, times: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return what is fitted where each pair is taken so many times, ``times`` of shape (draws, n); see `_design`.

    Returns:
        Features, shape (draws, rows, coefficients), preferences, shape (rows,), and weights, shape (draws, rows).
    """
    total, gaps = times.sum(axis=1, keepdims=True), pairs.gaps
    middle = (times * gaps).sum(axis=1, keepdims=True) / total
    spread = np.sqrt((times * (gaps - middle) ** 2).sum(axis=1, keepdims=True) / (total - 1))
    shape = np.tanh(gaps / np.where(spread > 0, spread, np.inf))
    hard = [] if pairs.hard is None else [np.broadcast_to(pairs.hard, shape.shape)]
    features = np.stack([shape, *hard, np.ones_like(shape)], axis=2)
    if gamed is None:
        return features, pairs.preferences, times * pairs.known
    extra = np.column_stack([np.tanh(gamed.length_gaps), gamed.difficulties, np.zeros(len(gamed.preferences))])
    fixed = np.broadcast_to(extra, (len(times), *extra.shape))
    weight = np.full((len(times), len(extra)), _GAMED_WEIGHT)
    return (
        np.concatenate([features, fixed], axis=1),
        np.concatenate([pairs.preferences, gamed.preferences]),
        np.concatenate([times * pairs.known, weight], axis=1),
    )


def _newton(
    features: FloatArray, preferences: FloatArray, weight: FloatArray, *, start: FloatArray | None = None
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Fit many logistic regressions at once by Newton's method; shapes as `_weighted` returns them.

    Args:
        features: Of each row.
        preferences: Probability to fit, in [0, 1].
        weight: Of each row.
        start: Coefficients to begin at, shape (1, coefficients); zero by default.

    Returns:
        Coefficients, shape (draws, coefficients), and whether each fit has come to rest at finite ones.
    """
    from scipy.special import expit

    draws, _, size = features.shape
    found = np.zeros((draws, size)) if start is None else np.repeat(start, draws, axis=0)
    turned, ridge = features.swapaxes(1, 2), 1e-9 * np.eye(size)
    step = np.full_like(found, np.inf)
    for _ in range(_ROUNDS):
        chances = expit((features @ found[:, :, None])[:, :, 0])
        slope = turned @ (weight * (preferences - chances))[:, :, None]
        curve = turned @ ((weight * chances * (1 - chances))[:, :, None] * features)
        step = np.clip(np.linalg.solve(curve + ridge, slope)[:, :, 0], -_LONGEST, _LONGEST)
        found = found + step
        if np.abs(step).max() < _AT_REST:
            break
    return found, (np.abs(step).max(axis=1) < 1e3 * _AT_REST) & (np.abs(found).max(axis=1) < _FARTHEST)


def _design(pairs: _Pairs, gamed: Gamed | None) -> _Design:
    """Return the rows to fit: the model's own, then the gamed baselines', without their term for the model."""
    known, data = pairs.known, pairs.preferences[pairs.known]
    shape = np.tanh(pairs.gaps / pairs.gaps.std(ddof=1))[known]
    own = np.column_stack([shape, *([] if pairs.hard is None else [pairs.hard[known]]), np.ones_like(data)])
    if gamed is None:
        return _Design(own, data, np.ones_like(data))
    extra = np.column_stack([np.tanh(gamed.length_gaps), gamed.difficulties, np.zeros(len(gamed.preferences))])
    weights = np.concatenate([np.ones_like(data), np.full(len(extra), _GAMED_WEIGHT)])
    # The tool puts the gamed rows first; the folds of its cross-validation depend on it.
    order = np.r_[len(data) : len(weights), 0 : len(data)]
    return _Design(
        np.concatenate([own, extra])[order], np.concatenate([data, gamed.preferences])[order], weights[order]
    )


def _fit(design: _Design, penalty: float) -> FloatArray:
    """Return the coefficients of a weighted L1 logistic regression on soft preferences.

    As in the tool, a fit that has not converged after 100 rounds counts; it hardly moves then.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=penalty, l1_ratio=1.0, solver="liblinear", fit_intercept=False, random_state=_SEED)
    features = np.concatenate([design.features, design.features])
    labels = np.repeat([1, 0], len(design.preferences))
    weights = np.concatenate([design.preferences * design.weights, (1 - design.preferences) * design.weights])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, labels, sample_weight=weights)
    return np.asarray(model.coef_[0], np.float64)


def _choose_penalty(design: _Design) -> float:
    """Return the penalty with the best weighted log-likelihood in grouped cross-validation; a row is a group."""
    from scipy.special import expit
    from sklearn.model_selection import GroupKFold

    rows = np.arange(len(design.preferences))
    folds = list(GroupKFold(_FOLDS).split(rows, groups=rows))
    scores = []
    for penalty in _PENALTIES:
        score = 0.0
        for train, test in folds:
            part = _Design(design.features[train], design.preferences[train], design.weights[train])
            chance = np.clip(expit(design.features[test] @ _fit(part, penalty)), 1e-15, 1 - 1e-15)
            truth = design.preferences[test]
            gain = truth * np.log(chance) + (1 - truth) * np.log(1 - chance)
            score += float((gain * design.weights[test]).mean())
        scores.append(score)
    return _PENALTIES[int(np.argmax(scores))]


def _controlled(coefficients: FloatArray, hard: FloatArray | None) -> float:
    """Return the mean preference with the length term set to zero."""
    from scipy.special import expit

    shift = np.zeros(1) if hard is None else coefficients[1] * hard
    return float(np.mean(expit(coefficients[-1] + shift)))


def longer_preferred_rate(
    scores: ArrayLike,
    lengths_a: ArrayLike,
    lengths_b: ArrayLike,
    *,
    clusters: Clusters = None,
    level: float = 0.95,
) -> Estimate:
    """Estimate how often the longer answer wins, among decided pairs of different length.

    One half is no preference, unless longer answers are better; compare with the same figure of people.

    Args:
        scores: Above 1/2 where a won, below where it lost, 1/2 for an undecided pair; shape (n,).
        lengths_a: Length of a's answer; shape (n,).
        lengths_b: Length of b's answer; shape (n,).
        clusters: What shares a source, one a pair.
        level: Confidence level.
    """
    data, a, b = (np.asarray(part, np.float64) for part in (scores, lengths_a, lengths_b))
    live = (data != EVEN) & (a != b)
    if not live.any():
        why = "no decided pair differs in length" if (a + b).any() else "the texts of the answers are not known"
        return undefined(named.LONGER_PREFERRED_RATE, why, n_missing=len(data))
    hits = (data[live] > EVEN) == (a[live] > b[live])
    missing = len(data) - int(live.sum())
    return proportion(
        named.LONGER_PREFERRED_RATE, hits, clusters=select(clusters, live), n_missing=missing, level=level
    )
