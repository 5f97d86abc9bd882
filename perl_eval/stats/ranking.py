"""Ranking policies from pairwise outcomes: Bradley-Terry with ties after Davidson, soft outcomes, and style covariates.

Votes are counted by pair of policies, and errors summed by cluster in sparse tables, so that a million votes over a
hundred policies take seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perl_eval import figure_names as named
from perl_eval.outcomes import EVEN
from perl_eval.records import About, Estimate
from perl_eval.stats.bootstrap import Clusters, Codes, Resampling, cluster_codes
from perl_eval.stats.intervals import undefined

__all__ = ["Comparison", "Davidson", "Styles", "Votes", "fit_davidson", "rank", "rank_votes"]

FloatArray = NDArray[np.float64]
_STEPS, _PRECISE = 100, 1e-10
_SINGULAR, _ENDLESS = 1e12, 30.0
_ALIKE = "policies and styles cannot be told apart, or a style decides every vote"
_APART = "some policies never win or tie against the rest"
_FEW = "fewer than two independent items"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One judged pair of policies on one item. ``score`` is 1, 0 or 1/2 for a: won, lost, undecided."""

    a: str
    b: str
    score: float


@dataclass(frozen=True, slots=True)
class Styles:
    """How the styles of two answers differ, vote by vote.

    Attributes:
        names: What is measured, such as length.
        gaps: That of the first less that of the second, shape (n, k).
    """

    names: tuple[str, ...]
    gaps: FloatArray


@dataclass(frozen=True, slots=True)
class Votes:
    """Judged pairs in columns.

    Attributes:
        policies: Their names.
        first: Codes of the first policies, shape (n,).
        second: Codes of the second, shape (n,).
        score: What each vote is worth for the first, in [0, 1], shape (n,).
        style: How the two answers differ in style, if that is held equal.
        soft: Whether scores are probabilities: each counts as so much of a win. Otherwise one half is a tie.
    """

    policies: Sequence[str]
    first: Codes
    second: Codes
    score: FloatArray
    style: Styles = field(default_factory=lambda: Styles((), np.zeros((0, 0))))
    soft: bool = False

    @classmethod
    def of(cls, comparisons: Sequence[Comparison]) -> Votes:
        """Return judged pairs in columns."""
        policies = sorted({name for pair in comparisons for name in (pair.a, pair.b)})
        code = {name: place for place, name in enumerate(policies)}
        first, second = (
            np.array([code[name] for name in names], np.intp)
            for names in ([pair.a for pair in comparisons], [pair.b for pair in comparisons])
        )
        return cls(policies, first, second, np.array([pair.score for pair in comparisons], np.float64))


@dataclass(frozen=True, slots=True)
class Davidson:
    """A fit: log strengths that sum to zero, by policy, and the log of the tie parameter (None without ties)."""

    strengths: dict[str, float]
    log_tie: float | None


def fit_davidson(comparisons: Sequence[Comparison]) -> Davidson | None:
    """Fit Davidson's model by maximum likelihood.

    ``P(a wins) : P(b wins) : P(tie) = s_a : s_b : nu sqrt(s_a s_b)``. Without ties it is Bradley-Terry.

    Returns:
        The fit, or None if the likelihood has no maximum: some policies never win or tie against the rest.

    Source: Davidson, JASA 65 (1970), 317-328.
    """
    votes = Votes.of(comparisons)
    fit = _fit(votes)
    if fit is None:
        return None
    by_policy = dict(zip(votes.policies, fit.strengths.tolist(), strict=True))
    return Davidson(by_policy, float(fit.log_tie) if fit.ties else None)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Votes of the same pair and style, counted.

    Attributes:
        design: Shape (m, policies + styles), sparse: 1 for the first policy, -1 for the second, and styles.
        count: Votes, shape (m,).
        points: The first policy's points, shape (m,).
        ties: Ties, shape (m,).
    """

    design: Any
    count: FloatArray
    points: FloatArray
    ties: FloatArray


@dataclass(frozen=True, slots=True)
class _Fit:
    """A maximum: parameters (log strengths that sum to zero, styles, log of the tie parameter) and the information."""

    policies: int
    parameters: FloatArray
    information: FloatArray
    ties: bool

    @property
    def strengths(self) -> FloatArray:
        return self.parameters[: self.policies]

    @property
    def log_tie(self) -> float:
        return float(self.parameters[-1])


def _rows(votes: Votes) -> _Rows:
    from scipy.sparse import csr_array

    tie = np.zeros(len(votes.score)) if votes.soft else (votes.score == EVEN).astype(np.float64)
    width, styles = len(votes.policies), votes.style.gaps.shape[1]
    if styles:
        count, points, ties = np.ones(len(votes.score)), votes.score, tie
        first, second, gaps = votes.first, votes.second, votes.style.gaps
    else:
        low, high = np.minimum(votes.first, votes.second), np.maximum(votes.first, votes.second)
        pair, place = np.unique(low * width + high, return_inverse=True)
        count = np.bincount(place).astype(np.float64)
        points = np.bincount(place, np.where(votes.first == low, votes.score, 1 - votes.score)).astype(np.float64)
        ties, gaps = np.bincount(place, tie).astype(np.float64), np.zeros((len(pair), 0))
        first, second = np.divmod(pair, width)
    m = len(count)
    data = np.hstack([np.ones((m, 1)), -np.ones((m, 1)), gaps])
    where = np.hstack([first[:, None], second[:, None], np.broadcast_to(width + np.arange(styles), (m, styles))])
    rows = np.repeat(np.arange(m), 2 + styles)
    design = csr_array((data.ravel(), (rows, where.ravel())), (m, width + styles))
    return _Rows(design, count, points, ties)


def _connected(votes: Votes) -> bool:
    """Return whether every policy reaches every other through wins and ties (Ford's condition)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = len(votes.policies)
    beats, loses = votes.score > 0, votes.score < 1
    source = np.concatenate([votes.first[beats], votes.second[loses]])
    target = np.concatenate([votes.second[beats], votes.first[loses]])
    graph = coo_array((np.ones(len(source), np.int8), (source, target)), (size, size)).tocsr()
    return bool(connected_components(graph, directed=True, connection="strong")[0] == 1)


def _moments(logit: FloatArray, log_tie: float, *, ties: bool) -> tuple[FloatArray, FloatArray]:
    """Return what the first policy's points are expected to be, and the chance of a tie."""
    half = logit / 2
    top = np.maximum(np.abs(half), log_tie if ties else -np.inf)
    win, loss = np.exp(half - top), np.exp(-half - top)
    tie = np.exp(log_tie - top) if ties else np.zeros_like(win)
    whole = win + loss + tie
    return (win + tie / 2) / whole, tie / whole


def _fit(votes: Votes) -> _Fit | None:
    """Maximise the likelihood by Newton's method; None if it has no maximum."""
    if len(votes.policies) < 2 or not _connected(votes):
        return None
    rows, policies = _rows(votes), len(votes.policies)
    ties = bool(rows.ties.sum() > 0)
    parameters = np.zeros(rows.design.shape[1] + ties)
    best, slope, information = _at(rows, parameters, policies, ties=ties)
    for _ in range(_STEPS):
        if np.linalg.cond(information) > _SINGULAR or np.abs(parameters).max() > _ENDLESS:
            return None
        step = np.linalg.solve(information, slope)
        size = 1.0
        while True:
            trial = parameters + size * step
            value, new_slope, new_information = _at(rows, trial, policies, ties=ties)
            if value >= best - abs(best) * _PRECISE or size < 1e-6:
                break
            size /= 2
        parameters, best, slope, information = trial, value, new_slope, new_information
        if np.abs(size * step).max() < _PRECISE**0.7:
            break
    parameters[:policies] -= parameters[:policies].mean()
    return _Fit(policies, parameters, information, ties)


def _at(rows: _Rows, parameters: FloatArray, policies: int, *, ties: bool) -> tuple[float, FloatArray, FloatArray]:
    """Return the log likelihood, its slope and the information, which is made regular by holding the sum at zero."""
    design, width = rows.design, rows.design.shape[1]
    logit = design @ parameters[:width]
    log_tie = float(parameters[-1]) if ties else 0.0
    points, tie = _moments(logit, log_tie, ties=ties)
    half, top = logit / 2, np.maximum(np.abs(logit / 2), log_tie if ties else -np.inf)
    whole = top + np.log(np.exp(half - top) + np.exp(-half - top) + (np.exp(log_tie - top) if ties else 0.0))
    value = float((rows.points - rows.count / 2) @ logit + log_tie * rows.ties.sum() - rows.count @ whole)
    slope = design.T @ (rows.points - rows.count * points)
    spread = rows.count * ((points - tie / 2) + tie / 4 - points**2)
    information = (design.T @ (design * spread[:, None])).toarray()
    information[:policies, :policies] += max(float(np.trace(information)), 1.0) / policies**2
    if ties:
        cross = design.T @ (rows.count * tie * (EVEN - points))
        information = np.block([[information, cross[:, None]], [cross[None], rows.count @ (tie * (1 - tie))]])
        slope = np.append(slope, float(rows.ties.sum() - rows.count @ tie))
    return value, np.asarray(slope, np.float64), np.asarray(information, np.float64)


def rank(
    comparisons: Sequence[Comparison],
    *,
    clusters: Clusters = None,
    resampling: Resampling | None = None,
) -> dict[str, Estimate]:
    """Estimate each policy's strength, with an interval from the clusters' influences.

    Args:
        comparisons: Judged pairs; all pairs of policies on one item should share a cluster.
        clusters: The item, or what shares a source; None if every comparison is its own.
        resampling: The level; nothing is drawn.

    Returns:
        ``strength`` by policy, strongest first: log odds of beating an average policy, ties aside; they sum to zero.
    """
    level = (resampling or Resampling()).level
    found = rank_votes(Votes.of(comparisons), clusters=clusters, level=level)
    return {one.about.policy: replace(one, about=About()) for one in found}


def rank_votes(votes: Votes, *, clusters: Clusters = None, level: float = 0.95) -> list[Estimate]:
    """Estimate each policy's strength, and what each style is worth, with clustered intervals.

    With style, ``logit P(a beats b) = s_a - s_b + sum_k beta_k x_k``: strengths are those of answers of equal style.
    Errors are those of the sandwich ``H^-1 (sum_c g_c g_c') H^-1 C / (C - 1)``, g_c the slope of the likelihood summed
    over cluster c; the interval is t with C - 1 degrees of freedom, C the clusters.

    Args:
        votes: Judged pairs.
        clusters: The item, or what shares a source, of each vote; None if every vote is its own.
        level: Confidence level.

    Returns:
        ``strength`` (with style, ``strength at equal style``) of each policy, strongest first: log odds of beating an
        average policy, ties aside; they sum to zero. Then ``style effect`` of each style.

    Source: Davidson, JASA 65 (1970), 317-328; covariates beside ties as in Davidson and Beaver, Biometrics 33 (1977).
    """
    name = named.STRENGTH_AT_EQUAL_STYLE if votes.style.names else named.STRENGTH
    played = np.bincount(votes.first, minlength=len(votes.policies))
    played += np.bincount(votes.second, minlength=len(votes.policies))
    fit = _fit(votes)
    model = "Bradley-Terry, probabilities" if votes.soft else "Davidson"
    if fit is None:
        why = _ALIKE if votes.style.names and _connected(votes) else _APART
        none = [(policy, int(n)) for policy, n in zip(votes.policies, played, strict=True)]
        found = [_about(undefined(name, why, n=n, method=model), policy) for policy, n in none]
        lost = undefined(named.STYLE_EFFECT, why, n=len(votes.score), method=model)
        return [*found, *(_about(lost, style, style=True) for style in votes.style.names)]
    number = len(votes.score)
    codes, groups = cluster_codes(np.arange(number) if clusters is None else clusters)
    half = _half_widths(votes, fit, codes, groups, level)
    method = f"{model}, clustered error, {groups} clusters"
    order = np.argsort(-fit.strengths, kind="stable").tolist()
    places = [(place, name, votes.policies[place], int(played[place])) for place in order]
    places += [
        (fit.policies + place, named.STYLE_EFFECT, style, number) for place, style in enumerate(votes.style.names)
    ]
    told = []
    for place, figure, what, n in places:
        value, around = float(fit.parameters[place]), None if half is None else float(half[place])
        low, high = (None, None) if around is None else (value - around, value + around)
        one = Estimate(figure, value, low, high, n, 0, method, level, reason=_FEW if half is None else None)
        told.append(_about(one, what, style=figure == named.STYLE_EFFECT))
    return told


def _about(estimate: Estimate, what: str, *, style: bool = False) -> Estimate:
    return replace(estimate, about=About(slice=what) if style else About(policy=what))


def _half_widths(votes: Votes, fit: _Fit, codes: Codes, groups: int, level: float) -> FloatArray | None:
    """Return half the width of each parameter's interval, shape (parameters,); None of fewer than two clusters."""
    if groups < 2:
        return None
    from scipy.sparse import csr_array
    from scipy.special import stdtrit

    width, styles = fit.policies, votes.style.gaps.shape[1]
    logit = fit.strengths[votes.first] - fit.strengths[votes.second]
    if styles:
        logit = logit + votes.style.gaps @ fit.parameters[width : width + styles]
    points, tie = _moments(logit, fit.log_tie if fit.ties else 0.0, ties=fit.ties)
    rest = votes.score - points
    columns = [(votes.first, rest), (votes.second, -rest)]
    columns += [(np.full(len(rest), width + place), rest * votes.style.gaps[:, place]) for place in range(styles)]
    if fit.ties:
        columns.append((np.full(len(rest), width + styles), (votes.score == EVEN) - tie))
    where = np.concatenate([place for place, _ in columns])
    slopes = csr_array(
        (np.concatenate([value for _, value in columns]), (np.tile(codes, len(columns)), where)),
        (groups, len(fit.parameters)),
    )
    inner = (slopes.T @ slopes).toarray() * groups / (groups - 1)
    inverse = np.linalg.inv(fit.information)
    spread = inverse @ inner @ inverse
    critical = float(stdtrit(groups - 1, (1 + level) / 2))
    return np.asarray(critical * np.sqrt(np.maximum(np.diag(spread), 0.0)), np.float64)
